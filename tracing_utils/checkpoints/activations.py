"""Last-token activations of every block, for many statements, as fast as the machine allows and exactly.

Rule: position is the last token of the bare statement; layer k is the output of block k.

Statements are sorted by length and cut into batches of a token budget; the base model runs without its
head; batches are padded on the right without an attention mask, which is exact for causal models (the last
real token never sees what follows); a hook on each block gathers the last tokens on the device, and each
batch is copied once, on a GPU while the next one runs. `check` tests all this on a model before it is used.
A file of activations is written batch by batch and read where it is looked at; no set has to fit in memory.
"""

import json
import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open

from ..core.paths import replacing
from ..statements.concepts import ConceptSet
from . import ledger, tokens
from .types import Checkpoint

__all__ = ["BUDGET", "MEMORY", "batches", "check", "encode", "extract", "of", "padded", "save", "whole"]

if TYPE_CHECKING:
    import torch
    import transformers

# Tokens a batch may hold. On CPUs small batches stay in the cache; GPUs want them large.
BUDGET = {"cpu": 512, "cuda": 32768}

MEMORY = 1 << 30
"""Bytes of one set's activations that are held in memory; more than that stay in a file and are read where looked at."""


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield indices of statements of similar length, longest first (so that memory runs out at once or never)."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        rows = max(1, budget // lengths[order[start]])
        yield order[start : start + rows]
        start += rows


def padded(ids: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return rows of tokens with token 0 behind the shorter ones, so that all are as long as the longest."""
    width = max(map(len, ids))
    return [[*row, *[0] * (width - len(row))] for row in ids]


def encode(
    model: "transformers.PreTrainedModel", tokenizer: "transformers.PreTrainedTokenizerBase", statements: Sequence[str]
) -> list[list[int]]:
    """Return the token ids of each statement, as `tokens.tokenize` makes them.

    Raises:
        ValueError: if a statement has no token or more tokens than the model has positions, or the model does not know
            a token.
    """
    ids = tokens.tokenize(tokenizer, statements)
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 0
    most = longest if longest > 0 else max(map(len, ids))
    for statement, row in zip(statements, ids, strict=True):
        if not 0 < len(row) <= most:
            raise ValueError(f"A statement must have 1 to {most} tokens for this model; {statement[:60]!r} has {len(row)}.")
    if (highest := max(map(max, ids))) >= (known := model.get_input_embeddings().num_embeddings):
        raise ValueError(f"A tokenizer must belong to its model, which knows {known} tokens; this one gave number {highest}.")
    return ids


def _encode_set(
    model: "transformers.PreTrainedModel", tokenizer: "transformers.PreTrainedTokenizerBase", concepts: ConceptSet
) -> list[list[int]]:
    """Return the token ids of a set's statements, which the tokenizer must tell apart."""
    ids = encode(model, tokenizer, concepts.statements)
    tokens.check(tokenizer, concepts, ids)
    return ids


def extract(
    model: "transformers.PreTrainedModel", ids: Sequence[Sequence[int]], token_budget: int | None = None
) -> Float[np.ndarray, "example layer d_model"]:
    """Return the residual stream at the last of each statement's tokens, after every block, as float32.

    More than `MEMORY` bytes of it lie in a temporary file without a name, which goes when the array does.

    Args:
        model: a causal model; its base is run, a head is not.
        ids: the tokens of each statement, as `encode` gives them.
        token_budget: most tokens in a batch, padding included; chosen by device when not given.

    Source: the measurements behind each choice are in `benchmarks/`.
    """
    from . import models  # noqa: PLC0415 - torch and transformers take four seconds; reading a file needs neither

    shape = (len(ids), len(models.blocks(model)), models.decoder(model).config.hidden_size)
    if 4 * math.prod(shape) > MEMORY:
        with tempfile.TemporaryFile() as file:
            out = np.memmap(file, dtype=np.float32, shape=shape)
    else:
        out = np.empty(shape, dtype=np.float32)
    for rows, batch in _stream(model, ids, token_budget):
        out[rows] = batch
    return out


def _stream(
    model: "transformers.PreTrainedModel", ids: Sequence[Sequence[int]], token_budget: int | None = None
) -> Iterator[tuple[list[int], Float[np.ndarray, "row layer d_model"]]]:
    """Yield the places of some statements and their activations, batch by batch."""
    import torch  # noqa: PLC0415 - see extract

    from . import models  # noqa: PLC0415

    base, blocks = models.decoder(model), models.blocks(model)
    gpu = base.device.type == "cuda"
    lengths = [len(row) for row in ids]
    gathered: list[torch.Tensor] = []
    row = last = torch.empty(0)

    def on_device(values: Sequence) -> torch.Tensor:
        tensor = torch.tensor(values)
        return tensor.pin_memory().to(base.device, non_blocking=True) if gpu else tensor

    def gather(_module, _inputs, output) -> None:
        gathered.append(models.block_output(output)[row, last])

    def arrived(rows: list[int], batch: torch.Tensor, copied: "torch.cuda.Event | None") -> tuple[list[int], np.ndarray]:
        if copied:
            copied.synchronize()
        return rows, batch.numpy()

    under_way = None  # the batch that is being copied from the GPU while the next one runs
    handles = [block.register_forward_hook(gather) for block in blocks]
    try:
        for rows in batches(lengths, token_budget or BUDGET[base.device.type]):
            with torch.inference_mode():
                inputs = on_device(padded([ids[i] for i in rows]))
                row, last = on_device(range(len(rows))), on_device([lengths[i] - 1 for i in rows])
                gathered.clear()
                base(input_ids=inputs, use_cache=False)
                batch, copied = torch.stack(gathered, dim=1).float(), None
                if gpu:
                    batch = torch.empty(batch.shape, pin_memory=True).copy_(batch, non_blocking=True)
                    (copied := torch.cuda.Event()).record()
            if under_way:
                yield arrived(*under_way)
            under_way = rows, batch, copied
        yield arrived(*under_way)
    finally:
        for handle in handles:
            handle.remove()


# Of different length, so that a batch of them is padded.
_TRIAL = ("The lamp on the table by the window went out.", "Nobody knew why.", "It was late, and the rain had not stopped.")

# As a share of a typical entry: several times what rounding does over some tens of blocks, and far less than a leak.
_TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 1e-2}


