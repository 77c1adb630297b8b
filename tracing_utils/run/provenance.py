"""What a study's results were made from: commit, machine, dtypes, versions, weights, statements, seeds, durations."""

import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from .. import results
from ..core.paths import PROJECT, replacing
from . import runner
from .studies import Study

__all__ = ["processor", "write"]

_LIBRARIES = (
    "altair", "jupyter-book", "jupytext", "numpy", "pandas", "papermill", "scikit-learn", "scipy", "snakemake",
    "tokenizers", "torch", "transformers",
)  # fmt: skip


def _commit() -> str:
    """Return the commit of the project, with a mark if tracked files were changed since; empty outside git."""
    git = ["git", "-C", str(PROJECT)]
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    outside = ["status", "--porcelain", "--untracked-files=no", "--", ".", ":!results"]
    changed = subprocess.run([*git, *outside], capture_output=True, text=True).stdout.strip()
    return f"{head} (with changes)" if head and changed else head


def processor() -> str:
    """Return the name of this machine's processor, or its kind where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or platform.machine())


def write(study: Study, folder: Path, path: Path) -> None:
    """Write `provenance.json` from ledger and concept table, which lie beside it, and the records of the runs in `folder`."""
    seconds, computed = {}, []
    for experiment in study.runs():
        records = [json.loads(path.read_text()) for path in runner.records(study, folder, experiment)]
        seconds[experiment] = round(sum(record["seconds"] for record in records), 1)
        computed += [record.get("computed", {}) for record in records]
    tables = [f"{name}.csv" for name in ("ledger", "concepts", *study.runs(), *study.summaries(), "claims")]
    ledger = results.read_csv(path.with_name("ledger.csv"))
    statements = results.read_csv(path.with_name("concepts.csv"))
    content = {
        "study": study.name,
        "commit": _commit(),
        "python": platform.python_version(),
        "machine": {"system": platform.system(), "processor": processor(), "cores": len(os.sched_getaffinity(0))},
        "computed": {name: sorted({each[name] for each in computed if each.get(name)}) for name in ("dtype", "threads", "blas")},
        "libraries": {name: version(name) for name in _LIBRARIES},
        "weights": dict(zip(ledger["revision"], ledger["sha256"], strict=True)),
        "statements": {
            f"{name}/{dimension}": digest
            for name, dimension, digest in zip(*(statements[c] for c in ("concept_set", "dimension", "sha256")), strict=True)
        },
        "options": {experiment: study.options_of(experiment) for experiment in study.runs()},
        "trust_remote_code": study.trust_remote_code,
        "notebook_seconds": seconds,
        "tables": {name: results.digest(path.with_name(name)) for name in tables},
    }
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=1) + "\n")
