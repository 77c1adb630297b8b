"""Claims on published tables: what is read, compared and dated."""

import numpy as np
import pandas as pd
import pytest

from tracing_utils.claims import framework, measured

STEPS = np.array([0, 8, 64, 512, 4096])


def curve(values, half_width=0.02):
    values = np.asarray(values, dtype=float)
    columns = {"value": values, "low": values - half_width, "high": values + half_width, "n": 100}
    return pd.DataFrame(columns, index=STEPS[: len(values)])


def test_an_onset_is_where_half_of_the_gain_is_reached_and_what_did_not_rise_has_none():
    step, low, high = measured.onset(curve([0.5, 0.5, 0.5, 0.9, 0.95]))
    assert (step, low, high) == (512, 512, 512)
    step, low, high = measured.onset(curve([0.5, 0.5, 0.72, 0.9, 0.95]))
    assert (low, high) == (64, 512)  # the value lies on one half: either checkpoint may be the first
    for flat in ([0.5, 0.5, 0.5, 0.5, 0.51], [0.5, 0.9, 0.9, 0.5, 0.5], [0.9, 0.8, 0.7, 0.6, 0.5], [0.9]):
        assert np.isnan(measured.onset(curve(flat))).all()


def test_a_difference_has_the_error_of_both_intervals():
    rows = curve([0.6, 0.5]).iloc
    part = measured.against("minus chance", rows[0], 0.5, 0.02)
    assert part.value == pytest.approx(0.1)
    assert part.interval[1:] == pytest.approx((0.08, 0.12))
    both = measured.against("minus the other", rows[0], rows[1], 0.02)
    assert both.interval[1:] == pytest.approx((0.1 - 0.02 * 2**0.5, 0.1 + 0.02 * 2**0.5))


def test_a_published_table_is_read_with_the_weights_it_is_of_and_a_gap_is_told():
    found = measured.measured("pocket", "steering")
    assert {each.dimension for each in found} == {"reliability", "privacy", "toxicity", "fairness", "robustness"}
    assert all((each.steps >= 0).all() for each in found)
    assert all(len(each.weights) == 64 for each in found)
    with pytest.raises(framework.NotTestable, match="no vector nothing at every checkpoint"):
        found[0].curve("vector", "nothing")
