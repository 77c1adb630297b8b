"""Whether a rerun reproduced: each kind of difference is told from the others, and others' files are not believed."""

import json
import re
import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest

from tracing_utils import results
from tracing_utils.__main__ import main
from tracing_utils.core.paths import PROJECT
from tracing_utils.run import reproduction

ROWS = 400
VERDICTS = ["supported", "inconclusive", "not supported"]


def seal(folder, **more):
    """Write the provenance of the tables in a folder."""
    tables = {path.name: results.digest(path) for path in sorted(folder.glob("*.csv"))}
    content = {
        "study": "mine",
        "weights": {"step8": "a"},
        "statements": {},
        "options": {},
        "libraries": {"numpy": "2"},
        "tables": tables,
    }
    (folder / "provenance.json").write_text(json.dumps(content | more))
    return folder


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """The folders of a published study and of a run of it, equal, and a function that changes the run's tables."""
    monkeypatch.setattr(results, "PROJECT", tmp_path)
    monkeypatch.delenv("TRACING_UTILS_RESULTS")
    published, own = tmp_path / "results" / "mine", tmp_path / "runs" / "mine" / "results"
    values = np.round(np.random.default_rng(0).uniform(0.5, 0.9, ROWS), 4)
    probing = pd.DataFrame({"suite": "tiny", "layer": range(ROWS), "method": "logistic", "metric": "accuracy", "value": values})
    probing = probing.assign(low=(values - 0.05).round(4), high=(values + 0.05).round(4), n=100, reader="words")
    claims = pd.DataFrame(
        {"claim": ["a", "b", "c"], "concept_set": "s", "dimension": "privacy", "suite": "tiny", "verdict": VERDICTS}
    )
    results.write_csv(probing, published / "probing.csv")
    results.write_csv(claims, published / "claims.csv")
    seal(published)
    shutil.copytree(published, own)

    def change(table, column, first, by):
        """Change the first so many rows of a column."""
        rows = pd.read_csv(own / f"{table}.csv")
        rows.loc[: first - 1, column] = by(rows.loc[: first - 1, column])
        results.write_csv(rows, own / f"{table}.csv")
        seal(own)

    return published, own, change


def counts(pair) -> dict:
    return reproduction.compared(*pair[:2]).tables.loc["probing"].to_dict()


def test_each_kind_of_planted_difference_is_told_from_the_others(pair):
    _, _, change = pair
    every = {
        "cells": 5 * ROWS,
        "equal": 5 * ROWS,
        "equal within rounding": 0,
        "within the interval": 0,
        "outside": 0,
        "no interval": 0,
    }
    first = counts(pair)
    assert {name: first[name] for name in every} == every
    change("probing", "value", 1, lambda values: values + 0.0001)
    assert counts(pair)["equal within rounding"] == 1
    assert reproduction.compared(*pair[:2]).sentence.endswith("and so are all 2,003 cells of its tables, within rounding.")
    change("probing", "value", 3, lambda values: values + 0.03)
    assert counts(pair)["within the interval"] == 3
    change("probing", "value", 2, lambda values: values + 0.03)
    found = counts(pair)
    assert (found["within the interval"], found["outside"]) == (1, 2)
    change("probing", "low", 1, lambda values: values - 0.06)  # further than half the interval's width
    assert counts(pair)["outside"] == 3
    change("probing", "n", 4, lambda values: values - 1)  # a rerun counts the same statements
    change("probing", "reader", 1, lambda values: values + "?")
    found = counts(pair)
    assert (found["outside"], found["no interval"]) == (8, 0)
    assert sum(found[name] for name in every if name != "cells") == found["cells"]


