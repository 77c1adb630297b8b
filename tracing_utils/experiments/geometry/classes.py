"""Whether trustworthy and untrustworthy statements differ the same way in every group: kappa, and between over within scatter.

Rules: the null swaps the two labels inside whole groups. In crossed groups words cancel between the labels; labels permuted
at random do not let them cancel, and give a null that is far too wide. And a pair of groups that share a telling word may
share what the model knows of that word; only pairs without one show a direction of the label.
"""

from collections import Counter

import numpy as np
from jaxtyping import Bool, Float, Int

from ...core import evaluation
from ...statements.concepts import ConceptSet
from ...statements.texts import words
from ..tables import Acts, Rows

__all__ = ["Sums", "apart", "crosses", "mean_cosine", "rows", "unit_differences"]

_FEWEST = 3
"""Units with both labels, and pairs of them, from which there is a kappa."""


class Sums:
    """Number and sum of the statements of each label in each unit (a group, or a cross in it), and their squared lengths."""

    def __init__(self, features: Float[np.ndarray, "example feature"], labels: np.ndarray, units: Int[np.ndarray, " example"]):
        """Sum up one layer."""
        centred, count = features.astype(np.float64) - features.mean(0, dtype=np.float64), units.max() + 1
        self.counts, self.sums = np.zeros((2, count)), np.zeros((2, count, centred.shape[1]))
        np.add.at(self.counts, (labels, units), 1)
        np.add.at(self.sums, (labels, units), centred)
        self.squares = np.bincount(units, (centred**2).sum(1))

    def scatter_ratio(
        self, weights: Float[np.ndarray, "draw unit"], swapped: Float[np.ndarray, "draw unit"]
    ) -> Float[np.ndarray, " draw"]:
        """Return the squared length between the labels' means over that within the labels, for units weighted and swapped."""
        (n0, n1), (sum0, sum1) = self.counts, self.sums
        straight, turned = weights * (1 - swapped), weights * swapped
        zeros, ones = straight @ n0 + turned @ n1, straight @ n1 + turned @ n0
        below, above = straight @ sum0 + turned @ sum1, straight @ sum1 + turned @ sum0
        with np.errstate(invalid="ignore", divide="ignore"):  # a draw without one of the labels has no ratio: nan, left out
            distance = ((above / ones[:, None] - below / zeros[:, None]) ** 2).sum(1)
            between = distance * zeros * ones / (zeros + ones)
            total = weights @ self.squares - ((below + above) ** 2).sum(1) / (zeros + ones)
            return between / np.maximum(total - between, np.finfo(float).tiny)


def unit_differences(sums: Sums) -> Float[np.ndarray, "unit feature"]:
    """Return the direction from the untrustworthy to the trustworthy statements of each unit.

    A unit with one label, or whose labels do not differ beyond rounding, has no direction: zeros, whose cosines are 0.
    """
    zero, one = (each / np.maximum(count, 1)[:, None] for each, count in zip(sums.sums, sums.counts, strict=True))
    difference = (one - zero) * (sums.counts > 0).all(0)[:, None]
    length, size = np.linalg.norm(difference, axis=1), np.sqrt(sums.squares.sum() / sums.counts.sum())
    return np.where(length > 1e-6 * size, 1, 0)[:, None] * difference / np.maximum(length, np.finfo(float).tiny)[:, None]


def crosses(concepts: ConceptSet) -> Int[np.ndarray, " example"]:
    """Return the unit of each statement: its category's part of its group, if each part has the same words on both sides."""
    groups = concepts.group_numbers
    finer = np.unique([f"{g} {name}" for g, name in zip(groups, concepts.categories, strict=True)], return_inverse=True)[1]
    torn = set()
    for unit in range(finer.max() + 1):
        held = np.flatnonzero(finer == unit)
        sides = [
            Counter(w for i in held if concepts.labels[i] == label for w in words(concepts.statements[i])) for label in (0, 1)
        ]
        if sides[0] != sides[1]:
            torn |= set(groups[held])
    return np.unique(np.where(np.isin(groups, list(torn)), -1 - groups, finer), return_inverse=True)[1]


