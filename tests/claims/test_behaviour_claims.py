"""The claims on behaviour: supported by the shape they speak of, and by none that only looks like it."""

import numpy as np
import pandas as pd
import pytest

from tracing_utils import results
from tracing_utils.claims import behaviour_claims, framework
from tracing_utils.claims.behaviour_claims import CLAIMS
from tracing_utils.claims.measured import Measured

STEPS = np.array([0, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192])
LATE = 0.5 + 0.4 * (STEPS >= 1024)
EARLY = 0.5 + 0.4 * (STEPS >= 64)


@pytest.fixture
def verdict(monkeypatch):
    """A function that judges a claim on planted curves of the preference and of the probe, or on one row of another method."""

    def rows(method, metric, values, half_width):
        values = np.broadcast_to(values, STEPS.shape)
        columns = {
            "method": method,
            "metric": metric,
            "layer": pd.array([pd.NA] * len(STEPS), dtype="Int64"),
            "step": STEPS,
            "n": 400,
        }
        return pd.DataFrame({**columns, "value": values, "low": values - half_width, "high": values + half_width})

    def judge(claim, preferred=0.5, probe=None, half_width=0.02, **other):
        own = [rows("likelihood", "preferred", preferred, half_width)]
        own += [rows(method.replace("_", " "), *value, half_width) for method, value in other.items()]
        evidence = Measured("planted", "made-up", "privacy", STEPS.astype(float), rows=pd.concat(own), study="planted")

        def read(study, experiment):
            if probe is None:
                raise ValueError(f"no {experiment} of {study}")
            return rows("selected layer", "accuracy", probe, half_width).assign(
                suite="planted", concept_set="made-up", dimension="privacy"
            )

        monkeypatch.setattr(results, "read", read)
        return framework.judge([evidence], {claim: CLAIMS[claim]}, {}).iloc[0]

    return judge


def test_a_preference_that_comes_first_is_seen_whichever_side_it_takes(verdict):
    for preferred in (EARLY, 1 - EARLY):
        found = verdict("preferred_before_read", preferred, LATE)
        assert found["verdict"] == "supported"
        assert found["value"] == 4  # checkpoints, from step 64 to step 1024


def test_a_preference_that_comes_later_or_at_once_with_the_probe_is_not_first(verdict):
    assert verdict("preferred_before_read", LATE, EARLY)["verdict"] == "not supported"
    together = verdict("preferred_before_read", LATE, LATE)
    assert together["value"] == 0
    assert together["verdict"] not in ("supported", "not supported")


@pytest.mark.parametrize(("preferred", "probe"), [(EARLY, 0.5), (0.5, LATE), (EARLY, None)])
def test_what_never_rises_or_was_not_probed_has_no_order(verdict, preferred, probe):
    assert verdict("preferred_before_read", preferred, probe)["verdict"] == "not testable here"


def test_noise_of_measurement_alone_gives_no_order(verdict):
    """An onset of a curve with wide intervals may lie at many checkpoints."""
    slow = 0.5 + 0.02 * np.arange(len(STEPS))
    assert verdict("preferred_before_read", slow, slow + 0.01 * (-1) ** np.arange(12), 0.06)["verdict"] == "inconclusive"


BUMPS = 0.05 * np.array([0, 1, -1, 2, -1, 0, 2, -2, 1, 1, -1, 0])


def test_bumps_that_both_share_move_together(verdict):
    rising = 0.6 + 0.02 * np.arange(len(STEPS))
    assert verdict("move_together", rising + BUMPS, rising + 0.9 * BUMPS)["verdict"] == "supported"
    assert verdict("move_together", rising + BUMPS, rising - BUMPS)["verdict"] == "not supported"


@pytest.mark.parametrize("trend", [np.arange(12) / 40, STEPS / 30000, np.log2(1 + STEPS) / 50])
def test_two_curves_that_only_rise_with_time_do_not_move_together(verdict, trend):
    """Raw, such curves correlate at nearly 1; over draws of noise the claim errs no more often than it may."""
    generator, found, raw = np.random.default_rng(0), [], []
    for _ in range(40):
        one, other = (0.5 + trend + 0.01 * generator.standard_normal(len(STEPS)) for _ in range(2))
        raw.append(np.corrcoef(one, other)[0, 1])
        found.append(verdict("move_together", one, other)["verdict"])
    assert np.mean(raw) > 0.9
    assert found.count("supported") + found.count("not supported") <= 0.1 * len(found)


def test_logits_are_the_same_only_within_the_bound_and_only_where_that_is_sure(verdict):
    for value, half_width, expected in (
        (0.001, 0.004, "supported"), (0.03, 0.004, "not supported"), (-0.03, 0.004, "not supported"), (0.0, 0.05, "inconclusive"),
    ):  # fmt: skip
        found = verdict("logits_read_like_hidden_state", half_width=half_width, logits_minus_hidden_state=("accuracy", value))
        assert found["verdict"] == expected


def test_originality_must_be_better_by_more_than_noise(verdict):
    for value, half_width, expected in (
        (0.05, 0.01, "supported"), (-0.05, 0.01, "not supported"),
        (0.003, 0.004, "no relevant effect"), (0.05, 0.1, "inconclusive"),
    ):  # fmt: skip
        found = verdict("originality_beyond_likelihood", half_width=half_width, originality_minus_likelihood=("preferred", value))
        assert found["verdict"] == expected


def test_every_claim_says_whose_it_is_and_what_matters():
    assert set(CLAIMS) == {test.__name__ for test in behaviour_claims._WORDS}
    for claim in CLAIMS.values():
        assert all((claim.title, claim.paper, claim.statistic, claim.threshold, claim.relevant))
