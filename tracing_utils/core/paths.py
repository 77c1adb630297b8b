"""Where the project lies."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
"""The folder of the project: studies, checkpoints, results and the book lie below it."""
