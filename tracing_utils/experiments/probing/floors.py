"""Floors: how well the label is told without the language model, by a reader of the text alone.

Rule: every reader has the folds of the probe, and the best one of a fold is chosen on its validation part, as the probe's
layer is. What depends on the statements alone is kept in the cache folder: every checkpoint of a study is compared with it.
"""

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import sklearn
from jaxtyping import Float, Int, UInt8
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from ...core import evaluation
from ...statements.concepts import ConceptSet, Split, folds, tested
from ...statements.sources import SETS
from ...statements.texts import WORD, words
from ..cache import cached
from ..tables import Rows
from . import probes

__all__ = ["PENALTIES", "READERS", "VECTORIZERS", "Floors", "lexical_floor", "of", "surface_features"]

READERS = ("majority", "words", "characters", "surface", "character shape", "out of vocabulary", "small tree")
"""Readers of the text: the commoner label; logistic regressions on word 1-2-grams, on character 2-5-grams, on
`surface_features`, on kinds of characters, and on words that the training part lacks; and a decision tree over all these."""

VECTORIZERS = {
    "words": {"ngram_range": (1, 2), "token_pattern": WORD},
    "characters": {"analyzer": "char_wb", "ngram_range": (2, 5), "lowercase": False},  # flipped case is a surface cue
}
PENALTIES = (0.1, 1.0, 10.0)
"""Inverse penalties C of the n-gram models that the validation part may choose from."""

_DEPTHS = (2, 4, 6)  # of the tree
_LEAF = 5  # fewest statements of a leaf
_PATTERNS = (
    r"[^\x00-\x7f]",  # not ASCII
    r"(?<=[^\W\d_])[A-Z]",  # a capital inside a word
    r"[^\W\d_]\d|\d[^\W\d_]",  # a letter beside a digit
    r"[^\w\s.,;:!?'\"()-]",  # an uncommon mark
    r"(?i)[^\Waeiouy\d_]{5}",  # five consonants
    r"(.)\1",  # a doubled character
    r"^[a-z]",  # a small letter to begin with
)
_UNSEEN = r"\s\xad\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff"
_SPACES = (rf"^[{_UNSEEN}]", rf"[{_UNSEEN}]\Z", rf"(?! )[{_UNSEEN}]|  ")
"""White space, or what is not seen, at the begin, at the end, and other than single spaces."""


@dataclass(frozen=True, eq=False)
class Floors:
    """What every reader of `READERS` says of statements that it was not fitted on.

    Attributes:
        concepts: the statements.
        logits: of the test part of each fold.
        right: share of the validation part of each fold that a reader tells right.
        seed: of the assignment of groups to folds.
    """

    concepts: ConceptSet
    logits: Float[np.ndarray, "reader example"]
    right: Float[np.ndarray, "reader fold"]
    seed: int

    def best(self, among: tuple[str, ...] = READERS) -> Float[np.ndarray, " example"]:
        """Return the logits of the reader that does best on each fold's validation part."""
        rows = np.array([READERS.index(name) for name in among])
        reader = rows[self.right[rows].argmax(0)][tested(self.concepts, self.seed)]
        return self.logits[reader, np.arange(len(self.concepts))]

    @property
    def name(self) -> str:
        """The reader that is the best one in most folds."""
        return Counter(READERS[at] for at in self.right.argmax(0)).most_common(1)[0][0]

    def evidence(self) -> dict[str, UInt8[np.ndarray, "1 example"]]:
        """Return which statements the best reader, and each one, tells right, for later paired tests."""
        by_reader = {"floor": self.best()} | {f"floor/{name}": logits for name, logits in zip(READERS, self.logits, strict=True)}
        return {name: ((logits > 0) == (self.concepts.labels == 1)).astype(np.uint8)[None] for name, logits in by_reader.items()}

    def estimates(self) -> Rows:
        """Yield the scores, which no layer has, of the `floor`, the `lexical floor` (n-grams alone), and each reader."""
        best = {"floor": self.best(), "lexical floor": self.best(tuple(VECTORIZERS))}
        for method, logits in (best | dict(zip(READERS, self.logits, strict=True))).items():
            for metric, estimate in probes.scores(logits[None], self.concepts.labels, self.concepts.groups).items():
                yield None, method, metric, estimate


