"""Suites that are trained here: their texts, their training, and their model cards."""
