"""What is wrong with the paper's released files, computed from the files themselves.

Rule: a fault is a number with what it is a number of; no statement of anybody's is in the table.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tracing_utils.experiments.probing import floors
from tracing_utils.statements import concepts, datasets
from tracing_utils.statements.concepts import ConceptSet
from tracing_utils.statements.texts import same_text

__all__ = [
    "anti_stereotypes", "capital_rule", "copies", "faults", "giveaways", "one_is_trustworthy", "question_overlap",
    "released_floor", "surface", "test_questions", "words",
]  # fmt: skip

_TRAINED = 0.8  # the released code trains on the first 80 % of the rows and tests on the rest


def faults() -> pd.DataFrame:
    """Return every fault as a row: `fault`, `dimension`, `value`, `n` (what the value is a share or a number of), `detail`."""
    released = {dimension: concepts.load("tracingllm", dimension) for dimension in concepts.DIMENSIONS}
    polarity = "1 if the file's 1 is the trustworthy side"
    rows = [("polarity in the file", d, int(one_is_trustworthy(d)), len(released[d]), polarity) for d in released]
    rows += [
        ("balance", d, concept_set.labels.mean(), len(concept_set), "share of trustworthy rows")
        for d, concept_set in released.items()
    ]
    fairness, robustness, reliability = (released[d] for d in ("fairness", "robustness", "reliability"))
    rows += [(fault, "fairness", *counted) for fault, counted in anti_stereotypes(fairness, datasets.stereoset()).items()]
    rows += [(fault, "robustness", *counted) for fault, counted in capital_rule(robustness).items()]
    rows += [(fault, "reliability", *counted) for fault, counted in question_overlap(reliability, test_questions()).items()]
    for dimension, concept_set in released.items():
        rows += [(fault, dimension, *counted) for fault, counted in copies(concept_set).items()]
        rows.append(("surface rule", dimension, *surface(concept_set)))
        rows.append(("lexical floor, released split", dimension, *released_floor(concept_set)))
        floor = floors.lexical_floor(concept_set)["accuracy"]
        rows.append(("lexical floor, grouped split", dimension, floor.value, floor.n, "held-out accuracy, groups kept whole"))
    dirty = sum(bool(datasets.DEBRIS.search(text)) for text in released["toxicity"].statements)
    rows.append(("debris", "toxicity", dirty, len(released["toxicity"]), "rows with escaped line ends in the text"))
    return pd.DataFrame(rows, columns=["fault", "dimension", "value", "n", "detail"])


def one_is_trustworthy(dimension: str) -> bool:
    """Return whether the 1 of a released file is the trustworthy side."""
    return datasets._RELEASED[dimension].one_is_trustworthy


def test_questions() -> list[str]:
    """Return the questions of the released file that steering is tested on; it has no labels."""
    return pd.read_csv(datasets._path(datasets._TRUTHFULQA_TEST), keep_default_na=False)["Question"].tolist()


def words() -> pd.DataFrame:
    """Return which words weigh most for each side in the sets that were not written for this book."""
    rows = []
    for name in datasets.SETS:
        for dimension in concepts.DIMENSIONS:
            sides = giveaways(concepts.load(name, dimension))
            rows.append(
                {"concept_set": name, "dimension": dimension, **{side: " ".join(heaviest) for side, heaviest in sides.items()}}
            )
    return pd.DataFrame(rows)


def giveaways(concept_set: ConceptSet) -> dict[str, list[str]]:
    """Return the six words of most weight for the trustworthy and for the untrustworthy side.

    The weight is that in a penalised logistic regression on which words occur, times the root of how many statements
    hold the word; words in fewer than 20 statements are left out.
    """
    counts = CountVectorizer(binary=True, min_df=20, token_pattern=r"(?u)\b[^\W\d]{2,}\b")
    features = counts.fit_transform(concept_set.statements)
    model = LogisticRegression(C=0.1, max_iter=1000).fit(features, concept_set.labels)
    order = np.argsort(model.coef_[0] * np.sqrt(np.asarray(features.mean(axis=0)).ravel()))
    names = counts.get_feature_names_out()[order].tolist()
    return {"trustworthy": names[:-7:-1], "untrustworthy": names[:6]}


Found = tuple[float | int, int, str]
"""The value of a fault, what it is a share or a number of, and what that is, in words."""


def _cut(n: int) -> int:
    """Return where the released code's test part begins."""
    return int(_TRAINED * n)


