"""Attention heads that tell the two sides apart, and MLP weights that two dimensions share, with what chance gives."""

from ...statements.sources import DIMENSIONS
from .. import Experiment

__all__ = ["EXPERIMENT"]

_RANGES = {"asked": (50, 10**6), "rounds": (1, 5), "draws": (2, 1000), "weighed": (12, 10**6), "outputs": (1, 10**6)}


def _check(options: dict, _layers: int | None) -> None:
    for name, (least, most) in _RANGES.items():
        if not least <= options[name] <= most:
            raise ValueError(f"{name} of components must be {least} to {most}; it is {options[name]}. Change it in the study.")
    if not 0 < options["share"] < 0.5:
        raise ValueError(f"share of components must lie between 0 and a half; it is {options['share']}. Change it in the study.")
    if len(options["pair"]) != 2 or len(set(options["pair"]) & set(DIMENSIONS)) != 2:
        raise ValueError(
            f"pair of components must be two of {', '.join(DIMENSIONS)}; it is {options['pair']}. Change it in the study."
        )


def _passes(options: dict) -> int:
    """Each round scores a fifth once without and twice a draw with something pushed; a gradient costs as much as three passes."""
    pushed = options["asked"] * options["rounds"] * (2 + 2 * options["draws"]) / 5
    return round(options["asked"] + pushed + 3 * options["weighed"])


EXPERIMENT = Experiment(pace=3e-9, passes=_passes, check=_check)
