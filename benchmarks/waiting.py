"""How long somebody waits: for a first `make book` in a fresh clone, for a second, for the tests; write `waiting.csv`.

Rule: the wall clock, on a machine with nothing else to do; installation aside, but for `.ci/run`. Ends with an error if a
command fails, or leaves the clone changed. What is not asked for keeps its row. Where the time of the tests goes is put into
`profiles.csv`.

Usage: python -m benchmarks.waiting [WHAT ...]
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from xml.etree import ElementTree

import pandas as pd

from tracing_utils import results
from tracing_utils.core.paths import PROJECT

from . import profiles

OUT = Path(__file__).parent / "waiting.csv"
_JUNIT = "junit.xml"  # beside the clone
PARTS = 9
"""Parts of a profile that are named."""


class Ended(NamedTuple):
    """A command that has ended: its clone, when it began and ended (seconds since the epoch), and what it said of errors."""

    clone: Path
    begun: float
    end: float
    errors: str


def by_module(ended: Ended) -> dict[str, float]:
    """Return the seconds of each module of tests, fixtures included, summed over both workers."""
    spent: dict[str, float] = {}
    for case in ElementTree.parse(ended.clone.parent / _JUNIT).iter("testcase"):
        module = re.match(r"(?:.*\.)?test_\w+", case.get("classname"))[0]
        spent[module] = spent.get(module, 0.0) + float(case.get("time"))
    return spent


def by_stage(ended: Ended) -> dict[str, float]:
    """Return the seconds of each kind of job, and of each experiment's notebooks, by the records of Snakemake."""
    records = (json.loads(path.read_text()) for path in (ended.clone / ".snakemake" / "metadata").rglob("*") if path.is_file())
    jobs = {(record["shellcmd"], record["rule"], record["starttime"], record["endtime"]) for record in records}
    spent: dict[str, float] = {}
    for command, rule, begun, end in jobs:
        experiment = re.search(r" notebook \S+ \S+ (\w+)", command)
        stage = f"notebooks: {experiment[1].replace('_', ' ')}" if experiment else rule
        spent[stage] = spent.get(stage, 0.0) + end - begun
    return spent


def by_step(ended: Ended) -> dict[str, float]:
    """Return the seconds of installation, of the check and of the tests, by the times that bash writes before each command."""
    started = {step: float(at) for at, step in re.findall(r"^\++ ([\d.]+) make (check|test)$", ended.errors, flags=re.M)}
    installed = (ended.clone / ".venv" / ".ready").stat().st_mtime  # `make` touches it when all is installed
    return {
        "installation": installed - ended.begun,
        "check of style": started["test"] - installed,
        "make test": ended.end - started["test"],
    }


class Wait(NamedTuple):
    """What is run, the seconds asked for, what tells where the time went, and which of its parts is waited for by itself."""

    command: tuple[str, ...]
    asked: float
    parts: Callable[[Ended], dict[str, float]] | None = None
    within: tuple[tuple[str, float, Callable[[Ended], dict[str, float]]], ...] = ()


_TIMED = "PS4='+ $EPOCHREALTIME '; set -x; . .ci/run"  # bash takes PS4 from no environment where the user is root
BOOK = (sys.executable, "-m", "tracing_utils", "run", "--book")
WAITS = {
    "first make book": Wait(BOOK, 8 * 60, by_stage),
    "second make book": Wait(BOOK, 10),
    ".ci/run": Wait(("bash", "-c", _TIMED, ".ci/run"), 9 * 60, by_step, (("make test", 6 * 60, by_module),)),
}
"""In this order. The last one installs everything, which needs the network, and runs `make test`."""


def waited(waits: dict[str, Wait], out: Path = profiles.OUT) -> pd.DataFrame:
    """Run commands one after the other in a fresh clone of the last commit; return for each its seconds, by the clock.

    Columns: `what`, `seconds`, `asked`, `reached`. Where the time went is put into the table of profiles `out`.

    Raises:
        RuntimeError: if a command fails, or files that are tracked, or are not ignored, have changed afterwards.
    """
    rows = []
    with TemporaryDirectory() as folder:
        clone = Path(folder) / "project"
        subprocess.run(["git", "clone", "--quiet", PROJECT, clone], check=True)
        (Path(folder) / "shared").symlink_to(PROJECT.parent / "shared")  # other people's statements, for tests that read them
        environment = os.environ | {"PYTHONPATH": str(clone), "PYTEST_ADDOPTS": f"--junitxml={Path(folder) / _JUNIT}"}
        for name in ("PYTHONDONTWRITEBYTECODE", "OMP_NUM_THREADS"):  # as where nobody sets them
            environment.pop(name, None)
        for what, wait in waits.items():
            begun = time.time()
            done = subprocess.run(wait.command, cwd=clone, env=environment, capture_output=True, text=True)
            ended = Ended(clone, begun, time.time(), done.stderr)
            changed = subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True).stdout
            if done.returncode or changed:
                why = f"{done.returncode=}, {changed=}: {done.stdout[-3000:]} {done.stderr[-3000:]}"
                raise RuntimeError(f"{what} must succeed and change no file; {why}")
            seconds = ended.end - begun
            rows.append((what, round(seconds, 1), wait.asked, seconds <= wait.asked))
            print(*rows[-1], flush=True)
            spent = wait.parts(ended) if wait.parts else {}
            if spent:
                profiles.put(profiles.shares(what, spent, PARTS), out)
            for part, most, parts in wait.within:
                rows.append((part, round(spent[part], 1), most, spent[part] <= most))
                profiles.put(profiles.shares(part, parts(ended), PARTS), out)
    return pd.DataFrame(rows, columns=["what", "seconds", "asked", "reached"])


def write(asked: Sequence[str] = tuple(WAITS)) -> None:
    """Measure what is asked for."""
    waits = waited({what: WAITS[what] for what in asked})
    if OUT.exists():
        waits = pd.concat([(before := results.read_csv(OUT))[~before["what"].isin(waits["what"])], waits])
    results.write_csv(waits, OUT)


if __name__ == "__main__":
    write(sys.argv[1:] or tuple(WAITS))
