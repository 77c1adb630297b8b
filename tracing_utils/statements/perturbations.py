"""Perturb a sentence's surface and leave its meaning: six ways, each at a stated rate.

Rule: every function takes its randomness from the generator it is given; the same seed perturbs the same way.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from ..core.errors import unknown

__all__ = ["PERTURBATIONS", "perturb"]

# The neighbours of each letter on a QWERTY keyboard.
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBOURS = {
    letter: "".join(
        row[j]
        for other, row in enumerate(_ROWS)
        for j in range(len(row))
        if (other, j) != (r, i) and abs(other - r) <= 1 and abs(j - i) <= 1
    )
    for r, keys in enumerate(_ROWS)
    for i, letter in enumerate(keys)
}
# Cyrillic and Greek letters that look like Latin ones.
_HOMOGLYPHS = dict(zip("aceiopsxyABEHKMOPT", "асеіорѕхуАВЕНКМОРТ", strict=True))  # noqa: RUF001 - look-alikes are the point
_LEET = dict(zip("aeiostAEIOST", "4310574310" + "57", strict=True))


def _replace(candidates: Callable[[str], str], text: str, rate: float, rng: np.random.Generator) -> str:
    """Exchange each character that has a candidate with probability `rate`; at least one is exchanged."""
    able = [i for i, char in enumerate(text) if candidates(char)]
    if not able:
        return text
    places = {i for i in able if rng.random() < rate} or {int(rng.choice(able))}
    return "".join(
        candidates(char)[int(rng.integers(len(candidates(char))))] if i in places else char for i, char in enumerate(text)
    )


def _swaps(text: str, rate: float, rng: np.random.Generator) -> str:
    """Exchange neighbouring letters inside a word."""
    able = [i for i in range(len(text) - 1) if text[i : i + 2].isalpha() and text[i] != text[i + 1]]
    if not able:
        return text
    places = [i for i in able if rng.random() < rate] or [int(rng.choice(able))]
    letters, last = list(text), -2
    for i in places:
        if i > last + 1:  # a letter moves once
            letters[i], letters[i + 1], last = letters[i + 1], letters[i], i
    return "".join(letters)


def _dropped_spaces(text: str, rate: float, rng: np.random.Generator) -> str:
    """Drop spaces; `rate` is per space."""
    able = [i for i, char in enumerate(text) if char == " "]
    if not able:
        return text
    places = {i for i in able if rng.random() < rate} or {int(rng.choice(able))}
    return "".join(char for i, char in enumerate(text) if i not in places)


PERTURBATIONS: dict[str, tuple[Callable[[str, float, np.random.Generator], str], float]] = {
    "case": (partial(_replace, lambda char: char.swapcase() if char.swapcase() != char else ""), 0.05),
    "typos": (partial(_replace, lambda char: _NEIGHBOURS.get(char, "")), 0.05),
    "swaps": (_swaps, 0.05),
    "homoglyphs": (partial(_replace, lambda char: _HOMOGLYPHS.get(char, "")), 0.10),
    "dropped-spaces": (_dropped_spaces, 0.20),
    "leetspeak": (partial(_replace, lambda char: _LEET.get(char, "")), 0.10),
}
"""Name to (function, rate): the share of the characters that may change, which do; for dropped spaces, of the spaces.

Case flips at 5 % of letters are the rate measured in the paper's file.
"""


def perturb(text: str, kind: str, seed: int) -> str:
    """Return `text` perturbed by a kind of `PERTURBATIONS` at its own rate; at least one character is changed where one can be.

    Raises:
        ValueError: if `kind` is unknown.
    """
    if kind not in PERTURBATIONS:
        raise unknown("perturbation", kind, PERTURBATIONS)
    function, rate = PERTURBATIONS[kind]
    return function(text, rate, np.random.default_rng(seed))
