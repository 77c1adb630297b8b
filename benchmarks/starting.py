"""Goal 8: what a notebook takes beside its own computation: the job, the kernel, the imports, and the end.

Rule: the wall clock is read, since processes are started; both ways take turns, so that a busy machine slows both alike.

Usage: python -m benchmarks.starting NOTEBOOK OUT [MARKS], which a way runs; MARKS is a file for the times at which stages end
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import jupytext
import numpy as np
from papermill.clientwrap import PapermillNotebookClient

from tracing_utils import experiments
from tracing_utils.core.paths import PROJECT
from tracing_utils.experiments import notebook
from tracing_utils.run import runner, warm

from .measure import Row, Timed, paired, row

SECONDS = 1.0
"""Most that a notebook may take beside its own computation."""


def beginning(experiment: str, folder: Path) -> Path:
    """Write an experiment's notebook up to its imports and its chart theme, and nothing of its computation; return the file."""
    read, out = notebook.source(experiment), folder / f"{experiment}.md"
    last = next(place for place, cell in enumerate(read.cells) if "from tracing_utils" in cell.source)
    read.cells = read.cells[: last + 1]
    read.cells[last].source += "\n\nvega.enable()"
    jupytext.write(read, out, fmt="md:myst")
    return out


def goal(pairs: int = 5) -> list[Row]:
    """Return a row for each experiment."""
    rows = []
    with TemporaryDirectory() as name, warm.server(dict(os.environ)) as served:
        folder = Path(name)
        for experiment in experiments.names():
            source = beginning(experiment, folder)
            _run(source, served)  # the server imports at the first job

            def ours(_part: int, source=source) -> Timed:
                return _run(source, served)

            def theirs(_part: int, source=source) -> Timed:
                return _run(source, dict(os.environ))

            done = paired(ours, theirs, pairs)
            note = f"seconds of the wall clock; agreement: 1 if the executed notebooks differ; asked are {SECONDS:g} s"
            what, against = f"fixed cost of a notebook, {experiment}", "a job and a kernel started anew"
            compared = row(8, what, against, done, lambda a, b: float(a != b), target=float("nan"), tolerance=0.0, note=note)
            rows.append(replace(compared, reached=compared.ours_seconds <= SECONDS and compared.agreement == 0))
    return rows


STAGES = (
    "the job: its start and our modules", "papermill, before the kernel", "start of the kernel", "the cells: our modules",
    "end of the kernel", "papermill and tidying, after the kernel", "end of the job",
)  # fmt: skip
"""What follows one another in a notebook's fixed cost."""


def stages(pairs: int = 3) -> dict[str, float]:
    """Return the median seconds of each of the `STAGES`, by the clock, over forked notebooks of all experiments."""
    spent = []
    with TemporaryDirectory() as name, warm.server(dict(os.environ)) as served:
        marks = Path(name) / "marks.json"
        for source in [beginning(experiment, Path(name)) for experiment in experiments.names()]:
            _run(source, served)  # the server imports at the first job
            for _ in range(pairs):
                begun = time.monotonic()
                _run(source, served, str(marks))
                spent.append(np.diff([begun, *json.loads(marks.read_text()), time.monotonic()]))
    return dict(zip(STAGES, np.median(spent, axis=0).tolist(), strict=True))


def _run(source: Path, environment: dict[str, str], *words: str) -> Timed:
    out = source.with_suffix(".ipynb")
    environment = environment | {"PYTHONWARNINGS": "ignore:IProgress not found"}  # as the job of a notebook says
    begun = time.monotonic()
    command = [sys.executable, "-m", warm.__name__, "-m", __name__, str(source), str(out), *words]
    subprocess.run(command, env=environment, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
    return Timed(time.monotonic() - begun, out.read_bytes())


def _marked(name: str, marks: list[float]) -> None:
    """Let a method of papermill's client note when it begins and when it ends."""
    method = getattr(PapermillNotebookClient, name)

    def noting(*args, **kwargs):
        marks.append(time.monotonic())
        try:
            return method(*args, **kwargs)
        finally:
            marks.append(time.monotonic())

    setattr(PapermillNotebookClient, name, noting)


def main(source: Path, out: Path, file: str = "") -> None:
    """Run a notebook as a run does; if asked, write when it, papermill's client and the cells in it began and ended."""
    marks = [time.monotonic()]
    if file:
        for name in ("execute", "papermill_execute_cells"):
            _marked(name, marks)
    runner.execute(source, {}, out, out.with_suffix(".failed"))
    if file:
        Path(file).write_text(json.dumps([*marks, time.monotonic()]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
