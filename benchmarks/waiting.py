"""How long somebody waits: for a first `make book` in a fresh clone, for a second, and for the tests; write `waiting.csv`.

Rule: the wall clock, installation aside, on a machine with nothing else to do. Ends with an error if a command fails, or leaves
the clone changed. What is not asked for keeps its row.

Usage: python -m benchmarks.waiting [WHAT ...]
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from tracing_utils import results
from tracing_utils.core.paths import PROJECT

OUT = Path(__file__).parent / "waiting.csv"
BOOK, TEST = ("-m", "tracing_utils", "run", "--book"), ("-m", "pytest")
COMMANDS = {"first make book": (BOOK, 8 * 60), "second make book": (BOOK, 10), "make test": (TEST, 6 * 60)}
"""What `make` runs, in this order, and the seconds asked for."""


def waited(commands: dict[str, tuple[tuple[str, ...], float]]) -> pd.DataFrame:
    """Run commands one after the other in a fresh clone of the last commit; return for each its seconds, by the clock.

    Columns: `what`, `seconds`, `asked`, `reached`.

    Raises:
        RuntimeError: if a command fails, or files that are tracked, or are not ignored, have changed afterwards.
    """
    rows = []
    with TemporaryDirectory() as folder:
        clone = Path(folder) / "project"
        subprocess.run(["git", "clone", "--quiet", PROJECT, clone], check=True)
        (Path(folder) / "shared").symlink_to(PROJECT.parent / "shared")  # other people's statements, for tests that read them
        environment = os.environ | {"PYTHONPATH": str(clone)}
        for name in ("PYTHONDONTWRITEBYTECODE", "OMP_NUM_THREADS"):  # as where nobody sets them
            environment.pop(name, None)
        for what, (words, asked) in commands.items():
            begun = time.monotonic()
            done = subprocess.run([sys.executable, *words], cwd=clone, env=environment, capture_output=True, text=True)
            seconds = time.monotonic() - begun
            changed = subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True).stdout
            if done.returncode or changed:
                why = f"{done.returncode=}, {changed=}: {done.stdout[-3000:]}"
                raise RuntimeError(f"{what} must succeed and change no file; {why}")
            rows.append((what, round(seconds, 1), asked, seconds <= asked))
            print(*rows[-1], flush=True)
    return pd.DataFrame(rows, columns=["what", "seconds", "asked", "reached"])


def write(asked: Sequence[str] = tuple(COMMANDS)) -> None:
    """Measure what is asked for."""
    found = waited({what: COMMANDS[what] for what in asked})
    if OUT.exists():
        found = pd.concat([(kept := results.read_csv(OUT))[~kept["what"].isin(asked)], found])
    results.write_csv(found, OUT)


if __name__ == "__main__":
    write(sys.argv[1:] or tuple(COMMANDS))
