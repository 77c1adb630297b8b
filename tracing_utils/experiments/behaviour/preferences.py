"""Which member of a crossed pair a checkpoint prefers, and by how much more than before training.

Rule: members may differ in length, so likelihoods are per token; summed ones stand beside them as the wrong way.
"""

from collections import Counter
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from safetensors.numpy import load_file

from ... import results
from ...core import evaluation
from ...statements.concepts import ConceptSet
from ..steering.likelihoods import held_out_pairs
from ..tables import Rows
from .reading import Reading

__all__ = ["crossed_pairs", "evidence", "rows", "scores", "summarise", "won"]


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
    """Return what each way of scoring says of each statement, higher meaning preferred; `common`: of `reading.frequencies`."""
    return {
        "likelihood": reading.nats / reading.tokens,
        "summed": reading.nats,
        "originality": -reading.originality,
        "word frequency": common,
    }


def rows(scored: dict[str, np.ndarray], concepts: ConceptSet, pairs: Int[np.ndarray, "pair 2"]) -> Rows:
    """Yield the rows of every way of scoring, of which `scored` has what `scores` returns.

    `preferred` is the share of pairs whose trustworthy member scores higher (ties count half), `preference` the mean
    difference in nats, `auroc` that of the score over all statements, as a threshold would use it. `originality minus
    likelihood` is their difference in `preferred`, pair by pair.
    """
    weights = evaluation.bootstrap_weights([concepts.groups[i] for i in pairs[:, 0]], seed=0)
    single = evaluation.bootstrap_weights(concepts.groups, seed=0)
    margins = {method: _margin(score, pairs) for method, score in scored.items()}
    for method, score in scored.items():
        yield None, method, "preferred", evaluation.mean(won(margins[method]), weights)
        if method in ("likelihood", "summed"):
            yield None, method, "preference", evaluation.mean(margins[method], weights)
        yield None, method, "auroc", evaluation.auroc(score[None], concepts.labels, single)
    difference = won(margins["originality"]) - won(margins["likelihood"])
    yield None, "originality minus likelihood", "preferred", evaluation.mean(difference, weights)


def _margin(score: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    return score[pairs[:, 0]] - score[pairs[:, 1]]


def won(margins: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Return 1 where a margin is above 0, one half where it is 0, and 0 below: their mean is the share above 0."""
    return (np.sign(margins) + 1) / 2


def evidence(scored: dict[str, np.ndarray], pairs: Int[np.ndarray, "pair 2"]) -> dict[str, Float[np.ndarray, " pair"]]:
    """Return the difference of each pair, by which checkpoints are compared pair by pair."""
    return {method: _margin(scored[method], pairs).astype(np.float32) for method in ("likelihood", "summed")}


def summarise(study, folder: Path, out: Path) -> None:  # a `run.studies.Study`, which nothing here may import
    """Write by how much each checkpoint's preferences exceed those of the study's first one, pair by pair.

    The first is the untrained one where a suite has it: what it prefers comes from the texts and the weights' chance, and
    not from training.
    """
    revisions, table = study.traced(), []
    for name in study.sets:
        files = {each: load_file(folder / name / "behaviour" / f"{each}.safetensors") for each in revisions}
        for dimension in study.dimensions_of(name):
            concepts = study.concept_set(name, dimension)
            groups = [concepts.groups[one] for one, _ in crossed_pairs(concepts)]
            for method in ("likelihood", "summed"):
                before = files[revisions[0]][f"{dimension}/{method}"].astype(float)
                for each in revisions[1:]:
                    after = files[each][f"{dimension}/{method}"].astype(float)
                    for metric, ends in (("preference", (after, before)), ("preferred", (won(after), won(before)))):
                        change = evaluation.paired(*ends, groups)
                        row = results.row(study.loaded[each], concepts, None, method, metric, change, "0")
                        table.append(row | {"before": revisions[0]})
    results.write(table, out)
