"""The command line: what a user reads; what a user mistypes is in `test_bad_input`."""

from tracing_utils.__main__ import main
from tracing_utils.core.evaluation import Estimate
from tracing_utils.experiments.probing import floors


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
    monkeypatch.setattr(floors, "lexical_floor", lambda chosen: floor)
    assert main(["concepts"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 3 * 5
    assert [line.split()[0] for line in lines[1:]] == ["pocket"] * 5 + ["tracingllm"] * 5 + ["corrected"] * 5
    assert "904    452 (50%)" in lines[1]
    assert "CC0-1.0" in lines[1]
    assert "not in the cache: confaide.csv (fetch tracingllm)" in lines[7]
