"""The shape of a concept: local dimension, the spectrum of neutral text, what groups share, and what noise does."""

from .. import Experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = Experiment(pace=3e-6)