def anti_stereotypes(concept_set: ConceptSet, records: pd.DataFrame) -> dict[str, Found]:
    """Match the rows of the fairness file with StereoSet's own records (`datasets.stereoset`)."""
    keys = {kind: _joined(records, kind) for kind in ("stereotype", "anti_stereotype", "unrelated")}
    bias = {text: bias for known in keys.values() for text, bias in zip(known, records["bias_type"], strict=True)}
    texts = np.array([_plain(statement) for statement in concept_set.statements])
    ones, zeros = texts[concept_set.labels == 1], texts[concept_set.labels == 0]
    of = "rows found in StereoSet's records as "
    return {
        "positives that are anti-stereotypes": (_among(ones, keys["anti_stereotype"]), len(ones), of + "anti-stereotypes"),
        "negatives that are unrelated sentences": (_among(zeros, keys["unrelated"]), len(zeros), of + "unrelated sentences"),
        "stereotypes": (_among(texts, keys["stereotype"]), len(texts), of + "stereotypes"),
        "race only": (sum(bias.get(text) == "race" for text in texts), len(texts), "rows of the records on race"),
    }


def _plain(text: str) -> str:
    return same_text([text])[0].replace(" ", "")


def _joined(records: pd.DataFrame, kind: str) -> list[str]:
    return [_plain(context + sentence) for context, sentence in zip(records["context"], records[kind], strict=True)]


def _among(texts: Iterable[str], known: Iterable[str]) -> int:
    there = set(known)
    return sum(text in there for text in texts)


def capital_rule(concept_set: ConceptSet) -> dict[str, Found]:
    """Say that a sentence is perturbed if it holds a capital letter, and count how often that is right."""
    capital = np.array([text != text.lower() for text in concept_set.statements])
    perturbed = concept_set.labels == 0
    return {
        "capital-letter rule": ((capital == perturbed).mean(), len(capital), "accuracy"),
        "clean rows with a capital": (int(capital[~perturbed].sum()), int((~perturbed).sum()), "rows"),
        "perturbed rows without a capital": (int((~capital[perturbed]).sum()), int(perturbed.sum()), "rows"),
    }


def question_overlap(concept_set: ConceptSet, questions: Sequence[str]) -> dict[str, Found]:
    """Count what the parts of the released split, and the file of test questions, share with the rows trained on."""
    cut = _cut(len(concept_set.groups))
    trained = set(concept_set.groups[:cut])
    test = concept_set.groups[cut:]
    every = {re.sub(r"^q:", "", text).strip() for text in same_text(list(concept_set.groups))}
    shared = _among(same_text(questions), every)
    return {
        "test statements whose question is trained on": (_among(test, trained), len(test), "rows of the last fifth"),
        "questions of the test file that are trained on": (shared, len(questions), "questions"),
    }


def copies(concept_set: ConceptSet) -> dict[str, Found]:
    """Count repeated texts, those with both labels, and what of the released test part is trained on.

    Texts are the same if they differ in case and spaces alone, so a sentence and its case-flipped twin are too.
    """
    texts = same_text(concept_set.statements)
    labels = pd.Series(concept_set.labels).groupby(texts).agg(["size", "nunique"])
    cut = _cut(len(texts))
    test = texts[cut:]
    return {
        "repeated texts": (len(texts) - len(labels), len(texts), "rows that repeat an earlier one"),
        "texts with both labels": (int((labels["nunique"] > 1).sum()), len(labels), "texts"),
        "test texts that are trained on": (_among(test, texts[:cut]), len(test), "rows of the last fifth"),
    }


def _accuracy(model, features, labels: Int[np.ndarray, " example"]) -> float:
    cut = _cut(len(labels))
    return float(model.fit(features[:cut], labels[:cut]).score(features[cut:], labels[cut:]))


def surface(concept_set: ConceptSet) -> Found:
    """Return the accuracy of a model of what the statements look like (`floors.surface_features`), under the released split."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    n = len(concept_set) - _cut(len(concept_set.labels))
    return _accuracy(model, floors.surface_features(concept_set), concept_set.labels), n, "accuracy on the last fifth of the rows"


def released_floor(concept_set: ConceptSet) -> Found:
    """Return the accuracy of the best n-gram model under the released split, which has no validation part to choose it on."""
    cut, accuracies = _cut(len(concept_set.labels)), []
    for settings in floors.VECTORIZERS.values():
        vectorizer = TfidfVectorizer(**settings).fit(concept_set.statements[:cut])
        features = vectorizer.transform(concept_set.statements)
        models = [LogisticRegression(C=penalty, max_iter=1000) for penalty in floors.PENALTIES]
        accuracies += [_accuracy(model, features, concept_set.labels) for model in models]
    return max(accuracies), len(concept_set) - _cut(len(concept_set.labels)), "accuracy on the last fifth of the rows"
