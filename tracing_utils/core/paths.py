"""Where the project lies, and how a file comes to its place."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["PROJECT", "replacing"]

PROJECT = Path(__file__).resolve().parents[2]
"""The folder of the project: studies, checkpoints, results and the book lie below it."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give where to write what comes to lie at `path` by rename when the block ends well; until then it stays as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    yield (part := path.with_name(f"{path.name}.part"))
    os.replace(part, path)
