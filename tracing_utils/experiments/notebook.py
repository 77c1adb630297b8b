"""The notebook of an experiment, and the typed parameters that it declares.

Rule: what the run itself fills in (`FILLED`) is no option; every other parameter is one, and its value is the default.
papermill writes a run's values behind the cell tagged `parameters`. A long list may begin in cells tagged `options` above it.
"""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jupytext
import nbformat

from ..core.errors import unknown
from ..core.paths import PROJECT
from . import get

__all__ = ["FILLED", "Parameter", "options", "parameters", "parameters_of", "path", "source"]

FILLED = {
    "suite", "revision", "concept_set", "dimensions", "statements", "trust_remote_code", "activations_file",
    "target_activations_file", "output", "evidence_file",
}  # fmt: skip
"""Parameters that a run fills in from the study; so are the `<name>_file` of an experiment's `target_files`."""

_LISTS = ("options", "parameters")
_TYPES = ("str", "int", "float", "bool", "list[str]", "list[int]", "list[float]")


@dataclass(frozen=True)
class Parameter:
    """A parameter as a notebook declares it: `name: kind = default  # meaning`."""

    kind: str
    default: object
    meaning: str


def path(experiment: str) -> Path:
    """Return the path of an experiment's notebook."""
    file = PROJECT / "notebooks" / f"{experiment}.md"
    if not file.is_file():
        raise unknown("experiment", experiment, sorted(other.stem for other in file.parent.glob("*.md")))
    return file


def parameters(notebook: nbformat.NotebookNode, name: str = "a notebook") -> dict[str, Parameter]:
    """Return the parameters that a notebook declares, in its cells tagged `options` and `parameters`.

    Raises:
        ValueError: if one is no `name: type = literal` that a study file can write, or comes twice or too late.
    """
    listed = [(tag, cell.source) for cell in notebook.cells for tag in _LISTS if tag in cell.metadata.get("tags", [])]
    if "parameters" in (tags := [tag for tag, _ in listed])[:-1] or tags[-1:] == ["options"]:
        raise ValueError(
            f"{name}: one cell must be tagged `parameters`, and those tagged `options` stand above it, since a run's values are "
            f"written behind it; {', '.join(tags)} came."
        )
    code = "\n".join(source for _, source in listed)
    declared, lines = {}, code.splitlines()
    for node in ast.parse(code).body:
        kind = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else None
        try:
            default = ast.literal_eval(node.value) if kind in _TYPES else None
        except ValueError:
            default = None
        if default is None or node.target.id in declared:
            raise ValueError(
                f"{name}: a parameter must be written once, as `name: type = value  # what it is`, of type {', '.join(_TYPES)}; "
                f"`{ast.unparse(node)}` is not."
            )
        declared[node.target.id] = Parameter(kind, default, lines[node.end_lineno - 1].partition("  # ")[2])
    return declared


@cache
def source(experiment: str) -> nbformat.NotebookNode:
    """Return the notebook of an experiment as it is written, to be read and not changed."""
    return jupytext.read(path(experiment))


@cache
def parameters_of(experiment: str) -> dict[str, Parameter]:
    """Return the parameters that the notebook of an experiment declares."""
    return parameters(source(experiment), f"notebooks/{experiment}.md")


def options(experiment: str) -> dict[str, Parameter]:
    """Return the options of an experiment: those parameters of its notebook that no run fills in."""
    filled = FILLED | {f"{name}_file" for name in get(experiment).target_files}
    return {name: parameter for name, parameter in parameters_of(experiment).items() if name not in filled}
