"""In how many directions the activations of neutral text vary: participation ratio, RankMe and alpha-ReQ.

Rule: neutral for a dimension are the trustworthy statements of the other dimensions, so that its own contrast is not among
what varies. All three depend on the number of texts; compare rows of equal `n`.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Float

from ...core.evaluation import Estimate
from ...statements.concepts import ConceptSet
from ..tables import Acts, Rows

__all__ = ["alpha_req", "measures", "participation_ratio", "rankme", "rows"]

Variances = Float[np.ndarray, " direction"]
WithSlope = tuple[float, Variances]  # a number, and its derivative by each variance

_EMPTY = 1e-12  # a direction with less of the largest variance is rounding


def participation_ratio(variances: Variances) -> WithSlope:
    """Return (sum of variances)^2 / sum of their squares, and its derivative."""
    total, squares = variances.sum(), (variances**2).sum()
    value = total**2 / squares
    return value, 2 * value * (1 / total - variances / squares)


def rankme(variances: Variances) -> WithSlope:
    """Return exp of the entropy of the singular values' shares, and its derivative.

    Source: Garrido et al. 2023. `effective_rank` of the experiment `mutual_information` has the variances' shares.
    """
    singular = np.sqrt(variances)
    shares = singular / singular.sum()
    entropy = -(shares * np.log(shares)).sum()
    slope = -(np.log(shares) + entropy) / singular.sum()
    return np.exp(entropy), np.exp(entropy) * slope / (2 * singular)


def alpha_req(variances: Variances) -> WithSlope:
    """Return the exponent of variance ~ rank^-alpha by least squares on logarithms, and its derivative.

    The ranks are 11 to 50, or, of fewer directions, from a sixth to a half of them: head and tail follow no power.

    Source: Agrawal et al. 2022.
    """
    used = np.arange(min(10, len(variances) // 6), min(50, max(len(variances) // 2, 2)))
    x = np.log(used + 1.0) - np.log(used + 1.0).mean()
    weights = np.zeros(len(variances))
    weights[used] = -x / (x**2).sum()
    return float(weights @ np.log(variances)), weights / variances


_METRICS = {"participation_ratio": participation_ratio, "rankme": rankme, "alpha_req": alpha_req}


def measures(features: Float[np.ndarray, "text feature"], groups: list[str]) -> Iterator[tuple[str, Estimate]]:
    """Yield the three metrics of one layer.

    The interval is that of the delta method: how much each group of texts moves the variances, and they the metric.
    """
    centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    squares = _projections(centred) ** 2
    variances = squares.mean(0)
    order = np.argsort(-variances)
    used = order[variances[order] > _EMPTY * variances.max()]
    index = np.unique(groups, return_inverse=True)[1]
    for metric, function in _METRICS.items():
        value, slope = function(variances[used])
        moved = np.bincount(index, (squares[:, used] - variances[used]) @ slope) / len(squares)
        reach = 1.96 * np.sqrt((moved**2).sum() * len(moved) / (len(moved) - 1))
        yield metric, Estimate(float(value), float(value - reach), float(value + reach), len(squares))


def _projections(centred: Float[np.ndarray, "text feature"]) -> Float[np.ndarray, "text direction"]:
    """Return each text's place along each principal direction."""
    if centred.shape[0] > centred.shape[1]:
        return centred @ np.linalg.eigh(centred.T @ centred)[1]
    values, vectors = np.linalg.eigh(centred @ centred.T)
    return vectors * np.sqrt(values.clip(min=0))


def rows(acts: Mapping[str, Acts], sets: Mapping[str, ConceptSet], dimension: str) -> Rows:
    """Yield the rows of the text that is neutral for a dimension; nothing where there is no other. Mappings are by dimension."""
    others = [name for name in sets if name != dimension]
    right = {name: np.flatnonzero(sets[name].labels == 1) for name in others}
    groups = [f"{name}: {sets[name].groups[i]}" for name in others for i in right[name]]
    for layer in range(acts[dimension].shape[1] if others else 0):
        texts = np.concatenate([acts[name][right[name], layer] for name in others])
        for metric, estimate in measures(texts, groups):
            yield layer, "neutral text", metric, estimate
