"""Steer a model by adding a vector to the residual stream: make vectors, add them, sweep over them, choose among them.

Rule: a positive dose always means "more trustworthy"; `steer` restores the model whatever happens inside.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.numpy import save_file
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...checkpoints import activations, models
from ...core import evaluation
from ...core.errors import unknown
from ...core.paths import replacing
from ...statements import user_files
from ...statements.concepts import ConceptSet
from .likelihoods import Batch, Forest, Perplexity, perplexity, preference

__all__ = [
    "BOUND", "POSITIONS", "Response", "Sweep", "choose", "directions", "dose_response", "effects", "mean_difference",
    "one_deviation", "read_preferences", "relative_norms", "save", "steer", "universal",
]  # fmt: skip

POSITIONS = ("all", "first", "last", "response")
"""Where a vector may be added: see `steer`."""

BOUND = 1.1
"""Most perplexity of a setting that may be chosen, as a multiple of the unsteered model's."""


def mean_difference(
    features: Float[np.ndarray, "example d_model"], labels: Int[np.ndarray, " example"]
) -> Float[np.ndarray, " d_model"]:
    """Return the mean of the trustworthy side minus the mean of the other: the paper's equation 1."""
    return features[labels == 1].mean(0) - features[labels == 0].mean(0)


def one_deviation(
    vector: Float[np.ndarray, " d_model"], features: Float[np.ndarray, "example d_model"]
) -> Float[np.ndarray, " d_model"]:
    """Return the direction of `vector`, as long as one standard deviation of the projections of `features` onto it.

    A *dose* counts such vectors. It means as much from every source and in every direction, and it does not vanish where
    the two sides have nearly the same mean, as they have where each word stands on both.

    Source: the released code (`generate_steering_vector.py`), which scales so; the paper's equation 1 does not say it.
    """
    unit = vector / np.linalg.norm(vector)
    return unit * (features @ unit).std()


def directions(
    source: Float[np.ndarray, "example layer d_model"],
    target: Float[np.ndarray, "example layer d_model"],
    concepts: ConceptSet,
    train: Int[np.ndarray, " train"],
    layers: Sequence[int],
    universal: Float[np.ndarray, "layer d_model"] | None = None,
) -> dict[str, Float[np.ndarray, "chosen d_model"]]:
    """Return the vectors of a checkpoint at each of `layers` (0-based), one standard deviation of the target long.

    They are made of the rows `train` of the activations of the checkpoint, `source`, and of the steered model, `target`.

    Returns:
        `vector`, the difference of means; and, if it was given, that over preference pairs, `universal`.
    """
    by_method = {"vector": {layer: mean_difference(source[train, layer], concepts.labels[train]) for layer in layers}}
    if universal is not None:
        by_method["universal"] = {layer: universal[layer] for layer in layers}
    return {
        method: np.stack([one_deviation(vector, target[train, layer]) for layer, vector in vectors.items()])
        for method, vectors in by_method.items()
    }


def relative_norms(
    vectors: Float[np.ndarray, "layer d_model"], acts: Float[np.ndarray, "example layer d_model"], layers: Sequence[int]
) -> Float[np.ndarray, " layer"]:
    """Return the norm of each layer's vector as a share of the mean norm of the activations it is added to."""
    return np.linalg.norm(vectors, axis=1) / np.linalg.norm(acts[:, list(layers)], axis=2).mean(0)


def read_preferences(path: str | Path) -> ConceptSet:
    """Read preference pairs as statements: what was chosen has label 1, what was rejected 0, and a pair is a group.

    The mean difference over them is the paper's "universal" vector, from PKU-SafeRLHF. That data is not part of this book.
    The file is a table (`.csv`, `.tsv`, `.jsonl`) with `chosen` and `rejected`.

    Raises:
        ValueError: if there is no such file, a column is missing, a cell is empty, or it holds no pair.
    """
    if not (file := Path(os.path.expanduser(path))).is_file():  # noqa: PTH111 - an unknown user is no error
        raise ValueError(f"Preferences must be a .csv, .tsv or .jsonl file of chosen and rejected texts; {path} is no file.")
    pairs = user_files.read_pairs(file.read_bytes(), str(path))
    texts = tuple(text for _, pair in pairs for text in pair)
    groups = tuple(f"pair {number}" for number, _ in pairs for _ in range(2))
    return ConceptSet(
        file.stem, "preference", texts, np.array([1, 0] * len(pairs)), groups, ("",) * len(texts), str(path), "the user's own"
    )