def of(concepts: ConceptSet, seed: int = 0) -> Floors:
    """Return what every reader says of the statements."""

    def make() -> dict[str, np.ndarray]:
        logits, right = np.empty((len(READERS), len(concepts))), np.empty((len(READERS), 5))
        for fold in range(5):
            by_reader, split = _fold(concepts, seed, fold), folds(concepts, seed)[fold]
            logits[:, split.test] = by_reader[:, split.test]
            right[:, fold] = ((by_reader > 0) == (concepts.labels == 1))[:, split.validation].mean(1)
        return {"logits": logits, "right": right}

    method = [VECTORIZERS, PENALTIES, _DEPTHS, _LEAF, _PATTERNS, _SPACES, probes.PENALTIES, sklearn.__version__]
    return Floors(concepts, **cached("floors", [concepts.sha256, seed, method], make), seed=seed)


def lexical_floor(concepts: ConceptSet) -> dict[str, evaluation.Estimate]:
    """Return the scores of the better n-gram model of each fold."""
    return probes.scores(of(concepts).best(tuple(VECTORIZERS))[None], concepts.labels, concepts.groups)


def surface_features(concepts: ConceptSet) -> Float[np.ndarray, "example feature"]:
    """Return what a statement looks like.

    Counts of characters, words, capitals, digits and punctuation marks, the mean length of a word, and whether there is
    any capital, digit, comma or question mark. Of a user's own statements also the white space at their ends, and of
    unusual kinds, where there is any: in the sets with names it was not looked at when their floors were published.
    """
    rows, spaces = [], np.zeros((len(concepts), 0))
    if concepts.name not in SETS:
        spaces = np.array([[len(re.findall(pattern, text)) for pattern in _SPACES] for text in concepts.statements])
    for text in concepts.statements:
        words, capitals, digits = text.split(), sum(map(str.isupper, text)), sum(map(str.isdigit, text))
        marks = sum(not char.isalnum() and not char.isspace() for char in text)
        any_of = (capitals > 0, digits > 0, "," in text, "?" in text)
        rows.append([len(text), len(words), len(text) / max(len(words), 1), capitals, digits, marks, *any_of])
    return np.hstack([np.array(rows, dtype=float), spaces[:, spaces.any(0)]])


def _shapes(concepts: ConceptSet) -> Float[np.ndarray, "example feature"]:
    """Return how often each of `_PATTERNS` occurs, whether it occurs, and the length of the longest word."""
    counts = np.array([[len(re.findall(pattern, text)) for pattern in _PATTERNS] for text in concepts.statements], dtype=float)
    longest = [max(map(len, text.split()), default=0) for text in concepts.statements]
    return np.column_stack([counts, counts > 0, longest])


def _unseen_words(concepts: ConceptSet, known: Int[np.ndarray, " known"]) -> Float[np.ndarray, "example feature"]:
    """Return how many words, and how many runs of three letters, of each statement no `known` statement has, and the shares."""
    own = [set(words(text.casefold())) for text in concepts.statements]
    runs = [{word[i : i + 3] for word in some for i in range(max(1, len(word) - 2))} for some in own]
    columns = []
    for has in (own, runs):
        seen = set().union(*(has[i] for i in known))
        count = np.array([len(some - seen) for some in has], dtype=float)
        columns += [count, count / [max(1, len(some)) for some in has]]
    return np.column_stack(columns)


