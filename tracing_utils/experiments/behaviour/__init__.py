"""What each checkpoint itself finds likely, chooses and would say, beside what can be read from it."""

from .. import Experiment, Summary

EXPERIMENT = Experiment(
    pace=3e-9,
    passes=lambda options: (
        1000 + 8 * options["asked"]
    ),  # all statements once; a question is some four times as long, in two orders
    summaries={"preference_gains": Summary("preferences:summarise", several=True)},
)