def universal(acts: Float[np.ndarray, "example layer d_model"], preferences: ConceptSet) -> Float[np.ndarray, "layer d_model"]:
    """Return the mean difference over preference pairs at every layer."""
    return np.stack([mean_difference(acts[:, layer], preferences.labels) for layer in range(acts.shape[1])])


def save(path: str | Path, arrays: Mapping[str, Float[np.ndarray, "..."]], provenance: dict) -> None:
    """Write vectors, and what was measured with them, as float32 safetensors, by rename, with their provenance.

    Args:
        path: of the file.
        arrays: name (such as `toxicity/direction/vector`) to array.
        provenance: what made them: checkpoint, hashes of the statements, layers, scaling.
    """
    tensors = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in arrays.items()}
    with replacing(Path(path)) as part:
        save_file(tensors, part, {"provenance": json.dumps(provenance, sort_keys=True)})


def _block(model: PreTrainedModel, layer: int) -> torch.nn.Module:
    blocks = models.blocks(model)
    if not 0 <= layer < len(blocks):
        raise ValueError(f"The layer must be 0 to {len(blocks) - 1}; {layer} was asked for.")
    return blocks[layer]


def _as_shift(model: PreTrainedModel, vector: np.ndarray) -> torch.Tensor:
    if len(vector) != (width := models.decoder(model).config.hidden_size):
        raise ValueError(f"The vector must have the model's width, {width}; it has {len(vector)}.")
    parameter = next(model.parameters())
    return torch.as_tensor(vector, dtype=parameter.dtype, device=parameter.device)


@contextmanager
def steer(
    model: PreTrainedModel,
    vector: Float[np.ndarray, " d_model"] | Mapping[int, Float[np.ndarray, " d_model"]],
    *,
    layer: int | None = None,
    multiplier: float,
    positions: str = "all",
) -> Iterator[PreTrainedModel]:
    """Add `multiplier * vector` to the output of block `layer`, inside the `with` block only.

    Args:
        model: with or without head.
        vector: what is added at `layer`; or a mapping of layers to vectors, and then no `layer`.
        layer: 0-based block.
        multiplier: how many times.
        positions: `all`; `first`: the first token of each text, so that what follows is read as after a text of that kind;
            `last`: the last position of every pass, which is the last token of the prompt and then each
            generated one (batches must be padded on the left); `response`: only passes that continue a cache,
            which is what follows the prompt in generation.

    Raises:
        ValueError: if the model has no such layer, a vector another width, the multiplier is not finite, or
            `positions` is unknown.

    Source: equation 2 of the paper; the released code adds at the `last` position, lm-evaluation-harness at `all`.

    Example:
        with steer(model, vector, layer=3, multiplier=2.0):
            model(input_ids=ids)
    """
    if isinstance(vector, Mapping) == (layer is not None):
        raise ValueError("One vector needs its layer, and a mapping of layers to vectors needs none.")
    if not np.isfinite(multiplier):
        raise ValueError(f"The multiplier must be a finite number; it is {multiplier}.")
    if positions not in POSITIONS:
        raise unknown("positions", positions, POSITIONS)
    vectors = vector if isinstance(vector, Mapping) else {layer: vector}
    added = [(_block(model, at), multiplier * _as_shift(model, each)) for at, each in vectors.items()]
    with ExitStack() as stack:
        if multiplier:  # adding 0 would still turn -0.0 into 0.0
            passing = _watched(model, stack) if positions in ("first", "response") else None
            for block, shift in added:
                handle = block.register_forward_hook(_adder(shift, positions, passing))
                stack.callback(handle.remove)
        yield model


def _adder(shift: torch.Tensor, positions: str, passing: dict | None):
    def add(_module, _inputs, output):
        stream = models.block_output(output)
        if positions == "all" or (positions == "response" and passing["continues"]):
            return models.with_block_output(output, stream + shift)
        if positions == "last":
            return models.with_block_output(output, torch.cat([stream[:, :-1], stream[:, -1:] + shift], dim=1))
        if positions == "first" and not passing["continues"]:
            return models.with_block_output(output, stream + _at_first(stream, passing["mask"], passing["places"]) * shift)
        return output

    return add


