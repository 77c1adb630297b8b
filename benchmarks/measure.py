"""Run two ways of doing the same thing in turn, and say in one row how much faster one is and how far the results agree.

Rule: what is compared is the processor time of one thread inside a process, on the same inputs, in pairs that take turns at
going first; a busy machine slows both alike. A row without an agreement is not a comparison.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from tracing_utils.run import provenance

_LIBRARIES = ("torch", "transformers", "numpy", "scipy", "scikit-learn", "tracing-trustworthiness")


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        goal: number of the goal (see "What it costs").
        what: ours.
        against: the other way.
        ours_seconds: median processor time of ours.
        theirs_seconds: the same of the other way.
        ratio: median over the pairs of what `unit` says.
        low: least of any pair.
        high: greatest.
        unit: `times faster`, `share of the bound`, or what grows with what.
        pairs: how many.
        agreement: how far the results differ.
        tolerance: how far they may.
        target: of the ratio.
        reached: whether ratio and agreement are as asked; None where no target is set.
        note: what the agreement measures, and what else a reader must know.
    """

    goal: int
    what: str
    against: str
    ours_seconds: float
    theirs_seconds: float
    ratio: float
    low: float
    high: float
    unit: str
    pairs: int
    agreement: float
    tolerance: float
    target: float
    reached: bool | None
    note: str


COLUMNS = tuple(field.name for field in fields(Row))


class Timed(NamedTuple):
    """Processor seconds of one run and what it returned."""

    seconds: float
    result: object


def seconds(way: Callable[[], object]) -> Timed:
    """Run once."""
    begun = time.process_time()
    result = way()
    return Timed(time.process_time() - begun, result)


def paired(ours: Callable[[int], Timed], theirs: Callable[[int], Timed], pairs: int) -> list[tuple[Timed, Timed]]:
    """Run both for each part, the one that goes first changing from pair to pair."""
    done = []
    for part in range(pairs):
        first = [way(part) for way in ((ours, theirs) if part % 2 == 0 else (theirs, ours))]
        done.append((first[0], first[1]) if part % 2 == 0 else (first[1], first[0]))
    return done


def apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the median difference over the median size: a few entries of trained models are a thousand times the rest."""
    return float(np.median(np.abs(np.asarray(ours) - theirs)) / np.median(np.abs(theirs)))


def row(
    goal: int,
    what: str,
    against: str,
    done: Sequence[tuple[Timed, Timed]],
    differ: Callable[[object, object], float],
    *,
    target: float,
    tolerance: float,
    note: str,
    unit: str = "times faster",
) -> Row:
    """Return the row of paired runs; a missed tolerance is a missed goal."""
    a, b = (np.array([pair[side].seconds for pair in done]) for side in (0, 1))
    ratios, agreement = b / a, max(float(differ(x.result, y.result)) for x, y in done)
    ratio = float(np.median(ratios))
    spread = float(ratios.min()), float(ratios.max())
    reached = None if np.isnan(target) else bool(ratio >= target and agreement <= tolerance)
    times = float(np.median(a)), float(np.median(b))
    return Row(goal, what, against, *times, ratio, *spread, unit, len(done), agreement, tolerance, target, reached, note)


def write(rows: Sequence[Row], path: Path) -> pd.DataFrame:
    """Write the rows, and the machine beside them; rows of goals that were not run now are kept."""
    new = pd.DataFrame([asdict(one) for one in rows], columns=list(COLUMNS))
    if path.exists():
        old = pd.read_csv(path)
        new = pd.concat([old[~old["goal"].isin(new["goal"])], new]).sort_values("goal", kind="stable")
    path.parent.mkdir(parents=True, exist_ok=True)
    new.to_csv(path, index=False, float_format="%.4g", lineterminator="\n")
    path.with_name("machine.json").write_text(json.dumps(machine(), indent=1) + "\n")
    return new


def table(rows: pd.DataFrame) -> str:
    """Return what is printed."""
    shown = rows.assign(against=rows["against"].str.slice(0, 44), what=rows["what"].str.slice(0, 44))
    shown = shown[["goal", "what", "against", "ratio", "low", "high", "unit", "agreement", "target", "reached"]]
    return shown.to_string(index=False, float_format="{:.3g}".format)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, str]:
    """Return processor, cores allowed, and the versions of what was timed."""
    hardware = {"processor": provenance.processor(), "cores": str(cores()), "threads": "1"}
    return hardware | {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES}
