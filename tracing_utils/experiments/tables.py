"""The table that a notebook fills and saves: rows of one checkpoint, in the order in which they were measured."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Float

from .. import results
from ..checkpoints.types import Checkpoint
from ..core.evaluation import Estimate
from ..statements.concepts import ConceptSet

__all__ = ["Acts", "Rows", "Table"]

Acts = Float[np.ndarray, "example layer d_model"]
"""Activations at the output of every block."""

Rows = Iterable[tuple[int | None, str, str, Estimate]]
"""Layer (None for what no layer has), method, metric and estimate of each row."""


@dataclass(frozen=True)
class Table:
    """Rows of results of one checkpoint."""

    checkpoint: Checkpoint
    rows: list[dict] = field(default_factory=list)

    def add(self, concepts: ConceptSet, rows: Rows, seed: str = "0", **more: object) -> None:
        """Add a row for each estimate of a set of statements; `more` are further columns."""
        self.rows.extend(results.row(self.checkpoint, concepts, *each, seed) | more for each in rows)

    @property
    def frame(self) -> pd.DataFrame:
        """The rows as a table."""
        return pd.DataFrame(self.rows)

    def save(self, output: str) -> str:
        """Write the table to the file `output`, if one is named, and return a sentence that says so."""
        if output:
            results.write(self.rows, output)
        return f"{len(self.rows)} rows " + ("saved" if output else "(no output named, nothing saved)")
