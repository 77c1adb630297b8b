"""Dependence measures against literal formulas, closed forms, and what they must say of unrelated data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracing_utils.mutual_information import (
    EPSILON,
    SIGMA,
    debiased_cka,
    median_kernel,
    nhsic,
    nhsic_floor,
    nhsic_labels,
    nhsic_labels_floor,
    participation_ratio,
    readable,
    released,
    released_kernel,
    smoother,
    standardise,
    text_kernel,
    usable_information,
)


def literal_kernel(x: np.ndarray, sigma: float) -> np.ndarray:
    """exp(-|x_i - x_j|^2 / (2 sigma^2 d)), entry by entry."""
    n, d = x.shape
    return np.array([[np.exp(-((x[i] - x[j]) ** 2).sum() / (2 * sigma**2 * d)) for j in range(n)] for i in range(n)])


def literal_nhsic(kx: np.ndarray, ky: np.ndarray, epsilon: float) -> float:
    """tr(Kx H (Kx H + epsilon n I)^-1 Ky H (Ky H + epsilon n I)^-1), with inverses, as the released code prints it."""
    n = len(kx)
    h, c = np.eye(n) - np.ones((n, n)) / n, epsilon * n * np.eye(n)
    rx = kx @ h @ np.linalg.inv(kx @ h + c)
    ry = ky @ h @ np.linalg.inv(ky @ h + c)
    return float(np.trace(rx @ ry))


def related(n: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standardised x, a t that is made of x and noise, and labels that follow x."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, width)) * np.arange(1, width + 1) ** -0.7
    t = np.tanh(x @ rng.standard_normal((width, width))) + 0.3 * rng.standard_normal((n, width))
    return standardise(x), standardise(t), (x[:, 0] > 0).astype(int)


# The released measure


@pytest.mark.parametrize("sigma", [2.0, 50.0])
def test_nhsic_is_the_literal_formula_with_its_inverses(sigma):
    x, t, _ = related(200, 24)
    expected = literal_nhsic(literal_kernel(x, sigma), literal_kernel(t, sigma), EPSILON)
    got = nhsic(smoother(released_kernel(x, sigma)), smoother(released_kernel(t, sigma)))
    assert got == pytest.approx(expected, rel=1e-6)
    without_width = literal_nhsic(literal_kernel(x, sigma / 24**0.5), literal_kernel(t, sigma / 24**0.5), EPSILON)
    assert got != pytest.approx(without_width, rel=0.05)  # the paper's text has no division by d: another number


def test_the_labels_closed_form_is_the_literal_formula_on_labels_of_one_feature():
    _, t, labels = related(200, 24)
    y = labels[:, None].astype(float)
    expected = literal_nhsic(literal_kernel(t, SIGMA), literal_kernel(y, SIGMA), EPSILON)
    smooth = smoother(released_kernel(t))
    assert nhsic_labels(smooth, labels) == pytest.approx(expected, rel=1e-6)
    assert nhsic_labels(smooth, 1 - labels) == pytest.approx(expected, rel=1e-6)
    other = np.random.default_rng(1).permutation(labels)
    assert nhsic_labels(smooth, other) != pytest.approx(expected, rel=0.05)


def test_unbalanced_labels_follow_the_literal_formula_too():
    _, t, _ = related(120, 8)
    labels = (np.arange(120) < 20).astype(int)
    expected = literal_nhsic(literal_kernel(t, SIGMA), literal_kernel(labels[:, None].astype(float), SIGMA), EPSILON)
    assert nhsic_labels(smoother(released_kernel(t)), labels) == pytest.approx(expected, rel=1e-6)


def test_several_rows_of_labels_give_what_each_gives_alone():
    _, t, labels = related(100, 8)
    rows = np.stack([labels, np.roll(labels, 7), 1 - labels])
    smooth = smoother(released_kernel(t))
    assert nhsic_labels(smooth, rows) == pytest.approx([float(nhsic_labels(smooth, row)) for row in rows])


def test_a_wide_kernel_counts_principal_components_as_the_closed_form_of_the_linear_limit_says():
    # paper.md 2.3: nHSIC(T, T) = sum f_i^2 with f_i = lambda_i / (lambda_i + epsilon sigma^2), lambda of Cov(T) / d.
    x, t, _ = related(300, 20)
    c = EPSILON * SIGMA**2

    def modes(z):
        values, vectors = np.linalg.eigh(z @ z.T / len(z) / z.shape[1])
        return values / (values + c), vectors

    (f, u), (g, v) = modes(x), modes(t)
    expected = (f[:, None] * g[None] * (u.T @ v) ** 2).sum()
    got = nhsic(smoother(released_kernel(x)), smoother(released_kernel(t)))
    assert got == pytest.approx(expected, rel=5e-3)
    assert nhsic(smoother(released_kernel(x)), smoother(released_kernel(x))) == pytest.approx((f**2).sum(), rel=5e-3)


def test_a_label_that_is_the_data_reaches_the_ceiling_of_a_balanced_label():
    labels = np.arange(200) % 2
    smooth = smoother(released_kernel(standardise(labels[:, None].astype(float))))
    ceiling = 0.25 / (0.25 + EPSILON * SIGMA**2)  # .909: lambda of a balanced 0/1 label against c
    whole = 1.0 / (1.0 + EPSILON * SIGMA**2)  # the standardised feature has variance 1
    assert nhsic_labels(smooth, labels) == pytest.approx(ceiling * whole, rel=1e-3)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(5, 30), width=st.integers(1, 12), sigma=st.sampled_from([1.0, 10.0, 50.0]))
def test_nhsic_is_symmetric_and_bounded_by_the_two_effective_ranks(seed, n, width, sigma):
    rng = np.random.default_rng(seed)
    a, b = (smoother(released_kernel(standardise(rng.standard_normal((n, width))), sigma)) for _ in range(2))
    assert nhsic(a, b) == pytest.approx(nhsic(b, a), rel=1e-12)
    assert -1e-9 <= nhsic(a, b) <= min(np.trace(a), np.trace(b)) + 1e-9


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(4, 30), width=st.integers(1, 12))
def test_a_smoother_is_symmetric_with_eigenvalues_from_0_to_below_1(seed, n, width):
    smooth = smoother(released_kernel(np.random.default_rng(seed).standard_normal((n, width))))
    assert np.array_equal(smooth, smooth.T)
    values = np.linalg.eigvalsh(smooth)
    assert values.min() > -1e-8
    assert values.max() < 1
    assert abs(smooth.sum()) < 1e-6  # a centred kernel does not see the constant vector


def test_the_order_of_the_statements_does_not_matter_if_both_are_reordered():
    x, t, _ = related(80, 6)
    order = np.random.default_rng(2).permutation(80)
    a, b = smoother(released_kernel(x)), smoother(released_kernel(t))
    together = nhsic(smoother(released_kernel(x[order])), smoother(released_kernel(t[order])))
    assert together == pytest.approx(nhsic(a, b))
    assert nhsic(smoother(released_kernel(x[order])), b) < 0.8 * nhsic(a, b)


def test_independent_data_have_the_floor_that_shuffling_shows_and_related_data_lie_above_it():
    rng = np.random.default_rng(3)
    x, t, _ = related(150, 20)
    alone = smoother(released_kernel(standardise(rng.standard_normal((150, 20)))))
    smooth = smoother(released_kernel(x))
    floor = nhsic_floor(smooth, alone, seed=0, draws=100)
    expected = np.trace(smooth) * np.trace(alone) / 149  # mean over permutations of the trace of a product
    assert floor.value == pytest.approx(expected, rel=0.05)
    assert floor.value > 0.1  # not zero: the measure is biased upwards
    assert floor.low - 0.3 * floor.value < nhsic(smooth, alone) < floor.high + 0.3 * floor.value
    assert nhsic(smooth, smoother(released_kernel(t))) > nhsic_floor(smooth, smoother(released_kernel(t)), seed=0).high


def test_the_floor_of_labels_is_the_share_that_chance_gives():
    _, t, labels = related(200, 24)
    smooth, rng = smoother(released_kernel(t)), np.random.default_rng(4)
    floor = nhsic_labels_floor(smooth, np.stack([rng.permutation(labels) for _ in range(400)]))
    assert floor.value == pytest.approx(0.909 * np.trace(smooth) / 199, rel=0.05)
    assert nhsic_labels(smooth, labels) > floor.high


def test_nhsic_depends_on_the_number_of_statements():
    rng = np.random.default_rng(5)
    x, t = (standardise(rng.standard_normal((400, 64))) for _ in range(2))
    few, many = (nhsic(smoother(released_kernel(x[:n])), smoother(released_kernel(t[:n]))) for n in (50, 400))
    assert few > 2 * many


def test_standardised_features_have_mean_0_and_deviation_1_and_a_dead_one_stays_0():
    features = np.random.default_rng(6).normal(5, 3, (40, 4)).astype(np.float32)
    features[:, 2] = 7
    made = standardise(features)
    assert made.dtype == np.float64
    assert made.mean(0) == pytest.approx(np.zeros(4), abs=1e-12)
    assert made.std(0) == pytest.approx([1, 1, 0, 1])


# Debiased CKA and kernels


def test_debiased_cka_is_1_for_equal_kernels_and_for_a_rescaled_one():
    kernel = median_kernel(np.random.default_rng(7).standard_normal((40, 6)))
    assert debiased_cka(kernel, kernel) == pytest.approx(1)
    assert debiased_cka(kernel, 3 * kernel + 2) == pytest.approx(1)


def test_debiased_cka_is_about_0_for_unrelated_data_where_plain_cka_is_near_1():
    rng = np.random.default_rng(8)
    values, plain = [], []
    for _ in range(20):
        a, b = (rng.standard_normal((50, 500)) for _ in range(2))  # more features than examples
        ka, kb = a @ a.T, b @ b.T
        values.append(debiased_cka(ka, kb))
        h = np.eye(50) - 1 / 50
        ca, cb = h @ ka @ h, h @ kb @ h
        plain.append((ca * cb).sum() / np.sqrt((ca * ca).sum() * (cb * cb).sum()))
    assert np.mean(plain) > 0.8
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(20)
    assert abs(np.mean(values)) < 0.05


def test_debiased_cka_is_the_u_statistic_over_quadruples():
    # Song et al. 2012, equation 4: mean over distinct i, j, q, r of k_ij (l_ij + l_qr - 2 l_iq).
    rng = np.random.default_rng(9)
    k, l = (median_kernel(rng.standard_normal((7, 2))) for _ in range(2))  # noqa: E741

    def statistic(a, b):
        n = len(a)
        terms = [
            a[i, j] * (b[i, j] + b[q, r] - 2 * b[i, q])
            for i in range(n) for j in range(n) for q in range(n) for r in range(n)
            if len({i, j, q, r}) == 4
        ]  # fmt: skip
        return np.mean(terms)

    expected = statistic(k, l) / np.sqrt(statistic(k, k) * statistic(l, l))
    assert debiased_cka(k, l) == pytest.approx(expected)


def test_debiased_cka_leaves_its_arguments_alone():
    kernel = median_kernel(np.random.default_rng(10).standard_normal((10, 3)))
    before = kernel.copy()
    debiased_cka(kernel, kernel)
    assert np.array_equal(kernel, before)


def test_the_median_kernel_is_exp_of_minus_a_half_at_the_median_distance():
    kernel = median_kernel(np.array([[0.0], [1.0], [3.0]]))  # distances 1, 2, 3: median of the squares 4
    assert kernel[0, 1] == pytest.approx(np.exp(-1 / 8))
    assert kernel[1, 2] == pytest.approx(np.exp(-4 / 8))
    assert np.diag(kernel) == pytest.approx(1)


def test_the_text_kernel_is_1_for_the_same_words_and_0_for_none_in_common():
    kernel = text_kernel(["the cat sat", "the cat sat", "dogs run fast"])
    assert kernel[0, 1] == pytest.approx(1)
    assert kernel[0, 2] == 0


# Participation ratio


def test_the_participation_ratio_of_equal_variances_is_their_number():
    features = np.kron(np.eye(5), np.array([[1.0], [-1.0]])) * 3
    assert participation_ratio(features) == pytest.approx(5)


def test_the_participation_ratio_of_one_direction_is_1():
    line = np.outer(np.arange(10.0), [1.0, -2.0, 0.5])
    assert participation_ratio(line) == pytest.approx(1)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(3, 20), width=st.integers(2, 20))
def test_the_participation_ratio_is_that_of_the_covariance_s_eigenvalues(seed, n, width):
    features = np.random.default_rng(seed).standard_normal((n, width))
    values = np.linalg.eigvalsh(np.cov(features.T))
    assert participation_ratio(features) == pytest.approx(values.sum() ** 2 / (values**2).sum())


# Usable information


def channel(flip: float, n: int = 4000) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """A balanced label through a binary symmetric channel, and the Bayes logit of each example."""
    rng = np.random.default_rng(11)
    labels = np.arange(n) % 2
    seen = np.where(rng.random(n) < flip, 1 - labels, labels)
    logit = np.log((1 - flip) / flip)
    return np.where(seen == 1, logit, -logit)[None], labels, [f"row {i}" for i in range(n)]


@pytest.mark.parametrize("flip", [0.05, 0.2, 0.4])
def test_usable_information_of_a_known_channel_is_its_capacity(flip):
    estimate = usable_information(*channel(flip))
    capacity = 1 + flip * np.log2(flip) + (1 - flip) * np.log2(1 - flip)
    assert estimate.low < capacity < estimate.high
    assert estimate.value == pytest.approx(capacity, abs=0.04)


def test_a_probe_that_says_the_base_rate_has_no_information_and_one_that_is_sure_and_wrong_less_than_none():
    labels = (np.arange(400) % 4 == 0).astype(int)
    groups = [f"row {i}" for i in range(400)]
    base = np.full((1, 400), np.log(0.25 / 0.75))
    assert usable_information(base, labels, groups).value == pytest.approx(0, abs=1e-12)
    assert usable_information(-5.0 * (2 * labels[None] - 1), labels, groups).value < -5
    sure = usable_information(50.0 * (2 * labels[None] - 1), labels, groups).value
    assert sure == pytest.approx(-(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75)))


# Whole tables


def layers_that_learn(n: int = 80) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Three layers of which the last holds the label of each member of a pair."""
    rng = np.random.default_rng(12)
    labels = np.arange(n) % 2
    acts = rng.standard_normal((n, 3, 6)).astype(np.float32)
    acts[:, 2] += 3 * (2 * labels[:, None] - 1)
    return acts, labels, [f"g{i // 2}" for i in range(n)]


