"""A probe finds what is there, nothing where nothing is, and never judges what it has seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.preprocessing import StandardScaler

from tracing_utils import probing
from tracing_utils.concepts import folds
from tracing_utils.probing import PENALTIES, held_out_logits, scores

N, WIDTH = 200, 12


@pytest.fixture(scope="module")
def pairs(make_concepts):
    """A hundred balanced pairs."""
    return make_concepts(np.arange(N) % 2, groups=[f"g{i // 2}" for i in range(N)])


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(((logits > 0) == (labels == 1)).mean())


def planted(concepts, strength: float, seed: int = 0) -> np.ndarray:
    """Noise, with the label along one random direction."""
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal(WIDTH)
    direction /= np.linalg.norm(direction)
    return rng.standard_normal((len(concepts), WIDTH)) + strength * np.outer(2 * concepts.labels - 1, direction)


def test_a_planted_direction_is_found_as_well_as_it_can_be(pairs):
    found = accuracy(held_out_logits(planted(pairs, strength=1.0), pairs, seed=0), pairs.labels)
    best = 0.841  # Phi(1): what the true direction reaches
    assert best - 0.07 < found < best + 0.07
    assert accuracy(held_out_logits(planted(pairs, strength=4.0), pairs, seed=0), pairs.labels) == 1


def test_independent_data_give_chance(pairs):
    found = [accuracy(held_out_logits(planted(pairs, 0.0, seed), pairs, seed), pairs.labels) for seed in range(8)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.04)


def test_shuffled_labels_give_chance_on_data_that_hold_the_true_ones(pairs):
    features = planted(pairs, strength=3.0)
    found = []
    for seed in range(8):
        labels = np.random.default_rng(seed).permutation(pairs.labels)
        found.append(accuracy(held_out_logits(features, pairs, seed, labels), labels))
    assert np.mean(found) == pytest.approx(0.5, abs=0.06)


def test_more_features_than_statements_are_learnt_by_heart_in_training_and_judged_at_chance(make_concepts):
    rng = np.random.default_rng(1)
    made = make_concepts(np.arange(80) % 2)
    features = rng.standard_normal((80, 200))
    by_heart = LogisticRegression(max_iter=1000).fit(features, made.labels).decision_function(features)
    assert accuracy(by_heart, made.labels) == 1  # a leak of the tested statements would be seen
    assert accuracy(held_out_logits(features, made, seed=0), made.labels) < 0.7


def test_a_group_with_copies_cannot_be_recognised_where_a_split_by_rows_recognises_it(make_concepts):
    rng = np.random.default_rng(2)
    labels = np.repeat(rng.permutation(np.arange(40) % 2), 5)
    made = make_concepts(labels, groups=[f"g{i // 5}" for i in range(200)])
    features = np.repeat(rng.standard_normal((40, 60)), 5, axis=0)  # five copies of noise, one label a group
    by_rows = cross_val_predict(LogisticRegression(max_iter=1000), features, labels, cv=KFold(5, shuffle=True, random_state=0))
    assert (by_rows == labels).mean() > 0.95
    assert accuracy(held_out_logits(features, made, seed=0), labels) < 0.7


def test_a_statement_s_own_label_does_not_touch_its_logit(pairs):
    features = planted(pairs, strength=0.5)
    before = held_out_logits(features, pairs, seed=0)
    tested = folds(pairs, seed=0)[2].test
    labels = pairs.labels.copy()
    labels[tested] = 1 - labels[tested]
    after = held_out_logits(features, pairs, seed=0, labels=labels)
    assert np.array_equal(after[tested], before[tested])
    rest = np.setdiff1d(np.arange(N), tested)
    assert (after[rest] != before[rest]).all()  # the others were trained or chosen on these labels


def test_the_tested_statements_take_no_part_in_the_standardisation(pairs):
    features = planted(pairs, strength=0.5)
    before = held_out_logits(features, pairs, seed=0)
    tested = folds(pairs, seed=0)[1].test
    moved = features.copy()
    moved[tested[0]] += 1000.0  # would move mean and deviation of every feature
    after = held_out_logits(moved, pairs, seed=0)
    assert np.array_equal(after[tested[1:]], before[tested[1:]])
    assert after[tested[0]] != before[tested[0]]


def test_a_shift_and_scale_of_the_features_changes_nothing(pairs):
    features = planted(pairs, strength=1.0)
    moved = features * np.geomspace(0.01, 100, WIDTH) + 7
    expected = held_out_logits(features, pairs, seed=0)
    np.testing.assert_allclose(held_out_logits(moved, pairs, seed=0), expected, rtol=1e-3, atol=1e-3)


def chosen_by_hand(features, concepts, seed: int) -> np.ndarray:
    """The rule written out: every penalty is tried, the least validation loss decides."""
    logits = np.empty(len(concepts))
    for split in folds(concepts, seed):
        mean, deviation = features[split.train].mean(0), features[split.train].std(0)
        made = (features - mean) / deviation
        tried = []
        for penalty in PENALTIES:
            probe = LogisticRegression(C=penalty, max_iter=5000, tol=1e-8).fit(made[split.train], concepts.labels[split.train])
            chance = probe.predict_proba(made[split.validation])
            tried.append((sklearn_log_loss(concepts.labels[split.validation], chance), probe))
        best = min(tried, key=lambda pair: pair[0])[1]
        logits[split.test] = best.decision_function(made[split.test])
    return logits


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.5])
def test_the_penalty_is_the_one_that_does_best_on_the_validation_part(pairs, strength):
    features = planted(pairs, strength)
    expected = chosen_by_hand(features, pairs, seed=0)
    np.testing.assert_allclose(held_out_logits(features, pairs, seed=0), expected, rtol=1e-2, atol=1e-3)


def test_both_solvers_reach_the_same_probe():
    rng = np.random.default_rng(3)
    features, labels = StandardScaler().fit_transform(rng.standard_normal((100, 10))), np.arange(100) % 2
    fits = [LogisticRegression(C=0.1, solver=solver, max_iter=1000, tol=1e-8) for solver in ("newton-cholesky", "lbfgs")]
    first, second = (fit.fit(features, labels).coef_ for fit in fits)
    np.testing.assert_allclose(first, second, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(logit=st.floats(-30, 30), label=st.integers(0, 1))
def test_the_log_loss_is_minus_the_log2_of_the_chance_given_to_the_label(logit, label):
    chance = 1 / (1 + np.exp(-logit))
    given_to_label = chance if label else 1 - chance
    found = probing.log_loss(np.array([logit]), np.array([label]))[0]
    assert found == pytest.approx(-np.log2(max(given_to_label, 1e-300)), rel=1e-3, abs=1e-9)


def test_a_very_sure_and_wrong_prediction_has_a_finite_loss():
    assert probing.log_loss(np.array([-1e4]), np.array([1]))[0] == pytest.approx(1e4 / np.log(2))


def test_the_scores_of_several_seeds_are_means_over_seeds(pairs):
    rng = np.random.default_rng(4)
    logits = rng.standard_normal((3, N)) + 2 * pairs.labels - 1
    made = scores(logits, pairs.labels, pairs.groups)
    expected = {
        "accuracy": np.mean([accuracy(row, pairs.labels) for row in logits]),
        "log_loss": np.mean([sklearn_log_loss(pairs.labels, 1 / (1 + np.exp(-row))) for row in logits]) / np.log(2),
    }
    for metric, value in expected.items():
        assert made[metric].value == pytest.approx(value)
        assert made[metric].low < value < made[metric].high
    assert set(made) == {"accuracy", "auroc", "log_loss"}
    assert made["accuracy"].n == N


def test_a_coin_has_a_loss_of_one_bit(pairs):
    assert scores(np.zeros((1, N)), pairs.labels, pairs.groups)["log_loss"].value == pytest.approx(1)
