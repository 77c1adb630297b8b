"""A floor reads the text alone, sees what a plain rule could see, and is chosen without the statements it is tested on."""

import numpy as np
import pytest
from random_texts import WORDS, sentences

from tracing_utils.core import downloads
from tracing_utils.experiments.probing import floors
from tracing_utils.experiments.probing.floors import READERS, lexical_floor, of, surface_features
from tracing_utils.statements.concepts import DIMENSIONS, folds, load


def accuracy(logits, labels) -> float:
    return float(((logits > 0) == (labels == 1)).mean())


def reached(concepts, reader: str | None = None) -> float:
    """The accuracy of one reader, or of the floor."""
    floor = of(concepts)
    return accuracy(floor.best((reader,) if reader else READERS), concepts.labels)


# What each reader sees


@pytest.mark.parametrize("kind", ["words", "characters"])
def test_n_grams_find_a_word_that_tells_the_label_and_nothing_where_none_does(make_concepts, labels, kind):
    concepts = make_concepts(labels, statements=sentences(labels, 1, telling=True))
    blind = make_concepts(labels, statements=sentences(labels, 1, telling=False))
    assert reached(concepts, kind) > 0.95
    assert reached(blind, kind) < 0.65


def test_characters_see_a_spelling_that_words_cannot(make_concepts, labels):
    rng = np.random.default_rng(2)
    made_up = ["".join(rng.choice(list("bcdfgklmnp"), 6)) + ("ing", "ous")[label] for label in labels]
    concepts = make_concepts(labels, statements=made_up)  # every word stands once
    assert reached(concepts, "characters") > 0.95
    assert reached(concepts, "words") < 0.65
    assert lexical_floor(concepts)["accuracy"].value > 0.95  # the better of the two


def test_the_floor_is_held_out_by_group(make_concepts):
    rng = np.random.default_rng(3)
    labels = np.repeat(rng.permutation(np.arange(40) % 2), 4)
    own = [f"name{i}a name{i}b name{i}c" for i in range(40)]  # words that only the group has
    statements = [f"{own[i // 4]} {WORDS[i % 4]}" for i in range(160)]
    bound = make_concepts(labels, statements=statements, groups=[f"g{i // 4}" for i in range(160)])
    torn = make_concepts(labels, statements=statements)
    assert reached(torn, "words") > 0.9
    assert reached(bound, "words") < 0.7