def _at_first(stream: torch.Tensor, mask: torch.Tensor | None, places: torch.Tensor | None) -> torch.Tensor:
    """Return 1 at the first token of each text and 0 elsewhere, `text token 1`.

    A mask `text token` tells of padding, and places in their texts of texts that stand in one line.
    """
    if places is not None and (mask is None or mask.dim() != 2):
        return (places == 0).to(stream)[..., None]
    at = torch.zeros_like(stream[..., :1])
    first = mask.argmax(1) if mask is not None and mask.dim() == 2 else torch.zeros(len(stream), dtype=torch.long)
    at[torch.arange(len(stream)), first.to(at.device)] = 1
    return at


def _watched(model: PreTrainedModel, stack: ExitStack) -> dict:
    """Return what tells, during each pass, whether it `continues` a cache, its attention `mask`, and the tokens' `places`."""
    passing = {}

    def look(_module, _args, kwargs) -> None:
        cache = kwargs.get("past_key_values")
        passing.update(continues=cache is not None and cache.get_seq_length() > 0)
        passing.update(mask=kwargs.get("attention_mask"), places=kwargs.get("position_ids"))

    handle = models.decoder(model).register_forward_pre_hook(look, with_kwargs=True)
    stack.callback(handle.remove)
    return passing


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


def _scored_from(ids: Sequence[Sequence[int]], pairs: Int[np.ndarray, "pair 2"]) -> list[int]:
    """Return from where on each row must be scored: what rows of one length begin with alike takes nothing from a preference.

    Only where all rows that pairs tie together are equally long; others, and rows in no pair, are scored from their second
    token on.
    """
    graph = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(ids), len(ids)))
    tied = defaultdict(list)
    for row, component in enumerate(connected_components(graph, directed=False)[1]):
        tied[component].append(row)
    begins = [1] * len(ids)
    for rows in tied.values():
        columns = list(zip(*(ids[row] for row in rows), strict=False))
        if len(rows) > 1 and len({len(ids[row]) for row in rows}) == 1:
            alike = next((at for at, column in enumerate(columns) if len(set(column)) > 1), len(columns))
            for row in rows:
                begins[row] = max(1, alike)
    return begins


class _Reached(Exception):  # noqa: N818 - nothing is wrong
    """The layer that is wanted has run; the blocks above need not."""


class Sweep:
    """Score the same pairs under many vectors at several layers.

    What lies below a vector does not depend on it: the blocks up to the highest of `layers` run once, when the sweep is
    made, and each call runs the blocks above its layer and the head. The result is that of `steer`.

    Example:
        sweep = Sweep(model, tokenizer, concepts, pairs, layers=[2, 4], neutral=neutral_text(concepts.dimension))
        preferences, cost = sweep(4, 2.0 * vector)
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        concepts: ConceptSet,
        pairs: Int[np.ndarray, "pair 2"],
        layers: Sequence[int],
        neutral: Sequence[str],
        positions: str = "all",
    ):
        """Run the lower blocks on the pairs' statements and on the neutral text; vectors are added at `positions`, all or first.

        Raises:
            ValueError: if the model has no such layer, or the positions are others.
        """
        if positions not in POSITIONS[:2]:
            raise unknown("positions of a sweep", positions, POSITIONS[:2])
        self._everywhere = positions == "all"
        needed = np.unique(pairs)
        self._pairs = np.searchsorted(needed, pairs)
        self._paired = len(needed)
        self._model = model
        ids = activations.encode(model, tokenizer, [*(concepts.statements[i] for i in needed), *neutral])
        self._tokens = np.array([len(row) - 1 for row in ids])
        self._in_tuple = False
        self._streams: dict[int, list[torch.Tensor]] = {layer: [] for layer in sorted(set(layers))}
        blocks = {layer: _block(model, layer) for layer in self._streams}
        self._forest = Forest(model, ids, _scored_from(ids, self._pairs))
        with torch.inference_mode(), ExitStack() as stack:
            for layer, block in blocks.items():
                stack.callback(block.register_forward_hook(self._keeper(layer)).remove)
            for batch in self._forest.batches:
                with suppress(_Reached):
                    models.decoder(model)(**batch.inputs, use_cache=False)

    def _keeper(self, layer: int):
        def keep(_module, _inputs, output) -> None:
            self._in_tuple = isinstance(output, (tuple, list))
            self._streams[layer].append(models.block_output(output))
            if layer == max(self._streams):
                raise _Reached

        return keep

    @contextmanager
    def _lower_blocks_passed(self, layer: int) -> Iterator[_Passed]:
        """Exchange blocks 0 to `layer` for stand-ins; yield the last of them; put the blocks back."""
        blocks = models.blocks(self._model)
        lower = list(blocks[: layer + 1])
        try:
            for index, block in enumerate(lower):
                blocks[index] = _Passed(block, self._in_tuple)
            yield blocks[layer]
        finally:
            for index, block in enumerate(lower):
                blocks[index] = block

    def __call__(self, layer: int, shift: Float[np.ndarray, " d_model"]) -> tuple[Float[np.ndarray, " pair"], Perplexity]:
        """Return the preference for each pair's trustworthy member, and the perplexity, with `shift` added at `layer`."""
        added = _as_shift(self._model, shift)
        with self._lower_blocks_passed(layer) as last:
            nats = self._forest.nats(partial(self._logits, layer, last, added))
        paired, neutral = slice(None, self._paired), slice(self._paired, None)
        tokens = self._tokens
        return preference(nats[paired], tokens[paired], self._pairs), perplexity(nats[neutral], tokens[neutral])

    def _logits(self, layer: int, last: _Passed, added: torch.Tensor, batch: Batch, number: int) -> torch.Tensor:
        """Return the logits of a batch with `added` at the layer whose stand-in is `last`."""
        last.stream = self._streams[layer][number].clone()
        last.stream.flatten(0, 1)[slice(None) if self._everywhere else batch.roots] += added
        return self._model(**batch.inputs, use_cache=False).logits

    def unsteered(self) -> tuple[Float[np.ndarray, " pair"], Perplexity]:
        """Return the same without a vector."""
        return self(max(self._streams), np.zeros(models.decoder(self._model).config.hidden_size, dtype=np.float32))


