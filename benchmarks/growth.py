"""Goal 7: how time and memory grow with statements and with checkpoints.

Rule: each size runs in a process of its own, which tells its processor time and its largest memory; the exponent is the
slope of a straight line through the logarithms. As a script: what one process does.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from .measure import Row

STATEMENTS = (1000, 4000, 16000)
CHECKPOINTS = (1, 2, 4, 8, 16)
EACH = 2000
"""Statements while checkpoints grow: enough that what is written is far more than an allocator keeps for later."""
BEFORE = 512.0
"""MB at the peak on 28 November 2026, before runs were made faster; a tenth more is still as much."""


def _run(statements: int, checkpoints: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.growth", str(statements), str(checkpoints)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _peak() -> float:
    """Return the most memory this process ever held, in MB; what `resource` tells includes the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def _exponent(sizes, values) -> float:
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def goal(statements: tuple[int, ...] = STATEMENTS, checkpoints: tuple[int, ...] = CHECKPOINTS) -> list[Row]:
    """Return the rows of goal 7; `ours_seconds` are of the largest size, `theirs_seconds` of the smallest."""
    rows = []
    for what, sizes, asked in (
        ("statements", statements, [(n, 1) for n in statements]),
        ("checkpoints", checkpoints, [(EACH, k) for k in checkpoints]),
    ):
        runs = [_run(*each) for each in asked]
        spent, memory = ([one[key] for one in runs] for key in ("seconds", "megabytes"))
        exponent = _exponent(sizes, spent)
        grown = f"{', '.join(map(str, sizes))} {what}"
        rows.append(_row(f"time over {what}", exponent, 1.1, spent, f"{grown}; exponent of the time, 1 is linear"))
        stored = (sizes[-1] - sizes[0]) * runs[0]["stored"] / sizes[0]
        share = (memory[-1] - memory[0]) / stored
        note = (
            f"{grown}: {', '.join(f'{m:.0f}' for m in memory)} MB at the peak; growth as a share of the {stored:.0f} MB written"
        )
        rows.append(_row(f"memory over {what}", share, 0.5, spent, note))
        note = f"{grown}; MB at the peak, {BEFORE:.0f} before runs were made faster"
        rows.append(_row(f"peak memory over {what}", max(memory), 1.1 * BEFORE, spent, note))
    return rows


def _row(what: str, value: float, most: float, spent: list[float], note: str) -> Row:
    unit = {"time": "exponent", "memory": "share of what is written", "peak": "MB"}[what.partition(" ")[0]]
    return Row(7, what, "", spent[-1], spent[0], value, value, value, unit, len(spent), 0.0, 0.0, most, value <= most, note)


def main(statements: int, checkpoints: int) -> None:
    """Write activations and tell what it took."""
    from dataclasses import replace  # noqa: PLC0415

    from tracing_utils.checkpoints import activations, models, suites  # noqa: PLC0415
    from tracing_utils.statements import concepts  # noqa: PLC0415

    suite = suites.load("pocket")
    models.load_tokenizer(suite.chat)  # imports are not counted
    whole = concepts.load("pocket", "robustness")
    rows = np.arange(statements) % len(whole)
    concept_set = replace(concepts.subset(whole, rows), sentiment=None)
    with TemporaryDirectory() as folder:
        begun = time.process_time()
        for checkpoint in suite.checkpoints[:checkpoints]:
            activations.save(checkpoint, [concept_set], Path(folder))
        taken = time.process_time() - begun
        stored = sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6
    print(json.dumps({"seconds": taken, "megabytes": _peak(), "stored": stored}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
