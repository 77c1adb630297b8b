"""Attention heads that tell the two sides apart, and MLP weights that two dimensions share, with what chance gives."""

from .. import Experiment


def _passes(options: dict) -> int:
    """Heads are read once; of each round a fifth is scored without and with every set of heads; a gradient costs three passes."""
    scored = options["asked"] * options["rounds"] * (3 + options["draws"]) / 5
    return round(options["asked"] + scored + 3 * options["weighed"] * len(options["pair"]) + 2 * options["weighed"])


EXPERIMENT = Experiment(pace=3e-9, passes=_passes)
