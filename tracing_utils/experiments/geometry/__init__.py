"""The shape of a concept: local dimension, the spectrum of neutral text, the direction that groups share, the noise a probe stands."""

from .. import Experiment

EXPERIMENT = Experiment(pace=3e-6)
