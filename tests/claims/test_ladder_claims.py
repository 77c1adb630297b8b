"""The claims on the ladder hold for rungs in order and for nothing that only looks like it."""

import numpy as np
import pandas as pd
import pytest

from tracing_utils.claims import framework, ladder_claims
from tracing_utils.claims.framework import VERDICTS
from tracing_utils.claims.ladder_claims import CLAIMS, Ladder
from tracing_utils.statements.sources import LADDER

SUPPORTED, NOT_SUPPORTED, IRRELEVANT, _, NOT_TESTABLE = VERDICTS
STEPS = np.array([0.0, *2.0 ** np.arange(3, 13)])
CLIMB = np.array([np.where(start > STEPS, 0.5, top) for start, top in ((16, 0.95), (64, 0.85), (512, 0.75), (2048, 0.65))])


def curve(values, places, half_width=0.02):
    values = np.asarray(values, dtype=float)
    return pd.DataFrame({"value": values, "low": values - half_width, "high": values + half_width, "n": 600}, index=places)


def ladder(values, layers=None, rungs=LADDER, half_width=0.02) -> Ladder:
    if layers is not None:
        curves = {rung: curve(each[-1:], [7]) for rung, each in zip(rungs, values, strict=True)}
        over = {rung: curve(each, range(len(each))) for rung, each in zip(rungs[1:], layers, strict=True)}
        return Ladder("made", "ladder", "privacy", np.array([7.0]), curves=curves, layers=over)
    curves = {rung: curve(each, STEPS, half_width) for rung, each in zip(rungs, values, strict=True)}
    return Ladder("made", "ladder", "privacy", STEPS, curves=curves)


def verdicts(*made) -> dict[str, str]:
    table = framework.judge(made, CLAIMS, {})
    return dict(zip(table["claim"], table["verdict"], strict=True))


def test_rungs_that_stand_and_start_in_order_are_found_to():
    assert verdicts(ladder(CLIMB)) == {"rungs_in_order": SUPPORTED, "easier_starts_earlier": SUPPORTED}
    assert verdicts(ladder(CLIMB[[0, 1, 3]], rungs=("grammar", "words", "pocket")))["rungs_in_order"] == SUPPORTED


def test_the_order_is_that_of_the_last_checkpoint_and_every_step_of_it_counts():
    assert verdicts(ladder(CLIMB[::-1])) == {"rungs_in_order": NOT_SUPPORTED, "easier_starts_earlier": NOT_SUPPORTED}
    met = CLIMB.copy()
    met[:, -1] = 0.8  # in order all the way, and level in the end
    assert verdicts(ladder(met, half_width=0.005))["rungs_in_order"] == IRRELEVANT
    swapped = CLIMB[[0, 2, 1, 3]]  # lowest and highest are where they should be
    assert verdicts(ladder(swapped))["rungs_in_order"] == NOT_SUPPORTED


def test_what_starts_together_or_between_two_checkpoints_far_apart_is_not_called_earlier():
    sparse = CLIMB[:, [0, 3, 8, 10]]  # order alone does not tell how far apart
    curves = {rung: curve(each, STEPS[[0, 3, 8, 10]]) for rung, each in zip(LADDER, sparse, strict=True)}
    made = Ladder("made", "ladder", "privacy", STEPS[[0, 3, 8, 10]], curves=curves)
    assert verdicts(made)["easier_starts_earlier"] != SUPPORTED
    together = 0.5 + np.outer([0.4, 0.3, 0.2, 0.1], STEPS > 100)
    assert verdicts(ladder(together))["rungs_in_order"] == SUPPORTED
    assert verdicts(ladder(together))["easier_starts_earlier"] != SUPPORTED


def test_a_rung_that_does_not_rise_has_no_onset_and_one_rung_alone_is_no_ladder():
    flat = np.vstack([CLIMB[:3], np.full(11, 0.5)])
    table = framework.judge([ladder(flat)], CLAIMS, {}).set_index("claim")
    assert table.loc["easier_starts_earlier", "verdict"] == SUPPORTED
    assert "grammar 16, words 64, turn 512, pocket none" in table.loc["easier_starts_earlier", "note"]
    alone = np.vstack([CLIMB[0], np.full((3, 11), 0.5)])
    assert verdicts(ladder(alone))["easier_starts_earlier"] == NOT_TESTABLE


def test_of_one_checkpoint_the_layers_are_compared_from_chance_on():
    layers = [[0.9, 0.95, 0.95, 0.95, 0.95, 0.95], [0.5, 0.5, 0.8, 0.85, 0.85, 0.85], [0.5, 0.5, 0.5, 0.5, 0.6, 0.7]]
    made = ladder(CLIMB, layers)
    assert ladder_claims.onset(made, "words")[0] == 0  # readable in the first block already
    assert [ladder_claims.onset(made, rung)[0] for rung in ("turn", "pocket")] == [2, 4]
    assert np.isnan(ladder_claims.onset(made, "grammar")[0])
    assert verdicts(made) == {"rungs_in_order": SUPPORTED, "easier_starts_earlier": SUPPORTED}
    assert verdicts(ladder(CLIMB, layers[::-1]))["easier_starts_earlier"] == NOT_SUPPORTED


@pytest.mark.parametrize("seed", range(3))
def test_rungs_that_differ_by_chance_alone_are_rarely_said_to_be_in_order(seed):
    generator, wrong = np.random.default_rng(seed), 0
    for _ in range(40):
        drawn = np.tile(np.where(STEPS < 64, 0.5, 0.7), (4, 1)) + 0.01 * generator.standard_normal((4, 11))
        wrong += SUPPORTED in verdicts(ladder(drawn)).values()
    assert wrong <= 2
