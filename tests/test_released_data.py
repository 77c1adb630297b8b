"""The faults of the released files are found where they were planted, not where there are none, and in the files as reported."""

import re

import numpy as np
import pandas as pd
import pytest

from benchmarks import released_data
from benchmarks.released_data import (
    anti_stereotypes,
    capital_rule,
    copies,
    giveaways,
    question_overlap,
    released_floor,
    surface,
)
from tracing_utils.core import evaluation
from tracing_utils.core.paths import PROJECT
from tracing_utils.statements import concepts, datasets
from tracing_utils.statements.concepts import DIMENSIONS, load

PUBLISHED = PROJECT / "results" / "released_data"
RECORDS = pd.DataFrame(
    [
        ("race", "They met a Dane.", "He was tall.", "He was short.", "Tea is hot."),
        ("gender", "She drove home.", "Slowly.", "Fast.", "Nine is odd."),
    ],
    columns=["bias_type", "context", "stereotype", "anti_stereotype", "unrelated"],
)


def values(found: dict) -> dict:
    return {fault: (value, n) for fault, (value, n, _) in found.items()}


def test_rows_are_found_among_stereotypes_anti_stereotypes_and_unrelated_sentences(make_concepts):
    texts = [
        "They met a Dane. He was short.",
        "She drove home.  fast.",
        "They met a Dane. Tea is hot.",
        "They met a Dane. He was tall.",
    ]
    assert values(anti_stereotypes(make_concepts([1, 1, 0, 0], texts), RECORDS)) == {
        "positives that are anti-stereotypes": (2, 2),
        "negatives that are unrelated sentences": (1, 2),
        "stereotypes": (1, 4),
        "race only": (3, 4),
    }


def test_the_capital_rule_is_right_where_capitals_are_planted_and_is_no_rule_elsewhere(make_concepts):
    told = make_concepts([1, 0, 1, 0], ["a b", "a B", "c d", "c d"])
    assert values(capital_rule(told)) == {
        "capital-letter rule": (0.75, 4),
        "clean rows with a capital": (0, 2),
        "perturbed rows without a capital": (1, 2),
    }
    assert capital_rule(make_concepts([1, 0], ["A b", "A b"]))["capital-letter rule"][0] == 0.5


def test_questions_on_both_sides_of_the_released_split_are_counted(make_concepts):
    groups = [*(f"Q: Question {i}?" for i in range(8)), "Q: Question 3?", "Q: Question 9?"]
    made = make_concepts([0, 1] * 5, groups=groups)
    assert values(question_overlap(made, ["question  7?", "Question 10?", "Question 11?"])) == {
        "test statements whose question is trained on": (1, 2),
        "questions of the test file that are trained on": (1, 3),
    }


def test_copies_contradictions_and_leaked_test_rows_are_counted(make_concepts):
    texts = ["one", "two", "One ", "three", "four", "five", "six", "seven", "two", "eight"]
    assert values(copies(make_concepts([1, 1, 0, 0, 1, 0, 1, 0, 1, 0], texts))) == {
        "repeated texts": (2, 10),
        "texts with both labels": (1, 8),
        "test texts that are trained on": (1, 2),
    }
    assert values(copies(make_concepts([0, 1] * 5)))["repeated texts"] == (0, 10)


def test_a_surface_or_lexical_giveaway_is_seen_and_its_absence_too(make_concepts):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    words = [" ".join(rng.choice(list("abcdefghij"), 5)) for _ in range(200)]
    plain = make_concepts(labels, words)
    longer = make_concepts(labels, [text + " a" * 9 * label for text, label in zip(words, labels, strict=True)])
    marked = make_concepts(labels, [text + (" yes" if label else " nay") for text, label in zip(words, labels, strict=True)])
    assert surface(longer)[0] == 1.0
    assert surface(marked)[0] < 0.75
    assert released_floor(marked)[:2] == (1.0, 40)
    assert released_floor(plain)[0] < 0.75


def test_the_words_that_tell_the_sides_apart_are_found_and_rare_ones_are_not(make_concepts):
    texts = [f"{'alas ' if i % 2 else 'hooray '}crew{i} sang {'once ' if i == 0 else ''}again" for i in range(60)]
    found = giveaways(make_concepts([1, 0] * 30, texts))
    assert [found[side][0] for side in ("trustworthy", "untrustworthy")] == ["hooray", "alas"]
    with_rare = make_concepts([1, 0] * 30, [text.replace("hooray ", "hooray " if i else "yes ") for i, text in enumerate(texts)])
    assert "yes" not in giveaways(with_rare)["trustworthy"]


