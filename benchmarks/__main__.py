"""Time this package beside others and beside plain code, and write `benchmarks/results.csv`.

Usage: python -m benchmarks [GOAL ...]
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch read it: processor time of one thread is what is compared

import sys
import time
from pathlib import Path

import numpy as np
import torch

from tracing_utils import activations, concepts, suites

from . import extraction, growth, measure, next_checkpoint, nhsic, probes, whole_table

OUT = Path(__file__).with_name("results.csv")


def _trained() -> measure.Row:
    checkpoint = suites.load("pocket").checkpoints[-1]
    sets = [concepts.load("pocket", name) for name in concepts.DIMENSIONS]
    acts = np.concatenate([activations.of(checkpoint, chosen) for chosen in sets])
    return nhsic.trained(acts, np.concatenate([chosen.labels for chosen in sets]))


GOALS = {
    1: extraction.goal,
    2: lambda: [*nhsic.goal(), _trained()],
    3: probes.goal,
    4: next_checkpoint.swap,
    5: next_checkpoint.sweep,
    6: whole_table.goal,
    7: growth.goal,
}


def main(asked: list[str]) -> None:
    """Run the goals asked for, or all."""
    torch.set_num_threads(1)
    for number in map(int, asked or GOALS):
        begun = time.monotonic()
        written = measure.write(GOALS[number](), OUT)
        print(measure.table(written[written["goal"] == number]), f"\n({time.monotonic() - begun:.0f} s)\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