def apart(concepts: ConceptSet, units: Int[np.ndarray, " example"]) -> Bool[np.ndarray, "unit unit"]:
    """Return which pairs of units, of different groups, share no word that some of their statements have and others have not."""
    held: list[list[set[str]]] = [[] for _ in range(units.max() + 1)]
    for unit, statement in zip(units, concepts.statements, strict=True):
        held[unit].append(set(words(statement.casefold())))
    telling = [set.union(*each) - set.intersection(*each) for each in held]
    number = {word: i for i, word in enumerate(sorted(set().union(*telling)))}
    has = np.zeros((len(telling), len(number) + 1), dtype=np.float32)
    for unit, known in enumerate(telling):
        has[unit, [number[word] for word in known]] = 1
    of = _groups_of(concepts, units)
    return (has @ has.T == 0) & (of[:, None] != of)


def mean_cosine(
    cosines: Float[np.ndarray, "unit unit"], counted: Bool[np.ndarray, "unit unit"], weights: Float[np.ndarray, "draw unit"]
) -> Float[np.ndarray, " draw"]:
    """Return kappa, the mean of cos(delta_g, delta_g') over the pairs that count, with each unit's direction times its weight.

    A weight of -1 swaps a unit's labels; one of 2 counts the unit twice, but not as a pair with itself.
    """
    sizes = np.abs(weights)
    with np.errstate(invalid="ignore"):  # a draw without any pair has no kappa: nan, left out
        return (weights @ (cosines * counted) * weights).sum(1) / (sizes @ counted.astype(float) * sizes).sum(1)


def rows(acts: Acts, concepts: ConceptSet) -> Rows:
    """Yield the rows of `kappa` and `scatter_ratio`; the mean of kappa over all layers has no layer.

    Kappa is taken over all pairs of groups, and over the pairs of crosses without a shared word. Where fewer than three units
    have both labels, or fewer than three pairs count, there is none.
    """
    groups, units = concepts.group_numbers, crosses(concepts)
    count = groups.max() + 1
    names = [f"{group}" for group in range(count)]
    weights = np.vstack([np.ones(count), evaluation.bootstrap_weights(names, seed=0)])
    swapped = np.random.default_rng(0).integers(0, 2, (evaluation.DRAWS, count)).astype(float)
    for layer in range(acts.shape[1]):
        sums = Sums(acts[:, layer], concepts.labels, groups)
        null = sums.scatter_ratio(np.ones_like(swapped), swapped)
        value, *others = sums.scatter_ratio(weights, np.zeros_like(weights))
        reach = 1.96 * float(np.nanstd(others))  # a squared length grows by drawing, so its draws lie above it, not around it
        yield layer, "groups", "scatter_ratio", evaluation.Estimate(float(value), value - reach, value + reach, len(acts))
        yield layer, "groups, labels swapped", "scatter_ratio", evaluation.interval(null.mean(), null, len(acts))
    for method, index, counted in (
        ("groups", groups, ~np.eye(count, dtype=bool)),
        ("no word shared", units, apart(concepts, units)),
    ):
        of = _groups_of(concepts, index)
        yield from _kappas(acts, concepts.labels, index, counted, weights[:, of], 1 - 2 * swapped[:, of], method)


def _kappas(
    acts: np.ndarray,
    labels: np.ndarray,
    units: np.ndarray,
    counted: np.ndarray,
    weights: np.ndarray,
    signs: np.ndarray,
    method: str,
) -> Rows:
    """Yield kappa of each layer and of their mean, each before what swapped labels give."""
    both = np.array([np.ptp(labels[units == unit]) > 0 for unit in range(units.max() + 1)])
    counted, n = counted & both & both[:, None], int(both.sum())
    if n < _FEWEST or counted.sum() < 2 * _FEWEST:
        return
    kappas, nulls = np.empty((acts.shape[1], len(weights))), np.empty((acts.shape[1], len(signs)))
    for layer in range(acts.shape[1]):
        directions = unit_differences(Sums(acts[:, layer], labels, units))
        cosines = directions @ directions.T
        kappas[layer], nulls[layer] = (mean_cosine(cosines, counted, each) for each in (weights, signs))
    for layer, values, null in [*zip(range(len(kappas)), kappas, nulls, strict=True), (None, kappas.mean(0), nulls.mean(0))]:
        yield layer, method, "kappa", evaluation.interval(values[0], values[1:], n)
        yield layer, f"{method}, labels swapped", "kappa", evaluation.interval(null.mean(), null, n)


def _groups_of(concepts: ConceptSet, units: Int[np.ndarray, " example"]) -> Int[np.ndarray, " unit"]:
    """Return the group of each unit, as its place among the sorted names."""
    return concepts.group_numbers[np.unique(units, return_index=True)[1]]
