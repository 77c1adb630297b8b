"""Which files of a checkpoint's folder are its weights, and what lies beside them that must not pass unseen.

Rule: the index decides, as it does for transformers; a folder that leaves open what its weights are is refused.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from pickle import UnpicklingError
from typing import NamedTuple
from zipfile import is_zipfile

import numpy as np
from safetensors import safe_open

from ..core.errors import brief
from .types import ADDED, CHAT_TEMPLATE, INDICES, is_weights, tokenizer_names, weight_names

__all__ = [
    "CONSTANTS", "DAMAGED", "DESCRIPTIVE", "HEADS", "NARROW", "NOTE", "REFUSED", "adapters", "by_bitsandbytes", "chat_template",
    "configuration", "content", "dangling", "faults", "indices", "is_adapter", "is_pointer", "not_read", "of_names",
    "other_saves", "pointers", "quantisation", "quantised", "refuse", "rounded", "same", "untold", "weights",
]  # fmt: skip

_ADAPTER = re.compile(r"([\w.-]*[_.-])?(adapters?|lora)([_.-][\w.-]*)?\.(json|safetensors|bin|pth?|npz|ckpt)", re.IGNORECASE)
_READ_BEFORE = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")  # by transformers, whatever else is there
_POINTER = b"version https://git-lfs"
_MOST_OF_A_POINTER = 1024  # bytes, as git-lfs has it

_WIDE = {"F32": "<f4", "F64": "<f8"}
NARROW = ("BF16", "F16")
"""Dtypes to which weights are rounded when they are saved anew."""
_SMALL = re.compile(r"F[48]_|[IU][48]$")  # dtypes, as safetensors writes them, that need scales

_OTHER_SAVE = re.compile(
    r".+\.(safetensors|gguf|msgpack|h5)|consolidated.*\.pth|(pytorch_)?model.*\.(bin|pth?)|mp_rank_.*_model_states\.pt"
)

_MERGE = "merge it into its base first (peft's merge_and_unload, then save_pretrained of what that gives)"
_AN_ADAPTER, _A_POINTER, _A_LINK, _TWO_SAVES, _UNFIT, _UNSCALED, _UNTOLD, DAMAGED = REFUSED = (
    "an adapter, which would not be used", "a pointer of git-lfs", "a link to nothing", "two saves of weights",
    "no index that fits", "small whole numbers or fp8 without a word on their scales", "a quantisation without a method",
    "a damaged file",
)  # fmt: skip
"""What a fault begins with that no weights are read in spite of."""

# What a file may hold that a model does without: a head, and what older versions of transformers stored though it follows from
# the configuration. A head is one matrix and its bias, or one of the few that have a layer before it; what only begins like
# one, such as `output.norm.weight` or `head.0.weight`, may be part of the stream.
HEADS = re.compile(
    r"(?:(?:module|_orig_mod|model|language_model|base_model)\.)*(?:"
    r"(?:lm_head|embed_out|output|output_projection|head|score|classifier|value_head|v_head(?:\.summary)?|pooler(?:\.dense)?"
    r"|lm_head\.(?:dense|norm|layer_norm|decoder))\.(?:weight|bias)|lm_head\.bias|decoder\.bias|cls\.\w+\..*)$"
)
"""Names of the weights of heads, and of the pooler of a masked language model."""
CONSTANTS = re.compile(r"(^|\.)(masked_bias|rotary_emb\.inv_freq|position_ids)$")
"""Names of what follows from the configuration."""

DESCRIPTIVE = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "use_cache"}
"""What a configuration tells that decides nothing of what the model computes."""

NOTE = "quantised.txt"
"""The file that says how weights were quantised which are plain numbers by now."""


def weights(folder: Path) -> list[str]:
    """Return the names of a folder's weight files: those its index names, else those named as transformers names them."""
    indexed = indices(folder)
    inside = (name for names in indexed.values() for name in names if not {"..", "/"} & set(Path(name).parts))
    nested = [name for name in inside if (folder / name).is_file()]
    return weight_names([path.name for path in folder.iterdir() if path.is_file()] + nested, indexed)


