"""Controls: what a result must beat before it says anything about the model.

Rule: a control runs through the same splits, fits and intervals as the thing it controls.
"""

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn
from jaxtyping import Float, Int
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from ...core import evaluation
from ...statements.concepts import ConceptSet, folds
from ...statements.sources import SETS
from ...statements.texts import words
from ..cache import cached
from ..tables import Acts, Rows
from . import floors, probes

__all__ = [
    "compressions", "conditional_gain", "conditional_gains", "control_task", "describe", "online_code", "selectivities",
    "shuffled_labels", "text_axes",
]  # fmt: skip

_HIGH_FLOOR = 0.9
_TEXT_AXES = 50  # of each kind of n-gram, in conditional probing
_BLOCKS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)  # shares of the groups at which the online code refits


def shuffled_labels(concepts: ConceptSet, seed: int) -> Int[np.ndarray, " example"]:
    """Return the labels in random order: the same balance, no relation to the statements.

    Labels change places inside their group where it holds both, and among the remaining statements
    otherwise: pairs that share their words stay balanced, as they are with the true labels.
    """
    rng, labels = np.random.default_rng(seed), concepts.labels.copy()
    for rows in _exchangeable(concepts):
        labels[rows] = rng.permutation(labels[rows])
    return labels


@lru_cache(maxsize=32)  # 200 orders are drawn of each set
def _exchangeable(concepts: ConceptSet) -> list[np.ndarray]:
    """Return the statements of each group that holds both labels, then all the others."""
    members: dict[str, list[int]] = defaultdict(list)
    for i, group in enumerate(concepts.groups):
        members[group].append(i)
    mixed = [np.array(rows) for rows in members.values() if len(set(concepts.labels[rows])) == 2]
    return [*mixed, np.setdiff1d(np.arange(len(concepts)), np.concatenate(mixed or [np.array([], dtype=int)]))]


def control_task(concepts: ConceptSet, seed: int = 0) -> Int[np.ndarray, " example"]:
    """Return a random label for each recurring word, given to the statements that hold it; -1 where no word recurs.

    A random label for each statement could not be learnt at all; one for each word can, by a probe that reads words
    and remembers them. A statement's word is the most frequent of its own that stands in two groups or more and in at
    most a twentieth of them (or three, if that is more); where it has none, the rarest that stands in two groups. Half
    of the statements get each label, as nearly as the words allow.

    In scripts without spaces the words are signs and pairs of signs (`texts.words`).

    Source: Hewitt and Liang 2019, whose word types these are.
    """
    held = [set(words(text.casefold())) for text in concepts.statements]
    holding: dict[str, set[str]] = defaultdict(set)
    frequency = Counter(word for own in held for word in own)
    for group, own in zip(concepts.groups, held, strict=True):
        for word in own:
            holding[word].add(group)
    most = max(len(set(concepts.groups)) / 20, 3)
    recurring = {word for word, groups in holding.items() if len(groups) > 1}
    telling = {word for word in recurring if len(holding[word]) <= most}
    cues = [
        max(sorted(own & telling), key=frequency.__getitem__, default="")
        or min(sorted(own & recurring), key=frequency.__getitem__, default="")
        for own in held
    ]
    counts = dict(sorted(Counter(filter(None, cues)).items()))
    names, label, balance = np.random.default_rng(seed).permutation(list(counts)), {}, 0
    for i, name in enumerate(sorted(names, key=lambda name: -counts[name])):
        drawn = (balance < 0) if balance else i % 2
        label[name], balance = int(drawn), balance + (1 if drawn else -1) * counts[name]
    return np.array([label.get(cue, -1) for cue in cues])


