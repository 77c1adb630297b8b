"""The rungs below the crossed statements: enough words, frames shared by both sides, and letters that do not tell the label."""

from collections import Counter, defaultdict
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from tracing_utils.core.paths import PROJECT
from tracing_utils.experiments.probing import floors
from tracing_utils.statements.concepts import DIMENSIONS, RUNGS, TOPICAL, available, grammar, load
from tracing_utils.statements.rungs import written

ALL = [(rung, dimension) for rung in RUNGS for dimension in RUNGS[rung]]
FLOOR = 0.53


def pairs(dimension) -> list[tuple[str, str]]:
    return list(written(dimension)["pairs"].items())


def told_by(values, labels) -> float:
    """Share of statements told right by the commoner label of each value, in the statements that it was counted on."""
    sides = defaultdict(Counter)
    for value, label in zip(values, labels, strict=True):
        sides[value][int(label)] += 1
    return sum(max(side.values()) for side in sides.values()) / len(labels)


@pytest.mark.parametrize(("rung", "dimension"), ALL)
def test_each_rung_has_80_words_a_side_8_frames_and_300_statements_half_of_each_label(rung, dimension):
    read = load(rung, dimension)
    words = [word for pair in pairs(dimension) for word in pair]
    assert len(set(words)) == len(words) >= 160
    assert len(set(read.groups)) == len(words) / 2
    assert len(set(written(dimension)[rung])) >= 8
    assert all(len(set(values)) >= 8 for values in written(dimension)["fill"].values())
    assert len(read) >= 300
    assert read.labels.mean() == 0.5


def test_a_set_has_only_the_dimensions_of_its_rung_and_says_which():
    assert available("words") == DIMENSIONS
    assert available("turn") == ("reliability", "privacy", "toxicity", "fairness")
    assert not set(RUNGS) & set(TOPICAL)
    with pytest.raises(
        ValueError, match=r"Unknown dimension of turn 'robustness'; known: reliability, privacy, toxicity, fairness"
    ):
        load("turn", "robustness")


def test_no_statement_stands_twice_in_any_rung_or_dimension():
    every = [
        text.casefold() for rung, d in [*ALL, *(("pocket", d) for d in DIMENSIONS[:-1])] for text in load(rung, d).statements
    ]
    assert [text for text, n in Counter(every).items() if n > 1] == []


def last_words(read) -> list[str]:
    """Return the word of its pair that each statement ends with."""
    ends = zip(read.statements, read.groups, strict=True)
    return [next(word for word in sorted(group.split("/"), key=len)[::-1] if text.endswith(f" {word}.")) for text, group in ends]


@pytest.mark.parametrize(("rung", "dimension"), ALL)
def test_without_its_last_word_a_statement_stands_equally_often_on_both_sides(rung, dimension):
    read = load(rung, dimension)
    bare = [text.removesuffix(f"{word}.") for text, word in zip(read.statements, last_words(read), strict=True)]
    assert told_by(read.statements, read.labels) == 1  # the check can fail
    assert told_by(bare, read.labels) == 0.5


@pytest.mark.parametrize("dimension", RUNGS["turn"])
def test_in_turn_neither_the_word_nor_its_turn_tells_the_label_and_both_together_do(dimension):
    read = load("turn", dimension)
    words = last_words(read)
    assert told_by(words, read.labels) == told_by(read.categories, read.labels) == 0.5
    assert told_by(zip(words, read.categories, strict=True), read.labels) == 1
    trusted = dict(pairs(dimension))
    assert [
        int((w in trusted) == (kind == "as it is")) for w, kind in zip(words, read.categories, strict=True)
    ] == read.labels.tolist()


@pytest.mark.parametrize("rung", RUNGS)
def test_each_group_holds_whole_pairs_or_quadruples_and_no_word_stands_in_two(rung):
    for dimension in RUNGS[rung]:
        read = load(rung, dimension)
        sides = Counter(zip(read.groups, read.categories, read.labels.tolist(), strict=True))
        assert set(sides.values()) == ({4} if rung == "words" else {2})
        members = [set(group.split("/")) for group in set(read.groups)]
        assert not any(one & other for one, other in combinations(members, 2))


@pytest.mark.parametrize(("rung", "dimension"), ALL)
def test_neither_length_nor_the_first_word_tells_the_label(rung, dimension):
    read = load(rung, dimension)
    assert told_by([text.split()[0] for text in read.statements], read.labels) <= 0.51
    lengths = np.array([len(text) for text in read.statements])
    assert abs(lengths[read.labels == 1].mean() - lengths[read.labels == 0].mean()) < 1
    thresholds = [((lengths > most) == (read.labels == side)).mean() for most in set(lengths) for side in (0, 1)]
    assert max(thresholds) < 0.57  # the best threshold was picked on the very statements


def letters_floor(make_concepts, dimension, told=pairs) -> tuple[float, float]:
    """Held-out accuracy of n-grams of the words alone, over three fold seeds, and its standard error over words."""
    words = told(dimension)
    texts, groups = [w for pair in words for w in pair], [pair[0] for pair in words for _ in pair]
    made = make_concepts([1, 0] * len(words), statements=texts, groups=groups)
    right = [(floors.of(made, seed).best(tuple(floors.VECTORIZERS)) > 0) == (made.labels == 1) for seed in range(3)]
    of_words = np.mean(right, axis=0)
    return of_words.mean(), of_words.std() / np.sqrt(len(of_words))


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_the_letters_of_a_word_do_not_tell_its_side(make_concepts, dimension):
    floor, error = letters_floor(make_concepts, dimension)
    assert floor <= FLOOR
    assert error < 0.04


def test_endings_that_do_tell_the_side_are_seen(make_concepts):
    def ended(dimension):
        return [(f"{a}ful", f"{b}less") for a, b in pairs(dimension)]

    assert letters_floor(make_concepts, "toxicity", ended)[0] > 0.9


def test_the_reader_s_answers_agree_as_often_as_the_table_says_with_the_labels_of_today():
    table = pd.read_csv(PROJECT / "results" / "rungs_agreement.csv", dtype={"answers": str})
    rungs = list(dict.fromkeys(table["rung"]))
    assert [(row.rung, row.dimension) for row in table.itertuples()] == [(r, d) for r in rungs for d in available(r)]
    for row in table.itertuples():
        read = load(row.rung, row.dimension)
        generator = np.random.default_rng([row.seed, rungs.index(row.rung), DIMENSIONS.index(row.dimension)])
        drawn = read.labels[generator.permutation(len(read))[: row.read]]
        answers = np.array(list(row.answers), dtype=int)
        assert (answers == drawn).sum() == row.agreed >= 0.97 * row.read
        assert (np.roll(answers, 1) == drawn).mean() < 0.75  # answers to other statements do not agree


def test_grammar_has_200_pairs_of_6_kinds_in_quadruples_whose_words_stand_equally_on_both_sides():
    read = grammar()
    assert len(set(read.statements)) == len(read) >= 400
    assert len(set(read.categories)) >= 6
    assert read.labels.tolist() == [1, 0] * (len(read) // 2)
    for group in set(read.groups):
        rows = [i for i, name in enumerate(read.groups) if name == group]
        told = {i: read.statements[i].casefold().rstrip(".").split() for i in rows}
        good, bad = (Counter(word for i in rows if read.labels[i] == label for word in told[i]) for label in (1, 0))
        assert good == bad
        assert len({read.statements[i] for i in rows}) == 4