@dataclass(frozen=True)
class Response:
    """What pairs and text did under each layer and dose.

    Attributes:
        before: preference of each pair without steering, in nats per token.
        after: preference of each pair under each setting.
        plain: perplexity without steering.
        costs: perplexity under each setting, one row a layer.
    """

    before: Float[np.ndarray, " pair"]
    after: Float[np.ndarray, "layer dose pair"]
    plain: Perplexity
    costs: tuple[tuple[Perplexity, ...], ...]

    @property
    def gain(self) -> Float[np.ndarray, "layer dose pair"]:
        """Change of each pair's preference, in nats per token."""
        return self.after - self.before

    @property
    def losses(self) -> Float[np.ndarray, "layer dose text"]:
        """Loss of each neutral text, in nats per token."""
        return np.array([[cost.losses for cost in row] for row in self.costs])


def dose_response(
    sweep: Sweep,
    layers: Sequence[int],
    vectors: Float[np.ndarray, "layer d_model"],
    doses: Sequence[float],
    unsteered: tuple[Float[np.ndarray, " pair"], Perplexity],
) -> Response:
    """Run the sweep over all doses (how many times a vector is added) of each layer's vector.

    `unsteered` is what the sweep gives without a vector.
    """
    scored = [
        [sweep(layer, np.asarray(dose * vector, dtype=np.float32)) for dose in doses]
        for layer, vector in zip(layers, vectors, strict=True)
    ]
    shape = (len(vectors), len(doses), len(unsteered[0]))
    after = np.array([[preferences for preferences, _ in row] for row in scored]).reshape(shape)
    return Response(unsteered[0], after, unsteered[1], tuple(tuple(cost for _, cost in row) for row in scored))


def choose(response: Response, doses: Sequence[float], bound: float) -> tuple[int, int] | None:
    """Return the indices of the layer and the dose with the largest mean gain at a bearable cost.

    Only positive doses are candidates: the labels say which way is more trustworthy. None where no candidate
    gains anything: the model is then left alone. The response is that of the validation part; the choice is reported on the
    test part, once. The bound is the most perplexity, as a multiple of the unsteered model's.
    """
    cheap = np.array([[cost.value for cost in row] for row in response.costs]) <= bound * response.plain.value
    gains = np.where(cheap & (np.asarray(doses) > 0), response.gain.mean(2), 0.0)
    if not gains.size:
        return None
    best = np.unravel_index(np.argmax(gains), gains.shape)
    return (int(best[0]), int(best[1])) if gains[best] > 0 else None


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
