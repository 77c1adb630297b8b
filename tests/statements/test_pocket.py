"""The hand-written statements are enough, balanced, distinct, and their words alone do not give the label away."""

import csv
import re
from collections import defaultdict

import numpy as np
import pandas as pd
import pytest

from tracing_utils.core.paths import PROJECT
from tracing_utils.experiments.probing import floors
from tracing_utils.statements.concepts import DIMENSIONS, load, subset
from tracing_utils.statements.perturbations import PERTURBATIONS

FOLDER = PROJECT / "tracing_utils" / "data" / "pocket"
COLUMNS = ["statement", "label", "group", "category"]


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_each_dimension_has_at_least_300_pairs(dimension):
    read = load("pocket", dimension)
    assert read.labels.sum() >= 300
    assert (1 - read.labels).sum() >= 300


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_the_files_have_the_columns_of_the_read_me(dimension):
    with (FOLDER / f"{dimension}.csv").open(encoding="utf-8", newline="") as file:
        header = next(csv.reader(file))
    assert header == COLUMNS + (["sentiment"] if dimension == "robustness" else [])


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_every_group_holds_as_many_trustworthy_as_untrustworthy_statements(dimension):
    sides = defaultdict(list)
    read = load("pocket", dimension)
    for group, label in zip(read.groups, read.labels.tolist(), strict=True):
        sides[group].append(label)
    assert [group for group, labels in sides.items() if 2 * sum(labels) != len(labels)] == []


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_no_statement_stands_twice_not_even_in_other_spelling(dimension):
    seen = defaultdict(list)
    read = load("pocket", dimension)
    for i, statement in enumerate(read.statements):
        # Perturbed twins of the robustness file differ in spelling by design.
        seen[statement if dimension == "robustness" else " ".join(statement.casefold().split())].append(i)
    assert [rows for rows in seen.values() if len(rows) > 1] == []


def test_no_statement_stands_in_two_dimensions():
    seen = [set(load("pocket", dimension).statements) for dimension in DIMENSIONS]
    assert len(set().union(*seen)) == sum(map(len, seen))


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_statements_have_no_stray_spaces_and_end_like_sentences(dimension):
    read = load("pocket", dimension)
    clean = [s for s, label in zip(read.statements, read.labels, strict=True) if dimension != "robustness" or label == 1]
    assert [s for s in clean if s != " ".join(s.split())] == []
    assert [s for s in clean if s[-1] not in '.!?"'] == []


SOLOVE = {
    "surveillance", "interrogation", "aggregation", "identification", "insecurity", "secondary-use", "exclusion",
    "breach-of-confidentiality", "disclosure", "exposure", "increased-accessibility", "blackmail", "appropriation",
    "distortion", "intrusion", "decisional-interference",
}  # fmt: skip
KINDS = {
    "privacy": SOLOVE,
    "fairness": {"gender", "age", "profession", "religion", "nationality", "disability", "class"},
    "robustness": set(PERTURBATIONS),
}


@pytest.mark.parametrize("dimension", KINDS)
def test_every_kind_that_the_dimension_is_divided_into_is_there(dimension):
    assert set(load("pocket", dimension).categories) == KINDS[dimension]


def test_facts_come_from_many_fields_and_misconceptions_are_among_them():
    fields = set(load("pocket", "reliability").categories)
    assert "misconceptions" in fields
    assert len(fields) > 12


LITTLE = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "in",
        "to",
        "and",
        "or",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "that",
        "which",
        "who",
        "for",
        "on",
        "at",
        "by",
        "with",
        "from",
        "as",
        "not",
        "no",
        "he",
        "she",
        "it",
        "they",
        "we",
        "you",
        "i",
        "his",
        "her",
        "its",
        "their",
        "my",
        "your",
        "our",
        "this",
        "these",
        "those",
        "but",
        "than",
        "so",
        "when",
        "while",
        "after",
        "before",
        "if",
        "there",
        "has",
        "have",
        "had",
        "do",
        "does",
        "did",
    ]
)


def templates(statements, groups) -> dict[str, int]:
    """In how many groups a beginning of three words, or a skeleton of little words, is found."""
    found = defaultdict(set)
    for statement, group in zip(statements, groups, strict=True):
        words = re.findall(r"[^\W_]+(?:'[a-z]+)?", statement.casefold())
        skeleton = " ".join(word if word in LITTLE else "_" for word in words)
        found[" ".join(words[:3]) + " ..."].add(group)
        found[skeleton].add(group)
    return {template: len(where) for template, where in found.items()}


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_no_template_repeats_more_than_five_times(dimension):
    read = load("pocket", dimension)
    clean = np.flatnonzero(read.labels == 1) if dimension == "robustness" else np.arange(len(read))
    counts = templates([read.statements[i] for i in clean], [read.groups[i] for i in clean])
    assert {template: n for template, n in counts.items() if n > 5} == {}


def test_a_template_that_repeats_is_seen():
    made = [f"The {noun} of the town is {word}." for noun, word in zip("bcdefg", "uvwxyz", strict=True)]
    assert templates(made, range(6))["the _ of the _ is _"] == 6


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_every_category_has_enough_statements_to_be_counted(dimension):
    counts = pd.Series(load("pocket", dimension).categories).value_counts()
    assert counts.index.str.len().min() > 0
    assert counts.min() >= 20


@pytest.mark.parametrize(
    ("dimension", "most"), [("reliability", 0.65), ("privacy", 0.65), ("fairness", 0.65), ("toxicity", 0.72)]
)
def test_the_words_alone_do_not_give_the_label_away(dimension, most):
    assert floors.lexical_floor(load("pocket", dimension))["accuracy"].value <= most


def test_a_set_whose_words_do_give_the_label_away_is_seen(make_concepts):
    read = subset(load("pocket", "privacy"), np.arange(200))
    assert floors.lexical_floor(read)["accuracy"].value < 0.7
    told = [f"{s} {'Fine' if label else 'Bad'}." for s, label in zip(read.statements, read.labels, strict=True)]
    made = make_concepts(read.labels, statements=told, groups=read.groups)
    assert floors.lexical_floor(made)["accuracy"].value > 0.95


def test_the_lengths_of_the_two_sides_are_alike():
    for dimension in DIMENSIONS:
        read = load("pocket", dimension)
        words = np.array([len(s.split()) for s in read.statements])
        ones, zeros = words[read.labels == 1], words[read.labels == 0]
        difference = ones.mean() - zeros.mean()
        limit = 1.5 if dimension == "robustness" else 0.5  # dropped spaces make fewer words
        assert abs(difference) < limit, f"{dimension}: {difference:.2f} words"


def test_each_group_of_fairness_has_one_unrelated_sentence_that_is_not_among_its_statements():
    unrelated = pd.read_csv(FOLDER / "fairness_unrelated.csv")
    read = load("pocket", "fairness")
    assert unrelated.columns.tolist() == ["statement", "group", "category"]
    assert sorted(unrelated["group"]) == sorted(set(read.groups))
    assert not set(unrelated["statement"]) & set(read.statements)


def test_the_sentiment_of_a_review_is_that_of_its_twin_and_balanced():
    table = pd.read_csv(FOLDER / "robustness.csv")
    clean, twins = table[table["label"] == 1], table[table["label"] == 0]
    assert clean["sentiment"].tolist() == twins["sentiment"].tolist()
    assert clean["sentiment"].mean() == 0.5
