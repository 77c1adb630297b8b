"""What looks like a claim and is not is not called one, what is one is seen, and windows of training are measured in tokens."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import integrate

from benchmarks import simulation
from tracing_utils import results
from tracing_utils.book import prose
from tracing_utils.claims import framework, paper, paper_claims
from tracing_utils.claims.framework import VERDICTS, Evidence
from tracing_utils.claims.paper_claims import CLAIMS, judge
from tracing_utils.core import evaluation
from tracing_utils.core.paths import PROJECT
from tracing_utils.experiments.steering import nulls
from tracing_utils.statements.concepts import DIMENSIONS

SUPPORTED, NOT_SUPPORTED, IRRELEVANT, INCONCLUSIVE, NOT_TESTABLE = VERDICTS
STEPS = np.array([0, 8, 16, 32, 64, 128, 192, 256, 384, 512, 1024, 2048, 4096, 8192], dtype=float)


def verdict(claim: str, evidence: Evidence) -> str:
    return judge([evidence], [claim])["verdict"].iloc[0]


def note(claim: str, evidence: Evidence) -> str:
    return judge([evidence], [claim])["note"].iloc[0]


def answers(accuracies, steps=STEPS, n: int = 1000, seed: int = 0, layers: int = 1, **more) -> Evidence:
    """Return evidence in which the selected layer is right so often; the same statements are hard at every checkpoint."""
    rng = np.random.default_rng(seed)
    hard = rng.random((2, n))
    selected = (hard < np.asarray(accuracies)[:, None, None]).astype(float)
    fold = np.stack([rng.permutation(n) % 5 for _ in range(2)])
    shuffled = (rng.random((len(selected), layers, 2, n)) < 0.5).astype(float)
    return Evidence("a", "b", "privacy", np.asarray(steps, dtype=float), fold=fold, selected=selected, shuffled=shuffled, **more)


def curve(values, steps=STEPS, noise: float = 0.01, measure: str = "nhsic_tx") -> Evidence:
    """Return evidence in which nHSIC(T;X) above the first layer, or another measure, has these values."""
    rng, values = np.random.default_rng(0), np.asarray(values, dtype=float)
    halves = values[:, None, None] + noise * rng.standard_normal((len(values), 2, 20))
    whole = np.concatenate([np.repeat(values[:, None, None], 2, axis=1), halves], axis=2)
    return Evidence("a", "b", "privacy", np.asarray(steps, dtype=float), **{measure: whole})


# Windows.


@pytest.mark.parametrize(("begin", "end"), [(0, 0.1), (0.2, 0.9), (0.5, 1)])
def test_level_and_line_of_a_window_are_the_integrals_over_the_curve_through_the_checkpoints(begin, end):
    share, values = STEPS / STEPS[-1], np.random.default_rng(0).standard_normal(len(STEPS))

    def integral(of):
        return integrate.quad(lambda x: of(x) * np.interp(x, share, values), begin, end, points=share, limit=500)[0]

    level = integral(lambda x: 1) / (end - begin)
    rise = integral(lambda x: x - (begin + end) / 2) * 12 / (end - begin) ** 2
    assert paper_claims._weights(share, begin, end) @ values == pytest.approx(level, abs=1e-7)
    assert paper_claims._weights(share, begin, end, line=True) @ values == pytest.approx(rise, abs=1e-6)


def test_the_rise_of_a_straight_curve_s_line_is_what_it_gains():
    share = STEPS / STEPS[-1]
    assert paper_claims._weights(share, 0.2, 0.7, line=True) @ (3 * share) == pytest.approx(1.5)


def test_point_3_more_checkpoints_on_the_same_curve_change_nothing():
    few, many = np.array([0, 0.5, 1]), np.array([0, 0.01, 0.02, 0.03, 0.5, 1])
    heights = (few * 2, many * 2)
    for begin, end in ((0, 1), (0, 0.3), (0.5, 1)):
        levels = [paper_claims._weights(x, begin, end) @ y for x, y in zip((few, many), heights, strict=True)]
        assert levels[0] == pytest.approx(levels[1])
        assert levels[0] != pytest.approx(np.mean(heights[1]))  # as the plain mean would


def denser(evidence: Evidence, shares: Sequence[float]) -> Evidence:
    """Return the same curves, straight between checkpoints, as a suite sees them that also kept those at further shares."""
    at = np.union1d(evidence.share, shares)
    weights = np.stack([np.interp(at, evidence.share, each) for each in np.eye(len(evidence.share))], axis=1)
    kept = ("correct", "selected", "shuffled", "nhsic_tx", "nhsic_ty", "floor_tx", "floor_ty")
    measured = {name: np.tensordot(weights, values, 1) for name in kept if (values := getattr(evidence, name)) is not None}
    return replace(evidence, steps=at * evidence.steps[-1], **measured)


WHEN = {  # claims on windows of training, and a shape in which each can be judged
    "early_separability": "straight rise", "most_is_early": "straight rise", "rise_then_plateau": "straight rise",
    "ty_keeps_rising": "short rise, long rise", "near_zero_at_start": "straight rise",
}  # fmt: skip


@pytest.mark.parametrize(("claim", "shape"), WHEN.items())
def test_point_3_a_suite_that_kept_more_checkpoints_of_the_same_curves_gets_the_same_verdict(claim, shape):
    """On 49ec766 windows were counted in checkpoints, most of which are early."""
    few = simulation.simulate(claim, shape, "strong", np.random.default_rng(0))
    many = denser(few, [0.0005, 0.002, 0.008, 0.03, 0.6, 0.9])
    assert many.share.size == few.share.size + 6
    (told,), (again,) = (judge([each], [claim]).to_dict("records") for each in (few, many))
    assert told["verdict"] == again["verdict"] != NOT_TESTABLE
    assert again["value"] == pytest.approx(told["value"], rel=1e-6)


def test_point_3_what_has_risen_after_six_percent_of_training_does_not_keep_rising():
    """Most checkpoints lie before: their three thirds rise."""
    values = np.interp(STEPS, [0, 512], [1, 4])
    assert all(np.diff([part.mean() for part in np.array_split(values, 3)]) > 0)
    told = curve(values, measure="nhsic_ty")
    assert verdict("ty_keeps_rising", replace(told, floor_ty=told.nhsic_ty / 10)) in (NOT_SUPPORTED, IRRELEVANT)
    rising = curve(np.interp(STEPS, [0, 8192], [1, 4]), measure="nhsic_ty")
    assert verdict("ty_keeps_rising", replace(rising, floor_ty=rising.nhsic_ty / 10)) == SUPPORTED


# Point 2: two phases.

LONG_FALL = np.interp(STEPS / STEPS[-1], [0, 0.06, 1], [1, 4, 2])


def test_point_2_a_short_rise_and_a_long_fall_is_seen_and_its_windows_told():
    (row,) = judge([curve(LONG_FALL)], ["tx_rises_then_falls"]).to_dict("records")
    assert row["verdict"] == SUPPORTED
    assert row["windows"] == "0-512;512-8192"


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_point_2_what_rises_through_98_percent_of_training_does_not_rise_and_then_fall(dimension):
    table = results.read("pocket", "mutual_information").query("method == 'released' and metric == 'nhsic_tx' and layer > 0")
    values = table[(table["dimension"] == dimension) & (table["concept_set"] == "pocket")].groupby("step")["value"].mean()
    steps, values = values.index.to_numpy(float), values.to_numpy()
    peak = values[1:-1].max()
    assert peak > values[0] and peak > values[-1]  # ends alone look like the claim
    if values[-1] > values[steps == 64][0]:
        assert verdict("tx_rises_then_falls", curve(values, steps)) in (NOT_SUPPORTED, IRRELEVANT)  # decided, and against it


@pytest.mark.parametrize(
    "points",
    {
        "spike": ([0, 0.002, 0.006, 1], [1, 4, 1, 1]),
        "spike, then up": ([0, 0.002, 0.006, 1], [2, 4, 1, 3]),
        "dip": ([0, 0.1, 0.4, 1], [1, 4, 2, 4]),
        "fall, rise, fall": ([0, 0.03, 0.25, 1], [3, 1, 4, 1]),
        "long rise, short fall": ([0, 0.75, 1], [1, 4, 2]),
        "plateau": ([0, 0.06, 1], [1, 4, 4]),
    }.values(),
)
def test_point_2_shapes_that_only_look_so_at_some_checkpoints_are_not_called_so(points):
    steps = 1000 * np.array([0, 0.002, 0.006, 0.03, 0.06, 0.1, 0.25, 0.4, 0.5, 0.75, 1])
    assert verdict("tx_rises_then_falls", curve(np.interp(steps / 1000, *points), steps)) in (NOT_SUPPORTED, IRRELEVANT)


def test_point_2_the_titles_say_that_it_is_nhsic():
    for claim in CLAIMS.values():
        assert ("I(T;" in claim.title) <= ("nHSIC(T;" in claim.title)


# Point 3: early.


def test_point_3_a_rise_that_is_done_at_the_window_s_end_is_early_however_many_checkpoints_lie_before():
    heights = np.clip((STEPS - 192) / 320, 0, 1)
    early = heights[(STEPS > 0) & (STEPS <= 819)]
    assert early.mean() < 0.3 and early[-1] == 1  # the plain mean of checkpoints would call it late
    assert verdict("most_is_early", answers(0.5 + 0.3 * heights)) == SUPPORTED
    assert verdict("early_separability", answers(0.5 + 0.3 * heights)) == SUPPORTED
    assert verdict("most_is_early", answers(0.5 + 0.3 * STEPS / STEPS[-1])) == NOT_SUPPORTED


def test_point_3_where_the_checkpoints_cannot_tell_nothing_is_decided():
    jump = np.where(STEPS >= 1024, 0.8, 0.5)  # the rise falls between the checkpoints around the window's end
    assert verdict("most_is_early", answers(jump)) == INCONCLUSIVE


# Point 4: floors.


def test_point_4_a_probe_must_beat_every_floor_and_the_note_names_the_one_that_it_does_not():
    hard = np.random.default_rng(1).random((1, 1000))
    floors = {name: (hard < share).astype(float) for name, share in {"words": 0.55, "small tree": 0.9, "majority": 0.5}.items()}
    evidence = answers([0.73], [8192], floors=floors)
    assert verdict("above_the_floors", evidence) == NOT_SUPPORTED
    assert "minus small tree" in note("above_the_floors", evidence)
    weak = {name: floor for name, floor in floors.items() if name != "small tree"}
    assert verdict("above_the_floors", answers([0.73], [8192], floors=weak)) == SUPPORTED
    assert "high" not in CLAIMS["above_the_floors"].title.lower()


# Points 5 and 6: steering.


def test_point_5_a_random_direction_is_no_vector_that_helps_though_pairs_alone_would_say_so():
    rng, alone, decided = np.random.default_rng(0), 0, 0
    for _ in range(60):
        evidence = simulation.simulate("midtraining_vector_helps", "a random direction", "none", rng)
        gain = paper_claims._paired(
            "gain", evidence, paper_claims._dosed(evidence, evidence.gain[paper_claims._middle(evidence)])
        )
        alone += min(gain.above(), gain.below()) < 0.025
        decided += verdict("midtraining_vector_helps", evidence) in (SUPPORTED, NOT_SUPPORTED)
    assert alone > 0.13 * 60
    assert decided <= 0.05 * 60


def test_point_5_random_directions_are_tried_where_the_verdict_looks():
    """Both numbers stand in one place, whose change counts as a change of the tests."""
    assert "experiments/steering/__init__.py" in framework._TESTS
    assert (paper_claims.DOSE, paper_claims.PAIRS, paper_claims.TEXTS) == (nulls.DOSE, nulls.PAIRS, nulls.TEXTS)
    assert nulls.METHODS == {"random direction": 99, "shuffled labels": 20}


def test_point_5_a_clear_loss_is_said_and_so_are_the_monte_carlo_p_values():
    rng = np.random.default_rng(0)
    harmed = simulation.simulate("midtraining_vector_helps", "harms", "none", rng)
    assert verdict("midtraining_vector_helps", harmed) == NOT_SUPPORTED
    helped = simulation.simulate("midtraining_vector_helps", "helps", "none", rng)
    assert "Monte-Carlo p against random directions 0.01, shuffled labels 0.048" in note("midtraining_vector_helps", helped)


def test_point_6_a_vector_that_does_nothing_costs_nothing_and_is_not_called_cheap():
    rng = np.random.default_rng(0)
    cases = [(shape, verdict("little_cost", simulation.simulate("little_cost", shape, "none", rng)))
             for shape in ("a random direction", "helps, dear", "helps")]  # fmt: skip
    assert cases[:2] == [("a random direction", NOT_TESTABLE), ("helps, dear", NOT_SUPPORTED)]
    assert cases[2][1] in (SUPPORTED, INCONCLUSIVE)
    assert np.log(1.1) == paper_claims.COST


# Point 8: the refit.


def test_point_8_two_equal_probes_differ_too_often_by_statements_alone_and_not_once_their_refit_counts():
    rng, trials, groups = np.random.default_rng(0), 150, simulation._SET.groups
    wrong = dict.fromkeys(("statements alone", "with the refit", "verdicts"), 0)  # shares of 5 % are promised
    for _ in range(trials):
        with simulation.unchecked():
            a, b = simulation._fitted(simulation._features(rng, np.array([0.3, 0.3]), 0.0), simulation._SET.labels[:, None])[:, 0]
        wrong["statements alone"] += evaluation.paired(a.mean(0), b.mean(0), groups).p < 0.05
        wrong["with the refit"] += evaluation.paired_refit(a, b, simulation._FOLD).p < 0.05
        other = Evidence("a", "b", "privacy", np.ones(1), fold=simulation._FOLD, selected=a[None], floors={"other": b})
        wrong["verdicts"] += verdict("above_the_floors", other) in (SUPPORTED, NOT_SUPPORTED)
    assert wrong["with the refit"] <= 0.05 * trials < wrong["statements alone"]
    assert wrong["verdicts"] <= 0.05 * trials


# Point 9: nothing there.


def test_point_9_where_no_probe_beats_chance_there_is_nothing_to_place():
    evidence = answers(np.full(len(STEPS), 0.5), layers=3, correct=np.zeros((len(STEPS), 3, 2, 1000)))
    placed = [claim.name for claim in CLAIMS.values() if claim.reads == "probe"]
    assert len(placed) == 3
    for name in placed:
        assert verdict(name, evidence) == NOT_TESTABLE
        assert note(name, evidence).startswith("nothing to read")
    assert verdict("most_is_early", answers(0.5 + 0.3 * (STEPS > 0))) == SUPPORTED


def test_point_9_a_precise_null_is_no_relevant_effect_and_a_vague_one_inconclusive():
    rng = np.random.default_rng(0)
    level = 0.7 + 0.002 * rng.standard_normal(len(STEPS))
    assert verdict("most_is_early", answers(level, n=4000)) == IRRELEVANT
    vague = answers(level, n=40)
    vague.selected[:] = rng.random(vague.selected.shape) < 0.75
    assert verdict("early_separability", vague) == INCONCLUSIVE


# Point 10: probe and steering.


def test_point_10_two_series_that_only_share_time_go_together_raw_and_not_beyond_time():
    rng, found = np.random.default_rng(1), []
    for _ in range(40):
        evidence = simulation.simulate("probe_predicts_steering", "only time in common", "none", rng)
        table = judge([evidence], ["probe_tracks_steering", "probe_predicts_steering"]).set_index("claim")
        found.append(table["value"])
        assert table["verdict"].iloc[1] in (INCONCLUSIVE, NOT_TESTABLE, SUPPORTED)
    raw, beyond = pd.DataFrame(found).mean()
    assert raw > 0.4 > abs(beyond) + 0.2


def test_point_10_accuracy_that_varies_by_noise_alone_predicts_nothing_and_is_said_to():
    evidence = simulation.simulate("probe_predicts_steering", "related", "none", np.random.default_rng(0))
    shape = evidence.selected.shape
    evidence.selected[:] = np.random.default_rng(1).random(shape) < 0.7
    for claim in ("probe_tracks_steering", "probe_predicts_steering"):
        assert verdict(claim, evidence) == NOT_TESTABLE
        assert "accuracy varies over the checkpoints by little more than its noise" in note(claim, evidence)


def test_point_10_drifting_checkpoints_count_for_few_and_independent_ones_for_themselves():
    effective = {}
    for dependence in ("none", "strong"):
        rng, counted = np.random.default_rng(2), []
        for _ in range(30):
            evidence = simulation.simulate("probe_tracks_steering", "related", dependence, rng)
            try:
                (one,) = CLAIMS["probe_tracks_steering"].test(evidence).alternatives[0]
            except framework.NotTestable:
                continue
            counted.append(1 / one.error**2 + 3)
        effective[dependence] = np.median(counted)
    assert effective["none"] > 12 > 8 > effective["strong"]


# Point 12: smaller things.


def test_point_12_what_a_vector_is_for_its_side_effects_and_abilities_are_told_apart():
    table = paper.significance()
    kinds = table.groupby("kind").size()
    assert kinds["ability"] == 18 and kinds["target"] == 6 and kinds.sum() == 45
    assert set(table.loc[table["kind"] == "target", "measure"]) == {"Truth", "StereoSet"}
    assert not (table["kind"] == "target")[(table["table"] == 1) & (table["measure"] == "StereoSet")].any()


def test_point_12_a_p_value_is_never_printed_below_a_millionth():
    assert evaluation.printed_p(2.5e-110) == "< 1e-6"
    assert evaluation.printed_p(0.0123) == "0.012"
    assert evaluation.printed_p(float("nan")) == ""
    page = (PROJECT / "book" / "what_stands.md").read_text()
    assert "printed_p" in page and ':.3g}" for c in ("value", "low", "high", "p"' not in page


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("what_stands.md", "However small, a p-value is about these, not about training"),
        ("what_stands.md", "were rewritten until a model of n-grams failed on them"),
        ("what_stands.md", "A fairness score that has no neutral point rewards"),
        ("deviations.md", "deviations by n - 1 | over the training rows, deviations by n |"),
        ("deviations.md", "float32 gives negative values at some kernel widths"),
    ],
)
def test_point_12_pages_say_what_a_number_does_not(page, said):
    assert said in " ".join((PROJECT / "book" / page).read_text().split())


def test_point_12_released_files_are_named_by_what_they_ask():
    assert prose.dimensions(DIMENSIONS, "tracingllm").endswith("fairness (coherence) and robustness (capitals)")
    assert "prose.ASKS" in (PROJECT / "book" / "what_stands.md").read_text()


# A small part of the published simulations, through fitted probes.


FOOLING = {
    "early_separability": "spike",
    "rise_then_plateau": "early, dip",
    "most_is_early": "straight rise",
    "tx_rises_then_falls": "spike, long rise",
}


@pytest.mark.parametrize(("claim", "shape"), FOOLING.items())
def test_a_shape_that_fools_is_not_called_the_claim_through_fitted_probes(claim, shape):
    found = simulation.verdicts([claim], shape, "strong", 6, seed=1)[claim]
    assert SUPPORTED not in set(found)


@pytest.mark.parametrize(("claim", "shape"), [("most_is_early", "all early"), ("tx_rises_then_falls", "short rise, long fall")])
def test_a_planted_claim_is_seen_through_fitted_probes(claim, shape):
    found = simulation.verdicts([claim], shape, "strong", 6, seed=1)[claim]
    assert (found == SUPPORTED).sum() >= 3
    assert NOT_SUPPORTED not in set(found)