def check(model: "transformers.PreTrainedModel", tokenizer: "transformers.PreTrainedTokenizerBase") -> None:
    """Refuse a model whose batches do not give what single statements give.

    The comparison finds encoders, wrong blocks and leaking padding in families that nobody has tried.

    Raises:
        ValueError: if the blocks do not run once each, activations overflow or are zero, or three statements in a batch and
            each on its own differ.
    """
    from . import models  # noqa: PLC0415 - see extract

    kind = type(model).__name__
    with _running(kind):
        ran = _blocks_run(model)
    if ran != [*range(len(models.blocks(model)))]:
        raise ValueError(f"Each of a model's blocks must run once, in order; those found in {kind} do not. It cannot be traced.")
    ids = encode(model, tokenizer, _TRIAL)
    with _running(kind):
        alone = np.concatenate([extract(model, [row]) for row in ids])
    if not np.isfinite(alone).all():
        raise ValueError(f"Activations must be finite; those of {kind} overflow in {model.dtype}. Leave this checkpoint out.")
    if not (typical := np.median(np.abs(alone), axis=2)).all():
        raise ValueError(f"Activations must not be zero; those of {kind} are, in a layer at least. Leave this checkpoint out.")
    with _running(kind):
        together = extract(model, ids, len(ids) * max(map(len, ids)))
    # By medians, since trained models have a few entries that are a thousand times larger than all others.
    off = float((np.median(np.abs(together - alone), axis=2) / typical).max())
    allowed = _TOLERANCE[str(model.dtype).removeprefix("torch.")]
    if not off <= allowed:
        raise ValueError(
            f"A batch must give what single statements give, to {allowed:g} of a typical entry; with {kind} they differ by "
            f"{off:.1g}. It sees what follows a token (an encoder does) or has blocks of an unknown kind, and cannot be traced."
        )


