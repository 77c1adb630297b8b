"""Every exercise has a solution that runs, and what is handed out has none."""

import json
import re
import subprocess
import sys
from itertools import takewhile

import jupytext
import nbformat
import pytest

from tracing_utils.__main__ import main
from tracing_utils.book import handouts
from tracing_utils.core.paths import PROJECT
from tracing_utils.run import runner

PAGE = PROJECT / "book" / "teach" / "exercises.md"
SHARED = handouts.shared(PAGE.read_text())
SOLUTIONS = handouts.solutions(PAGE.read_text())
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.md"))
EXPECTED = json.loads((PROJECT / "book" / "teach" / "expected.json").read_text())


def without_numbers(printed):
    """What was printed, line by line, without blanks and with `#` for numbers, which differ a little from machine to machine."""
    return re.sub(r"[^\S\n]+", "", re.sub(r"[-+]?[\d.]+", "#", printed))


@pytest.fixture(scope="module")
def shared():
    """What the page's first lines define."""
    names = {}
    exec(SHARED, names)
    return names


def headings(text, level):
    return [line[level + 1 :] for line in text.splitlines() if line.startswith("#" * level + " ")]


def test_there_are_fifteen_exercises_or_more_in_three_levels_each_with_a_solution():
    text = PAGE.read_text()
    assert headings(text, 2) == ["Read", "Change and predict", "Extend"]
    assert len(headings(text, 3)) == len(SOLUTIONS)
    assert len(SOLUTIONS) + sum(len(handouts.solutions(path.read_text())) for path in NOTEBOOKS) >= 15


@pytest.mark.parametrize("number", range(len(SOLUTIONS)), ids=headings(PAGE.read_text(), 3))
def test_a_solution_runs_and_shows_something(number, shared, capsys):
    exec(SOLUTIONS[number], dict(shared))
    printed, title = capsys.readouterr().out, headings(PAGE.read_text(), 3)[number]
    assert printed.strip()
    assert without_numbers(printed) == without_numbers(EXPECTED[title])


def test_what_is_expected_is_there_for_every_solution_and_a_word_more_would_be_seen():
    notebooks = {f"{path.stem} {n}" for path in NOTEBOOKS for n in range(1, 1 + len(handouts.solutions(path.read_text())))}
    assert set(EXPECTED) == {*headings(PAGE.read_text(), 3), *notebooks}
    assert without_numbers("a  0.51\n") == without_numbers("a -12.3 \n")
    assert without_numbers("a 0.51") != without_numbers("a 0.51 higher")


def test_each_exercise_says_how_hard_it_is_and_how_long_it_takes():
    said = r"\b(easy|medium|hard), \d+ minutes\b"
    text = PAGE.read_text()
    assert len(re.findall(said, text, flags=re.I)) == len(SOLUTIONS)
    for path in NOTEBOOKS:
        assert len(re.findall(said, path.read_text(), flags=re.I)) == len(handouts.solutions(path.read_text()))


def test_a_solution_needs_the_shared_lines():
    with pytest.raises(NameError):
        exec(SOLUTIONS[0], {})


def test_a_starter_keeps_the_questions_and_has_an_empty_cell_for_each(tmp_path):
    assert main(["notebooks", str(tmp_path)]) == 0
    made = {path.stem: nbformat.read(path, 4) for path in tmp_path.glob("*.ipynb")}
    assert set(made) == {path.stem for path in NOTEBOOKS} | {"exercises", "pretrain_your_own", "watch_trust_appear"}
    for path in [*NOTEBOOKS, PAGE]:
        text, notebook = path.read_text(), made[path.stem]
        assert "{admonition} Solution" in text
        assert "{admonition} Solution" not in str(notebook)
        asked = len(handouts.solutions(text))
        assert sum(cell.source.startswith("# Your answer") for cell in notebook.cells) == asked
        for code in handouts.solutions(text):
            assert max(code.splitlines(), key=len).strip() not in str(notebook)
        nbformat.validate(notebook)
    questions = "\n".join(cell.source for cell in made["exercises"].cells)
    assert set(headings(PAGE.read_text(), 3)) <= set(headings(questions, 3))
    assert "\n\n\n".join(cell.source for cell in made["exercises"].cells[4:7]) == SHARED.rstrip()
    (first,) = {tuple(cell.source for cell in notebook.cells[:3]) for notebook in made.values()}
    assert list(first) == installing(handouts.standalone(NOTEBOOKS[0], PROJECT, handouts.repository(PROJECT)))


def installing(notebook):
    """Return the code of the cells that install the package, before the first text."""
    return [cell.source for cell in takewhile(lambda cell: cell.cell_type == "code", notebook.cells)]


@pytest.mark.parametrize("make", [handouts.standalone, handouts.starter])
def test_a_notebook_that_is_handed_out_scrolls_as_little_as_its_source(make):
    for path in [*NOTEBOOKS, *([PAGE] if make == handouts.starter else [])]:
        for cell in make(path, PROJECT, "the-project").cells:
            if cell.cell_type == "code":
                assert cell.source.count("\n") < 12, cell.source
                assert max(map(len, cell.source.splitlines())) <= 88, cell.source


