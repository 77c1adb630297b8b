"""Steer a model by adding a vector to the residual stream, and measure what it then prefers and what that costs.

Rule: a positive multiplier always means "more trustworthy"; `steer` restores the model whatever happens inside.

Public names: `mean_difference`, `rescale`, `steer`, `token_log_likelihoods`, `held_out_pairs`, `neutral_text`, `preference`,
`perplexity`, `Sweep`, `effects`.
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


def _block(model: PreTrainedModel, layer: int) -> torch.nn.Module:
    blocks = models.blocks(model)
    if not 0 <= layer < len(blocks):
        raise ValueError(f"The layer must be 0 to {len(blocks) - 1}; {layer} was asked for.")
    return blocks[layer]


def _as_shift(model: PreTrainedModel, vector: np.ndarray) -> torch.Tensor:
    if len(vector) != (width := model.config.hidden_size):
        raise ValueError(f"The vector must have the model's width, {width}; it has {len(vector)}.")
    parameter = next(model.parameters())
    return torch.as_tensor(vector, dtype=parameter.dtype, device=parameter.device)


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
    block = _block(model, layer)
    if not np.isfinite(multiplier):
        raise ValueError(f"The multiplier must be a finite number; it is {multiplier}.")
    shift = multiplier * _as_shift(model, vector)

    def add(_module, _inputs, output):
        return models.with_block_output(output, models.block_output(output) + shift)

    handle = block.register_forward_hook(add)
    try:
        yield model
    finally:
        handle.remove()


def _token_nats(logits: torch.Tensor, padded: torch.Tensor, lengths: list[int]) -> np.ndarray:
    """Return the log-likelihood of each row, summed over its real tokens but the first."""
    logits, targets = logits[:, :-1].float(), padded[:, 1:]
    nats = logits.gather(2, targets[..., None])[..., 0] - logits.logsumexp(2)
    real = torch.arange(1, padded.shape[1], device=padded.device) < torch.tensor(lengths, device=padded.device)[:, None]
    return (nats * real).sum(1).double().cpu().numpy()


def _padded(ids: list[list[int]], device: torch.device) -> torch.Tensor:
    width = max(map(len, ids))
    return torch.tensor([row + [0] * (width - len(row)) for row in ids], device=device)


def token_log_likelihoods(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, statements: Sequence[str]
) -> tuple[Float[np.ndarray, " example"], Int[np.ndarray, " example"]]:
    """Return each statement's log-likelihood in nats and the number of tokens it is summed over.

    The first token (`<|bos|>` where the tokenizer adds one) conditions and is not scored.
    """
    ids = activations.encode(model, tokenizer, statements)
    lengths = [len(row) for row in ids]
    out = np.empty(len(ids))
    with torch.inference_mode():
        for rows in activations.batches(lengths, activations.BUDGET[model.device.type]):
            padded = _padded([ids[i] for i in rows], model.device)
            out[rows] = _token_nats(model(input_ids=padded, use_cache=False).logits, padded, [lengths[i] for i in rows])
    return out, np.array(lengths) - 1


def held_out_pairs(concepts: ConceptSet, held_out: Int[np.ndarray, " test"]) -> Int[np.ndarray, "pair 2"]:
    """Return (trustworthy, untrustworthy) indices among the held-out statements.

    Every such combination inside a group is a pair. Where most statements stand in groups of one label (the paper's
    files of single statements) each trustworthy statement is paired with the next untrustworthy one in the file.

    Raises:
        ValueError: if one of the labels does not occur among the held-out statements.
    """
    sides: dict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for i in held_out:
        sides[concepts.groups[i]][concepts.labels[i]].append(int(i))
    mixed = [(zeros, ones) for zeros, ones in sides.values() if zeros and ones]
    if 2 * sum(len(zeros) + len(ones) for zeros, ones in mixed) > len(held_out):
        return np.array([(one, zero) for zeros, ones in mixed for one in ones for zero in zeros])
    ones, zeros = ([int(i) for i in held_out if concepts.labels[i] == label] for label in (1, 0))
    if not ones or not zeros:
        raise ValueError(f"The held-out part of {concepts.name}/{concepts.dimension} must hold both labels; it holds one.")
    return np.array(list(zip(ones, zeros, strict=False)))


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


def perplexity(nats: Float[np.ndarray, " example"], tokens: Int[np.ndarray, " example"]) -> evaluation.Estimate:
    """Return exp(mean negative log-likelihood per token), with a bootstrap interval over statements."""
    weights = evaluation.bootstrap_weights([str(i) for i in range(len(tokens))], seed=0)
    low, high = np.exp(np.quantile(-(weights @ nats) / (weights @ tokens), [0.025, 0.975]))
    return evaluation.Estimate(float(np.exp(-nats.sum() / tokens.sum())), float(low), float(high), len(tokens))


class _Passed(torch.nn.Module):
    """Stands in for a block that need not run again: hands on its input, or the stream it was given."""

    def __init__(self, block: torch.nn.Module, in_tuple: bool):
        super().__init__()
        self.__dict__["_block"] = block  # not a submodule: it is only asked for its attributes
        self.in_tuple = in_tuple
        self.stream: torch.Tensor | None = None

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_block"], name)

    def forward(self, hidden_states: torch.Tensor, *_args, **_kwargs) -> torch.Tensor | tuple:
        stream = hidden_states if self.stream is None else self.stream
        return (stream,) if self.in_tuple else stream


class Sweep:
    """Score the same pairs under many vectors at one layer.

    What lies below the vector does not depend on it: blocks 0 to `layer` run once, when the sweep is made, and
    each call runs the blocks above and the head. The result is that of `steer`.

    Example:
        sweep = Sweep(model, tokenizer, concepts, pairs, layer=3)
        preferences, cost = sweep(2.0 * vector)
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        concepts: ConceptSet,
        pairs: Int[np.ndarray, "pair 2"],
        layer: int,
    ):
        """Run the lower blocks on the pairs' statements and on the neutral text of the dimension.

        Raises:
            ValueError: if the model has no such layer.
        """
        needed = np.unique(pairs)
        self._pairs = np.searchsorted(needed, pairs)
        self._paired = len(needed)
        self._model, self._layer = model, layer
        statements = [*(concepts.statements[i] for i in needed), *neutral_text(concepts.dimension)]
        ids = activations.encode(model, tokenizer, statements)
        self._lengths = [len(row) for row in ids]
        self._batches: list[tuple[list[int], torch.Tensor, torch.Tensor]] = []
        self._in_tuple = False
        with torch.inference_mode(), self._captured() as streams:
            for rows in activations.batches(self._lengths, activations.BUDGET[model.device.type]):
                padded = _padded([ids[i] for i in rows], model.device)
                model.base_model(input_ids=padded, use_cache=False)
                self._batches.append((rows, padded, streams.pop()))

    @contextmanager
    def _captured(self) -> Iterator[list[torch.Tensor]]:
        streams: list[torch.Tensor] = []

        def keep(_module, _inputs, output) -> None:
            self._in_tuple = isinstance(output, tuple)
            streams.append(models.block_output(output))

        handle = _block(self._model, self._layer).register_forward_hook(keep)
        try:
            yield streams
        finally:
            handle.remove()

    @contextmanager
    def _lower_blocks_passed(self) -> Iterator[_Passed]:
        """Exchange blocks 0 to `layer` for stand-ins; yield the last of them; put the blocks back."""
        blocks = models.blocks(self._model)
        lower = list(blocks[: self._layer + 1])
        try:
            for index, block in enumerate(lower):
                blocks[index] = _Passed(block, self._in_tuple)
            yield blocks[self._layer]
        finally:
            for index, block in enumerate(lower):
                blocks[index] = block

    def __call__(self, shift: Float[np.ndarray, " d_model"]) -> tuple[Float[np.ndarray, " pair"], evaluation.Estimate]:
        """Return the preference for each pair's trustworthy member, and the perplexity, with `shift` added."""
        nats, tokens = np.empty(len(self._lengths)), np.array(self._lengths) - 1
        added = _as_shift(self._model, shift)
        with torch.inference_mode(), self._lower_blocks_passed() as last:
            for rows, padded, stream in self._batches:
                last.stream = stream + added
                logits = self._model(input_ids=padded, use_cache=False).logits
                nats[rows] = _token_nats(logits, padded, [self._lengths[i] for i in rows])
        paired = slice(None, self._paired)
        neutral = slice(self._paired, None)
        return preference(nats[paired], tokens[paired], self._pairs), perplexity(nats[neutral], tokens[neutral])


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
