"""A verdict follows from its parts, its corrections and its registration, and says why where it cannot look."""

import ast
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from scipy import stats

from benchmarks import pages, simulation
from tracing_utils import results
from tracing_utils.book import prose
from tracing_utils.checkpoints import ledger, suites
from tracing_utils.claims import framework
from tracing_utils.claims.framework import VERDICTS, Evidence, Part, Series, decide
from tracing_utils.claims.paper_claims import CLAIMS, judge
from tracing_utils.core.paths import PROJECT
from tracing_utils.experiments.steering import likelihoods
from tracing_utils.run import jobs, studies
from tracing_utils.statements import concepts

SUPPORTED, NOT_SUPPORTED, IRRELEVANT, INCONCLUSIVE, NOT_TESTABLE = VERDICTS


def part(value: float, error: float = 1.0, **more) -> Part:
    return Part("a part", value, error, np.inf, 10, 5.0, **more)


def tail(value: float) -> float:
    return float(stats.norm.sf(value))


def test_all_parts_must_hold_and_one_that_fails_is_enough():
    assert framework._p_values([[part(3.0), part(2.0)]])[:2] == pytest.approx((tail(2), 1.0))
    assert framework._p_values([[part(3.0), part(-2.0)]])[:2] == pytest.approx((1 - tail(2), 2 * tail(2)))


def test_one_alternative_is_enough_each_is_paid_for_and_all_must_fail():
    rising, falling = [part(3.0)], [part(-2.0)]
    assert framework._p_values([rising, falling])[:2] == pytest.approx((2 * tail(3), 1 - tail(3)))
    assert framework._p_values([falling, [part(-3.0)]])[1] == pytest.approx(tail(2))


def test_too_small_to_matter_is_two_one_sided_tests():
    assert framework._p_values([[part(1.0)]])[2] == pytest.approx(tail(4))  # 4 below what is relevant, 6 above its opposite
    assert framework._p_values([[part(-3.0)]])[2] == pytest.approx(tail(2))
    assert framework._p_values([[part(1.0), part(9.0)]])[2] == pytest.approx(2 * tail(4))  # one part is enough, and is paid for
    assert framework._p_values([[part(1.0), part(-9.0)]])[2] > 0.99  # but none may lie far below


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-6, 6), min_size=1, max_size=6))
def test_a_claim_is_never_both_held_and_refused(values):
    holds, fails, _ = framework._p_values([[part(value) for value in values]])
    assert not (holds < 0.025 and fails < 0.025)


def test_what_is_said_of_a_window_s_end_between_two_checkpoints_must_be_true_of_both():
    assert part(3.0, after=part(2.0)).above() == pytest.approx(tail(2))
    assert part(-3.0, after=part(-2.0)).below() == pytest.approx(tail(2))
    for split in (part(3.0, after=part(-3.0)), part(-3.0, after=part(3.0))):
        assert split.above() == split.below() == pytest.approx(1 - tail(3))


def test_random_draws_are_counted_and_only_beyond_all_of_them_does_a_tail_stand_in():
    assert part(9.0, ranks=(0.2, 0.9), draws=99).above() == 0.2
    assert part(9.0, ranks=(0.01, 1.0), draws=99).above() == pytest.approx(tail(9))
    assert part(0.5, ranks=(0.01, 1.0), draws=99).above() == 0.01


def rows(p: list[float], within: list[float]) -> pd.DataFrame:
    table = pd.DataFrame({"p": p, "p_within": within, "side": SUPPORTED})
    return table.reindex(columns=framework.COLUMNS)


def test_point_9_what_is_shown_to_be_too_small_is_no_relevant_effect_and_not_inconclusive():
    found = decide(rows([1e-9, 0.3, 0.3, np.nan], [1e-9, 1e-9, 0.3, np.nan]))
    assert found["verdict"].to_list() == [IRRELEVANT, IRRELEVANT, INCONCLUSIVE, NOT_TESTABLE]


def test_point_8_all_that_a_page_pools_is_corrected_together():
    alone = decide(rows([0.02], [0.9]))
    pooled = decide(rows([0.02] + [0.9] * 99, [0.9] * 100))
    assert alone["verdict"].iloc[0] == SUPPORTED
    assert pooled["verdict"].iloc[0] == INCONCLUSIVE
    assert pooled["p_corrected"].iloc[0] == pytest.approx(1)
    again = decide(decide(rows([0.02, 0.9], [0.9, 0.9])))
    assert again["p_corrected"].to_list() == decide(rows([0.02, 0.9], [0.9, 0.9]))["p_corrected"].to_list()


