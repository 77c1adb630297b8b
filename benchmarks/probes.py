"""Goal 3: the whole nested, grouped protocol of probing over all layers, against the same written plainly with scikit-learn.

Rule: both take the same folds, penalties and labels, and choose on the same validation parts. The plain way takes Newton's
method too: lbfgs, scikit-learn's default, stops early enough to put some statements on the other side.
"""

from collections.abc import Callable

import numpy as np
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from tracing_utils.checkpoints import activations, suites
from tracing_utils.experiments.probing import controls, probes
from tracing_utils.statements import concepts
from tracing_utils.statements.concepts import ConceptSet

from .measure import Row, paired, row, seconds

DIMENSION = "privacy"


def plain(acts: np.ndarray, concept_set: ConceptSet, seed: int, others: np.ndarray) -> dict[str, np.ndarray]:
    """Return the held-out logits of every method, with axes `layer example`."""
    names = (*probes.METHODS, "shuffled labels", "control task")
    logits = {name: np.zeros((acts.shape[1], len(concept_set))) for name in names}
    for layer in range(acts.shape[1]):
        for split in concepts.folds(concept_set, seed):
            scaler = StandardScaler().fit(acts[split.train, layer])
            parts = [scaler.transform(acts[rows, layer]) for rows in (split.train, split.validation, split.test)]
            for name, labels in zip(("logistic", "shuffled labels", "control task"), (concept_set.labels, *others), strict=True):
                logits[name][layer, split.test] = _logistic(parts, labels[split.train], labels[split.validation])
            y, valid = concept_set.labels[split.train], concept_set.labels[split.validation]
            for name, direction in _directions(parts[0], y, scaler, parts[1], valid).items():
                spread = (parts[0] @ direction).std()
                slope = LogisticRegression(C=100.0, solver="newton-cholesky", tol=1e-6).fit(
                    (parts[1] @ direction / spread)[:, None], valid
                )
                logits[name][layer, split.test] = slope.decision_function((parts[2] @ direction / spread)[:, None])
    return logits


def _logistic(parts: list[np.ndarray], labels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the logits of the tested part by the penalty that does best on the validation part."""
    has, asked, best, logits = labels >= 0, truth >= 0, np.inf, None
    for penalty in probes.PENALTIES:
        fitted = LogisticRegression(C=penalty, solver="newton-cholesky", tol=1e-6).fit(parts[0][has], labels[has])
        loss = probes.log_loss(fitted.decision_function(parts[1][asked]), truth[asked]).mean()
        if loss < best:
            best, logits = loss, fitted.decision_function(parts[2])
    return logits


def _directions(
    train: np.ndarray, labels: np.ndarray, scaler: StandardScaler, validation: np.ndarray, truth: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the directions of the closed forms, in standardised coordinates."""
    ridges = [Ridge(alpha=strength).fit(train, 2.0 * labels - 1) for strength in probes.STRENGTHS]
    errors = [((ridge.predict(validation) - (2 * truth - 1)) ** 2).mean() for ridge in ridges]
    means = [train[labels == side].mean(0) for side in (0, 1)]
    apart, within = means[1] - means[0], train - np.where(labels[:, None] == 1, means[1], means[0])
    raw = apart * scaler.scale_**2  # the difference of the raw means, for standardised features
    whitened = np.linalg.solve(LedoitWolf(assume_centered=True).fit(within).covariance_, apart)
    return {"ridge": ridges[int(np.argmin(errors))].coef_, "mean difference": raw, "whitened mean difference": whitened}


def goal(pairs: int = 5, layers: int | None = None, statements: int = 0) -> list[Row]:
    """Return the row of goal 3; one pair a seed."""
    checkpoint = suites.load("pocket").checkpoints[-1]
    concept_set = concepts.capped(concepts.load("pocket", DIMENSION), statements)
    acts = activations.of(checkpoint, concept_set)[:, :layers]
    tasks = {s: np.stack([controls.shuffled_labels(concept_set, s), controls.control_task(concept_set, s)]) for s in range(pairs)}

    def ours(seed: int) -> dict[str, np.ndarray]:
        layers_of = [probes.held_out(acts[:, layer], concept_set, seed, tasks[seed]) for layer in range(acts.shape[1])]
        logits = {name: np.stack([methods[name].logits for methods, _ in layers_of]) for name in probes.METHODS}
        others = [np.stack([other[task].logits for _, other in layers_of]) for task in (0, 1)]
        return logits | dict(zip(("shuffled labels", "control task"), others, strict=True))

    concepts.folds.cache_clear()
    done = paired(
        lambda seed: seconds(lambda: ours(seed)),
        lambda seed: seconds(lambda: plain(acts, concept_set, seed, tasks[seed])),
        pairs,
    )
    truth = {seed: dict.fromkeys(probes.METHODS, concept_set.labels) for seed in range(pairs)}
    for seed, (shuffled, words) in tasks.items():
        truth[seed] |= {"shuffled labels": shuffled, "control task": words}
    differ = _accuracies_apart(iter(truth.values()))
    note = (
        f"{len(concept_set)} statements, {acts.shape[1]} layers; agreement: largest difference of a layer's accuracy, all methods"
    )
    return [row(3, "probes", "scikit-learn, written plainly", done, differ, target=10.0, tolerance=0.01, note=note)]


def _accuracies_apart(truths) -> Callable[[dict, dict], float]:
    def differ(ours: dict, theirs: dict) -> float:
        worst = 0.0
        for name, labels in next(truths).items():
            has = labels >= 0
            a, b = (((logits[name] > 0) == (labels == 1))[:, has].mean(1) for logits in (ours, theirs))
            worst = max(worst, float(np.abs(a - b).max()))
        return worst

    return differ