def test_what_has_no_interval_is_counted_in_the_sentence_and_a_word_in_its_place_lies_outside(pair):
    published, own, change = pair
    for folder in (published, own):
        rows = pd.read_csv(folder / "probing.csv")
        results.write_csv(rows.assign(p=0.5, before="It is so."), folder / "probing.csv")
        seal(folder)
    change("probing", "p", 3, lambda values: values / 2)
    change("probing", "before", 4, lambda texts: texts + "!")
    assert counts(pair)["no interval"] == 7
    sentence = reproduction.compared(published, own).sentence
    assert sentence.startswith("Yes, mine was reproduced: its 3 verdicts are as published, and 0 of ")
    assert sentence.endswith(" lie outside the published intervals. 7 cells without an interval differ; nothing judges them.")
    rows = pd.read_csv(own / "probing.csv", dtype=object).assign(value="0.99")
    rows.loc[0, "value"] = "n/a"  # one word, and pandas reads the column as text
    results.write_csv(rows, own / "probing.csv")
    seal(own)
    assert counts(pair)["outside"] == ROWS
    assert not reproduction.compared(published, own).reproduced


def test_rows_are_compared_by_what_they_are_of_and_a_row_that_one_lacks_lies_outside(pair):
    _, own, _ = pair
    rows = pd.read_csv(own / "probing.csv")
    results.write_csv(rows[::-1], own / "probing.csv")
    seal(own)
    assert counts(pair)["equal"] == 5 * ROWS
    results.write_csv(rows[:-1].assign(value=rows["value"][::-1].to_numpy()[:-1]), own / "probing.csv")
    seal(own)
    found = counts(pair)
    assert found["outside"] >= 5
    assert found["equal"] < 5 * (ROWS - 1)


def test_numbers_that_do_not_exist_are_equal_to_each_other_alone():
    nan, zeros, ones = np.full(3, np.nan), np.zeros(3), np.ones(3)
    own = np.array([np.nan, 0.5, 0.0])
    assert reproduction.classified(nan, own, nan, nan).tolist() == ["equal", "no interval", "no interval"]
    assert reproduction.classified(zeros, own, zeros, ones).tolist() == ["outside", "within the interval", "equal"]
    endless = np.array([np.inf, -np.inf, np.nan])
    assert reproduction.classified(ones, endless, zeros, 2 * ones).tolist() == ["outside"] * 3
    assert reproduction.classified(ones, endless, nan, nan).tolist() == ["outside"] * 3


def test_chance_may_leave_cells_outside_and_no_more_than_it_does(pair, capsys):
    _, _, change = pair
    assert counts(pair)["allowed outside"] == 31  # the 99 % point of a binomial count of 400 at 5 %
    change("probing", "value", 31, lambda values: values + 0.2)
    assert main(["compare", "mine"]) == 0
    assert "31 of 2,003 cells lie outside the published intervals, which chance allows" in capsys.readouterr().out
    change("probing", "value", 32, lambda values: values + 0.2)
    assert main(["compare", "mine"]) == 1
    assert "No, mine was not reproduced: more cells of probing lie outside" in capsys.readouterr().out


def test_one_verdict_that_moved_is_no_reproduction_and_is_named(pair, capsys):
    _, _, change = pair
    assert main(["compare", "mine"]) == 0
    assert (
        "mine was reproduced: its 3 verdicts are as published, and so are all 2,003 cells of its tables.\n"
        in capsys.readouterr().out
    )
    change("claims", "verdict", 1, lambda verdicts: "inconclusive")
    assert main(["compare", "mine"]) == 1
    said = capsys.readouterr().out
    assert said.startswith("No, mine was not reproduced: 1 of 3 verdicts differ.")
    assert re.search(r"\na +tiny +privacy +s .*supported +inconclusive\n", said)


def test_a_run_on_other_weights_or_with_other_options_is_no_rerun(pair):
    published, own, _ = pair
    seal(own, libraries={"numpy": "3"}, machine={"cores": 8}, computed={"dtype": ["bfloat16"]})
    found = reproduction.compared(published, own)
    assert found.reproduced
    assert found.machines.loc["numpy"].tolist() == ["2", "3"]
    assert found.machines.loc["dtype"].tolist() == ["not recorded", "bfloat16"]
    seal(own, weights={"step8": "b"}, options={"probing": {"seeds": 1}})
    found = reproduction.compared(published, own)
    assert not found.reproduced
    assert found.sentence == "This was no rerun of the published study mine: other weights (step8); other options (probing)."