def test_point_8_what_pages_show_is_decided_over_all_studies_together_and_not_study_by_study():
    shown = prose.verdicts()
    assert shown["study"].nunique() > 1
    again = decide(shown)
    assert shown["p_corrected"].equals(again["p_corrected"]) and shown["verdict"].to_list() == again["verdict"].to_list()
    alone = pd.concat([decide(rows) for _, rows in shown.groupby("study", sort=False)])["p_corrected"]
    assert (shown["p_corrected"].dropna() >= alone.dropna()).all() and (shown["p_corrected"] > alone).any()


def test_each_claim_says_what_it_rests_on_what_matters_and_can_be_simulated():
    assert len(CLAIMS) >= 12
    assert set(CLAIMS) == set(simulation.CELLS)
    for claim in CLAIMS.values():
        assert all((claim.title, claim.paper, claim.statistic, claim.threshold, claim.relevant))
        assert set(claim.needs) <= set(Evidence.__dataclass_fields__)


def reasons(evidence: Evidence) -> dict[str, str]:
    table = judge([evidence])
    return table[table["verdict"] == NOT_TESTABLE].set_index("claim")["note"].to_dict()


def simulated(claim: str, shape: str, seed: int = 0) -> Evidence:
    return simulation.simulate(claim, shape, "none", np.random.default_rng(seed))


def test_what_was_not_measured_is_not_testable_and_the_note_says_what_is_missing():
    nothing = reasons(Evidence("pocket", "pocket", "privacy", 1000 * simulation.SHARES))
    assert list(nothing) == list(CLAIMS)
    assert nothing["beats_own_vector"] == "no tuned model was steered"
    assert nothing["above_the_floors"] == "no probe's answers by seed and example"


def test_a_series_without_an_untrained_checkpoint_cannot_answer_what_needs_one():
    full = simulated("early_separability", "all early")
    assert "early_separability" not in reasons(full)
    later = {name: getattr(full, name)[1:] for name in ("steps", "selected", "shuffled")}
    late = Evidence("pocket", "pocket", "privacy", fold=full.fold, **later)
    assert reasons(late)["early_separability"] == "no untrained checkpoint (step 0)"


def test_the_summary_counts_verdicts_in_words():
    table = pd.DataFrame({"claim": ["a", "a", "a", "b"], "concept_set": ["x", "x", "y", "x"], "verdict": VERDICTS[:4]})
    summary = framework.summary(table, {"a": "First", "b": "Second"})
    assert list(summary.columns) == ["x", "y"]
    assert summary.loc["First"].to_list() == [f"1 {SUPPORTED}, 1 {NOT_SUPPORTED}", f"1 {IRRELEVANT}"]
    assert summary.loc["Second", "y"] == NOT_TESTABLE


# Registration.


def test_point_1_data_confirm_only_if_their_weights_were_new_when_the_tests_were_fixed(tmp_path, monkeypatch):
    monkeypatch.setattr(framework, "REGISTERED", tmp_path / "registered.json")
    assert framework._data("new") == "exploratory"  # nothing was written down
    framework.register("2026-11-29", ["old"], tmp_path / "registered.json")
    assert framework._data("old") == framework._data("") == "exploratory"
    assert framework._data("new") == "confirmed"
    entries = json.loads((tmp_path / "registered.json").read_text())
    entries[0]["code"] = "other tests"
    (tmp_path / "registered.json").write_text(json.dumps(entries))
    assert framework._data("new") == "exploratory"


def test_point_1_the_hash_changes_with_a_threshold_and_not_with_a_docstring(tmp_path, monkeypatch):
    before = framework.code()
    package = PROJECT / "tracing_utils"
    for file in (file for name in framework._TESTS for file in package.glob(name)):
        copy = tmp_path / file.relative_to(package)
        copy.parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(file, copy)
    monkeypatch.setattr(framework, "__file__", str(tmp_path / "claims" / "framework.py"))
    steering = "experiments/steering/__init__.py"  # what steered vectors are held against
    for name, old, new, same in (
        ("claims/paper_claims.py", "The same thirds", "Other words", True),
        (steering, "DOSE = 2.0", "DOSE = 1.0", False),
        (steering, "DOSE = 1.0", "DOSE = 2.0", True),
        ("claims/paper_claims.py", "FALL = 0.1", "FALL = 0.2", False),
    ):
        file = tmp_path / name
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))
        framework.code.cache_clear()
        assert (framework.code() == before) is same
    framework.code.cache_clear()


