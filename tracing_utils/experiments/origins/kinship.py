"""Do two models hold a concept in the same direction? Probes of one model, on the activations of another.

Rule: a probe is fitted on one model and scored on another's activations of statements whose groups it has not seen.

Source: EasyDetector (Zhang et al. 2024) calls two models related if a probe of one reads the other. The alignment is the
control: a rotation that is fitted without labels undoes what two runs do not share for no reason but their random start.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.linalg import orthogonal_procrustes

from ...checkpoints import suites
from ...checkpoints.types import Checkpoint
from ...statements.concepts import ConceptSet, folds
from ..probing import probes

__all__ = ["SEED", "aligned", "relative", "transfer", "word_labels"]

SEED = 0
"""Of the folds, and of the lot by which words are dealt to two sides."""


def relative(text: str) -> tuple[str, Checkpoint]:
    """Return what a model is to the traced one, and its checkpoint, from `what=suite` or `what=suite@revision`.

    Raises:
        ValueError: if the text is not of that form, or there is no such suite or revision.
    """
    kind, _, place = text.partition("=")
    name, _, revision = place.partition("@")
    if not (kind.strip() and name.strip()):
        raise ValueError(f"relatives must each be written `what=suite` or `what=suite@revision`; {text!r} is not.")
    suite = suites.load(name.strip())
    return kind.strip(), suite[revision.strip()] if revision.strip() else suite.checkpoints[-1]


def word_labels(concepts: ConceptSet) -> Int[np.ndarray, " example"]:
    """Return a label that says nothing but which word a statement ends with: each last word is dealt a side by lot."""
    words, index = np.unique([text.rstrip(" .?!").rpartition(" ")[2] for text in concepts.statements], return_inverse=True)
    return np.random.default_rng(SEED).permutation(np.arange(len(words)) % 2)[index]


def aligned(
    there: Float[np.ndarray, "example d_model"], here: Float[np.ndarray, "example d_model"], rows: Int[np.ndarray, " row"]
) -> Float[np.ndarray, "example d_model"]:
    """Return one model's activations turned and scaled to another's: Procrustes, fitted on some rows, without labels."""
    a, b = (acts[rows].mean(0) for acts in (there, here))
    turn, size = orthogonal_procrustes(there[rows] - a, here[rows] - b)
    total = np.square(there[rows] - a).sum()
    return (there - a) @ turn * (size / total if total > 0 else 1.0) + b


def transfer(
    here: Float[np.ndarray, "example d_model"],
    there: Float[np.ndarray, "example d_model"],
    concepts: ConceptSet,
    labels: Sequence[Int[np.ndarray, " example"]],
) -> Bool[np.ndarray, "way label example"]:
    """Return whether a probe of one model is right on the other's activations, as they are and aligned.

    Args:
        here: activations of the model whose probe it is.
        there: of the other, on the same statements.
        concepts: the statements; their groups are kept whole by folds.
        labels: one or several labels of each statement.

    Raises:
        ValueError: if the two models are not equally wide.
    """
    if here.shape != there.shape:
        raise ValueError(
            f"A probe reads models of its own width; this model's activations have {here.shape[-1]} numbers and the relative's "
            f"{there.shape[-1]}. Leave that relative out."
        )
    here, there = here.astype(np.float64), there.astype(np.float64)
    right = np.empty((2, len(labels), len(concepts)), dtype=bool)
    for split in folds(concepts, SEED):
        truth = np.column_stack(labels)
        fitted = probes.fit_chosen(
            probes.Basis(here[split.train]), truth[split.train], here[split.validation], truth[split.validation]
        )
        for way, acts in enumerate((there, aligned(there, here, split.train))):
            for task, (probe, _) in enumerate(fitted):
                right[way, task, split.test] = (probe.logits(acts[split.test]) > 0) == (truth[split.test, task] == 1)
    return right
