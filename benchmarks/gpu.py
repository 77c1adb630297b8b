"""Every path of the package that runs a model, on a GPU beside the CPU of the same machine; write `benchmarks/gpu/results.csv`.

Rule: both sides run in float32 on the same tokens, unless the row says otherwise. Time is by the clock, since a GPU spends no
processor time; both sides end with arrays in memory, so that nothing is left waiting on the GPU. A row is written as soon as
it is measured, so a machine that is taken away leaves those before.

Usage: python -m benchmarks.gpu [SUITE ...]
"""

import copy
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from tracing_utils.checkpoints import activations, models, suites
from tracing_utils.core import evaluation
from tracing_utils.experiments.behaviour import reading
from tracing_utils.experiments.components import heads, weights
from tracing_utils.experiments.origins import memory
from tracing_utils.experiments.steering import behaviour, intervention, likelihoods
from tracing_utils.run import gpus, plan
from tracing_utils.statements import concepts
from tracing_utils.statements.concepts import ConceptSet

from .measure import Row, Timed, apart, paired, row, table, write

OUT = Path(__file__).parent / "gpu" / "results.csv"
SUITES = ("pocket", "smollm2-135m-instruct-wheel")
_LARGE = 10**9  # parameters of a model for which the dtype is tried out
_FEW = 50  # statements where every one of them is run many times


@dataclass(frozen=True)
class Side:
    """What a path is given: a model on one device, the same in the dtype of large models, and statements with their tokens."""

    model: PreTrainedModel
    large: PreTrainedModel
    judge: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    chosen: ConceptSet
    ids: list[list[int]]


