"""Do two models hold a concept in the same direction? Probes of one model, on the activations of another.

Rule: a probe is fitted on one model and scored on another's activations of statements whose groups it has not seen.

Source: EasyDetector (Zhang et al. 2024) calls two models related if a probe of one reads the other. The alignment is the
control: a rotation that is fitted without labels, on other statements, undoes what two runs do not share for no reason but
their random start.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.linalg import LinAlgError, orthogonal_procrustes, svd

from ...core import evaluation
from ...core.evaluation import Estimate
from ...statements.concepts import ConceptSet, folds
from ..probing import probes

__all__ = ["SEED", "WAYS", "rotation", "rows", "transfer", "word_labels"]

WAYS = ("as it is", "aligned", "aligned on its own statements")
"""How the other model's activations are given to the probe; the last is the wrong way, beside the right one."""

SEED = 0
"""Of the folds, and of the lot by which words are dealt to two sides."""


def word_labels(concepts: ConceptSet) -> Int[np.ndarray, " example"]:
    """Return a label that says nothing but which word a statement ends with: each last word is dealt a side by lot."""
    words, index = np.unique([text.rstrip(" .?!").rpartition(" ")[2] for text in concepts.statements], return_inverse=True)
    return np.random.default_rng(SEED).permutation(np.arange(len(words)) % 2)[index]


def rotation(
    there: Float[np.ndarray, "row d_model"], here: Float[np.ndarray, "row d_model"]
) -> Callable[[Float[np.ndarray, "example d_model"]], Float[np.ndarray, "example d_model"]]:
    """Return what turns and scales one model's activations to another's: Procrustes, fitted on the same rows of both."""
    a, b = there.mean(0), here.mean(0)
    turn, size = _procrustes(there - a, here - b)
    scale = size / max(np.square(there - a).sum(), np.finfo(float).tiny)
    return lambda acts: (acts - a) @ turn * scale + b


def _procrustes(there: np.ndarray, here: np.ndarray) -> tuple[np.ndarray, float]:
    try:
        return orthogonal_procrustes(there, here)
    except LinAlgError:  # LAPACK's quick method fails at times on fewer rows than columns (SmolLM2); the slow one does not
        left, sizes, right = svd(there.T @ here, lapack_driver="gesvd")
        return left @ right, sizes.sum()


def transfer(
    here: Float[np.ndarray, "example d_model"],
    there: Float[np.ndarray, "example other"],
    concepts: ConceptSet,
    labels: Sequence[Int[np.ndarray, " example"]],
    others: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, Bool[np.ndarray, "label example"]]:
    """Return whether a probe of one model is right on the other's activations.

    Args:
        here: activations of the model whose probe it is.
        there: of the other, on the same statements.
        concepts: the statements; their groups are kept whole by folds.
        labels: one or several labels of each statement.
        others: activations of both models (this one first) on other statements, to align them by.

    Returns:
        By `WAYS`: as they are; aligned on the other statements, if there are any; and aligned on the statements that the
        probe was fitted on, which is wrong: the rotation then learns from the probe's own training part which way to turn.

    Raises:
        ValueError: if the two models are not equally wide.
    """
    if here.shape != there.shape:
        raise ValueError(
            f"A probe reads models of its own width; this model's activations have {here.shape[-1]} numbers and the relative's "
            f"{there.shape[-1]}. Leave that relative out."
        )
    here, there, truth = here.astype(np.float64), there.astype(np.float64), np.column_stack(labels)
    right = {way: np.empty((len(labels), len(concepts)), dtype=bool) for way in WAYS if others or way != "aligned"}
    neutral = rotation(*(acts.astype(np.float64) for acts in reversed(others))) if others else None
    for split in folds(concepts, SEED):
        train, valid = split.train, split.validation
        fitted = probes.fit_chosen(probes.Basis(here[train]), truth[train], here[valid], truth[valid])
        turns = dict(zip(WAYS, (lambda acts: acts, neutral, rotation(there[train], here[train])), strict=True))
        for way, answers in right.items():
            acts = turns[way](there[split.test])
            for task, (probe, _) in enumerate(fitted):
                answers[task, split.test] = (probe.logits(acts) > 0) == (truth[split.test, task] == 1)
    return right


_METRICS = dict(zip(WAYS, ("transfer", "aligned_transfer", "leaking_transfer"), strict=True))


def rows(
    here: Float[np.ndarray, "example layer d_model"],
    there: Float[np.ndarray, "example layer other"],
    concepts: ConceptSet,
    others: tuple[np.ndarray, np.ndarray] | None,
) -> Iterator[tuple[int, str, Estimate]]:
    """Yield layer, metric and accuracy of this model's probes on another, for trust and (`word_...`) for words, by way.

    The activations are those of `transfer`, of every layer.
    """
    labels, draws = [concepts.labels, word_labels(concepts)], evaluation.bootstrap_weights(concepts.groups, seed=0)
    for layer in range(min(here.shape[1], there.shape[1])):
        both = tuple(acts[:, layer] for acts in others) if others else None
        for way, right in transfer(here[:, layer], there[:, layer], concepts, labels, both).items():
            for prefix, answers in zip(("", "word_"), right.astype(float), strict=True):
                yield layer, prefix + _METRICS[way], evaluation.mean(answers, draws)
