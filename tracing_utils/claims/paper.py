"""The paper's own numbers, and how sure they are: what its tables and figures print, with the tests it does not give.

Rule: these are facts read off Qian et al. 2024 (arXiv 2402.19465); how, tells the README beside the tables.
"""

import math
from pathlib import Path

import pandas as pd
from scipy import stats

from .. import results
from ..core.errors import unknown

__all__ = ["TABLES", "correlations", "fisher_interval", "read", "significance", "two_proportions"]

TABLES = ("probing", "mutual_information", "steering", "samples", "correlations")
"""The tables that are shipped."""

CHECKPOINTS = 360
"""Public checkpoints of the paper's model, spread evenly over its training."""

_FOLDER = Path(__file__).parent / "data"
_LESS_IS_BETTER = ("ToxiGen",)
_ABILITIES = ("ARC", "MMLU", "MathQA", "RACE")
_TARGETS = {"TruthfulQA": ("Truth",), "StereoSet": ("StereoSet",)}  # what the data of a vector are about
_COMPARISONS = (
    ("vector of ckpt_179", "AmberChat"),
    ("vector of AmberChat", "AmberChat"),
    ("vector of ckpt_179", "vector of AmberChat"),
)


def read(table: str) -> pd.DataFrame:
    """Return one of `TABLES`; `probing` with the further column `share` of training.

    Raises:
        ValueError: if there is no such table.
    """
    if table not in TABLES:
        raise unknown("table of the paper", table, TABLES)
    rows = results.read_csv(_FOLDER / f"{table}.csv")
    # Checkpoint k is saved after chunk k, counted from 0.
    return rows.assign(share=(rows["index"] + 1) / CHECKPOINTS) if table == "probing" else rows


def two_proportions(first: float, second: float, n: int) -> tuple[float, float]:
    """Return z and the two-sided p-value of first - second, two shares of `n` items each, pooled.

    The items are the same, so a paired test would be sharper; it needs the answers item by item.
    """
    pooled = (first + second) / 2
    error = math.sqrt(2 * pooled * (1 - pooled) / n)
    z = (first - second) / error if error else 0.0
    return z, 2 * float(stats.norm.sf(abs(z)))


def significance() -> pd.DataFrame:
    """Return the differences of Tables 1 and 2 between methods, wherever the number of items is known.

    Returns:
        Columns `table`, `vector_from`, `measure`, `method`, `against`, `difference`, `n`, `z`, `p`, `better` (whether
        the method is the better one) and `kind`: `target` where the measure is of the data the vector was made from,
        `ability` where the paper claims that little changes, `side effect` otherwise.
    """
    wide = read("steering").pivot(index=["table", "vector_from", "measure"], columns="method", values="value")
    rows = []
    for measure, n in read("samples").itertuples(index=False):
        for (table, source, name), values in wide.iterrows():
            if name == measure and table in (1, 2):
                for method, against in _COMPARISONS:
                    z, p = two_proportions(values[method], values[against], n)
                    difference = values[method] - values[against]
                    better = difference < 0 if measure in _LESS_IS_BETTER else difference > 0
                    kind = "ability" if measure in _ABILITIES else "target" if measure in _TARGETS[source] else "side effect"
                    rows.append((table, source, measure, method, against, difference, n, z, p, better, kind))
    columns = ["table", "vector_from", "measure", "method", "against", "difference", "n", "z", "p", "better", "kind"]
    return pd.DataFrame(rows, columns=columns).sort_values(["table", "measure", "against"], ignore_index=True)


def fisher_interval(r: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a correlation over `n` independent points (checkpoints of one run are not)."""
    reach = stats.norm.ppf(0.975) / math.sqrt(n - 3)
    return math.tanh(math.atanh(r) - reach), math.tanh(math.atanh(r) + reach)


def correlations() -> pd.DataFrame:
    """Return Figure 5's correlations with Fisher's interval in the columns `low` and `high`."""
    table = read("correlations")
    low, high = zip(*(fisher_interval(row.correlation, row.checkpoints) for row in table.itertuples()), strict=True)
    return table.assign(low=low, high=high)
