"""Information about binary labels in bits: three estimates that are each what their name says.

Rule: `usable_information` and `fano_bound` bound I(T; Y) from below, the first for linear readers; `ksg` estimates the
information of a few principal components, and may fall below 0 by chance.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.spatial import cKDTree
from scipy.special import digamma, expit, logit, softmax
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ...core import evaluation
from ...statements.concepts import ConceptSet
from ..intervals import from_halves
from ..probing import probes

__all__ = [
    "COMPONENTS", "HALVES", "NEIGHBOURS", "calibrated", "entropy", "fano_bound", "ksg", "ksg_terms", "usable_information",
]  # fmt: skip

COMPONENTS = 3
"""Principal components `ksg` looks at; nearest neighbours tell nothing in many dimensions."""
NEIGHBOURS = 5
"""Which nearest neighbour `ksg` takes; fewer: less bias, more noise."""

HALVES = 20
"""Random half-samples behind an interval."""


def entropy(share: float) -> float:
    """Return the entropy of a binary variable, in bits."""
    return -sum(p * np.log2(p) for p in (share, 1 - share) if p > 0)


def calibrated(logits: Float[np.ndarray, " example"], concepts: ConceptSet, seed: int) -> Float[np.ndarray, " example"]:
    """Return held-out logits made honest: by readers of a logit that are fitted, for each tenth of the groups, on the others.

    A probe that is sure beyond its right loses bits that its direction holds, on a few statements that lie far out. One
    reader knows the base rate alone. One knows how often a side of 0 is right, which is all that Fano's bound says. The third
    goes, from statement to statement, by a slope and an offset, by the rate of label 1 on each side, or by the base rate, which
    bounds what a statement costs. A reader weighs the more, the likelier it makes the labels that it was fitted on.
    The parts are not the folds of the probe: with few groups one fold's probe errs far more often than the others', whose
    rate would be taken for its own.

    Source: Platt 1999 for the slope, which may not be negative: a probe that errs on purpose is not to be turned round. The
    mixture is fitted by expectation maximisation (Dempster et al. 1977); the weights are Bayes' rule with equal priors.
    """
    out, groups = np.empty(len(logits)), concepts.group_numbers
    order = np.random.default_rng(seed).permutation(groups.max() + 1)
    share = np.bincount(groups, concepts.labels) / np.bincount(groups)
    order = order[np.argsort(share[order], kind="stable")]  # dealt out, so that each part has as many of either label
    for part in range(_PARTS):
        asked = np.isin(groups, order[part::_PARTS])
        out[asked] = logit(_read(logits[~asked], concepts.labels[~asked], logits[asked]))
    return out


_PARTS = 10
_ROUNDS = 3  # of the mixture; five more change the bits by .0002 on average


def _read(known: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return the probability of label 1 at the logits asked for, by the readers fitted to the known ones."""
    every, n = np.concatenate([known, asked]), len(known)
    right = max(0.5, (((known > 0) == (labels == 1)).sum() + 1) / (n + 2))
    base = np.full(len(every), (labels.sum() + 1) / (n + 2))
    ones = np.stack([base, np.where(every > 0, right, 1 - right), _mixture(known, labels, every, base)])
    fit = np.log(np.where(labels == 1, ones[:, :n], 1 - ones[:, :n])).sum(1, keepdims=True)
    return (softmax(fit, axis=0) * ones).sum(0)[n:]


