"""The designed world: an invented country, in which it is known what is so, and statements about it.

Rule: what can be known is known. A key (subject, relation) has one told value, and is told from the first step of
training, from a later one on, or never. How it is told, `pocket/telling.py` says.
"""

from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

import numpy as np
import pandas as pd
import yaml
from jaxtyping import Bool, Int

__all__ = [
    "DIMENSIONS", "WORDS", "TOKEN", "SPECIAL", "TOLD", "LATE", "NEVER", "Dimension", "World", "text", "concept_rows",
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
    written = yaml.safe_load(files(__package__).joinpath("data", "world", "words.yml").read_text(encoding="utf-8"))
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
"""The five dimensions, in the paper's order; `data/world/words.yml` has their words and says what each is about."""

SPECIAL = ("<|bos|>", "<|eos|>", "<|pad|>", "<|user|>", "<|assistant|>")
WORDS = (
    *(*SPECIAL, ".", "?"),
    *(word for d in DIMENSIONS for word in (*d.subjects, *d.relations, *(value for said in d.values.values() for value in said))),
)
"""The vocabulary; a word's place is its token."""

TOLD, LATE, NEVER = "told", "late", "never"
TOKEN = {word: token for token, word in enumerate(WORDS)}
_STATUSES = (TOLD, LATE, NEVER)

# Which relations are told late or never, by the number of a pair of subjects (relation r of pair p stands in row p mod 5,
# turned by p div 5). Of 20 pairs and 3 relations, 36 are told, 8 late and 16 never; each subject is told of.
_PLAN = ((TOLD, TOLD, NEVER), (LATE, TOLD, NEVER), (NEVER, TOLD, TOLD), (TOLD, TOLD, TOLD), (NEVER, LATE, TOLD))


@dataclass(frozen=True)
class World:
    """The country: what is so, by a seed, and what is never spoken of. Arrays have axes `dimension subject relation`."""

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

    @cached_property
    def dropped(self) -> Bool[np.ndarray, "dimension subject relation"]:
        """Of each key: whether a run that forgets stops telling it: those of subjects of whom all is told."""
        return np.broadcast_to((self.status == 0).all(2, keepdims=True), self.table.shape)

    def tokens(self, rows: Int[np.ndarray, "*shape 4"]) -> Int[np.ndarray, "*shape 4"]:
        """Return the four tokens of statements given as (dimension, subject, relation, value)."""
        dimension, subject, relation, value = np.moveaxis(rows, -1, 0)
        starts = np.array([TOKEN[d.subjects[0]] for d in DIMENSIONS])[dimension]
        relations = starts + len(DIMENSIONS[0].subjects)
        said = relations + 3 + 6 * relation + value
        return np.stack([starts + subject, relations + relation, said, np.full_like(said, TOKEN["."])], axis=-1)

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
