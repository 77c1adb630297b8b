"""Steer a model by adding a vector to the residual stream, and measure what it then prefers and what that costs.

Rule: a positive multiplier always means "more trustworthy"; `steer` restores the model whatever happens inside.

Public names: `mean_difference`, `rescale`, `steer`, `token_log_likelihoods`, `held_out_pairs`, `preference`,
`neutral_text`, `perplexity`, `effects`.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float, Int
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from . import activations, evaluation, models
from .concepts import DIMENSIONS, ConceptSet, load


def mean_difference(
    features: Float[np.ndarray, "example d_model"], labels: Int[np.ndarray, " example"]
) -> Float[np.ndarray, " d_model"]:
    """Return the mean of the trustworthy side minus the mean of the other: the paper's equation 1."""
    return features[labels == 1].mean(0) - features[labels == 0].mean(0)


def rescale(vector: Float[np.ndarray, " d_model"], like: Float[np.ndarray, " d_model"]) -> Float[np.ndarray, " d_model"]:
    """Return the direction of `vector` with the norm of `like`.

    Checkpoints differ in the size of their activations. With the target's own difference of means as `like`, a
    multiplier of 1 is the same push from every source, and only the direction is compared.
    """
    return vector * (np.linalg.norm(like) / np.linalg.norm(vector))


@contextmanager
def steer(
    model: PreTrainedModel, vector: Float[np.ndarray, " d_model"], *, layer: int, multiplier: float
) -> Iterator[PreTrainedModel]:
    """Add `multiplier * vector` to the output of block `layer` at every position, inside the `with` block only.

    Raises:
        ValueError: if the model has no such layer, the vector another width, or the multiplier is not finite.

    Example:
        with steer(model, vector, layer=3, multiplier=2.0):
            model(input_ids=ids)
    """
    blocks = models.blocks(model)
    if not 0 <= layer < len(blocks):
        raise ValueError(f"The layer must be 0 to {len(blocks) - 1}; {layer} was asked for.")
    if len(vector) != (width := model.config.hidden_size):
        raise ValueError(f"The vector must have the model's width, {width}; it has {len(vector)}.")
    if not np.isfinite(multiplier):
        raise ValueError(f"The multiplier must be a finite number; it is {multiplier}.")
    parameter = next(model.parameters())
    shift = multiplier * torch.as_tensor(vector, dtype=parameter.dtype, device=parameter.device)

    def add(_module, _inputs, output):
        return models.with_block_output(output, models.block_output(output) + shift)

    handle = blocks[layer].register_forward_hook(add)
    try:
        yield model
    finally:
        handle.remove()


def token_log_likelihoods(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, statements: Sequence[str]
) -> tuple[Float[np.ndarray, " example"], Int[np.ndarray, " example"]]:
    """Return each statement's log-likelihood in nats and the number of tokens it is summed over.

    The first token (`<|bos|>` where the tokenizer adds one) conditions and is not scored.
    """
    ids = tokenizer(list(statements))["input_ids"]
    lengths = [len(row) for row in ids]
    out = np.empty(len(ids))
    with torch.inference_mode():
        for rows in activations.batches(lengths, activations.BUDGET[model.device.type]):
            width = lengths[rows[0]]
            padded = torch.tensor([ids[i] + [0] * (width - lengths[i]) for i in rows], device=model.device)
            logits = model(input_ids=padded, use_cache=False).logits[:, :-1].float()
            nats = -torch.nn.functional.cross_entropy(logits.transpose(1, 2), padded[:, 1:], reduction="none")
            real = torch.arange(1, width, device=model.device) < torch.tensor([[lengths[i]] for i in rows], device=model.device)
            out[rows] = (nats * real).sum(1).double().cpu().numpy()
    return out, np.array(lengths) - 1


def held_out_pairs(concepts: ConceptSet, held_out: Int[np.ndarray, " test"]) -> Int[np.ndarray, "pair 2"]:
    """Return (trustworthy, untrustworthy) indices among the held-out statements.

    Every such combination inside a group is a pair. Where groups hold one label only (the paper's files
    of single statements) each trustworthy statement is paired with the next untrustworthy one in the file.

    Raises:
        ValueError: if one of the labels does not occur among the held-out statements.
    """
    sides: dict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for i in held_out:
        sides[concepts.groups[i]][concepts.labels[i]].append(int(i))
    pairs = [(one, zero) for zeros, ones in sides.values() for one in ones for zero in zeros]
    if not pairs:
        ones = [int(i) for i in held_out if concepts.labels[i] == 1]
        zeros = [int(i) for i in held_out if concepts.labels[i] == 0]
        pairs = list(zip(ones, zeros, strict=False))
    if not pairs:
        raise ValueError(f"The held-out part of {concepts.name}/{concepts.dimension} must hold both labels; it holds one.")
    return np.array(pairs)


def preference(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, concepts: ConceptSet, pairs: Int[np.ndarray, "pair 2"]
) -> Float[np.ndarray, " pair"]:
    """Return by how much the model prefers the trustworthy member of each pair, in nats per token.

    Likelihoods are divided by the number of tokens, since members may differ in length.
    """
    needed = np.unique(pairs)
    nats, tokens = token_log_likelihoods(model, tokenizer, [concepts.statements[i] for i in needed])
    per_token = dict(zip(needed.tolist(), (nats / tokens).tolist(), strict=True))
    return np.array([per_token[one] - per_token[zero] for one, zero in pairs.tolist()])


def neutral_text(dimension: str) -> tuple[str, ...]:
    """Return the text that perplexity is measured on: 60 trustworthy pocket statements of the four other dimensions.

    They are this book's own, so no pre-training corpus held them.
    """
    out: list[str] = []
    for other in DIMENSIONS:
        if other != dimension:
            chosen = load("pocket", other)
            out += [chosen.statements[i] for i in np.flatnonzero(chosen.labels == 1)[:15]]
    return tuple(out)


def perplexity(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, statements: Sequence[str]) -> evaluation.Estimate:
    """Return exp(mean negative log-likelihood per token), with a bootstrap interval over statements."""
    nats, tokens = token_log_likelihoods(model, tokenizer, statements)
    weights = evaluation.bootstrap_weights([str(i) for i in range(len(tokens))], seed=0)
    low, high = np.exp(np.quantile(-(weights @ nats) / (weights @ tokens), [0.025, 0.975]))
    return evaluation.Estimate(float(np.exp(-nats.sum() / tokens.sum())), float(low), float(high), len(tokens))


def effects(
    before: Float[np.ndarray, " pair"], after: Float[np.ndarray, " pair"], groups: Sequence[str]
) -> dict[str, evaluation.Estimate]:
    """Return what steering did to the preferences of pairs, with intervals by group.

    Returns:
        `gain`: mean change, in nats per token, paired; `preferred`: share of pairs whose trustworthy
        member is the likelier one afterwards.
    """
    weights = evaluation.bootstrap_weights(groups, seed=0)
    return {"gain": evaluation.mean(after - before, weights), "preferred": evaluation.mean((after > 0).astype(float), weights)}