def test_point_1_what_is_bundled_or_published_was_looked_at_and_cannot_confirm_but_for_the_pocket_suite_trained_later():
    """`world-other-seed` is in no ledger, though its activations are in the table of origins."""
    pocket, there = suites.load("pocket"), pages.looked_at()
    later = {ledger.weights_sha256(one) for one in (*pocket.checkpoints, pocket.chat)}
    entries = json.loads((PROJECT / "results" / "registered.json").read_text())
    before = set().union(*(entry["seen"] for entry in entries))  # weights that were withdrawn since are among them
    assert before and all(re.fullmatch(r"[0-9a-f]{64}", weights) for weights in before)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", entry["date"]) for entry in entries)
    assert later < there and there - later < before
    assert {framework._data(weights) for weights in before} == {"exploratory"}
    assert {framework._data(weights) for weights in later} == {"confirmed"}


def test_point_1_the_page_says_that_curves_were_there_before_the_tests():
    files = [*PROJECT.glob("*.md"), *(path for name in ("book", "notebooks") for path in (PROJECT / name).glob("**/*.md"))]
    files += (PROJECT / "tracing_utils").glob("**/*.py")
    pages = {path: " ".join(path.read_text().split()) for path in files}
    assert not [path.name for path, text in pages.items() if re.search(r"before any result (was|is) seen", text)]
    assert "after the curves" in pages[PROJECT / "book" / "what_stands.md"]


# Reading what a run left.

REVISIONS = ("step0", "step64", "step512", "step2048", "step4096")
LAYERS, STEERED, SEEDS = 4, 2, 2


@pytest.fixture
def study(tmp_path) -> studies.Study:
    path = tmp_path / "mine.yml"
    path.write_text(f"suite: pocket\nconcepts: pocket\nrevisions: [{', '.join(REVISIONS)}]\ndimensions: [privacy]\n")
    return studies.read(path)


def arrays(study: studies.Study, i: int) -> dict[str, dict[str, np.ndarray]]:
    """Return evidence of each experiment in which every checkpoint's number tells where it belongs."""
    chosen = study.concept_set("pocket", "privacy")
    n, rng = len(chosen), np.random.default_rng(i)
    paired = likelihoods.held_out_pairs(chosen, concepts.folds(chosen, seed=0)[0].test)
    groups = np.unique([chosen.groups[one] for one, _ in paired], return_inverse=True)[1]

    def noise(*shape):
        return (i / 10 + 0.1 * rng.standard_normal(shape)).astype(np.float32)

    def right(*shape):
        return (rng.random(shape) < i / 10).astype(np.uint8)

    fold = np.zeros((SEEDS, n), np.uint8)
    for seed in range(SEEDS):
        for k, split in enumerate(concepts.folds(chosen, seed)):
            fold[seed, split.test] = k
    probing = {"correct": right(LAYERS, SEEDS, n), "selected": right(SEEDS, n), "shuffled": right(LAYERS, SEEDS, n), "fold": fold}
    probing |= {"floor/words": np.ones((1, n), np.uint8), "floor/majority": np.zeros((1, n), np.uint8), "floor": right(1, n)}
    information = {name: noise(LAYERS, 21) for name in ("nhsic_tx", "nhsic_ty", "floor_tx", "floor_ty")}
    steering = {"doses": np.array([-2, 2], np.float32), "groups": groups, "gain/vector": noise(STEERED, 2, len(paired))}
    steering |= {"nats/vector": noise(STEERED, 2, 60), "nats/unsteered": np.ones(60, np.float32)}
    drawn = {"gain/random direction": 99, "gain/shuffled labels": 20, "cost/random direction": 99}
    steering |= {f"null/{name}": noise(count, STEERED) for name, count in drawn.items()}
    return {"probing": probing, "mutual_information": information, "steering": steering}


@pytest.fixture
def run(study, tmp_path):
    for i, revision in enumerate([*REVISIONS, "chat"]):
        for experiment, entries in arrays(study, i).items():
            path = tmp_path / "runs" / "pocket" / experiment / f"{revision}.safetensors"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({f"privacy/{key}": value for key, value in entries.items()} | {"toxicity/selected": np.zeros(3)}, path)
    return tmp_path / "runs"


