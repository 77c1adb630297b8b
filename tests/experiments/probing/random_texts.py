"""Texts of random words, with or without a word that tells the label."""

import numpy as np

WORDS = ("river", "table", "window", "garden", "letter", "candle", "market", "bridge", "winter", "button")


def sentences(labels, seed: int, telling: bool) -> list[str]:
    """Random words; with a word that tells the label, if `telling`."""
    rng = np.random.default_rng(seed)
    made = [" ".join(rng.choice(WORDS, size=6)) for _ in labels]
    return [f"{text} {('rude', 'kind')[label]}" if telling else text for text, label in zip(made, labels, strict=True)]
