"""The goals by their numbers, as "What it costs" names them.

Rule: a goal takes one thread of one process, so that two may run beside each other on two cores, but for those of `ALONE`.
"""

import time

import numpy as np
import torch

from tracing_utils.checkpoints import activations, suites
from tracing_utils.statements import concepts

from . import extraction, growth, nhsic, probes, starting, steering_sweep, whole_table
from .measure import Row


def _trained() -> Row:
    checkpoint = suites.load("pocket").checkpoints[-1]
    sets = [concepts.load("pocket", name) for name in concepts.DIMENSIONS]
    acts = np.concatenate([activations.of(checkpoint, each) for each in sets])
    return nhsic.trained(acts, np.concatenate([each.labels for each in sets]))


GOALS = {
    6: whole_table.goal,
    1: extraction.goal,
    2: lambda: [*nhsic.goal(), _trained()],
    7: growth.goal,
    5: steering_sweep.goal,
    3: probes.goal,
    8: starting.goal,
}
"""Those that take longest first."""

ALONE = (8,)
"""They start processes and read the clock, so nothing may run beside them."""


def run(number: int) -> tuple[list[Row], float]:
    """Return the rows of a goal, and the seconds it took by the clock."""
    torch.set_num_threads(1)
    begun = time.monotonic()
    return GOALS[number](), time.monotonic() - begun
