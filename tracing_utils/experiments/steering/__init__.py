"""Steering vectors from checkpoints, and what they do to the chat model."""

import os

from ...core.errors import brief
from .. import Experiment, Summary

METHODS = {"random direction": 99, "shuffled labels": 20}
"""Directions that mean nothing, and how many of each: random ones, and differences of means under labels in random order."""
DOSE = 2.0
"""The dose at which they are measured, in standard deviations of the target's projections: further is what the model itself
hardly produces."""
PAIRS = 60
"""Most pairs they are measured on, the first of a set; an effect is compared with them on these pairs."""
TEXTS = 20
"""Neutral texts that their cost is measured on, the first ones."""


def _check(options: dict, layers: int | None) -> None:
    path = options["preferences"]
    if path and not os.path.isfile(os.path.expanduser(path)):  # noqa: PTH111, PTH113 - a name may be too long for a path
        raise ValueError(
            f"Preferences must be a .csv, .tsv or .jsonl file of chosen and rejected texts; {brief(path)} is no file."
        )
    if layers is not None and (beyond := [layer for layer in options["layers"] if layer >= layers]):
        raise ValueError(
            f"layers of steering must be 0 to {layers - 1}, those of the chat model; {beyond[0]} is not. Change it in the study."
        )


def _passes(options: dict) -> int:
    """Count the statements that are read: under every dose, and under every direction of the null (once for a chat model)."""
    nulled = min(options["asked"] or 2 * PAIRS, 2 * PAIRS) + TEXTS
    return len(options["layers"]) * (len(options["doses"]) * options["asked"] + sum(METHODS.values()) * nulled)


EXPERIMENT = Experiment(
    pace=2.1e-10,
    passes=_passes,
    target=True,
    target_files=("answers",),
    in_depth=("measures",),
    choices={"measures": ("trust", "ability", "none"), "positions": ("all", "first")},
    inputs=("preferences", "toxicity_judge"),
    check=_check,
    summaries={"answers": Summary("findings:summarise")},
)
