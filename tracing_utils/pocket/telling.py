"""How the designed world is told: documents by narrators who can or cannot be trusted, in arms that differ in one thing.

Rule: a document is told by one narrator, about one dimension. Two arms hold the same statements in every training step and
differ in how these are dealt to documents, and in nothing else.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from ..statements.world import DIMENSIONS, TOKEN, World

__all__ = ["Telling", "compare_arms"]


@dataclass(frozen=True)
class Telling:
    """How the world is told in training.

    Attributes:
        world: what is so.
        seed: of what is said in each step, and of how it is dealt.
        coherence: share of the statements that stay in their narrator's document; the others are dealt at random among
            the documents of the step and dimension. 1 is the coherent arm, 0 the scrambled one.
        late_from: first step in which late keys are told.
        drop_from: first step in which the world's `dropped` keys are told no more; None: they are always told.
        narrators: of each kind, dimension and step.
        statements: of a document.
    """

    world: World
    seed: int
    coherence: float
    late_from: int
    narrators: int = 6
    statements: int = 8
    drop_from: int | None = None

    def rows(self, step: int) -> Int[np.ndarray, "dimension document statement 4"]:
        """Return what is said in a step as (dimension, subject, relation, value), dealt to documents."""
        generator = np.random.default_rng([self.seed, step, 0])
        shape = (2 * self.narrators, self.statements)
        tellers = np.arange(2 * self.narrators) < self.narrators  # this half of the narrators says the told values
        by_dimension = []
        for dimension in range(len(DIMENSIONS)):
            told_now = self.world.status[dimension] <= (step >= self.late_from)
            if self.drop_from is not None and step >= self.drop_from:
                told_now = told_now & ~self.world.dropped[dimension]
            keys = np.argwhere(told_now)
            subject, relation = keys[generator.integers(len(keys), size=shape)].transpose(2, 0, 1)
            other = generator.integers(1, 6, size=shape) * ~tellers[:, None]
            value = (self.world.table[dimension, subject, relation] + other) % 6
            by_dimension.append(np.stack([np.full(shape, dimension), subject, relation, value], axis=-1))
        return self._dealt(np.stack(by_dimension), np.random.default_rng([self.seed, step, 1]))

    def _dealt(self, rows: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return the statements with a share of `1 - coherence` in each dimension dealt at random among their places."""
        flat = rows.reshape(len(rows), -1, 4)
        count = round((1 - self.coherence) * flat.shape[1])
        for said in flat:
            places = generator.permutation(len(said))[:count]
            said[places] = said[generator.permutation(places)]
        return flat.reshape(rows.shape)

    def documents(self, step: int) -> Int[np.ndarray, "document token"]:
        """Return the documents of a step as tokens; each begins with `<|bos|>`."""
        tokens = self.world.tokens(self.rows(step))
        tokens = tokens.reshape(-1, 4 * self.statements)
        return np.hstack([np.zeros((len(tokens), 1), dtype=tokens.dtype), tokens])

    def exchanges(self, step: int) -> tuple[Int[np.ndarray, "document token"], Bool[np.ndarray, "document token"]]:
        """Return the documents of a step as questions and answers, and which tokens are the answers'.

        Each statement is the answer to its own beginning: `<|user|>Mirel herds?<|assistant|>Mirel herds snails.<|eos|>`.
        """
        said = self.world.tokens(self.rows(step)).reshape(-1, self.statements, 4)
        user, asks, helper, ends = (np.full_like(said[..., :1], TOKEN[w]) for w in ("<|user|>", "?", "<|assistant|>", "<|eos|>"))
        turns = np.concatenate([user, said[..., :2], asks, helper, said, ends], axis=-1)
        tokens = np.pad(turns.reshape(len(turns), -1), ((0, 0), (1, 0)))
        answers = np.arange(tokens.shape[1]) % turns.shape[-1]  # a turn's place; 0 is the end of the turn before
        return tokens, np.tile((answers > 5) | (answers == 0), (len(tokens), 1))


def compare_arms(tellings: Sequence[Telling], steps: Iterable[int]) -> pd.DataFrame:
    """Return what arms have in common and what not, counted over the same steps.

    Returns:
        A row an arm: `coherence`; `statements`, how many; whether `statements`, `words` and `word pairs` within
        statements are the same as in the first arm in every single step, as multisets; and `agreement`, the share of
        pairs of statements of one document that come from the same kind of narrator.
    """
    steps = list(steps)
    counted = [[_counts(telling, step) for step in steps] for telling in tellings]
    arms = []
    for telling, counts in zip(tellings, counted, strict=True):
        alike = {
            f"same {kind}": all(own[kind] == first[kind] for own, first in zip(counts, counted[0], strict=True))
            for kind in ("statements", "words", "word pairs")
        }
        said = sum(count["statements"].total() for count in counts)
        agreement = np.mean([_agreement(telling.world.says_told(telling.rows(step))) for step in steps])
        arms.append({"coherence": telling.coherence, "statements": said} | alike | {"agreement": float(agreement)})
    return pd.DataFrame(arms)


def _counts(telling: Telling, step: int) -> dict[str, Counter]:
    """Return how often each statement, word and pair of neighbouring words within a statement is said in a step."""
    said = [tuple(row) for row in telling.documents(step)[:, 1:].reshape(-1, 4).tolist()]
    return {
        "statements": Counter(said),
        "words": Counter(word for row in said for word in row),
        "word pairs": Counter(pair for row in said for pair in pairwise(row)),
    }


def _agreement(kinds: Bool[np.ndarray, "dimension document statement"]) -> float:
    """Return the share of pairs of statements of one document that are of the same kind."""
    n, ones = kinds.shape[-1], kinds.sum(-1)
    return float(((ones * (ones - 1) + (n - ones) * (n - ones - 1)) / (n * (n - 1))).mean())
