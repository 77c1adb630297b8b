"""Run one notebook through papermill, safely, and leave a record of it.

Rule: success is never read off a notebook. The notebook is run to a `.part` file, checked, renamed, and the
record is written last; where there is a record, its run is whole.

Public names: `key`, `suite_key`, `concepts_key`, `experiment_key`, `summary_key`, `study_key`, `library_key`, `book_key`,
`execute`, `run`, `discard_damaged`, `page`, `NotebookError`.
"""

import ast
import json
import logging
import os
import shutil
import tempfile
import time
from functools import cache
from importlib.metadata import version
from pathlib import Path

import jupytext
import nbformat

from .. import results
from ..checkpoints import activations, ledger, suites
from ..core import downloads
from ..core.errors import unknown
from ..core.paths import PROJECT
from ..statements import concepts
from . import keys
from .studies import Study, parameters

_ENDINGS = ("csv", "safetensors", "ipynb")
"""Of the files that a run leaves beside its record."""
# Numbers may change with these; a new version computes again.
_LIBRARIES = ("numpy", "pandas", "scikit-learn", "torch", "transformers")


class NotebookError(RuntimeError):
    """A cell of a notebook raised; the notebook is kept as `kept`."""

    def __init__(self, name: str, reason: str, kept: Path):
        """Name the notebook, the error's last line, and where the failed notebook lies."""
        super().__init__(f"{name} failed: {reason} The notebook with its error is kept as {kept}.")


def notebook_path(experiment: str) -> Path:
    """Return the path of an experiment's notebook."""
    path = PROJECT / "notebooks" / f"{experiment}.md"
    if not path.is_file():
        raise unknown("experiment", experiment, sorted(p.stem for p in path.parent.glob("*.md")))
    return path


@cache
def _code(experiment: str) -> str:
    """Return a hash of the code of an experiment: its notebook's cells and the modules they reach."""
    cells = [cell.source for cell in jupytext.read(notebook_path(experiment)).cells if cell.cell_type == "code"]
    return keys.of([*cells, keys.of_code("\n".join(cells))])


@cache
def _concepts_sha256(source: str, dimension: str) -> str:
    return concepts.load(source, dimension).sha256


@cache
def _libraries() -> dict[str, str]:
    return {name: version(name) for name in _LIBRARIES}


@cache  # what is made from all runs asks for all keys again
def key(study: Study, concept_set: str, experiment: str, revision: str) -> str:
    """Return a hash of all that decides the result: code, parameters, weights, statements, library versions.

    A fresh clone or a touched file keeps its key; a changed one gets another, in the next process.
    """
    checkpoints = [study.loaded[revision]] + ([study.loaded.chat] if experiment == "steering" else [])
    source = study.sets[concept_set]
    content = {
        "code": _code(experiment),
        "parameters": parameters(study, concept_set, experiment, revision) | {"suite": "", "concept_set": ""},
        "weights": [ledger.identity(checkpoint) for checkpoint in checkpoints],
        "tokenizers": [ledger.tokenizer_identity(checkpoint) for checkpoint in checkpoints],
        "statements": [_concepts_sha256(source, dimension) for dimension in study.dimensions_of(concept_set)],
        "libraries": _libraries(),
        "judge": _judge(study.toxicity_judge) if study.toxicity_judge and experiment == "steering" else [],
        "preferences": downloads.sha256(Path(study.preferences)) if study.preferences and experiment == "steering" else "",
    }
    return keys.of(content)


def _judge(name: str) -> list[str]:
    """Return the hashes of a classifier that lies in a folder; one on a hub is told by its name, a parameter."""
    return ledger.identity(suites.load(name).checkpoints[0]) if Path(name).is_dir() else []


def suite_key(study: Study) -> str:
    """Return a hash of the weights of all revisions of a study."""
    return keys.of([[name, ledger.identity(study.loaded[name])] for name in study.needed()])


def concepts_key(study: Study) -> str:
    """Return a hash of the statements of a study."""
    found = [[_concepts_sha256(study.sets[name], d) for d in study.dimensions_of(name)] for name in study.sets]
    return keys.of([found, study.statements])


def experiment_key(study: Study, experiment: str) -> str:
    """Return a hash of the keys of all runs of one experiment: what is made from all of them is made again with any."""
    return keys.of([key(study, name, experiment, revision) for name in study.sets for revision in study.traced(experiment)])