def _fold(concepts: ConceptSet, seed: int, fold: int) -> Float[np.ndarray, "reader example"]:
    """Return the logits of every reader that is fitted on one fold's training part.

    The tree reads n-gram logits and counts of strange words. On the training part those come from fits that leave out
    the part a statement stands in, or the tree would take what was learnt by heart for what can be told.
    """
    splits = folds(concepts, seed)
    split, labels = splits[fold], concepts.labels
    inner = [part for other in splits if len(part := np.intersect1d(other.test, split.train))]
    held, by_reader = [_unseen_words(concepts, split.train)], {"majority": np.full(len(labels), _log_odds(labels[split.train]))}
    for part in inner:
        held[0][part] = _unseen_words(concepts, np.setdiff1d(split.train, part))[part]
    for kind in VECTORIZERS:
        by_reader[kind], penalty = _n_grams(concepts, kind, split.train, split.validation)
        held.append(by_reader[kind].copy()[:, None])
        for part in inner:
            held[-1][part, 0] = _n_grams(concepts, kind, np.setdiff1d(split.train, part), split.validation, penalty)[0][part]
    seen = {"surface": surface_features(concepts), "character shape": _shapes(concepts), "out of vocabulary": held[0]}
    for kind, features in seen.items():
        basis = probes.Basis(features[split.train])
        valid = features[split.validation], labels[split.validation, None]
        ((probe, _),) = probes.fit_chosen(basis, labels[split.train, None], *valid)
        by_reader[kind] = probe.logits(features)
    by_reader["small tree"] = _tree(np.hstack([seen["surface"], seen["character shape"], *held]), labels, split)
    return np.stack([by_reader[name] for name in READERS])


def _log_odds(labels: Int[np.ndarray, " example"]) -> float:
    ones = labels.sum() + 1
    return float(np.log(ones / (len(labels) + 2 - ones)))


@lru_cache(maxsize=2)  # every fold counts alike
def _counts(concepts: ConceptSet, kind: str) -> csr_matrix:
    return csr_matrix(CountVectorizer(**VECTORIZERS[kind]).fit_transform(concepts.statements))


def _n_grams(
    concepts: ConceptSet, kind: str, train: np.ndarray, validation: np.ndarray, penalty: float | None = None
) -> tuple[Float[np.ndarray, " example"], float]:
    """Return the logits of a logistic regression on tf-idf n-grams, and its penalty: given, or chosen on the validation part."""
    if len(set(concepts.labels[train])) < 2:  # a small set's part may have one label, which a regression refuses
        return np.full(len(concepts), _log_odds(concepts.labels[train])), penalty or PENALTIES[0]
    counts = _counts(concepts, kind)
    counts = counts[:, np.flatnonzero(counts[train].getnnz(0))]  # what the training part does not hold is not known
    features, models = TfidfTransformer().fit(counts[train]).transform(counts), []
    for strength in PENALTIES if penalty is None else (penalty,):
        model = LogisticRegression(C=strength, max_iter=1000).fit(features[train], concepts.labels[train])
        logits = model.decision_function(features)
        models.append((probes.log_loss(logits[validation], concepts.labels[validation]).mean(), logits, strength))
    return min(models, key=lambda each: each[0])[1:]


def _tree(features: np.ndarray, labels: np.ndarray, split: Split) -> Float[np.ndarray, " example"]:
    """Return the log-odds of the leaf each statement falls into; the depth is chosen on the validation part."""
    trees = []
    for depth in _DEPTHS:
        grown = DecisionTreeClassifier(max_depth=depth, min_samples_leaf=_LEAF, random_state=0)
        leaf = grown.fit(features[split.train], labels[split.train]).apply(features)
        odds = {at: _log_odds(labels[split.train][leaf[split.train] == at]) for at in set(leaf[split.train])}
        logits = np.array([odds[at] for at in leaf])
        trees.append((probes.log_loss(logits[split.validation], labels[split.validation]).mean(), logits))
    return min(trees, key=lambda each: each[0])[1]
