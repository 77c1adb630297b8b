"""What in the data makes it: which runs share a direction, and what is forgotten once it is told no more."""

from .. import Experiment

EXPERIMENT = Experiment(pace=4e-6)