def summary_key(study: Study, name: str) -> str:
    """Return a hash of what decides one of `study.summaries()`: its module's code and all runs."""
    modules = {"reweighting": "experiments.mutual_information.estimates", "answers": "results", "claims": "claims.framework"}
    modules |= {"dynamics": "experiments.probing.dynamics"}
    runs = [] if name == "reweighting" else [experiment_key(study, experiment) for experiment in study.runs()]
    return keys.of([keys.of_code(f"import {keys.PACKAGE}.{modules[name]}"), runs, _libraries()])


def study_key(study: Study) -> str:
    """Return a hash of all that is published of a study."""
    return keys.of([suite_key(study), concepts_key(study), *(summary_key(study, name) for name in study.summaries())])


def library_key() -> str:
    """Return the version of the package that carries the chart libraries."""
    return version("vl-convert-python")


def book_key(study: Study) -> str:
    """Return a hash of what the book is built from, apart from the results of `study`, which are inputs of the build."""
    files = [PROJECT / name for name in ("_config.yml", "_toc.yml", "CHANGELOG.md")]
    for folder, made in (("book", {"runs", "vega.js"}), ("results", {study.name}), ("tracing_utils", {"__pycache__"})):
        files += [
            path for path in (PROJECT / folder).rglob("*") if path.is_file() and not made & set(path.relative_to(PROJECT).parts)
        ]
    return keys.of([[str(path.relative_to(PROJECT)), downloads.sha256(path)] for path in sorted(files) if path.exists()])


def _declared(notebook: nbformat.NotebookNode) -> set[str]:
    """Return the names the notebook's parameters cell sets."""
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    names = set()
    for cell in cells:
        for node in ast.parse(cell.source).body:
            if isinstance(node, ast.Assign):
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names.add(node.target.id)
    return names