SERIES = Series("pocket", REVISIONS, (0, 64, 512, 2048, 4096), None, "chat", "weights")


def test_the_evidence_is_read_as_the_notebooks_left_it(study, run):
    n = len(study.concept_set("pocket", "privacy"))
    evidence = Evidence.read(SERIES, run, "pocket", "privacy", n)
    assert evidence.share.tolist() == [0, 64 / 4096, 1 / 8, 0.5, 1]
    assert evidence.selected.shape == (5, SEEDS, n) and evidence.fold.shape == (SEEDS, n)
    assert evidence.selected.mean((1, 2)) == pytest.approx(np.arange(5) / 10, abs=0.05)  # each checkpoint in its place
    assert list(evidence.floors) == ["majority", "words"]
    assert evidence.gain_own.mean() == pytest.approx(0.5, abs=0.02)
    assert evidence.gain_random.shape == (99, STEERED) and evidence.gain_shuffled.shape == (20, STEERED)
    assert evidence.cost.shape == (5, STEERED, 2, 60)
    assert evidence.cost.mean() == pytest.approx(-0.8, abs=0.02)
    assert len(evidence.pair_groups) == evidence.gain.shape[3] > len(set(evidence.pair_groups)) > 1
    few = "fewer than eight checkpoints"
    assert {name: reasons(evidence)[name] for name in ("probe_tracks_steering", "probe_predicts_steering")} == {
        "probe_tracks_steering": few, "probe_predicts_steering": few
    }  # fmt: skip


def test_windows_are_counted_in_tokens_where_the_suite_tells_them(run):
    tokens = (0, 1, 2, 3, 4)
    evidence = Evidence.read(Series("pocket", REVISIONS, SERIES.steps, tokens), run, "pocket", "privacy")
    assert evidence.share.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert evidence.gain_own is None  # no tuned model is named


@pytest.mark.parametrize("left", [(), ("probing",), ("mutual_information",), ("steering",), ("mutual_information", "steering")])
def test_a_study_of_any_experiments_is_judged_and_what_is_missing_is_said(run, left):
    for folder in (run / "pocket").iterdir():
        if folder.name not in left:
            shutil.rmtree(folder)
    table = judge([Evidence.read(SERIES, run, "pocket", "privacy")]).set_index("claim")
    assert list(table.index) == list(CLAIMS)
    testable = {"probing": "above_the_floors", "mutual_information": "near_zero_at_start", "steering": "beats_own_vector"}
    for experiment, claim in testable.items():
        assert (table.loc[claim, "verdict"] != NOT_TESTABLE) == (experiment in left)
        assert table.loc[claim, "note"]


def test_half_a_run_is_refused_and_so_are_other_statements(run):
    path = run / "pocket" / "probing" / "step512.safetensors"
    path.rename(path.with_suffix(".away"))
    with pytest.raises(ValueError, match=r"missing for step512"):
        Evidence.read(SERIES, run, "pocket", "privacy")
    path.with_suffix(".away").rename(path)
    assert Evidence.read(SERIES, run, "pocket", "privacy")
    with pytest.raises(ValueError, match=r"study's 7 statements.*Run the study again"):
        Evidence.read(SERIES, run, "pocket", "privacy", 7)


def test_the_job_writes_a_verdict_for_every_claim_set_and_dimension(study, run, tmp_path):
    out = tmp_path / "results" / "claims.csv"
    assert jobs.main(["claims", str(tmp_path / "mine.yml"), str(run), str(out)]) == 0
    table = pd.read_csv(out)
    assert tuple(table.columns) == framework.COLUMNS
    assert table["claim"].to_list() == list(CLAIMS)
    assert set(table["verdict"]) <= set(VERDICTS)
    assert set(table["weights"]) == {ledger.weights_sha256(study.loaded["step4096"])}
    assert set(table["data"]) <= {"exploratory", "confirmed"}
    tested = table[table["verdict"] != NOT_TESTABLE]
    assert ((tested["low"] <= tested["value"]) & (tested["value"] <= tested["high"])).all()
    assert (tested["p_corrected"] >= tested["p"]).all() and (tested["p_within_corrected"] >= tested["p_within"]).all()


def test_claims_know_nothing_of_how_studies_are_run():
    for path in (PROJECT / "tracing_utils" / "claims").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("run"), path.name