def text_axes(concepts: ConceptSet) -> list[np.ndarray]:
    """Return, for each fold, the principal axes of both kinds of n-grams, fitted and standardised on the training part."""

    def make() -> dict[str, np.ndarray]:
        texts, by_fold = np.array(concepts.statements, dtype=object), {}
        for fold, split in enumerate(folds(concepts, seed=0)):
            parts = []
            for settings in floors.VECTORIZERS.values():
                vectorizer = TfidfVectorizer(**settings).fit(texts[split.train])
                counts = vectorizer.transform(texts[split.train])
                svd = TruncatedSVD(min(_TEXT_AXES, *counts.shape), random_state=0).fit(counts)
                parts.append(svd.transform(vectorizer.transform(texts)))
            axes = np.hstack(parts)
            by_fold[f"fold {fold}"] = (axes - axes[split.train].mean(0)) / np.maximum(axes[split.train].std(0), 1e-9)
        return by_fold

    return list(cached("text axes", [concepts.sha256, 0, _TEXT_AXES, floors.VECTORIZERS, sklearn.__version__], make).values())


def conditional_gain(features: Float[np.ndarray, "example feature"], concepts: ConceptSet) -> Float[np.ndarray, " example"]:
    """Return, for each statement, the bits that activations save a reader who has the text's n-grams already.

    Log-loss of a probe on text features minus that of a probe on text features and activations. The penalty of the text
    is chosen first, then that of the activations, among them "leave the activations out": the second family holds the
    first, so nothing is gained where nothing is there, but for the noise of that choice.

    Source: Hewitt et al. 2021 (conditional probing).
    """
    saved, grid = np.zeros(len(concepts)), 1 / np.array(probes.PENALTIES)
    for split, text in zip(folds(concepts, seed=0), text_axes(concepts), strict=True):
        basis = probes.Basis(features[split.train])
        both = np.hstack([text, basis.coordinates(features)])
        fit, y = np.repeat(concepts.labels[split.train, None], len(grid), axis=1), concepts.labels[:, None]
        alone = _logits(text, split.train, fit, np.ones((text.shape[1], 1)) * grid)
        losses = probes.log_loss(alone, np.repeat(y, len(grid), axis=1))
        best = losses[split.validation].mean(0).argmin()
        own = np.vstack([np.full((text.shape[1], len(grid)), grid[best]), np.ones((len(basis.squares), 1)) * grid])
        joined = probes.log_loss(_logits(both, split.train, fit, own), np.repeat(y, len(grid), axis=1))
        offered = np.column_stack([losses[:, best], joined])
        saved[split.test] = losses[split.test, best] - offered[split.test, offered[split.validation].mean(0).argmin()]
    return saved


def _logits(features: np.ndarray, train: np.ndarray, labels: np.ndarray, penalty: np.ndarray) -> np.ndarray:
    weights, bias = probes.fit_logistic(features[train], labels, penalty)
    return features @ weights + bias


def online_code(
    features: Float[np.ndarray, "example feature"], concepts: ConceptSet, labels: Int[np.ndarray, "task example"], seed: int = 0
) -> Float[np.ndarray, "task example"]:
    """Return the bits that each label costs when a probe, fitted on all the labels sent before, predicts the next block.

    Whole groups are sent in random order. The first block costs one bit a label; the penalty of each further block is the
    one that would have been cheapest so far, which the receiver knows too.

    Source: Voita and Titov 2020 (online code).
    """
    names = np.random.default_rng(seed).permutation(sorted(set(concepts.groups)))
    place = {name: i for i, name in enumerate(names)}
    order = np.array([place[group] for group in concepts.groups])
    bits, options = np.ones(labels.shape), len(probes.PENALTIES)
    spent, tasks = np.zeros((len(labels), options)), np.arange(len(labels))
    for share, end in pairwise(_BLOCKS):
        known = np.flatnonzero(order < share * len(names))
        block = np.flatnonzero((order >= share * len(names)) & (order < end * len(names)))
        if len(known) < 2 or not len(block):
            continue
        basis = probes.Basis(features[known])
        grid = np.tile(1 / np.array(probes.PENALTIES), len(labels)) * np.ones((len(basis.squares), 1))
        fitted = probes.fit_logistic(basis.train, np.repeat(labels.T[known], options, axis=1), grid)
        logits = basis.coordinates(features[block]) @ fitted[0] + fitted[1]
        costs = probes.log_loss(logits, np.repeat(labels.T[block], options, axis=1)).reshape(len(block), len(labels), options)
        bits[:, block] = costs[:, tasks, spent.argmin(1)].T
        spent += costs.sum(0)
    return bits


