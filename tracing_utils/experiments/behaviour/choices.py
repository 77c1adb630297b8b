"""Questions with two answers, by the likelihood of their letters: no text is generated, so none has to be parsed.

Rule: the letter's own likelihood is taken off, and each question is asked in both orders.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...checkpoints import activations, tokens
from ...core import evaluation
from ...statements.concepts import ConceptSet
from ..steering.behaviour import QUESTIONS
from ..steering.likelihoods import encoded_log_likelihoods
from .preferences import Row

__all__ = ["gains", "knows_letters", "prompts", "rows"]

LETTERS = ("A", "B")
_ASKED = "Answer:"


def knows_letters(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether each letter of an answer is one token of its own, behind the same tokens."""
    try:
        said = tokens.tokenize(tokenizer, [f"{_ASKED} {letter}" for letter in LETTERS])
    except ValueError:  # it has no token for what it does not know
        return False
    alike = said[0][:-1] == said[1][:-1]
    return alike and all(tokenizer.decode(row[-1:]).strip() == letter for row, letter in zip(said, LETTERS, strict=True))


def prompts(concepts: ConceptSet) -> list[list[str]]:
    """Return each statement with the question of its dimension and its two answers, yes first and no first."""
    question = QUESTIONS[concepts.dimension].partition("?")[0] + "?"
    orders = (("yes", "no"), ("no", "yes"))
    listed = ["\n".join(f"{letter}. {word}" for letter, word in zip(LETTERS, order, strict=True)) for order in orders]
    return [[f"{statement}\n{question}\n{options}\n{_ASKED}" for options in listed] for statement in concepts.statements]


def gains(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, concepts: ConceptSet
) -> tuple[Float[np.ndarray, "example order letter"], Float[np.ndarray, " letter"]]:
    """Return the log-probability of each letter after each question in each order, and after "Answer:" alone."""
    texts = [text for both in prompts(concepts) for text in both] + [_ASKED]
    ids = activations.encode(model, tokenizer, [f"{text} {letter}" for text in texts for letter in LETTERS])
    nats = encoded_log_likelihoods(model, ids, [len(row) - 1 for row in ids])
    return nats[:-2].reshape(-1, 2, 2), nats[-2:]


def rows(asked: np.ndarray, alone: np.ndarray, concepts: ConceptSet, right: np.ndarray) -> Iterator[Row]:
    """Yield `choice_right` (chance one half), `choice_margin` (nats for the right answer), and `letter_a`, the share of A.

    Over both orders the letters' own likelihood cancels; with one order, A says yes.

    Args:
        asked: as of `gains`.
        alone: as of `gains`.
        concepts: what was asked about.
        right: 1 where yes is right.
    """
    weights = evaluation.bootstrap_weights(concepts.groups, seed=0)
    first, kept = ((each[..., 0] - each[..., 1]) for each in (asked - alone, asked))  # nats for A
    yes = {"both orders": (first[:, 0] - first[:, 1]) / 2, "one order": first[:, 0], "one order, prior kept": kept[:, 0]}
    for method, margin in yes.items():
        for_right = np.where(right == 1, margin, -margin)
        yield None, method, "choice_right", evaluation.mean((np.sign(for_right) + 1) / 2, weights)
        if method == "both orders":
            yield None, method, "choice_margin", evaluation.mean(for_right, weights)
        else:
            yield None, method, "letter_a", evaluation.mean((np.sign(margin) + 1) / 2, weights)
