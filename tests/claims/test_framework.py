"""A claim's test is right as often as it says, sees what it can, and says why where it cannot look."""

import math
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from scipy import stats

from tracing_utils import results
from tracing_utils.checkpoints import suites
from tracing_utils.claims import framework, simulation
from tracing_utils.claims.framework import CLAIMS, VERDICTS, Evidence, judge
from tracing_utils.core import evaluation
from tracing_utils.core.paths import PROJECT
from tracing_utils.experiments.steering import likelihoods
from tracing_utils.run import jobs, studies
from tracing_utils.statements import concepts

SIMULATIONS = 200
TOO_MANY = stats.binom.ppf(0.9999, SIMULATIONS, 0.05) / SIMULATIONS  # a share that 5 % would pass once in 10,000 times
SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE, NOT_TESTABLE = VERDICTS


def share(verdicts: pd.Series, word: str) -> float:
    return float((verdicts == word).mean())


def test_there_are_the_twelve_claims_and_each_says_what_it_rests_on_and_can_be_simulated():
    assert len(CLAIMS) >= 12
    assert list(CLAIMS) == list(simulation.EFFECTS)
    for claim in CLAIMS.values():
        assert claim.title and claim.paper and claim.statistic and claim.threshold
        assert set(claim.needs) <= set(Evidence.__dataclass_fields__)


@pytest.mark.parametrize("name", CLAIMS)
def test_at_its_threshold_a_claim_is_decided_in_at_most_5_of_100_studies(name):
    verdicts = simulation.verdicts(name, 0.0, SIMULATIONS)
    assert share(verdicts, NOT_TESTABLE) == 0
    assert share(verdicts, SUPPORTED) + share(verdicts, NOT_SUPPORTED) <= TOO_MANY


@pytest.mark.parametrize("name", CLAIMS)
def test_a_planted_effect_is_seen_and_its_opposite_refused(name):
    false, *_, true = simulation.EFFECTS[name][1]
    planted, opposite = (simulation.verdicts(name, effect, SIMULATIONS) for effect in (true, false))
    assert share(planted, SUPPORTED) > 0.7
    assert share(opposite, NOT_SUPPORTED) > 0.7
    assert share(planted, NOT_SUPPORTED) == share(opposite, SUPPORTED) == 0


def test_the_bound_would_be_passed_if_groups_were_torn_apart(monkeypatch):
    whole = evaluation.paired
    monkeypatch.setattr(evaluation, "paired", lambda a, b, groups: whole(a, b, tuple(str(i) for i in range(len(a)))))
    verdicts = simulation.verdicts("midtraining_vector_helps", 0.0, SIMULATIONS)
    assert share(verdicts, SUPPORTED) + share(verdicts, NOT_SUPPORTED) > TOO_MANY


def test_the_bound_would_be_passed_if_a_peak_did_not_pay_for_being_looked_for(monkeypatch):
    assert share(simulation.verdicts("tx_rises_then_falls", 0.0, SIMULATIONS), SUPPORTED) <= TOO_MANY / 2
    paid = framework._p_values
    monkeypatch.setattr(framework, "_p_values", lambda places: (paid(places)[0] / len(places), paid(places)[1]))
    assert share(simulation.verdicts("tx_rises_then_falls", 0.0, SIMULATIONS), SUPPORTED) > TOO_MANY / 2


def test_among_many_claims_without_effect_a_study_errs_in_at_most_5_of_100_and_uncorrected_in_most():
    rng, trials, dimensions = np.random.default_rng(1), 60, 20
    wrong = {"p": 0, "p_corrected": 0}
    for _ in range(trials):
        every = [simulation.simulate("beats_own_vector", 0.0, rng, 20) for _ in range(dimensions)]
        table = judge(every, ["beats_own_vector"])
        for column in wrong:
            wrong[column] += int((table[column] < framework.LEVEL).any())
    assert wrong["p_corrected"] <= stats.binom.ppf(0.9999, trials, 0.05)
    assert wrong["p"] / trials > 0.4


def part(value: float, p: float) -> framework._Part:
    return framework._Part("a part", value, value - 1, value + 1, p, 10)


def test_all_parts_must_hold_and_one_that_fails_is_enough():
    assert framework._p_values([[part(1.0, 0.002), part(1.0, 0.02)]]) == (0.01, 1.0)
    assert framework._p_values([[part(1.0, 0.002), part(-1.0, 0.02)]]) == (0.99, pytest.approx(0.02))
    assert framework._p_values([[part(-1.0, 0.001), part(-1.0, 0.02)]]) == (0.9995, pytest.approx(0.001))


