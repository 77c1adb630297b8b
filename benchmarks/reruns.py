"""Rerun a published study with one thing changed at a time, and count the cells that differ: where do differences come from?

Rule: nothing but the named thing changes. The first rerun changes nothing; what it finds is what another day changes.

Usage: python -m benchmarks.reruns
"""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import yaml

from tracing_utils import results
from tracing_utils.core.paths import PROJECT
from tracing_utils.run import processes, reproduction

STUDY = "world-coherent"
"""What is rerun: one of the two studies that `make book` runs."""


@dataclass(frozen=True)
class Change:
    """One thing that a rerun does differently.

    Attributes:
        environment: variables that are set.
        study: keys of the study's file.
        threads: of each job.
    """

    environment: dict[str, str] = field(default_factory=dict)
    study: dict[str, str] = field(default_factory=dict)
    threads: int = 1


CHANGES = {
    "nothing": Change(),
    "kernels of another processor (AVX2)": Change(
        {"OPENBLAS_CORETYPE": "Haswell", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    ),
    "two threads in a job": Change(threads=2),
    "dtype bfloat16": Change(study={"dtype": "bfloat16"}),
}
"""By what is changed. The kernels are those that numpy, torch and oneDNN take where a processor has no AVX-512."""


def prepare(copy: Path, change: Change) -> list[str]:
    """Change a copy of the project, and return the command that runs the study there."""
    file = copy / "studies" / f"{STUDY}.yml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text(encoding="utf-8")) | change.study), encoding="utf-8")
    words = [sys.executable, "-m", "tracing_utils", "run", "--study", str(file)]
    if change.threads > 1:
        profile = copy / "profiles" / "threads"
        profile.mkdir()
        settings = yaml.safe_load((copy / "profiles" / "laptop" / "config.yaml").read_text(encoding="utf-8"))
        rules = dict.fromkeys(("describe", "activations", "notebook", "summary", "claims"), change.threads)
        settings |= {"cores": change.threads, "set-threads": [f"{rule}={threads}" for rule, threads in rules.items()]}
        (profile / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        words += ["--profile", str(profile)]
    return words


def rerun(copy: Path, change: Change) -> Path:
    """Run the study in a fresh clone of the last commit, and return the folder of its results."""
    subprocess.run(["git", "clone", "--quiet", PROJECT, copy], check=True)
    subprocess.run(prepare(copy, change), cwd=copy, env=os.environ | {"PYTHONPATH": str(copy)} | change.environment, check=True)
    return copy / "runs" / STUDY / "results"


def counted(changed: str, comparison: reproduction.Comparison) -> dict[str, str | int]:
    """Return one row: what was changed, the cells of all tables by what became of them, the verdicts, and what computed them."""
    cells = {name: int(comparison.tables[name].sum()) for name in reproduction.COUNTS}
    verdicts = {"verdicts": comparison.judged, "verdicts that differ": len(comparison.verdicts)}
    return {"changed": changed} | cells | verdicts | comparison.machines["own"].reindex(["dtype", "threads", "blas"]).to_dict()


def main() -> None:
    """Write `results/reruns.csv`, one row a change."""
    rows = []
    for name, change in CHANGES.items():
        with TemporaryDirectory() as folder:
            rows.append(counted(name, reproduction.compare(STUDY, rerun(Path(folder) / "copy", change))))
        results.write_csv(pd.DataFrame(rows), PROJECT / "results" / "reruns.csv")


if __name__ == "__main__":
    sys.exit(processes.exit_code("benchmarks.reruns", main))