def test_the_floor_is_kept_and_read_again_under_its_statements_alone(make_concepts, labels, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACING_UTILS_CACHE", str(tmp_path))
    concepts = make_concepts(labels, statements=sentences(labels, 4, telling=True))
    first = lexical_floor(concepts)
    (kept,) = (downloads.cache_folder() / "controls").iterdir()
    assert lexical_floor(concepts) == first
    wrong = np.tile(1.0 - 2 * labels, (len(READERS), 1))
    with kept.open("wb") as file:
        np.savez(file, logits=wrong, right=np.zeros((len(READERS), 5)))
    assert lexical_floor(concepts)["accuracy"].value == 0  # it is read, not computed again
    other = make_concepts(labels, statements=sentences(labels, 5, telling=True))
    assert lexical_floor(other)["accuracy"].value > 0.9
    assert ((of(concepts, seed=1).best(tuple(floors.VECTORIZERS)) > 0) == (concepts.labels == 1)).mean() > 0.9  # other folds


@pytest.mark.parametrize(
    "damage", [lambda old: b"", lambda old: old[:-9], lambda old: old[:200] + bytes([old[200] ^ 1]) + old[201:]]
)
def test_a_kept_control_that_was_damaged_is_computed_again(make_concepts, labels, tmp_path, monkeypatch, damage):
    monkeypatch.setenv("TRACING_UTILS_CACHE", str(tmp_path))
    concepts = make_concepts(labels, statements=sentences(labels, 4, telling=True))
    first = lexical_floor(concepts)
    (kept,) = (downloads.cache_folder() / "controls").iterdir()
    before = kept.read_bytes()
    kept.write_bytes(damage(before))
    assert lexical_floor(concepts) == first
    assert len(kept.read_bytes()) == len(before)


def test_the_surface_sees_capitals_length_and_marks_and_no_words(make_concepts, labels):
    concepts = make_concepts(labels, statements=sentences(labels, 6, telling=True))
    assert lexical_floor(concepts)["accuracy"].value > 0.9
    assert reached(concepts, "surface") < 0.65
    blind = sentences(labels, 6, telling=False)
    for mark in (str.title, lambda text: text + " and so it goes on", lambda text: text + "!", lambda text: text + " 7"):
        shown = [mark(text) if label else text for text, label in zip(blind, labels, strict=True)]
        assert reached(make_concepts(labels, statements=shown), "surface") > 0.9


def test_the_surface_features_of_a_sentence_are_counted_by_hand(make_concepts):
    concepts = make_concepts([0, 1], statements=["Is it 10, or 2?", "no"])
    assert surface_features(concepts).tolist() == [[15, 5, 3, 1, 3, 2, 1, 1, 1, 1], [2, 1, 2, 0, 0, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    "change",
    [lambda text: text.replace("e", "\u0435", 1), lambda text: text[:3] + text[3:].replace("e", "E", 1),
     lambda text: text.replace("e", "3", 1)],
    ids=["another alphabet", "a capital inside", "a digit among letters"],
)  # fmt: skip
def test_the_shape_of_characters_gives_away_what_neither_words_nor_n_grams_can_learn(make_concepts, change):
    """Every text has words of its own, so only the kind of its characters is common to the changed ones."""
    rng, labels = np.random.default_rng(9), np.arange(160) % 2
    texts = ["".join(rng.choice(list("bcdfglmnprst"), 4)) + "e" + "".join(rng.choice(list("aiou"), 3)) for _ in labels]
    concepts = make_concepts(
        labels, statements=[text if label else change(text) for text, label in zip(texts, labels, strict=True)]
    )
    assert reached(make_concepts(labels, statements=texts), "character shape") < 0.65
    assert reached(concepts, "words") < 0.65
    assert reached(concepts, "character shape") > 0.95
    assert reached(concepts) > 0.95


def test_strange_words_are_those_the_training_part_lacks_and_the_majority_is_its_own(make_concepts):
    rng, labels = np.random.default_rng(10), np.arange(200) % 2
    odd = ["".join(rng.choice(list("abcdefghijklmnop"), 7)) for _ in labels]
    texts = [
        " ".join([*rng.choice(WORDS, 5), str(rng.choice(WORDS)) if label else own])
        for label, own in zip(labels, odd, strict=True)
    ]
    concepts = make_concepts(labels, statements=texts)
    assert reached(concepts, "out of vocabulary") > 0.95
    uneven = make_concepts((rng.uniform(size=200) < 0.8).astype(int), statements=texts)
    assert reached(uneven, "majority") == uneven.labels.mean()


def test_the_tree_joins_what_no_single_reader_can(make_concepts):
    """Untrustworthy is what has one of two marks, not both: exclusive or, which no weighted sum of counts tells."""
    rng = np.random.default_rng(11)
    digit, capital = (rng.uniform(size=(2, 400)) < [[0.5], [0.35]]).astype(int)
    texts = [f"{'7 ' * d}{' '.join(rng.choice(WORDS, 6))}{' Anna' * c}" for d, c in zip(digit, capital, strict=True)]
    concepts = make_concepts(1 - (digit ^ capital), statements=texts)
    assert max(reached(concepts, reader) for reader in READERS[:-1]) < 0.75
    assert reached(concepts, "small tree") > 0.95
    assert reached(concepts) > 0.95
    assert of(concepts).name == "small tree"


def test_the_floor_of_robustness_is_what_a_few_plain_rules_reach():
    """On 49ec766 the floor was that of n-grams, .62, and a probe with .73 stood above it."""
    floor = of(load("pocket", "robustness"))
    assert lexical_floor(floor.concepts)["accuracy"].value < 0.65
    assert accuracy(floor.best(), floor.concepts.labels) >= 0.75
    assert floor.name in ("small tree", "character shape")


@pytest.mark.parametrize("dimension", [name for name in DIMENSIONS if name != "robustness"])
def test_a_set_in_which_only_the_meaning_tells_the_label_has_a_floor_of_one_half(dimension):
    """Seven readers are offered, and the best of them is not the best by chance: it is chosen on other statements."""
    assert reached(load("pocket", dimension)) == pytest.approx(0.5, abs=0.04)


def test_the_best_of_seven_blind_readers_is_no_better_than_a_coin(make_concepts):
    rates = []
    for seed in range(8):
        labels = np.random.default_rng(seed).permutation(np.arange(160) % 2)
        floor = of(make_concepts(labels, statements=sentences(labels, 20 + seed, telling=False)))
        rates.append((accuracy(floor.best(), labels), max(accuracy(row, labels) for row in floor.logits)))
    chosen, picked = np.mean(rates, axis=0)
    assert picked > 0.53  # what choosing on the tested statements would have said
    assert chosen == pytest.approx(0.5, abs=0.03)


def test_no_reader_sees_the_labels_of_the_tested_statements(make_concepts, labels, monkeypatch):
    texts = sentences(labels, 12, telling=True)
    made = make_concepts(labels, statements=texts)
    splits = folds(made, seed=0)
    monkeypatch.setattr(floors, "folds", lambda concepts, seed: splits)
    turned, learnt = labels.copy(), labels.copy()
    turned[splits[0].test] = 1 - labels[splits[0].test]
    learnt[splits[0].train] = 1 - labels[splits[0].train]
    told, blind, seen = (floors._fold(make_concepts(y, statements=texts), 0, 0) for y in (labels, turned, learnt))
    np.testing.assert_array_equal(told, blind)
    assert not np.allclose(told, seen)


def test_the_evidence_of_a_floor_is_which_statements_each_reader_tells_right(make_concepts, labels):
    floor = of(make_concepts(labels, statements=sentences(labels, 1, telling=True)))
    arrays = floor.evidence()
    assert set(arrays) == {"floor", *(f"floor/{name}" for name in READERS)}
    assert {(array.shape, array.dtype) for array in arrays.values()} == {((1, 120), np.dtype(np.uint8))}
    rows = {(method, metric): estimate for _, method, metric, estimate in floor.estimates()}
    assert set(rows) == {(m, k) for m in ("floor", "lexical floor", *READERS) for k in ("accuracy", "auroc", "log_loss")}
    assert arrays["floor"].mean() == pytest.approx(rows["floor", "accuracy"].value)
    assert arrays["floor/surface"].mean() == pytest.approx(rows["surface", "accuracy"].value)


def test_a_set_as_small_as_folds_allow_has_a_floor(make_concepts):
    floor = of(make_concepts([1, 1, 1, 1, 1, 0], statements=[f"{word} {i}" for i, word in enumerate(WORDS[:6])]))
    assert np.isfinite(floor.logits).all()
