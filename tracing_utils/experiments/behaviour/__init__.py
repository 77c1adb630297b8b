"""What each checkpoint itself finds likely, chooses and would say, beside what can be read from it."""

from .. import Experiment, Summary

__all__ = ["EXPERIMENT"]

EXPERIMENT = Experiment(
    pace=3e-9,
    # All statements twice; a question is some four times as long, in two orders.
    passes=lambda options: 2000 + 8 * options["asked"],
    summaries={"preference_gains": Summary("preferences:summarise", several=True)},
)
