"""Trace when, during pre-training, a language model comes to represent trustworthiness.

The package computes; the notebooks run it; the book explains; `results/` remembers.
"""

__version__ = "0.1.0"
