"""Controls: what a result must beat before it says anything about the model.

Rule: a control runs through the same splits, fits and intervals as the thing it controls.

Public names: `lexical_logits`, `lexical_floor`, `shuffled_labels`, `random_direction`.
"""

import json
import os
from collections import defaultdict
from dataclasses import asdict
from hashlib import sha256

import numpy as np
import sklearn
from jaxtyping import Float, Int
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from . import downloads, evaluation, probing
from .concepts import ConceptSet, folds

_VECTORIZERS = {
    "words": {"ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"},
    "characters": {"analyzer": "char_wb", "ngram_range": (2, 5), "lowercase": False},  # flipped case is a surface cue
}
_PENALTIES = (0.1, 1.0, 10.0)


def lexical_logits(concepts: ConceptSet, kind: str, seed: int) -> Float[np.ndarray, " example"]:
    """Return held-out logits of a logistic regression on n-grams: `words` (1-2) or `characters` (2-5), tf-idf."""
    texts, logits = np.array(concepts.statements, dtype=object), np.empty(len(concepts))
    for split in folds(concepts, seed):
        vectorizer = TfidfVectorizer(**_VECTORIZERS[kind]).fit(texts[split.train])
        train, validation, test = (vectorizer.transform(texts[part]) for part in (split.train, split.validation, split.test))
        best = np.inf
        for penalty in _PENALTIES:
            model = LogisticRegression(C=penalty, max_iter=1000).fit(train, concepts.labels[split.train])
            loss = probing.log_loss(model.decision_function(validation), concepts.labels[split.validation]).mean()
            if loss < best:
                best, logits[split.test] = loss, model.decision_function(test)
    return logits


def lexical_floor(concepts: ConceptSet, seed: int = 0) -> dict[str, evaluation.Estimate]:
    """Return the scores of the better of the two n-gram models (by accuracy): what surface words alone give away.

    The better one is chosen on the test parts, which favours the floor, never the probe. The result
    is kept in the cache folder, since every checkpoint of a study is held against the same floor.
    """
    method = json.dumps([_VECTORIZERS, _PENALTIES, evaluation.DRAWS, sklearn.__version__])
    key = sha256(f"{concepts.sha256} {seed} {method}".encode()).hexdigest()[:32]
    kept = downloads.cache_folder() / "lexical-floors" / f"{key}.json"
    if kept.exists():
        return {metric: evaluation.Estimate(**entry) for metric, entry in json.loads(kept.read_text()).items()}
    both = []
    for kind in _VECTORIZERS:
        logits = lexical_logits(concepts, kind, seed)
        both.append(probing.scores(logits[None], concepts.labels, concepts.groups))
    floor = max(both, key=lambda scores: scores["accuracy"].value)
    kept.parent.mkdir(exist_ok=True)
    part = kept.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps({metric: asdict(estimate) for metric, estimate in floor.items()}))
    os.replace(part, kept)
    return floor


def shuffled_labels(concepts: ConceptSet, seed: int) -> Int[np.ndarray, " example"]:
    """Return the labels in random order: the same balance, no relation to the statements.

    Labels change places inside their group where it holds both, and among the remaining statements
    otherwise: pairs that share their words stay balanced, as they are with the true labels.
    """
    rng = np.random.default_rng(seed)
    members: dict[str, list[int]] = defaultdict(list)
    for i, group in enumerate(concepts.groups):
        members[group].append(i)
    mixed = [rows for rows in members.values() if len(set(concepts.labels[rows])) == 2]
    rest = sorted(set(range(len(concepts))) - {i for rows in mixed for i in rows})
    labels = concepts.labels.copy()
    for rows in [*mixed, rest]:
        labels[rows] = rng.permutation(labels[rows])
    return labels


def random_direction(like: Float[np.ndarray, " d_model"], seed: int) -> Float[np.ndarray, " d_model"]:
    """Return a random direction with the norm of `like`."""
    direction = np.random.default_rng(seed).standard_normal(len(like))
    return (direction * np.linalg.norm(like) / np.linalg.norm(direction)).astype(like.dtype)