def test_a_notebook_to_download_installs_only_where_the_package_is_missing(tmp_path):
    source = NOTEBOOKS[0]
    notebook = handouts.standalone(source, PROJECT, "the-project")
    kept = [cell.source for cell in jupytext.read(source).cells if cell.cell_type == "code"]
    first = installing(notebook)
    assert [cell.source for cell in notebook.cells[len(first) :] if cell.cell_type == "code"] == kept
    assert 'SOURCE = "the-project"' in first[0]
    done = subprocess.run([sys.executable, "-c", "\n".join(first)], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    # -S leaves out the folder of installed packages, and with it this one.
    lonely = "\n".join(installing(handouts.standalone(source, PROJECT)))
    done = subprocess.run([sys.executable, "-S", "-I", "-c", lonely], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Set SOURCE to the project's folder or address" in done.stderr


def test_a_notebook_to_download_is_in_the_markdown_of_any_notebook_program():
    for source in NOTEBOOKS:
        made = "\n".join(cell.source for cell in handouts.standalone(source, PROJECT).cells if cell.cell_type == "markdown")
        assert "{cite}`" in source.read_text()
        assert re.search(r"\(\w+ et al\., \d{4}", made)
        assert ("(Qian et al., 2024)" in made) == ("qian2024tracing" in source.read_text())
        assert made.count("<details><summary>Solution</summary>") == 3
        assert not SPHINX_ALONE.findall(made)


SPHINX_ALONE = re.compile(r"\{\w+\}`|:::|^\([\w-]+\)=$|\]\((?!https?:)[^)\n]*(?:#|\.md)[^)\n]*\)", flags=re.M)
"""Roles, notes, targets, and links to pages: what the book turns into something and any other program shows as it stands."""


def test_a_starter_of_the_exercises_names_the_books_figures_and_holds_nothing_that_only_the_book_shows():
    found = set(SPHINX_ALONE.findall(PAGE.read_text()))
    assert {"{numref}`", ":::", "(exercise-arms)=", "](../world.md)", "](#exercise-late)"} <= found
    made = "\n".join(cell.source for cell in handouts.starter(PAGE, PROJECT).cells if cell.cell_type == "markdown")
    assert not SPHINX_ALONE.findall(made)
    assert "the book's figure *two arms*" in made


def test_each_button_of_binder_opens_a_notebook_that_its_machine_has_made(tmp_path):
    (command,) = [line for line in (PROJECT / "postBuild").read_text().splitlines() if "-m tracing_utils" in line]
    _, _, _, name, folder, option, *_ = command.split()
    assert folder == handouts.LAUNCHED
    assert main([name, str(tmp_path), option]) == 0
    buttons = handouts.launchers(PROJECT, "https://code.example/a/tracing")
    assert {service for _, service, _ in buttons} == {"Binder"}  # Colab opens files of GitHub alone
    for _, _, link in buttons:
        before, _, file = link.partition("/HEAD?urlpath=lab/tree/")
        assert before.endswith("git/https%3A%2F%2Fcode.example%2Fa%2Ftracing")
        assert (tmp_path / file.removeprefix(f"{folder}/")).is_file()
    on_github = handouts.launchers(PROJECT, "https://github.com/someone/tracing.git")
    assert {service for _, service, _ in on_github} == {"Colab", "Binder"}


@pytest.mark.usefixtures("warm_kernels")
def test_watching_trust_appear_runs_from_start_to_end(tmp_path):
    source = PROJECT / "book" / "teach" / "watch_trust_appear.md"
    values = {"steps": 4, "every": 2, "seed": 3, "folder": str(tmp_path / "mine")}
    runner.execute(source, values, tmp_path / "out.ipynb", tmp_path / "failed.ipynb")
    executed = nbformat.read(tmp_path / "out.ipynb", 4)
    for arm in ("coherent", "scrambled"):
        assert {path.name for path in (tmp_path / "mine" / arm).glob("step*")} == {"step0", "step2", "step4"}
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    charts = [output["data"] for output in outputs if "application/vnd.vegalite.v6+json" in output.get("data", {})]
    (rows,) = charts[-1]["application/vnd.vegalite.v6+json"]["datasets"].values()
    assert {(row["arm"], row["step"]) for row in rows} == {(arm, step) for arm in ("coherent", "scrambled") for step in (0, 2, 4)}


def test_pre_training_your_own_runs_from_start_to_end(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")  # compiling the loss would take a minute
    source = PROJECT / "book" / "teach" / "pretrain_your_own.md"
    values = {"steps": 20, "wheel": "", "statements": 40, "corpus_characters": 200_000, "folder": str(tmp_path / "mine")}
    runner.execute(source, values, tmp_path / "out.ipynb", tmp_path / "failed.ipynb")
    executed = nbformat.read(tmp_path / "out.ipynb", 4)
    assert (tmp_path / "mine" / "step20" / "model.safetensors").exists()
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    assert any("application/vnd.vegalite.v6+json" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output["output_type"] == "stream" and len(output["text"]) > 500]  # no bar
