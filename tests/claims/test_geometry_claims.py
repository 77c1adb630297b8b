"""Claims on the shape of a concept, on planted tables: what is the claim, and what looks like it and is not."""

import numpy as np
import pandas as pd
import pytest

from tracing_utils.claims import framework, geometry_claims, measured

STEPS = [0, 8, 64, 512, 4096]
FLAT = [0.0] * 5


def verdict(claim, *curves, steps=STEPS, half_width=0.02):
    """The verdict on curves over the steps, each `(method, metric, layer, values)`."""
    rows = [
        {
            "suite": "planted", "revision": f"step{step}", "step": step, "layer": layer, "method": method, "metric": metric,
            "value": value, "low": value - half_width, "high": value + half_width, "n": 100,
        }
        for method, metric, layer, values in curves
        for step, value in zip(steps, values, strict=True)
    ]  # fmt: skip
    table = pd.DataFrame(rows).astype({"layer": "Int64"})
    planted = measured.Measured("planted", "made-up", "privacy", np.array(steps, dtype=float), rows=table)
    return framework.judge([planted], {claim: geometry_claims.CLAIMS[claim]}, {})["verdict"].iloc[0]


def kappa(values, swapped=FLAT, everywhere=None):
    """Kappa without shared words and its null; over all pairs it may be something else, and no claim reads it."""
    return [
        ("no word shared", "kappa", None, values),
        ("no word shared, labels swapped", "kappa", None, swapped),
        ("groups", "kappa", None, everywhere or values),
    ]


@pytest.mark.parametrize(
    ("values", "swapped", "everywhere", "expected"),
    [
        ([0, 0, 0.2, 0.4, 0.5], FLAT, None, "supported"),
        (FLAT, FLAT, None, "no relevant effect"),
        ([0, 0.5, 0.5, 0.3, 0.0], FLAT, None, "no relevant effect"),  # gone at the end
        ([0.5] * 5, [0.5] * 5, None, "no relevant effect"),  # swapped labels give as much
        (FLAT, FLAT, [0.5] * 5, "no relevant effect"),  # only where groups share a word
        ([-0.5] * 5, FLAT, None, "not supported"),
    ],
)
def test_one_direction_is_what_swapped_labels_and_shared_words_do_not_give(values, swapped, everywhere, expected):
    assert verdict("common_direction", *kappa(values, swapped, everywhere)) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 0, 0.2, 0.4, 0.5], "supported"),
        ([0.5] * 5, "no relevant effect"),  # there before training
        ([0.5, 0.4, 0.2, 0.1, 0.0], "not supported"),
        ([0, 0.5, 0.5, 0.3, 0.0], "no relevant effect"),
    ],
)
def test_a_direction_grows_only_if_it_was_not_there_at_step_0(values, expected):
    assert verdict("direction_grows", *kappa(values)) == expected


def test_a_direction_grows_cannot_be_asked_of_a_single_checkpoint_or_without_step_0():
    assert verdict("direction_grows", *kappa([0.5], [0.0]), steps=[0]) == "not testable here"
    assert verdict("direction_grows", *kappa([0.1, 0.2, 0.3, 0.4], FLAT[1:]), steps=STEPS[1:]) == "not testable here"


@pytest.mark.parametrize(
    ("twins", "alone", "expected"), [(0.9, 0.9, "supported"), (0.9, 0.5, "no relevant effect"), (0.1, 0.4, "not supported")]
)
def test_a_lower_dimension_is_one_without_twins(twins, alone, expected):
    areas = [(method, "lid_auroc", None, [value] * 5) for method, value in (("k = 20", twins), ("group left out", alone))]
    assert verdict("lower_dimension", *areas, half_width=0.01) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([50, 20, 30, 45, 25], "supported"),
        ([50, 20, 30, 45, 45], "no relevant effect"),  # never compressed again
        ([50, 40, 30, 20, 10], "not supported"),  # falls only
        ([10, 20, 30, 40, 50], "not supported"),  # rises only
        ([20, 30, 50, 30, 20], "not supported"),  # no collapse first
        ([30] * 5, "no relevant effect"),
    ],
)
def test_three_phases_are_a_fall_a_rise_and_a_fall(values, expected):
    assert verdict("three_phases", ("neutral text", "rankme", 1, values), half_width=0.5) == expected


def test_what_was_not_measured_is_told_and_not_judged():
    assert verdict("common_direction", ("groups", "kappa", None, FLAT)) == "not testable here"
    assert verdict("three_phases", ("neutral text", "rankme", 1, [3, 2, 1]), steps=[0, 1, 2]) == "not testable here"