def indices(folder: Path) -> dict[str, list[str]]:
    """Return the files that each index of a folder names, as far as transformers can read it."""
    named = {}
    for index in INDICES:
        try:
            content = json.loads((folder / index).read_bytes())
            content["metadata"]  # without which transformers does not read it
            named[index] = sorted(set(map(str, content["weight_map"].values())))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue
    return {index: names for index, names in named.items() if names}  # of one that names nothing, nothing would be read


def is_adapter(name: str) -> bool:
    """Return whether a file is named as those that change weights which lie elsewhere."""
    return bool(_ADAPTER.fullmatch(name))


def adapters(names: Iterable[str]) -> list[str]:
    """Return the fault of a folder with an adapter among the names of its files; none without."""
    return [f"{_AN_ADAPTER}: {name}, {_MERGE}" for name in sorted(filter(is_adapter, names))[:1]]


def dangling(folder: Path) -> list[str]:
    """Return the names of links in a folder that lead to nothing."""
    return sorted(path.name for path in folder.iterdir() if path.is_symlink() and not path.exists())


def chat_template(folder: Path) -> tuple[Path, str] | None:
    """Return the file of a folder that holds a chat template as text, and that text; older versions stored it elsewhere."""
    if (file := folder / CHAT_TEMPLATE).is_file():
        return file, file.read_text(encoding="utf-8")
    for name in ("tokenizer_config.json", "chat_template.json"):
        template = (_object(folder / name) or {}).get("chat_template")
        if isinstance(template, str):
            return folder / name, template
    return None


def other_saves(names: Iterable[str]) -> list[str]:
    """Return which files are named as other programs, or variants of a save, name weights; transformers does not read them."""
    return sorted(name for name in names if _OTHER_SAVE.fullmatch(name) and not is_weights(name) and not is_adapter(name))


def not_read(folder: Path) -> list[str]:
    """Return what looks like weights in a folder that has none which transformers reads, or in a folder inside it."""
    within = [path for path in folder.glob("*/*") if is_weights(path.name) or other_saves([path.name])]
    return other_saves(path.name for path in folder.iterdir()) + sorted(path.relative_to(folder).as_posix() for path in within)


def is_pointer(path: Path) -> bool:
    """Return whether a file says only where git-lfs keeps its content."""
    small = path.is_file() and path.stat().st_size <= _MOST_OF_A_POINTER
    return small and path.read_bytes().startswith(_POINTER)


def pointers(folder: Path, names: Iterable[str]) -> list[str]:
    """Return a fault for each of these files of a folder that git-lfs has not fetched."""
    return [f"{_A_POINTER} in place of {name}: run `git lfs pull`" for name in names if is_pointer(folder / name)]


def faults(folder: Path, tokenizer: Path | None = None) -> list[str]:
    """Return what is wrong with the files of a checkpoint's folder, and of its tokenizer's if that is given.

    What begins with one of `REFUSED` forbids to read it.
    """
    here, read = [path.name for path in folder.iterdir()], weights(folder)
    places = [(folder, ["config.json", *INDICES, *read])]
    if tokenizer and tokenizer.is_dir():
        places.append((tokenizer, tokenizer_names(path.name for path in tokenizer.iterdir())))
    wrong = adapters(here)
    nested = [path.name for path in folder.iterdir() if path.is_dir() and adapters(each.name for each in path.iterdir())]
    wrong += [f"adapters inside it, not used: {', '.join(sorted(nested))}"] if nested else []
    for place, names in places:
        wrong += pointers(place, names)
    if ADDED in here and not tokenizer_names(here):
        wrong.append(f"{ADDED} is not used, since no vocabulary lies beside it")
    needed = {*INDICES, *(name for names in indices(folder).values() for name in names)}
    if lost := [name for name in dangling(folder) if is_weights(name) or name in needed]:
        return [*wrong, f"{_A_LINK} in place of {', '.join(lost)}: copy what it leads to"]
    wrong += untold(configuration(folder) or {})
    wrong += _damaged(folder, read)
    wrong += [f"{_UNSCALED}: {name}" for name in _unscaled(folder, read)[:1]]
    if not read:
        return wrong + _nothing_named(indices(folder))
    wrong += _pickles(here, read)
    wrong += _of_weights(folder, read, sorted(filter(is_weights, here)))
    return wrong if any(fault.startswith(REFUSED) for fault in wrong) else wrong + _others(here, read)


