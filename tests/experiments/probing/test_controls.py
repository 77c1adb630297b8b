"""A control is blind where it must be, sees what it may, and is kept under what it was computed from."""

import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_texts import sentences
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from tracing_utils.experiments.probing import controls, probes
from tracing_utils.experiments.probing.controls import (
    conditional_gain,
    control_task,
    online_code,
    shuffled_labels,
    text_axes,
)
from tracing_utils.statements.concepts import folds

# Shuffled labels


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 1)), min_size=2, max_size=40), seed=st.integers(0, 999))
def test_shuffling_keeps_the_balance_of_the_whole_and_of_every_mixed_group(make_concepts, rows, seed):
    groups = [f"g{group}" for group, _ in rows]
    concepts = make_concepts([label for _, label in rows], groups=groups)
    shuffled = shuffled_labels(concepts, seed)
    assert shuffled.sum() == concepts.labels.sum()
    for group in set(groups):
        members = np.array([other == group for other in groups])
        if len(set(concepts.labels[members].tolist())) == 2:
            assert shuffled[members].sum() == concepts.labels[members].sum()


@pytest.mark.parametrize("members", [1, 2, 4])
def test_shuffled_labels_have_no_relation_to_the_true_ones(make_concepts, members):
    concepts = make_concepts(np.arange(400) % 2, groups=[f"g{i // members}" for i in range(400)])
    agreement = [(shuffled_labels(concepts, seed) == concepts.labels).mean() for seed in range(50)]
    assert np.mean(agreement) == pytest.approx(0.5, abs=0.02)
    assert max(agreement) < 0.65


def test_shuffling_leaves_the_set_alone_and_follows_its_seed(make_concepts):
    concepts = make_concepts(np.arange(100) % 2)
    before = concepts.labels.copy()
    assert np.array_equal(shuffled_labels(concepts, 1), shuffled_labels(concepts, 1))
    assert not np.array_equal(shuffled_labels(concepts, 1), shuffled_labels(concepts, 2))
    assert np.array_equal(concepts.labels, before)


# The control task


