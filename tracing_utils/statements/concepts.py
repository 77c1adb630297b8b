"""Concept sets: statements with a trustworthy and an untrustworthy side, and splits that keep groups whole.

Rule: label 1 is the trustworthy side in every set (true, respects privacy, civil, unprejudiced, unperturbed).
The released files of the paper mix polarities; they are turned on reading.
"""

import io
import json
import warnings
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from hashlib import sha256
from importlib.resources import files

import numpy as np
import pandas as pd
from jaxtyping import Int

from ..core.errors import unknown
from . import datasets, rungs, user_files, world
from .sources import DESIGNED, DIMENSIONS, RUNGS, SETS, TOPICAL, available, own_files, set_name

# Names of `sources` belong here too, for whoever imports the statements themselves.
__all__ = [
    "DESIGNED", "DIMENSIONS", "RUNGS", "SETS", "TOPICAL", "ConceptSet", "Split", "available", "capped", "draw", "folds",
    "grammar", "load", "set_name", "subset", "tested", "topical",
]  # fmt: skip

_OURS = ("hand-written for this book", "CC0-1.0")


@dataclass(frozen=True, eq=False)
class ConceptSet:
    """Statements of one dimension.

    Attributes:
        name: of the set (one of `SETS`, or the name of a folder or file).
        dimension: one of `DIMENSIONS`.
        statements: the texts.
        labels: 1 = trustworthy, 0 = not; one per statement.
        groups: what must not be torn apart by a split: pair, question, twin; one per statement.
        categories: kind of each statement, for reading and counting; empty strings where the file has none.
        source: where the statements come from.
        licence: of the statements.
        sentiment: of each statement, 1 = positive, where a robustness set knows it; the second question of that
            dimension (`side_effects.perturbation_effect`).
    """

    name: str
    dimension: str
    statements: tuple[str, ...]
    labels: Int[np.ndarray, " example"]
    groups: tuple[str, ...]
    categories: tuple[str, ...]
    source: str
    licence: str
    sentiment: Int[np.ndarray, " example"] | None = None

    def __len__(self) -> int:
        return len(self.statements)

    @cached_property
    def sha256(self) -> str:
        """sha256 of all that results depend on: two sets with the same hash give the same results."""
        content = [self.statements, self.labels.tolist(), self.groups]
        if self.sentiment is not None:
            content += [self.sentiment.tolist(), self.categories]
        return sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()

    @cached_property
    def group_numbers(self) -> Int[np.ndarray, " example"]:
        """The group of each statement, as its place among the sorted names of the groups."""
        return np.unique(self.groups, return_inverse=True)[1]


@dataclass(frozen=True)
class Split:
    """Indices of the statements to train on, to choose on, and to test on."""

    train: Int[np.ndarray, " train"]
    validation: Int[np.ndarray, " validation"]
    test: Int[np.ndarray, " test"]


_KEYS = {"world": world.TOLD, "world-never": world.NEVER}


def load(source: str, dimension: str) -> ConceptSet:
    """Return the statements of one dimension.

    Args:
        source: `pocket` (hand-written for this book, shipped); `words` or `turn` (the rungs below it); `tracingllm` (the
            paper's released files) or `corrected` (the originals of those files), downloaded once or put in place by
            `fetch`, and checked by sha256; `world` or `world-never` (generated: what the designed world's narrators told, and
            what nobody told); a folder of your own with `<dimension>.csv`, `.tsv` or `.jsonl` files, or one such file. Your
            files have `statement` and `label`, and optionally `group` and `category`.
        dimension: one of `DIMENSIONS`.

    Raises:
        ValueError: if the set, dimension or file is unknown, or the file does not hold what it must.
    """
    if dimension not in DIMENSIONS:
        raise unknown("dimension", dimension, DIMENSIONS)
    if source == "pocket":
        return _from_table("pocket", dimension, _pocket(dimension))
    if source in _KEYS:
        rows = world.concept_rows(world.World(), dimension)
        rows = rows[rows["category"].str.startswith(_KEYS[source])]
        return _from_table(source, dimension, datasets.Table(rows, "generated for this book", "CC0-1.0"))
    if source in RUNGS:
        if dimension not in RUNGS[source]:
            raise unknown(f"dimension of {source}", dimension, RUNGS[source])
        return _from_table(source, dimension, datasets.Table(rungs.rows(source, dimension), *_OURS))
    if source in SETS:
        read = datasets.released if source == "tracingllm" else datasets.corrected
        return _from_table(source, dimension, read(dimension))
    own = own_files(source)
    if dimension not in own:
        raise unknown(f"statement file in {source}", f"{dimension}.csv", sorted(path.name for path in own.values()))
    path = own[dimension]
    rows = user_files.read_statements(path.read_bytes(), str(path))
    return _from_table(set_name(source), dimension, datasets.Table(rows, str(path), "the user's own"))


