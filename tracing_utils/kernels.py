"""Kernel dependence measures: nHSIC as the paper's code has it, debiased CKA, and the spectrum that moves them.

Rule: both measures are the sum of products of two prepared matrices, `alignment(a, b)`: of smoothers it is nHSIC, of
debiased kernels it is debiased CKA. Neither is Shannon information, and neither is in bits.

With K the centred kernel matrix of a variable and c = epsilon n, a smoother is R = K (K + c I)^-1, and
nHSIC(A; B) = tr(R_A R_B). All is computed in float64 by Cholesky factors over the examples, which is exact for every
kernel width; the linear map that a very wide kernel comes close to (see `SIGMA`) is not used.

Public names: `SIGMA`, `EPSILON`, `standardise`, `released_kernel`, `smoother`, `alignment`, `nhsic_labels`,
`median_kernel`, `text_kernel`, `label_kernel`, `debiased`, `cka_labels`, `null`, `spectrum`, `participation_ratio`,
`effective_rank`.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import lapack
from scipy.spatial.distance import squareform
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import euclidean_distances

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
    squares = euclidean_distances(features, squared=True)
    return np.expm1(squares / (-2 * sigma**2 * features.shape[1])) + 1.0


def smoother(kernel: Matrix, epsilon: float = EPSILON) -> Matrix:
    """Return R = K (K + epsilon n I)^-1 for the centred kernel K: symmetric, eigenvalues in [0, 1)."""
    n, rows, diagonal = len(kernel), kernel.mean(0), np.diag_indices(len(kernel))
    regular = kernel - rows - rows[:, None] + rows.mean()
    regular[diagonal] += epsilon * n
    # K + c I is positive definite, so both steps succeed; potri inverts from the factor and fills one triangle.
    factor, _ = lapack.dpotrf(regular, lower=1)
    inverse, _ = lapack.dpotri(factor, lower=1)
    lower = np.tril(inverse) * (-epsilon * n)
    lower[diagonal] = (lower[diagonal] + 1) / 2
    return lower + lower.T


def alignment(a: Matrix, b: Matrix) -> float:
    """Return tr(A B): nHSIC of two smoothers, debiased CKA of two debiased kernels.

    Source: nHSIC is the released code's measure (the paper's appendix E prints the unnormalised one).
    """
    return float(np.vdot(a, b))


def nhsic_labels(
    t: Matrix, labels: Int[np.ndarray, "*draw example"], sigma: float = SIGMA, epsilon: float = EPSILON
) -> Float[np.ndarray, "*draw"] | np.floating:
    """Return nHSIC(T; Y) of a smoother with binary labels, or with each row of several.

    The centred kernel of binary labels has rank one, so one quadratic form is enough.
    """
    u = labels - labels.mean(-1, keepdims=True)
    norm = (u**2).sum(-1)
    # K_Y takes two values, 1 and exp(-1 / (2 sigma^2)); centred, it is (1 - exp(...)) * 2 u u'.
    eigenvalue = -2 * np.expm1(-1 / (2 * sigma**2)) * norm
    return eigenvalue / (eigenvalue + epsilon * labels.shape[-1]) * ((u @ t) * u).sum(-1) / norm


def median_kernel(features: Float[np.ndarray, "example feature"]) -> Matrix:
    """Return the Gaussian kernel whose width is the median distance between examples.

    Its power 1 / f^2 is the kernel of f times that width.
    """
    squares = euclidean_distances(features.astype(np.float64), squared=True)
    middle = np.median(squareform(squares, checks=False))
    return np.exp(squares / (-2 * max(middle, np.finfo(float).tiny)))


def text_kernel(statements: Sequence[str]) -> Matrix:
    """Return the cosine kernel of the statements' word 1-2-grams (tf-idf): an X that no checkpoint can change."""
    features = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b").fit_transform(statements)
    return (features @ features.T).toarray()


def label_kernel(labels: Int[np.ndarray, " example"]) -> Matrix:
    """Return 1 for equal and 0 for different labels; debiased, every kernel of binary labels becomes this one."""
    return (labels[:, None] == labels).astype(np.float64)


def debiased(kernel: Matrix) -> Matrix:
    """Return the U-centred kernel, scaled so that the sum of its squares is 1.

    The alignment of two such matrices is debiased CKA: about 0 for unrelated data at any n and width, 1 for equal kernels.

    Source: Song et al. 2012 for the unbiased HSIC, Szekely and Rizzo 2014 for its form as an inner product of U-centred
    matrices; Murphy et al. 2024 for why the biased CKA misleads when there are more features than examples.
    """
    n = len(kernel)
    centred = kernel.copy()
    np.fill_diagonal(centred, 0)
    rows = centred.sum(0) / (n - 2)
    centred += rows.sum() / (n - 1) - rows - rows[:, None]
    np.fill_diagonal(centred, 0)
    return centred / max(float(np.linalg.norm(centred)), np.finfo(float).tiny)


def cka_labels(t: Matrix, labels: Int[np.ndarray, "draw example"]) -> Float[np.ndarray, " draw"]:
    """Return debiased CKA of a debiased kernel with each row of labels, all of one balance, by a quadratic form.

    T is U-centred, so it does not see what U-centring takes from the label kernel (1 + u u') / 2, u = +-1.
    """
    u = 2.0 * labels - 1
    first = label_kernel(labels[0])
    scale = alignment(debiased(first), first)  # the norm of the U-centred label kernel
    return ((u @ t) * u).sum(-1) / (2 * scale)


def null(a: Matrix, others: Sequence[Matrix], orders: Int[np.ndarray, "draw example"]) -> Float[np.ndarray, "other draw"]:
    """Return the alignment of A with each of several matrices when the examples of A change places, once a draw.

    In float32: a value drawn by chance needs no more.
    """
    a = a.astype(np.float32)
    flat = np.stack([other.astype(np.float32).ravel() for other in others])
    return np.stack([flat @ np.take(a[order], order, axis=1).ravel() for order in orders], axis=1).astype(np.float64)


def spectrum(features: Float[np.ndarray, "example feature"]) -> Float[np.ndarray, " direction"]:
    """Return the shares of the variance that the principal components hold, in rising order."""
    centred = features - features.mean(0)
    gram = centred.T @ centred if centred.shape[0] > centred.shape[1] else centred @ centred.T
    values = np.linalg.eigvalsh(gram).clip(min=0)
    return values / max(values.sum(), np.finfo(float).tiny)


def participation_ratio(shares: Float[np.ndarray, " direction"]) -> float:
    """Return 1 / sum of squared shares of the variance: how many directions carry it."""
    return float(1 / max((shares**2).sum(), np.finfo(float).tiny))


def effective_rank(shares: Float[np.ndarray, " direction"]) -> float:
    """Return exp of the entropy of the shares of the variance: a count of directions that small ones raise too.

    Source: Roy and Vetterli 2007.
    """
    held = shares[shares > 0]
    return float(np.exp(-(held * np.log(held)).sum()))
