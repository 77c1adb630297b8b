"""Kernel dependence measures: nHSIC as the paper's code has it, debiased CKA, and the spectrum that moves them.

Rule: both measures are the sum of products of two prepared matrices, `alignment(a, b)`: of smoothers it is nHSIC, of
debiased kernels it is debiased CKA. Neither is Shannon information, and neither is in bits.

With K the centred kernel matrix of a variable and c = epsilon n, a smoother is R = K (K + c I)^-1, and
nHSIC(A; B) = tr(R_A R_B). All is computed in float64 by Cholesky factors over the examples, which is exact for every
kernel width. Where there are many examples and few features `WideSmoother` does the same over the features: in a study that
sets `mutual_information: {examples: 2000}` or more, and in the paper's whole table ("What it costs").
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import lapack, solve_triangular
from scipy.spatial.distance import squareform
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import euclidean_distances

from ...statements.texts import WORD

__all__ = [
    "SIGMA", "EPSILON", "MANY", "Matrix", "standardise", "released_kernel", "smoother", "WideSmoother", "released_smoother",
    "alignment", "nhsic_labels", "median_kernel", "text_kernel", "label_kernel", "debiased", "cka_labels", "null", "spectrum",
    "participation_ratio", "effective_rank",
]  # fmt: skip

SIGMA = 50.0
"""Kernel width of the released code (the paper's text says a grid search in [50, 400])."""
EPSILON = 1e-5
"""Regulariser of the released code."""

MANY = 2000
"""Examples from which `WideSmoother` stands for `smoother`."""

Matrix = Float[np.ndarray, "example example"]


def standardise(features: Float[np.ndarray, "example feature"]) -> Float[np.ndarray, "example feature"]:
    """Return each feature with mean 0 and standard deviation 1 in float64; a constant feature becomes 0.

    The deviation divides by n. The released code's divides by n - 1, which is a kernel wider by half of a share 1 / n.
    """
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


def smoother(kernel: Matrix) -> Matrix:
    """Return R = K (K + EPSILON n I)^-1 for the centred kernel K: symmetric, eigenvalues in [0, 1)."""
    n, rows, diagonal = len(kernel), kernel.mean(0), np.diag_indices(len(kernel))
    regular = kernel - rows - rows[:, None] + rows.mean()
    regular[diagonal] += EPSILON * n
    # K + c I is positive definite, so both steps succeed; potri inverts from the factor and fills one triangle.
    factor, _ = lapack.dpotrf(regular, lower=1)
    inverse, _ = lapack.dpotri(factor, lower=1)
    lower = np.tril(inverse) * (-EPSILON * n)
    lower[diagonal] = (lower[diagonal] + 1) / 2
    return lower + lower.T


_COLUMNS = 48  # of the kernel, at most, that `WideSmoother` looks at
_AT_ONCE = 24
_REST = 5e-4  # share of epsilon that may be left of an example's kernel with itself


class WideSmoother:
    """The smoother of a very wide Gaussian kernel as finite features: its time grows with the examples, not with their cube.

    With s = 2 sigma^2 d and g(x) = exp(-|x|^2 / s) the kernel is g(x) g(y) exp(2 x.y / s). Constant and linear term of
    that series are d + 1 features, but they alone are off by a thousandth on trained models, where a few statements lie
    far out. So columns of the remainder, those with most of it first, are added (incomplete Cholesky), and of what is then
    left the diagonal is kept. That makes the smoother R = diag(own) + M M': a number for each example, and few columns.
    Values are those of `smoother` to a few 1e-5 on trained models (see "What it costs").

    Source: Cotter et al. 2011 (Taylor features of the Gaussian kernel); Bach and Jordan 2002 (incomplete Cholesky).
    """

    def __init__(self, features: Float[np.ndarray, "example feature"]) -> None:
        """Take standardised features."""
        size, points = 2 * SIGMA**2 * features.shape[1], features.astype(np.float32)
        squares = np.einsum("ij,ij->i", features, features) / size
        near = np.exp(-squares)
        rest = -np.expm1(-2 * squares) - 2 * squares * near**2
        columns = np.empty((0, len(features)))
        while len(columns) < _COLUMNS and rest.mean() > _REST * EPSILON:
            at = np.argpartition(rest, -min(_AT_ONCE, len(rest)))[-_AT_ONCE:]
            product = (points[at] @ points.T).astype(np.float64) * (2 / size)
            column = near[at, None] * near * (np.expm1(product) - product) - columns[:, at].T @ columns
            block = column[:, at] + 1e-6 * rest.max() * np.eye(len(at))  # twins have one column between them
            new = solve_triangular(np.linalg.cholesky(block), column, lower=True, check_finite=False)
            columns, rest = np.vstack([columns, new]), np.maximum(rest - (new**2).sum(0), 0)
        points *= (near * np.sqrt(2 / size)).astype(np.float32)[:, None]
        factors = np.hstack([near[:, None] - near.mean(), points, columns.T], dtype=np.float32)
        factors -= factors.mean(0, dtype=np.float64).astype(np.float32)
        # With K = F F' + D: R = I - c (F F' + D + c I)^-1, of which the inverse is taken over the features (Woodbury).
        c = EPSILON * len(features)
        weights = (rest + c).astype(np.float32)[:, None] ** -0.5
        factors *= weights
        gram = (factors.T @ factors).astype(np.float64)
        gram[np.diag_indices(len(gram))] += 1
        factor = np.linalg.cholesky(gram).astype(np.float32)
        self.columns = weights * np.float32(c**0.5) * solve_triangular(factor, factors.T, lower=True, check_finite=False).T
        self.own = rest / (rest + c)
        self.shared = np.einsum("ij,ij->i", self.columns, self.columns).astype(np.float64)

    def alignment(self, other: "WideSmoother", order: Int[np.ndarray, " example"] | None = None) -> float:
        """Return tr(R_A R_B), nHSIC of the two; the examples of A may change places first."""
        columns, own, shared = (a if order is None else a[order] for a in (self.columns, self.own, self.shared))
        product = (columns.T @ other.columns).astype(np.float64)  # a long sum in float32 is off by 1e-5
        return float(own @ other.own + own @ other.shared + shared @ other.own + np.vdot(product, product))

    def quadratic(self, u: Float[np.ndarray, "*draw example"]) -> Float[np.ndarray, "*draw"] | np.floating:
        """Return u' R u."""
        return (u**2) @ self.own + ((u @ self.columns) ** 2).sum(-1)


def released_smoother(features: Float[np.ndarray, "example feature"]) -> Matrix | WideSmoother:
    """Return the smoother of the released kernel on features as they come, in the form that costs less."""
    scaled = standardise(features)
    if len(scaled) >= max(MANY, 2 * scaled.shape[1]):
        return WideSmoother(scaled)
    return smoother(released_kernel(scaled))


def alignment(a: Matrix | WideSmoother, b: Matrix | WideSmoother) -> float:
    """Return tr(A B): nHSIC of two smoothers, debiased CKA of two debiased kernels.

    Source: nHSIC is the released code's measure (the paper's appendix E prints the unnormalised one).
    """
    return a.alignment(b) if isinstance(a, WideSmoother) else float(np.vdot(a, b))


def nhsic_labels(t: Matrix | WideSmoother, labels: Int[np.ndarray, "*draw example"]) -> Float[np.ndarray, "*draw"] | np.floating:
    """Return nHSIC(T; Y) of a smoother with binary labels, or with each row of several.

    The centred kernel of binary labels has rank one, so one quadratic form is enough.
    """
    u = labels - labels.mean(-1, keepdims=True)
    norm = (u**2).sum(-1)
    # K_Y takes two values, 1 and exp(-1 / (2 SIGMA^2)); centred, it is (1 - exp(...)) * 2 u u'.
    eigenvalue = -2 * np.expm1(-1 / (2 * SIGMA**2)) * norm
    within = t.quadratic(u) if isinstance(t, WideSmoother) else ((u @ t) * u).sum(-1)
    return eigenvalue / (eigenvalue + EPSILON * labels.shape[-1]) * within / norm


def median_kernel(features: Float[np.ndarray, "example feature"]) -> Matrix:
    """Return the Gaussian kernel whose width is the median distance between examples.

    Its power 1 / f^2 is the kernel of f times that width.
    """
    squares = euclidean_distances(features.astype(np.float64), squared=True)
    middle = np.median(squareform(squares, checks=False))
    return np.exp(squares / (-2 * max(middle, np.finfo(float).tiny)))


def text_kernel(statements: Sequence[str]) -> Matrix:
    """Return the cosine kernel of the statements' word 1-2-grams (tf-idf): an X that no checkpoint can change."""
    features = TfidfVectorizer(ngram_range=(1, 2), token_pattern=WORD).fit_transform(statements)
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


def null(
    a: Matrix | WideSmoother, others: Sequence[Matrix | WideSmoother], orders: Int[np.ndarray, "draw example"]
) -> Float[np.ndarray, "other draw"]:
    """Return the alignment of A with each of several matrices when the examples of A change places, once a draw.

    In float32: a value drawn by chance needs no more.
    """
    if isinstance(a, WideSmoother):
        return np.array([[a.alignment(other, order) for order in orders] for other in others])
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
