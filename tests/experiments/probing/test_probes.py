"""A probe finds what is there, nothing where nothing is, and never judges what it has seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.preprocessing import StandardScaler

from tracing_utils.experiments.probing import probes
from tracing_utils.experiments.probing.controls import control_task, shuffled_labels
from tracing_utils.experiments.probing.probes import (
    METHODS,
    PENALTIES,
    STRENGTHS,
    Basis,
    fit_logistic,
    held_out,
    held_out_logits,
    released,
    released_by_group,
    scores,
    trace,
)
from tracing_utils.statements.concepts import folds

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
    concepts = make_concepts(np.arange(80) % 2)
    features = rng.standard_normal((80, 200))
    by_heart = LogisticRegression(max_iter=1000).fit(features, concepts.labels).decision_function(features)
    assert accuracy(by_heart, concepts.labels) == 1  # a leak of the tested statements would be seen
    assert accuracy(held_out_logits(features, concepts, seed=0), concepts.labels) < 0.7


def test_a_group_with_copies_cannot_be_recognised_where_a_split_by_rows_recognises_it(make_concepts):
    rng = np.random.default_rng(2)
    labels = np.repeat(rng.permutation(np.arange(40) % 2), 5)
    concepts = make_concepts(labels, groups=[f"g{i // 5}" for i in range(200)])
    features = np.repeat(rng.standard_normal((40, 60)), 5, axis=0)  # five copies of noise, one label a group
    by_rows = cross_val_predict(LogisticRegression(max_iter=1000), features, labels, cv=KFold(5, shuffle=True, random_state=0))
    assert (by_rows == labels).mean() > 0.95
    assert accuracy(held_out_logits(features, concepts, seed=0), labels) < 0.7


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
    found = probes.log_loss(np.array([logit]), np.array([label]))[0]
    assert found == pytest.approx(-np.log2(max(given_to_label, 1e-300)), rel=1e-3, abs=1e-9)


def test_a_very_sure_and_wrong_prediction_has_a_finite_loss():
    assert probes.log_loss(np.array([-1e4]), np.array([1]))[0] == pytest.approx(1e4 / np.log(2))


def test_the_scores_of_several_seeds_are_means_over_seeds(pairs):
    rng = np.random.default_rng(4)
    logits = rng.standard_normal((3, N)) + 2 * pairs.labels - 1
    estimates = scores(logits, pairs.labels, pairs.groups)
    expected = {
        "accuracy": np.mean([accuracy(row, pairs.labels) for row in logits]),
        "log_loss": np.mean([sklearn_log_loss(pairs.labels, 1 / (1 + np.exp(-row))) for row in logits]) / np.log(2),
    }
    for metric, value in expected.items():
        assert estimates[metric].value == pytest.approx(value)
        assert estimates[metric].low < value < estimates[metric].high
    assert set(estimates) == {"accuracy", "auroc", "log_loss"}
    assert estimates["accuracy"].n == N


def test_a_coin_has_a_loss_of_one_bit(pairs):
    assert scores(np.zeros((1, N)), pairs.labels, pairs.groups)["log_loss"].value == pytest.approx(1)


# The fits, against scikit-learn and against closed forms


@pytest.mark.parametrize(("n", "width"), [(150, 12), (60, 100)])
def test_every_fit_is_scikit_learn_s_at_every_penalty_for_several_labellings_at_once(n, width):
    rng = np.random.default_rng(5)
    features = rng.standard_normal((n, width)) @ rng.standard_normal((width, width))
    labels = np.stack([features[:, 0] > 0, rng.integers(0, 2, n), np.arange(n) % 5 == 0], axis=1).astype(int)
    basis, made = Basis(features), StandardScaler().fit_transform(features)
    columns = np.repeat(labels, len(PENALTIES), axis=1)
    penalty = np.tile(1 / np.array(PENALTIES), 3) * np.ones((len(basis.squares), 1))
    weights, biases = fit_logistic(basis.coordinates(features), columns, penalty)
    for at, column in enumerate(columns.T):
        fitted = LogisticRegression(C=PENALTIES[at % len(PENALTIES)], max_iter=10_000, tol=1e-10).fit(made, column)
        expected = fitted.decision_function(made)
        np.testing.assert_allclose(basis.coordinates(features) @ weights[:, at] + biases[at], expected, atol=2e-3, rtol=2e-3)


def test_a_probe_in_raw_coordinates_gives_the_logits_of_the_standardised_one():
    rng = np.random.default_rng(6)
    features = rng.standard_normal((50, 9)) * np.geomspace(1e-3, 1e3, 9) + 40
    basis, weight = Basis(features), rng.standard_normal(9)
    expected = basis.coordinates(features) @ weight + 0.3
    np.testing.assert_allclose(basis.probe(weight, 0.3).logits(features), expected, rtol=1e-9, atol=1e-9)
    assert np.abs(expected - features @ weight).max() > 1  # the coordinates do matter


def test_what_a_fold_tests_does_not_move_any_of_its_directions(pairs):
    features = planted(pairs, strength=1.0)
    before, _ = held_out(features, pairs, seed=0)
    split = folds(pairs, seed=0)[3]
    moved = features.copy()
    moved[split.test] = 100 * np.random.default_rng(7).standard_normal((len(split.test), WIDTH))
    after, _ = held_out(moved, pairs, seed=0)
    for method in METHODS:
        assert np.array_equal(after[method].probes[3].weight, before[method].probes[3].weight)
        assert after[method].probes[3].bias == before[method].probes[3].bias
        assert not np.array_equal(after[method].probes[0].weight, before[method].probes[0].weight)  # trained on them


def gaussians(n: int, seed: int = 0):
    """Two Gaussian classes of one covariance, the best direction between them, and the accuracy it reaches."""
    rng = np.random.default_rng(seed)
    root = np.diag(np.geomspace(0.3, 3, 6)) @ np.linalg.qr(rng.standard_normal((6, 6)))[0]
    covariance, apart = root.T @ root, np.array([1.0, 0.5, -0.5, 0.8, 0, 0.3])
    labels = np.arange(n) % 2
    best = np.linalg.solve(covariance, apart)
    return rng.standard_normal((n, 6)) @ root + np.outer(labels, apart), labels, best, norm.cdf(np.sqrt(apart @ best) / 2)


def test_probes_that_know_the_spread_reach_the_bayes_accuracy_and_the_direction_of_it_and_the_raw_mean_does_not(make_concepts):
    features, labels, best, bayes = gaussians(4000)
    found, _ = held_out(features, make_concepts(labels), seed=0)
    reached = {method: accuracy(found[method].logits, labels) for method in METHODS}
    turned = {
        method: held.probes[0].weight @ best / np.linalg.norm(best) / np.linalg.norm(held.probes[0].weight)
        for method, held in found.items()
    }
    for method in ("logistic", "ridge", "whitened mean difference"):
        assert reached[method] == pytest.approx(bayes, abs=0.015)
        assert turned[method] > 0.98
    assert reached["mean difference"] < bayes - 0.03
    assert turned["mean difference"] < 0.9


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("width", [12, 260])
def test_closed_forms_point_where_scikit_learn_s_ridge_and_discriminant_and_the_means_point(pairs, width):
    rng = np.random.default_rng(8)
    features = rng.standard_normal((N, width)) * rng.uniform(0.5, 2, width) + 0.6 * np.outer(pairs.labels, np.arange(width) % 3)
    found, _ = held_out(features, pairs, seed=0)
    split = folds(pairs, seed=0)[1]
    raw, labels = features[split.train], pairs.labels[split.train]
    basis, made = Basis(raw), StandardScaler().fit_transform(raw)
    ours = {method: held.probes[1].weight for method, held in found.items()}
    ridges = [Ridge(strength).fit(made, labels).coef_ / raw.std(0) for strength in STRENGTHS]
    assert max(cosine(ours["ridge"], ridge) for ridge in ridges) > 1 - 1e-9
    assert cosine(ours["mean difference"], raw[labels == 1].mean(0) - raw[labels == 0].mean(0)) > 1 - 1e-9
    z = basis.coordinates(raw)
    within = z - np.stack([z[labels == label].mean(0) for label in (0, 1)])[labels]
    shrinkage = float(ledoit_wolf_shrinkage(within, assume_centered=True))
    discriminant = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=[0.5, 0.5]).fit(z, labels)
    assert cosine(ours["whitened mean difference"], basis.probe(discriminant.coef_[0], 0.0).weight) > 0.9999
    assert cosine(ours["whitened mean difference"], ours["mean difference"]) < 0.99


def test_the_slope_and_threshold_of_a_score_are_those_of_a_logistic_regression():
    rng = np.random.default_rng(9)
    labels = np.arange(120) % 2
    rows = np.stack([rng.standard_normal(120) + shift * labels for shift in (0.0, 1.0, 8.0)])
    for row, (slope, bias) in zip(rows, probes._calibrate(rows, labels), strict=True):
        fitted = LogisticRegression(C=100, tol=1e-10, max_iter=1000).fit(row[:, None], labels)
        assert slope == pytest.approx(fitted.coef_[0, 0], rel=1e-3, abs=1e-4)
        assert bias == pytest.approx(fitted.intercept_[0], rel=1e-3, abs=1e-4)


def test_the_shrinkage_is_scikit_learn_s():
    rng = np.random.default_rng(18)
    for made in (
        rng.standard_normal((40, 9)),
        rng.standard_normal((30, 50)),
        rng.standard_normal((200, 6)) * np.geomspace(0.1, 9, 6),
    ):
        size = ((made.T @ made / len(made)) ** 2).sum()
        shrinkage, level = probes._shrinkage((made**2).sum(1), size, made.shape[1])
        assert shrinkage == pytest.approx(ledoit_wolf_shrinkage(made, assume_centered=True))
        assert level == pytest.approx((made**2).mean())


def test_a_statement_without_a_label_takes_no_part_in_fit_and_choice(pairs):
    features, kept = planted(pairs, strength=1.0), np.arange(N) % 5 > 0
    split = folds(pairs, seed=0)[0]
    basis = Basis(features[split.train])
    labels = np.where(kept, pairs.labels, -1)[:, None]
    ((masked, loss),) = probes.fit_chosen(basis, labels[split.train], features[split.validation], labels[split.validation])
    z, y = basis.train[kept[split.train]], pairs.labels[split.train][kept[split.train]]
    valid, truth = (values[split.validation][kept[split.validation]] for values in (features, pairs.labels))
    fits = [LogisticRegression(C=c, tol=1e-10, max_iter=1000).fit(z, y) for c in PENALTIES]
    losses = [sklearn_log_loss(truth, fit.predict_proba(basis.coordinates(valid))) / np.log(2) for fit in fits]
    assert loss == pytest.approx(min(losses), rel=1e-3)
    expected = fits[int(np.argmin(losses))].decision_function(basis.coordinates(features))
    np.testing.assert_allclose(masked.logits(features), expected, atol=2e-3)


def test_other_labels_are_fitted_as_if_they_were_alone(pairs):
    features, other = planted(pairs, strength=1.0), shuffled_labels(pairs, seed=0)
    found, (control,) = held_out(features, pairs, 0, other[None])
    np.testing.assert_allclose(control.logits, held_out_logits(features, pairs, 0, other), atol=1e-3)
    np.testing.assert_allclose(found["logistic"].logits, held_out_logits(features, pairs, 0), atol=1e-3)


# The layer chosen on validation


def test_the_selected_layer_is_the_one_that_holds_the_label_and_no_layer_of_noise_wins_by_having_been_picked(pairs):
    rng = np.random.default_rng(10)
    shuffled = np.stack([shuffled_labels(pairs, seed) for seed in range(2)])
    noise = rng.standard_normal((N, 12, WIDTH))
    words = np.stack([control_task(pairs, seed) for seed in range(2)])
    blind = trace(noise, pairs, shuffled, words)
    picked = max(blind.correct("logistic").mean(1))
    chosen = float(((blind.selected["logistic"] > 0) == (pairs.labels == 1)).mean())
    assert picked > 0.53  # the best of twelve layers of noise
    assert chosen < picked
    assert chosen == pytest.approx(0.5, abs=0.07)
    noise[:, 1] = planted(pairs, strength=2.0)
    seeing = trace(noise, pairs, shuffled, words)
    assert ((seeing.selected["logistic"] > 0) == (pairs.labels == 1)).mean() > 0.95
    assert ((seeing.selected["shuffled labels"] > 0) == (shuffled == 1)).mean() < 0.6


def test_the_rows_and_the_evidence_of_a_trace_are_those_that_others_read(pairs):
    acts = np.random.default_rng(11).standard_normal((N, 3, WIDTH)).astype(np.float32)
    shuffled = np.stack([shuffled_labels(pairs, seed) for seed in range(2)])
    traced = trace(acts, pairs, shuffled, shuffled)
    rows = [(layer, method, metric) for layer, method, metric, _ in traced.estimates()]
    assert len(rows) == len(set(rows))
    expected = {(layer, method, metric) for layer in range(3) for method in (*METHODS, "shuffled labels") for metric in
                ("accuracy", "auroc", "log_loss")}  # fmt: skip
    single = {(None, method, metric) for method in ("selected layer", "shuffled labels") for metric in
              ("accuracy", "auroc", "log_loss")}  # fmt: skip
    assert set(rows) == expected | single
    arrays = traced.evidence(acts)
    shapes = {"correct": (3, 2, N), "selected": (2, N), "shuffled": (3, 2, N), "fold": (2, N), "middle": (N, WIDTH)}
    assert {name: array.shape for name, array in arrays.items()} == shapes
    assert {name: array.dtype for name, array in arrays.items()} == dict.fromkeys(shapes, np.uint8) | {"middle": np.float16}
    for seed in range(2):
        assert all((arrays["fold"][seed, split.test] == fold).all() for fold, split in enumerate(folds(pairs, seed)))
    np.testing.assert_array_equal(arrays["middle"], acts[:, 1].astype(np.float16))
    estimates = {(layer, method): e for layer, method, metric, e in traced.estimates() if metric == "accuracy"}
    assert arrays["correct"][2].mean() == pytest.approx(estimates[2, "logistic"].value)
    assert arrays["selected"].mean() == pytest.approx(estimates[None, "selected layer"].value)
    assert arrays["shuffled"][0].mean() == pytest.approx(estimates[0, "shuffled labels"].value)


# The released protocol


def by_the_formulas(features: np.ndarray, labels: np.ndarray) -> float:
    """The released protocol from its formulas alone: the penalised likelihood is minimised by gradient steps."""
    n = len(labels)
    z = (features - features.mean(0)) / np.sqrt(((features - features.mean(0)) ** 2).sum(0) / (n - 1))
    first, sign = int(n * 0.8), 2.0 * labels - 1
    x, y = np.c_[z[:first], np.ones(first)], sign[:first]
    w, ridge = np.zeros(x.shape[1]), np.r_[np.ones(z.shape[1]), 0]
    curvature = np.linalg.eigvalsh(x.T @ x).max() / 4 + 1
    velocity, before = w, w
    for k in range(20_000):
        gradient = -x.T @ (y / (1 + np.exp(y * (x @ velocity)))) + ridge * velocity
        w, before = velocity - gradient / curvature, w
        velocity = w + k / (k + 3) * (w - before)
    return float(((np.c_[z[first:], np.ones(n - first)] @ w > 0) == (sign[first:] > 0)).mean())


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_the_released_protocol_is_what_its_formulas_say(make_concepts, strength):
    concepts = make_concepts(np.random.default_rng(12).integers(0, 2, 203))
    features = np.random.default_rng(13).standard_normal((203, WIDTH)) * np.geomspace(0.1, 10, WIDTH)
    features[:, 0] += strength * concepts.labels
    estimate = released(features.astype(np.float32), concepts)
    assert estimate.n == 203 - 162
    assert estimate.value == pytest.approx(by_the_formulas(features.astype(np.float32).astype(float), concepts.labels), abs=1e-12)


def test_the_released_protocol_goes_by_the_order_of_the_rows_alone(make_concepts):
    labels, order = np.random.default_rng(14).integers(0, 2, 200), np.arange(200)[::-1]
    features = np.random.default_rng(15).standard_normal((200, 3)) + 0.5 * labels[:, None]
    forwards, backwards = released(features, make_concepts(labels)), released(features[order], make_concepts(labels[order]))
    assert forwards.value != backwards.value
    bound = make_concepts(labels, groups=[f"g{i % 7}" for i in range(200)])
    assert released(features, bound).value == forwards.value  # groups mean nothing to it


def test_twins_across_the_split_fool_the_released_protocol_and_not_the_grouped_ones(make_concepts):
    rng = np.random.default_rng(16)
    labels = np.repeat(rng.integers(0, 2, 100), 2)
    groups = [f"g{i // 2}" for i in range(200)]
    order = rng.permutation(200)
    concepts = make_concepts(labels[order], groups=[groups[i] for i in order])
    features = np.repeat(rng.standard_normal((100, 150)), 2, axis=0)[order]  # noise, the same for both twins
    assert released(features, concepts).value > 0.75
    for scale_on_train in (False, True):
        assert released_by_group(features, concepts, scale_on_train).value < 0.62


def test_the_two_grouped_steps_differ_by_the_scaling_alone(make_concepts):
    rng = np.random.default_rng(17)
    concepts = make_concepts(rng.integers(0, 2, 100))
    features = rng.standard_normal((100, 4)) + concepts.labels[:, None]
    rows, right = np.arange(100), np.empty(100)
    for split in folds(concepts, seed=0):
        train = np.setdiff1d(rows, split.test)
        scaled = (features - features[train].mean(0)) / features[train].std(0, ddof=1)
        right[split.test] = (
            LogisticRegression().fit(scaled[train], concepts.labels[train]).predict(scaled[split.test])
            == concepts.labels[split.test]
        )
    assert released_by_group(features, concepts, scale_on_train=True).value == right.mean()
    found = {(layer, method): e.value for layer, method, _, e in probes.protocols(features[:, None], concepts)}
    assert found[0, "released, grouped, scaled on train"] == right.mean()
    assert set(found) == {(0, "released"), (0, "released, grouped"), (0, "released, grouped, scaled on train")}
