"""Estimates with intervals: cluster bootstrap over groups, for means and for the area under the ROC curve.

Rule: what belongs together (a pair, a question, a sentence and its perturbed twin) is drawn together, or the
interval is too narrow.

Public names: `Estimate`, `bootstrap_weights`, `mean`, `auroc`, `DRAWS`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

DRAWS = 500
"""Bootstrap draws behind every interval."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval and the number of statements it rests on."""

    value: float
    low: float
    high: float
    n: int


def bootstrap_weights(groups: Sequence[str], seed: int, draws: int = DRAWS) -> Float[np.ndarray, "draw example"]:
    """Return how often each example counts in each draw, whole groups being drawn with replacement."""
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    return counts[:, index].astype(float)


def _interval(value: float, drawn: np.ndarray, n: int) -> Estimate:
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Estimate(float(value), float(low), float(high), n)


def mean(values: Float[np.ndarray, " example"], weights: Float[np.ndarray, "draw example"]) -> Estimate:
    """Return the mean of `values` with its bootstrap interval."""
    return _interval(values.mean(), weights @ values / weights.sum(1), len(values))


def auroc(
    scores: Float[np.ndarray, "seed example"],
    labels: Int[np.ndarray, " example"],
    weights: Float[np.ndarray, "draw example"],
) -> Estimate:
    """Return the area under the ROC curve, averaged over seeds, with its bootstrap interval.

    It is the share of (label 1, label 0) pairs in which the first scores higher, ties counting half.
    """
    ones, zeros = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    wins = np.zeros((len(ones), len(zeros)), dtype=np.float32)
    for row in scores:
        difference = row[ones, None] - row[None, zeros]
        wins += (difference > 0) + 0.5 * (difference == 0)
    wins /= len(scores)
    w1, w0 = weights[:, ones].astype(np.float32), weights[:, zeros].astype(np.float32)
    with np.errstate(invalid="ignore"):  # a draw without one of the labels has no area: nan, left out
        drawn = ((w1 @ wins) * w0).sum(1) / (w1.sum(1) * w0.sum(1))
    return _interval(wins.mean(dtype=float), drawn, len(labels))
