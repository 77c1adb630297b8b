"""Dependence between activations T, inputs X and labels Y: nHSIC as the paper's code has it, and readable measures.

Rule: nHSIC is a kernel dependence measure, neither Shannon information nor in bits, and its value depends on the
number of statements; only `usable_information` is in bits.

With K the centred kernel matrix of a variable and c = epsilon n, let R = K (K + c I)^-1. Then
nHSIC(A; B) = tr(R_A R_B). All is computed in float64 by Cholesky factors; no matrix is inverted.

Public names: `released`, `readable`, `usable_information`, and what they are made of: `standardise`,
`released_kernel`, `smoother`, `nhsic`, `nhsic_labels`, `nhsic_floor`, `nhsic_labels_floor`, `text_kernel`, `median_kernel`,
`debiased_cka`, `participation_ratio`.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial.distance import pdist, squareform
from sklearn.feature_extraction.text import TfidfVectorizer

from . import controls, evaluation, probing
from .concepts import ConceptSet

SIGMA = 50.0
"""Kernel width of the released code (the paper's text says a grid search in [50, 400])."""
EPSILON = 1e-5
"""Regulariser of the released code."""

Matrix = Float[np.ndarray, "example example"]


def standardise(features: Float[np.ndarray, "example feature"]) -> Float[np.ndarray, "example feature"]:
    """Return each feature with mean 0 and standard deviation 1 in float64; a constant feature becomes 0."""
    features = features.astype(np.float64)
    spread = features.std(0)
    return (features - features.mean(0)) / np.where(spread > 0, spread, 1)


def released_kernel(features: Float[np.ndarray, "example feature"], sigma: float = SIGMA) -> Matrix:
    """Return the Gaussian kernel of the released code, `exp(-||x - y||^2 / (2 sigma^2 d))`.

    The division by the number of features d is in the code and not in the paper's text; on standardised
    features it makes the exponent about -1 / sigma^2, so the kernel is nearly linear.
    """
    squares = pdist(features, "sqeuclidean")
    return squareform(np.expm1(-squares / (2 * sigma**2 * features.shape[1]))) + 1.0


def _centred(kernel: Matrix) -> Matrix:
    rows = kernel.mean(0)
    return kernel - rows - rows[:, None] + rows.mean()


def smoother(kernel: Matrix, epsilon: float = EPSILON) -> Matrix:
    """Return R = K (K + epsilon n I)^-1 for the centred kernel K: symmetric, eigenvalues in [0, 1)."""
    c = epsilon * len(kernel)
    regular = _centred(kernel)
    regular[np.diag_indices(len(kernel))] += c
    inverse = cho_solve(cho_factor(regular, lower=True), np.eye(len(kernel)))
    return np.eye(len(kernel)) - c * (inverse + inverse.T) / 2


def nhsic(a: Matrix, b: Matrix) -> float:
    """Return nHSIC = tr(R_A R_B) of two smoothers.

    Source: the released code's normalised HSIC (paper, appendix E prints the unnormalised one).
    """
    return float((a * b).sum())


def nhsic_labels(
    t: Matrix, labels: Int[np.ndarray, "*draw example"], sigma: float = SIGMA, epsilon: float = EPSILON
) -> Float[np.ndarray, "*draw"] | np.floating:
    """Return nHSIC(T; Y) for binary labels, or for each row of several.

    The centred kernel of binary labels has rank one, so one quadratic form is enough.
    """
    u = labels - labels.mean(-1, keepdims=True)
    norm = (u**2).sum(-1)
    # K_Y takes two values, 1 and exp(-1 / (2 sigma^2)); centred, it is (1 - exp(...)) * 2 u u'.
    eigenvalue = -2 * np.expm1(-1 / (2 * sigma**2)) * norm
    return eigenvalue / (eigenvalue + epsilon * labels.shape[-1]) * ((u @ t) * u).sum(-1) / norm


def nhsic_floor(a: Matrix, b: Matrix, seed: int, draws: int = 50) -> evaluation.Estimate:
    """Return mean and 95 % range of nHSIC(A; B) when the examples of A are shuffled: its value when nothing is shared."""
    rng = np.random.default_rng(seed)
    orders = (rng.permutation(len(a)) for _ in range(draws))
    drawn = np.array([nhsic(a[np.ix_(order, order)], b) for order in orders])
    low, high = np.quantile(drawn, [0.025, 0.975])
    return evaluation.Estimate(float(drawn.mean()), float(low), float(high), len(a))


def nhsic_labels_floor(t: Matrix, shuffled: Int[np.ndarray, "draw example"]) -> evaluation.Estimate:
    """Return mean and 95 % range of nHSIC(T; Y) over shuffled labels: its value when T says nothing of Y."""
    drawn = nhsic_labels(t, shuffled)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return evaluation.Estimate(float(drawn.mean()), float(low), float(high), len(t))


def _halves(groups: Sequence[str], seed: int = 0, draws: int = 20) -> list[Int[np.ndarray, " half"]]:
    """Return the indices of random halves of the groups."""
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(draws):
        kept = np.zeros(len(names), dtype=bool)
        kept[rng.permutation(len(names))[: len(names) // 2]] = True
        out.append(np.flatnonzero(kept[index]))
    return out


def _interval(value: float, halves: Sequence[float] | Float[np.ndarray, " half"], n: int) -> evaluation.Estimate:
    """Return `value` with a 95 % interval from the spread over half-samples.

    The spread over halves estimates the standard error at full size (delete-half jackknife, Shao and Tu 1995). A
    bootstrap would not do: repeated rows raise a kernel statistic.
    """
    error = float(np.std(halves, ddof=1))
    return evaluation.Estimate(float(value), float(value - 1.96 * error), float(value + 1.96 * error), n)


Rows = Iterator[tuple[int, str, str, evaluation.Estimate]]


def released(acts: Float[np.ndarray, "example layer d_model"], concepts: ConceptSet) -> Rows:
    """Yield (layer, method, metric, estimate) of nHSIC as the released code computes it, and of its shuffled controls.

    X is the output of block 0 of the same checkpoint. Methods are `released` and `shuffled`, metrics `nhsic_tx` and
    `nhsic_ty`. Deviation: the released code standardises over all rows and computes on the first 80 %; here both are
    done on the statements given.
    """

    def smoothers(rows: np.ndarray) -> list[Matrix]:
        return [smoother(released_kernel(standardise(acts[rows, layer]))) for layer in range(acts.shape[1])]

    whole, labels = smoothers(np.arange(len(concepts))), concepts.labels
    halves = _halves(concepts.groups)
    shuffled = np.stack([controls.shuffled_labels(concepts, seed) for seed in range(200)])
    tx, ty = np.empty((2, len(halves), len(whole)))
    for draw, rows in enumerate(halves):
        parts = smoothers(rows)
        tx[draw] = [nhsic(parts[0], t) for t in parts]
        ty[draw] = [nhsic_labels(t, labels[rows]) for t in parts]
    for layer, t in enumerate(whole):
        yield layer, "released", "nhsic_tx", _interval(nhsic(whole[0], t), tx[:, layer], len(labels))
        yield layer, "released", "nhsic_ty", _interval(nhsic_labels(t, labels), ty[:, layer], len(labels))
        yield layer, "shuffled", "nhsic_tx", nhsic_floor(whole[0], t, seed=0)
        yield layer, "shuffled", "nhsic_ty", nhsic_labels_floor(t, shuffled)


def readable(acts: Float[np.ndarray, "example layer d_model"], concepts: ConceptSet) -> Rows:
    """Yield (layer, method, metric, estimate) of the participation ratio and of debiased CKA to the word n-grams."""
    text, halves = text_kernel(concepts.statements), _halves(concepts.groups)
    for layer in range(acts.shape[1]):
        kernel, standard = median_kernel(acts[:, layer]), standardise(acts[:, layer])
        ratios = [participation_ratio(standard[rows]) for rows in halves]
        yield layer, "covariance", "participation_ratio", _interval(participation_ratio(standard), ratios, len(concepts))
        similar = [debiased_cka(text[np.ix_(rows, rows)], kernel[np.ix_(rows, rows)]) for rows in halves]
        yield layer, "debiased", "cka", _interval(debiased_cka(text, kernel), similar, len(concepts))


def median_kernel(features: Float[np.ndarray, "example feature"]) -> Matrix:
    """Return the Gaussian kernel whose width is the median distance between examples."""
    squares = pdist(features, "sqeuclidean")
    return squareform(np.exp(-squares / (2 * max(np.median(squares), np.finfo(float).tiny)))) + np.eye(len(features))


def text_kernel(statements: Sequence[str]) -> Matrix:
    """Return the cosine kernel of the statements' word 1-2-grams (tf-idf): an X that no checkpoint can change."""
    features = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b").fit_transform(statements)
    return (features @ features.T).toarray()


def _unbiased_hsic(k: Matrix, l: Matrix) -> float:  # noqa: E741 - K and L are the literature's names
    """Return the U-statistic of HSIC (Song et al. 2012); both matrices have a zero diagonal."""
    n = len(k)
    cross = (k * l).sum()
    sums = k.sum() * l.sum() / ((n - 1) * (n - 2))
    rows = 2 * (k.sum(0) @ l.sum(0)) / (n - 2)
    return float((cross + sums - rows) / (n * (n - 3)))


def debiased_cka(k: Matrix, l: Matrix) -> float:  # noqa: E741
    """Return debiased CKA of two kernel matrices: about 0 for unrelated data at any n and width, 1 for equal kernels.

    Source: Song et al. 2012 for the estimator; Murphy et al. 2024 for why the biased one misleads when there
    are more features than examples.
    """
    k, l = k.copy(), l.copy()  # noqa: E741
    np.fill_diagonal(k, 0)
    np.fill_diagonal(l, 0)
    return _unbiased_hsic(k, l) / np.sqrt(_unbiased_hsic(k, k) * _unbiased_hsic(l, l))


def participation_ratio(features: Float[np.ndarray, "example feature"]) -> float:
    """Return (sum of eigenvalues)^2 / sum of squares of the covariance: how many directions carry the variance."""
    centred = features - features.mean(0)
    gram = centred.T @ centred if centred.shape[0] > centred.shape[1] else centred @ centred.T
    return float(np.trace(gram) ** 2 / (gram**2).sum())


def usable_information(
    logits: Float[np.ndarray, "seed example"], labels: Int[np.ndarray, " example"], groups: Sequence[str]
) -> evaluation.Estimate:
    """Return H(Y) minus the held-out cross-entropy of the probe, in bits: a lower bound on I(T; Y).

    Negative where the probe does worse than always saying the base rate.

    Source: Barber and Agakov 2003; Xu et al. 2020 (linear V-information).
    """
    share = labels.mean()
    entropy = -(share * np.log2(share) + (1 - share) * np.log2(1 - share))
    loss = probing.log_loss(logits, np.broadcast_to(labels, logits.shape)).mean(0)
    return evaluation.mean(entropy - loss, evaluation.bootstrap_weights(groups, seed=0))
