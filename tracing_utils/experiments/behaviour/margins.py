"""How far the members of a pair lie apart along a direction that other groups gave.

Rule: neither a pair's own group nor its length may have a part in the direction's success.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from ...core import evaluation
from ...statements.concepts import ConceptSet, tested
from ..tables import Acts, Rows
from .preferences import won

__all__ = ["LEAST", "RANDOM", "rows"]

RANDOM = 20
"""Directions drawn at random, each turned so that the other groups' margin is positive, as the measured one is."""

LEAST = 20
"""Pairs below which no share is worth reporting."""


def rows(acts: Acts, concepts: ConceptSet, lengths: Sequence[int], pairs: Int[np.ndarray, "pair 2"]) -> Rows:
    """Yield, for each layer, the `margin` (h_1 - h_0) v / |v| of pairs and `margin_right`, the share above 0 (chance one half).

    v is the mean of trustworthy minus that of untrustworthy statements: of the `other groups` (other folds), the right way;
    of all statements, the pair's own among them, as `same groups`; `random direction` has the range of 20 draws. These are
    over pairs of equal length; `any length` is over all pairs, of other groups. Fewer than `LEAST` pairs give no rows.

    `lengths` are those of the statements, in tokens; `pairs` are (trustworthy, untrustworthy), as of
    `preferences.crossed_pairs`.

    Source: Legend (Feng et al. 2024).
    """
    fold = tested(concepts, seed=0)
    pairs = pairs[fold[pairs[:, 0]] == fold[pairs[:, 1]]]
    same = np.asarray(lengths)[pairs[:, 0]] == np.asarray(lengths)[pairs[:, 1]]
    drawn = np.random.default_rng(0).standard_normal((RANDOM, acts.shape[2]))
    for layer, features in enumerate(np.moveaxis(acts, 1, 0).astype(np.float64)):
        apart, by_fold = features[pairs[:, 0]] - features[pairs[:, 1]], range(fold.max() + 1)
        others = np.stack([_direction(features, concepts.labels, fold != k) for k in by_fold])[fold[pairs[:, 0]]]
        own = np.broadcast_to(_direction(features, concepts.labels, fold >= 0), others.shape)
        for method, direction, among in (
            ("other groups", others, same),
            ("same groups", own, same),
            ("any length", others, same | True),
        ):
            if among.sum() >= LEAST:
                groups = [concepts.groups[one] for one in pairs[among, 0]]
                margin, weights = _along(apart, direction)[among], evaluation.bootstrap_weights(groups, seed=0)
                yield layer, method, "margin", evaluation.mean(margin, weights)
                yield layer, method, "margin_right", evaluation.mean(won(margin), weights)
        if same.sum() >= LEAST:
            margins = np.stack([_along(apart, np.sign(others @ v)[:, None] * v)[same] for v in drawn])
            for metric, values in (("margin", margins), ("margin_right", won(margins))):
                yield layer, "random direction", metric, evaluation.interval(values.mean(), values.mean(1), int(same.sum()))


def _direction(features: np.ndarray, labels: np.ndarray, among: np.ndarray) -> np.ndarray:
    return features[among & (labels == 1)].mean(0) - features[among & (labels == 0)].mean(0)


def _along(apart: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Return the projection of each row on its direction; 0 where that has no length."""
    return (apart * direction).sum(1) / np.maximum(np.linalg.norm(direction, axis=1), 1e-300)