# What is published.


def committed() -> list[pd.DataFrame]:
    return [
        pd.read_csv(path, keep_default_na=False, na_values=[""]) for path in sorted((PROJECT / "results").glob("*/claims.csv"))
    ]


def test_the_published_verdicts_name_the_claims_and_verdicts_of_the_committed_code_and_hold_no_other_words():
    words = {"verdict": VERDICTS, "side": VERDICTS[:2], "data": ("exploratory", "confirmed")}
    for table in committed():
        assert tuple(table.columns) == framework.COLUMNS
        for column, known in words.items():
            assert set(table[column].dropna()) <= set(known)
        assert list(dict.fromkeys(table["claim"])) == list(CLAIMS)


def test_the_published_verdicts_follow_from_the_published_numbers():
    for table in committed():
        again = decide(table)
        assert again["verdict"].to_list() == table["verdict"].to_list()
        supported = table["verdict"] == SUPPORTED
        assert (table.loc[supported, "value"] > 0).all()


def test_a_planted_rise_that_is_called_little_is_smaller_than_what_matters_and_the_other_is_not():
    """Else "no relevant effect" would be counted as false where it is true; the straight rise lies at what just matters."""
    planted, truths = {}, simulation.CELLS["ty_keeps_rising"][1]
    for shape in ("straight rise", "short rise, long rise"):
        rng = np.random.default_rng(0)
        with simulation.unchecked():
            studies = [simulation.simulate("ty_keeps_rising", shape, "strong", rng) for _ in range(20)]
            parts = [CLAIMS["ty_keeps_rising"].test(study).alternatives[0] for study in studies]
        planted[truths[shape]] = min(np.mean([[part.value / part.relevant for part in each] for each in parts], axis=0))
    assert 0 < planted["little"] < 0.9 < planted["yes"]


def test_the_published_table_of_errors_covers_every_cell_and_is_this_code_s():
    table = pd.read_csv(PROJECT / "results" / "claims_power.csv")
    cells = {
        (claim, shape, d) for claim, (_, truths) in simulation.CELLS.items() for shape in truths for d in simulation.DEPENDENCE
    }
    assert set(table[["claim", "shape", "dependence"]].itertuples(index=False, name=None)) == cells
    shares = table[list(VERDICTS)]
    assert shares.sum(1).to_numpy() == pytest.approx(1, abs=1e-3)
    assert (table["false"] <= 0.05).all()
    assert [simulation.CELLS[row.claim][1][row.shape] for row in table.itertuples()] == table["truth"].tolist()
    again = [
        simulation.false(row.truth, values) for row, values in zip(table.itertuples(), shares.to_numpy().tolist(), strict=True)
    ]
    assert again == pytest.approx(table["false"].to_list(), abs=1e-3)
    row = table.query("claim == 'beats_own_vector' and shape == 'better' and dependence == 'none'").iloc[0]
    found = simulation.verdicts(["beats_own_vector"], "better", "none", 40)["beats_own_vector"]
    assert (found == SUPPORTED).mean() == pytest.approx(row[SUPPORTED], abs=0.2)


def page(folder, monkeypatch) -> tuple[list[str], dict[str, object]]:
    """Run the cells of "What stands" on the results in `folder`; return the tables it shows and its computed numbers."""
    tables, glued = [], {}
    monkeypatch.setattr(suites, "PROJECT", folder)
    monkeypatch.setattr(results, "PROJECT", folder)
    monkeypatch.setattr("tracing_utils.core.paths.PROJECT", folder)
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
    _, glued = page(published, monkeypatch)
    assert glued["studies"] == "none"
    assert glued["tests"] == 0


def test_the_page_shows_every_verdict_of_every_judged_study_and_counts_them(published, monkeypatch):
    folder = published / "results" / "tiny"
    folder.mkdir()
    table = judge([simulated("above_the_floors", "better")])
    table.to_csv(folder / "claims.csv", index=False)
    tables, glued = page(published, monkeypatch)
    shown = next(each for each in tables if "Study tiny" in each)
    for word in VERDICTS:
        n = int((table["verdict"] == word).sum())
        assert glued["n_" + word.replace(" ", "_")] == n == shown.count(f">{word}<")
    assert glued["studies"] == "tiny"
    assert glued["n_supported"] >= 1
    assert any("exploratory" in each for each in tables)
