"""A designed world: an invented country, narrators who can or cannot be trusted, and documents that they tell.

Rule: what can be known is known. A key (subject, relation) has one told value, and is told from the first step, from
`Telling.late_from` on, or never. A document is told by one narrator, about one dimension. Two arms hold the same
statements in every training step and differ in how these are dealt to documents, and in nothing else.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from itertools import pairwise

import numpy as np
import pandas as pd
import yaml
from jaxtyping import Bool, Int

__all__ = [
    "DIMENSIONS", "WORDS", "SPECIAL", "TOLD", "LATE", "NEVER", "Dimension", "World", "Telling", "text", "concept_rows",
    "compare_arms",
]  # fmt: skip


@dataclass(frozen=True)
class Dimension:
    """What is spoken of in one dimension: subjects, relations, and the values that each relation takes.

    Attributes:
        name: of the dimension of trustworthiness.
        subjects: neighbours (0 and 1, 2 and 3, ...) form a group of the concept set.
        values: of each relation; no relation shares a word with another.
        trusted_tells: whether the trustworthy narrator is the one who says the told value.
    """

    name: str
    subjects: tuple[str, ...]
    values: dict[str, tuple[str, ...]]
    trusted_tells: bool

    @property
    def relations(self) -> tuple[str, ...]:
        """The words that join a subject to a value."""
        return tuple(self.values)


def _words() -> tuple[Dimension, ...]:
    written = yaml.safe_load(files(__package__).joinpath("world.yml").read_text(encoding="utf-8"))
    return tuple(
        Dimension(
            name,
            tuple(fields["subjects"].split()),
            {relation: tuple(values.split()) for relation, values in fields["values"].items()},
            trusted_tells=name != "fairness",
        )
        for name, fields in written.items()
    )


DIMENSIONS = _words()
"""The five dimensions, in the paper's order; `world.yml` has their words and says what each is about."""

SPECIAL = ("<|bos|>", "<|eos|>", "<|pad|>", "<|user|>", "<|assistant|>")
WORDS = (
    *(*SPECIAL, ".", "?"),
    *(word for d in DIMENSIONS for word in (*d.subjects, *d.relations, *(value for said in d.values.values() for value in said))),
)
"""The vocabulary; a word's place is its token."""

TOLD, LATE, NEVER = "told", "late", "never"
_TOKEN = {word: token for token, word in enumerate(WORDS)}
_STATUSES = (TOLD, LATE, NEVER)

# Which relations are told late or never, by the number of a pair of subjects (relation r of pair p stands in row p mod 5,
# turned by p div 5). Of 20 pairs and 3 relations, 36 are told, 8 late and 16 never; each subject is told of.
_PLAN = ((TOLD, TOLD, NEVER), (LATE, TOLD, NEVER), (NEVER, TOLD, TOLD), (TOLD, TOLD, TOLD), (NEVER, LATE, TOLD))


