"""The ladder, from words to meaning: the figure and what a page's sentences say of it."""

from functools import cache

import altair as alt
import pandas as pd

from .. import results
from ..claims import ladder_claims
from . import prose
from .encodings import GREY, LINES, TITLES, banded, fitted, legend, panels, step_axis, tooltip

__all__ = ["NAMES", "chart", "last", "onsets", "span"]

NAMES = {"grammar": "grammar", "words": "words", "turn": "turn", "pocket": "sentence"}
"""What a page calls each rung."""


def _rows(study: str) -> pd.DataFrame:
    """Return each rung's accuracy by `step` (by `layer` where there is one checkpoint), its floor, and grammar's level."""
    floors = results.read(study, "probing").query("method == 'floor' and metric == 'accuracy'")
    floors = floors.drop_duplicates(["concept_set", "dimension"]).set_index(["concept_set", "dimension"])
    parts = []
    for ladder in ladder_claims.ladders(study):
        several = len(ladder.steps) > 1
        for rung, curve in (ladder.curves if several else {**ladder.curves, **ladder.layers}).items():
            whose = {"dimension": ladder.dimension, "rung": NAMES[rung]}
            measured = several or rung in ladder.layers
            rows = curve.rename_axis("step" if several else "layer").reset_index()
            parts.append(rows.assign(kind="measured" if measured else "level", **whose))
            if (rung, ladder.dimension) in floors.index:
                level = floors.loc[[(rung, ladder.dimension)], ["value", "low", "high", "n"]]
                parts.append(level.assign(kind="floor", **whose))
    return pd.concat(parts, ignore_index=True)


def chart(study: str, description: str) -> alt.FacetChart:
    """Chart how often each rung is told right, one panel a dimension: over steps, or over the layers of a single checkpoint.

    The bands are 95 % intervals, the dashed lines each rung's floor. Grammar, judged by likelihood, is a level line where there
    are layers. `description` is the alt text.
    """
    table = _rows(study)
    over_layers = alt.X("layer:Q", axis=alt.Axis(tickMinStep=1, format="d", grid=False))
    x = step_axis(table.dropna(subset="step")) if "step" in table else over_layers
    scale = alt.Scale(domain=list(NAMES.values()), range=[GREY, *LINES[:3]])
    rung = alt.Color("rung:N", scale=scale, legend=legend(columns=4))
    base, y = alt.Chart().encode(color=rung), fitted(TITLES["accuracy"])
    measured = base.transform_filter("datum.kind == 'measured'").encode(x=x)
    level = base.transform_filter("datum.kind == 'level'").mark_rule(strokeWidth=1.8).encode(y=y, tooltip=tooltip("rung:N"))
    floor = base.transform_filter("datum.kind == 'floor'").mark_rule(strokeDash=[6, 3]).encode(y=y, tooltip=tooltip("rung:N"))
    says = tooltip("step:Q" if "step" in table else "layer:Q", "rung:N", more=("n:Q",))
    layers = [*banded(measured, y, says), floor, *([level] if (table["kind"] == "level").any() else [])]
    return panels(alt.layer(*layers, data=table), table, description, [])


@cache
def last(study: str) -> pd.DataFrame:
    """Return value, low and high of each rung and dimension at the last checkpoint, at the selected layer.

    Further columns: `floor`, and `above` (the whole interval lies above the floor's and above one half). The table is kept, since
    each sentence of a page asks for it: copy it before you change it.
    """
    floors = _rows(study).query("kind == 'floor'").set_index(["rung", "dimension"])
    rows = [
        {"dimension": ladder.dimension, "rung": NAMES[rung]} | curve.iloc[-1][["value", "low", "high"]].to_dict()
        for ladder in ladder_claims.ladders(study)
        for rung, curve in ladder.curves.items()
    ]
    table = pd.DataFrame(rows).set_index(["rung", "dimension"])
    floors = floors.reindex(table.index)
    return table.assign(floor=floors["value"], above=table["low"] > floors["high"].fillna(0.5).clip(lower=0.5))


def span(study: str, rung: str) -> str:
    """Return, as words, the range of a rung (a value of `NAMES`) at the last checkpoint over the dimensions with every rung."""
    return prose.span(last(study)["value"].unstack().dropna(axis="columns").loc[rung])


def onsets(study: str) -> pd.DataFrame:
    """Return the onset of each rung and dimension with its interval, as words; "none" where it does not rise."""
    rows = {}
    for ladder in ladder_claims.ladders(study):
        for rung in ladder.curves:
            first, low, high = ladder_claims.onset(ladder, rung)
            rows[NAMES[rung], ladder.dimension] = "none" if pd.isna(first) else f"{first:.0f} ({low:.0f}\u00a0to\u00a0{high:.0f})"
    return pd.Series(rows).unstack()
