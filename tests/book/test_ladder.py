"""The ladder's figure draws every rung of the published studies, and the paper's verdicts are not asked of rungs."""

import numpy as np
import pytest
import vl_convert

from tracing_utils import results
from tracing_utils.book import ladder, prose
from tracing_utils.claims import ladder_claims
from tracing_utils.statements.concepts import DIMENSIONS

STUDIES = ("pocket-ladder", "smollm2-ladder")


@pytest.mark.parametrize("study", STUDIES)
def test_the_figure_has_a_panel_a_dimension_a_line_a_rung_and_its_floor(study):
    chart = ladder.chart(study, "Rungs over training.")
    spec = chart.to_dict()
    rows = next(iter(spec["datasets"].values()))
    drawn = {(row["dimension"], row["rung"], row["kind"]) for row in rows}
    rungs = {"words", "turn", "sentence"}
    assert {d for d, *_ in drawn} == set(DIMENSIONS)
    for kind in ("measured", "floor"):
        assert {r for d, r, k in drawn if d == "privacy" and k == kind} - {"grammar"} == rungs
        assert {r for d, r, k in drawn if d == "robustness" and k == kind} - {"grammar"} == rungs - {"turn"}
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
    assert "words" in vl_convert.vegalite_to_svg(spec)
    assert spec["description"] == "Rungs over training."


@pytest.mark.parametrize("study", STUDIES)
def test_what_the_page_tells_of_the_last_checkpoint_is_the_published_row(study):
    told, table = ladder.last(study), results.read(study, "probing")
    at_last = table[table["step"] == table["step"].max()].set_index(["concept_set", "dimension"])
    rows, floors = (at_last[at_last["method"] == method] for method in ("selected layer", "floor"))
    for (rung, dimension), row in told[told.index.get_level_values("rung") != "grammar"].iterrows():
        (name,) = [name for name, shown in ladder.NAMES.items() if shown == rung]
        assert row["value"] == rows.loc[(name, dimension), "value"]
        assert row["above"] == (row["low"] > max(0.5, floors.loc[(name, dimension), "high"]))
    assert told.loc["grammar", "value"].nunique() == 1  # it has no dimension
    assert set(ladder.onsets(study).columns) == set(DIMENSIONS)


def test_both_claims_are_judged_in_every_dimension_and_the_papers_are_asked_of_no_rung():
    table = ladder_claims.judge("pocket-ladder")
    assert len(table) == len(ladder_claims.CLAIMS) * len(DIMENSIONS)
    assert not set(prose.verdicts()["study"]) & set(STUDIES)
    assert "pocket" in set(prose.verdicts()["study"])
    assert np.isfinite(table.dropna(subset="p")["value"]).all()


def test_training_runs_of_other_seeds_are_read_on_every_rung_and_are_other_runs():
    table, own = results.read_csv(results.folder("") / "pocket_seeds.csv"), results.read("pocket-ladder", "probing")
    at = ["concept_set", "dimension", "step"]
    runs = dict(iter(table.set_index(at).groupby("run")["value"]))
    assert len(runs) >= 3
    assert len({frozenset(rows.index) for rows in runs.values()}) == 1
    chosen = own[(own["method"] == "selected layer") & (own["metric"] == "accuracy")].set_index(at)["value"]
    np.testing.assert_array_equal(runs.pop(0), chosen.loc[runs[1].index])  # the bundled run's seed is 0
    assert all((rows != chosen.loc[rows.index]).any() for rows in runs.values())