def _tidied(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take out what differs between two equal runs, and hide the injected parameters from the page."""
    notebook.metadata.pop("papermill", None)
    for index, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.NotebookNode(tags=[*tags, "remove-cell"] if "injected-parameters" in tags else tags)
        cell.id = f"cell-{index}"
    return notebook


def execute(source: Path, values: dict, out: Path, failed: Path, timeout: int | None = None) -> float:
    """Run a notebook with parameters and write the executed one to `out`, by rename; return the seconds it took.

    Args:
        source: a jupytext notebook with a cell tagged `parameters`.
        values: the parameters; each must be declared there, or papermill would run with the defaults and
            file one model's results under another's name.
        out: where the executed notebook goes.
        failed: where it is kept if a cell raises.
        timeout: seconds a cell may take.

    Raises:
        ValueError: if a parameter is not declared.
        NotebookError: if a cell raises or takes too long, or its kernel dies.
    """
    import papermill  # noqa: PLC0415 - half a second that planning a run need not pay
    from nbclient.exceptions import CellTimeoutError  # noqa: PLC0415
    from papermill.exceptions import PapermillExecutionError  # noqa: PLC0415
    from traitlets.config import Config  # noqa: PLC0415

    notebook = jupytext.read(source)
    declared = _declared(notebook)
    for name in values:
        if name not in declared:
            raise unknown(f"parameter of {source.name}", name, sorted(declared))
    notebook.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part.ipynb")
    logging.getLogger("papermill").setLevel(logging.ERROR)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as short:
        nbformat.write(notebook, source_ipynb := Path(short) / "notebook.ipynb")
        # Kernels that run side by side collide on TCP ports; a socket in a private folder cannot.
        ipc = Config({"KernelManager": {"transport": "ipc", "ip": f"{short}/k"}}) if os.name == "posix" else Config()
        try:
            papermill.execute_notebook(
                str(source_ipynb), str(part), values, cwd=str(PROJECT), progress_bar=False, config=ipc, log_output=False,
                execution_timeout=timeout,
            )  # fmt: skip
        except (PapermillExecutionError, RuntimeError, CellTimeoutError) as error:
            failed.parent.mkdir(parents=True, exist_ok=True)
            if part.exists():
                os.replace(part, failed)
            if isinstance(error, PapermillExecutionError):
                reason = f"{error.ename}: {error.evalue}"
            elif isinstance(error, CellTimeoutError):
                reason = f"a cell must end within {timeout} seconds (`cell_timeout` of the study); one did not, and was ended."
            elif "died" in str(error):
                reason = "its kernel died; the system kills what takes too much memory."
            else:
                reason = f"{error}."
            raise NotebookError(f"{source.stem} ({values.get('revision', 'defaults')})", reason, failed) from None
    executed = nbformat.read(part, as_version=4)
    part.unlink()
    staged = out.with_suffix(".staged")
    nbformat.write(_tidied(executed), staged)
    os.replace(staged, out)
    return time.monotonic() - begun


def run(study: Study, concept_set: str, experiment: str, revision: str, activations: str, folder: Path) -> Path:
    """Run one experiment at one checkpoint; write `<revision>.csv`, `.safetensors`, `.ipynb` and, last, the record `.json`.

    Args:
        study: gives the parameters.
        concept_set: name of one of its sets.
        experiment: one of `studies.EXPERIMENTS`.
        revision: the checkpoint.
        activations: file of its activations (those of the chat model lie beside it), or empty to compute them
            in the notebook.
        folder: of the study's runs.

    Returns:
        The path of the record.
    """
    base = folder / concept_set / experiment / revision
    values = parameters(study, concept_set, experiment, revision)
    values |= {"activations_file": activations, "output": f"{base}.csv", "evidence_file": f"{base}.safetensors"}
    if experiment == "steering" and activations:
        values["target_activations_file"] = str(Path(activations).with_stem(study.loaded.chat.revision))
    if experiment == "steering" and study.loaded[revision] == study.loaded.chat:
        values["answers_file"] = str(base.with_name("answers.csv"))
    failed = folder / "failed" / f"{concept_set}-{experiment}-{revision}.ipynb"
    seconds = execute(notebook_path(experiment), values, Path(f"{base}.ipynb"), failed, study.cell_timeout)
    record = {"key": key(study, concept_set, experiment, revision), "parameters": values, "seconds": round(seconds, 1)}
    record["files"] = {ending: downloads.sha256(Path(f"{base}.{ending}")) for ending in _ENDINGS}
    part = Path(f"{base}.json.part")
    part.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(part, f"{base}.json")
    return Path(f"{base}.json")


def _as_recorded(record: Path) -> bool:
    """Return whether the files of one run are those its record was written for."""
    try:
        told = json.loads(record.read_text(encoding="utf-8"))["files"]
        return all(downloads.sha256(record.with_suffix(f".{ending}")) == told[ending] for ending in _ENDINGS)
    except (OSError, ValueError, KeyError):
        return False


def discard_damaged(study: Study, folder: Path) -> list[Path]:
    """Delete what earlier runs of a study left that is no longer as it was written, so that it is made again; return what.

    Nothing may be running there. What a run left half written needs no care: it has not got its name yet.
    """
    from ..checkpoints import hub  # noqa: PLC0415 - the hub's client takes a second to import

    records = (
        folder / name / kind / f"{revision}.json"
        for name in study.sets
        for kind in study.runs()
        for revision in study.traced(kind)
    )
    runs = [record for record in records if record.exists() and not _as_recorded(record)]
    found = [*runs, *(file for file in folder.glob("activations/*.safetensors") if not activations.whole(file))]
    found += [folder / "results" / name for name in results.damaged(folder / "results")]
    for weights in (folder / "weights" / revision for revision in study.on_hub()):
        if weights.is_dir() and not hub.whole(study.loaded[weights.name], weights):
            found.append(weights)
    published = results.folder(study.name)
    if not (published / "provenance.json").is_file() or results.damaged(published):
        found += [folder / "published"] if (folder / "published").exists() else []
    for path in found:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for record in runs:  # and all of its files, and what was made of them: Snakemake makes again only what something needs
        for ending in _ENDINGS:
            record.with_suffix(f".{ending}").unlink(missing_ok=True)
    if runs:
        shutil.rmtree(folder / "results", ignore_errors=True)
        (folder / "published").unlink(missing_ok=True)
    return found


def page(notebook: Path, out: Path) -> None:
    """Write an executed notebook as a page of the book, titled by its experiment and checkpoint."""
    executed = nbformat.read(notebook, as_version=4)
    title, _, rest = executed.cells[0].source.partition("\n")
    experiment = notebook.parent.name.replace("_", " ").capitalize()
    executed.cells[0].source = f"# {experiment} at {notebook.stem}\n\n*{title.lstrip('# ')}*\n{rest}"
    out.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(executed, out)