def test_one_alternative_is_enough_and_all_must_fail():
    rising, falling = [part(1.0, 0.002)], [part(-1.0, 0.004)]
    assert framework._p_values([rising, falling]) == (0.002, pytest.approx(0.999))
    assert framework._p_values([falling, [part(-1.0, 0.02)]])[1] == pytest.approx(0.01)


@settings(max_examples=40, deadline=None)
@given(p=st.lists(st.floats(1e-6, 1), min_size=1, max_size=6), sign=st.lists(st.booleans(), min_size=6, max_size=6))
def test_a_claim_is_never_both_held_and_refused(p, sign):
    parts = [part(1.0 if up else -1.0, each) for each, up in zip(p, sign, strict=False)]
    holds, fails = framework._p_values([parts])
    assert not (holds < 0.025 and fails < 0.025)


def test_the_spread_over_half_samples_is_the_standard_error_of_the_whole_sample():
    rng = np.random.default_rng(0)
    reach = []
    for _ in range(100):
        found = framework._over_halves("mean", simulation._replicates(rng, np.zeros(1), 80, 1.0)[0])
        reach.append((found.high - found.low) / 2 / stats.t.ppf(0.975, simulation.HALVES - 1))
    assert np.mean(reach) == pytest.approx(np.sqrt(2 / 80), rel=0.05)  # influences of variance 2, 80 of them


def test_the_correlation_given_time_is_that_of_the_three_way_formula_and_has_fisher_s_interval():
    rng = np.random.default_rng(3)
    evidence = simulation.simulate("probe_predicts_steering", 0.7, rng)
    (found,) = CLAIMS["probe_predicts_steering"].parts(evidence)[0]
    time = np.log1p(simulation.STEPS)
    a, g = evidence.selected.mean(1), evidence.gain[:, :, 1].mean((1, 2))

    def given(r_xy, r_xz, r_yz):  # first-order partial correlation, applied twice
        return (r_xy - r_xz * r_yz) / math.sqrt((1 - r_xz**2) * (1 - r_yz**2))

    r = np.corrcoef(np.stack([a, g, time, time**2]))
    by_time = {(i, j): given(r[i, j], r[i, 2], r[j, 2]) for i, j in ((0, 1), (0, 3), (1, 3))}
    assert found.value == pytest.approx(given(by_time[0, 1], by_time[0, 3], by_time[1, 3]), abs=1e-9)
    assert np.arctanh(found.high) - np.arctanh(found.value) == pytest.approx(1.959964 / math.sqrt(len(time) - 5), abs=1e-6)
    assert abs(np.corrcoef(a, g)[0, 1] - found.value) > 0.01  # time does matter here


def test_a_trend_that_both_share_predicts_nothing():
    verdicts = simulation.verdicts("probe_predicts_steering", 0.0, SIMULATIONS)
    assert share(verdicts, SUPPORTED) <= TOO_MANY
    evidence = simulation.simulate("probe_predicts_steering", 0.0, np.random.default_rng(0))
    assert np.corrcoef(evidence.selected.mean(1), evidence.gain.mean((1, 2, 3)))[0, 1] > 0.5


def reasons(evidence: Evidence) -> dict[str, str]:
    table = judge([evidence])
    return table[table["verdict"] == NOT_TESTABLE].set_index("claim")["note"].to_dict()


def test_what_was_not_measured_is_not_testable_and_the_note_says_what_is_missing():
    nothing = reasons(Evidence("pocket", "pocket", "privacy", simulation.STEPS))
    assert list(nothing) == list(CLAIMS)
    assert nothing["beats_own_vector"] == "no tuned model was steered"
    assert nothing["high_accuracy"] == "no probe's answers by example"


def test_a_series_without_an_untrained_checkpoint_cannot_answer_what_needs_one():
    full = simulation.simulate("early_separability", 0.1, np.random.default_rng(0))
    assert "early_separability" not in reasons(full)
    kept = {name: getattr(full, name)[1:] for name in ("steps", "selected", "shuffled")}
    late = Evidence("pocket", "pocket", "privacy", groups=full.groups, **kept)
    assert reasons(late)["early_separability"] == "no untrained checkpoint (step 0)"


def test_a_single_finished_model_answers_what_needs_no_training_time():
    answers = simulation.simulate("high_accuracy", 0.2, np.random.default_rng(0))
    layers = simulation.simulate("middle_layers_best", 0.1, np.random.default_rng(0))
    more = {"selected": answers.selected[-1:], "floor": answers.floor, "correct": layers.correct[-1:]}
    alone = Evidence("one", "pocket", "privacy", np.array([-1.0]), groups=answers.groups, **more)
    table = judge([alone]).set_index("claim")["verdict"]
    assert table["high_accuracy"] == table["middle_layers_best"] == SUPPORTED
    assert (table.drop(["high_accuracy", "middle_layers_best"]) == NOT_TESTABLE).all()


