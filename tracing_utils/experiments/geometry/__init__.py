"""The shape of a concept: local dimension, the spectrum of neutral text, the direction that groups share, and the noise it stands."""

from .. import Experiment

EXPERIMENT = Experiment(pace=3e-6)
