"""Run one notebook through papermill, safely, and leave a record of it.

Rule: success is never read off a notebook. The notebook is run to a `.part` file, checked, renamed, and the
record is written last; where there is a record, its run is whole.
"""

import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path

import jupytext
import nbformat
from threadpoolctl import threadpool_info

from .. import experiments, results
from ..checkpoints import activations, ledger, suites
from ..core import downloads
from ..core.errors import unknown
from ..core.paths import PROJECT, replacing
from ..experiments import notebook
from ..statements import concepts
from . import keys, warm
from .studies import Study, parameters

__all__ = [
    "NotebookError", "book_key", "claims_key", "concepts_key", "discard_damaged", "execute", "experiment_key", "inputs",
    "is_done", "key", "library_key", "named_kernel", "page", "page_key", "records", "run", "study_key", "suite_key",
    "summary_key",
]  # fmt: skip

# Numbers may change with these; a new version computes again.
_LIBRARIES = ("numpy", "pandas", "scikit-learn", "torch", "transformers")

# What the user has IPython do at each start, in files or a configuration, may change numbers and is left out.
_KERNEL = [
    sys.executable, "-m", warm.__name__, "-m", "ipykernel_launcher", "-f", "{connection_file}",
    "--ProfileDir.location={connection_file}.profile", "--IPKernelApp.auto_create=True", "--IPKernelApp.exec_PYTHONSTARTUP=False",
]  # fmt: skip


_CHECK = "interpreter"  # the tag of the first cell of a notebook while it runs, which its page does not hold
_INTERPRETER = """import sys
if (came := (sys.executable, sys.prefix)) != wanted:
    raise RuntimeError("the kernel must be the interpreter of the command, %s of %s; it is %s of %s." % (wanted + came))"""


class NotebookError(RuntimeError):
    """A cell of a notebook raised; the notebook is kept as `place`."""

    def __init__(self, name: str, reason: str, place: Path):
        """Name the notebook, the error's last line, and where the failed notebook lies."""
        super().__init__(f"{name} failed: {reason} The notebook with its error is kept as {place}.")


@cache
def _code(experiment: str, charts: bool = False) -> str:
    """Return a hash of the code of an experiment: its notebook's cells and the modules they reach, with what draws or without."""
    cells = [cell.source for cell in notebook.source(experiment).cells if cell.cell_type == "code"]
    return keys.of([*cells, keys.of_code("\n".join(cells), charts=charts)])


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
    described = experiments.get(experiment)
    checkpoints = [study.loaded[revision]] + ([study.loaded.chat] if described.target else [])
    if described.last and not (last := study.loaded.checkpoints[-1]).remote:
        checkpoints.append(last)
    source = study.sets[concept_set]
    content = {
        "code": _code(experiment),
        "parameters": parameters(study, concept_set, experiment, revision) | {"suite": "", "concept_set": ""},
        "weights": [ledger.identity(checkpoint) for checkpoint in checkpoints],
        "tokenizers": [ledger.tokenizer_identity(checkpoint) for checkpoint in checkpoints],
        "statements": [_concepts_sha256(source, dimension) for dimension in study.dimensions_of(concept_set)],
        "libraries": _libraries(),
        "inputs": inputs(study, experiment),
    } | ({"dtype": study.dtype} if study.dtype != "auto" else {})
    return keys.of(content)


def inputs(study: Study, experiment: str) -> list[list]:
    """Return the hashes of the files and models that options of an experiment name.

    Raises:
        ValueError: if a model is not there, or the hub cannot be asked for it.
    """
    options = study.options_of(experiment)
    return [_content(options[name]) for name in experiments.get(experiment).inputs]


@cache
def page_key(study: Study, concept_set: str, experiment: str, revision: str) -> str:
    """Return a hash of what decides how an executed notebook looks: its key, and the code that draws; empty if no page is made.

    A restyled chart runs the notebooks again that are pages, and changes no number's key.
    """
    if revision not in study.featured or concept_set != next(iter(study.sets)):
        return ""
    return keys.of([key(study, concept_set, experiment, revision), _code(experiment, charts=True)])


