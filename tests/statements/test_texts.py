"""Texts are near by the words they share, in every script and at any number."""

import random
import time
from itertools import combinations

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tracing_utils.statements.texts import near_duplicates, same_text, words


def test_texts_are_near_by_the_share_of_their_words_and_not_by_order_case_or_spaces():
    base = "one two three four five six seven eight nine ten"
    texts = [
        base,
        "TEN nine eight  seven six five four three two one",  # the same words
        "one two three four five six seven eight x y",  # 8 of 10: cosine .8
        "one two three four five six seven p q r",  # 7 of 10, and 7 of 10 with the one above
    ]
    assert near_duplicates(texts) == ["text 0", "text 0", "text 0", "text 1"]


def test_near_duplicates_found_in_blocks_are_those_found_at_once():
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcdefgh"), 6, replace=False)) for _ in range(1100)]
    sets = [frozenset(text.split()) for text in texts]
    groups = near_duplicates(texts)
    for i, j in rng.integers(0, 1100, (400, 2)):
        if len(sets[i] & sets[j]) >= 5:  # 5 of 6 words: cosine .83
            assert groups[i] == groups[j]
    assert len(set(near_duplicates([f"{text} {i} {-i}" for i, text in enumerate(sorted(set(texts)))]))) > 1


def test_texts_of_marks_alone_are_compared_too():
    assert near_duplicates(["!!!", "???", "!!!"]) == ["text 0", "text 1", "text 0"]


def test_same_text_ignores_case_and_spaces_alone():
    assert same_text(["A  b\n", "a B", "ab", "a b."]) == ["a b", "a b", "ab", "a b."]


def test_same_text_is_one_normal_form():
    assert len(set(same_text(["\u00c9t\u00e9", "E\u0301te\u0301", "\u00e9te\u0301"]))) == 1
    assert len(set(same_text(["\u00e9te", "ete"]))) == 2


def test_words_are_runs_of_letters_where_spaces_part_them_and_signs_and_their_pairs_where_not():
    assert words("Two words, caf\u00e9_1!") == ["Two", "words", "caf\u00e9_1"]
    assert words("e\u0301te\u0301") == ["e\u0301te\u0301"]  # one word although it is not composed
    assert words("\u4f60\u597d, GPT") == ["\u4f60", "\u597d", "GPT", "\u4f60\u597d"]
    hindi = "\u0939\u093f\u0928\u094d\u0926\u0940"
    assert words(f"{hindi} {hindi}\u0964") == [hindi, hindi]


SCRIPTS = {"Han": (0x4E00, 400, "\u4e86"), "kana": (0x3041, 80, "\u3088"), "Thai": (0x0E01, 46, "\u0e04\u0e23\u0e31\u0e1a")}


@pytest.mark.parametrize("script", SCRIPTS)
def test_near_copies_are_found_where_no_spaces_part_words_and_other_texts_are_not_near(script):
    start, count, particle = SCRIPTS[script]
    rng, signs = random.Random(0), [chr(start + i) for i in range(count)]
    base = ["".join(rng.choices(signs, k=24)) for _ in range(60)]
    assert len(set(near_duplicates(base))) == 60
    for changed in ([f"{text}{particle}\u3002" for text in base], [text[:12] + signs[0] + text[13:] for text in base]):
        groups = near_duplicates([*base, *changed])
        assert len(set(groups)) == 60
        assert groups[:60] == groups[60:]


def by_all_pairs(texts: list[str]) -> list[str]:
    held = [set(text.split()) for text in texts]
    near = [
        (i, j)
        for i, j in combinations(range(len(texts)), 2)
        if 25 * len(held[i] & held[j]) ** 2 >= 16 * len(held[i]) * len(held[j])
    ]
    left, right = np.array(near, dtype=int).reshape(-1, 2).T
    n = len(texts)
    return [f"text {group}" for group in connected_components(coo_array((np.ones(len(near)), (left, right)), shape=(n, n)))[1]]


@pytest.mark.parametrize("vocabulary, longest, rare", [(3, 3, 1), (8, 6, 4), (20, 14, 4), (60, 9, 60), (60, 40, 4), (300, 90, 2)])
def test_few_comparisons_find_what_all_pairs_find(vocabulary, longest, rare):
    rng = random.Random(vocabulary + longest)
    known = [f"w{i}" for i in range(vocabulary)]
    texts = [" ".join(rng.sample(known, rng.randint(1, min(longest, vocabulary)))) for _ in range(240)]
    for i in range(0, 240, 3):  # some with a word that few have, some nearly copied
        texts[i] += f" r{i // rare}"
        texts[i + 1] = " ".join([*texts[i].split()[1:], "new"]) if i % 2 else texts[i]
    groups = near_duplicates(texts)
    assert groups == by_all_pairs(texts)
    assert 1 < len(set(groups)) < 240


def stories(n: int) -> list[str]:
    """Statements of few words and a number: half of all pairs share most of their words."""
    rng = random.Random(0)
    people, things = ("baker", "pilot", "nurse", "judge"), ("lamp", "coin", "boat")
    return [f"The {rng.choice(people)} lost the {rng.choice(things)} near the river on day {i}." for i in range(n)]


def mixed(n: int) -> list[str]:
    """Statements of twelve words out of a hundred: many share some, few are near."""
    rng, known = random.Random(0), [f"w{i}" for i in range(100)]
    return [" ".join(rng.sample(known, 12)) for _ in range(n)]


def templates(n: int) -> list[str]:
    """Statements from one template with five places: all are bound in the end, by many pairs."""
    rng = random.Random(0)
    things = [[rng.choice([f"thing{k}" for k in range(20)]) for _ in range(4)] for _ in range(n)]
    return [f"The {a} of person {i} met the {b} near the {c} at {i % 97} and the {d}." for i, (a, b, c, d) in enumerate(things)]


def few_words(n: int) -> list[str]:
    """Statements of twenty words in all: each is near to many."""
    rng = random.Random(0)
    return [" ".join(rng.choices([f"w{i}" for i in range(20)], k=14)) for _ in range(n)]


@pytest.mark.parametrize("made, most", [(stories, 2), (templates, 2), (mixed, 5), (few_words, 5)])
def test_many_statements_take_hardly_longer_each_than_few(made, most):
    near_duplicates(made(30))  # what is imported
    took = {}
    for n in (1_000, 10_000):
        texts = made(n)
        start = time.process_time()
        near_duplicates(texts)
        took[n] = (time.process_time() - start) / n
    assert took[10_000] < most * took[1_000]  # ten times, where every pair is compared