def selectivities(traced: probes.Traced) -> Rows:
    """Yield the control task's accuracy and the probe's lead over it.

    The lead is paired: both accuracies are of the statements that have a recurring word. Each seed has words' labels of
    its own. A set in which no two words recur has no such task, and no rows.
    """
    labels = traced.labels["control task"]
    labelled = labels[0] >= 0
    if len(set(labels[0][labelled].tolist())) < 2:
        return
    weights = evaluation.bootstrap_weights([g for g, has in zip(traced.concepts.groups, labelled, strict=True) if has], seed=0)
    true, control = (traced.correct(method)[:, labelled] for method in ("logistic", "control task"))
    for layer in range(len(true)):
        yield layer, "control task", "accuracy", evaluation.mean(control[layer], weights)
        yield layer, "logistic", "selectivity", evaluation.mean(true[layer] - control[layer], weights)


def conditional_gains(acts: Acts, concepts: ConceptSet) -> Rows:
    """Yield `conditional_gain` at every layer."""
    weights = evaluation.bootstrap_weights(concepts.groups, seed=0)
    for layer in range(acts.shape[1]):
        saved = conditional_gain(acts[:, layer], concepts)
        yield layer, "text and activations", "conditional_gain", evaluation.mean(saved, weights)


def compressions(acts: Acts, concepts: ConceptSet, shuffled: Int[np.ndarray, "seed example"]) -> Rows:
    """Yield how much shorter `online_code` is than one bit a label, 1 being not at all.

    The lengths are means over one order of the groups, and one row of shuffled labels, a seed.
    """
    weights = evaluation.bootstrap_weights(concepts.groups, seed=0)
    tasks = [np.stack([concepts.labels, row]) for row in shuffled]
    for layer in range(acts.shape[1]):
        bits = np.mean([online_code(acts[:, layer], concepts, task, seed) for seed, task in enumerate(tasks)], axis=0)
        for method, spent in zip(("online code", "online code, shuffled labels"), bits, strict=True):
            yield layer, method, "compression", evaluation.ratio(np.ones(len(spent)), spent, weights)


def describe(sets: Iterable[ConceptSet]) -> pd.DataFrame:
    """Return one row a set and dimension: size, balance, groups, licence, hash, the lexical floor with its interval.

    Warns of a user's own statements if the best reader of their text, n-grams or another, is right in more than 0.9 of
    them, and if they have no control task.
    """
    rows = []
    for concepts in sets:
        scores = floors.lexical_floor(concepts)
        text_axes(concepts)  # kept in the cache, so that no notebook computes it
        floor = scores["accuracy"]
        if concepts.name not in SETS:
            _warn(concepts)
        rows.append(
            {
                "concept_set": concepts.name,
                "dimension": concepts.dimension,
                "statements": len(concepts),
                "trustworthy": int(concepts.labels.sum()),
                "groups": len(set(concepts.groups)),
                "floor": floor.value,
                "floor_low": floor.low,
                "floor_high": floor.high,
                "licence": concepts.licence,
                "source": concepts.source if concepts.name in SETS else Path(concepts.source).name,
                "sha256": concepts.sha256,
                "floor_auroc": scores["auroc"].value,
            }
        )
    return pd.DataFrame(rows)


def _warn(concepts: ConceptSet) -> None:
    """Warn about statements of a user's own beside which a probe says little."""
    name, task = f"{concepts.name}/{concepts.dimension}", control_task(concepts)
    every = ((floors.of(concepts).logits > 0) == (concepts.labels == 1)).mean(1)  # of each reader
    right, reader = every.max(), floors.READERS[int(every.argmax())]
    if right > _HIGH_FLOOR:
        verb = "tell" if reader.endswith("s") else "tells"
        warnings.warn(
            f"{name}: {reader} alone {verb} the two sides apart in {right:.0%} of the statements; a probe can hardly show more.",
            stacklevel=3,
        )
    if len(set(task[task >= 0].tolist())) < 2:
        warnings.warn(
            f"{name}: no two words recur in other groups, so there is no control task and no selectivity.", stacklevel=3
        )