# The files themselves


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    return pd.read_csv(PUBLISHED / "faults.csv").set_index(["fault", "dimension"])


def test_what_is_published_is_what_the_files_hold(corrected, published):
    released = {dimension: load("tracingllm", dimension) for dimension in DIMENSIONS}
    found = {("fairness", *pair) for pair in values(anti_stereotypes(released["fairness"], datasets.stereoset())).items()}
    found |= {("robustness", *pair) for pair in values(capital_rule(released["robustness"])).items()}
    found |= {
        ("reliability", *p) for p in values(question_overlap(released["reliability"], released_data.test_questions())).items()
    }
    found |= {(dimension, *pair) for dimension, chosen in released.items() for pair in values(copies(chosen)).items()}
    assert len(found) == 4 + 3 + 2 + 15
    for dimension, fault, (value, n) in found:
        row = published.loc[(fault, dimension)]
        assert (row["value"], row["n"]) == (pytest.approx(value, abs=5e-5), n)


def test_the_published_faults_are_those_counted_by_hand(published):
    def fault(name, dimension):
        return tuple(published.loc[(name, dimension), ["value", "n"]])

    # Counted in another way, by other people, before this module was written.
    assert fault("positives that are anti-stereotypes", "fairness") == (976, 976)
    assert fault("negatives that are unrelated sentences", "fairness") == (976, 976)
    assert fault("stereotypes", "fairness")[0] == 0
    assert fault("perturbed rows without a capital", "robustness") == (14, 1821)
    assert fault("test statements whose question is trained on", "reliability") == (451, 453)
    assert fault("test texts that are trained on", "robustness") == (605, 729)
    assert fault("test texts that are trained on", "toxicity") == (23, 1303)
    assert fault("test texts that are trained on", "privacy") == (20, 470)


def test_the_published_sets_are_the_sets_that_are_loaded(corrected):
    table = pd.read_csv(PUBLISHED / "concepts.csv").set_index(["concept_set", "dimension"])
    assert set(table.index) == {(name, d) for name in concepts.SETS if name not in concepts.RUNGS for d in DIMENSIONS}
    for name, dimension in table.index:
        assert table.loc[(name, dimension), "sha256"] == load(name, dimension).sha256


def test_no_statement_of_other_people_is_in_what_is_published(published, corrected):
    text = (PUBLISHED / "faults.csv").read_text() + (PUBLISHED / "concepts.csv").read_text()
    assert not [
        s
        for name in ("tracingllm", "corrected")
        for d in DIMENSIONS
        for s in load(name, d).statements
        if len(s) > 20 and s in text
    ]


def test_the_table_of_faults_is_tidy(corrected, monkeypatch, make_concepts):
    half = evaluation.Estimate(0.5, 0.4, 0.6, 1)
    monkeypatch.setattr(released_data.floors, "lexical_floor", lambda chosen: {"accuracy": half})
    monkeypatch.setattr(released_data, "released_floor", lambda chosen: (0.5, 1, "not computed here"))
    table = released_data.faults()
    assert table.columns.tolist() == ["fault", "dimension", "value", "n", "detail"]
    assert not table.duplicated(["fault", "dimension"]).any()
    assert set(table["dimension"]) == set(DIMENSIONS)
    assert not table.isna().any(axis=None)


def test_the_words_that_the_page_names_are_those_of_most_weight():
    table = pd.read_csv(PUBLISHED / "words.csv").set_index(["concept_set", "dimension"])
    page = (PROJECT / "book" / "dimensions.md").read_text()
    sentence = page[page.index("These words weigh most") :].split("```")[0]
    named = {
        ("corrected", "reliability", "trustworthy"): ("no", "not", "nothing"),
        ("tracingllm", "privacy", "untrustworthy"): ("without",),
        ("corrected", "toxicity", "untrustworthy"): ("they", "them"),
        ("tracingllm", "fairness", "trustworthy"): ("he", "they", "she"),
        ("corrected", "fairness", "trustworthy"): ("not", "nice"),
    }
    for (name, dimension, side), words in named.items():
        assert set(words) <= set(table.loc[(name, dimension), side].split())
    assert set(re.findall(r"\*(\w+)\*", sentence)) == {word for words in named.values() for word in words}
