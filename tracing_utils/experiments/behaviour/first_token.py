"""What a linear reader gets from the logits of the first token to be said, beside the vector they are made from.

Rule: logits are a linear map of that vector, so what a reader of them can do follows from the map's Gram matrix: none is stored.
The first token's logits are those of decoding step 0, at the text's own last token.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from ...core import evaluation
from ...core.evaluation import Estimate
from ...statements.concepts import ConceptSet, folds, tested
from ..tables import Rows

__all__ = ["SEEDS", "held_out", "logit_features", "rows"]

SEEDS = (0, 1, 2)
"""Assignments of groups to folds."""

_STRENGTHS = 10.0 ** np.arange(-9, 1)  # of the features' whole variance: down to where a penalty is none

_LOST = 1e-8  # of the largest squared length that a direction gets: what is smaller is rounding


def logit_features(
    last: Float[np.ndarray, "example d_model"], gram: Float[np.ndarray, "d_model d_model"]
) -> Float[np.ndarray, "example d_model"]:
    """Return features whose inner products are those of the logits: a rotation of these, without the empty axes.

    `last` is what the head reads, `gram` that of its weights (`reading.gram`).
    """
    squares, axes = np.linalg.eigh(gram)
    return last @ (axes * np.sqrt(np.maximum(squares, 0)))


def held_out(features: Float[np.ndarray, "example feature"], concepts: ConceptSet, seed: int) -> Float[np.ndarray, " example"]:
    """Return the score that a ridge regression, which did not see its group, gives each statement; above 0 is trustworthy.

    Features are centred and not scaled, so that the result depends on their inner products alone.
    """
    features, signs, out = features.astype(np.float64), 2.0 * concepts.labels - 1, np.empty(len(concepts))
    for split in folds(concepts, seed):
        mean, level = features[split.train].mean(0), signs[split.train].mean()
        train = features[split.train] - mean
        squares, axes = np.linalg.eigh(train.T @ train)
        squares = np.maximum(squares, 0)
        pull = axes.T @ (train.T @ (signs[split.train] - level))
        weights = axes @ (pull[:, None] / (squares[:, None] + _STRENGTHS * max(squares.sum(), 1e-300)))
        wrong = ((((features[split.validation] - mean) @ weights + level).T - signs[split.validation]) ** 2).mean(1)
        out[split.test] = (features[split.test] - mean) @ weights[:, wrong.argmin()] + level
    return out


def rows(
    last: Float[np.ndarray, "example d_model"],
    gram: Float[np.ndarray, "d_model d_model"],
    concepts: ConceptSet,
    second: Float[np.ndarray, "example d_model"] | None = None,
    seeds: Sequence[int] = SEEDS,
) -> Rows:
    """Yield the held-out `accuracy` of the hidden state and of the logits, their difference, and how often both say the same.

    `rank_share` is the share of the hidden state's directions that the logits keep; at 1 they determine it. `last` is what the
    head reads at decoding step 0, the text's last token. With `second`, what it reads at step 1, at the token that the model
    said first, also the accuracy of the logits of that step, and that minus the accuracy at step 0.
    """
    weights, fold = evaluation.bootstrap_weights(concepts.groups, seed=0), np.stack([tested(concepts, seed) for seed in seeds])
    hidden, logits = (_right(features, concepts, seeds) for features in (last, logit_features(last, gram)))
    for method, right in (("hidden state", hidden), ("first-token logits", logits)):
        yield None, method, "accuracy", evaluation.mean(right.mean(0), weights)
    yield None, "logits minus hidden state", "accuracy", evaluation.paired_refit(logits, hidden, fold)
    squares = np.linalg.eigvalsh(gram)
    share = float((squares > _LOST * squares[-1]).mean())
    yield None, "first-token logits", "rank_share", Estimate(share, share, share, len(squares))
    yield None, "logits and hidden state", "agreement", evaluation.mean((logits == hidden).mean(0), weights)
    if second is not None:
        later = _right(logit_features(second, gram), concepts, seeds)
        yield None, "second-token logits", "accuracy", evaluation.mean(later.mean(0), weights)
        yield None, "second minus first token", "accuracy", evaluation.paired_refit(later, logits, fold)


def _right(features: np.ndarray, concepts: ConceptSet, seeds: Sequence[int]) -> Float[np.ndarray, "seed example"]:
    said = np.stack([held_out(features, concepts, seed) for seed in seeds])
    return ((said > 0) == (concepts.labels == 1)).astype(float)
