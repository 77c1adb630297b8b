"""Suites that are trained here: texts, how the designed world is told, tokenizers, training, and model cards."""
