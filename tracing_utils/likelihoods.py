"""What a model finds likely: log-likelihoods of statements, preferences inside pairs, choices inside groups, perplexity.

Rule: members of a pair or a choice may differ in length, so a preference is always per token.

Public names: `encoded_log_likelihoods`, `token_log_likelihoods`, `held_out_pairs`, `neutral_text`, `preference`,
`Perplexity`, `perplexity`, `multiple_choice`.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from . import activations, evaluation
from .concepts import DIMENSIONS, ConceptSet, load


def token_nats(
    logits: Float[torch.Tensor, "batch pos vocabulary"],
    padded: Int[torch.Tensor, "batch pos"],
    lengths: Sequence[int],
    begins: Sequence[int],
) -> Float[np.ndarray, " batch"]:
    """Return the log-likelihood of each row of a right-padded batch, summed over positions `begins` to `lengths`."""
    logits, targets = logits[:, :-1].float(), padded[:, 1:]
    nats = -cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)
    at = torch.arange(1, padded.shape[1], device=padded.device)
    low, high = (torch.tensor(ends, device=padded.device)[:, None] for ends in (begins, lengths))
    return (nats * ((at >= low) & (at < high))).sum(1).double().cpu().numpy()


def right_padded(ids: Sequence[Sequence[int]], device: torch.device) -> Int[torch.Tensor, "batch pos"]:
    """Return rows of tokens as one batch, padded on the right (exact for causal models without a mask)."""
    width = max(map(len, ids))
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in ids], device=device)


def encoded_log_likelihoods(
    model: PreTrainedModel, ids: Sequence[Sequence[int]], begins: Sequence[int]
) -> Float[np.ndarray, " example"]:
    """Return the log-likelihood in nats of each row of tokens from position `begins` on (1 at least: the first conditions)."""
    lengths = [len(row) for row in ids]
    out = np.empty(len(ids))
    with torch.inference_mode():
        for rows in activations.batches(lengths, activations.BUDGET[model.device.type]):
            padded = right_padded([ids[i] for i in rows], model.device)
            logits = model(input_ids=padded, use_cache=False).logits
            out[rows] = token_nats(logits, padded, [lengths[i] for i in rows], [begins[i] for i in rows])
    return out


def token_log_likelihoods(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, statements: Sequence[str]
) -> tuple[Float[np.ndarray, " example"], Int[np.ndarray, " example"]]:
    """Return each statement's log-likelihood in nats and the number of tokens it is summed over.

    The first token (`<|bos|>` where the tokenizer adds one) conditions and is not scored.
    """
    ids = activations.encode(model, tokenizer, statements)
    nats = encoded_log_likelihoods(model, ids, [1] * len(ids))
    return nats, np.array([len(row) - 1 for row in ids])


def held_out_pairs(concepts: ConceptSet, held_out: Int[np.ndarray, " test"]) -> Int[np.ndarray, "pair 2"]:
    """Return (trustworthy, untrustworthy) indices among the held-out statements.

    Every such combination inside a group is a pair. Where most statements stand in groups of one label (the paper's
    files of single statements) each trustworthy statement is paired with the next untrustworthy one in the file.

    Raises:
        ValueError: if one of the labels does not occur among the held-out statements.
    """
    mixed = list(_mixed_groups(concepts, held_out).values())
    if 2 * sum(len(zeros) + len(ones) for zeros, ones in mixed) > len(held_out):
        return np.array([(one, zero) for zeros, ones in mixed for one in ones for zero in zeros])
    ones, zeros = ([int(i) for i in held_out if concepts.labels[i] == label] for label in (1, 0))
    if not ones or not zeros:
        raise ValueError(f"The held-out part of {concepts.name}/{concepts.dimension} must hold both labels; it holds one.")
    return np.array(list(zip(ones, zeros, strict=False)))


def _mixed_groups(concepts: ConceptSet, held_out: np.ndarray) -> dict[str, tuple[list[int], list[int]]]:
    """Return the untrustworthy and the trustworthy members of each group that has both."""
    sides: dict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for i in held_out:
        sides[concepts.groups[i]][concepts.labels[i]].append(int(i))
    return {group: both for group, both in sides.items() if all(both)}


_NEUTRAL = {"test": slice(0, 15), "validation": slice(15, 25)}


def neutral_text(dimension: str, part: str = "test") -> tuple[str, ...]:
    """Return text to measure perplexity on: trustworthy pocket statements of the four other dimensions.

    They are this book's own, so no pre-training corpus held them. `test` has 60 statements, `validation`, which
    settings are chosen on, 40 others.
    """
    out: list[str] = []
    for other in DIMENSIONS:
        if other != dimension:
            chosen = load("pocket", other)
            out += [chosen.statements[i] for i in np.flatnonzero(chosen.labels == 1)[_NEUTRAL[part]]]
    return tuple(out)


def preference(
    nats: Float[np.ndarray, " example"], tokens: Int[np.ndarray, " example"], pairs: Int[np.ndarray, "pair 2"]
) -> Float[np.ndarray, " pair"]:
    """Return by how much the trustworthy member of each pair is preferred, in nats per token.

    Likelihoods are divided by the number of tokens, since members may differ in length.

    Args:
        nats: log-likelihood of each statement.
        tokens: number of tokens of each.
        pairs: indices of the trustworthy and the untrustworthy member.
    """
    per_token = nats / tokens
    return per_token[pairs[:, 0]] - per_token[pairs[:, 1]]


@dataclass(frozen=True, eq=False)
class Perplexity(evaluation.Estimate):
    """A perplexity, and the loss of each text behind it in nats per token."""

    losses: Float[np.ndarray, " example"]


def perplexity(nats: Float[np.ndarray, " example"], tokens: Int[np.ndarray, " example"]) -> Perplexity:
    """Return exp(mean negative log-likelihood per token), with a bootstrap interval over statements."""
    weights = evaluation.bootstrap_weights([str(i) for i in range(len(tokens))], seed=0)
    low, high = np.exp(np.quantile(-(weights @ nats) / (weights @ tokens), [0.025, 0.975]))
    value = float(np.exp(-nats.sum() / tokens.sum()))
    return Perplexity(value, float(low), float(high), len(tokens), -nats / tokens)


def multiple_choice(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, concepts: ConceptSet, held_out: Int[np.ndarray, " test"]
) -> tuple[dict[str, Float[np.ndarray, " choice"]], tuple[str, ...]]:
    """Score each held-out group that has both labels as a multiple choice (TruthfulQA: one question and its answers).

    What all members of a group begin with (the question) conditions; the rest of each is scored, in nats per token.

    Returns:
        `mc1`: 1 where the first trustworthy member is likelier than every untrustworthy one, else 0; `mc2`: the
        trustworthy members' share of the probability, that of a member being exp(nats per token); and the groups.

    Source: MC1 and MC2 of TruthfulQA (Lin et al. 2022), which sum over tokens; divided by length here, since true
    answers are longer.
    """
    if not (groups := _mixed_groups(concepts, held_out)):
        return {"mc1": np.empty(0), "mc2": np.empty(0)}, ()
    rows = [i for zeros, ones in groups.values() for i in (*zeros, *ones)]
    ids = dict(zip(rows, activations.encode(model, tokenizer, [concepts.statements[i] for i in rows]), strict=True))
    begin = {}
    for zeros, ones in groups.values():
        members = [ids[i] for i in (*zeros, *ones)]
        shared = next((at for at, column in enumerate(zip(*members, strict=False)) if len(set(column)) > 1), len(members[0]))
        begin |= {i: max(1, min(shared, len(ids[i]) - 1)) for i in (*zeros, *ones)}
    nats = dict(zip(rows, encoded_log_likelihoods(model, [ids[i] for i in rows], [begin[i] for i in rows]), strict=True))
    score = {i: nats[i] / (len(ids[i]) - begin[i]) for i in rows}
    mc1, mc2 = [], []
    for zeros, ones in groups.values():
        mc1.append(float(score[ones[0]] > max(score[i] for i in zeros)))
        right, wrong = (np.exp([score[i] for i in side]).sum() for side in (ones, zeros))
        mc2.append(right / (right + wrong))
    return {"mc1": np.array(mc1), "mc2": np.array(mc2)}, tuple(groups)
