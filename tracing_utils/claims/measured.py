"""Claims on what an experiment's published table shows, judged as the paper's claims are (`framework.judge`).

Rule: a module `<experiment>_claims.py` beside this one holds `CLAIMS`, fixed before the data they judge are seen.
A standard error here is that of the table's own 95 % interval.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from scipy import stats

from .. import results
from . import framework
from .framework import Claim, Evidence, NotTestable, Part

__all__ = ["Measured", "against", "judge", "measured", "onset"]

_REACH = float(stats.norm.ppf(0.975))
_DRAWS = 2000


@dataclass(frozen=True)
class Measured(Evidence):
    """What a study's table of one experiment holds on one dimension of one concept set, as evidence for `framework.judge`.

    Its `steps` are those of the checkpoints, rising; the tuned model's (-1) is not among them unless it stands alone.

    Attributes:
        rows: of the table, those of these checkpoints.
        study: whose table it is.
    """

    rows: pd.DataFrame = field(default_factory=pd.DataFrame)
    study: str = ""

    def beside(self, experiment: str) -> "Measured":
        """Return what another experiment's table holds on the same dimension at the same checkpoints.

        It is that of the same study, or else of another study of the suite on these statements.

        Raises:
            NotTestable: if there is none.
        """
        for study in (self.study, *results.studies(experiment)):
            try:
                table = results.read(study, experiment)
            except ValueError:  # the study has none
                continue
            same = (table[["suite", "concept_set", "dimension"]] == [self.suite, self.concept_set, self.dimension]).all(axis=1)
            if len(rows := table[same & table["step"].isin(self.steps)]):
                return replace(self, rows=rows)
        raise NotTestable(f"no table of {experiment} on {self.suite}")

    def curve(self, method: str, metric: str, layer: int | None = None) -> pd.DataFrame:
        """Return value, low, high and n by step, of a layer or of rows that have none.

        Raises:
            NotTestable: if a checkpoint has no such row, or several.
        """
        rows = self.rows[(self.rows["method"] == method) & (self.rows["metric"] == metric)]
        rows = rows[rows["layer"].isna() if layer is None else rows["layer"] == layer]
        if sorted(rows["step"]) != sorted(self.steps):
            raise NotTestable(f"no {method} {metric} at every checkpoint")
        return rows.set_index("step").sort_index()[["value", "low", "high", "n"]]


def measured(study: str, experiment: str) -> list[Measured]:
    """Return what the table of an experiment in a study holds, by concept set and dimension."""
    table, ledger = results.read(study, experiment), results.read(study, "ledger").set_index("revision")
    table = table[table["step"] >= 0] if (table["step"] >= 0).any() else table
    weights = str(ledger.loc[table.sort_values("step")["revision"].iloc[-1], "sha256"])
    keys = ["suite", "concept_set", "dimension"]
    return [
        Measured(*key, np.sort(rows["step"].unique()).astype(float), weights=weights, rows=rows, study=study)
        for key, rows in table.groupby(keys, sort=False)
    ]


def judge(studies: list[str], experiment: str, claims: Mapping[str, Claim]) -> pd.DataFrame:
    """Return the verdicts on an experiment's claims in studies, corrected over all of them."""
    return framework.judge([each for study in studies for each in measured(study, experiment)], claims, {})


def against(name: str, row: pd.Series, other: pd.Series | float, relevant: float) -> Part:
    """Return the part that a row's value lies above another's, or above a number.

    Two rows count as independent; rows of the same statements mostly move together, so this errs on the safe side.
    """
    bound = other if np.isscalar(other) else other["value"]
    error = np.hypot(_error(row), 0.0 if np.isscalar(other) else _error(other))
    return Part(name, float(row["value"] - bound), float(error), np.inf, int(row["n"]), relevant)


def _error(row: pd.Series) -> float:
    return float(row["high"] - row["low"]) / (2 * _REACH)


def onset(curve: pd.DataFrame, seed: int = 0) -> tuple[float, float, float]:
    """Return the first step with half of the final gain over the first checkpoint, and the ends of its 95 % interval.

    The interval is over draws of the curve within its own errors. Not a number where the last value does not lie clearly
    above the first: what did not rise has no onset.

    Args:
        curve: value, low and high by step (`Measured.curve`).
        seed: of the draws.
    """
    values, errors = curve["value"].to_numpy(), (curve["high"] - curve["low"]).to_numpy() / (2 * _REACH)
    if len(values) < 2 or values[-1] - values[0] <= _REACH * np.hypot(errors[0], errors[-1]):
        return np.nan, np.nan, np.nan
    drawn = np.vstack([values, values + errors * np.random.default_rng(seed).standard_normal((_DRAWS, len(values)))])
    gain = drawn - drawn[:, :1]
    first = curve.index.to_numpy()[(gain >= gain[:, -1:] / 2).argmax(1)][gain[:, -1] > 0]
    low, high = np.percentile(first[1:], [2.5, 97.5], method="nearest")
    return float(first[0]), float(low), float(high)
