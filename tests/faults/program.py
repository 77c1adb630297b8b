"""The program as its user has it: a copy of the project with a small study, its command, and what the command leaves."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tracing_utils import results
from tracing_utils.core.paths import PROJECT

STOPPED = "Stopped; what was finished is kept; the same command continues.\n"
_MARK = "TRACING_UTILS_RUN"


PROBING = {"seeds": 1, "protocols": ["corrected"]}
"""Options of probing that take little time."""


class Program:
    """A copy of what a run needs, in a folder of its own, with the studies that `study` writes."""

    def __init__(self, folder: Path, suite: Path, statements: Path, revisions: tuple[str, ...]):
        self.folder, self.cache, self.starts = folder / "project", folder / "cache", 0
        if self.folder.exists():
            return
        for name in ("tracing_utils", "notebooks", "profiles"):
            shutil.copytree(PROJECT / name, self.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(PROJECT / "Snakefile", self.folder)
        for name in (*revisions, "tokenizer"):
            shutil.copytree(suite / name, self.folder / "tiny" / name)
        shutil.copytree(statements, self.folder / "mine")

    def study(self, name: str = "small", **more) -> None:
        """Write a study that takes as little as the experiments allow: thirty pairs, one dimension."""
        content = {"suite": "tiny", "concepts": "mine", "probing": PROBING, "mutual_information": {"examples": 40}} | more
        (self.folder / f"{name}.yml").write_text(json.dumps(content))  # which is YAML too

    def plant(self, cell: str, experiment: str = "probing") -> None:
        """Put code at the end of a notebook's first cell behind its parameters."""
        path = self.folder / "notebooks" / f"{experiment}.md"
        path.write_text(path.read_text().replace("vega.enable()", f"{cell}\nvega.enable()"))

    def environment(self, **more: str) -> dict[str, str]:
        own = {"PYTHONPATH": str(self.folder), "TRACING_UTILS_CACHE": str(self.cache), "OMP_NUM_THREADS": "1"}
        return os.environ | own | more

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        """Start the command, or behind `job` a job of a run, in a process group of its own, as a shell does; return it."""
        words = arguments or ("run", "--study", "small.yml", "--cores", "2")
        program = ["tracing_utils.run.jobs", *words[1:]] if words[0] == "job" else ["tracing_utils", *words]
        command = [sys.executable, "-m", *program]
        self.starts += 1
        log = (self.folder / f"said{self.starts}.txt").open("w")
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment(**environment), stdout=log, stderr=log, process_group=0
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Run the command to its end; return its exit code and all it said."""
        code = self.start(*arguments, **environment).wait()
        return code, self.said()

    def said(self) -> str:
        """Return what the command that was started last has said so far."""
        return (self.folder / f"said{self.starts}.txt").read_text()

    def sentence(self) -> str:
        """Return the last line the command said, without the folder it ran in."""
        line = (self.said().strip().splitlines() or [""])[-1]
        return re.sub(r" +", " ", line.replace(f"{self.folder}/", "").replace(str(self.folder), "."))

    def processes(self) -> list[psutil.Process]:
        """Return all that works for a run here, apart from the command itself."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(_MARK, "").partition(":")[2].startswith(str(self.folder)):
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def kernel(self) -> psutil.Process | None:
        """Return the kernel of a notebook that is at work on a cell; its name is that of the module it was forked for."""
        for process in self.processes():
            with suppress(psutil.Error):
                if process.name().startswith("ipykernel") and process.cpu_times().user > 0.7:  # starting takes less
                    return process
        return None

    def job(self, command: str) -> psutil.Process | None:
        return self._process(f"tracing_utils.run.jobs {command}")

    def _process(self, words: str) -> psutil.Process | None:
        for process in self.processes():
            try:
                if words in " ".join(process.cmdline()) and "python" in process.name():
                    return process
            except psutil.Error:
                continue
        return None

    def tables(self, study: str = "small") -> dict[str, bytes]:
        """Return the results of the runs, apart from the seconds they took and the folder they lie in."""
        made = self.folder / "runs" / study / "results"
        assert results.damaged(made) == []  # each table is the one whose hash the provenance holds
        found = {path.name: path.read_bytes() for path in sorted(made.glob("*.csv"))}
        found = {name: re.sub(rb"/[^,\"]*/project\b", b".", content) for name, content in found.items()}
        if (record := made / "provenance.json").exists():
            told = json.loads(record.read_text())
            own = {"notebook_seconds": sorted(told["notebook_seconds"]), "tables": sorted(told["tables"])}
            found["provenance.json"] = json.dumps(told | own).encode()
        return found

    def finished(self, study: str = "small") -> dict[str, int]:
        """Return when each finished run of a notebook was recorded."""
        records = (self.folder / "runs" / study).glob("mine/*/*.json")
        return {f"{path.parent.name} {path.stem}": path.stat().st_mtime_ns for path in records}

    def jobs_finished(self) -> Counter:
        """Return how often Snakemake, in all its runs here, has seen the job of each rule finish; each rule has one job here."""
        logs = (self.folder / ".snakemake" / "log").glob("*.log")
        return Counter(rule for log in logs for rule in re.findall(r"Finished jobid: \d+ \(Rule: (\w+)\)", log.read_text()))

    def like(self, other: Path) -> None:
        """Put here what runs have left in the folder of another program."""
        for name in ("runs", ".snakemake"):
            shutil.copytree(other / name, self.folder / name)

    def forget(self) -> None:
        """Take away all that runs have left."""
        for name in ("runs", ".snakemake", "book"):
            shutil.rmtree(self.folder / name, ignore_errors=True)


def wait_for(what: Callable, running: subprocess.Popen, seconds: float = 900):
    """Return what `what` gives as soon as it gives something; the command must be running until then."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := what():
            return found
        assert running.poll() is None, f"the command ended early, with {running.returncode}"
        time.sleep(0.1)
    raise AssertionError("what was waited for did not come")


def gone(program: Program, seconds: float = 60) -> bool:
    """Return whether nothing works for a run any more, within some seconds."""
    until = time.monotonic() + seconds
    while (left := program.processes()) and time.monotonic() < until:
        time.sleep(0.1)
    return not left


def kill(*processes: subprocess.Popen | psutil.Process) -> None:
    for process in processes:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.Error:
            continue


@contextmanager
def disk(folder: Path, size: str, *options: str):
    """Mount a small disk of its own at `folder`; give a function that makes it larger."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join((f"size={size}", *options)), "none", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small disk can be mounted by root only, and is not here")

    def change(*to: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{','.join(to)}", folder], check=True)

    try:
        yield change
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