def test_an_option_that_came_after_the_published_run_is_no_difference_at_its_default(pair):
    published, own, _ = pair
    seal(published, options={"steering": {"layers": [0]}})
    seal(own, options={"steering": {"layers": [0], "positions": "first"}})
    assert "other options (steering)" in reproduction.compared(published, own).sentence
    seal(own, options={"steering": {"layers": [0], "positions": "all"}})
    assert reproduction.compared(published, own).reproduced


def zipped(folder, out, name="results/{}"):
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.iterdir():
            archive.write(path, name.format(path.name))
    return out


def test_results_of_others_are_kept_beside_one_s_own_and_compared_with_what_is_published(pair, tmp_path):
    _, own, change = pair
    assert reproduction.others() == []
    change("claims", "verdict", 1, lambda verdicts: "inconclusive")
    (beside := tmp_path / "runs" / "mine" / "others").mkdir()
    made = zipped(own, beside / "from Ada.zip", "{}")
    (tmp_path / "runs" / "unpublished" / "others").mkdir(parents=True)
    shutil.copy(made, tmp_path / "runs" / "unpublished" / "others")
    assert reproduction.others() == [("mine", made)]
    assert "1 of 3 verdicts differ" in reproduction.compare(*reproduction.others()[0]).sentence


@pytest.mark.parametrize("name", ["{}", "results/{}", "a/b/{}"])
def test_somebody_else_s_results_are_compared_from_a_folder_or_a_zip(pair, tmp_path, name):
    _, own, change = pair
    change("claims", "verdict", 1, lambda verdicts: "inconclusive")
    theirs = shutil.copytree(own, tmp_path / "theirs")
    shutil.rmtree(tmp_path / "runs")
    assert main(["compare", "mine", "--with", str(theirs)]) == 1
    assert main(["compare", "mine", "--with", str(zipped(theirs, tmp_path / "theirs.zip", name))]) == 1
    shutil.copytree(results.folder("mine"), same := tmp_path / "same")
    assert main(["compare", "mine", "--with", str(zipped(same, tmp_path / "same.zip", name))]) == 0
    assert not (tmp_path / "runs").exists()  # nothing of theirs is kept


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def flip(path):
    content = bytearray(path.read_bytes())
    content[content.find(b"probing.csv") + 60] ^= 1
    path.write_bytes(content)


def slip(name):
    def add(path):
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, "evil")

    return add


BAD_ZIPS = {
    "cut off": (cut, "a zip that can be read"),
    "a bit flipped": (flip, "a zip that can be read"),
    "no zip": (lambda path: path.write_text("no zip"), "a zip that can be read"),
    "not there": (lambda path: path.unlink(), "a zip that can be read"),
    "a way out": (slip("results/../../evil.csv"), "inside its own folder"),
    "an absolute path": (slip("/evil.csv"), "inside its own folder"),
    "another system's path": (slip("results\\..\\evil.csv"), "inside its own folder"),
    "another drive": (slip("c:evil.csv"), "inside its own folder"),
    "two provenances": (slip("other/provenance.json"), "holds 2"),
}


@pytest.mark.parametrize("case", BAD_ZIPS)
def test_a_zip_that_is_damaged_or_leads_out_of_its_folder_is_refused(case, pair, tmp_path, capsys):
    made = zipped(pair[1], tmp_path / "theirs.zip")
    assert main(["compare", "mine", "--with", str(made)]) == 0  # until it is made bad
    damage, words = BAD_ZIPS[case]
    damage(made)
    before = sorted(tmp_path.rglob("*"))
    assert main(["compare", "mine", "--with", str(made)]) == 2
    assert words in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_zip_that_unpacks_to_too_much_is_refused_before_it_is_read(pair, tmp_path, capsys, monkeypatch):
    made = zipped(pair[1], tmp_path / "theirs.zip")
    size = sum(path.stat().st_size for path in pair[1].iterdir())
    monkeypatch.setattr(reproduction, "_LARGEST", size)
    assert main(["compare", "mine", "--with", str(made)]) == 0
    monkeypatch.setattr(reproduction, "_LARGEST", size - 1)
    assert main(["compare", "mine", "--with", str(made)]) == 2
    assert "at most a gigabyte" in capsys.readouterr().err


