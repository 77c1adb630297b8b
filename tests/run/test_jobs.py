"""The jobs of a run: a job is called by its name, each of its words is read as its parameter says."""

import re

import pandas as pd
import pytest

from tracing_utils.core.paths import PROJECT
from tracing_utils.run import jobs


def test_the_snakefile_starts_every_job_and_none_that_is_not_there():
    started = re.findall(r"-m tracing_utils\.run\.jobs (\w+) ", (PROJECT / "Snakefile").read_text())
    assert set(started) == set(jobs.JOBS)


def test_a_job_without_its_words_or_of_another_name_gets_one_sentence(capsys):
    assert jobs.main([]) == jobs.main(["notbook"]) == jobs.main(["ledger"]) == jobs.main(["page", "a", "b", "c"]) == 2
    empty, misspelt, few, many = capsys.readouterr().err.splitlines()
    assert "Unknown job of a run ''" in empty
    assert "Did you mean 'notebook'?" in misspelt
    assert "takes 2 words, study out; 0 came" in few
    assert "takes 2 words, notebook out; 3 came" in many


@pytest.mark.parametrize("n", [1, 3])
def test_files_may_be_as_many_as_there_are(tmp_path, n):
    table = PROJECT / "results" / "pocket" / "probing.csv"
    assert jobs.main(["collect", str(tmp_path / "out.csv"), *[str(table)] * n]) == 0
    assert len(pd.read_csv(tmp_path / "out.csv")) == n * len(pd.read_csv(table))


def test_answers_of_all_sets_become_one_table_as_they_were_written(tmp_path, suite_folder, own_statements):
    other = own_statements.rename(own_statements.with_name("another"))
    own_statements.mkdir()
    for file in other.iterdir():
        (own_statements / file.name).write_bytes(file.read_bytes())
    study = tmp_path / "two.yml"
    study.write_text(f"suite: {suite_folder}\nconcepts: [{own_statements}, {other}]\n")
    for name in (own_statements.name, other.name):
        (tmp_path / name / "steering").mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "steering" / "answers.csv").write_text(f"set,after\n{name},NA\n")
    assert jobs.main(["summary", str(study), "answers", str(tmp_path), str(tmp_path / "answers.csv")]) == 0
    assert (tmp_path / "answers.csv").read_text() == f"set,after\n{own_statements.name},NA\n{other.name},NA\n"
