"""Second questions to two dimensions: what a perturbation does to a sentiment probe, and whether a fairness probe reads topic.

Rule: a probe is fitted on one kind of statement (clean sentences; stereotypes against anti-stereotypes) and
tested on another (perturbed twins; unrelated sentences) of groups it has not seen.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from ...core import evaluation
from ...statements.concepts import ConceptSet
from ..tables import Acts, Rows
from .probes import held_out_logits

__all__ = ["perturbation_effect", "perturbation_effects", "topical_fit", "topical_fits"]


def perturbation_effect(
    features: Float[np.ndarray, "example feature"], concepts: ConceptSet, seeds: Sequence[int] = range(5)
) -> dict[str, dict[str, evaluation.Estimate]]:
    """Return what each perturbation does to the held-out accuracy of a sentiment probe fitted on clean sentences.

    Args:
        features: activations of one layer on a robustness set.
        concepts: a robustness set that knows the sentiment of its statements; label 1 marks the clean ones, and the
            category of a statement is the perturbation it, or its twin, has gone through.
        seeds: of the assignment of groups to folds; accuracies are averaged over them.

    Returns:
        `clean` -> `accuracy` on all clean sentences; each perturbation -> `accuracy` on its twins, and `drop`: by how
        much that is below the accuracy on the same sentences when clean, paired sentence by sentence.

    Raises:
        ValueError: if the set does not know the sentiment of its statements.
    """
    if concepts.sentiment is None:
        raise ValueError(f"A set must have a sentiment for each statement; {concepts.name}/{concepts.dimension} has none.")
    clean = concepts.labels == 1
    right = np.mean(
        [
            (held_out_logits(features, concepts, seed, concepts.sentiment, clean) > 0) == (concepts.sentiment == 1)
            for seed in seeds
        ],
        axis=0,
    )
    twins = _twins(concepts)
    out = {"clean": {"accuracy": _mean(right[clean], concepts, np.flatnonzero(clean))}}
    for kind in dict.fromkeys(concepts.categories):
        pairs = twins[[concepts.categories[twin] == kind for _, twin in twins]]
        before, after = right[pairs[:, 0]], right[pairs[:, 1]]
        estimates = {"accuracy": after, "drop": before - after}
        out[kind] = {metric: _mean(values, concepts, pairs[:, 1]) for metric, values in estimates.items()}
    return out


def perturbation_effects(acts: Acts, concepts: ConceptSet, seeds: Sequence[int] = range(5)) -> Rows:
    """Yield `perturbation_effect` at every layer: methods `sentiment clean` and `sentiment under <perturbation>`.

    Yields nothing for a set that does not know the sentiment of its statements.
    """
    if concepts.sentiment is None:
        return
    for layer in range(acts.shape[1]):
        for kind, estimates in perturbation_effect(acts[:, layer], concepts, seeds).items():
            method = "sentiment clean" if kind == "clean" else f"sentiment under {kind}"
            for metric, estimate in estimates.items():
                yield layer, method, metric, estimate


def topical_fit(
    features: Float[np.ndarray, "example feature"], concepts: ConceptSet, seeds: Sequence[int] = range(5)
) -> evaluation.Estimate:
    """Return whether a fairness probe reads topical fit: the AUROC with which its logits tell fitting from unrelated sentences.

    The probe is fitted on stereotypes against anti-stereotypes. At .5 it does not place unrelated sentences on a side of
    their own; far from .5, on either side, topic is part of what it reads. The statements are `concepts.topical(...)`.
    """
    categories = np.array(concepts.categories)
    anti = (categories == "anti-stereotype").astype(int)
    logits = np.stack([held_out_logits(features, concepts, seed, anti, categories != "unrelated") for seed in seeds])
    return evaluation.auroc(logits, concepts.labels, evaluation.bootstrap_weights(concepts.groups, seed=0))


def topical_fits(acts: Acts, concepts: ConceptSet, seeds: Sequence[int] = range(5)) -> Rows:
    """Yield `topical_fit` at every layer: method `topical fit`, metric `auroc`."""
    for layer in range(acts.shape[1]):
        yield layer, "topical fit", "auroc", topical_fit(acts[:, layer], concepts, seeds)


def _twins(concepts: ConceptSet) -> Int[np.ndarray, "pair 2"]:
    """Return the indices of each clean sentence and its perturbed twin: the next statement of the same group and sentiment."""
    waiting: dict[tuple[str, int], int] = {}
    pairs = []
    for i, key in enumerate(zip(concepts.groups, concepts.sentiment.tolist(), strict=True)):
        if concepts.labels[i] == 1:
            waiting[key] = i
        elif key in waiting:
            pairs.append((waiting.pop(key), i))
    return np.array(pairs, dtype=int).reshape(-1, 2)


def _mean(values: np.ndarray, concepts: ConceptSet, rows: np.ndarray) -> evaluation.Estimate:
    return evaluation.mean(values, evaluation.bootstrap_weights([concepts.groups[i] for i in rows], seed=0))
