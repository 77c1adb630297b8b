"""Linear probes: how well a hyperplane in the activations of one layer tells the two sides apart.

Rule: standardisation and fit see the training part alone, penalty, threshold and layer are chosen on the validation
part, and a score is only ever given to a statement that neither has seen. `released` alone breaks this rule, on
purpose: it is what the paper's code does.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from ...core import evaluation
from ...statements.concepts import ConceptSet, Split, folds, tested
from ..tables import Acts, Rows

__all__ = [
    "PENALTIES", "STRENGTHS", "METHODS", "Probe", "HeldOut", "Traced", "log_loss", "held_out", "held_out_logits", "trace",
    "scores", "released", "released_by_group", "protocols", "Basis", "fit_logistic", "fit_chosen",
]  # fmt: skip

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse penalties C the validation part may choose from; C = 1, the default of the released code, overfits."""

STRENGTHS = (1.0, 1e1, 1e2, 1e3, 1e4, 1e5)
"""Ridge penalties the validation part may choose from."""

METHODS = ("logistic", "ridge", "mean difference", "whitened mean difference")
"""The probes. All but the first are closed forms; their slope and threshold come from the validation part."""

_TOLERANCE = 1e-7  # Newton decrement per statement, in nats
_CALIBRATION = 100.0  # inverse penalty of a slope, for the case that the validation part is told apart without error


@dataclass(frozen=True)
class Probe:
    """A direction in raw-activation coordinates and a bias; a positive logit says "trustworthy"."""

    weight: Float[np.ndarray, " feature"]
    bias: float

    def logits(self, features: Float[np.ndarray, "example feature"]) -> Float[np.ndarray, " example"]:
        """Return the logit of each example."""
        return features @ self.weight + self.bias


@dataclass(frozen=True)
class HeldOut:
    """What one probe says of every statement when its group is left out of the fit.

    Attributes:
        logits: of each statement, by the probe of the fold that tests it.
        losses: log-loss on each fold's validation part, with the penalty chosen there (bits).
        probes: the probe of each fold.
    """

    logits: Float[np.ndarray, " example"]
    losses: Float[np.ndarray, " fold"]
    probes: tuple[Probe, ...]


