"""What each checkpoint itself finds likely, chooses and would say, beside what can be read from it."""

from .. import Experiment, Summary

EXPERIMENT = Experiment(
    pace=3e-9,
    passes=lambda options: (
        2000 + 8 * options["asked"]
    ),  # all statements twice; a question is some four times as long, in two orders
    summaries={"preference_gains": Summary("preferences:summarise", several=True)},
)
