"""Goal 8: what a notebook takes beside its own computation: the job, the kernel, the imports, and the end.

Rule: the wall clock is read, since processes are started; both ways take turns, so that a busy machine slows both alike.

Usage: python -m benchmarks.starting NOTEBOOK OUT, which a way runs
"""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import jupytext

from tracing_utils import experiments
from tracing_utils.core.paths import PROJECT
from tracing_utils.experiments import notebook
from tracing_utils.run import runner, warm

from .measure import Row, Timed, paired, row

SECONDS = 1.0
"""Most that a notebook may take beside its own computation."""


def beginning(experiment: str, folder: Path) -> Path:
    """Write an experiment's notebook up to its imports and its chart theme, and nothing of its computation; return the file."""
    read, out = notebook.read(experiment), folder / f"{experiment}.md"
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
            found = row(8, what, against, done, lambda a, b: float(a != b), target=float("nan"), tolerance=0.0, note=note)
            rows.append(replace(found, reached=found.ours_seconds <= SECONDS and found.agreement == 0))
    return rows


def _run(source: Path, environment: dict[str, str]) -> Timed:
    out = source.with_suffix(".ipynb")
    environment = environment | {"PYTHONWARNINGS": "ignore:IProgress not found"}  # as the job of a notebook says
    begun = time.monotonic()
    command = [sys.executable, "-m", warm.__name__, "-m", __name__, str(source), str(out)]
    subprocess.run(command, env=environment, cwd=PROJECT, check=True)
    return Timed(time.monotonic() - begun, out.read_bytes())


if __name__ == "__main__":
    runner.execute(Path(sys.argv[1]), {}, Path(sys.argv[2]), Path(sys.argv[2]).with_suffix(".failed"))
