"""A perturbation changes the surface at its rate, by its kind alone, the same way for the same seed."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracing_utils.core.paths import PROJECT
from tracing_utils.statements.perturbations import PERTURBATIONS, perturb

TEXT = "the quick brown fox jumps over the lazy dog and asks nobody whether that was expected of it " * 20
KINDS = tuple(PERTURBATIONS)
# Characters that keyboards in the West have; every kind can be tried on them.
sentences = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80)


@pytest.fixture(scope="module")
def pocket():
    return pd.read_csv(PROJECT / "tracing_utils" / "statements" / "data" / "pocket" / "robustness.csv")


def test_the_shipped_twins_are_made_again_from_the_sentence_above_them(pocket):
    clean, twins = pocket[pocket["label"] == 1], pocket[pocket["label"] == 0]
    made = [perturb(text, kind, seed=i) for i, (text, kind) in enumerate(zip(clean["statement"], clean["category"], strict=True))]
    assert made == twins["statement"].tolist()
    assert twins["category"].tolist() == clean["category"].tolist()
    other = [
        perturb(text, kind, seed=i + 1) for i, (text, kind) in enumerate(zip(clean["statement"], clean["category"], strict=True))
    ]
    assert np.mean([a == b for a, b in zip(other, made, strict=True)]) < 0.1  # the seed matters


def test_no_shipped_twin_is_its_sentence(pocket):
    clean, twins = pocket[pocket["label"] == 1]["statement"], pocket[pocket["label"] == 0]["statement"]
    assert not any(a == b for a, b in zip(clean, twins, strict=True))


@settings(max_examples=100, deadline=None)
@given(text=sentences, kind=st.sampled_from(KINDS), seed=st.integers(0, 1000))
def test_the_same_seed_perturbs_the_same_way(text, kind, seed):
    assert perturb(text, kind, seed) == perturb(text, kind, seed)


@pytest.mark.parametrize("kind", KINDS)
def test_another_seed_perturbs_other_places(kind):
    assert len({perturb(TEXT, kind, seed) for seed in range(10)}) == 10


def changed(text: str, kind: str, seed: int) -> float:
    """Share of the characters a kind can change (of the spaces, of the letters) that it did change."""
    made = perturb(text, kind, seed)
    if kind == "dropped-spaces":
        return (text.count(" ") - made.count(" ")) / text.count(" ")
    able = {
        "case": [c.isalpha() for c in text],
        "typos": [c.isalpha() for c in text],
        "homoglyphs": [c in "aceiopsxyABEHKMOPT" for c in text],
        "leetspeak": [c in "aeiostAEIOST" for c in text],
    }[kind]
    return sum(a != b for a, b in zip(text, made, strict=True)) / sum(able)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "swaps"])
def test_the_share_of_what_can_change_is_the_stated_rate(kind):
    shares = [changed(TEXT, kind, seed) for seed in range(20)]
    assert np.mean(shares) == pytest.approx(PERTURBATIONS[kind][1], rel=0.1)


@settings(max_examples=100, deadline=None)
@given(text=sentences, seed=st.integers(0, 1000))
def test_case_flips_change_nothing_but_case(text, seed):
    made = perturb(text, "case", seed)
    assert made.casefold() == text.casefold()
    assert made != text or not any(c.isalpha() for c in text)


@settings(max_examples=100, deadline=None)
@given(text=sentences, seed=st.integers(0, 1000))
def test_dropped_spaces_leave_every_other_character(text, seed):
    made = perturb(text, "dropped-spaces", seed)
    assert made.replace(" ", "") == text.replace(" ", "")
    assert made != text or " " not in text


@settings(max_examples=100, deadline=None)
@given(text=sentences, seed=st.integers(0, 1000))
def test_swaps_keep_the_letters_of_each_word_and_move_each_by_one_place_at_most(text, seed):
    made = perturb(text, "swaps", seed)
    assert [sorted(word) for word in made.split(" ")] == [sorted(word) for word in text.split(" ")]
    moved = [i for i, (a, b) in enumerate(zip(text, made, strict=True)) if a != b]
    assert len(moved) % 2 == 0
    for first, second in zip(moved[::2], moved[1::2], strict=True):
        assert second == first + 1
        assert (made[first], made[second]) == (text[second], text[first])


@settings(max_examples=100, deadline=None)
@given(text=sentences, kind=st.sampled_from(["typos", "homoglyphs", "leetspeak"]), seed=st.integers(0, 1000))
def test_exchanged_characters_keep_their_number_and_places(text, kind, seed):
    made = perturb(text, kind, seed)
    assert len(made) == len(text)
    for before, after in zip(text, made, strict=True):
        if before != after:
            assert {"typos": after in "qwertyuiopasdfghjklzxcvbnm", "homoglyphs": ord(after) > 127, "leetspeak": after.isdigit()}[
                kind
            ]


def at_rate(text: str, kind: str, seed: int, rate: float) -> str:
    """The text perturbed at another rate than the kind's own."""
    return PERTURBATIONS[kind][0](text, rate, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [("case", "a", {"A"}), ("leetspeak", "s", {"5"}), ("homoglyphs", "a", {"\u0430"}), ("dropped-spaces", "a b", {"ab"}),
     ("swaps", "ab", {"ba"}), ("typos", "q", {"w", "a", "s"})],
)  # fmt: skip
def test_where_one_thing_can_change_it_does(kind, text, expected):
    assert {at_rate(text, kind, seed, 0.0) for seed in range(40)} == expected


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_change_stays(kind):
    assert perturb("", kind, seed=0) == ""
    assert perturb("!?", kind, seed=0) == "!?"


def test_at_least_one_letter_changes_its_case_beside_letters_that_have_none():
    assert {at_rate("\u732b\u732b\u732ba", "case", seed, 0.0) for seed in range(20)} == {"\u732b\u732b\u732bA"}


def test_a_rate_of_1_changes_all_that_can_change():
    assert at_rate("Ab c", "case", 0, 1.0) == "aB C"
    assert at_rate("a b c", "dropped-spaces", 0, 1.0) == "abc"


def test_a_misspelt_kind_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'homoglyphs'"):
        perturb("text", "homoglyph", seed=0)
