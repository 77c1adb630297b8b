"""The command line: what a user mistypes, and what a user reads."""

import pytest

from tracing_utils import controls
from tracing_utils.__main__ import main
from tracing_utils.evaluation import Estimate

PROBING = ["notebook", "studies/pocket.yml", "pocket", "probing", "step0", "", "runs"]


def study(folder, text):
    path = folder / "mine.yml"
    path.write_text(text)
    return str(path)


MISTAKES = {
    "a study that does not exist": (["run", "--study", "studies/poket.yml"], ["poket", "Did you mean 'studies/pocket.yml'?"]),
    "a suite": ("suite: pockt\nconcepts: pocket\n", ["Unknown suite 'pockt'", "Did you mean 'pocket'?"]),
    "a concept set": ("suite: pocket\nconcepts: pocet\n", ["Unknown concept set 'pocet'", "Did you mean 'pocket'?"]),
    "a dimension": (
        "suite: pocket\nconcepts: pocket\ndimensions: [privcy]\n",
        ["Unknown dimension 'privcy'", "Did you mean 'privacy'?"],
    ),
    "a revision": (
        "suite: pocket\nconcepts: pocket\nfeatured: [stp64]\n",
        ["Unknown revision of suite pocket 'stp64'", "Did you mean 'step64'?"],
    ),
    "an entry of the study": ("suite: pocket\nconcept: pocket\n", ["Unknown entry", "'concept'", "Did you mean 'concepts'?"]),
    "a missing entry": ("suite: pocket\n", ["must name its concepts"]),
    "a wrong type": ("suite: pocket\nconcepts: pocket\nseeds: many\n", ["seeds must be a positive whole number", "'many'"]),
    "an empty file": ("", ["must hold entries", "NoneType"]),
    "not YAML": ("suite: [pocket\n", ["must be a YAML file"]),
    "an experiment": ([*PROBING[:3], "probbing", *PROBING[4:]], ["Unknown experiment 'probbing'", "Did you mean 'probing'?"]),
    "a command": (["prtrain"], ["Unknown command 'prtrain'", "Did you mean 'pretrain'?"]),
    "a folder of statements": (["concepts", "no-such-folder"], ["Unknown concept set 'no-such-folder'"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_sentence_with_what_is_known_and_a_non_zero_exit(mistake, tmp_path, capsys):
    given, expected = MISTAKES[mistake]
    arguments = ["run", "--study", study(tmp_path, given)] if isinstance(given, str) else given
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    for words in expected:
        assert words in said


def test_the_suites_are_listed_with_their_checkpoints(capsys):
    assert main(["suites"]) == 0
    said = capsys.readouterr().out
    assert "16 checkpoints, step0 to step8192; chat model: yes" in said


def test_a_folder_of_statements_is_listed_with_its_floor(own_statements, capsys):
    assert main(["concepts", str(own_statements)]) == 0
    said = capsys.readouterr().out
    assert "privacy" in said
    assert "toxicity" not in said  # a dimension without a file is not listed


def test_a_warning_about_a_set_is_printed_below_it(own_statements, capsys):
    assert main(["concepts", str(own_statements)]) == 0
    said = capsys.readouterr().out
    assert "warning: " in said  # the statements differ in one word, which tells the label
    assert "words alone tell the two sides apart in 100% of the statements" in said


def test_without_a_name_every_set_that_is_here_is_listed_and_what_is_not_here_is_said(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACING_UTILS_CACHE", str(tmp_path))
    floor = {metric: Estimate(0.5, 0.4, 0.6, 600) for metric in ("accuracy", "auroc")}
    monkeypatch.setattr(controls, "lexical_floor", lambda chosen: floor)
    assert main(["concepts"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 3 * 5
    assert [line.split()[0] for line in lines[1:]] == ["pocket"] * 5 + ["tracingllm"] * 5 + ["corrected"] * 5
    assert "904    452 (50%)" in lines[1]
    assert "CC0-1.0" in lines[1]
    assert "not in the cache: confaide.csv (fetch tracingllm)" in lines[7]
