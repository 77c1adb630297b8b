"""Linear probes: how well a hyperplane in the activations of one layer tells the two sides apart.

Rule: standardisation and fit see the training part alone, the penalty is chosen on the validation part,
and a score is only ever given to a statement that neither has seen.

Public names: `PENALTIES`, `log_loss`, `held_out_logits`, `scores`.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from . import evaluation
from .concepts import ConceptSet, folds

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse penalties C the validation part may choose from; C = 1, the default of the released code, overfits."""


def log_loss(logits: Float[np.ndarray, "*shape"], labels: Int[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Return the cross-entropy of each prediction, in bits."""
    return np.logaddexp(0, np.where(labels == 1, -logits, logits)) / np.log(2)


def held_out_logits(
    features: Float[np.ndarray, "example feature"],
    concepts: ConceptSet,
    seed: int,
    labels: Int[np.ndarray, " example"] | None = None,
) -> Float[np.ndarray, " example"]:
    """Return, for every statement, the logit given by a probe that did not see its group.

    Args:
        features: activations of one layer.
        concepts: gives labels and groups.
        seed: of the assignment of groups to folds.
        labels: other labels than the set's own (for the shuffled-label control).

    Source: Alain and Bengio 2016; penalised logistic regression as in the paper (section 3), with the
    split by group and the choice of C added here.
    """
    labels = concepts.labels if labels is None else labels
    logits = np.empty(len(labels))
    for split in folds(concepts, seed):
        scaler = StandardScaler().fit(features[split.train])
        train, validation, test = (scaler.transform(features[part]) for part in (split.train, split.validation, split.test))
        # With fewer features than statements a Newton step is cheapest; both solvers reach the same optimum.
        solver = "newton-cholesky" if train.shape[1] <= len(train) else "lbfgs"
        best = np.inf
        for penalty in PENALTIES:  # from strong to weak; past the first rise of the loss nothing better comes
            probe = LogisticRegression(C=penalty, solver=solver, max_iter=1000).fit(train, labels[split.train])
            loss = log_loss(probe.decision_function(validation), labels[split.validation]).mean()
            if loss >= best:
                break
            best, logits[split.test] = loss, probe.decision_function(test)
    return logits


def scores(
    logits: Float[np.ndarray, "seed example"], labels: Int[np.ndarray, " example"], groups: Sequence[str]
) -> dict[str, evaluation.Estimate]:
    """Return accuracy, area under the ROC curve and log-loss (bits) of held-out logits, with intervals by group."""
    weights = evaluation.bootstrap_weights(groups, seed=0)
    return {
        "accuracy": evaluation.mean(((logits > 0) == (labels == 1)).mean(0), weights),
        "auroc": evaluation.auroc(logits, labels, weights),
        "log_loss": evaluation.mean(log_loss(logits, np.broadcast_to(labels, logits.shape)).mean(0), weights),
    }