def worded(make_concepts, seed: int = 0, count: int = 400):
    """Statements with one of forty recurring words each; everything else in them is their own."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 40, count)
    return make_concepts(rng.integers(0, 2, count), statements=[f"own{i} cue{word}" for i, word in enumerate(words)]), words


def test_a_word_has_one_random_label_and_half_of_the_statements_get_each(make_concepts):
    made, words = worded(make_concepts)
    drawn = []
    for seed in range(20):
        task = control_task(made, seed)
        chosen = task >= 0
        assert chosen.mean() > 0.9
        assert abs(task[chosen].mean() - 0.5) < 0.05
        assert all(len(set(task[chosen & (words == word)])) <= 1 for word in range(40))
        drawn.append((task == made.labels)[chosen].mean())
    assert np.mean(drawn) == pytest.approx(0.5, abs=0.03)  # no relation to the true labels


def test_a_probe_that_sees_the_words_solves_the_control_task_and_one_that_sees_the_label_does_not(make_concepts):
    made, words = worded(make_concepts)
    rng = np.random.default_rng(1)
    reads = np.eye(40)[words] + 0.01 * rng.standard_normal((len(made), 40))
    knows = rng.standard_normal((len(made), 40)) + 2 * (2 * made.labels[:, None] - 1) * np.eye(40)[0]
    acts = np.stack([reads, knows], axis=1)
    tasks = [np.stack([make(made, seed) for seed in range(2)]) for make in (shuffled_labels, control_task)]
    traced = probes.trace(acts, made, *tasks)
    found = {(layer, method, metric): e for layer, method, metric, e in controls.selectivities(traced)}
    assert found[0, "control task", "accuracy"].value > 0.95
    assert found[0, "logistic", "selectivity"].value < -0.35
    assert abs(found[1, "control task", "accuracy"].value - 0.5) < 0.08
    assert found[1, "logistic", "selectivity"].low > 0.35
    assert set(found) == {(l, *k) for l in (0, 1) for k in (("control task", "accuracy"), ("logistic", "selectivity"))}  # noqa: E741


def test_a_word_of_one_group_is_no_recurring_word_and_without_two_of_them_there_is_no_task(make_concepts):
    groups = [f"g{i // 2}" for i in range(40)]
    made = make_concepts(np.arange(40) % 2, statements=[f"own{i // 2} twin" for i in range(40)], groups=groups)
    assert len(set(control_task(made))) == 1  # "twin" stands everywhere, the others in one group each
    alone = make_concepts(made.labels, statements=[f"own{i // 2}" for i in range(40)], groups=groups)
    acts, shuffled = np.random.default_rng(0).standard_normal((40, 1, 3)), shuffled_labels(made, 0)[None]
    assert set(control_task(alone)) == {-1}
    for concepts in (made, alone):
        assert not list(controls.selectivities(probes.trace(acts, concepts, shuffled, control_task(concepts)[None])))
    common = make_concepts(made.labels, statements=[f"own{i} {('left', 'right')[i % 2]} all" for i in range(40)], groups=groups)
    task = control_task(common)
    assert set(task) == {0, 1}
    assert len(set(task[::2])) == len(set(task[1::2])) == 1  # the rarest of words that all groups share


@pytest.mark.parametrize("start, count", [(0x4E00, 300), (0x0E01, 46), (0x3041, 80)])
def test_signs_and_their_pairs_recur_where_no_spaces_part_words(make_concepts, start, count):
    rng = np.random.default_rng(0)
    concepts = make_concepts(
        np.arange(200) % 2, statements=["".join(map(chr, rng.integers(start, start + count, 14))) for _ in range(200)]
    )
    task = control_task(concepts)
    assert (task >= 0).mean() > 0.9
    assert abs(task[task >= 0].mean() - 0.5) < 0.05


def described(concepts) -> list[str]:
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        controls.describe([concepts])
    return [str(warning.message) for warning in raised]


@pytest.mark.parametrize("sign", ["\n", "\u200b"])
def test_white_space_that_tells_the_label_is_part_of_the_floor_and_of_its_warning(make_concepts, sign):
    labels = np.random.default_rng(0).integers(0, 2, 120)
    texts = sentences(labels, seed=3, telling=False)
    assert not described(make_concepts(labels, statements=texts))
    (said,) = described(
        make_concepts(labels, statements=[text + sign * label for text, label in zip(texts, labels, strict=True)])
    )
    assert re.search(r"alone tells the two sides apart in (99|100)% of the statements", said)


@pytest.mark.parametrize("seed", range(4))
def test_a_reader_that_tells_all_is_warned_of_though_another_is_as_good_in_some_fold(make_concepts, seed):
    labels = np.random.default_rng(seed).integers(0, 2, 30)
    texts = sentences(labels, seed=seed, telling=False)
    marked = [text.replace(" ", "\u00a0", 1) if label else text for text, label in zip(texts, labels, strict=True)]
    assert any("the two sides apart" in said for said in described(make_concepts(labels, statements=marked)))


def test_a_set_without_a_control_task_is_told(make_concepts):
    concepts = make_concepts(np.arange(60) % 2, statements=[f"own{i}" for i in range(60)])
    assert any("there is no control task and no selectivity" in said for said in described(concepts))


# Text and activations


def gain(features, concepts) -> float:
    return float(conditional_gain(features, concepts).mean())


def test_activations_that_repeat_the_words_add_nothing_and_those_that_know_more_add_what_they_know(make_concepts):
    rng = np.random.default_rng(2)
    labels = np.arange(400) % 2
    heard = labels ^ (rng.uniform(size=400) < 0.2)  # the words tell the label four times in five
    concepts = make_concepts(labels, statements=sentences(heard, 7, telling=True))
    repeats = np.column_stack([heard, rng.standard_normal((400, 8))]).astype(float)
    assert (probes.held_out_logits(repeats, concepts, 0) > 0).astype(int).tolist() != labels.tolist()
    assert ((probes.held_out_logits(repeats, concepts, 0) > 0) == (labels == 1)).mean() > 0.7  # they look good alone
    assert abs(gain(repeats, concepts)) < 0.03
    assert abs(gain(rng.standard_normal((400, 30)), concepts)) < 0.03
    knows = np.column_stack([labels + 0.01 * rng.standard_normal(400), rng.standard_normal((400, 8))])
    assert gain(knows, concepts) > 0.55  # of the 0.72 bits that the words leave open


def test_the_text_features_are_fitted_without_the_tested_statements(make_concepts, labels):
    concepts = make_concepts(labels, statements=sentences(labels, 8, telling=True))
    split = folds(concepts, seed=0)[0]
    texts = list(concepts.statements)
    texts[split.test[0]] = "something else entirely"
    other = make_concepts(labels, statements=texts)
    rest = np.setdiff1d(np.arange(len(labels)), split.test[:1])
    first, second = text_axes(concepts)[0], text_axes(other)[0]
    np.testing.assert_array_equal(first[rest], second[rest])
    assert not np.array_equal(first[split.test[0]], second[split.test[0]])


# The online code


def code(features, labels, made, seed: int = 0):
    return online_code(features, made, labels[None], seed)[0]


def test_labels_that_can_be_predicted_are_short_and_random_ones_cost_a_bit_each(make_concepts):
    rng = np.random.default_rng(3)
    concepts = make_concepts(np.arange(600) % 2)
    features = np.column_stack([6.0 * concepts.labels, rng.standard_normal((600, 10))])
    random = rng.integers(0, 2, 600)
    assert len(concepts) / code(features, concepts.labels, concepts).sum() > 5
    assert len(concepts) / code(features, random, concepts).sum() == pytest.approx(1, abs=0.05)
    assert len(concepts) / code(np.zeros((600, 3)), concepts.labels, concepts).sum() == pytest.approx(1, abs=0.01)


def test_a_direction_hidden_among_many_costs_more_to_learn_than_a_plain_one(make_concepts):
    rng = np.random.default_rng(4)
    concepts = make_concepts(np.arange(600) % 2)
    plain = np.column_stack([6.0 * concepts.labels, rng.standard_normal((600, 2))])
    hidden = (
        np.column_stack([6.0 * concepts.labels, 3 * rng.standard_normal((600, 300))])
        @ np.linalg.qr(rng.standard_normal((301, 301)))[0]
    )
    assert ((probes.held_out_logits(hidden, concepts, 0) > 0) == (concepts.labels == 1)).mean() > 0.9
    assert code(hidden, concepts.labels, concepts).sum() > 2 * code(plain, concepts.labels, concepts).sum()


def test_the_code_is_that_of_scikit_learn_fits_block_by_block(make_concepts):
    rng = np.random.default_rng(5)
    concepts = make_concepts(rng.integers(0, 2, 200), groups=[f"g{i // 2}" for i in range(200)])
    features = rng.standard_normal((200, 6)) + 0.7 * concepts.labels[:, None]
    names = list(np.random.default_rng(9).permutation(sorted(set(concepts.groups))))
    place = np.array([names.index(group) for group in concepts.groups])
    expected, spent = np.ones(200), np.zeros(len(probes.PENALTIES))
    for start, end in ((3.125, 6.25), (6.25, 12.5), (12.5, 25), (25, 50), (50, 100)):
        known, block = np.flatnonzero(place < start), np.flatnonzero((place >= start) & (place < end))
        scaler = StandardScaler().fit(features[known])
        costs = []
        for penalty in probes.PENALTIES:
            fitted = LogisticRegression(C=penalty, tol=1e-10, max_iter=1000).fit(
                scaler.transform(features[known]), concepts.labels[known]
            )
            chances = fitted.predict_proba(scaler.transform(features[block]))
            costs.append(-np.log2(chances[np.arange(len(block)), concepts.labels[block]]))
        expected[block] = costs[int(np.argmin(spent))]
        spent += np.sum(costs, axis=1)
    np.testing.assert_allclose(code(features, concepts.labels, concepts, seed=9), expected, atol=5e-3)


def test_compression_is_one_bit_a_label_over_the_code(make_concepts):
    rng = np.random.default_rng(6)
    concepts = make_concepts(np.arange(300) % 2)
    acts = (rng.standard_normal((300, 2, 4)) + 2 * concepts.labels[:, None, None]).astype(float)
    shuffled = np.stack([shuffled_labels(concepts, seed) for seed in range(2)])
    found = {(layer, method): e for layer, method, _, e in controls.compressions(acts, concepts, shuffled)}
    assert found[0, "online code"].low > 1.5
    assert found[1, "online code, shuffled labels"].value == pytest.approx(1, abs=0.06)
    spent = np.mean([code(acts[:, 1], concepts.labels, concepts, seed) for seed in range(2)], axis=0)
    assert found[1, "online code"].value == pytest.approx(300 / spent.sum(), rel=1e-3)
