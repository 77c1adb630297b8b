"""A tidy table comes back as it was written, whole or not at all; gains are differences to the right floor."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tracing_utils import results
from tracing_utils.checkpoints.types import Checkpoint
from tracing_utils.core.evaluation import Estimate
from tracing_utils.results import COLUMNS, collect, gains, row, write

CHECKPOINT = Checkpoint("tiny", "step8", 8, 8 * 4096, Path(), Path())
CHAT = Checkpoint("tiny", "chat", -1, None, Path(), Path())


@pytest.fixture
def concepts(make_concepts):
    return make_concepts([0, 1] * 10, dimension="privacy")


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A folder of results instead of the repository's."""
    monkeypatch.setattr(results, "PROJECT", tmp_path)
    (tmp_path / "results" / "mine").mkdir(parents=True)
    return tmp_path / "results" / "mine"


def test_a_row_has_the_common_columns_and_says_what_it_is_of(concepts):
    one_row = row(CHECKPOINT, concepts, 3, "probe", "accuracy", Estimate(0.75, 0.7, 0.8, 20), "0-4")
    assert tuple(one_row) == COLUMNS
    assert (one_row["revision"], one_row["step"], one_row["tokens"], one_row["layer"]) == ("step8", 8, 32768, 3)
    assert (one_row["dimension"], one_row["concept_set"], one_row["value"], one_row["n"]) == ("privacy", "made-up", 0.75, 20)


def test_what_is_written_is_read_again_also_without_layer_and_tokens(concepts, published):
    estimate = Estimate(0.123456789, -0.5, 2.0, 20)
    rows = [
        row(CHECKPOINT, concepts, 0, "probe", "accuracy", estimate, "0-4"),
        row(CHAT, concepts, None, "lexical floor", "accuracy", estimate, "0"),
    ]
    write(rows, published / "probing.csv")
    read = results.read("mine", "probing")
    assert tuple(read.columns) == COLUMNS
    assert read["value"].tolist() == [0.1235, 0.1235]  # four significant digits
    assert read["layer"].tolist() == [0, pd.NA]
    assert read["tokens"].tolist() == [32768, pd.NA]
    assert read["seed"].tolist() == ["0-4", "0"]
    assert [path.name for path in published.iterdir()] == ["probing.csv"]


def test_whole_numbers_are_not_rounded_to_four_digits(concepts, published):
    late = Checkpoint("tiny", "step143000", 143_001, 299_892_736_001, Path(), Path())
    write([row(late, concepts, 1, "probe", "accuracy", Estimate(0.5, 0.4, 0.6, 12_345), "0")], published / "probing.csv")
    read = results.read("mine", "probing").iloc[0]
    assert (read["step"], read["tokens"], read["n"]) == (143_001, 299_892_736_001, 12_345)


def test_further_columns_follow_the_common_ones_whatever_their_order(concepts, tmp_path):
    made = {"multiplier": 2.0} | row(CHECKPOINT, concepts, 0, "vector", "gain", Estimate(0.1, 0.0, 0.2, 5), "0")
    assert tuple(write([made], tmp_path / "t.csv").columns) == (*COLUMNS, "multiplier")


def test_a_table_that_lacks_a_column_is_not_written_and_the_old_one_stays(concepts, tmp_path):
    one_row = row(CHECKPOINT, concepts, 0, "probe", "accuracy", Estimate(0.1, 0.0, 0.2, 5), "0")
    write([one_row], path := tmp_path / "t.csv")
    before = path.read_bytes()
    with pytest.raises(KeyError, match="value"):
        write([{key: value for key, value in one_row.items() if key != "value"}], path)
    assert path.read_bytes() == before


