"""How many dimensions statements have around each of them: LID and TwoNN, and what LID says of the label.

Rule: a twin, a statement of the same group, is no neighbour. Twins differ by a word and lie close, so they make every local
dimension small, and where one label has more twins than the other they alone tell the label.

Distances are Euclidean; those of references that do not count are infinite.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from sklearn.metrics import euclidean_distances

from ...core import evaluation
from ...statements import concepts as statements
from ...statements.concepts import ConceptSet
from ..tables import Acts, Rows

__all__ = ["NEIGHBOURS", "distances", "gaussian", "lid", "rows", "two_nn"]

NEIGHBOURS = 20
"""Neighbours behind a local dimension. The released code takes all references but one, which measures nothing local."""

_LOWEST = 0.9  # of the ratios: the largest ones come from the cloud's edge (Facco et al. 2017)

Distances = Float[np.ndarray, "example reference"]


def distances(points: Float[np.ndarray, "example feature"]) -> Distances:
    """Return the distance of each point to each other; itself and exact copies are infinitely far, so that logarithms exist."""
    points = points.astype(np.float64) - points.mean(0, dtype=np.float64)
    far = euclidean_distances(points)
    far[far <= 1e-7 * far.max()] = np.inf
    return far


def lid(far: Distances, k: int = NEIGHBOURS) -> Float[np.ndarray, " example"]:
    """Return m(x) = -1 / mean over the k nearest references of log(d_i / d_k), the maximum-likelihood local dimension.

    Args:
        far: distances; infinite where a reference does not count.
        k: neighbours; fewer, the same for all, where some example has fewer references.

    Raises:
        ValueError: if some example has fewer than two references.

    Source: Levina and Bickel 2004; Amsaleg et al. 2015; for hallucinations Yin et al. 2024, whose k is all references but one.
    """
    k = min(k, int(np.isfinite(far).sum(1).min()))
    if k < 2:
        raise ValueError(f"A local dimension needs at least 2 references for each statement; one has {k}. Give more groups.")
    nearest = np.sort(np.partition(far, k - 1, axis=1)[:, :k], axis=1)
    return 1 / np.maximum(-np.log(nearest / nearest[:, -1:]).mean(1), np.finfo(float).tiny)


def two_nn(far: Distances, groups: Sequence[str]) -> evaluation.Estimate:
    """Return the dimension by the two nearest neighbours: the slope through 0 of -log(1 - i/N) on log(r2 / r1).

    There should be one statement a group; a twin is a nearest neighbour that says nothing.

    Source: Facco et al. 2017, on the lowest 90 % of the ratios.
    """
    first, second = np.sort(np.partition(far, 1, axis=1)[:, :2], axis=1).T
    ratios = np.log(second / first)
    order, weights = np.argsort(ratios), evaluation.bootstrap_weights(groups, seed=0)
    x, counted = ratios[order], np.vstack([np.ones(len(order)), weights[:, order]])
    share = np.cumsum(counted, axis=1) / counted.sum(1, keepdims=True)
    fitted = counted * (share <= _LOWEST + 1e-9)
    y = -np.log1p(-np.minimum(share, _LOWEST))
    slopes = (fitted * y) @ x / np.maximum(fitted @ x**2, np.finfo(float).tiny)
    return evaluation.interval(slopes[0], slopes[1:], len(order))


def gaussian(points: Float[np.ndarray, "example feature"]) -> Float[np.ndarray, "example direction"]:
    """Return as many Gaussian points with the same spectrum: what the variances alone make of a local dimension."""
    centred = points.astype(np.float64) - points.mean(0, dtype=np.float64)
    spread = np.linalg.svd(centred, compute_uv=False) / np.sqrt(len(points))
    return np.random.default_rng(0).standard_normal((len(points), len(spread))) * spread


def rows(acts: Acts, concepts: ConceptSet) -> Rows:
    """Yield the rows of `lid`, `two_nn` and `lid_auroc`; a mean over all layers has no layer.

    `lid_auroc` is the share of (trustworthy, untrustworthy) pairs in which the first has the lower dimension among trustworthy
    references. Intervals draw the groups of the statements looked from; the references stay.
    """
    weights = evaluation.bootstrap_weights(concepts.groups, seed=0)
    names, numbers = sorted(set(concepts.groups)), concepts.group_numbers
    twins, one = numbers[:, None] == numbers, _one_a_group(numbers)
    whole = statements.draw(concepts, len(names))
    scores: dict[str, list[np.ndarray]] = {}
    for layer in range(acts.shape[1]):
        far = distances(acts[:, layer])
        for method, value in _dimensions(far, twins).items():
            yield layer, method, "lid", _mean(value, weights)
        same = distances(gaussian(acts[:, layer]))
        yield layer, "Gaussian", "lid", _mean(lid(same), weights)
        for method, used in (("one a group", one), ("whole groups", whole)):
            yield layer, method, "two_nn", two_nn(far[np.ix_(used, used)], [concepts.groups[i] for i in used])
        yield layer, "Gaussian", "two_nn", two_nn(same[: len(one), : len(one)], names)
        right = concepts.labels == 1
        for method, value in _dimensions(far[:, right], twins[:, right]).items():
            scores.setdefault(method, []).append(-value)
            yield layer, method, "lid_auroc", evaluation.auroc(-value[None], concepts.labels, weights)
    for method, by_layer in scores.items():
        yield None, method, "lid_auroc", evaluation.auroc(np.stack(by_layer), concepts.labels, weights)


def _dimensions(far: Distances, twins: Bool[np.ndarray, "example reference"]) -> dict[str, np.ndarray]:
    """Return the local dimension of each statement: as released, with few neighbours, and with none of its own group."""
    return {
        "released": lid(far, far.shape[1] - 1),
        f"k = {NEIGHBOURS}": lid(far),
        "group left out": lid(np.where(twins, np.inf, far)),
    }


def _mean(values: np.ndarray, weights: np.ndarray) -> evaluation.Estimate:
    """Return the harmonic mean, the one of maximum likelihood, with its interval."""
    return evaluation.ratio(np.ones(len(values)), 1 / values, weights)


def _one_a_group(numbers: np.ndarray) -> np.ndarray:
    """Return the index of one statement of each group, drawn at random."""
    order = np.random.default_rng(0).permutation(len(numbers))
    return np.sort(order[np.unique(numbers[order], return_index=True)[1]])
