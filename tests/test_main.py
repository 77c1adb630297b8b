"""The command line: what a user reads; what a user mistypes is in `test_bad_input`."""

import os
import re
import resource
import subprocess
import sys

import pytest

from tracing_utils.__main__ import _commands, main
from tracing_utils.core.evaluation import Estimate
from tracing_utils.core.paths import PROJECT
from tracing_utils.experiments.probing import controls, floors
from tracing_utils.run import jobs


def test_the_suites_are_listed_with_their_checkpoints(capsys):
    assert main(["suites"]) == 0
    said = capsys.readouterr().out
    assert "9 checkpoints, step0 to step4096; chat model: yes" in said


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
    monkeypatch.setattr(controls, "text_axes", lambda chosen: None)
    assert main(["concepts"]) == 0
    lines = capsys.readouterr().out.splitlines()
    counts = {"pocket": 5, "words": 5, "turn": 4, "tracingllm": 5, "corrected": 5, "world": 5, "world-never": 5}
    assert [line.split()[0] for line in lines[1:]] == [name for name, n in counts.items() for _ in range(n)]
    assert "904    452 (50%)" in lines[1]
    assert "CC0-1.0" in lines[1]
    assert "not in the cache: confaide.csv (fetch tracingllm)" in lines[16]


CHILD = """
import resource, runpy, sys
sys.argv = ["tracing_utils", *sys.argv[1:]]
try:
    runpy.run_module("tracing_utils", run_name="__main__")
finally:
    print(",".join(sorted(name.partition(".")[0] for name in sys.modules)), file=sys.stderr)
"""
SLOW = {"pandas", "numpy", "torch", "sklearn", "transformers", "huggingface_hub", "snakemake"}


def measured(code: str, *words: str) -> tuple[float, set[str], str]:
    """Run Python code; return the seconds of a processor that it takes, the modules it loads, and what it prints."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    *lines, modules = done.stderr.strip().splitlines()
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, set(modules.split(",")), done.stdout + "\n".join(lines)


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["prtrain"]])
def test_help_and_a_misspelt_word_wait_for_no_library(words):
    seconds, modules, printed = measured(CHILD, *words)
    assert "pretrain" in printed or "--study" in printed
    assert modules & SLOW == set()
    with_pandas, loaded, _ = measured(f"import pandas\n{CHILD}", *words)
    assert {"pandas", "numpy"} <= loaded & SLOW  # so that a library that is loaded is seen
    assert seconds < 0.5  # on the machine this was written on, 0.1, and with pandas 0.7
    assert with_pandas > 2 * seconds


def test_a_reader_who_closes_the_output_as_head_does_sees_no_error():
    words = [sys.executable, "-m", "tracing_utils", "suites"]
    command = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT)
    command.stdout.close()
    assert command.stderr.read() == ""
    assert command.wait() == 141
    assert subprocess.run(words, capture_output=True, cwd=PROJECT).returncode == 0


def test_each_command_is_in_the_readme_or_the_book_and_no_other():
    pages = [PROJECT / "README.md", *(PROJECT / "book").rglob("*.md")]
    named = {word for page in pages for word in re.findall(r"python -m tracing_utils (\w[\w-]*)", page.read_text())}
    assert named == set(_commands.choices)


def test_no_job_of_a_run_is_offered_as_a_command():
    assert set(jobs.JOBS) & set(_commands.choices) == {"ledger"}  # which lists, where the job writes a table