def of_names(names: Iterable[str], read: list[str], indexed: Mapping[str, list[str]]) -> list[str]:
    """Return what is wrong with a checkpoint on a hub, of which no file of weights is here, by the names of all its files.

    `read` are those that are its weights, `indexed` what `indices` tells.
    """
    names = {name for name in names if "/" not in name}
    wrong, alike = adapters(names), sorted(filter(is_weights, names))
    if read:
        return wrong + _pickles(names, read) + _second_save(read, alike) + _of_index(read, alike, indexed) + _others(names, read)
    return wrong + _nothing_named(indexed)


def _pickles(names: Iterable[str], read: list[str]) -> list[str]:
    pickled = sorted(name for name in names if is_weights(name) and not read[0].endswith(".bin") and name.endswith(".bin"))
    return [f"not used, since there are safetensors: {', '.join(pickled)}"] if pickled else []


def _others(names: Iterable[str], read: list[str]) -> list[str]:
    beside = [name for name in other_saves(names) if name not in read]
    return [f"not used, since transformers reads {read[0]}: {', '.join(beside)}"] if beside else []


def _second_save(read: list[str], others: Iterable[str]) -> list[str]:
    """Return the fault of one whole file beside others that are weights of its kind."""
    if not any(read == [index.removesuffix(".index.json")] for index in INDICES):
        return []
    second = [name for name in others if name not in read and name.endswith(Path(read[0]).suffix)]
    return [f"{_TWO_SAVES}, {read[0]} and {second[0]}: delete the one that is not this checkpoint's"] if second else []


def _of_weights(folder: Path, read: list[str], alike: list[str]) -> list[str]:
    """Return the faults of a folder with weights; `alike` are all its files that are named as weights are."""
    before = sorted(path.name for path in folder.iterdir() if _READ_BEFORE.fullmatch(path.name))
    if (other := (configuration(folder) or {}).get("transformers_weights")) and other not in (*read, *INDICES):
        before.append(brief(other))
    if before:
        return [f"{_TWO_SAVES}, {read[0]} and {before[0]}: delete the one that is not this checkpoint's"]
    indexed = indices(folder)
    named = [name for names in indexed.values() for name in names if (folder / name).is_file()]
    twice = [f"{_TWO_SAVES}: {first} and {second} both hold {name}" for name, first, second in _twice(folder, read)][:1]
    return _second_save(read, [*alike, *named]) or _of_index(read, alike, indexed) + twice


def _of_index(read: list[str], alike: list[str], indexed: Mapping[str, list[str]]) -> list[str]:
    """Return the faults of an index beside the shards that are read; none where one whole file is."""
    kind = Path(read[0]).suffix
    index = next(name for name in INDICES if name.endswith(f"{kind}.index.json"))
    if read == [index.removesuffix(".index.json")]:
        return []
    if index not in indexed:
        return [f"{_UNFIT}: {index} is not there, or cannot be read"]
    missing = [f"{_UNFIT}: {index} names {brief(name)}, which is not here" for name in indexed[index] if name not in read][:1]
    others = [name for name in alike if name not in read and name.endswith(kind)]
    return missing + ([f"not named by the index, and not used: {', '.join(others)}"] if others else [])


def _nothing_named(indexed: Mapping[str, list[str]]) -> list[str]:
    """Return the fault of an index where none of the files that it names is."""
    return [f"{_UNFIT}: {index} names {brief(names[0])}, which is not in the folder" for index, names in indexed.items()][:1]


def refuse(folder: Path) -> None:
    """Refuse a folder whose files leave open what its weights are.

    Raises:
        ValueError: if it holds an adapter, pointers of git-lfs, two saves, an index of files that are not there, a damaged
            file, or numbers whose scales are not told.
    """
    for fault in faults(folder):
        if fault.startswith(REFUSED):
            raise ValueError(f"{folder} must hold one whole model; it holds {fault}.")


def configuration(folder: Path) -> dict | None:
    """Return what the config.json of a folder holds; None where that is no JSON object."""
    return _object(folder / "config.json")