def test_the_released_table_has_every_layer_with_its_control_and_sees_where_the_label_is(make_concepts):
    acts, labels, groups = layers_that_learn()
    rows = list(released(acts, make_concepts(labels, groups=groups)))
    found = {(layer, method, metric): estimate for layer, method, metric, estimate in rows}
    assert len(rows) == len(found) == 3 * 4
    assert found[2, "released", "nhsic_ty"].low > found[2, "shuffled", "nhsic_ty"].high
    assert found[1, "released", "nhsic_ty"].value < found[1, "shuffled", "nhsic_ty"].high * 1.5
    own = smoother(released_kernel(standardise(acts[:, 0])))
    assert found[0, "released", "nhsic_tx"].value == pytest.approx(nhsic(own, own))
    assert all(e.low <= e.value <= e.high and e.n == 80 for (_, method, _), e in found.items() if method == "released")


def test_the_readable_table_sees_the_words_where_they_are_and_not_elsewhere(make_concepts):
    rng = np.random.default_rng(13)
    words = ["alpha beta gamma delta", "one two three four", "red green blue grey", "north south east west"]
    kinds = rng.integers(4, size=80)
    acts = rng.standard_normal((80, 2, 6)).astype(np.float32)
    acts[:, 1, :4] += 6 * np.eye(4)[kinds]
    made = make_concepts(np.arange(80) % 2, statements=[f"{words[kind]} item" for kind in kinds])
    found = {(layer, metric): estimate for layer, _, metric, estimate in readable(acts, made)}
    assert found[1, "cka"].low > 0.3
    assert found[0, "cka"].low < 0 < found[0, "cka"].high
    assert 4 < found[0, "participation_ratio"].value <= 6
    assert found[1, "participation_ratio"].value < found[0, "participation_ratio"].value


def test_the_interval_of_a_jackknife_over_halves_covers_the_value_at_full_size(make_concepts):
    # The participation ratio of 4 equal variances is 4; the interval at n = 200 should hold it in most samples.
    held = 0
    for seed in range(10):
        acts = np.random.default_rng(seed).standard_normal((200, 1, 4)).astype(np.float32)
        made = make_concepts(np.arange(200) % 2, statements=[f"word{i % 7} word{i % 5}" for i in range(200)])
        ratio = next(e for _, _, metric, e in readable(acts, made) if metric == "participation_ratio")
        held += ratio.low < 4 * (1 - 4 / 200) < ratio.high
    assert held >= 6
