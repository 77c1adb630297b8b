"""Let the real Snakemake run a study's worth of jobs that fail and are killed as a plan says; write `results/many_jobs.csv`.

Each checkpoint is four jobs, as in a study: its activations, which go once three notebooks have read them. A job only writes
its start into a journal, and then its output, unless the plan says that its first try fails, or is killed half way. Once a
share of the jobs is done Snakemake is killed with all that it started, as if its machine had died, and started again.

Usage: python -m benchmarks.many_jobs [JOBS]
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from base64 import b64decode
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pandas as pd

from tracing_utils.core.paths import PROJECT

OUT = PROJECT / "results" / "many_jobs.csv"
NOTEBOOKS = ("probing", "mutual_information", "steering")
FAILING, KILLED, DIES_AT = 0.05, 0.01, 0.5
"""Shares of the jobs whose first try fails or is killed, and the share done when Snakemake is killed."""

_RULES = """
CHECKPOINTS, NOTEBOOKS = range({checkpoints}), {notebooks}

rule all:
    input: expand("{{c}}.{{n}}", c=CHECKPOINTS, n=NOTEBOOKS)

rule activations:
    output: temp("{{c}}.acts")
    shell: "sh job.sh {{output}}"

rule notebook:
    input: "{{c}}.acts"
    output: "{{c}}.{{n}}"
    wildcard_constraints: n="|".join(NOTEBOOKS)
    shell: "sh job.sh {{output}}"
"""

_JOB = """
echo "start $1" >> journal
first=$(grep -cx "start $1" journal)
if [ "$first" = 1 ]; then
  if grep -qx "$1" failing; then exit 1; fi
  if grep -qx "$1" killed; then printf half > "$1"; kill -9 $$; fi
fi
echo whole > "$1"
echo "end $1" >> journal
"""


def plan(jobs: list[str]) -> dict[str, set[str]]:
    """Return the jobs whose first try fails, and those whose first try is killed: by the hash of a name, so always the same."""
    share = {job: int(sha256(job.encode()).hexdigest()[:8], 16) / 16**8 for job in jobs}
    failing = {job for job, at in share.items() if at < FAILING}
    return {"failing": failing, "killed": {job for job, at in share.items() if at >= FAILING and at < FAILING + KILLED}}


def _snakemake(folder: Path) -> subprocess.Popen:
    settings = ["--workflow-profile", str(PROJECT / "profiles" / "laptop"), "--cores", "64", "--retries", "2", "--quiet", "all"]
    with (folder / "log").open("a") as log:
        command = [sys.executable, "-m", "snakemake", *settings]
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)


def _journal(folder: Path, word: str) -> Counter:
    lines = (folder / "journal").read_text().splitlines() if (folder / "journal").exists() else []
    return Counter(line.partition(" ")[2] for line in lines if line.startswith(f"{word} "))


def _unrecorded(folder: Path) -> set[str]:
    """Return the jobs that Snakemake has started and has not recorded as finished; it keeps a file for each."""
    return {b64decode(path.name).decode() for path in (folder / ".snakemake" / "incomplete").glob("*")}


def _until_it_dies(folder: Path, jobs: int) -> None:
    """Run Snakemake until a share of the jobs is done, then kill it with what it started."""
    running = _snakemake(folder)
    while running.poll() is None and sum(_journal(folder, "end").values()) < DIES_AT * jobs:
        time.sleep(0.5)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()


def run(jobs: int, folder: Path) -> dict[str, int]:
    """Run so many jobs in a folder; return what was counted.

    Returns:
        jobs; failing and killed as planned; starts in the journal; done_before_death; under_way: jobs that Snakemake had
        not recorded as finished when it was killed, of which `written` had written their output already; restarted: those
        of them that were started again; twice: all other jobs that ended more than once, or were started again after they
        had ended; lost: outputs that are missing or half written, and one more if Snakemake reports a failure; again: starts
        of a last call, when all is done; seconds by the clock.
    """
    checkpoints = jobs // (1 + len(NOTEBOOKS))
    names = [f"{c}.{part}" for c in range(checkpoints) for part in ("acts", *NOTEBOOKS)]
    planned = plan(names)
    (folder / "Snakefile").write_text(_RULES.format(checkpoints=checkpoints, notebooks=NOTEBOOKS))
    (folder / "job.sh").write_text(_JOB)
    for kind, names_of in planned.items():
        (folder / kind).write_text("".join(f"{name}\n" for name in sorted(names_of)))
    begun = time.monotonic()
    _until_it_dies(folder, len(names))
    under_way, tried, done = _unrecorded(folder), _journal(folder, "start"), _journal(folder, "end")
    code = _snakemake(folder).wait()
    seconds, starts, ends = time.monotonic() - begun, _journal(folder, "start"), _journal(folder, "end")
    _snakemake(folder).wait()
    outputs = [folder / name for name in names if not name.endswith(".acts")]
    more = {name for name in names if starts[name] > tried[name]}
    return {
        "jobs": len(names), "failing": len(planned["failing"]), "killed": len(planned["killed"]),
        "starts": sum(starts.values()), "done_before_death": len(done), "under_way": len(under_way),
        "written": len(under_way & done.keys()), "restarted": len(under_way & more),
        "twice": len({name for name in names if ends[name] > 1 or (name in done and name in more)} - under_way),
        "lost": sum(not path.exists() or path.read_text() != "whole\n" for path in outputs) + (code != 0),
        "again": sum(_journal(folder, "start").values()) - sum(starts.values()), "seconds": round(seconds),
    }  # fmt: skip


def main(jobs: int = 10_000) -> None:
    """Run, print and write."""
    with tempfile.TemporaryDirectory() as folder:
        row = run(jobs, Path(folder))
    pd.DataFrame([row]).to_csv(OUT, index=False)
    print(row)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
