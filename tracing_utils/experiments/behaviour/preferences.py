"""Which member of a crossed pair a checkpoint prefers, and by how much more than before training.

Rule: members may differ in length, so likelihoods are per token; summed ones stand beside them as the wrong way.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from safetensors.numpy import load_file

from ... import results
from ...core import evaluation
from ...core.evaluation import Estimate
from ...statements.concepts import ConceptSet
from ..steering.likelihoods import held_out_pairs
from .reading import Reading

__all__ = ["crossed_pairs", "evidence", "rows", "scores", "summarise"]

Row = tuple[int | None, str, str, Estimate]
"""Layer, method, metric and estimate of a row of results."""


def crossed_pairs(concepts: ConceptSet) -> Int[np.ndarray, "pair 2"]:
    """Return (trustworthy, untrustworthy) indices: each trustworthy member of a group with the others nearest to it in words.

    In a crossed group these differ in the one word, or the one turn, that decides. Sets of single statements are paired in
    the order of their file.
    """
    words = [Counter(statement.split()) for statement in concepts.statements]
    pairs = held_out_pairs(concepts, np.arange(len(concepts)))
    apart = [sum(((words[a] - words[b]) + (words[b] - words[a])).values()) for a, b in pairs]
    nearest: dict[int, int] = {}
    for (one, _), distance in zip(pairs.tolist(), apart, strict=True):
        nearest[one] = min(distance, nearest.get(one, distance))
    return pairs[[distance == nearest[one] for one, distance in zip(pairs[:, 0].tolist(), apart, strict=True)]]


def scores(reading: Reading, common: Float[np.ndarray, " example"]) -> dict[str, Float[np.ndarray, " example"]]:
    """Return what each way of scoring says of each statement, higher meaning preferred.

    Args:
        reading: of the statements.
        common: their mean log-frequency (`reading.frequencies`).
    """
    return {
        "likelihood": reading.nats / reading.tokens,
        "summed": reading.nats,
        "originality": -reading.originality,
        "word frequency": common,
    }


def rows(found: dict[str, np.ndarray], concepts: ConceptSet, pairs: Int[np.ndarray, "pair 2"]) -> Iterator[Row]:
    """Yield the rows of every way of scoring.

    `preferred` is the share of pairs whose trustworthy member scores higher (ties count half), `preference` the mean
    difference in nats, `auroc` that of the score over all statements, as a threshold would use it. `originality minus
    likelihood` is their difference in `preferred`, pair by pair.
    """
    weights = evaluation.bootstrap_weights([concepts.groups[i] for i in pairs[:, 0]], seed=0)
    single = evaluation.bootstrap_weights(concepts.groups, seed=0)
    chosen = {method: _preferred(score, pairs) for method, score in found.items()}
    for method, score in found.items():
        yield None, method, "preferred", evaluation.mean(chosen[method], weights)
        if method in ("likelihood", "summed"):
            yield None, method, "preference", evaluation.mean(_margin(score, pairs), weights)
        yield None, method, "auroc", evaluation.auroc(score[None], concepts.labels, single)
    difference = chosen["originality"] - chosen["likelihood"]
    yield None, "originality minus likelihood", "preferred", evaluation.mean(difference, weights)


def _margin(score: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    return score[pairs[:, 0]] - score[pairs[:, 1]]


def _preferred(score: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    return (np.sign(_margin(score, pairs)) + 1) / 2


def evidence(found: dict[str, np.ndarray], pairs: Int[np.ndarray, "pair 2"]) -> dict[str, Float[np.ndarray, " pair"]]:
    """Return the difference of each pair, by which checkpoints are compared pair by pair."""
    return {method: _margin(found[method], pairs).astype(np.float32) for method in ("likelihood", "summed")}


def summarise(study, folder: Path, out: Path) -> None:  # a `run.studies.Study`, which nothing here may import
    """Write by how much each checkpoint's preferences exceed those of the study's first one, pair by pair.

    The first is the untrained one where a suite has it: what it prefers comes from the texts and the weights' chance, and
    not from training.
    """
    revisions, made = study.traced(), []
    for name in study.sets:
        found = {each: load_file(folder / name / "behaviour" / f"{each}.safetensors") for each in revisions}
        for dimension in study.dimensions_of(name):
            concepts = study.concept_set(name, dimension)
            groups = [concepts.groups[one] for one, _ in crossed_pairs(concepts)]
            for method in ("likelihood", "summed"):
                before = found[revisions[0]][f"{dimension}/{method}"].astype(float)
                for each in revisions[1:]:
                    after = found[each][f"{dimension}/{method}"].astype(float)
                    for metric, change in (("preference", lambda x: x), ("preferred", lambda x: (np.sign(x) + 1) / 2)):
                        estimate = evaluation.paired(change(after), change(before), groups)
                        made.append(
                            results.row(study.loaded[each], concepts, None, method, metric, estimate, "0")
                            | {"before": revisions[0]}
                        )
    results.write(made, out)
