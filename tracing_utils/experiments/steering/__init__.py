"""Steering vectors from checkpoints, and what they do to the chat model."""

import os

from ...core.errors import brief
from .. import Experiment, Summary


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


EXPERIMENT = Experiment(
    pace=3e-9,
    passes=lambda options: options["asked"] * len(options["layers"]) * len(options["doses"]),
    target=True,
    target_files=("answers",),
    in_depth=("measures",),
    choices={"measures": ("trust", "ability", "none"), "positions": ("all", "first")},
    inputs=("preferences", "toxicity_judge"),
    check=_check,
    summaries={"answers": Summary("findings:summarise")},
)