def log_loss(logits: Float[np.ndarray, "*shape"], labels: Int[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Return the cross-entropy of each prediction, in bits."""
    return np.logaddexp(0, np.where(labels == 1, -logits, logits)) / np.log(2)


class Basis:
    """The principal axes of standardised training features; one factorisation serves every probe and penalty.

    An L2-penalised probe does not change when its features are rotated, and on the principal axes the normal
    equations are diagonal.
    """

    def __init__(self, train: Float[np.ndarray, "example feature"]) -> None:
        """Standardise and factor `train`; a feature that never changes becomes 0."""
        train = train.astype(np.float64)
        self.mean, spread = train.mean(0), train.std(0)
        self.spread = np.where(spread > 1e-12, spread, 1)
        scaled = (train - self.mean) / self.spread
        if scaled.shape[1] <= len(scaled):
            squares, self.axes = np.linalg.eigh(scaled.T @ scaled)
        else:  # fewer statements than features: the axes that the statements span
            squares, sides = np.linalg.eigh(scaled @ scaled.T)
            spanned = squares > 1e-10 * squares[-1]
            squares, self.axes = squares[spanned], scaled.T @ (sides[:, spanned] / np.sqrt(squares[spanned]))
        self.squares = np.maximum(squares, 0)
        self.train = scaled @ self.axes

    def coordinates(self, features: Float[np.ndarray, "example feature"]) -> Float[np.ndarray, "example axis"]:
        """Return standardised features on the principal axes."""
        return ((features - self.mean) / self.spread) @ self.axes

    def probe(self, weight: Float[np.ndarray, " axis"], bias: float) -> Probe:
        """Return the probe with these weights in raw-activation coordinates."""
        raw = (self.axes @ weight) / self.spread
        return Probe(raw, float(bias - self.mean @ raw))


def fit_logistic(
    z: Float[np.ndarray, "example axis"], labels: Int[np.ndarray, "example fit"], penalty: Float[np.ndarray, "axis fit"]
) -> tuple[Float[np.ndarray, "axis fit"], Float[np.ndarray, " fit"]]:
    """Return weights and biases of many penalised logistic regressions on the same features.

    All fits take their Newton steps together, each step solved by conjugate gradients. The optimum is scikit-learn's
    `LogisticRegression(C=1 / penalty)`, to about three digits of a logit; the bias is not penalised. An example whose
    label is -1 takes no part in that column's fit.
    """
    counts = (labels >= 0).astype(float)
    z = np.hstack([z, np.ones((len(z), 1))])
    penalty = np.vstack([penalty, np.zeros(penalty.shape[1])])
    squares = (z**2).sum(0)[:, None]
    weights, active = np.zeros(penalty.shape), np.arange(penalty.shape[1])
    margins, rough = np.zeros(labels.shape), z.astype(np.float32)  # a step need not be exact, its gradient must
    p, before = _objective(margins, labels, counts, weights, penalty)
    for _ in range(50):
        w, y, l2, count, m = (array[:, active] for array in (weights, labels, penalty, counts, margins))
        gradient, curve = z.T @ (count * (p - y)) + l2 * w, count * p * (1 - p)
        step = _conjugate_gradients(rough, curve, l2, gradient, curve.mean(0) * squares + l2 + 1e-9)
        moved, scale = z @ step, np.ones(len(active))
        for _ in range(10):  # a full step may go too far where the logits are large
            p, after = _objective(m - scale * moved, y, count, w - scale * step, l2)
            if not (worse := after > before + 1e-9).any():
                break
            scale[worse] /= 2
        weights[:, active], margins[:, active] = w - scale * step, m - scale * moved
        going = (gradient * step).sum(0) > _TOLERANCE * len(z)
        active, p, before = active[going], p[:, going], after[going]
        if not len(active):
            break
    return weights[:-1], weights[-1]


def _objective(
    margins: np.ndarray, labels: np.ndarray, counts: np.ndarray, weights: np.ndarray, penalty: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of label 1 of each example, and the penalised loss of each fit."""
    small = np.exp(-np.abs(margins))
    p = np.where(margins >= 0, 1, small) / (1 + small)
    loss = np.log1p(small) + np.maximum(margins, 0) - labels * margins
    return p, (counts * loss).sum(0) + (penalty * weights**2).sum(0) / 2


def _conjugate_gradients(
    z: np.ndarray, curve: np.ndarray, penalty: np.ndarray, gradient: np.ndarray, diagonal: np.ndarray
) -> np.ndarray:
    """Solve (z' diag(curve) z + diag(penalty)) step = gradient for each column, preconditioned by `diagonal`."""
    curve, penalty, gradient, diagonal = (array.astype(z.dtype) for array in (curve, penalty, gradient, diagonal))
    step, rest = np.zeros_like(gradient), gradient.copy()
    ahead = rest / diagonal
    direction, size = ahead, (rest * ahead).sum(0)
    enough = 1e-4 * size
    for _ in range(30):
        with np.errstate(invalid="ignore"):  # OpenBLAS at times raises the flag for lanes that it does not return
            product = z.T @ (curve * (z @ direction)) + penalty * direction
        if not np.isfinite(product).all():
            raise FloatingPointError("A probe cannot be fitted: its Newton step is not finite.")
        length = size / np.maximum((direction * product).sum(0), 1e-30)
        step, rest = step + length * direction, rest - length * product
        ahead = rest / diagonal
        before, size = size, (rest * ahead).sum(0)
        if (size <= enough).all():
            break
        direction = ahead + size / np.maximum(before, 1e-30) * direction
    return step


def _calibrate(scores: Float[np.ndarray, "probe example"], labels: Int[np.ndarray, " example"]) -> np.ndarray:
    """Return slope and bias of each row of scores: one-dimensional logistic regressions, by Newton's method."""
    slope, bias = np.zeros((2, len(scores)))
    for _ in range(30):
        p = expit(slope[:, None] * scores + bias[:, None])
        error, curve = p - labels, p * (1 - p) + 1e-9
        g = np.stack([(error * scores).sum(1) + slope / _CALIBRATION, error.sum(1)])
        a, b, c = (curve * scores**2).sum(1) + 1 / _CALIBRATION, (curve * scores).sum(1), curve.sum(1)
        step = np.stack([c * g[0] - b * g[1], a * g[1] - b * g[0]]) / (a * c - b**2)
        step = np.clip(step, -2, 2)
        slope, bias = slope - step[0], bias - step[1]
        if np.abs(step).max() < 1e-6:
            break
    return np.stack([slope, bias], axis=1)


def fit_chosen(
    basis: Basis,
    labels: Int[np.ndarray, "train task"],
    validation: Float[np.ndarray, "validation feature"],
    truth: Int[np.ndarray, "validation task"],
) -> list[tuple[Probe, float]]:
    """Return, for every column of labels, the logistic probe whose penalty does best on the validation part, and its loss.

    Basis and `labels` are of the training part, the features `validation` and their labels `truth` of the other. A label is -1
    where a task has none.
    """
    tasks, options = labels.shape[1], len(PENALTIES)
    penalty = np.tile(1 / np.array(PENALTIES), tasks) * np.ones((len(basis.squares), 1))
    weights, biases = fit_logistic(basis.train, np.repeat(labels, options, axis=1), penalty)
    each, other = np.repeat(truth, options, axis=1), basis.coordinates(validation)
    losses = (log_loss(other @ weights + biases, each) * (each >= 0)).sum(0) / np.maximum((each >= 0).sum(0), 1)
    losses = losses.reshape(tasks, options)
    best = losses.argmin(1)
    return [
        (basis.probe(weights[:, at], biases[at]), float(losses[task, best[task]]))
        for task, at in enumerate(np.arange(tasks) * options + best)
    ]


def _shrinkage(lengths: Float[np.ndarray, " example"], size: float, width: int) -> tuple[float, float]:
    """Return how far Ledoit and Wolf draw a covariance towards a sphere, and the variance of that sphere.

    `lengths` are squared, of centred examples; `size` is the sum of the squared entries of the covariance.

    Source: Ledoit and Wolf 2004; scikit-learn's `ledoit_wolf_shrinkage`, without forming a covariance.
    """
    level = lengths.mean() / width
    spread = size - width * level**2
    noise = ((lengths**2).mean() - size) / len(lengths)
    return (min(noise / spread, 1.0) if spread > 0 else 1.0), level


def _closed_forms(
    features: np.ndarray, basis: Basis, labels: Int[np.ndarray, " example"], split: Split
) -> list[tuple[Probe, float]]:
    """Return ridge, mean difference and whitened mean difference, calibrated on the validation part, with their losses."""
    z, y, valid = basis.train, labels[split.train], labels[split.validation]
    other, pull = basis.coordinates(features[split.validation]), z.T @ (2.0 * y - 1 - (2.0 * y - 1).mean())
    ridges = pull[:, None] / (basis.squares[:, None] + np.array(STRENGTHS))
    errors = ((other @ ridges + (2.0 * y - 1).mean() - (2 * valid - 1)[:, None]) ** 2).mean(0)
    apart = z[y == 1].mean(0) - z[y == 0].mean(0)
    # Whitening by the pooled covariance within the classes, shrunk as Ledoit and Wolf say. On the principal axes that
    # covariance is diagonal but for a part along `apart`, and such a part changes the length of the result alone.
    within = z - np.where(y == 1, z[y == 1].mean(0)[:, None], z[y == 0].mean(0)[:, None]).T
    lengths, part = (within**2).sum(1), y.mean() * (1 - y.mean())
    variances = basis.squares / len(z)
    size = (variances**2).sum() - 2 * part * (variances * apart**2).sum() + (part * (apart @ apart)) ** 2
    shrinkage, level = _shrinkage(lengths, size, z.shape[1])
    whitened = apart / np.maximum((1 - shrinkage) * variances + shrinkage * level, 1e-300)
    raw = features[split.train][y == 1].mean(0) - features[split.train][y == 0].mean(0)
    directions = np.stack([basis.probe(ridges[:, errors.argmin()], 0.0).weight, raw, basis.probe(whitened, 0.0).weight])
    directions /= np.maximum(np.std(features[split.train] @ directions.T, axis=0), 1e-300)[:, None]
    centres = directions @ basis.mean
    scores = features[split.validation] @ directions.T - centres
    fitted = _calibrate(scores.T, valid)
    losses = log_loss(scores.T * fitted[:, :1] + fitted[:, 1:], np.broadcast_to(valid, scores.T.shape)).mean(1)
    return [
        (Probe(slope * direction, float(bias - slope * centre)), float(loss))
        for direction, centre, (slope, bias), loss in zip(directions, centres, fitted, losses, strict=True)
    ]


def held_out(
    features: Float[np.ndarray, "example feature"],
    concepts: ConceptSet,
    seed: int,
    others: Int[np.ndarray, "task example"] | None = None,
) -> tuple[dict[str, HeldOut], list[HeldOut]]:
    """Return what each of the `METHODS` says of every statement it did not see, and the logistic probe of other labels.

    Rows of other labels are fitted with the same factorisation; they are -1 where a statement has none.

    Source: Alain and Bengio 2016; penalised logistic regression as in the paper (section 3), with the split by group
    and the choice of C added here. Marks and Tegmark 2023 for the difference of means, raw and whitened.
    """
    features = features.astype(np.float64)
    tasks = concepts.labels[None] if others is None else np.vstack([concepts.labels[None], others])
    splits, by_fold = folds(concepts, seed), []
    for split in splits:
        basis = Basis(features[split.train])
        fitted = fit_chosen(basis, tasks.T[split.train], features[split.validation], tasks.T[split.validation])
        by_fold.append([fitted[0], *_closed_forms(features, basis, concepts.labels, split), *fitted[1:]])
    held = [_joined(features, splits, probes) for probes in zip(*by_fold, strict=True)]
    return dict(zip(METHODS, held, strict=False)), held[len(METHODS) :]


def _joined(features: np.ndarray, splits: Sequence[Split], fitted: Sequence[tuple[Probe, float]]) -> HeldOut:
    logits = np.empty(len(features))
    for split, (probe, _) in zip(splits, fitted, strict=True):
        logits[split.test] = probe.logits(features[split.test])
    return HeldOut(logits, np.array([loss for _, loss in fitted]), tuple(probe for probe, _ in fitted))


def held_out_logits(
    features: Float[np.ndarray, "example feature"],
    concepts: ConceptSet,
    seed: int,
    labels: Int[np.ndarray, " example"] | None = None,
    fitted: Bool[np.ndarray, " example"] | None = None,
) -> Float[np.ndarray, " example"]:
    """Return, for every statement, the logit given by a logistic probe that did not see its group.

    Other `labels` than the set's own are for the shuffled-label control; `fitted` are the statements that probes may be
    fitted on, if not all.
    """
    features, truth = features.astype(np.float64), (concepts.labels if labels is None else labels)[:, None]
    fitted = np.ones(len(concepts), dtype=bool) if fitted is None else fitted
    splits, fits = folds(concepts, seed), []
    for split in splits:
        train, validation = (part[fitted[part]] for part in (split.train, split.validation))
        fits += fit_chosen(Basis(features[train]), truth[train], features[validation], truth[validation])
    return _joined(features, splits, fits).logits


@dataclass(frozen=True)
class Traced:
    """The probes of every layer and seed.

    Attributes:
        concepts: what was probed.
        logits: by method, with axes `seed layer example`: those of `METHODS`, `shuffled labels` and `control task`.
        losses: validation loss of the logistic probe and of its shuffled control, with axes `seed layer fold`.
        labels: the labels each method was fitted on; those of the controls have a row a seed, -1 where there is none.
    """

    concepts: ConceptSet
    logits: dict[str, np.ndarray]
    losses: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]

    @cached_property
    def selected(self) -> dict[str, np.ndarray]:
        """Logits of the layer that each fold's validation part chose, with axes `seed example`."""
        logits, every = {}, np.arange(len(self.concepts))
        for method, losses in self.losses.items():
            layers = [best[tested(self.concepts, seed)] for seed, best in enumerate(losses.argmin(1))]
            logits[method] = np.stack([part[layer, every] for part, layer in zip(self.logits[method], layers, strict=True)])
        return logits

    def correct(self, method: str) -> Float[np.ndarray, "layer example"]:
        """Return the share of seeds in which each statement is told right, at every layer."""
        return self._right(method).mean(0)

    def _right(self, method: str) -> Bool[np.ndarray, "seed layer example"]:
        return (self.logits[method] > 0) == (self.labels[method][..., None, :] == 1)

    def evidence(self, acts: Acts) -> dict[str, np.ndarray]:
        """Return what later paired tests need, by seed: which statements are told right, and in which fold; the middle layer."""
        right = {
            "correct": self._right("logistic").swapaxes(0, 1),
            "selected": (self.selected["logistic"] > 0) == (self.concepts.labels == 1),
            "shuffled": self._right("shuffled labels").swapaxes(0, 1),
            "fold": np.stack([tested(self.concepts, seed) for seed in range(len(self.logits["logistic"]))]),
        }
        answers = {name: np.ascontiguousarray(array, dtype=np.uint8) for name, array in right.items()}
        return answers | {"middle": np.ascontiguousarray(acts[:, acts.shape[1] // 2], dtype=np.float16)}

    def estimates(self) -> Rows:
        """Yield the scores of every probe; the layer is None where the validation part chose it."""
        for method, logits in self.logits.items():
            for layer in range(logits.shape[1]) if method != "control task" else ():  # see `controls.selectivities`
                for metric, estimate in scores(logits[:, layer], self.labels[method], self.concepts.groups).items():
                    yield layer, method, metric, estimate
        for method, logits in self.selected.items():
            name = "selected layer" if method == "logistic" else method
            for metric, estimate in scores(logits, self.labels[method], self.concepts.groups).items():
                yield None, name, metric, estimate


def trace(
    acts: Acts, concepts: ConceptSet, shuffled: Int[np.ndarray, "seed example"], words: Int[np.ndarray, "seed example"]
) -> Traced:
    """Probe every layer with the true labels and with those of two controls, once for each row of these.

    Labels of the control task (`words`) are -1 for a statement that has none.
    """
    seeds, layers = len(shuffled), acts.shape[1]
    logits = {method: np.empty((seeds, layers, len(concepts))) for method in (*METHODS, "shuffled labels", "control task")}
    losses = {method: np.empty((seeds, layers, 5)) for method in ("logistic", "shuffled labels")}
    for layer in range(layers):
        features = acts[:, layer].astype(np.float64)
        for seed in range(seeds):
            held, controls = held_out(features, concepts, seed, np.stack([shuffled[seed], words[seed]]))
            for method, each in (held | dict(zip(("shuffled labels", "control task"), controls, strict=True))).items():
                logits[method][seed, layer] = each.logits
                if method in losses:
                    losses[method][seed, layer] = each.losses
    labels = dict.fromkeys(METHODS, concepts.labels) | {"shuffled labels": shuffled, "control task": words}
    return Traced(concepts, logits, losses, labels)


def scores(
    logits: Float[np.ndarray, "seed example"],
    labels: Int[np.ndarray, " example"] | Int[np.ndarray, "seed example"],
    groups: Sequence[str],
) -> dict[str, evaluation.Estimate]:
    """Return accuracy, area under the ROC curve and log-loss (bits) of held-out logits, with intervals by group."""
    weights = evaluation.bootstrap_weights(groups, seed=0)
    each = np.broadcast_to(labels, logits.shape)
    return {
        "accuracy": evaluation.mean(((logits > 0) == (each == 1)).mean(0), weights),
        "auroc": evaluation.auroc(logits, labels, weights),
        "log_loss": evaluation.mean(log_loss(logits, each).mean(0), weights),
    }


def _default_probe(features: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Fit `LogisticRegression()` as it comes and return whether each tested statement is told right."""
    with warnings.catch_warnings():
        # Part of the released protocol: it stops after 100 iterations, converged or not, and says nothing.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = LogisticRegression().fit(features[train], labels[train])
    return (fitted.predict(features[test]) == labels[test]).astype(float)


_RELEASED_DDOF = 1  # torch's deviation divides by n - 1; every other deviation of this book divides by n


def _standardised(features: np.ndarray, rows: np.ndarray | slice) -> np.ndarray:
    """Return features with the mean and sample deviation of `rows`; a constant feature, nan in the released code, is 0."""
    features = features.astype(np.float64)
    spread = features[rows].std(0, ddof=_RELEASED_DDOF)
    return (features - features[rows].mean(0)) / np.where(spread > 0, spread, 1)


def released(features: Float[np.ndarray, "example feature"], concepts: ConceptSet) -> evaluation.Estimate:
    """Return the accuracy of the released protocol: one split in the order of the rows, scaling over all of them, C = 1.

    The interval, which the paper does not give, is that of the statements tested.

    Source: ChnQ/TracingLLM, `train_probes.py`: the first int(0.8 n) rows train, the rest test.
    """
    cut = int(0.8 * len(concepts))
    order = np.arange(len(concepts))
    right = _default_probe(_standardised(features, slice(None)), concepts.labels, order[:cut], order[cut:])
    return evaluation.mean(right, evaluation.bootstrap_weights(concepts.groups[cut:], seed=0))


def released_by_group(
    features: Float[np.ndarray, "example feature"], concepts: ConceptSet, scale_on_train: bool
) -> evaluation.Estimate:
    """Return the accuracy of the released probe with groups kept whole: every statement is tested once, in five folds.

    With `scale_on_train`, features are standardised by the training part alone, too.
    """
    right, rows = np.empty(len(concepts)), np.arange(len(concepts))
    for split in folds(concepts, seed=0):
        train = np.setdiff1d(rows, split.test)
        scaled = _standardised(features, train if scale_on_train else slice(None))
        right[split.test] = _default_probe(scaled, concepts.labels, train, split.test)
    return evaluation.mean(right, evaluation.bootstrap_weights(concepts.groups, seed=0))


def protocols(acts: Acts, concepts: ConceptSet) -> Rows:
    """Yield the accuracy of the released protocol and of two steps from it to ours.

    `released` is the paper's code. `released, grouped` keeps groups whole and tests every statement once.
    `released, grouped, scaled on train` also standardises by the training part alone. What is left between it and
    `logistic` is the choice of C, at the price of a fifth of the statements to choose it on.
    """
    for layer in range(acts.shape[1]):
        yield layer, "released", "accuracy", released(acts[:, layer], concepts)
        yield layer, "released, grouped", "accuracy", released_by_group(acts[:, layer], concepts, scale_on_train=False)
        scaled = released_by_group(acts[:, layer], concepts, scale_on_train=True)
        yield layer, "released, grouped, scaled on train", "accuracy", scaled
