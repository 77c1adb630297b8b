"""Every notebook keeps its contract, runs alone, and its solutions run."""

import ast
import re

import jupytext
import nbformat
import pandas as pd
import pytest

from tracing_utils import experiments, results
from tracing_utils.book import vega
from tracing_utils.core.paths import PROJECT
from tracing_utils.experiments import notebook
from tracing_utils.run import runner, studies

NOTEBOOKS = sorted((runner.PROJECT / "notebooks").glob("*.md"))
LESSONS = [PROJECT / "book" / "teach" / f"{name}.md" for name in ("watch_trust_appear", "pretrain_your_own")]
OPTIONS = {
    "probing": {"seeds": 1},
    "mutual_information": {"examples": 40},
    "steering": {"layers": [0, 1], "doses": [-1.0, 2.0]},
}


def code_cells(path):
    return [cell for cell in jupytext.read(path).cells if cell.cell_type == "code"]


def solutions(path):
    """Return the code of the folded solutions."""
    blocks = re.findall(r":::\{admonition\} Solution\n:class: dropdown\n(.*?)\n:::", path.read_text(), flags=re.S)
    return ["\n".join(re.findall(r"```python\n(.*?)```", block, flags=re.S)) for block in blocks]


def test_each_experiment_has_one_name_everywhere():
    for experiment in experiments.names():
        assert (PROJECT / "notebooks" / f"{experiment}.md").exists()
        assert (PROJECT / "book" / f"{experiment}.md").exists()
        assert list((PROJECT / "tests" / "experiments" / experiment).glob("test_*.py"))
        assert list((PROJECT / "results").glob(f"*/{experiment}.csv"))
    assert {path.stem for path in NOTEBOOKS} == set(experiments.names())


WIDEST, LONGEST = 88, 12
"""Most characters a line and lines a cell: what a screen of 1280 pixels shows without scrolling, and a learner at a glance."""


def too_wide(code):
    return [line for line in code.splitlines() if len(line) > WIDEST]


def test_the_limits_see_a_wide_line_and_pass_one_that_just_fits():
    assert too_wide("a = 1\n" + "b" * WIDEST) == []
    assert too_wide("a = 1\n" + "b" * (WIDEST + 1)) == ["b" * (WIDEST + 1)]


@pytest.mark.parametrize("path", [*NOTEBOOKS, *LESSONS], ids=lambda path: path.stem)
def test_a_notebook_is_short_and_leaves_the_machine_alone(path):
    cells = code_cells(path)
    for cell in cells:
        assert cell.source.count("\n") < LONGEST, cell.source
    assert [line for code in (*(cell.source for cell in cells), *solutions(path)) for line in too_wide(code)] == []
    text = "\n".join(cell.source for cell in cells)
    assert len(text.splitlines()) <= 160
    for forbidden in ("!pip", "%pip", "sys.path", "filterwarnings", "results.row", "rows.append", "inspect."):
        assert forbidden not in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_parameter_is_typed_and_explained(path):
    cells = [cell for cell in code_cells(path) if {"options", "parameters"} & set(cell.metadata.get("tags", []))]
    assert [cell.metadata["tags"] for cell in cells][-1] == ["parameters"]
    for cell in cells:
        lines = cell.source.splitlines()
        for node in ast.parse(cell.source).body:
            assert isinstance(node, ast.AnnAssign), ast.unparse(node)
            assert re.search(r"  # \w", lines[node.end_lineno - 1]), ast.unparse(node)


def a_notebook(*cells):
    made = [nbformat.v4.new_code_cell(source, metadata={"tags": [tag]}) for tag, source in cells]
    return nbformat.v4.new_notebook(cells=made)


def test_a_long_list_of_parameters_may_begin_in_cells_above_and_not_go_on_below():
    first, last = ("options", "doses: int = 2  # how many"), ("parameters", 'output: str = ""  # where to')
    assert list(notebook.parameters(a_notebook(first, last))) == ["doses", "output"]
    assert list(notebook.parameters(a_notebook(last))) == ["output"]
    for cells in ((last, first), (first,), (last, first, last)):
        with pytest.raises(ValueError, match=f"behind it; {', '.join(tag for tag, _ in cells)} came"):
            notebook.parameters(a_notebook(*cells))


@pytest.mark.parametrize("code", ["a: int = 1\na: int = 2", "a: int", "a: int = 1 + b", "a.b: int = 1", "a = 1", "a: set = {1}"])
def test_what_is_no_parameter_that_a_study_can_set_is_refused(code):
    assert notebook.parameters(a_notebook(("parameters", "a: int = 1")))["a"].default == 1
    with pytest.raises(ValueError, match="a parameter must be written once"):
        notebook.parameters(a_notebook(("parameters", code)))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_study_gives_a_notebook_only_parameters_it_declares(path):
    given = studies.parameters(studies.Study("s", "pocket", ("pocket",)), "pocket", path.stem, "step0")
    assert set(given) <= set(notebook.parameters_of(path.stem))


@pytest.mark.usefixtures("warm_kernels")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_on_its_own_with_its_solutions_and_saves_a_tidy_table(path, suite_folder, own_statements, tmp_path):
    assert len(solutions(path)) == 3
    with_solutions = tmp_path / path.name
    cells = "\n\n".join(f"```{{code-cell}} python\n{code}\n```" for code in solutions(path))
    with_solutions.write_text(path.read_text() + "\n\n" + cells + "\n")
    study = studies.Study("s", str(suite_folder), (str(own_statements),), dimensions=("privacy",), options=OPTIONS)
    values = studies.parameters(study, own_statements.name, path.stem, "step1")
    values |= {"output": str(tmp_path / "table.csv")}
    if keeps_evidence := "evidence_file" in notebook.parameters_of(path.stem):
        values |= {"evidence_file": str(tmp_path / "evidence.safetensors")}
    runner.execute(with_solutions, values, tmp_path / "out.ipynb", tmp_path / "failed.ipynb")
    table = pd.read_csv(tmp_path / "table.csv")
    assert list(table.columns[: len(results.COLUMNS)]) == list(results.COLUMNS)
    assert set(table["dimension"]) == {"privacy"}
    finite = table[table["low"].notna() & table["high"].notna()]
    assert len(finite) == len(table)
    assert (finite["low"] <= finite["value"] + 1e-6).mean() > 0.9
    assert (tmp_path / "evidence.safetensors").exists() == keeps_evidence
    outputs = [o for cell in nbformat.read(tmp_path / "out.ipynb", 4).cells for o in cell.get("outputs", [])]
    assert any("saved" in o.get("text", "") for o in outputs)
    drawn = [o["data"] for o in outputs if vega.MIME in o.get("data", {})]
    assert drawn and all("image/png" in data for data in drawn)
