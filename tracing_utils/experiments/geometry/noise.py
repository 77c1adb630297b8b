"""How much noise a probe stands, and whether that tells of the concept or of the size of activations.

Rule: noise is compared with the spread within the labels. Activations grow in training, so noise of one size becomes less and
less to them, and every probe seems to become more robust.

Source: deepsteer adds noise of fixed sizes.
"""

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

from ...core import evaluation
from ...statements.concepts import ConceptSet, folds
from ..probing import probes
from ..tables import Acts, Rows

__all__ = ["distances", "half", "rows"]

_SIZES = np.geomspace(1e-3, 1e3, 241)  # times the spread


def distances(acts: Float[np.ndarray, "example d_model"], concepts: ConceptSet) -> Float[np.ndarray, " example"]:
    """Return how far each statement lies on the right side of a logistic probe that did not see its group (below 0: wrong)."""
    acts, truth, out = acts.astype(np.float64), concepts.labels[:, None], np.empty(len(concepts))
    for split in folds(concepts, 0):
        train, valid = split.train, split.validation
        ((probe, _),) = probes.fit_chosen(probes.Basis(acts[train]), truth[train], acts[valid], truth[valid])
        side = np.where(concepts.labels[split.test] == 1, 1, -1)
        out[split.test] = side * probe.logits(acts[split.test]) / max(np.linalg.norm(probe.weight), np.finfo(float).tiny)
    return out


def half(
    apart: Float[np.ndarray, " example"], weights: Float[np.ndarray, "draw example"], sizes: Float[np.ndarray, " size"]
) -> Float[np.ndarray, " draw"]:
    """Return the least Gaussian noise at which half of what the accuracy has over one half is lost; no noise is drawn.

    `apart` are the signed `distances`; the sizes are standard deviations of the noise, in ascending order.
    """
    noisy = weights @ ndtr(apart[:, None] / sizes) / weights.sum(1, keepdims=True)
    clean = (weights @ (apart > 0) / weights.sum(1))[:, None]
    return sizes[(noisy <= (clean + 0.5) / 2).argmax(1)]


def rows(acts: Acts, concepts: ConceptSet) -> Rows:
    """Yield `half_noise` at the last layer, as it is added and `in spreads` within the labels, and the `spread` itself.

    Nothing where the probe is not clearly better than a coin.
    """
    last, layer, labels = acts[:, -1].astype(np.float64), acts.shape[1] - 1, concepts.labels
    apart, weights = distances(last, concepts), evaluation.bootstrap_weights(concepts.groups, seed=0)
    if evaluation.mean((apart > 0).astype(float), weights).low <= 0.5:
        return
    inside = last - np.stack([last[labels == label].mean(0) for label in (0, 1)])[labels]
    spread, n = float(np.sqrt((inside**2).mean())), len(concepts)
    value, *drawn = half(apart, np.vstack([np.ones(n), weights]), spread * _SIZES)
    for method, unit in (("as added", 1.0), ("in spreads", spread)):
        yield layer, method, "half_noise", evaluation.interval(value / unit, np.array(drawn) / unit, n)
    yield layer, "within the labels", "spread", evaluation.Estimate(spread, spread, spread, n)
