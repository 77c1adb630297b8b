"""Kernel measures against literal formulas, closed forms, and what they must say of unrelated data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracing_utils.experiments.mutual_information import kernels
from tracing_utils.experiments.mutual_information.kernels import (
    EPSILON,
    SIGMA,
    WideSmoother,
    alignment,
    cka_labels,
    debiased,
    effective_rank,
    label_kernel,
    median_kernel,
    nhsic_labels,
    null,
    participation_ratio,
    released_kernel,
    released_smoother,
    smoother,
    spectrum,
    standardise,
    text_kernel,
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
    got = alignment(smoother(released_kernel(x, sigma)), smoother(released_kernel(t, sigma)))
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
    got = alignment(smoother(released_kernel(x)), smoother(released_kernel(t)))
    assert got == pytest.approx(expected, rel=5e-3)
    assert alignment(smoother(released_kernel(x)), smoother(released_kernel(x))) == pytest.approx((f**2).sum(), rel=5e-3)


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
    assert alignment(a, b) == pytest.approx(alignment(b, a), rel=1e-12)
    assert -1e-9 <= alignment(a, b) <= min(np.trace(a), np.trace(b)) + 1e-9


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
    together = alignment(smoother(released_kernel(x[order])), smoother(released_kernel(t[order])))
    assert together == pytest.approx(alignment(a, b))
    assert alignment(smoother(released_kernel(x[order])), b) < 0.8 * alignment(a, b)


def prepared(features: np.ndarray) -> np.ndarray:
    return smoother(released_kernel(features))


def orders(n: int, draws: int = 100) -> np.ndarray:
    rng = np.random.default_rng(20)
    return np.stack([rng.permutation(n) for _ in range(draws)])


def test_a_null_draw_is_the_alignment_after_the_examples_of_one_side_change_places():
    x, t, _ = related(60, 8)
    a, b, order = prepared(x), prepared(t), orders(60, 3)
    expected = [[alignment(a[np.ix_(row, row)], other) for row in order] for other in (a, b)]
    assert null(a, [a, b], order) == pytest.approx(np.array(expected), rel=1e-4)
    assert null(a, [a, b], np.arange(60)[None])[:, 0] == pytest.approx([alignment(a, a), alignment(a, b)], rel=1e-5)


def test_independent_data_have_the_floor_that_shuffling_shows_and_related_data_lie_above_it():
    rng = np.random.default_rng(3)
    x, t, _ = related(150, 20)
    alone, smooth = prepared(standardise(rng.standard_normal((150, 20)))), prepared(x)
    floor, related_floor = null(smooth, [alone, prepared(t)], orders(150))
    expected = np.trace(smooth) * np.trace(alone) / 149  # mean over permutations of the trace of a product
    assert floor.mean() == pytest.approx(expected, rel=0.05)
    assert floor.mean() > 0.1  # not zero: the measure is biased upwards
    assert floor.min() - 0.3 * floor.mean() < alignment(smooth, alone) < floor.max() + 0.3 * floor.mean()
    assert alignment(smooth, prepared(t)) > related_floor.max()


def test_the_floor_of_labels_is_the_share_that_chance_gives():
    _, t, labels = related(200, 24)
    smooth, rng = prepared(t), np.random.default_rng(4)
    floor = nhsic_labels(smooth, np.stack([rng.permutation(labels) for _ in range(400)]))
    assert floor.mean() == pytest.approx(0.909 * np.trace(smooth) / 199, rel=0.05)
    assert nhsic_labels(smooth, labels) > floor.max()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), width=st.integers(2, 12), sigma=st.sampled_from([1.0, 50.0]))
def test_a_rotation_of_the_features_changes_neither_measure(seed, width, sigma):
    rng = np.random.default_rng(seed)
    x, t = rng.standard_normal((2, 40, width))
    rotation, _ = np.linalg.qr(rng.standard_normal((width, width)))
    for make in (lambda v: smoother(released_kernel(v, sigma)), lambda v: debiased(median_kernel(v))):
        assert alignment(make(x), make(t @ rotation)) == pytest.approx(alignment(make(x), make(t)), rel=1e-6, abs=1e-9)
        assert alignment(make(x), make(t * np.arange(1, width + 1))) != pytest.approx(alignment(make(x), make(t)), rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-3, 0.5, 40.0]))
def test_debiased_cka_does_not_see_the_scale_of_the_features_and_nhsic_does(seed, scale):
    rng = np.random.default_rng(seed)
    x, t = rng.standard_normal((2, 30, 5))
    assert cka(median_kernel(x), median_kernel(scale * t)) == pytest.approx(cka(median_kernel(x), median_kernel(t)), abs=1e-9)
    assert alignment(prepared(x), prepared(scale * t)) != pytest.approx(alignment(prepared(x), prepared(t)), rel=1e-3)


def test_the_linear_map_of_a_wide_kernel_would_miss_the_exact_value_where_one_example_is_far_out():
    # Why the examples' own kernel is factored: [g, g x sqrt(2 / s)] is close on even data, and only there.
    def linear(x):
        s = 2 * SIGMA**2 * x.shape[1]
        g = np.exp(-(x**2).sum(1) / s)[:, None]
        made = np.hstack([g, g * x * np.sqrt(2 / s)])
        return smoother(made @ made.T)

    x, t, _ = related(200, 24)
    assert alignment(linear(x), linear(t)) == pytest.approx(alignment(prepared(x), prepared(t)), rel=5e-3)
    x[0] *= 30
    assert alignment(linear(x), linear(t)) != pytest.approx(alignment(prepared(x), prepared(t)), rel=5e-3)


def far_out(n: int, width: int) -> list[np.ndarray]:
    """Standardised x and t as trained models have them: few directions, some statements far out, some of them twice."""
    rng, made = np.random.default_rng(0), []
    for exponent in (1.0, 0.5):
        x = (
            rng.standard_normal((n, width))
            * np.arange(1, width + 1) ** -exponent
            @ np.linalg.qr(rng.standard_normal((width,) * 2))[0]
        )
        x[:20] *= 30
        x[10:20] = x[:10]
        made.append(standardise(x))
    return made


def test_finite_features_give_what_the_kernel_over_the_examples_gives(monkeypatch):
    rng, parts = np.random.default_rng(1), far_out(1200, 40)
    labels = rng.integers(0, 2, (3, 1200))
    (x, t), (wide_x, wide_t) = ([make(part) for part in parts] for make in (lambda f: smoother(released_kernel(f)), WideSmoother))
    assert alignment(wide_x, wide_t) == pytest.approx(alignment(x, t), rel=5e-5)
    assert alignment(wide_x, wide_x) == pytest.approx(alignment(x, x), rel=5e-5)
    np.testing.assert_allclose(nhsic_labels(wide_t, labels), nhsic_labels(t, labels), rtol=1e-4)
    assert nhsic_labels(wide_t, labels[0]) == pytest.approx(nhsic_labels(wide_t, labels)[0])
    orders = np.stack([rng.permutation(1200) for _ in range(4)])
    np.testing.assert_allclose(null(wide_x, [wide_x, wide_t], orders), null(x, [x, t], orders), rtol=2e-4)
    monkeypatch.setattr(kernels, "_COLUMNS", 0)
    assert alignment(*map(WideSmoother, parts)) != pytest.approx(alignment(x, t), rel=2e-3)  # the linear term alone


def test_finite_features_stand_for_the_kernel_where_there_are_many_examples_and_few_features(monkeypatch):
    monkeypatch.setattr(kernels, "MANY", 60)
    x = np.random.default_rng(0).standard_normal((60, 30))
    assert isinstance(released_smoother(x), WideSmoother)
    few, wide = released_smoother(x[:59]), released_smoother(np.hstack([x, x[:, :1]]))
    for found, features in ((few, x[:59]), (wide, np.hstack([x, x[:, :1]]))):
        assert np.array_equal(found, smoother(released_kernel(standardise(features))))


def test_nhsic_depends_on_the_number_of_statements():
    rng = np.random.default_rng(5)
    x, t = (standardise(rng.standard_normal((400, 64))) for _ in range(2))
    few, many = (alignment(smoother(released_kernel(x[:n])), smoother(released_kernel(t[:n]))) for n in (50, 400))
    assert few > 2 * many


def test_standardised_features_have_mean_0_and_deviation_1_and_a_dead_one_stays_0():
    features = np.random.default_rng(6).normal(5, 3, (40, 4)).astype(np.float32)
    features[:, 2] = 7
    scaled = standardise(features)
    assert scaled.dtype == np.float64
    assert scaled.mean(0) == pytest.approx(np.zeros(4), abs=1e-12)
    assert scaled.std(0) == pytest.approx([1, 1, 0, 1])


# Debiased CKA and kernels


def cka(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741 - K and L are the literature's names
    return alignment(debiased(k), debiased(l))


def test_debiased_cka_is_1_for_equal_kernels_and_for_a_rescaled_one():
    kernel = median_kernel(np.random.default_rng(7).standard_normal((40, 6)))
    assert cka(kernel, kernel) == pytest.approx(1)
    assert cka(kernel, 3 * kernel + 2) == pytest.approx(1)


def test_debiased_cka_is_about_0_for_unrelated_data_where_plain_cka_is_near_1():
    rng = np.random.default_rng(8)
    values, plain = [], []
    for _ in range(20):
        a, b = (rng.standard_normal((50, 500)) for _ in range(2))  # more features than examples
        ka, kb = a @ a.T, b @ b.T
        values.append(cka(ka, kb))
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
    assert cka(k, l) == pytest.approx(expected)


def test_debiasing_leaves_its_argument_alone_and_gives_rows_that_sum_to_0():
    kernel = median_kernel(np.random.default_rng(10).standard_normal((10, 3)))
    before = kernel.copy()
    centred = debiased(kernel)
    assert np.array_equal(kernel, before)
    assert centred.sum(0) == pytest.approx(np.zeros(10), abs=1e-12)
    assert not np.diag(centred).any()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(8, 30), ones=st.integers(2, 6))
def test_cka_with_labels_by_the_quadratic_form_is_that_of_the_label_kernel(seed, n, ones):
    rng = np.random.default_rng(seed)
    kernel = median_kernel(rng.standard_normal((n, 3)))
    labels = np.stack([rng.permutation((np.arange(n) < ones).astype(int)) for _ in range(3)])
    expected = [cka(kernel, label_kernel(row)) for row in labels]
    assert cka_labels(debiased(kernel), labels) == pytest.approx(np.array(expected), abs=1e-12)


def test_every_kernel_of_binary_labels_is_the_same_once_debiased():
    labels = (np.arange(40) < 13).astype(int)
    line = labels[:, None].astype(float)
    assert debiased(label_kernel(labels)) == pytest.approx(debiased(np.exp(-((line - line.T) ** 2) / 7)))
    assert debiased(label_kernel(labels)) != pytest.approx(debiased(label_kernel(np.roll(labels, 5))))


def test_labels_that_split_the_data_have_a_high_cka_and_shuffled_ones_about_0():
    rng = np.random.default_rng(14)
    labels = np.arange(100) % 2
    t = debiased(median_kernel(rng.standard_normal((100, 4)) + 4 * labels[:, None]))
    drawn = cka_labels(t, np.stack([rng.permutation(labels) for _ in range(200)]))
    assert abs(drawn.mean()) < 4 * drawn.std() / np.sqrt(200)
    assert cka_labels(t, labels[None])[0] > 0.8 > 5 * drawn.max()


def test_the_median_kernel_is_exp_of_minus_a_half_at_the_median_distance():
    points = np.array([[0.0], [1.0], [3.0]])  # distances 1, 2, 3: median of the squares 4
    kernel = median_kernel(points)
    assert kernel[0, 1] == pytest.approx(np.exp(-1 / 8))
    assert kernel[1, 2] == pytest.approx(np.exp(-4 / 8))
    assert np.diag(kernel) == pytest.approx(1)
    assert (kernel**0.25)[0, 2] == pytest.approx(np.exp(-9 / (2 * 4 * 2**2)))  # twice the width


def test_the_text_kernel_is_1_for_the_same_words_and_0_for_none_in_common():
    kernel = text_kernel(["the cat sat", "the cat sat", "dogs run fast"])
    assert kernel[0, 1] == pytest.approx(1)
    assert kernel[0, 2] == 0


# Spectrum


def test_both_counts_of_equal_variances_are_their_number():
    features = np.kron(np.eye(5), np.array([[1.0], [-1.0]])) * 3
    assert participation_ratio(spectrum(features)) == pytest.approx(5)
    assert effective_rank(spectrum(features)) == pytest.approx(5)


def test_both_counts_of_one_direction_are_1():
    line = np.outer(np.arange(10.0), [1.0, -2.0, 0.5])
    assert participation_ratio(spectrum(line)) == pytest.approx(1)
    assert effective_rank(spectrum(line)) == pytest.approx(1)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(3, 20), width=st.integers(2, 20))
def test_the_participation_ratio_is_that_of_the_covariance_s_eigenvalues(seed, n, width):
    features = np.random.default_rng(seed).standard_normal((n, width))
    values = np.linalg.eigvalsh(np.cov(features.T))
    assert participation_ratio(spectrum(features)) == pytest.approx(values.sum() ** 2 / (values**2).sum())
    shares = values[values > 1e-12 * values.sum()] / values.sum()
    assert effective_rank(spectrum(features)) == pytest.approx(np.prod(shares**-shares), rel=1e-6)
    assert 1 <= participation_ratio(spectrum(features)) <= effective_rank(spectrum(features)) + 1e-9


def test_features_that_do_not_vary_have_no_direction():
    shares = spectrum(np.ones((6, 3)))
    assert not shares.any()
    assert effective_rank(shares) == 1  # exp of no entropy
