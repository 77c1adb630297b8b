"""What others say of the shape of a concept, as tests on the published tables of the experiment `geometry`.

Rule: no test chooses a layer or a checkpoint by what it then reports. The first three read the mean over all layers, the
last the last layer, as the paper does, and pays for every place of trough and peak.
"""

from itertools import combinations

import pandas as pd

from .framework import Claim, Found, NotTestable
from .measured import Measured, against

__all__ = ["CLAIMS"]

_KAPPA, _AREA, _SHARE = 0.1, 0.02, 0.05

# First it was kappa over all pairs of groups. In the scrambled arm of the shipped seed, whose probe stays at one half, that is
# large where groups share a value: what the model knows of a word, not of the label.
_APART = "no word shared"


def _end(rows: pd.DataFrame) -> pd.Series:
    return rows.iloc[-1]


def _shared(measured: Measured) -> Found:
    kappa, null = (_end(measured.curve(method, "kappa")) for method in (_APART, f"{_APART}, labels swapped"))
    part = against("kappa minus what swapped labels give", kappa, null, _KAPPA)
    return Found([[part]], [[(measured.steps[-1], measured.steps[-1])]])


def _grows(measured: Measured) -> Found:
    if len(measured.steps) < 2:
        raise NotTestable("a single checkpoint")
    kappa = measured.curve(_APART, "kappa")
    part = against("kappa at the last minus at the first checkpoint", _end(kappa), kappa.iloc[0], _KAPPA)
    return Found([[part]], [[(measured.steps[0], measured.steps[-1])]])


def _lower(measured: Measured) -> Found:
    part = against("AUROC minus one half", _end(measured.curve("group left out", "lid_auroc")), 0.5, _AREA)
    return Found([[part]], [[(measured.steps[-1], measured.steps[-1])]])


def _phases(measured: Measured) -> Found:
    if (count := len(measured.steps)) < 4:
        raise NotTestable(f"{count} checkpoints; three phases need four")
    rank = measured.curve("neutral text", "rankme", int(measured.rows["layer"].max()))
    relevant, steps = _SHARE * float(rank["value"].iloc[0]), measured.steps
    alternatives, windows = [], []
    for trough, peak in combinations(range(1, count - 1), 2):
        compared = {"first fall": (0, trough), "rise": (peak, trough), "second fall": (peak, count - 1)}
        alternatives.append([against(name, rank.iloc[high], rank.iloc[low], relevant) for name, (high, low) in compared.items()])
        windows.append([(steps[0], steps[trough]), (steps[trough], steps[peak]), (steps[peak], steps[-1])])
    return Found(alternatives, windows)


_COSINE = f"{_KAPPA}: a tenth of the squared length of a group's difference lies along what the groups share"

CLAIMS: dict[str, Claim] = {
    claim.name: claim
    for claim in (
        Claim(
            "common_direction", (), _shared, False, "",
            "Trustworthy and untrustworthy statements differ in one direction in all groups",
            "X-Boundary and Legend: one direction of representation space separates safe from harmful statements",
            "kappa of crosses that share no word, last checkpoint, mean over layers, minus its mean under swapped labels",
            "above 0", _COSINE,
        ),
        Claim(
            "direction_grows", (), _grows, True, "",
            "Training brings the groups' differences into one direction",
            "SAE-Track: what a feature stands for draws together in training; SEER: classes come apart",
            "kappa of crosses that share no word, mean over layers, at the last minus at the first checkpoint",
            "above 0", _COSINE,
        ),
        Claim(
            "lower_dimension", (), _lower, False, "",
            "Trustworthy statements have a lower local intrinsic dimension than untrustworthy ones",
            "Yin et al. 2024 (arXiv 2402.18048): truthful answers have a lower LID than hallucinated ones",
            "AUROC of minus LID against trustworthy references of other groups, last checkpoint, mean over layers",
            "above one half", f"{_AREA} of the area",
        ),
        Claim(
            "three_phases", (), _phases, True, "",
            "The spectrum of neutral text collapses, expands and is compressed again",
            "Li et al. 2025 (arXiv 2509.23024): three phases of RankMe at the last layer over pre-training",
            "RankMe of neutral text at the last layer: first minus trough, peak minus trough, peak minus last checkpoint",
            "each above 0, at some trough and a later peak", f"{_SHARE:.0%} of the first checkpoint's RankMe",
        ),
    )
}  # fmt: skip
"""The claims by name, fixed before any suite but the two arms of the shipped seed of the designed world was looked at."""