@contextmanager
def _running(kind: str) -> Iterator[None]:
    """Turn whatever a model raises on its first tokens into one sentence."""
    import torch  # noqa: PLC0415 - see extract

    from . import models  # noqa: PLC0415

    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise ValueError(
            f"A model must give a stream of one width after each block from tokens alone; {kind} stops with "
            f"{models.first_line(error)}. It cannot be traced."
        ) from error


def _blocks_run(model: "transformers.PreTrainedModel") -> list[int]:
    """Return which blocks run on three tokens, in that order."""
    import torch  # noqa: PLC0415 - see extract

    from . import models  # noqa: PLC0415

    ran: list[int] = []
    handles = [
        block.register_forward_hook(lambda *_, index=index: ran.append(index)) for index, block in enumerate(models.blocks(model))
    ]
    try:
        with torch.inference_mode():
            models.decoder(model)(input_ids=torch.tensor([[0, 0, 0]], device=model.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return ran


def _name(concepts: ConceptSet) -> str:
    return f"{concepts.name}/{concepts.dimension}"


def _keys(checkpoint: Checkpoint, sets: Iterable[ConceptSet]) -> dict[str, str]:
    """Return, by set, what decides the activations, wherever it lies: the weights, the tokenizer and the statements."""
    model = [*ledger.identity(checkpoint), *ledger.tokenizer_identity(checkpoint)]
    return {_name(concepts): json.dumps([*model, concepts.sha256]) for concepts in sets}


def _metadata(file: Path) -> dict[str, str]:
    """Return the metadata of a file; nothing where it is cut off or no safetensors file."""
    try:
        with safe_open(file, "numpy") as stored:
            return stored.metadata() or {}
    except SafetensorError:
        return {}


def dtype(file: str) -> str:
    """Return the dtype that the model had which made the activations in a file that `save` wrote; empty for no file."""
    return _metadata(Path(file)).get("dtype", "") if file else ""


def _digest(name: str) -> str:
    """Return the metadata's key for the sha256 of one set's activations."""
    return f"{name} sha256"


def whole(file: Path) -> bool:
    """Return whether a file that `save` wrote still holds what was written."""
    metadata = _metadata(file)
    if not metadata:
        return False
    with safe_open(file, "numpy") as stored:
        names = list(stored.keys())
    return all(_sha256(file, name) == metadata.get(_digest(name)) for name in names)


def _load(checkpoint: Checkpoint, trust_remote_code: bool, dtype: str = "auto"):
    """Return the model, checked, and the tokenizer."""
    from . import models  # noqa: PLC0415 - see extract

    trusted, checkpoint = {"trust_remote_code": trust_remote_code}, models.at_hand(checkpoint)
    tokenizer = models.load_tokenizer(checkpoint, **trusted)
    model = models.load_model(checkpoint, head=False, dtype=models.dtype_named(dtype, checkpoint, **trusted), **trusted)
    check(model, tokenizer)
    return model, tokenizer


def save(
    checkpoint: Checkpoint,
    sets: Sequence[ConceptSet],
    folder: Path,
    *,
    trust_remote_code: bool = False,
    dtype: str = "auto",
) -> None:
    """Write the activations of several sets at a checkpoint into one file, `folder/<revision>.safetensors`, by rename.

    A whole file that already holds these sets of these weights stays. It holds float32, by `<set>/<dimension>`; its metadata hold
    what decided them, their sha256, and the dtype of the model: float32, bfloat16, or by auto what `models.choose_dtype` chooses.

    Raises:
        ValueError: if the checkpoint cannot be read or traced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, keys = folder / f"{checkpoint.revision}.safetensors", _keys(checkpoint, sets)
    keys |= {"dtype": dtype} if dtype != "auto" else {}
    if path.exists() and keys.items() <= _metadata(path).items() and whole(path):
        return
    model, tokenizer = _load(checkpoint, trust_remote_code, dtype)
    ids = {_name(concepts): _encode_set(model, tokenizer, concepts) for concepts in sets}
    _write(model, ids, path, keys | {"dtype": str(model.dtype).removeprefix("torch.")})


def _write(model: "transformers.PreTrainedModel", ids: dict[str, list[list[int]]], path: Path, metadata: dict) -> None:
    """Extract into a safetensors file batch by batch.

    The header is written here. safetensors' own writer takes whole arrays: they would be written twice, or be mapped, and a
    full disk kills whoever writes into a mapped file.
    """
    from . import models  # noqa: PLC0415 - see extract

    shape, end = (len(models.blocks(model)), models.decoder(model).config.hidden_size), 0
    size = 4 * math.prod(shape)
    digests = {_digest(name): "0" * 64 for name in ids}  # of the right length; known when everything is written
    header = {"__metadata__": metadata | digests}
    for name, rows in ids.items():
        begin, end = end, end + size * len(rows)
        header[name] = {"dtype": "F32", "shape": [len(rows), *shape], "data_offsets": [begin, end]}
    with replacing(path) as part, part.open("wb") as file:
        file.write(header_bytes := _header_bytes(header))
        for name, statements in ids.items():
            begin = len(header_bytes) + header[name]["data_offsets"][0]
            for rows, batch in _stream(model, statements):
                for row, values in zip(rows, batch.astype("<f4", copy=False), strict=True):
                    file.seek(begin + size * row)
                    file.write(values)
        file.flush()
        digests = {_digest(name): _sha256(part, name) for name in ids}
        file.seek(0)
        file.write(_header_bytes(header | {"__metadata__": metadata | digests}))


def _header_bytes(header: dict) -> bytes:
    """Return a header as a safetensors file begins with it."""
    content = json.dumps(header).encode()
    content += b" " * (-len(content) % 8)
    return len(content).to_bytes(8, "little") + content


def of(
    checkpoint: Checkpoint, concepts: ConceptSet, file: str = "", *, trust_remote_code: bool = False
) -> Float[np.ndarray, "example layer d_model"]:
    """Return the activations of `concepts` at `checkpoint`, from `file` if one is named, else from the model.

    Raises:
        ValueError: if `file` holds the activations of other weights or other statements, or was damaged.
    """
    if not file:
        model, tokenizer = _load(checkpoint, trust_remote_code)
        return extract(model, _encode_set(model, tokenizer, concepts))
    if not Path(file).is_file():
        raise ValueError(f"The activations file must exist; {file} does not. Leave it empty to compute the activations.")
    if not _keys(checkpoint, [concepts]).items() <= _metadata(Path(file)).items():
        raise ValueError(f"{file} must hold {checkpoint.revision} on {_name(concepts)}; it holds others. Delete it.")
    if _sha256(Path(file), _name(concepts)) != _metadata(Path(file)).get(_digest(_name(concepts))):
        raise ValueError(f"{file} must hold what was written; it was damaged since. Delete it, and it is computed again.")
    stored = _view(Path(file), _name(concepts))
    return stored if stored.nbytes > MEMORY else np.array(stored)


def _place(file: Path, name: str) -> tuple[int, dict]:
    """Return where a tensor of a safetensors file begins, in bytes, and its entry in the header."""
    with file.open("rb") as stored:
        length = int.from_bytes(stored.read(8), "little")
        entry = json.loads(stored.read(length))[name]
    return 8 + length + entry["data_offsets"][0], entry


def _view(file: Path, name: str) -> np.memmap:
    """Return a tensor of a safetensors file without reading it."""
    begin, entry = _place(file, name)
    return np.memmap(file, dtype="<f4", mode="r", offset=begin, shape=tuple(entry["shape"]))


def _sha256(file: Path, name: str) -> str:
    """Return the sha256 of a tensor of a safetensors file; memory holds one megabyte of it at a time."""
    begin, entry = _place(file, name)
    first, end = entry["data_offsets"]
    digest = sha256()
    with file.open("rb") as stored:
        stored.seek(begin)
        for at in range(first, end, 1 << 20):
            digest.update(stored.read(min(1 << 20, end - at)))
    return digest.hexdigest()
