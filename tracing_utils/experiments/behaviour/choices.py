"""Questions with two answers, by the likelihood of their letters: no text has to be parsed.

Rule: the letter's own likelihood is taken off, and each question is asked in both orders. What a parser makes of generated
text stands beside that as the wrong way.
"""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...checkpoints import activations, tokens
from ...core import evaluation
from ...statements.concepts import ConceptSet, draw, subset
from ..steering.behaviour import QUESTIONS, generate
from ..steering.likelihoods import encoded_log_likelihoods
from ..tables import Rows
from .preferences import won

__all__ = ["LETTERS", "WRITTEN", "gains", "knows_letters", "parsed", "parsed_rows", "prompts", "rows", "written"]

LETTERS = ("A", "B")
WRITTEN = 40
"""Most statements a dimension about which a model writes a free answer: that takes a pass a token."""

_ASKED = "Answer:"
_NEW = 4  # tokens of a free answer


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


def rows(asked: np.ndarray, alone: np.ndarray, concepts: ConceptSet, right: np.ndarray) -> Rows:
    """Yield `choice_right` (chance one half), `choice_margin` (nats for the right answer), and `letter_a`, the share of A.

    Over both orders the letters' own likelihood cancels; with one order, A says yes. `asked` and `alone` are what `gains`
    returns; `right` is 1 where yes is right.
    """
    weights = evaluation.bootstrap_weights(concepts.groups, seed=0)
    corrected, raw = ((nats[..., 0] - nats[..., 1]) for nats in (asked - alone, asked))  # for A
    both = (corrected[:, 0] - corrected[:, 1]) / 2
    yes = {"both orders": both, "one order": corrected[:, 0], "one order, prior kept": raw[:, 0]}
    for method, margin in yes.items():
        for_right = np.where(right == 1, margin, -margin)
        yield None, method, "choice_right", evaluation.mean(won(for_right), weights)
        if method == "both orders":
            yield None, method, "choice_margin", evaluation.mean(for_right, weights)
        else:
            yield None, method, "letter_a", evaluation.mean(won(margin), weights)


def parsed(answer: str) -> str:
    """Return what a parser of free text takes an answer for: `yes`, `no`, `dropped` if it says neutral, or else `refused`.

    Source: our transcription of what TrustLLM's parsers do, not their code: `neutral` is not counted, and what names no answer
    counts as a refusal.
    """
    yes, no = (
        re.search(rf"\b{word}\b|^{letter}\b(?! \w)", answer, re.I) for word, letter in zip(("yes", "no"), LETTERS, strict=True)
    )
    if bool(yes) != bool(no):
        return "yes" if yes else "no"
    return "dropped" if re.search(r"\bneutral\b", answer, re.I) else "refused"


def written(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, concepts: ConceptSet, right: np.ndarray) -> Rows:
    """Yield `parsed_rows` of what a model writes behind the questions about at most `WRITTEN` statements, A saying yes."""
    some = draw(concepts, WRITTEN)
    about = subset(concepts, some)
    said = generate(model, tokenizer, [asked for asked, _ in prompts(about)], _NEW, chat=False)
    yield from parsed_rows(said, about, right[some])


def parsed_rows(said: Sequence[str], concepts: ConceptSet, right: np.ndarray) -> Rows:
    """Yield the shares `refused` and `dropped` of free answers, and `parsed_right`, that of the right ones among the others.

    `right` is 1 where yes is right.
    """
    answers, weights = np.array([parsed(each) for each in said]), evaluation.bootstrap_weights(concepts.groups, seed=0)
    for metric in ("refused", "dropped"):
        yield None, "free answers", metric, evaluation.mean((answers == metric).astype(float), weights)
    left = np.isin(answers, ["yes", "no"]).astype(float)
    if left.any():
        agree = left * ((answers == "yes") == (right == 1))
        yield None, "free answers", "parsed_right", evaluation.ratio(agree, left, weights)