def test_the_summary_counts_verdicts_in_words():
    rng = np.random.default_rng(0)
    every = [simulation.simulate("high_accuracy", effect, rng, concept_set="pocket") for effect in (0.2, 0.2, -0.2)]
    every.append(simulation.simulate("high_accuracy", 0.2, rng, concept_set="tracingllm"))
    summary = framework.summary(judge(every, ["high_accuracy", "little_cost"]))
    assert list(summary.columns) == ["pocket", "tracingllm"]
    assert list(summary.index) == [CLAIMS["high_accuracy"].title, CLAIMS["little_cost"].title]
    assert summary.loc[CLAIMS["high_accuracy"].title].to_list() == ["2 supported, 1 not supported", "1 supported"]
    assert summary.loc[CLAIMS["little_cost"].title, "pocket"] == "3 not testable here"


# Reading what a run left.

REVISIONS = ["step0", "step64", "step512", "step4096", "step8192"]
LAYERS, STEERED = 6, 2


@pytest.fixture
def study(tmp_path) -> studies.Study:
    path = tmp_path / "mine.yml"
    listed = ", ".join(REVISIONS)
    path.write_text(f"suite: pocket\nconcepts: pocket\nrevisions: [{listed}]\ndimensions: [privacy]\nmultipliers: [-2, 2]\n")
    return studies.read(path)


@pytest.fixture
def run(study, tmp_path):
    """A run folder with evidence in which every checkpoint's number tells where it belongs."""
    chosen = study.concept_set("pocket", "privacy")
    n = len(chosen)
    paired = likelihoods.held_out_pairs(chosen, concepts.folds(chosen, seed=0)[0].test)
    groups = np.unique([chosen.groups[one] for one, _ in paired], return_inverse=True)[1]
    rng = np.random.default_rng(0)

    def arrays(i: int) -> dict[str, dict[str, np.ndarray]]:
        def noise(*shape):
            return (i / 10 + 0.1 * rng.standard_normal(shape)).astype(np.float32)

        probing = {"correct": noise(LAYERS, n), "selected": noise(n), "floor": np.full(n, 0.5, np.float32)}
        probing["shuffled"] = noise(LAYERS, n)
        names = ("nhsic_tx", "nhsic_ty", "floor_tx", "floor_ty")
        information = {name: noise(LAYERS, 21) for name in names}
        steering = {f"gain/{method}": noise(STEERED, 2, len(paired)) for method in ("vector", "random direction")}
        steering |= {"nats/vector": noise(STEERED, 2, 60), "nats/unsteered": np.ones(60, np.float32), "groups": groups}
        return {"probing": probing, "mutual_information": information, "steering": steering}

    folder = tmp_path / "runs"
    for i, revision in enumerate([*REVISIONS, "chat"]):
        for experiment, entries in arrays(i).items():
            path = folder / "pocket" / experiment / f"{revision}.safetensors"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({f"privacy/{key}": value for key, value in entries.items()} | {"toxicity/selected": np.zeros(3)}, path)
    return folder


def rewrite(path, change):
    entries = load_file(path)
    change(entries)
    save_file(entries, path)


def test_the_evidence_is_read_as_the_notebooks_kept_it(study, run):
    evidence = Evidence.read(study, run, "pocket", "privacy")
    assert evidence.steps.tolist() == [0, 64, 512, 4096, 8192]
    assert evidence.selected.mean(1) == pytest.approx(np.arange(5) / 10, abs=0.02)  # each checkpoint in its place
    assert evidence.gain_own.mean() == pytest.approx(0.5, abs=0.02)
    assert evidence.cost.shape == (5, STEERED, 2, 60)
    assert evidence.cost.mean() == pytest.approx(-0.8, abs=0.02)
    assert len(evidence.groups) == evidence.correct.shape[2] == len(evidence.floor)
    assert len(evidence.pair_groups) == evidence.gain.shape[3]
    assert 1 < len(set(evidence.pair_groups)) < len(evidence.pair_groups)
    assert reasons(evidence) == {"probe_predicts_steering": "fewer than eight checkpoints"}


def test_a_loss_kept_only_as_a_mean_has_no_spread_so_its_claim_is_not_testable(study, run):
    for path in (run / "pocket" / "steering").glob("*.safetensors"):
        rewrite(path, lambda entries: entries.update({"privacy/nats/vector": entries["privacy/nats/vector"].mean(2)}))
    assert reasons(Evidence.read(study, run, "pocket", "privacy"))["little_cost"] == "no loss by text under steering"


