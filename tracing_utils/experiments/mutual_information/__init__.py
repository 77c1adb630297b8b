"""nHSIC as the paper has it, debiased CKA, and information in bits."""

from .. import Experiment, Summary

__all__ = ["EXPERIMENT"]

EXPERIMENT = Experiment(pace=4.9e-6, summaries={"reweighting": Summary("estimates:summarise")})