def _object(file: Path) -> dict | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def quantised(folder: Path) -> str:
    """Return how the weights in a folder were quantised, as a note, config.json or their dtypes say; empty if they do not."""
    if (note := folder / NOTE).is_file():
        return note.read_text(encoding="utf-8").strip()
    if method := quantisation(configuration(folder) or {}):
        return method
    return ", ".join(sorted(filter(_SMALL.match, _dtypes(folder))))


def quantisation(config: dict) -> str:
    """Return method and bits of the quantisation that a configuration tells of, or that of its text part; empty if none."""
    nested = config.get("text_config")
    entry = config.get("quantization_config") or config.get("compression_config")
    if not entry:
        return quantisation(nested) if isinstance(nested, dict) else ""
    if not isinstance(entry, dict):
        return "unknown"
    bits = entry.get("bits") or next((n for n in (4, 8) if entry.get(f"load_in_{n}bit")), None)
    return str(entry.get("quant_method", "unknown")) + (f", {bits} bits" if bits else "")


def untold(config: dict) -> list[str]:
    """Return the fault of a configuration that tells of a quantisation, or of that of its text part, and not how it was done."""
    for part in (config, config.get("text_config")):
        for name in ("quantization_config", "compression_config"):
            entry = part.get(name) if isinstance(part, dict) else None
            known = isinstance(entry, dict) and (isinstance(entry.get("quant_method"), str) or by_bitsandbytes(name, entry))
            if entry is not None and not known:
                return [
                    f"{_UNTOLD}: {name} in config.json must be a mapping with a quant_method, and is {brief(entry)}. Write the "
                    "method, or take the weights from before"
                ]
    return []


def by_bitsandbytes(name: str, entry: dict) -> bool:
    """Return whether transformers takes a mapping for that of bitsandbytes, whatever method it names."""
    return name == "quantization_config" and any(entry.get(f"load_in_{n}bit") for n in (4, 8))


def _damaged(folder: Path, read: Iterable[str]) -> list[str]:
    """Return a fault for each file of weights that cannot be read to its end; one that is more than tensors is another matter."""
    wrong = []
    for name in read:
        if not is_pointer(folder / name):
            try:
                if name.endswith(".safetensors"):
                    safe_open(folder / name, "numpy")  # which compares the header with the file's length
                else:
                    _of_pickle(folder / name)
            except UnpicklingError:
                continue
            except Exception as error:  # whatever the readers come upon
                wrong.append(f"{DAMAGED}: {name} cannot be read, {' '.join(str(error).split()).partition('. ')[0].rstrip('.')}")
    return wrong


class _Tensor(NamedTuple):
    """One tensor of a file: its dtype as safetensors writes it, its shape, and what reads its first numbers (None: all)."""

    dtype: str
    shape: list[int]
    read: Callable[[int | None], Iterator[bytes]]


def _tensors(file: Path) -> dict[str, _Tensor]:
    """Return the tensors of a file of weights without reading them; none of a damaged one, and none of pickled code."""
    try:
        return _of_safetensors(file) if file.suffix == ".safetensors" else _of_pickle(file)
    except Exception:  # the ledger and load_model say what is wrong with it
        return {}


def _of_safetensors(file: Path) -> dict[str, _Tensor]:
    with file.open("rb") as stored:
        size = int.from_bytes(stored.read(8), "little")
        header = json.loads(stored.read(min(size, file.stat().st_size)))
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__" and "data_offsets" in entry:
            start, end = entry["data_offsets"]
            tensors[name] = _Tensor(entry["dtype"], entry["shape"], partial(_stored, file, 8 + size + start, end - start))
    return tensors


def _of_pickle(file: Path) -> dict[str, _Tensor]:
    import torch  # noqa: PLC0415 - seconds, which few folders need

    tensors, mapped = {}, is_zipfile(file)  # as torch writes it since 1.6; what is older is read whole
    for name, tensor in torch.load(file, map_location="cpu", weights_only=True, mmap=mapped).items():
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{brief(name)} in it is no tensor: save the state_dict of the model alone")
        kind = str(tensor.dtype).removeprefix("torch.").removesuffix("fn").upper()  # FLOAT8_E4M3, BFLOAT16, UINT8, BOOL
        flat = tensor.contiguous().flatten().view(torch.uint8).numpy()
        tensors[name] = _Tensor(
            re.sub("FLOAT|INT", lambda match: match[0][0], kind),
            list(tensor.shape),
            lambda most, flat=flat: iter([flat[:most].tobytes()]),
        )
    return tensors


