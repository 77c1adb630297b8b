"""Intervals of correlations and of what is measured at half-samples."""

import numpy as np
import pytest

from tracing_utils.experiments.intervals import fisher, from_halves


def test_the_spread_over_halves_is_the_standard_error_at_full_size():
    rng = np.random.default_rng(12)
    values = rng.standard_normal(400)
    halves = [values[rng.permutation(400)[:200]].mean() for _ in range(2000)]
    estimate = from_halves(values.mean(), halves, 400)
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.05)


def test_fishers_interval_holds_the_true_correlation_as_often_as_it_says():
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(400):
        x, noise = rng.standard_normal((2, 30))
        estimate = fisher(float(np.corrcoef(x, 0.6 * x + 0.8 * noise)[0, 1]), 30)
        held += estimate.low < 0.6 < estimate.high
    assert held / 400 == pytest.approx(0.95, abs=0.03)


def test_a_perfect_correlation_of_few_has_an_interval_too():
    estimate = fisher(1.0, 5)
    assert estimate.low < 0.999 < estimate.high == 1.0
