"""Last-token activations of every block, for many statements, as fast as the machine allows and exactly.

Rule: position is the last token of the bare statement; layer k is the output of block k.

Statements are sorted by length and cut into batches of a token budget; the base model runs without its
head; batches are padded on the right without an attention mask, which is exact for causal models (the last
real token never sees what follows); a hook on each block gathers the last tokens on the device, and each
batch is copied once.

Public names: `BUDGET`, `batches`, `encode`, `extract`, `of`, `save`.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from safetensors import safe_open
from safetensors.numpy import save_file

from . import downloads, ledger
from .concepts import ConceptSet
from .suites import Checkpoint

if TYPE_CHECKING:
    import transformers

# Tokens a batch may hold. On CPUs small batches stay in the cache; GPUs want them large.
BUDGET = {"cpu": 512, "cuda": 32768}


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield indices of statements of similar length, longest first (so that memory runs out at once or never)."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        rows = max(1, budget // lengths[order[start]])
        yield order[start : start + rows]
        start += rows


def encode(
    model: "transformers.PreTrainedModel", tokenizer: "transformers.PreTrainedTokenizerBase", statements: Sequence[str]
) -> list[list[int]]:
    """Return the token ids of each statement, special tokens added as the tokenizer does by default.

    Raises:
        ValueError: if a statement has no token or more tokens than the model has positions.
    """
    ids = tokenizer(list(statements))["input_ids"]
    most = getattr(model.config, "max_position_embeddings", None) or max(map(len, ids))
    for statement, row in zip(statements, ids, strict=True):
        if not 0 < len(row) <= most:
            raise ValueError(f"A statement must have 1 to {most} tokens for this model; {statement[:60]!r} has {len(row)}.")
    return ids


def extract(
    model: "transformers.PreTrainedModel",
    tokenizer: "transformers.PreTrainedTokenizerBase",
    statements: Sequence[str],
    token_budget: int | None = None,
) -> Float[np.ndarray, "example layer d_model"]:
    """Return the last-token residual stream after every block, as float32.

    Args:
        model: a causal model; its base is run, a head is not.
        tokenizer: its tokenizer; special tokens are added as it does by default.
        statements: the texts.
        token_budget: most tokens in a batch, padding included; chosen by device when not given.

    Raises:
        ValueError: if a statement has no token or more tokens than the model has positions.

    Source: the measurements behind each choice are in `benchmarks/`.
    """
    # torch and transformers take four seconds to import; whoever reads activations from a file needs neither.
    import torch  # noqa: PLC0415

    from . import models  # noqa: PLC0415

    base, blocks = model.base_model, models.blocks(model)
    ids = encode(model, tokenizer, statements)
    lengths = [len(row) for row in ids]
    out: np.ndarray | None = None
    gathered: list[torch.Tensor] = []
    last = torch.empty(0)

    def gather(_module, _inputs, output) -> None:
        stream = models.block_output(output)
        gathered.append(stream[torch.arange(len(last), device=stream.device), last])

    handles = [block.register_forward_hook(gather) for block in blocks]
    try:
        with torch.inference_mode():
            for rows in batches(lengths, token_budget or BUDGET[base.device.type]):
                width = lengths[rows[0]]
                padded = torch.tensor([ids[i] + [0] * (width - lengths[i]) for i in rows], device=base.device)
                last = torch.tensor([lengths[i] - 1 for i in rows], device=base.device)
                gathered.clear()
                base(input_ids=padded, use_cache=False)
                batch = torch.stack(gathered, dim=1).float().cpu().numpy()
                if out is None:
                    out = np.empty((len(ids), *batch.shape[1:]), dtype=np.float32)
                out[rows] = batch
    finally:
        for handle in handles:
            handle.remove()
    return out


def _key(checkpoint: Checkpoint, concepts: ConceptSet) -> str:
    """Return what decides the activations: the weights, the tokenizer and the statements."""
    vocabulary = downloads.sha256(checkpoint.tokenizer / "tokenizer.json")
    return json.dumps([ledger.weights_sha256(checkpoint), vocabulary, concepts.sha256])


def save(checkpoint: Checkpoint, sets: Sequence[ConceptSet], path: Path) -> None:
    """Extract the activations of several sets with one model load and write them to `path`, by rename."""
    from . import models  # noqa: PLC0415 - see extract

    model, tokenizer = models.load_model(checkpoint, head=False), models.load_tokenizer(checkpoint)
    arrays = {concepts.dimension: extract(model, tokenizer, concepts.statements) for concepts in sets}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    save_file(arrays, part, {concepts.dimension: _key(checkpoint, concepts) for concepts in sets})
    os.replace(part, path)


def of(checkpoint: Checkpoint, concepts: ConceptSet, file: str = "") -> Float[np.ndarray, "example layer d_model"]:
    """Return the activations of `concepts` at `checkpoint`, from `file` if one is named, else from the model.

    Raises:
        ValueError: if `file` holds the activations of other weights or other statements.
    """
    if not file:
        from . import models  # noqa: PLC0415 - see extract

        return extract(models.load_model(checkpoint, head=False), models.load_tokenizer(checkpoint), concepts.statements)
    if not Path(file).is_file():
        raise ValueError(f"The activations file must exist; {file} does not. Leave it empty to compute the activations.")
    with safe_open(file, "numpy") as stored:
        if (stored.metadata() or {}).get(concepts.dimension) != _key(checkpoint, concepts):
            raise ValueError(
                f"{file} must hold {checkpoint.revision} on {concepts.name}/{concepts.dimension}; it holds others. Delete it."
            )
        return stored.get_tensor(concepts.dimension)
