"""Attention heads that tell the two sides apart, and MLP weights that two dimensions share, with what chance gives."""

from .. import Experiment


def _passes(options: dict) -> int:
    """Each round scores a fifth once without and twice a draw with something pushed; a gradient costs as much as three passes."""
    pushed = options["asked"] * options["rounds"] * (2 + 2 * options["draws"]) / 5
    return round(options["asked"] + pushed + 3 * options["weighed"])


EXPERIMENT = Experiment(pace=3e-9, passes=_passes)