def test_half_a_run_is_refused_and_so_are_other_statements(study, run):
    path = run / "pocket" / "probing" / "step512.safetensors"
    path.rename(path.with_suffix(".away"))
    with pytest.raises(ValueError, match=r"missing for step512"):
        Evidence.read(study, run, "pocket", "privacy")
    path.with_suffix(".away").rename(path)
    for file in path.parent.glob("*.safetensors"):
        rewrite(file, lambda entries: entries.update({k: v[..., :-1].copy() for k, v in entries.items() if v.ndim}))
    with pytest.raises(ValueError, match=r"Run the study again"):
        Evidence.read(study, run, "pocket", "privacy")


def test_the_job_writes_a_verdict_for_every_claim_set_and_dimension(study, run, tmp_path):
    out = tmp_path / "results" / "claims.csv"
    assert jobs.main(["claims", str(tmp_path / "mine.yml"), str(run), str(out)]) == 0
    table = pd.read_csv(out)
    assert tuple(table.columns) == framework.COLUMNS
    assert table["claim"].to_list() == list(CLAIMS)
    assert set(table["verdict"]) <= set(VERDICTS)
    tested = table[table["verdict"] != NOT_TESTABLE]
    assert ((tested["low"] <= tested["value"]) & (tested["value"] <= tested["high"])).all()
    assert (tested["p_corrected"] >= tested["p"]).all()


# What is published.


def test_the_published_power_is_this_code_s_and_within_its_bound():
    table = pd.read_csv(PROJECT / "results" / "claims_power.csv")
    assert list(dict.fromkeys(table["claim"])) == list(CLAIMS)
    n = int(table["simulations"].iloc[0])
    assert (table["false"] <= stats.binom.ppf(0.9999, n, 0.05) / n).all()
    row = table.query("claim == 'beats_own_vector' and effect == 0.5 and groups == 60").iloc[0]
    again = simulation.verdicts("beats_own_vector", 0.5, n)
    assert share(again, SUPPORTED) == pytest.approx(row["supported"], abs=0.01)


def page(folder, monkeypatch) -> tuple[list[str], dict[str, object]]:
    """Run the cells of "What stands" on the results in `folder`; return the tables it shows and its computed numbers."""
    tables, glued = [], {}
    monkeypatch.setattr(suites, "PROJECT", folder)
    monkeypatch.setattr(results, "PROJECT", folder)
    monkeypatch.setattr("IPython.display.display", lambda shown: tables.append(shown.to_html()))
    monkeypatch.setattr("myst_nb.glue", lambda name, value, display: glued.update({name: value}))
    monkeypatch.setattr("tracing_utils.book.vega.enable", lambda: None)
    names: dict[str, object] = {}
    for cell in re.findall(r"```\{code-cell\} python\n(.*?)```", (PROJECT / "book" / "what_stands.md").read_text(), flags=re.S):
        exec(re.sub(r"\A(---\n.*?\n---\n|:tags:.*?\n)", "", cell, flags=re.S), names)
    return tables, glued


@pytest.fixture
def published(tmp_path):
    (tmp_path / "results").mkdir()
    shutil.copy(PROJECT / "results" / "claims_power.csv", tmp_path / "results")
    return tmp_path


def test_without_a_judged_study_the_page_says_none(published, monkeypatch):
    (published / "results" / "half").mkdir()  # a study whose verdicts are not there yet
    tables, glued = page(published, monkeypatch)
    assert not tables
    assert glued["studies"] == "none"
    assert glued["tests"] == 0


def test_the_page_shows_every_verdict_of_every_judged_study_and_counts_them(published, monkeypatch):
    folder = published / "results" / "tiny"
    folder.mkdir()
    rng = np.random.default_rng(0)
    table = judge(simulation.simulate("high_accuracy", effect, rng, concept_set="pocket") for effect in (0.2,))
    table.to_csv(folder / "claims.csv", index=False)
    common = {"suite": "tiny", "revision": "x", "tokens": 0, "dimension": "reliability", "concept_set": "pocket", "value": 0.7}
    rows = [common | {"low": 0.6, "high": 0.8, "n": 9, "seed": "0", "step": step} for step in (0, 8)]
    for experiment, entry in {
        "probing": {"layer": None, "method": "selected layer", "metric": "accuracy"},
        "mutual_information": {"layer": 0, "method": "released", "metric": "nhsic_tx"},
    }.items():
        pd.DataFrame([row | entry for row in rows]).to_csv(folder / f"{experiment}.csv", index=False)
    (shown,), glued = page(published, monkeypatch)
    for word in VERDICTS:
        n = int((table["verdict"] == word).sum())
        assert glued["n_" + word.replace(" ", "_")] == n == shown.count(f">{word}<")
    assert glued["studies"] == "tiny"
    assert glued["n_supported"] >= 1