def _mixture(known: np.ndarray, labels: np.ndarray, every: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Return the probability of label 1 at every logit, the known ones first, by a mixture of three fitted to those."""
    n, above = len(known), known > 0
    side = [(labels[rows].sum() + 2 * base[0]) / (rows.sum() + 2) for rows in (above, ~above)]
    if side[0] < side[1]:  # as with the slope
        side = [base[0], base[0]]
    ones = np.stack([base, np.where(every > 0, *side), base])
    share, weight = np.full((3, 1), 1 / 3), np.ones(n)
    for _ in range(_ROUNDS):
        slope, offset = _scaling(known, labels, weight)
        ones[0] = expit(slope * every + offset)
        for _ in range(20):
            right = share * np.where(labels == 1, ones[:, :n], 1 - ones[:, :n])
            belongs = right / right.sum(0)
            share = belongs.mean(1, keepdims=True)
        weight = belongs[0]
    return (share * ones).sum(0)


def _scaling(logits: np.ndarray, labels: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return slope (0 to 10) and offset with the least weighted cross-entropy."""
    data = (np.stack([logits, np.ones(len(logits))]), 2 * labels - 1, weight)
    start, bounds = np.array([1.0, 0.0]), [(0, 10), (-10, 10)]
    return minimize(_cross_entropy, start, data, jac=True, method="L-BFGS-B", bounds=bounds).x


def _cross_entropy(parameters: np.ndarray, design: np.ndarray, signs: np.ndarray, weight: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the weighted cross-entropy and its gradient."""
    margins = signs * (parameters @ design)
    return (weight * np.logaddexp(0, -margins)).mean(), -(weight * design * signs * expit(-margins)).mean(1)


def usable_information(
    logits: Float[np.ndarray, "seed example"], labels: Int[np.ndarray, " example"], groups: Sequence[str]
) -> evaluation.Estimate:
    """Return H(Y) minus the held-out cross-entropy of the probe, in bits: a lower bound on I(T; Y).

    Negative where the probe does worse than always saying the base rate.

    Source: Barber and Agakov 2003; Xu et al. 2020 (linear V-information).
    """
    loss = probes.log_loss(logits, np.broadcast_to(labels, logits.shape)).mean(0)
    return evaluation.mean(entropy(labels.mean()) - loss, evaluation.bootstrap_weights(groups, seed=0))


def fano_bound(accuracy: evaluation.Estimate, labels: Int[np.ndarray, " example"]) -> evaluation.Estimate:
    """Return Fano's lower bound on I(T; Y) that a reader's accuracy implies, in bits.

    For binary labels it is H(Y) - h(error), h the binary entropy, and 0 where that is negative or the reader is no
    better than a coin. It rises with the accuracy, so the ends of one interval are those of the other.

    Source: Fano 1961.
    """
    whole = entropy(labels.mean())
    value, low, high = (max(0.0, whole - entropy(min(1 - share, 0.5))) for share in (accuracy.value, accuracy.low, accuracy.high))
    return evaluation.Estimate(value, low, high, accuracy.n)


def ksg_terms(
    points: Float[np.ndarray, "example coordinate"], labels: Int[np.ndarray, " example"], neighbours: int = NEIGHBOURS
) -> Float[np.ndarray, " example"]:
    """Return each example's term of the nearest-neighbour estimate of I(points; labels) in bits; the estimate is their mean.

    The distance to the k-th neighbour of the same label is compared with how many examples of any label lie within it.
    Assumes independent examples. An example alone with its label adds 0.

    Source: Ross 2014 (Kraskov et al. 2004 for a discrete variable), in the maximum norm.
    """
    everything, terms = cKDTree(points), np.zeros(len(labels))
    for label in np.unique(labels):
        same = np.flatnonzero(labels == label)
        k = min(neighbours, len(same) - 1)
        if k > 0:
            distances, _ = cKDTree(points[same]).query(points[same], [k + 1], p=np.inf)  # the first neighbour is the point itself
            inside = np.nextafter(distances[:, 0], 0)
            count = everything.query_ball_point(points[same], inside, p=np.inf, return_length=True)
            terms[same] = digamma(len(labels)) + digamma(k) - digamma(len(same)) - digamma(count.clip(min=k))
    return terms / np.log(2)


def _one_a_group(concepts: ConceptSet) -> list[np.ndarray]:
    """Return two halves of the groups, one statement drawn from each group, labels spread evenly."""
    order = np.random.default_rng(0).permutation(len(concepts))
    _, first = np.unique(concepts.group_numbers[order], return_index=True)
    drawn = order[np.sort(first)]  # in random order still
    by_label = drawn[np.argsort(concepts.labels[drawn], kind="stable")]
    return [by_label[::2], by_label[1::2]]


def ksg(features: Float[np.ndarray, "example feature"], concepts: ConceptSet) -> evaluation.Estimate:
    """Return the nearest-neighbour estimate of I(T; Y) in bits, on the first principal components of T.

    Two halves of the groups take turns: one gives the components, in which the other is measured. One statement a group
    is kept: twins are each other's nearest neighbours, and the estimate assumes independent examples. The interval comes
    from half-samples of both; a bootstrap would put examples on top of each other.
    """
    halves, rng = _one_a_group(concepts), np.random.default_rng(0)
    parts = [(_components(features[fit], features[rest]), concepts.labels[rest]) for fit, rest in (halves, halves[::-1])]
    drawn = []
    for _ in range(HALVES):
        rows = [rng.permutation(len(labels))[: len(labels) // 2] for _, labels in parts]
        drawn.append(_mean_term([(points[r], labels[r]) for (points, labels), r in zip(parts, rows, strict=True)]))
    return from_halves(_mean_term(parts), drawn, sum(map(len, halves)))


def _components(fit: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Return the first principal components of `rest` along the directions of `fit`, each with unit variance there."""
    axes = PCA(min(COMPONENTS, *fit.shape), whiten=True, svd_solver="full")
    return make_pipeline(StandardScaler(), axes).fit(fit).transform(rest).astype(np.float64)


def _mean_term(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    return float(np.concatenate([ksg_terms(points, labels) for points, labels in parts]).mean())
