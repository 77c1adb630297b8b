"""Estimates with intervals: cluster bootstrap over groups, for means and for the area under the ROC curve.

Rule: what belongs together (a pair, a question, a sentence and its perturbed twin) is drawn together, or the
interval is too narrow.

Public names: `Estimate`, `bootstrap_weights`, `mean`, `auroc`, `DRAWS`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

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
    return _bootstrap_weights(tuple(groups), seed, draws)


@lru_cache(maxsize=4)  # every layer of a set is drawn alike
def _bootstrap_weights(groups: tuple[str, ...], seed: int, draws: int) -> np.ndarray:
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    weights = counts[:, index].astype(float)
    weights.flags.writeable = False
    return weights


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
    drawn, value = np.zeros(len(weights)), 0.0
    for row in scores:
        drawn += _weighted_auroc(row, labels, weights) / len(scores)
        value += _weighted_auroc(row, labels, np.ones((1, len(row))))[0] / len(scores)
    return _interval(value, drawn, len(labels))


def _weighted_auroc(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return one area per row of weights, from the scores' order: what lies below each 1, ties counting half."""
    order = np.argsort(scores)
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # where a new value begins
    ones, zeros = (np.add.reduceat(weights[:, order] * (labels[order] == label), starts, axis=1) for label in (1, 0))
    below = np.cumsum(zeros, axis=1) - zeros / 2
    with np.errstate(invalid="ignore"):  # a draw without one of the labels has no area: nan, left out
        return (ones * below).sum(1) / (ones.sum(1) * zeros.sum(1))