def test_the_same_rows_give_the_same_bytes(concepts, tmp_path):
    made = [row(CHECKPOINT, concepts, layer, "probe", "accuracy", Estimate(1 / 3, 0.1, 0.6, 9), "0") for layer in range(3)]
    write(made, tmp_path / "a.csv")
    write(made, tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert b"\r" not in (tmp_path / "a.csv").read_bytes()


def test_collected_tables_are_their_rows_in_the_order_given(concepts, published):
    for name, value in (("b", 0.25), ("a", 0.75)):
        write([row(CHECKPOINT, concepts, None, name, "accuracy", Estimate(value, 0.0, 1.0, 9), "0-4")], published / f"{name}.csv")
    collect([published / "b.csv", published / "a.csv"], published / "probing.csv")
    read = results.read("mine", "probing")
    assert read["method"].tolist() == ["b", "a"]
    assert read["value"].tolist() == [0.25, 0.75]
    assert read["seed"].tolist() == ["0-4", "0-4"]


def test_an_unknown_study_or_experiment_is_answered_with_the_nearest(concepts, published):
    write([row(CHECKPOINT, concepts, 0, "probe", "accuracy", Estimate(0.5, 0.4, 0.6, 5), "0")], published / "probing.csv")
    with pytest.raises(ValueError, match=r"Unknown study with results 'mien'; known: mine\. Did you mean 'mine'\?"):
        results.read("mien", "probing")
    with pytest.raises(ValueError, match=r"Unknown result of study mine 'prbing'.*Did you mean 'probing'\?"):
        results.read("mine", "prbing")


def probing_table() -> pd.DataFrame:
    """Two dimensions at one checkpoint with their floors; another metric and another method beside them."""
    rows = []
    for dimension, probe, floor in (("privacy", 0.8, 0.6), ("fairness", 0.55, 0.5)):
        common = {"suite": "tiny", "revision": "step8", "dimension": dimension, "concept_set": "pocket"}
        for method, metric, value, layer in (
            ("logistic", "accuracy", probe, 1),
            ("floor", "accuracy", floor, None),
            ("shuffled labels", "accuracy", 0.5, 1),
            ("logistic", "auroc", 0.99, 1),
            ("lexical floor", "accuracy", floor - 0.3, None),
            ("floor", "auroc", 0.01, None),
        ):
            rows.append(common | {"method": method, "metric": metric, "value": value, "layer": layer})
            rows[-1] |= {"low": value - 0.06, "high": value + 0.06}
    return pd.DataFrame(rows)


def test_a_gain_is_the_accuracy_of_the_probe_minus_the_floor_of_its_own_dimension():
    leads = gains(probing_table()).set_index("dimension")
    assert len(leads) == 2
    assert leads["gain"].to_dict() == pytest.approx({"privacy": 0.2, "fairness": 0.05})
    assert leads["above"].to_dict() == {"privacy": True, "fairness": False}


def test_a_checkpoint_without_a_floor_has_no_gain_and_another_s_is_not_borrowed():
    table = probing_table()
    other = table[(table["method"] == "logistic") & (table["dimension"] == "privacy")].assign(revision="step16")
    assert set(gains(pd.concat([table, other]))["revision"]) == {"step8"}


def test_the_run_s_own_tables_are_shown_once_they_are_whole_and_publishing_puts_them_in_the_place_of_the_others(
    concepts, published, tmp_path, monkeypatch
):
    own = tmp_path / "runs" / "mine" / "results"
    for value, folder in ((0.5, published), (0.6, own)):
        write([row(CHECKPOINT, concepts, 0, "probe", "accuracy", Estimate(value, 0.4, 0.7, 5), "0")], folder / "probing.csv")
    monkeypatch.delenv("TRACING_UTILS_RESULTS")
    assert results.read("mine", "probing")["value"].tolist() == [0.5]  # the run has not ended yet
    with pytest.raises(ValueError, match="must be a finished run"):
        results.publish("mine")
    (own / "provenance.json").write_text(json.dumps({"tables": {"probing.csv": results.digest(own / "probing.csv")}}))
    assert results.read("mine", "probing")["value"].tolist() == [0.6]
    monkeypatch.setenv("TRACING_UTILS_RESULTS", "published")
    assert results.read("mine", "probing")["value"].tolist() == [0.5]
    results.publish("mine")
    assert results.read("mine", "probing")["value"].tolist() == [0.6]
    assert results.whole(published)
    assert sorted(path.name for path in published.iterdir()) == ["probing.csv", "provenance.json"]


def test_tables_of_all_studies_are_read_together_the_pocket_suite_first_and_words_stay_words(concepts, published, monkeypatch):
    estimate = Estimate(0.5, 0.4, 0.6, 5)
    for study in ("mine", "another", "pocket"):
        write([row(CHECKPOINT, concepts, 0, "None", "accuracy", estimate, "0")], published.parent / study / "probing.csv")
    (published.parent / "empty").mkdir()
    together = results.read_all("probing")
    assert together["study"].tolist() == ["pocket", "another", "mine"]
    assert together["method"].tolist() == ["None"] * 3
    assert results.studies("probing") == results.studies() == ["pocket", "another", "mine"]
    assert results.read_all("steering").empty


def test_numbers_that_do_not_exist_come_back_as_such(concepts, published):
    write([row(CHECKPOINT, concepts, 0, "probe", "auroc", Estimate(float("nan"), 0.0, 1.0, 5), "0")], published / "probing.csv")
    assert np.isnan(results.read("mine", "probing")["value"][0])


def test_a_table_that_is_not_the_one_of_its_provenance_is_refused_and_other_line_ends_do_not_matter(concepts, published):
    write(
        [row(CHECKPOINT, concepts, 0, "probe", "accuracy", Estimate(0.5, 0.4, 0.6, 5), "0")], table := published / "probing.csv"
    )
    (published / "provenance.json").write_text(json.dumps({"tables": {"probing.csv": results.digest(table), "claims.csv": "0"}}))
    results.read("mine", "probing")
    assert results.damaged(published) == ["claims.csv"]
    table.write_bytes(table.read_bytes().replace(b"\n", b"\r\n"))
    results.read("mine", "probing")
    table.write_text(table.read_text().replace("0.5", "0.6"))
    assert results.damaged(published) == ["probing.csv", "claims.csv"]
    with pytest.raises(ValueError, match=r"results/mine/probing\.csv must be the table that was published"):
        results.read("mine", "probing")
    (published / "provenance.json").write_text("{")
    assert results.damaged(published) == ["provenance.json"]


@pytest.mark.parametrize("name", ["NA", "null", "None", "nan", "N/A", "007", "1.0", "1e5", "True", "inf"])
def test_a_name_is_never_read_as_a_number_or_as_nothing_and_an_empty_number_is(concepts, published, name):
    named = replace(concepts, name=name, dimension=name)
    checkpoint = Checkpoint(name, name, 8, None, Path(), Path())
    missing = Estimate(float("nan"), 0.0, 1.0, 5)
    write([row(checkpoint, named, None, "probe", "accuracy", missing, "0")], published / "one.csv")
    collect([published / "one.csv", published / "one.csv"], published / "probing.csv")
    read = results.read("mine", "probing")
    for column in ("suite", "revision", "dimension", "concept_set"):
        assert read[column].tolist() == [name, name]
    assert read[["tokens", "layer", "value"]].isna().all(axis=None)
