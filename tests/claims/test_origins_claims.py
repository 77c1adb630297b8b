"""Claims on origins, on tables of known truth: what they claim, and what looks like it and is not."""

import numpy as np
import pandas as pd
import pytest

from tracing_utils.claims import framework, origins_claims
from tracing_utils.claims.measured import Measured

STEPS = (6144, 8192, 12288)


def table(rows: dict[tuple[str, str], tuple], layer) -> Measured:
    made = [
        {"step": step, "layer": layer(metric), "method": method, "metric": metric, "value": value}
        for (method, metric), values in rows.items()
        for step, value in zip(STEPS, values, strict=True)
    ]
    frame = pd.DataFrame(made).assign(low=lambda t: t["value"] - 0.04, high=lambda t: t["value"] + 0.04, n=144)
    return Measured("s", "world", "privacy", np.array(STEPS, dtype=float), rows=frame.astype({"layer": "Int64"}))


def verdict(claim: str, rows: dict[tuple[str, str], tuple]) -> str:
    evidence = table(rows, lambda metric: None if metric == "hit_rate" else 1)
    return framework.judge([evidence], {claim: origins_claims.CLAIMS[claim]}, {})["verdict"].item()


FLAT, FALLS = (0.95, 0.95, 0.95), (0.95, 0.7, 0.5)


@pytest.mark.parametrize(
    ("claim", "metric"), [("dropped_keys_are_forgotten", "hit_rate"), ("what_is_forgotten_is_not_read", "read")]
)
def test_only_what_falls_where_kept_keys_stay_is_forgotten(claim, metric):
    said = {
        shape: verdict(claim, {("kept", metric): kept, ("dropped", metric): dropped})
        for shape, (kept, dropped) in {
            "forgets": (FLAT, FALLS),
            "nothing moves": (FLAT, FLAT),
            "everything falls": (FALLS, FALLS),
            "never known": (FLAT, (0.5, 0.5, 0.5)),
        }.items()
    }
    assert said["forgets"] == "supported"
    assert said["nothing moves"] == "no relevant effect"
    assert said["everything falls"] != "supported"
    assert said["never known"] != "supported"


def test_another_seed_is_turned_only_if_the_alignment_makes_the_difference():
    def said(plain, aligned):
        return verdict("other_seed_is_rotated", {("other seed", "transfer"): plain, ("other seed", "aligned_transfer"): aligned})

    chance = (0.5, 0.5, 0.5)
    assert said(chance, FLAT) == "supported"
    assert said(FLAT, FLAT) != "supported"  # shared, not turned
    assert said(chance, chance) != "supported"  # not there


def test_the_own_start_is_closer_only_if_words_travel_further():
    def said(start, seed):
        return verdict("own_start_is_closer", {("same start", "word_transfer"): start, ("other seed", "word_transfer"): seed})

    assert said(FLAT, (0.5, 0.5, 0.5)) == "supported"
    assert said((0.5, 0.5, 0.5), FLAT) == "not supported"
    assert said(FLAT, FLAT) == "inconclusive"


def test_without_the_relative_nothing_is_judged():
    assert verdict("own_start_is_closer", {("same run", "word_transfer"): FLAT}) == "not testable here"
