"""Claims on heads and shared weights: each is found where it is planted, and not where something only looks like it."""

import numpy as np
import pandas as pd
import pytest

from tracing_utils.claims import framework
from tracing_utils.claims.components_claims import CLAIMS
from tracing_utils.claims.measured import Measured

STEPS = np.array([0.0, 64.0, 512.0])
CLAIMED = {
    ("best head", "accuracy"): (0.5, 0.7, 0.9),
    ("best head", "over_projection"): (0.0, 0.05, 0.1),
    ("top heads", "gain"): (0.0, 0.1, 0.3),
    ("random heads", "gain"): (0.0, 0.02, -0.02),
    ("shared", "overlap"): (0.1, 0.2, 0.5),
    ("chance", "overlap"): (0.01, 0.01, 0.01),
    ("shared", "share_of_halves"): (0.2, 0.4, 0.7),
    ("zeroed shared", "gain"): (0.0, 0.1, 0.2),
    ("zeroed random", "gain"): (0.0, 0.0, 0.01),
}
# What looks like a claim and is not: which rows are otherwise.
ALIKE = {
    "heads_hold_it": {
        "chance": {("best head", "accuracy"): (0.5, 0.5, 0.5)},
        "any mixture tells as well": {("best head", "over_projection"): (0.0, 0.0, 0.0)},
    },
    "pushing_heads": {
        "any push does it": {("random heads", "gain"): (0.0, 0.1, 0.3)},
        "less bad than others": {("top heads", "gain"): (0.0, -0.1, -0.1), ("random heads", "gain"): (0.0, -0.2, -0.4)},
    },
    "weights_are_shared": {
        "the untrained model shares as much": {("shared", "share_of_halves"): (0.7, 0.7, 0.7)},
        "what chance gives": {("shared", "overlap"): (0.01, 0.01, 0.01)},
    },
    "zeroing_lifts": {
        "any weights as large do it": {("zeroed random", "gain"): (0.0, 0.1, 0.2)},
        "less harm than others": {("zeroed shared", "gain"): (0.0, -0.1, -0.1), ("zeroed random", "gain"): (0.0, -0.2, -0.4)},
    },
}


def p_value(claim, rows=()):
    """Return the p-value against "the claim does not hold" on a planted table."""
    table = [
        {"method": method, "metric": metric, "layer": None, "step": step, "value": v, "low": v - 0.02, "high": v + 0.02, "n": 100}
        for (method, metric), values in (CLAIMED | dict(rows)).items()
        for step, v in zip(STEPS, values, strict=True)
    ]
    rows = pd.DataFrame(table).astype({"layer": "Int64"})
    read = Measured(suite="s", concept_set="world", dimension="fairness", steps=STEPS, weights="", rows=rows)
    return framework._p_values(CLAIMS[claim].test(read).alternatives)[0]


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_planted_claim_is_found_and_what_looks_like_it_is_not(claim):
    assert CLAIMS[claim].name == claim
    assert p_value(claim) < 1e-3
    for name, rows in ALIKE[claim].items():
        assert p_value(claim, rows) > 0.1, name