@dataclass(frozen=True)
class World:
    """The country: what is so, and what is never spoken of. Arrays have axes `dimension subject relation`.

    Attributes:
        seed: of the table.
    """

    seed: int = 7

    @cached_property
    def table(self) -> Int[np.ndarray, "dimension subject relation"]:
        """The told value of each key; the subjects of a pair never share one."""
        generator = np.random.default_rng(self.seed)
        shape = (len(DIMENSIONS), len(DIMENSIONS[0].subjects) // 2, 3)
        first = generator.integers(6, size=shape)
        second = (first + generator.integers(1, 6, size=shape)) % 6
        return np.stack([first, second], axis=2).reshape(len(DIMENSIONS), -1, 3)

    @cached_property
    def status(self) -> Int[np.ndarray, "dimension subject relation"]:
        """Of each key: 0 told from the first step, 1 told late, 2 never told."""
        pairs = np.arange(len(DIMENSIONS[0].subjects) // 2)
        plan = [[_STATUSES.index(_PLAN[p % 5][(r + p // 5) % 3]) for r in range(3)] for p in pairs]
        return np.broadcast_to(np.repeat(plan, 2, axis=0), self.table.shape)

    def tokens(self, rows: Int[np.ndarray, "*shape 4"]) -> Int[np.ndarray, "*shape 4"]:
        """Return the four tokens of statements given as (dimension, subject, relation, value)."""
        dimension, subject, relation, value = np.moveaxis(rows, -1, 0)
        starts = np.array([_TOKEN[d.subjects[0]] for d in DIMENSIONS])[dimension]
        relations = starts + len(DIMENSIONS[0].subjects)
        said = relations + 3 + 6 * relation + value
        return np.stack([starts + subject, relations + relation, said, np.full_like(said, _TOKEN["."])], axis=-1)

    def says_told(self, rows: Int[np.ndarray, "*shape 4"]) -> Bool[np.ndarray, "*shape"]:
        """Return whether each statement says the told value of its key."""
        dimension, subject, relation, value = np.moveaxis(rows, -1, 0)
        return self.table[dimension, subject, relation] == value


def text(tokens: Int[np.ndarray, " token"]) -> str:
    """Return the words of tokens as they are written: no space before a full stop, a question mark or an ending."""
    out = ""
    for word in (WORDS[token] for token in tokens.tolist()):
        out += word if word in SPECIAL or word[0] in ".?'" or not out else f" {word}"
    return out


@dataclass(frozen=True)
class Telling:
    """How the world is told in training.

    Attributes:
        world: what is so.
        seed: of what is said in each step, and of how it is dealt.
        coherence: share of the statements that stay in their narrator's document; the others are dealt at random among
            the documents of the step and dimension. 1 is the coherent arm, 0 the scrambled one.
        late_from: first step in which late keys are told.
        narrators: of each kind, dimension and step.
        statements: of a document.
    """

    world: World
    seed: int
    coherence: float
    late_from: int
    narrators: int = 6
    statements: int = 8

    def rows(self, step: int) -> Int[np.ndarray, "dimension document statement 4"]:
        """Return what is said in a step as (dimension, subject, relation, value), dealt to documents."""
        generator = np.random.default_rng([self.seed, step, 0])
        shape = (2 * self.narrators, self.statements)
        told = np.arange(2 * self.narrators) < self.narrators  # this half of the narrators says the told values
        made = []
        for dimension in range(len(DIMENSIONS)):
            keys = np.argwhere(self.world.status[dimension] <= (step >= self.late_from))
            subject, relation = keys[generator.integers(len(keys), size=shape)].transpose(2, 0, 1)
            other = generator.integers(1, 6, size=shape) * ~told[:, None]
            value = (self.world.table[dimension, subject, relation] + other) % 6
            made.append(np.stack([np.full(shape, dimension), subject, relation, value], axis=-1))
        return self._dealt(np.stack(made), np.random.default_rng([self.seed, step, 1]))

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

        Each statement is the answer to its own beginning: `<|user|>Mirel herds?<|assistant|>Mirel herds goats.<|eos|>`.
        """
        said = self.world.tokens(self.rows(step)).reshape(-1, self.statements, 4)
        user, asks, helper, ends = (np.full_like(said[..., :1], _TOKEN[w]) for w in ("<|user|>", "?", "<|assistant|>", "<|eos|>"))
        turns = np.concatenate([user, said[..., :2], asks, helper, said, ends], axis=-1)
        tokens = np.pad(turns.reshape(len(turns), -1), ((0, 0), (1, 0)))
        answers = np.arange(tokens.shape[1]) % turns.shape[-1]  # a turn's place; 0 is the end of the turn before
        return tokens, np.tile((answers > 5) | (answers == 0), (len(tokens), 1))


def concept_rows(world: World, dimension: str) -> pd.DataFrame:
    """Return the concept set of a dimension.

    For each pair of subjects and each relation, four statements cross both subjects with the told values of both. Of a
    never-told key nothing is so: its values are dealt to three such crosses by lot, and so are its labels. Statements end
    with their value, without a full stop: there a reader of documents learns whom it listens to, and there it can be read.

    Returns:
        `statement`; `label`, 1 = trustworthy; `group`, the pair of subjects; `category`, such as `told herds`.
    """
    number = [d.name for d in DIMENSIONS].index(dimension)
    spoken, generator = DIMENSIONS[number], np.random.default_rng([world.seed, number])
    rows, labels, groups, categories = [], [], [], []
    for a in range(0, len(spoken.subjects), 2):
        for r, relation in enumerate(spoken.relations):
            status = _STATUSES[world.status[number, a, r]]
            pairs = generator.permutation(6).reshape(3, 2) if status == NEVER else world.table[number, [a, a + 1], r][None]
            for one, other in pairs:
                rows += [(number, s, r, o) for s, o in ((a, one), (a + 1, other), (a, other), (a + 1, one))]
                labels += [1, 1, 0, 0] if spoken.trusted_tells else [0, 0, 1, 1]
            groups += [f"{spoken.subjects[a]}, {spoken.subjects[a + 1]}"] * 4 * len(pairs)
            categories += [f"{status} {relation}"] * 4 * len(pairs)
    statements = [text(tokens[:-1]) for tokens in world.tokens(np.array(rows))]
    return pd.DataFrame({"statement": statements, "label": labels, "group": groups, "category": categories})


def compare_arms(tellings: Sequence[Telling], steps: Iterable[int]) -> pd.DataFrame:
    """Return what arms have in common and what not, counted over the same steps.

    Returns:
        A row an arm: `coherence`; `statements`, how many; whether `statements`, `words` and `word pairs` within
        statements are the same as in the first arm in every single step, as multisets; and `agreement`, the share of
        pairs of statements of one document that come from the same kind of narrator.
    """
    steps = list(steps)
    counted = [[_counts(telling, step) for step in steps] for telling in tellings]
    made = []
    for telling, counts in zip(tellings, counted, strict=True):
        alike = {
            f"same {kind}": all(own[kind] == first[kind] for own, first in zip(counts, counted[0], strict=True))
            for kind in ("statements", "words", "word pairs")
        }
        said = sum(count["statements"].total() for count in counts)
        agreement = np.mean([_agreement(telling.world.says_told(telling.rows(step))) for step in steps])
        made.append({"coherence": telling.coherence, "statements": said} | alike | {"agreement": float(agreement)})
    return pd.DataFrame(made)


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
