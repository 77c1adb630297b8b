"""Estimates with intervals: cluster bootstrap over groups, paired differences, and the correction for many tests.

Rule: what belongs together (a pair, a question, a sentence and its perturbed twin) is drawn together, or the
interval is too narrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int
from scipy.special import stdtr, stdtrit

DRAWS = 500
"""Bootstrap draws behind every interval."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval and the number of statements it rests on."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference(Estimate):
    """A difference with its interval, and the two-sided chance `p` of one as large where there is none."""

    p: float


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


def interval(value: float, drawn: Float[np.ndarray, " draw"], n: int) -> Estimate:
    """Return `value` with the central 95 % of its bootstrap draws; draws that are not a number are left out."""
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Estimate(float(value), float(low), float(high), n)


def mean(values: Float[np.ndarray, " example"], weights: Float[np.ndarray, "draw example"]) -> Estimate:
    """Return the mean of `values` with its bootstrap interval."""
    return interval(values.mean(), weights @ values / weights.sum(1), len(values))


def ratio(
    above: Float[np.ndarray, " example"], below: Float[np.ndarray, " example"], weights: Float[np.ndarray, "draw example"]
) -> Estimate:
    """Return sum over sum with its bootstrap interval."""
    return interval(above.sum() / below.sum(), (weights @ above) / (weights @ below), len(above))


def paired(
    a: Float[np.ndarray, " example"], b: Float[np.ndarray, " example"], groups: Sequence[str], seed: int = 0
) -> Difference:
    """Return the mean of a - b over the same examples, with the interval and p-value of whole groups drawn together.

    The p-value is that of Student's t with one degree of freedom less than there are groups, for the difference over
    its bootstrap standard error: a count of draws could not go below 1 / `DRAWS`, too coarse for many tests.
    """
    difference, count = a - b, len(set(groups))
    if count < 2:
        raise ValueError(f"A paired test needs at least two groups; there is {count}.")
    weights = bootstrap_weights(groups, seed)
    drawn = weights @ difference / weights.sum(1)
    made, error = interval(difference.mean(), drawn, len(difference)), drawn.std(ddof=1)
    # Without any error every group differs by the same amount.
    p = 2 * stdtr(count - 1, -abs(made.value) / error) if error > 0 else float(made.value == 0)
    return Difference(made.value, made.low, made.high, made.n, float(p))


def refit_error(difference: Float[np.ndarray, "seed example"], fold: Int[np.ndarray, "seed example"]) -> tuple[float, int]:
    """Return the standard error of a mean of held-out answers, and its degrees of freedom; the refit of the probe counts.

    An answer depends on the statement and on the sample that the probe was fitted on. Folds share most of what they are
    fitted on, so the mean over folds is less sure than their spread says: the variance of a fold's mean counts
    1 / folds + tested / fitted times, not 1 / folds times.

    Args:
        difference: of each statement in each assignment of groups to folds.
        fold: which fold tested it. One further fold is for validation; the rest is fitted on.

    Source: Nadeau and Bengio 2003; for several assignments Bouckaert and Frank 2004.
    """
    means = [d[at == k].mean() for d, at in zip(difference, fold, strict=True) for k in np.unique(at)]
    folds = len(np.unique(fold[0]))
    return float(np.sqrt((1 / len(means) + 1 / max(folds - 2, 1)) * np.var(means, ddof=1))), len(means) - 1


def paired_refit(
    a: Float[np.ndarray, "seed example"], b: Float[np.ndarray, "seed example"], fold: Int[np.ndarray, "seed example"]
) -> Difference:
    """Return the mean of a - b over the same examples, two probes' answers, with the interval and p-value of `refit_error`."""
    difference = np.broadcast_to(np.asarray(a, dtype=float) - b, fold.shape)
    value, (error, free) = float(difference.mean()), refit_error(difference, fold)
    p = 2 * stdtr(free, -abs(value) / error) if error > 0 else float(value == 0)
    reach = stdtrit(free, 0.975) * error
    return Difference(value, value - reach, value + reach, fold.shape[1], float(p))


def printed_p(p: float) -> str:
    """Return a p-value as it is printed: what lies below a millionth depends on the tail of a model nobody has checked."""
    return "" if np.isnan(p) else "< 1e-6" if p < 1e-6 else f"{p:.2g}"


def holm(p_values: Sequence[float] | Float[np.ndarray, " test"]) -> list[float]:
    """Return p-values corrected for their number: rejecting those below a level errs in any of them at most that often.

    A test that could not be made (nan) stays nan and does not count.

    Source: Holm 1979.
    """
    p = np.asarray(p_values, dtype=float)
    corrected, made = np.full(len(p), np.nan), np.flatnonzero(~np.isnan(p))
    order = made[np.argsort(p[made], kind="stable")]
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return corrected.tolist()


def auroc(
    scores: Float[np.ndarray, "seed example"],
    labels: Int[np.ndarray, " example"] | Int[np.ndarray, "seed example"],
    weights: Float[np.ndarray, "draw example"],
) -> Estimate:
    """Return the area under the ROC curve, averaged over seeds, with its bootstrap interval.

    It is the share of (label 1, label 0) pairs in which the first scores higher, ties counting half. Each seed may have
    labels of its own.
    """
    if labels.ndim == 1:
        return interval(*_areas(scores, labels, weights), len(labels))
    values, drawn = zip(*(_areas(row[None], truth, weights) for row, truth in zip(scores, labels, strict=True)), strict=True)
    return interval(float(np.mean(values)), np.mean(drawn, axis=0), labels.shape[1])


def _areas(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the mean area over the rows of scores, and the same in every draw."""
    one, zero = labels == 1, labels == 0
    # How often, over the seeds, the pair is in order, in halves: whole numbers, which float32 adds up exactly.
    above = np.zeros((one.sum(), zero.sum()), dtype=np.float32)
    for row in scores:
        ones, zeros = row[one, None], row[zero]
        above += ones > zeros
        above += ones >= zeros
    ones, zeros = (weights[:, side].astype(np.float32) for side in (one, zero))
    drawn = ((ones @ above) * zeros).sum(1, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # a draw without one of the labels has no area: nan, left out
        areas = drawn / (ones.sum(1, dtype=np.float64) * zeros.sum(1, dtype=np.float64))
    return float(above.mean(dtype=np.float64)) / (2 * len(scores)), areas / (2 * len(scores))
