"""Whether trustworthy and untrustworthy statements differ the same way in every group: kappa, and between over within scatter.

Rule: the null swaps the two labels inside whole groups. In crossed groups words cancel between the labels; labels permuted at
random do not let them cancel, and give a null that is far too wide.
"""

import numpy as np
from jaxtyping import Float

from ...core import evaluation
from ...statements.concepts import ConceptSet
from .local import Rows

__all__ = ["Sums", "mean_cosine", "rows", "unit_differences"]

_FEWEST = 3
"""Groups with both labels from which there is a kappa."""


class Sums:
    """Number and sum of the statements of each label in each group, and their squared lengths, at one layer."""

    def __init__(self, features: Float[np.ndarray, "example feature"], concepts: ConceptSet) -> None:
        """Sum up."""
        centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
        names, index = np.unique(np.asarray(concepts.groups), return_inverse=True)
        self.counts, self.sums = np.zeros((2, len(names))), np.zeros((2, len(names), centred.shape[1]))
        np.add.at(self.counts, (concepts.labels, index), 1)
        np.add.at(self.sums, (concepts.labels, index), centred)
        self.squares = np.bincount(index, (centred**2).sum(1))

    def scatter_ratio(
        self, weights: Float[np.ndarray, "draw group"], swapped: Float[np.ndarray, "draw group"]
    ) -> Float[np.ndarray, " draw"]:
        """Return the squared length between the labels' means over that within the labels, for groups weighted and swapped."""
        (n0, n1), (sum0, sum1), kept = self.counts, self.sums, weights * (1 - swapped)
        turned = weights * swapped
        zeros, ones = kept @ n0 + turned @ n1, kept @ n1 + turned @ n0
        below, above = kept @ sum0 + turned @ sum1, kept @ sum1 + turned @ sum0
        with np.errstate(invalid="ignore", divide="ignore"):  # a draw without one of the labels has no ratio: nan, left out
            apart = ((above / ones[:, None] - below / zeros[:, None]) ** 2).sum(1)
            between = apart * zeros * ones / (zeros + ones)
            total = weights @ self.squares - ((below + above) ** 2).sum(1) / (zeros + ones)
            return between / np.maximum(total - between, np.finfo(float).tiny)


def unit_differences(sums: Sums) -> Float[np.ndarray, "group feature"]:
    """Return the direction from the untrustworthy to the trustworthy statements of each group that has both.

    A group whose labels do not differ beyond rounding has no direction: zeros, whose cosines are 0.
    """
    both = (sums.counts > 0).all(0)
    zero, one = (each[both] / count[both, None] for each, count in zip(sums.sums, sums.counts, strict=True))
    difference = one - zero
    length, size = np.linalg.norm(difference, axis=1), np.sqrt(sums.squares.sum() / sums.counts.sum())
    return np.where(length > 1e-6 * size, 1, 0)[:, None] * difference / np.maximum(length, np.finfo(float).tiny)[:, None]


def mean_cosine(
    units: Float[np.ndarray, "group feature"], weights: Float[np.ndarray, "draw group"]
) -> Float[np.ndarray, " draw"]:
    """Return kappa, the mean over pairs of groups of cos(delta_g, delta_g'), with each group's direction times its weight.

    A weight of -1 swaps a group's labels; one of 2 counts the group twice, but not as a pair with itself.
    """
    squares = weights**2
    pairs = ((weights @ units) ** 2).sum(1) - squares @ (units**2).sum(1)
    return pairs / (np.abs(weights).sum(1) ** 2 - squares.sum(1))


def rows(acts: Float[np.ndarray, "example layer d_model"], concepts: ConceptSet) -> Rows:
    """Yield (layer, method, metric, estimate) of `kappa` and `scatter_ratio`; the mean of kappa over all layers has no layer.

    Where fewer than three groups have both labels there is no kappa.
    """
    layers = [Sums(acts[:, layer], concepts) for layer in range(acts.shape[1])]
    count = layers[0].counts.shape[1]
    swapped = np.random.default_rng(0).integers(0, 2, (evaluation.DRAWS, count)).astype(float)
    drawn = _weights(count)
    for layer, sums in enumerate(layers):
        null = sums.scatter_ratio(np.ones_like(swapped), swapped)
        value, *others = sums.scatter_ratio(drawn, np.zeros_like(drawn))
        reach = 1.96 * float(np.nanstd(others))  # a squared length grows by drawing, so its draws lie above it, not around it
        yield layer, "groups", "scatter_ratio", evaluation.Estimate(float(value), value - reach, value + reach, len(acts))
        yield layer, "sign-flip null", "scatter_ratio", evaluation.interval(null.mean(), null, len(acts))
    units = [unit_differences(sums) for sums in layers]
    if len(units[0]) < _FEWEST:
        return
    signs = 1 - 2 * swapped[:, : len(units[0])]
    kappas = np.stack([mean_cosine(each, _weights(len(each))) for each in units])
    nulls = np.stack([mean_cosine(each, signs) for each in units])
    for layer, values, null in [*zip(range(len(units)), kappas, nulls, strict=True), (None, kappas.mean(0), nulls.mean(0))]:
        yield layer, "groups", "kappa", evaluation.interval(values[0], values[1:], len(units[0]))
        yield layer, "sign-flip null", "kappa", evaluation.interval(null.mean(), null, len(units[0]))


def _weights(count: int) -> Float[np.ndarray, "draw group"]:
    """Return how often each group counts: once each in the first row, then in bootstrap draws."""
    return np.vstack([np.ones(count), evaluation.bootstrap_weights([f"{i}" for i in range(count)], seed=0)])
