"""Intervals cover what they should, groups are drawn together, and the area under the curve is the textbook's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from tracing_utils.core.evaluation import DRAWS, Estimate, auroc, bootstrap_weights, holm, mean, paired, ratio


def rows(n: int) -> list[str]:
    return [f"row {i}" for i in range(n)]


def clustered(rng, groups: int = 40, members: int = 6) -> tuple[np.ndarray, list[str]]:
    """Values whose group effect is as large as their own noise; the true mean is 1."""
    effect = np.repeat(rng.standard_normal(groups), members)
    return 1 + effect + rng.standard_normal(groups * members), [f"g{i // members}" for i in range(groups * members)]


def coverage(by_group: bool, trials: int = 200) -> float:
    """Share of simulated data sets whose interval holds the true mean."""
    held = 0
    for seed in range(trials):
        values, groups = clustered(np.random.default_rng(seed))
        estimate = mean(values, bootstrap_weights(groups if by_group else rows(len(values)), seed))
        held += estimate.low < 1 < estimate.high
    return held / trials


def test_the_interval_by_group_covers_the_truth_in_about_95_of_100_samples_and_the_naive_one_does_not():
    assert 0.90 <= coverage(by_group=True) <= 0.98
    assert coverage(by_group=False) < 0.85


def test_the_width_of_the_interval_is_that_of_the_standard_error():
    values = np.random.default_rng(0).standard_normal(2000)
    estimate = mean(values, bootstrap_weights(rows(2000), seed=0))
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(2000), rel=0.12)
    assert estimate.value == values.mean()
    assert estimate.n == 2000


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(1, 5), min_size=2, max_size=15), seed=st.integers(0, 1000))
def test_members_of_a_group_are_drawn_together_and_as_many_groups_as_there_are(sizes, seed):
    groups = [f"g{g}" for g, size in enumerate(sizes) for _ in range(size)]
    weights = bootstrap_weights(groups, seed, draws=20)
    first = [groups.index(f"g{g}") for g in range(len(sizes))]
    assert (weights[:, first].sum(1) == len(sizes)).all()
    for g, start in enumerate(first):
        assert (weights[:, start : start + sizes[g]] == weights[:, [start]]).all()


def test_each_group_is_drawn_once_on_average_and_left_out_as_often_as_chance_says():
    weights = bootstrap_weights(rows(50), seed=1, draws=4000)
    assert weights.mean(0) == pytest.approx(np.ones(50), abs=0.1)
    assert (weights == 0).mean() == pytest.approx((1 - 1 / 50) ** 50, abs=0.01)


def test_the_same_seed_gives_the_same_draws_and_another_others():
    assert np.array_equal(bootstrap_weights(rows(9), seed=1), bootstrap_weights(rows(9), seed=1))
    assert not np.array_equal(bootstrap_weights(rows(9), seed=1), bootstrap_weights(rows(9), seed=2))
    assert bootstrap_weights(rows(9), seed=1).shape == (DRAWS, 9)


def test_a_constant_has_an_interval_without_width():
    assert mean(np.full(10, 0.25), bootstrap_weights(rows(10), seed=0)) == Estimate(0.25, 0.25, 0.25, 10)


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(-4, 4), st.integers(0, 1)), min_size=4, max_size=40).filter(
        lambda pairs: len({label for _, label in pairs}) == 2
    )
)
def test_the_area_under_the_curve_is_sklearn_s_also_with_ties(pairs):
    scores, labels = (np.array(column) for column in zip(*pairs, strict=True))
    weights = bootstrap_weights(rows(len(labels)), seed=0, draws=5).copy()
    weights[0] = 1  # at least one draw that holds both labels
    value = auroc(scores[None].astype(float), labels, weights).value
    assert value == pytest.approx(roc_auc_score(labels, scores), abs=1e-6)


def test_the_area_over_several_seeds_is_the_mean_of_their_areas():
    rng = np.random.default_rng(2)
    labels = np.arange(60) % 2
    scores = rng.standard_normal((4, 60)) + np.array([[0], [0.5], [1], [2]]) * labels
    got = auroc(scores, labels, bootstrap_weights(rows(60), seed=0)).value
    assert got == pytest.approx(np.mean([roc_auc_score(labels, row) for row in scores]), abs=1e-6)
    assert got != pytest.approx(roc_auc_score(labels, scores.mean(0)), abs=0.01)


def test_every_draw_of_the_area_is_sklearn_s_with_the_same_weights():
    rng = np.random.default_rng(3)
    labels = np.arange(40) % 2
    scores = rng.standard_normal(40) + labels
    weights = bootstrap_weights([f"g{i // 2}" for i in range(40)], seed=0)
    drawn = [roc_auc_score(labels, scores, sample_weight=row) for row in weights]
    got = auroc(scores[None], labels, weights)
    assert (got.low, got.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=1e-5)


def test_scores_that_know_nothing_have_an_area_of_a_half_inside_the_interval():
    rng = np.random.default_rng(4)
    labels = np.arange(300) % 2
    weights = bootstrap_weights(rows(300), seed=0)
    blind = auroc(rng.standard_normal((1, 300)), labels, weights)
    knowing = auroc(rng.standard_normal((1, 300)) + labels, labels, weights)
    assert blind.low < 0.5 < blind.high
    assert knowing.low > 0.6


def test_a_draw_without_one_of_the_labels_is_left_out():
    labels = np.array([1, 0, 0, 0])
    estimate = auroc(np.array([[3.0, 0.0, 1.0, 2.0]]), labels, bootstrap_weights(rows(4), seed=0))
    assert (estimate.value, estimate.low, estimate.high) == (1, 1, 1)


# Ratios, paired differences, many tests


def test_a_ratio_is_that_of_the_sums_and_its_interval_that_of_the_delta_method():
    rng = np.random.default_rng(5)
    above, below = rng.uniform(0.5, 1.5, 400), rng.uniform(1, 3, 400)
    made = ratio(above, below, bootstrap_weights(rows(400), seed=0))
    assert made.value == pytest.approx(above.sum() / below.sum())
    error = np.std(above - made.value * below) / below.mean() / np.sqrt(400)
    assert made.high - made.low == pytest.approx(2 * 1.96 * error, rel=0.15)


def twins(rng, shift: float, groups: int = 40, members: int = 3):
    """Two measurements of the same examples whose difference, by group, is `shift` on average."""
    a = rng.standard_normal(groups * members) + np.repeat(3 * rng.standard_normal(groups), members)
    difference = shift + np.repeat(rng.standard_normal(groups), members) + 0.3 * rng.standard_normal(len(a))
    return a, a - difference, [f"g{i // members}" for i in range(len(a))]


def test_a_paired_test_is_wrong_as_often_as_it_says_and_finds_what_an_unpaired_one_cannot():
    null = [paired(*twins(np.random.default_rng(seed), 0.0), seed=seed).p for seed in range(200)]
    assert 0.01 <= np.mean(np.array(null) < 0.05) <= 0.09
    a, b, groups = twins(np.random.default_rng(1), 0.8)
    found = paired(a, b, groups)
    assert found.p < 0.01
    assert found.low > 0
    assert found.value == pytest.approx((a - b).mean())
    weights = bootstrap_weights(groups, seed=0)
    assert mean(a, weights).low < mean(b, weights).high  # the two intervals overlap


def test_tearing_groups_apart_makes_a_paired_test_overconfident():
    null = [paired(*twins(np.random.default_rng(seed), 0.0, members=6)[:2], rows(240), seed=seed).p for seed in range(60)]
    assert np.mean(np.array(null) < 0.05) > 0.15


def test_a_difference_without_spread_is_certain_or_nothing_and_one_group_is_refused():
    a = np.arange(6.0)
    assert paired(a, a, rows(6)).p == 1
    assert paired(a + 1, a, rows(6)).p == 0
    with pytest.raises(ValueError, match="at least two groups; there is 1"):
        paired(a, a, ["one"] * 6)


def test_holm_is_the_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([float("nan"), 0.02, 0.5])[1:] == pytest.approx([0.04, 0.5])
    assert np.isnan(holm([float("nan"), 0.02])[0])


@settings(max_examples=100, deadline=None)
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_holm_keeps_the_order_never_lowers_a_value_and_does_not_depend_on_the_order_of_the_tests(p, seed):
    corrected = np.array(holm(p))
    p = np.array(p)
    assert (corrected >= p).all()
    assert (corrected <= np.minimum(1, len(p) * p)).all()
    assert (np.diff(corrected[np.argsort(p)]) >= 0).all()
    order = np.random.default_rng(seed).permutation(len(p))
    assert holm(p[order]) == corrected[order].tolist()


def test_holm_holds_the_chance_of_any_false_rejection_where_uncorrected_tests_do_not():
    rng = np.random.default_rng(6)
    p = rng.uniform(size=(1000, 10))
    assert (p.min(1) < 0.05).mean() > 0.3
    assert 0.02 < np.mean([min(holm(row)) < 0.05 for row in p]) < 0.08
