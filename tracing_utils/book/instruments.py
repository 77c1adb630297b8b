"""One question, seven instruments: when does each say that a concept is there? For the page that dates them side by side."""

from dataclasses import replace

import numpy as np
import pandas as pd

from .. import results
from ..claims import measured
from ..claims.framework import NotTestable
from ..experiments.steering import DOSE

__all__ = ["INSTRUMENTS", "changes", "curves", "onsets"]

INSTRUMENTS = {
    "likelihood": ("behaviour", "likelihood", "preferred"),
    "head": ("components", "best head", "accuracy"),
    "probe": ("probing", "selected layer", "accuracy"),
    "geometry": ("geometry", "no word shared", "kappa"),
    "information": ("mutual_information", "probe", "usable_information"),
    "other run's probe": ("origins", "other seed", "aligned_transfer"),
    "steering": ("steering", "vector", "gain"),
}
"""Of each instrument the rows that speak for it: experiment, method, metric; of no layer if there are such, else of the last."""


def curves(study: str) -> dict[tuple[str, str], pd.DataFrame]:
    """Return value, low, high and n by step, for each instrument and dimension that a study has at every checkpoint."""
    by_key = {}
    for name, (experiment, method, metric) in INSTRUMENTS.items():
        if study not in results.studies(experiment):
            continue
        for each in measured.measured(study, experiment):
            rows = each.rows[(each.rows["method"] == method) & (each.rows["metric"] == metric)]
            rows = rows[rows["dose"] == DOSE] if "dose" in rows else rows
            layer = None if rows["layer"].isna().any() or rows.empty else int(rows["layer"].max())
            try:
                by_key[name, each.dimension] = replace(each, rows=rows).curve(method, metric, layer)
            except NotTestable:
                continue
    return by_key


def changes(study: str) -> pd.DataFrame:
    """Return by how much each instrument's curve changed from the first checkpoint to the last, by instrument and dimension."""
    by_key = curves(study)
    rows = [(*key, float(curve["value"].iloc[-1] - curve["value"].iloc[0])) for key, curve in by_key.items()]
    return pd.DataFrame(rows, columns=["instrument", "dimension", "change"])


def onsets(study: str) -> pd.DataFrame:
    """Return when each instrument reaches half of its final change (`measured.onset`), with the interval, by dimension.

    What falls is mirrored first: a model that comes to prefer the other side shows the concept too. `moves` says which way
    it went; it is empty, and the step not a number, where the end is not clearly apart from the start. `back` says whether
    less than half of the change is there at some later checkpoint.
    """
    rows = []
    for (instrument, dimension), curve in curves(study).items():
        mirrored = curve.assign(value=-curve["value"], low=-curve["high"], high=-curve["low"])
        dated = {"rises": measured.onset(curve), "falls": measured.onset(mirrored)}
        way = next((way for way, each in dated.items() if not np.isnan(each[0])), "")
        share = (curve["value"] - curve["value"].iloc[0]) / (curve["value"].iloc[-1] - curve["value"].iloc[0] or np.nan)
        back = bool(way) and bool((share[share.index > dated[way][0]] < 0.5).any())
        rows.append((instrument, dimension, *dated[way or "rises"], way, back))
    return pd.DataFrame(rows, columns=["instrument", "dimension", "value", "low", "high", "moves", "back"])
