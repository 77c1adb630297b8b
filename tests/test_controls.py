"""A control is blind where it must be, sees what it may, and is kept under what it was computed from."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracing_utils import controls, downloads
from tracing_utils.controls import lexical_floor, lexical_logits, random_direction, shuffled_labels

WORDS = ("river", "table", "window", "garden", "letter", "candle", "market", "bridge", "winter", "button")


def sentences(labels, seed: int, telling: bool) -> list[str]:
    """Random words; with a word that tells the label, if `telling`."""
    rng = np.random.default_rng(seed)
    made = [" ".join(rng.choice(WORDS, size=6)) for _ in labels]
    return [f"{text} {('rude', 'kind')[label]}" if telling else text for text, label in zip(made, labels, strict=True)]


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(0).permutation(np.arange(120) % 2)


def accuracy(logits, labels) -> float:
    return float(((logits > 0) == (labels == 1)).mean())


@pytest.mark.parametrize("kind", ["words", "characters"])
def test_n_grams_find_a_word_that_tells_the_label_and_nothing_where_none_does(make_concepts, labels, kind):
    told = make_concepts(labels, statements=sentences(labels, 1, telling=True))
    blind = make_concepts(labels, statements=sentences(labels, 1, telling=False))
    assert accuracy(lexical_logits(told, kind, seed=0), labels) > 0.95
    assert accuracy(lexical_logits(blind, kind, seed=0), labels) < 0.65


def test_characters_see_a_spelling_that_words_cannot(make_concepts, labels):
    rng = np.random.default_rng(2)
    made_up = ["".join(rng.choice(list("bcdfgklmnp"), 6)) + ("ing", "ous")[label] for label in labels]
    made = make_concepts(labels, statements=made_up)  # every word stands once
    assert accuracy(lexical_logits(made, "characters", seed=0), labels) > 0.95
    assert accuracy(lexical_logits(made, "words", seed=0), labels) < 0.65
    assert lexical_floor(made)["accuracy"].value > 0.95  # the better of the two


def test_the_floor_is_held_out_by_group(make_concepts):
    rng = np.random.default_rng(3)
    labels = np.repeat(rng.permutation(np.arange(40) % 2), 4)
    own = [f"name{i}a name{i}b name{i}c" for i in range(40)]  # words that only the group has
    statements = [f"{own[i // 4]} {WORDS[i % 4]}" for i in range(160)]
    bound = make_concepts(labels, statements=statements, groups=[f"g{i // 4}" for i in range(160)])
    torn = make_concepts(labels, statements=statements)
    assert accuracy(lexical_logits(torn, "words", seed=0), labels) > 0.9
    assert accuracy(lexical_logits(bound, "words", seed=0), labels) < 0.7


def test_the_floor_is_kept_and_read_again_under_its_statements_alone(make_concepts, labels, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACING_UTILS_CACHE", str(tmp_path))
    made = make_concepts(labels, statements=sentences(labels, 4, telling=True))
    first = lexical_floor(made)
    (kept,) = (downloads.cache_folder() / "lexical-floors").iterdir()
    assert lexical_floor(made) == first
    planted = json.loads(kept.read_text())
    planted["accuracy"]["value"] = 0.125
    kept.write_text(json.dumps(planted))
    assert lexical_floor(made)["accuracy"].value == 0.125  # it is read, not computed again
    other = make_concepts(labels, statements=sentences(labels, 5, telling=True))
    assert lexical_floor(other)["accuracy"].value > 0.9
    assert lexical_floor(made, seed=1)["accuracy"].value > 0.9


# Shuffled labels


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 1)), min_size=2, max_size=40), seed=st.integers(0, 999))
def test_shuffling_keeps_the_balance_of_the_whole_and_of_every_mixed_group(make_concepts, rows, seed):
    groups = [f"g{group}" for group, _ in rows]
    made = make_concepts([label for _, label in rows], groups=groups)
    shuffled = shuffled_labels(made, seed)
    assert shuffled.sum() == made.labels.sum()
    for group in set(groups):
        members = np.array([other == group for other in groups])
        if len(set(made.labels[members].tolist())) == 2:
            assert shuffled[members].sum() == made.labels[members].sum()


@pytest.mark.parametrize("members", [1, 2, 4])
def test_shuffled_labels_have_no_relation_to_the_true_ones(make_concepts, members):
    made = make_concepts(np.arange(400) % 2, groups=[f"g{i // members}" for i in range(400)])
    agreement = [(shuffled_labels(made, seed) == made.labels).mean() for seed in range(50)]
    assert np.mean(agreement) == pytest.approx(0.5, abs=0.02)
    assert max(agreement) < 0.65


def test_shuffling_leaves_the_set_alone_and_follows_its_seed(make_concepts):
    made = make_concepts(np.arange(100) % 2)
    before = made.labels.copy()
    assert np.array_equal(shuffled_labels(made, 1), shuffled_labels(made, 1))
    assert not np.array_equal(shuffled_labels(made, 1), shuffled_labels(made, 2))
    assert np.array_equal(made.labels, before)


# Random directions


def test_a_random_direction_has_the_norm_of_the_vector_and_no_part_of_it():
    like = np.linspace(-2, 5, 256).astype(np.float32)
    drawn = np.stack([random_direction(like, seed) for seed in range(200)])
    assert drawn.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), np.linalg.norm(like), rtol=1e-5)
    cosines = drawn @ like / np.linalg.norm(like) ** 2
    assert abs(cosines.mean()) < 4 / np.sqrt(256 * 200)
    assert cosines.std() == pytest.approx(1 / np.sqrt(256), rel=0.2)
    assert np.array_equal(random_direction(like, 7), drawn[7])


def test_every_public_name_of_the_module_exists():
    for name in ("lexical_logits", "lexical_floor", "shuffled_labels", "random_direction"):
        assert name in controls.__doc__
        assert hasattr(controls, name)
