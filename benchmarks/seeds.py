"""Train the pocket suite again from other seeds, up to step 1,024, and read each rung: how far do training runs differ?

Rule: the schedule is that of the whole training, so that a run is what the bundled suite might have been at that step.

Usage: python -m benchmarks.seeds OUT SEED ...
"""

import contextlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import yaml

from tracing_utils import results
from tracing_utils.core.paths import PROJECT
from tracing_utils.pocket import corpus, pretraining
from tracing_utils.run import processes

STEPS = (0, 128, 512, 1024)
"""Checkpoints that are read: of those up to the last of them, about every second one."""

BUNDLED = "pocket-ladder"
"""The study of the bundled suite, whose recipe has a seed too."""


class _ReachedError(Exception):
    """The last step that is wanted is there."""


def train(out: Path, parts: dict[str, list[str]], seed: int) -> None:
    """Train as the bundled suite was, from another seed, until the last of `STEPS` is saved; a killed run continues.

    Raises:
        ValueError: if `out` holds a run of another recipe or corpus.
    """
    last = out / f"step{STEPS[-1]}"

    def report(line: str) -> None:
        print(f"seed {seed}: {line}", flush=True)
        if last.exists():
            raise _ReachedError

    with contextlib.suppress(_ReachedError):
        pretraining.pretrain(out, parts, replace(pretraining.BASE_RECIPE, seed=seed), report)


def trace(out: Path, name: str) -> pd.DataFrame:
    """Run the ladder's study on the suite in `out`, and return its rows of the selected layer."""
    study = yaml.safe_load((PROJECT / "studies" / f"{BUNDLED}.yml").read_text(encoding="utf-8"))
    study |= {"suite": str(out), "revisions": [f"step{step}" for step in STEPS]}
    file = out.parent / f"{name}.yml"
    file.write_text(yaml.safe_dump(study), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "tracing_utils", "run", "--study", str(file)], cwd=PROJECT, check=True)
    return read(name)


def read(study: str) -> pd.DataFrame:
    """Return a study's accuracy at the selected layer, at each of `STEPS`."""
    table = results.read(study, "probing")
    wanted = (table["method"] == "selected layer") & (table["metric"] == "accuracy") & table["step"].isin(STEPS)
    return table.loc[wanted, ["concept_set", "dimension", "step", "value", "low", "high", "n"]]


def main(out: Path, seeds: Sequence[int]) -> None:
    """Write `results/pocket_seeds.csv`: the bundled run and one from each seed.

    Raises:
        ValueError: if a seed comes twice, is the bundled run's, or if there is none.
    """
    runs = {pretraining.BASE_RECIPE.seed: read(BUNDLED)}
    if not seeds or len({*runs, *seeds}) <= len(seeds):
        raise ValueError(
            f"Seeds must be others than the bundled run's ({', '.join(map(str, runs))}), each once; {list(seeds)} came."
        )
    parts, out = corpus.parts(print), out.resolve()
    for seed in seeds:
        train(out / f"seed-{seed}", parts, seed)
    for seed in seeds:
        runs[seed] = trace(out / f"seed-{seed}", f"pocket-seed-{seed}")
    table = pd.concat(rows.assign(run=seed) for seed, rows in runs.items())
    results.write_csv(table[["run", *table.columns.drop("run")]], PROJECT / "results" / "pocket_seeds.csv")


if __name__ == "__main__":
    sys.exit(processes.exit_code("benchmarks.seeds", lambda: main(Path(sys.argv[1]), [int(seed) for seed in sys.argv[2:]])))
