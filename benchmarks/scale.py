"""What large studies take on a cluster, for the book's pages; write `plans.csv`, `scale.csv` and `stages.csv` of `results/`.

Usage: python -m benchmarks.scale
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from tracing_utils import experiments, results
from tracing_utils.core.paths import PROJECT
from tracing_utils.run import plan, processes, studies
from tracing_utils.run.studies import Study

PLANNED = ("pythia-70m", "pythia-160m", "smollm2-135m", "olmo-2-1b-early", "amber")
"""The studies that `book/rerun.md` compares."""

LARGE = ("amber-360",)
"""The studies that `book/scale.md` is about."""


@dataclass(frozen=True)
class Machines:
    """What a study is run on, and the rates assumed of it.

    Attributes:
        gpus: how many, over all machines.
        gpu: a key of `plan.GPUS`; each reaches `plan.UTILISATION` of its rate.
        cores: a GPU, for the notebooks that run no model.
        network: bytes a second that the site receives from the hub in all.
        disk: bytes a second that one GPU's machine writes or reads.
    """

    gpus: int
    gpu: str = "h100"
    cores: int = 16
    network: float = 100e6
    disk: float = 1e9


def totals(study: Study) -> dict[str, int | float]:
    """Return what a whole study takes, whatever it runs on.

    Returns:
        checkpoints; statements and tokens a checkpoint; download, activations and evidence in bytes, the disk at the peak
        with 1, 8 and 64 GPUs; flops of extraction; flops of steering, two for each parameter and token of the statements
        asked, on the part that settings are chosen on and on the test part; core_seconds of the notebooks that run no
        model, by what a published run took.
    """
    table = plan.costs(study)
    tokens = table["tokens"].iloc[0] / table["statements"].iloc[0]
    notebooks = plan.notebook_seconds(study, table)
    return {
        "checkpoints": len(table),
        "statements": int(table["statements"].iloc[0]),
        "tokens": int(table["tokens"].iloc[0]),
        **{name: float(table[name].sum()) for name in ("download", "activations", "evidence", "flops")},
        **{f"disk_{gpus}": plan._peak(table, gpus) for gpus in (1, 8, 64)},
        "steering_flops": 2 * tokens * sum(plan.model_operations(study, table, name) for name in study.runs()),
        "core_seconds": sum(seconds for name, seconds in notebooks.items() if not experiments.get(name).passes),
    }


def stages(total: dict[str, int | float], machines: Machines) -> dict[str, float]:
    """Return the seconds of each stage of a study; they overlap, so the slowest is the time of all, nearly.

    The weights are written, read to be checked by their hash, and read to be loaded; activations are written and read.

    Example:
        >>> total = {"download": 1e12, "activations": 0, "flops": 1e18, "steering_flops": 0, "core_seconds": 16e3}
        >>> stages(total, Machines(8, "h100"))["network"]
        10000.0
    """
    moved = 3 * total["download"] + 2 * total["activations"]
    rate = plan.GPUS[machines.gpu] * 1e12 * plan.UTILISATION
    return {
        "network": total["download"] / machines.network,
        "disk": moved / (machines.disk * machines.gpus),
        "GPU": (total["flops"] + total["steering_flops"]) / (rate * machines.gpus),
        "cores": total["core_seconds"] / (machines.cores * machines.gpus),
    }


def stage_table(total: pd.DataFrame) -> pd.DataFrame:
    """Return the stages of each study of a table of totals: with 1, 8 and 64 GPUs, on the usual network and on a fast one.

    Returns:
        The columns study; gpus, gpu, cores_a_gpu, network_rate, disk_rate, which are those of `Machines`; and those of `stages`.
    """
    rows = []
    for row in total.to_dict("records"):
        for network in (Machines.network, 10e9 / 8):
            for gpus in (1, 8, 64):
                machines = Machines(gpus, network=network)
                rates = {"cores_a_gpu": machines.cores, "network_rate": network, "disk_rate": machines.disk}
                rows.append({"study": row["study"], "gpus": gpus, "gpu": machines.gpu} | rates | stages(row, machines))
    return pd.DataFrame(rows)


def overview(planned: Sequence[Study], gpu: str) -> pd.DataFrame:
    """Return one row a study: what it downloads, holds on disk and computes, and how long a GPU takes for the activations.

    Args:
        planned: the studies.
        gpu: a key of `plan.GPUS`.
    """
    rows = []
    for study in planned:
        table = plan.costs(study)
        operations = float(table["flops"].sum())
        rows.append(
            {
                "study": study.name,
                "checkpoints": len(table),
                "statements": int(table["statements"].iloc[0]),
                "download": plan._size(float(table["download"].sum())),
                "disk": plan._size(plan._peak(table)),
                "TFLOP": operations / 1e12,
                "gpu": gpu,
                "gpu_time": plan._duration(operations / (plan.GPUS[gpu] * 1e12 * plan.UTILISATION)),
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    """Write the tables; the stages follow from the totals as they were written."""
    folder = PROJECT / "results"
    planned, large = ([studies.read(PROJECT / "studies" / f"{name}.yml") for name in names] for names in (PLANNED, LARGE))
    results.write_csv(overview(planned, "l4"), folder / "plans.csv")
    results.write_csv(pd.DataFrame([{"study": study.name} | totals(study) for study in large]), folder / "scale.csv")
    results.write_csv(stage_table(pd.read_csv(folder / "scale.csv")), folder / "stages.csv")


if __name__ == "__main__":
    sys.exit(processes.exit_code("benchmarks.scale", main))
