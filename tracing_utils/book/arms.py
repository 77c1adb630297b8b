"""The figure of both arms of the designed world, for the pages and the README that show it."""

import json
from collections.abc import Sequence

import altair as alt
import pandas as pd

from .. import results
from ..core.paths import PROJECT
from . import charts
from .encodings import ARMS

__all__ = ["ARMS", "chart", "planted", "shipped"]


def _training() -> dict:
    return json.loads((PROJECT / "checkpoints" / "world-coherent" / "training.json").read_text(encoding="utf-8"))


def planted() -> int:
    """Return the step in which the late keys of the shipped seed are first told."""
    return _training()["late_from"]


def shipped() -> int:
    """Return the seed whose arms are shipped."""
    return _training()["recipe"]["seed"]


def chart(lines: Sequence[tuple[str, str]], description: str) -> alt.FacetChart:
    """Chart the probe on the published seeds, and on the seed of each arm that is shipped and traced (`charts.two_arms`)."""
    measures = results.read("world", "measures").query("measure == 'probe' and step >= 0")
    traced = pd.concat(results.read(f"world-{arm}", "probing").assign(arm=arm) for arm in ARMS)
    own = traced[(traced["method"] == "selected layer") & (traced["metric"] == "accuracy")]
    return charts.two_arms(measures, lines, own, planted(), description)
