"""Linear probes on every layer, with their controls."""

from .. import Experiment, Summary

__all__ = ["EXPERIMENT"]

EXPERIMENT = Experiment(
    pace=8.6e-6,
    choices={"protocols": ("corrected", "released")},
    summaries={"dynamics": Summary("dynamics:summarise", several=True)},
    describes="controls:describe",
)
