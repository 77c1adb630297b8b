"""The shape of a concept: local dimension, the spectrum of neutral text, and the direction that groups share."""

from .. import Experiment

EXPERIMENT = Experiment(pace=3e-6)