@pytest.mark.parametrize(
    "record", ["{", "[]", "[" * 200_000, '{"study": "mine"}',
               '{"study": "mine", "tables": ["claims.csv"]}', '{"study": 1, "tables": {}}',
               '{"study": "mine", "tables": {"../claims.csv": "0", "claims.csv": "0"}}'],
)  # fmt: skip
def test_results_that_are_not_those_of_their_provenance_are_refused(pair, record, capsys):
    published, own, _ = pair
    with (own / "probing.csv").open("a") as table:
        table.write("\n")
    for content in ((own / "provenance.json").read_text(), record):
        (own / "provenance.json").write_text(content)
        assert main(["compare", "mine", "--with", str(own)]) == 2
        assert "each table must be the one whose sha256 it holds" in capsys.readouterr().err
    assert main(["compare", "mine", "--with", str(published)]) == 0


def test_a_refused_zip_is_called_by_its_own_name(pair, tmp_path, capsys):
    _, own, _ = pair
    (own / "probing.csv").write_text("changed,since\n")
    assert main(["compare", "mine", "--with", str(zipped(own, tmp_path / "theirs.zip"))]) == 2
    assert f"in {tmp_path / 'theirs.zip'} that is not so" in capsys.readouterr().err


def test_results_of_another_study_are_refused_and_its_name_moves_no_terminal(pair, capsys):
    _, own, _ = pair
    seal(own, study="other\x1b[31m")
    assert main(["compare", "mine", "--with", str(own)]) == 2
    assert "these are of 'other\\x1b[31m'" in capsys.readouterr().err


def test_what_has_other_tables_or_columns_is_no_rerun(pair):
    published, own, _ = pair
    results.write_csv(pd.read_csv(own / "probing.csv").drop(columns="value"), own / "probing.csv")
    seal(own)
    assert counts(pair)["outside"] == ROWS
    (own / "probing.csv").unlink()
    seal(own)
    assert reproduction.compared(published, own).sentence == "This was no rerun of the published study mine: no probing.csv."
    results.write_csv(pd.read_csv(own / "claims.csv").drop(columns="verdict"), own / "claims.csv")
    seal(own)
    assert len(reproduction.compared(published, own).verdicts) == len(VERDICTS)


def test_without_a_run_nothing_is_compared_and_an_unknown_study_is_answered_with_the_nearest(pair, tmp_path, capsys):
    shutil.rmtree(tmp_path / "runs")
    assert main(["compare", "mine"]) == main(["compare", "mien"]) == 2
    nothing, unknown = capsys.readouterr().err.splitlines()
    assert "Nothing was rerun: runs/mine/results holds no finished run" in nothing
    assert "Did you mean 'mine'?" in unknown


def page(monkeypatch) -> str:
    """Run the cells of the page "Did it reproduce?"; return what it shows."""
    shown = []
    monkeypatch.setattr(
        "IPython.display.display",
        lambda each, raw=False, **_: None if raw else shown.append(each.to_html() if hasattr(each, "to_html") else each.data),
    )
    names: dict[str, object] = {}
    for cell in re.findall(r"```\{code-cell\} python\n(.*?)```", (PROJECT / "book" / "reproduced.md").read_text(), flags=re.S):
        exec(re.sub(r"\A:tags:.*?\n", "", cell), names)
    return "\n".join(shown)


def test_the_page_says_first_that_nothing_was_rerun_or_whether_it_reproduced(pair, monkeypatch):
    _, _, change = pair
    assert page(monkeypatch).startswith("Yes, mine was reproduced")
    change("claims", "verdict", 1, lambda verdicts: "inconclusive")
    said = page(monkeypatch)
    assert said.startswith("No, mine was not reproduced")
    assert "<td>inconclusive</td>" in re.sub(r"<td[^>]*>", "<td>", said)
    monkeypatch.setenv("TRACING_UTILS_RESULTS", "published")
    assert page(monkeypatch).startswith("Nothing was rerun on this machine")


def test_every_published_study_of_the_paper_s_claims_equals_itself():
    for study in ("pocket", "pocket-tracingllm", "smollm2"):
        found = reproduction.compared(results.folder(study), results.folder(study))
        assert found.reproduced
        assert found.tables["equal"].equals(found.tables["cells"])
        assert found.judged > 50
