"""The rungs below the crossed statements: grammar; `words`, where one word decides; `turn`, where its context turns it.

Rule: word pairs and frames are written by hand, in `data/rungs/<dimension>.yml`; the two words of a pair stand in the same
frames with the same names, so that nothing but the word, or the word and its turn, tells the label.
"""

import re
from functools import lru_cache
from importlib.resources import files
from itertools import product

import numpy as np
import pandas as pd
import yaml

from .sources import DIMENSIONS

__all__ = ["grammar", "rows", "written"]

_FRAMES = {"words": 4, "turn": 2}  # of each pair; a turn doubles the statements of a frame
_QUADRUPLES = 16  # of each kind of grammar


@lru_cache
def written(dimension: str) -> dict:
    """Return what is written by hand: `pairs` (trusted: untrusted), frames by rung, and what may `fill` their slots.

    Of `grammar`, which has no dimension, the `kinds`.
    """
    return yaml.safe_load(files(__package__).joinpath("data", "rungs", f"{dimension}.yml").read_text(encoding="utf-8"))


@lru_cache
def rows(rung: str, dimension: str) -> pd.DataFrame:
    """Return `statement`, `label`, `group` and `category` of one rung; a group is a pair of words.

    A frame of `turn` holds `[as it is|turned]`: the first leaves the word on its side, the second puts it on the other.
    The category says which of the two a statement has.
    """
    by_hand, most, sentences = written(dimension), _FRAMES[rung], []
    frames, fill = by_hand[rung], by_hand["fill"]
    generator = np.random.default_rng(DIMENSIONS.index(dimension))
    for number, pair in enumerate(by_hand["pairs"].items()):
        for frame in (frames[(most * number + i) % len(frames)] for i in range(most)):
            filled = {slot: generator.choice(values) for slot, values in fill.items()}
            for turned in range(2 if "[" in frame else 1):
                text = re.sub(r"\[(.*?)\|(.*?)\]", rf"\{turned + 1}", frame)
                for label, word in zip((1, 0), pair, strict=True):
                    statement = text.format(word=word, **filled)
                    sentences.append((statement, label ^ turned, "/".join(pair), ("as it is", "turned")[turned]))
    return pd.DataFrame(sentences, columns=["statement", "label", "group", "category"])


@lru_cache
def grammar() -> pd.DataFrame:
    """Return `statement`, `label` (1: grammatical), `group` and `category` (its kind) of the zeroth rung.

    A group is a quadruple: two beginnings crossed with two ends, each of which stands on both sides, so that no word tells
    the label. Its rows are two pairs, which share their beginning, the grammatical sentence first.
    """
    by_hand, generator, sentences = written("grammar"), np.random.default_rng(0), []
    for kind, parts in by_hand["kinds"].items():
        every = list(product(parts["frames"], parts["x"], parts["y"]))
        for number in generator.permutation(len(every))[:_QUADRUPLES]:
            frame, begins, ends = every[number]
            filled = {slot: generator.choice(values) for slot, values in by_hand["fill"].items()}
            for x, y in ((0, 0), (0, 1), (1, 1), (1, 0)):
                text = frame.replace("{x}", begins[x]).replace("{y}", ends[y]).format(**filled)
                sentences.append((text, int(x == y), f"{kind} {number}", kind))
    return pd.DataFrame(sentences, columns=["statement", "label", "group", "category"])