def _sweep(side: Side) -> np.ndarray:
    pairs = likelihoods.held_out_pairs(side.chosen, np.arange(len(side.chosen)))[:_FEW]
    layers = [0, len(models.blocks(side.model)) // 2]
    vectors = np.random.default_rng(0).standard_normal((len(layers), side.model.config.hidden_size)).astype(np.float32)
    sweep = intervention.Sweep(side.model, side.tokenizer, side.chosen, pairs, layers, side.chosen.statements[:_FEW])
    response = intervention.dose_response(sweep, layers, vectors, (-2.0, 2.0), sweep.unsteered())
    return np.concatenate([response.before, response.after.ravel(), response.losses.ravel()])


def _steered(side: Side) -> np.ndarray:
    vector = np.random.default_rng(0).standard_normal(side.model.config.hidden_size)
    with intervention.steer(side.model, vector, layer=1, multiplier=0.1, positions="response"):
        return np.array(behaviour.generate(side.model, side.tokenizer, side.chosen.statements[:_FEW], 16, chat=False))


def _pushed(side: Side) -> np.ndarray:
    width = models.oriented(models.attention_maps(side.model)[0][0]).shape[1] // models.attention_maps(side.model)[1]
    with heads.push(side.model, {0: np.ones(width, np.float32), 3: -np.ones(width, np.float32)}):
        return reading.one_pass(side.model, side.ids).nats


def _zeroed(side: Side) -> np.ndarray:
    slabs = weights.slabs(side.model, 64)
    marks = [weights.largest(slab.weights.float().cpu().numpy(), 0.01) for slab in slabs]
    with weights.zeroed(slabs, marks):
        return likelihoods.encoded_log_likelihoods(side.model, side.ids, [1] * len(side.ids))


def _importance(side: Side) -> np.ndarray:
    slabs = weights.importance(side.model, weights.slabs(side.model, 64), side.ids[:_FEW])
    return np.concatenate([each.ravel() for each in slabs])


def _judged(side: Side) -> np.ndarray:
    unknown = evaluation.Estimate(math.nan, math.nan, math.nan, 0)
    return behaviour.ToxicityModel(side.judge, side.tokenizer, unknown).civility(side.chosen.statements)


PATHS: dict[str, Callable[[Side], np.ndarray]] = {
    "activations": lambda side: activations.extract(side.model, side.ids),
    "activations in the dtype of large models": lambda side: activations.extract(side.large, side.ids),
    "heads": lambda side: heads.outputs(side.model, side.ids)[0],
    "pushed heads": _pushed,
    "likelihoods": lambda side: reading.one_pass(side.model, side.ids).nats,
    "one step later": lambda side: reading.one_step_later(side.model, side.ids, reading.one_pass(side.model, side.ids)),
    "memory of last words": lambda side: memory.recalled(side.model, side.tokenizer, side.chosen)["loss"],
    "importance of weights": _importance,
    "zeroed weights": _zeroed,
    "steering sweep": _sweep,
    "steered text": _steered,
    "a judge": _judged,
}
"""What is timed. Probes and information are not here: they run on the CPU alone."""

_TOLERANCE = {"activations in the dtype of large models": 0.05, "steered text": 0.05}


def _differ(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the share of texts that differ, or the median difference of numbers over their median size."""
    return float((ours != theirs).mean()) if ours.dtype.kind == "U" else apart(ours, theirs)


def sides(suite: str, devices: tuple[str, ...], statements: int) -> dict[str, Side]:
    """Return what paths are given on each device, the weights equal."""
    checkpoint = suites.load(suite).checkpoints[-1]
    tokenizer = models.load_tokenizer(checkpoint)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = models.load_model(checkpoint, head=True).float().to("cpu")
    concept_set = concepts.capped(concepts.load("pocket", "reliability"), statements)
    ids = activations.encode(model, tokenizer, concept_set.statements)
    torch.manual_seed(0)
    config = copy.deepcopy(model.config)
    config.num_labels, config.pad_token_id = 2, tokenizer.pad_token_id
    judge = AutoModelForSequenceClassification.from_config(config).float().eval()
    large = copy.deepcopy(model).to(models.choose_dtype(_LARGE))
    moved = lambda each, device: copy.deepcopy(each).to(device)  # noqa: E731
    return {
        device: Side(*(moved(each, device) for each in (model, large, judge)), tokenizer, concept_set, ids) for device in devices
    }


def goal(suite: str, device: str = "cuda", pairs: int = 2, statements: int = 200) -> Iterator[Row]:
    """Yield a row for each of `PATHS`: `device` against the CPU, after one run on `device` that warms it up."""
    both = sides(suite, tuple(dict.fromkeys((device, "cpu"))), statements)

    def timed(path: Callable[[Side], np.ndarray], name: str) -> Timed:
        begun = time.monotonic()
        result = np.asarray(path(both[name]))
        return Timed(time.monotonic() - begun, result)

    for what, path in PATHS.items():
        timed(path, device)
        done = paired(lambda _, path=path: timed(path, device), lambda _, path=path: timed(path, "cpu"), pairs)
        allowed, kind = _TOLERANCE.get(what, 1e-3), "share of texts that differ" if what == "steered text" else "median"
        note = f"{len(both['cpu'].ids)} statements, by the clock; agreement: {kind}"
        note += "" if what == "steered text" else " difference over median size"
        yield row(0, f"{what}, {suite}", "CPU", done, _differ, target=math.nan, tolerance=allowed, note=note)


def pace(device: str = "cuda") -> Iterator[Row]:
    """Yield the row of the trial that a plan computes its hours from."""

    def timed(_part: int, gpu: bool) -> Timed:
        with patch.object(torch.cuda, "is_available", return_value=gpu):
            return Timed(1e12 / plan.calibrate(10**7, 1024, 2.0), np.ones(1))

    done = paired(partial(timed, gpu=device == "cuda"), partial(timed, gpu=False), 1)
    note = "seconds for a TFLOP in float32; nothing to agree on"
    yield row(0, "pace of a plan", "CPU", done, apart, target=math.nan, tolerance=0.0, note=note)


def several(suite: str) -> Iterator[Row]:
    """Yield a row of all GPUs at once, each in a process that reserves its own, against one after the other; none for one GPU."""
    if (count := len(gpus.visible())) < 2:
        return
    with TemporaryDirectory() as folder:

        def started(number: int) -> subprocess.Popen:
            return subprocess.Popen([sys.executable, "-m", "benchmarks.gpu", "--one", suite, f"{folder}/{number}.npz"])

        def work(at_once: bool) -> Timed:
            begun, running = time.monotonic(), []
            for number in range(count):
                running.append(started(number))
                if not at_once:
                    running[-1].wait()
            if any(process.wait() for process in running):
                raise RuntimeError("Each process that has a GPU must end well; one did not.")
            taken, parts = time.monotonic() - begun, [np.load(f"{folder}/{number}.npz") for number in range(count)]
            if at_once and len({str(one["gpu"]) for one in parts}) < count:
                raise RuntimeError("Each process must have a GPU of its own; two had the same.")
            return Timed(taken, np.stack([one["acts"] for one in parts]))

        done = paired(lambda _: work(True), lambda _: work(False), 1)
    note = "by the clock, with the start of the processes; agreement: median difference over median size"
    what = f"activations on {count} GPUs, {suite}"
    yield row(0, what, "one after the other", done, apart, target=math.nan, tolerance=1e-3, note=note)


def _one(suite: str, out: str) -> None:
    """Reserve a GPU, hold it until the others have theirs, and write its name and activations."""
    with gpus.reserved() as name:
        checkpoint, concept_set = suites.load(suite).checkpoints[-1], concepts.load("pocket", "reliability")
        np.savez(out, gpu=name, acts=activations.of(checkpoint, concept_set))
        time.sleep(2)


def main(asked: list[str]) -> None:
    """Time the suites asked for; write each row as soon as it is there."""
    if asked[:1] == ["--one"]:
        return _one(*asked[1:])
    if not torch.cuda.is_available():
        raise SystemExit("This benchmark needs a CUDA GPU, and torch sees none here. `python -m benchmarks` needs none.")
    rows: list[Row] = []
    for way in (*(partial(goal, suite) for suite in asked or SUITES), pace, partial(several, SUITES[0])):
        for measured in way():
            rows.append(measured)
            print(table(write(rows, OUT)[-1:]), flush=True)
    print(torch.cuda.get_device_name())


if __name__ == "__main__":
    main(sys.argv[1:])