def grammar() -> ConceptSet:
    """Return the zeroth rung, which is of no dimension: grammatical sentences (1), each before its ungrammatical twin (0)."""
    return _from_table("grammar", "grammar", datasets.Table(rungs.grammar(), *_OURS))


def _pocket(file: str) -> datasets.Table:
    data = files(__package__).joinpath("data", "pocket", f"{file}.csv").read_text(encoding="utf-8")
    rows = pd.read_csv(io.StringIO(data), dtype={"category": str, "group": str}, keep_default_na=False)
    return datasets.Table(rows, *_OURS)


def _from_table(name: str, dimension: str, table: datasets.Table) -> ConceptSet:
    rows = table.rows
    return ConceptSet(
        name,
        dimension,
        tuple(rows["statement"]),
        rows["label"].to_numpy(),
        tuple(rows["group"]),
        tuple(rows["category"]),
        table.source,
        table.licence,
        rows["sentiment"].to_numpy() if "sentiment" in rows else None,
    )


def topical(source: str) -> ConceptSet:
    """Return the second question of fairness: does a sentence fit its subject (1), or is it an unrelated one (0)?

    The categories are `stereotype`, `anti-stereotype` and `unrelated`; the groups are those of the fairness statements.
    It is what the paper's fairness file asks, and what a fairness probe must not be reading (`side_effects.topical_fit`).

    Args:
        source: one of `TOPICAL`, which have unrelated sentences.

    Raises:
        ValueError: if `source` has none.
    """
    if source not in TOPICAL:
        raise unknown("set with unrelated sentences", source, TOPICAL)
    if source == "pocket":
        fairness, unrelated = _pocket("fairness"), _pocket("fairness_unrelated").rows
        kinds = fairness.rows["label"].map({0: "stereotype", 1: "anti-stereotype"})
        rows = pd.concat([fairness.rows.assign(category=kinds), unrelated.assign(category="unrelated")])
        table = replace(fairness, rows=rows)
    else:
        table = datasets.stereotypes(third=True)
    rows = table.rows.assign(label=(table.rows["category"] != "unrelated").astype(int))
    return _from_table(f"{source}-topical", "fairness", replace(table, rows=rows))


def draw(concepts: ConceptSet, n: int, seed: int = 0) -> Int[np.ndarray, " drawn"]:
    """Return the indices of `n` statements (or all, if there are fewer), whole groups in random order but for the last."""
    names = np.random.default_rng(seed).permutation(sorted(set(concepts.groups)))
    rank = {name: place for place, name in enumerate(names)}
    order = np.argsort([rank[group] for group in concepts.groups], kind="stable")
    return np.sort(order[:n])


def subset(concepts: ConceptSet, rows: Int[np.ndarray, " drawn"]) -> ConceptSet:
    """Return the set that holds only `rows`."""
    statements, groups, categories = (
        tuple(values[i] for i in rows) for values in (concepts.statements, concepts.groups, concepts.categories)
    )
    sentiment = None if concepts.sentiment is None else concepts.sentiment[rows]
    labels = concepts.labels[rows]
    return replace(concepts, statements=statements, labels=labels, groups=groups, categories=categories, sentiment=sentiment)


def capped(concepts: ConceptSet, most: int) -> ConceptSet:
    """Return at most `most` statements, whole groups drawn at random and in the order of the file; 0 leaves all."""
    return subset(concepts, draw(concepts, most)) if most else concepts


@lru_cache(maxsize=32)  # every layer is split alike
def folds(concepts: ConceptSet, seed: int) -> tuple[Split, ...]:
    """Return five splits in which every statement is tested once; no group is ever on two sides.

    Fold i is the test part, fold i + 1 the validation part, the rest is trained on. Labels are stratified
    as far as the groups allow.

    Raises:
        ValueError: if there are fewer than five groups, or fewer than five statements of either label.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # noqa: PLC0415 - a second of imports; few readers split

    if (n := len(set(concepts.groups))) < 5:
        raise ValueError(f"5 folds need at least 5 groups; {concepts.name}/{concepts.dimension} has {n}.")
    if (n := int(np.bincount(concepts.labels).max())) < 5:
        raise ValueError(f"5 folds need 5 statements of a label; {concepts.name}/{concepts.dimension} has {n} at most.")
    splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # one label may have fewer than five statements
        warnings.filterwarnings("ignore", "The least populated class")
        parts = [test for _, test in splitter.split(concepts.labels, concepts.labels, concepts.groups)]
    everything = np.arange(len(concepts))
    return tuple(
        Split(np.setdiff1d(everything, np.concatenate([validation, test])), validation, test)
        for test, validation in zip(parts, [*parts[1:], parts[0]], strict=True)
    )


def tested(concepts: ConceptSet, seed: int) -> Int[np.ndarray, " example"]:
    """Return which of the `folds` tests each statement, counted from 0."""
    fold = np.empty(len(concepts), dtype=int)
    for number, split in enumerate(folds(concepts, seed)):
        fold[split.test] = number
    return fold
