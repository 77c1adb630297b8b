"""The ladder: which rung of language stands at which step, or layer, and two claims on the order of its rungs.

Rule: the claims were written down when the rungs of a first pocket suite had been seen, and the rungs grammar, `words` and
`turn` of SmolLM2 had not. The suite of today was trained later, and chosen by its accuracy on `words`. A standard error is that
of the published 95 % interval.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pandas as pd

from .. import results
from ..statements.sources import DIMENSIONS, LADDER
from . import framework, measured
from .framework import Claim, Found, NotTestable, Part

__all__ = ["CLAIMS", "Ladder", "judge", "ladders", "onset"]

ACCURACY = 0.02
"""Smallest relevant difference of accuracies, as in the paper's claims."""

_PLACE = 1.0
"""Smallest relevant distance of two onsets: a doubling of the steps, or a layer."""

_CHANCE = pd.DataFrame({"value": 0.5, "low": 0.5, "high": 0.5, "n": 0}, index=[-1])


@dataclass(frozen=True)
class Ladder(framework.Evidence):
    """The rungs of one dimension in one study, as evidence of a set that is called "ladder".

    Attributes:
        curves: by rung, in the order of `LADDER`, accuracy at each step: value, low, high and n. Grammar's is the share of pairs
            whose grammatical sentence is the likelier one, that of the others the probe's at the selected layer.
        layers: by rung, the same at each layer of the last checkpoint; grammar has none.
    """

    curves: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    layers: Mapping[str, pd.DataFrame] = field(default_factory=dict)


def ladders(study: str) -> list[Ladder]:
    """Return the ladder of each dimension from the published tables of a study whose sets are rungs."""
    found = {(each.concept_set, each.dimension): each for each in measured.measured(study, "probing")}
    table = results.read_csv(results.folder("") / "grammar.csv")
    every = []
    for dimension in (name for name in DIMENSIONS if ("words", name) in found):
        own = {rung: found[rung, dimension] for rung in LADDER if (rung, dimension) in found}
        first = own["words"]
        grammar = table[(table["suite"] == first.suite) & (table["method"] == "grammar") & table["step"].isin(first.steps)]
        curves = {"grammar": grammar.set_index("step").sort_index()[["value", "low", "high", "n"]]}
        curves |= {rung: each.curve("selected layer", "accuracy") for rung, each in own.items()}
        layers = {rung: _over_layers(each) for rung, each in own.items()}
        every.append(Ladder(first.suite, "ladder", dimension, first.steps, weights=first.weights, curves=curves, layers=layers))
    return every


def _over_layers(each: measured.Measured) -> pd.DataFrame:
    rows = each.rows[(each.rows["method"] == "logistic") & (each.rows["metric"] == "accuracy")]
    rows = rows[rows["step"] == each.steps[-1]].astype({"layer": int})
    return rows.set_index("layer").sort_index()[["value", "low", "high", "n"]]


def onset(ladder: Ladder, rung: str) -> tuple[float, float, float]:
    """Return the first step at which half of a rung's final gain is there, and its 95 % interval (`measured.onset`).

    Of a suite of one checkpoint it is the first layer with half of the last layer's gain over chance: of grammar, which has no
    layers, and of what does not rise, not a number.
    """
    if len(ladder.steps) > 1:
        return measured.onset(ladder.curves[rung])
    if rung not in ladder.layers:
        return np.nan, np.nan, np.nan
    return measured.onset(pd.concat([_CHANCE, ladder.layers[rung]]))


def judge(study: str) -> pd.DataFrame:
    """Return the verdicts on the claims in a study, corrected over all of them."""
    return framework.judge(ladders(study), CLAIMS, {})


def _ordered(ladder: Ladder) -> Found:
    last = {rung: curve.iloc[-1] for rung, curve in ladder.curves.items()}
    parts = [measured.against(f"{low} minus {high}", last[low], last[high], ACCURACY) for low, high in pairwise(last)]
    return Found([parts], [[(ladder.steps[-1], ladder.steps[-1])]])


def _earlier(ladder: Ladder) -> Found:
    found = {rung: onset(ladder, rung) for rung in ladder.curves}
    risen = [rung for rung, (first, *_) in found.items() if not np.isnan(first)]
    note = "onsets: " + ", ".join(f"{rung} {found[rung][0]:.0f}" if rung in risen else f"{rung} none" for rung in found)
    if len(risen) < 2:
        raise NotTestable(f"fewer than two rungs have an onset; {note}")
    places = {rung: _placed(ladder, rung, found[rung]) for rung in risen}
    parts = []
    for low, high in pairwise(risen):
        (value, error), (other, another) = places[low], places[high]
        n = int(ladder.curves[high]["n"].iloc[-1])
        parts.append(Part(f"onset of {high} minus {low}", other - value, float(np.hypot(error, another)), np.inf, n, _PLACE))
    return Found([parts], [[(ladder.steps[0], ladder.steps[-1])]], note)


def _placed(ladder: Ladder, rung: str, found: tuple[float, float, float]) -> tuple[float, float]:
    """Return an onset in doublings of the step, or in layers, and its standard error.

    An onset is known no better than the gap before it, in which it may lie anywhere.
    """
    several = len(ladder.steps) > 1
    every = np.append([-1] if not several else [], ladder.steps if several else ladder.layers[rung].index)
    scale = (lambda at: np.log2(1 + np.asarray(at, dtype=float))) if several else np.asarray
    first, low, high = scale(found)
    gap = first - scale(every[every < found[0]].max())
    return float(first), float(np.hypot((high - low) / (2 * 1.96), gap / np.sqrt(12)))


_OURS = "It says nothing of rungs; the claim is this book's."

CLAIMS = {
    claim.name: claim
    for claim in (
        Claim(
            name="rungs_in_order",
            needs=(),
            test=_ordered,
            untrained=False,
            reads="",
            title="At the last checkpoint the rungs stand in order: grammar, words, turn, sentence",
            paper=_OURS,
            statistic="accuracy of each rung minus that of the next higher one, at the last checkpoint",
            threshold="every difference lies above 0",
            relevant=f"{ACCURACY:g}, as in the paper's claims",
        ),
        Claim(
            name="easier_starts_earlier",
            needs=(),
            test=_earlier,
            untrained=False,
            reads="",
            title="Easier rungs start earlier",
            paper=_OURS,
            statistic="onset of each rung that rises minus that of the next lower such one: doublings of the step, or layers",
            threshold="every difference lies above 0",
            relevant=f"{_PLACE:g}: a doubling, or a layer",
        ),
    )
}
"""The claims by name.

:meta hide-value:
"""
