"""Every path that runs a model, on a GPU beside the CPU of the same machine; write `benchmarks/gpu/results.csv`.

Rule: both sides run in float32 on the same tokens. Time is by the clock, since a GPU spends no processor time; both sides
end with arrays in memory, so that nothing is left waiting on the GPU.

Usage: python -m benchmarks.gpu [SUITE ...]
"""

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tracing_utils.checkpoints import activations, models, suites
from tracing_utils.experiments.behaviour import reading
from tracing_utils.experiments.components import heads, weights
from tracing_utils.statements import concepts

from .measure import Row, Timed, apart, paired, row, table, write

OUT = Path(__file__).parent / "gpu" / "results.csv"
SUITES = ("pocket", "smollm2-135m-instruct-wheel")
PATHS: dict[str, Callable] = {
    "activations": activations.extract,
    "heads": lambda model, ids: heads.read(model, ids)[0],
    "likelihoods": lambda model, ids: reading.read(model, ids).nats,
    "importance of weights": lambda model, ids: np.concatenate(
        [each.ravel() for each in weights.importance(model, weights.slabs(model, 64), ids[:50])]
    ),
}
"""What is timed: each takes a model with its head and the tokens of statements, and returns an array."""


def goal(suite: str, device: str = "cuda", pairs: int = 2, statements: int = 400) -> list[Row]:
    """Return a row for each of `PATHS`: `device` against the CPU, after one run on each that warms both up."""
    checkpoint = suites.load(suite).checkpoints[-1]
    tokenizer = models.load_tokenizer(checkpoint)
    sides = {name: models.load_model(checkpoint, head=True).float().to(name) for name in dict.fromkeys((device, "cpu"))}
    chosen = concepts.capped(concepts.load("pocket", "reliability"), statements)
    ids = activations.encode(sides["cpu"], tokenizer, chosen.statements)

    def timed(path: Callable, name: str) -> Timed:
        begun = time.monotonic()
        result = np.asarray(path(sides[name], ids))
        return Timed(time.monotonic() - begun, result)

    rows = []
    for what, path in PATHS.items():
        for name in sides:
            timed(path, name)
        done = paired(lambda _, path=path: timed(path, device), lambda _, path=path: timed(path, "cpu"), pairs)
        note = f"{len(ids)} statements, by the clock; agreement: median difference over median size"
        rows.append(row(0, f"{what}, {suite}", "CPU", done, apart, target=math.nan, tolerance=1e-3, note=note))
    return rows


def main(asked: list[str]) -> None:
    """Time the suites asked for, and write the rows."""
    if not torch.cuda.is_available():
        raise SystemExit("This benchmark needs a CUDA GPU, and torch sees none here. `python -m benchmarks` needs none.")
    rows = [row for suite in asked or SUITES for row in goal(suite)]
    print(torch.cuda.get_device_name(), table(write(rows, OUT)), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