def _twice(folder: Path, read: Iterable[str]) -> list[tuple[str, str, str]]:
    """Return each tensor that two files hold, with both."""
    first, twice = {}, []
    for file in read:
        tensors = _tensors(folder / file)
        twice += [(name, first[name], file) for name in tensors if name in first]
        first |= dict.fromkeys(tensors, file)
    return twice


def _unscaled(folder: Path, read: Iterable[str]) -> list[str]:
    """Return the matrices of small numbers where config.json tells no quantisation: what they are to be multiplied by is lost."""
    if quantisation(configuration(folder) or {}):
        return []
    return [
        name
        for file in read
        for name, tensor in _tensors(folder / file).items()
        if name.endswith("weight") and len(tensor.shape) > 1 and _SMALL.match(tensor.dtype)
    ]


def _dtypes(folder: Path) -> set[str]:
    """Return the dtypes of a folder's weights, as safetensors writes them."""
    return {tensor.dtype for file in weights(folder) for tensor in _tensors(folder / file).values()}


def content(folder: Path, most: int | None = None, dtype: str | None = None) -> tuple[str, str]:
    """Return a sha256 of the tensors in a folder, and one of its heads, whichever files they lie in; empty where there are none.

    What names begin with (`model.`, `module.`) plays no part, nor what follows from the configuration, nor a second copy of
    a tensor, as the head is that is tied to the embedding.

    Args:
        folder: of one checkpoint.
        most: bytes that are read of each tensor; None for all. Of numbers that are rounded, as many as have so many then.
        dtype: one of `NARROW`, to which wider numbers are rounded before; None leaves all as they are stored.
    """
    body, heads = set(), set()
    for file in weights(folder):
        for name, tensor in _tensors(folder / file).items():
            if not CONSTANTS.search(name):
                place = re.search(r"(?<![^.])\d+\..*|$", name)[0]  # in the list of blocks; empty for what lies outside
                kind, digest = _digest(tensor, most, dtype)
                (heads if HEADS.match(name) else body).add((place, kind, tuple(tensor.shape), digest))
    return tuple(sha256(json.dumps(sorted(each)).encode()).hexdigest() if each else "" for each in (body, heads - body))


def same(one: Path, other: Path) -> bool:
    """Return whether two folders hold the same tensors; one of them may lack the head, or have them rounded."""
    return any(_equal(content(one, None, dtype), content(other, None, dtype)) for dtype in (None, *rounded(one, other)))


def _equal(one: tuple[str, str], other: tuple[str, str]) -> bool:
    (body, heads), (other_body, other_heads) = one, other
    return body == other_body and (heads == other_heads or not (heads and other_heads))


def rounded(*folders: Path) -> list[str]:
    """Return the narrow dtypes in which weights of these folders are stored while others are in wider ones."""
    stored = set().union(*map(_dtypes, folders))
    return [dtype for dtype in NARROW if dtype in stored and stored & set(_WIDE)]


def _digest(tensor: _Tensor, most: int | None, dtype: str | None) -> tuple[str, str]:
    """Return the dtype and a sha256 of a tensor, or of its first bytes, rounded to a narrower dtype if one is named."""
    digest, wide = sha256(), _WIDE.get(tensor.dtype) if dtype else None
    for part in tensor.read(most * (np.dtype(wide).itemsize // 2) if wide and most else most):
        digest.update(_round(np.frombuffer(part, wide), dtype) if wide else part)
    return dtype if wide else tensor.dtype, digest.hexdigest()


def _round(numbers: np.ndarray, dtype: str) -> bytes:
    """Return numbers rounded as torch rounds them: to the nearest, of two as near to the even one."""
    if dtype == "F16":
        with np.errstate(over="ignore"):
            return numbers.astype("<f2").tobytes()
    bits = numbers.astype("<f4").view("<u4")  # BF16 is the upper half of these
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


def _stored(file: Path, start: int, size: int, most: int | None) -> Iterator[bytes]:
    size = size if most is None else min(most, size)
    with file.open("rb") as stored:
        stored.seek(start)
        while size > 0 and (part := stored.read(min(size, 1 << 24))):
            yield part
            size -= len(part)