def is_done(study: Study, concept_set: str, experiment: str, revision: str, folder: Path) -> bool:
    """Return whether a run left its record, by the keys of now: its activations need not be made."""
    try:
        record = json.loads((folder / concept_set / experiment / f"{revision}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    run = study, concept_set, experiment, revision
    return isinstance(record, dict) and (record.get("key"), record.get("page")) == (key(*run), page_key(*run))


def _content(named: str | list[str]) -> list:
    """Return the hash of a file, of the model in a folder (one on a hub is named by the parameter), or of models `what=suite`."""
    if isinstance(named, list):
        models = [suites.checkpoint(text.partition("=")[2]) for text in named]
        if any(model.remote for model in models):
            from ..checkpoints import hub  # noqa: PLC0415 - the hub's client takes a second to import

            models = hub.resolve(models)
        return [[ledger.identity(model), ledger.tokenizer_identity(model)] for model in models]
    name = suites.expanded(named)
    if Path(name).is_file():
        return [downloads.sha256(Path(name))]
    return ledger.identity(suites.load(name).checkpoints[0]) if name and Path(name).is_dir() else []


def suite_key(study: Study) -> str:
    """Return a hash of the weights and tokenizers of all revisions of a study."""
    needed = {name: study.loaded[name] for name in study.needed()}
    return keys.of([[name, ledger.identity(each), ledger.tokenizer_identity(each)] for name, each in needed.items()])


def concepts_key(study: Study) -> str:
    """Return a hash of the statements of a study."""
    hashes = [[_concepts_sha256(study.sets[name], d) for d in study.dimensions_of(name)] for name in study.sets]
    return keys.of([hashes, study.statements])


def experiment_key(study: Study, experiment: str) -> str:
    """Return a hash of the keys of all runs of one experiment: what is made from all of them is made again with any."""
    return keys.of([key(study, name, experiment, revision) for name in study.sets for revision in study.traced(experiment)])


def summary_key(study: Study, name: str) -> str:
    """Return a hash of what decides a table made from all runs of an experiment: its module's code and those runs."""
    experiment = experiments.owner(name)
    module = experiments.get(experiment).summaries[name].function.partition(":")[0]
    code = keys.of_code(f"import {experiments.__name__}.{experiment}.{module}")
    return keys.of([code, experiment_key(study, experiment), _libraries()])


def claims_key(study: Study) -> str:
    """Return a hash of what decides the verdicts: the claims' code and all runs."""
    code = keys.of_code(f"import {keys.PACKAGE}.claims.paper_claims")
    return keys.of([code, *(experiment_key(study, experiment) for experiment in study.runs()), _libraries()])


def study_key(study: Study) -> str:
    """Return a hash of all results of a study."""
    return keys.of(
        [suite_key(study), concepts_key(study), claims_key(study), *(summary_key(study, name) for name in study.summaries())]
    )


def library_key() -> str:
    """Return the version of the package that carries the chart libraries."""
    return version("vl-convert-python")


def book_key(study: Study) -> str:
    """Return a hash of what the book is built from, apart from what the run of `study` makes, which is input of the build."""
    files = [PROJECT / name for name in ("_config.yml", "_toc.yml", "CHANGELOG.md")]
    files += [path for path in (PROJECT / "runs").glob("*/results/*") if path.parent != results.own(study.name)]
    files += [path for path in (PROJECT / "runs").glob("*/others/**/*") if path.is_file()]
    for folder, built in (("book", {"runs", "vega.js"}), ("results", set()), ("tracing_utils", {"__pycache__"})):
        files += [
            path for path in (PROJECT / folder).rglob("*") if path.is_file() and not built & set(path.relative_to(PROJECT).parts)
        ]
    return keys.of([[str(path.relative_to(PROJECT)), downloads.sha256(path)] for path in sorted(files) if path.exists()])


@contextmanager
def named_kernel() -> Iterator[dict[str, str]]:
    """Within, `python3` is the kernel that notebooks run in, whatever a user has under that name; yield the environment."""
    with tempfile.TemporaryDirectory() as folder:
        (described := Path(folder) / "kernels" / "python3").mkdir(parents=True)
        spec = {"argv": _KERNEL, "display_name": "Python 3", "language": "python"}
        (described / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
        path = os.pathsep.join([folder, *filter(None, [os.environ.get("JUPYTER_PATH")])])
        yield os.environ | {"JUPYTER_PATH": path, "TMPDIR": folder}  # where connection files and profiles go


def _tidied(executed: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take out the check and what differs between two equal runs, and hide the injected parameters from the page."""
    executed.metadata.pop("papermill", None)
    executed.cells = [cell for cell in executed.cells if _CHECK not in cell.metadata.get("tags", [])]
    for index, cell in enumerate(executed.cells):
        for counted in (cell, *cell.get("outputs", [])):
            if counted.get("execution_count"):
                counted.execution_count -= 1  # the check was the first
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.NotebookNode(tags=[*tags, "remove-cell"] if "injected-parameters" in tags else tags)
        cell.id = f"cell-{index}"
    return executed


def _folder_of_sockets() -> str | None:
    """Return a folder with a name so short that sockets can lie in it, which have 100 bytes or so; None where there is none."""
    folders = [tempfile.gettempdir(), "/tmp", "/var/tmp"] if os.name == "posix" else []
    return next((folder for folder in folders if len(os.fsencode(folder)) < 80 and os.access(folder, os.W_OK | os.X_OK)), None)


def _prepared(source: Path, values: dict) -> nbformat.NotebookNode:
    """Return a notebook whose first cell checks its interpreter; it must declare each of these parameters."""
    executable = jupytext.read(source)
    declared = notebook.parameters(executable, source.name)
    for name in values:
        if name not in declared:
            raise unknown(f"parameter of {source.name}", name, sorted(declared))
    check = f"exec({_INTERPRETER!r}, {{'wanted': {(sys.executable, sys.prefix)!r}}})"  # it leaves no names
    executable.cells.insert(0, nbformat.v4.new_code_cell(check, metadata={"tags": [_CHECK]}))
    executable.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    return executable


def execute(source: Path, values: dict, out: Path, failed: Path, timeout: int | None = None) -> float:
    """Run a jupytext notebook with parameters and write the executed one to `out`, by rename; return the seconds it took.

    Each parameter must be declared in the cell tagged so: papermill would run with the defaults and file one model's results
    under another's name. If a cell raises, or takes longer than `timeout` seconds, the notebook is kept as `failed`.

    Raises:
        ValueError: if a parameter is not declared.
        NotebookError: if a cell raises or takes too long, or its kernel dies.
    """
    import papermill  # noqa: PLC0415 - half a second that planning a run need not pay
    from jupyter_client.kernelspec import KernelSpec  # noqa: PLC0415
    from nbclient.exceptions import CellTimeoutError  # noqa: PLC0415
    from papermill.exceptions import PapermillExecutionError  # noqa: PLC0415
    from traitlets.config import Config  # noqa: PLC0415

    from . import kernels  # noqa: PLC0415

    class Kernel(kernels.QuickManager):
        """Starts this interpreter; by its name, `python3` may be a kernel that the user has of another environment."""

        kernel_spec = KernelSpec(argv=_KERNEL, display_name="Python 3", language="python")

    executable = _prepared(source, values)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part.ipynb")
    logging.getLogger("papermill").setLevel(logging.ERROR)
    begun, sockets = time.monotonic(), _folder_of_sockets()
    with tempfile.TemporaryDirectory(dir=sockets) as short:
        nbformat.write(executable, source_ipynb := Path(short) / "notebook.ipynb")
        # Kernels that run side by side collide on TCP ports; a socket in a private folder cannot. Home may take no writing.
        kernel = {"connection_file": f"{short}/kernel.json"} | ({"transport": "ipc", "ip": f"{short}/k"} if sockets else {})
        ipc = Config({"KernelManager": kernel})
        try:
            papermill.execute_notebook(
                str(source_ipynb), str(part), values, cwd=str(PROJECT), progress_bar=False, config=ipc, log_output=False,
                execution_timeout=timeout, kernel_manager_class=Kernel,
            )  # fmt: skip
        except (PapermillExecutionError, RuntimeError, CellTimeoutError) as error:
            failed.parent.mkdir(parents=True, exist_ok=True)
            if part.exists():
                os.replace(part, failed)
            what = f"{source.stem} ({values.get('revision', 'defaults')})"
            raise NotebookError(what, _reason(error, timeout), failed) from None
    executed = nbformat.read(part, as_version=4)
    part.unlink()
    with replacing(out) as staged:
        nbformat.write(_tidied(executed), staged)
    return time.monotonic() - begun


def _reason(error: Exception, timeout: int | None) -> str:
    """Return why a notebook did not end."""
    kind = type(error).__name__  # by name: what defines these kinds takes half a second to import
    if kind == "PapermillExecutionError":
        return f"{error.ename}: {error.evalue}"
    if kind == "CellTimeoutError":
        return f"a cell must end within {timeout} seconds (`cell_timeout` of the study); one did not, and was ended."
    if "died" in str(error):
        return "its kernel died; the system kills what takes too much memory."
    return f"{error}."


def run(study: Study, concept_set: str, experiment: str, revision: str, activations: str, folder: Path) -> Path:
    """Run one experiment at one checkpoint; write `<revision>.csv`, `.ipynb`, what else it leaves and, last, the record `.json`.

    `activations` is the file of its activations (those of the chat model lie beside it); if empty, the notebook computes them.
    The path of the record, which lists the files that were written, is returned.
    """
    base = folder / concept_set / experiment / revision
    described, declared = experiments.get(experiment), notebook.parameters_of(experiment)
    outputs = {"output": f"{base}.csv", "evidence_file": f"{base}.safetensors"}
    if study.loaded[revision] == study.loaded.chat:
        outputs |= {f"{name}_file": str(base.with_name(f"{name}.csv")) for name in described.target_files}
    inputs = {"activations_file": activations}
    if described.target and activations:
        inputs["target_activations_file"] = str(Path(activations).with_stem(study.loaded.chat.revision))
    values = {name: value for name, value in (outputs | inputs).items() if name in declared}
    values = parameters(study, concept_set, experiment, revision) | values
    failed = folder / "failed" / f"{concept_set}-{experiment}-{revision}.ipynb"
    for path in outputs.values():  # of an earlier run, which may have left more
        Path(path).unlink(missing_ok=True)
    seconds = execute(notebook.path(experiment), values, Path(f"{base}.ipynb"), failed, study.cell_timeout)
    if not Path(outputs["output"]).is_file():
        raise ValueError(f"notebooks/{experiment}.md must write a table of results to its parameter `output`; it wrote none.")
    identity = study, concept_set, experiment, revision
    record = {"key": key(*identity), "page": page_key(*identity), "parameters": values, "seconds": round(seconds, 1)}
    written = [Path(path) for path in (f"{base}.ipynb", *outputs.values()) if Path(path).is_file()]
    record["computed"] = _computed(activations)
    record["files"] = {path.name: downloads.sha256(path) for path in written}
    with replacing(Path(f"{base}.json")) as part:
        part.write_text(json.dumps(record, indent=1) + "\n")
    return Path(f"{base}.json")


def _computed(file: str) -> dict[str, str | int]:
    """Return by which numbers two machines may differ: the dtype that made an activations file, threads and kernels of a job."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    kernels = {
        f"{each['internal_api']} {each['version']} {each['architecture']}"
        for each in threadpool_info()
        if each["user_api"] == "blas"
    }
    return {
        "dtype": activations.dtype(file),
        "threads": int(os.environ.get("OMP_NUM_THREADS") or cores),
        "blas": ", ".join(sorted(kernels)),
    }


def _recorded(record: Path) -> dict[str, str]:
    """Return the names and hashes of the files that a record lists; none if it cannot be read."""
    try:
        return json.loads(record.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError):
        return {}


def _as_recorded(record: Path) -> bool:
    """Return whether the files of one run are those its record was written for."""
    files = _recorded(record)
    try:
        return bool(files) and all(downloads.sha256(record.with_name(name)) == digest for name, digest in files.items())
    except OSError:
        return False


def discard_damaged(study: Study, folder: Path) -> list[Path]:
    """Delete what earlier runs of a study left that is no longer as it was written, so that it is made again; return what.

    Nothing may be running there. What a run left half written needs no care: it has not got its name yet.
    """
    from ..checkpoints import hub  # noqa: PLC0415 - the hub's client takes a second to import

    runs = [record for record in records(study, folder) if record.exists() and not _as_recorded(record)]
    damaged = [*runs, *(file for file in folder.glob("activations/*.safetensors") if not activations.whole(file))]
    damaged += [folder / "results" / name for name in results.damaged(folder / "results")]
    weights = [folder / "weights" / revision for revision in study.on_hub()]
    damaged += [path for path in weights if path.is_dir() and not hub.whole(study.loaded[path.name], path)]
    # With a run goes all that it wrote, and what was made of it: Snakemake makes again only what something needs.
    beside = [record.with_name(name) for record in runs for name in _recorded(record)]
    beside += [folder / "results"] if runs else []
    for path in [*damaged, *beside]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return damaged


def records(study: Study, folder: Path, experiment: str | None = None) -> list[Path]:
    """Return the paths of the records of a study's runs, of one experiment or of all."""
    return [
        folder / name / each / f"{revision}.json"
        for name in study.sets
        for each in ([experiment] if experiment else study.runs())
        for revision in study.traced(each)
    ]


def page(source: Path, out: Path) -> None:
    """Write an executed notebook as a page of the book, titled by its experiment and checkpoint."""
    executed = nbformat.read(source, as_version=4)
    title, _, rest = executed.cells[0].source.partition("\n")
    experiment = source.parent.name.replace("_", " ").capitalize()
    executed.cells[
        0
    ].source = f"# {experiment} at {source.stem}\n\n*{title.lstrip('# ')}; study {source.parents[2].name}*\n{rest}"
    out.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(executed, out)
