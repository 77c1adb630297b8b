"""Load a checkpoint's model and tokenizer, and find its blocks: the only file that knows model families.

Rule: "layer" is the 0-based index of a block, and its activation is the block's *output* before any final
norm. transformers' `hidden_states[-1]` is after that norm and is not used here.
"""

import json
import os
import pickle
import re
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING
from transformers.utils import logging

from ..core import downloads
from ..core.errors import brief
from . import files, tokens
from .types import Checkpoint, tokenizer_names

__all__ = [
    "at_hand", "attention_maps", "block_output", "blocks", "choose_dtype", "decoder", "dense_maps", "dtype_named",
    "first_line", "load_model", "load_tokenizer", "oriented", "reading", "refuse_left_over", "sizes",
    "with_block_output",
]  # fmt: skip

logging.set_verbosity_error()  # what a file lacks or holds beyond the model is refused here, in a sentence
logging.disable_progress_bar()  # one bar a file floods the output of executed notebooks

# torch counts the cores of the machine; a job may be allowed fewer, and threads beyond those only wait for each other.
# Snakemake sets OMP_NUM_THREADS to the share of each job; torch reads it itself.
if "OMP_NUM_THREADS" not in os.environ and hasattr(os, "sched_getaffinity"):
    torch.set_num_threads(len(os.sched_getaffinity(0)))

# Where the block list of a base model lies: gpt2 and bloom call it `h`, all the others `layers` (llama, mistral,
# qwen3, gpt_neox, olmo, olmo2, olmo3, olmoe, smollm3, apertus).
_BLOCK_LISTS = ("layers", "h")

# Where a block's attention lies, and what its last map is called: `self_attn.o_proj` in llama and its likes, `attention.dense`
# in gpt_neox, `self_attention.dense` in bloom, `attn.c_proj` in gpt2, `self_attn.out_proj` in opt.
_ATTENTION = re.compile(r"(self_attn|self_attention|attention|attn)(\.|$)")
_ATTENTION_MAP = re.compile(r"(self_attn|self_attention|attention|attn)(\.attention)?\.(o_proj|dense|c_proj|out_proj)")

# Below this size float32 costs seconds, and results stay the same on every machine.
_LARGE = 100_000_000


@contextmanager
def reading(folder: Path, what: str) -> Iterator[None]:
    """Turn whatever reading a folder raises into one sentence: families raise errors of all kinds, bare ones among them."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{folder} must hold tensors and nothing else; its .bin file holds more, which can be code; none was run. "
            "Take safetensors of these weights."
        ) from error
    except Exception as error:
        raise ValueError(f"{folder} must hold {what}; reading it failed: {first_line(error)}.") from error


def at_hand(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint whose files lie in a folder; one that is only on the hub is fetched into the cache.

    A run fetches the weights itself and deletes them after use; this is for a notebook that runs alone.

    Raises:
        ValueError: if the hub does not give it.
    """
    if checkpoint.folder:
        return checkpoint
    from . import hub  # noqa: PLC0415 - the hub's client takes a second to import

    place = re.sub(r"[^\w.-]+", "--", checkpoint.suite)
    return hub.fetch(checkpoint, downloads.cache_folder() / "checkpoints" / place / checkpoint.revision)


def load_tokenizer(checkpoint: Checkpoint, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Return the tokenizer of `checkpoint`, which splits as its `tokenizer.json` says where it has one.

    Raises:
        ValueError: if its folder holds none, or one that other files there make another (`tokens.compare`).
    """
    checkpoint = at_hand(checkpoint)
    folder = checkpoint.tokenizer
    stored = folder / "tokenizer.json"
    here = (path.name for path in folder.iterdir()) if folder.is_dir() else ()
    if pointers := files.pointers(folder, tokenizer_names(here)):
        raise ValueError(f"{folder} must hold a tokenizer; it holds {pointers[0]}.")
    with reading(folder, "a tokenizer" if stored.is_file() else "a tokenizer, best as tokenizer.json, which any machine reads"):
        # A class of transformers, such as GPT2Tokenizer, would put its own splitting in the place of the stored one; the
        # plain class does not. Code that lies beside a tokenizer is another matter, and was asked for.
        plain = stored.is_file() and not (trust_remote_code and _has_code(folder / "tokenizer_config.json"))
        kind = PreTrainedTokenizerFast if plain else AutoTokenizer
        tokenizer = kind.from_pretrained(folder, trust_remote_code=trust_remote_code)
    if plain:
        tokens.compare(tokenizer, stored)
    if template := files.chat_template(checkpoint.folder):  # a chat model may bring a template and no vocabulary
        tokenizer.chat_template = template[1]
    return tokenizer


def _has_code(description: Path) -> bool:
    """Return whether a tokenizer brings Python code of its own."""
    return description.is_file() and "auto_map" in json.loads(description.read_text(encoding="utf-8"))


def load_model(
    checkpoint: Checkpoint, *, head: bool, dtype: torch.dtype = torch.float32, trust_remote_code: bool = False
) -> PreTrainedModel:
    """Return the model of `checkpoint`, in evaluation mode, on the GPU where there is one.

    Safetensors are read where there are any, else `pytorch_model.bin`, from which nothing but tensors is taken. Likelihoods need
    the head, activations do not. The dtype is always explicit, since transformers' own default has changed between versions.

    Raises:
        ValueError: if the folder holds no decoder that can be read, a pickle with more than tensors, or weights
            that are missing or not finite.
    """
    folder = at_hand(checkpoint).folder
    config = _config(folder, trust_remote_code)
    kind = _with_head(config) if head else AutoModel
    with reading(folder, "a model"):
        model, report = kind.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=all(name.endswith(".safetensors") for name in files.weights(folder)),
            weights_only=True,
            ignore_mismatched_sizes=True,  # refused below
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
    # transformers would fill them with random numbers and go on. A pooler reads what we do not trace.
    if missing := sorted(name for name in report["missing_keys"] if not name.startswith("pooler.")):
        ends = tuple(f".{name}" for name in (missing[0], missing[0].removeprefix(f"{model.base_model_prefix}.")))
        other = [name for name in report["unexpected_keys"] if name.endswith(ends)]
        renamed = f" (there is {brief(other[0])}: take the names that save_pretrained writes)" if other else ""
        raise ValueError(f"{folder} must hold all weights; {len(missing)} are missing, the first is {missing[0]}{renamed}.")
    if other := sorted(report["mismatched_keys"]):
        name, came, wanted = other[0]
        raise ValueError(
            f"{folder} must hold weights of the shapes its config.json tells; {len(other)} have others, the first is {name}: "
            f"{list(came)} instead of {list(wanted)}."
        )
    refuse_left_over(model, report["unexpected_keys"], folder)
    _refuse_non_finite(dict(model.named_parameters()), folder)
    _warn_of_untied(model, folder)
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def _warn_of_untied(model: PreTrainedModel, folder: Path) -> None:
    """Warn if two different weights are stored which the configuration calls one; transformers takes both as they are."""
    if apart := sorted(model.get_expanded_tied_weights_keys(all_submodels=True).keys() - model.all_tied_weights_keys.keys()):
        warnings.warn(
            f"{folder} must hold one weight for head and embedding, as config.json says (tie_word_embeddings); {apart[0]} is "
            "another one, and is used as it is stored. Write false there, or leave it out of the file.",
            stacklevel=2,
        )


def _config(folder: Path, trust_remote_code: bool):
    """Return the configuration of a decoder, or refuse in one sentence."""
    files.refuse(folder)
    with reading(folder, "a model"):
        if trust_remote_code and "auto_map" in json.loads((folder / "config.json").read_text()):
            warnings.warn(
                f"trust_remote_code: Python code that lies in {folder} runs now, with all your rights on this machine.",
                stacklevel=3,
            )
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        # How attention and experts were computed where the weights come from may need what is not here, and is no part of them.
        config._attn_implementation = config._experts_implementation = None
    _refuse_unknown_quantisation(config, folder)
    if why := _no_decoder(config):
        raise ValueError(
            f"{folder} must hold a decoder, which reads from left to right; it holds {config.model_type}, which {why}."
        )
    return config


# They have a head for the next token in transformers, and read in both directions all the same.
_BOTH_WAYS = ("bert-generation", "cpmant", "xlnet")


def _no_decoder(config) -> str:
    """Return why a model of this configuration is no decoder of text, as far as its family tells; empty if it may be one."""
    decodes = getattr(config, "is_decoder", False)
    if config.is_encoder_decoder or (config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not decodes):
        return "has an encoder"
    if config.model_type in _BOTH_WAYS and not decodes:
        return "reads in both directions"
    known = config.model_type in CONFIG_MAPPING  # of others nothing is known
    return "" if not known or hasattr(config.get_text_config(), "vocab_size") else "reads no text"


def _with_head(config) -> type:
    """Return the class that loads a model of this configuration with its language-model head."""
    sees = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING
    return AutoModelForImageTextToText if sees else AutoModelForCausalLM


def _refuse_unknown_quantisation(config, folder: Path) -> None:
    """Refuse numbers that have to be rescaled in a way transformers does not know; it would take them as they are."""
    for part in (config, config.get_text_config()):
        for name in ("quantization_config", "compression_config"):
            entry = getattr(part, name, None)
            # What is told without a method, `files` has judged.
            if not isinstance(entry, dict) or "quant_method" not in entry or files.by_bitsandbytes(name, entry):
                continue
            if (method := entry["quant_method"]) not in AUTO_QUANTIZATION_CONFIG_MAPPING:
                raise ValueError(
                    f"{folder} must hold weights that transformers can read; its config.json says that they were quantised by "
                    f"{brief(method)}, which it does not know. Take the weights from before, or turn them back."
                )


def _left_over(model: PreTrainedModel, names: Iterable[str]) -> list[str]:
    """Return which weights of a file a model lacks, but for heads it is loaded without and what transformers itself ignores."""
    prefix = f"{model.base_model_prefix}."
    ignored = re.compile("|".join(model._keys_to_ignore_on_load_unexpected or ()) or r"$^")
    buffers = {name.removeprefix(prefix) for name, _ in model.named_buffers()}
    with_head = model.base_model is not model
    heads = {name.split(".")[0] for name in model.state_dict() if not name.startswith(prefix)} if with_head else set()
    return sorted(
        name
        for name in names
        if (not files.HEADS.match(name.removeprefix(prefix)) or heads & set(name.split(".")))
        and not files.CONSTANTS.search(name)
        and name.removeprefix(prefix) not in buffers
        and not ignored.search(name)
    )


def refuse_left_over(model: PreTrainedModel, unexpected: Iterable[str], folder: Path) -> None:
    """Refuse a model that would compute without some of the weights in its folder, or without their scales.

    Raises:
        ValueError: if there are weights it has no place for, with their names, or they were quantised in an unknown way.
    """
    _refuse_unknown_quantisation(model.config, folder)
    if left := _left_over(model, unexpected):
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        raise ValueError(
            f"{folder} must hold the weights of the model that its config.json tells, and no others; {len(left)} would be left "
            f"over: {', '.join(map(brief, left[:3]))}{more}. Mend config.json (attention_bias, num_hidden_layers, "
            "quantization_config) or take the weights that belong to it."
        )


def _refuse_non_finite(weights: dict[str, Tensor], folder: Path) -> None:
    # One pass without a mask in memory: a sum is finite only if every term is. It may overflow, though every term is finite.
    sums = torch.isfinite(torch.stack([weight.detach().sum(dtype=torch.float32) for weight in weights.values()]))
    for name, finite in zip(weights, sums.tolist(), strict=True):
        if not finite and not weights[name].detach().isfinite().all():
            raise ValueError(
                f"{folder} must hold finite weights; {name} has NaN or infinity, read as "
                f"{str(weights[name].dtype).removeprefix('torch.')}. Leave this checkpoint out."
            )


def first_line(error: Exception) -> str:
    """Return what a library's error says, on one line and without its full stop; with its kind where that says the half of it."""
    if "trust_remote_code" in str(error):
        return "it brings Python code of its own; say trust_remote_code: true in the study to let that run with all your rights"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(lines[:2] if lines[:1] and lines[0].endswith(":") else lines[:1]).rstrip(".")
    if isinstance(error, (OSError, ValueError, RuntimeError, ImportError, SafetensorError)) or type(error) is Exception:
        return said or type(error).__name__
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


@cache
def _bfloat16_is_faster() -> bool:
    """Return whether bfloat16 multiplies matrices faster than float32 here; about 100 ms."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()

    times = {torch.float32: [], torch.bfloat16: []}
    for _ in range(8):  # in turn, and the best of each: other jobs on the machine must not decide
        for dtype, taken in times.items():
            a, b = torch.ones(256, 576, dtype=dtype), torch.ones(576, 1536, dtype=dtype)
            start = time.perf_counter()
            a @ b
            taken.append(time.perf_counter() - start)
    return min(times[torch.bfloat16]) < 0.8 * min(times[torch.float32])


def choose_dtype(parameters: int) -> torch.dtype:
    """Return the dtype activations of a model of this size are computed in on this machine.

    float32 below 100 million parameters. Above, bfloat16 where a short trial finds it faster: the activations then
    differ by about one per cent from those in float32.
    """
    return torch.bfloat16 if parameters >= _LARGE and _bfloat16_is_faster() else torch.float32


def dtype_named(name: str, checkpoint: Checkpoint, *, trust_remote_code: bool = False) -> torch.dtype:
    """Return the dtype of this name; of auto, what `choose_dtype` chooses for a model of the checkpoint's size."""
    if name != "auto":
        return getattr(torch, name)
    return choose_dtype(sizes(checkpoint.folder, trust_remote_code=trust_remote_code)["parameters"])


def sizes(folder: Path, *, trust_remote_code: bool = False) -> dict[str, int]:
    """Return the sizes of the base model in `folder`, from its configuration alone; no weight is read.

    Returns:
        `parameters` (all), `multiplied` (those a token is multiplied with: no embeddings, and of the experts only as
        many as a token visits), `layers` and `d_model`.

    Raises:
        ValueError: if the folder holds no configuration of a decoder.
    """
    config = _config(folder, trust_remote_code)
    with reading(folder, "a model"), torch.device("meta"):
        model = decoder(AutoModel.from_config(config, trust_remote_code=trust_remote_code))
        width = model.config.hidden_size
    experts = getattr(model.config, "num_experts", None) or getattr(model.config, "num_local_experts", None)
    visited = (getattr(model.config, "num_experts_per_tok", None) or experts) / experts if experts else 1.0
    inside = [(name, weight.numel()) for name, weight in blocks(model).named_parameters() if weight.dim() > 1]
    return {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "multiplied": round(sum(n * (visited if ".experts." in name else 1) for name, n in inside)),
        "layers": len(blocks(model)),
        "d_model": width,
    }


def decoder(model: PreTrainedModel) -> PreTrainedModel:
    """Return the part of `model` (with or without head) that reads text: of one that sees or hears too, its text model.

    Its configuration is that of the text part alone.
    """
    base = model.base_model
    part = base.get_decoder()
    return part.base_model if isinstance(part, PreTrainedModel) else base


def blocks(model: PreTrainedModel) -> nn.ModuleList:
    """Return the decoder blocks of `model` (with or without head), first block first.

    Families are found by the name of their block list; an unknown one by its longest `ModuleList` whose members
    share a class, lists inside a block left out. `activations.check` tests the choice before it is used.

    Raises:
        ValueError: if no such list exists.
    """
    base = decoder(model)
    for module in (base, *base.children()):
        for name in _BLOCK_LISTS:
            if isinstance(members := getattr(module, name, None), nn.ModuleList):
                return members
    lists = {n: m for n, m in base.named_modules() if isinstance(m, nn.ModuleList) and len({type(child) for child in m}) == 1}
    outer = [m for n, m in lists.items() if not any(n.startswith(f"{other}.") for other in lists)]
    if not outer:
        raise ValueError(f"A model must have a list of blocks; {type(model).__name__} has none that could be found.")
    return max(outer, key=len)


def attention_maps(model: PreTrainedModel) -> tuple[list[nn.Module], int]:
    """Return the map out of attention of each block, and the number of heads whose outputs stand side by side in its input.

    Sharing keys and values among heads, or one map for queries, keys and values, changes nothing here: each head has an
    output of its own.

    Raises:
        ValueError: if a block has no such map, or its input cannot be that of so many heads.
    """
    heads, maps = getattr(decoder(model).config, "num_attention_heads", 0), []  # Mamba has none
    for number, block in enumerate(blocks(model)):
        named = [module for name, module in block.named_modules() if _ATTENTION_MAP.fullmatch(name)]
        if len(named) != 1 or oriented(named[0]).shape[1] % heads:
            raise ValueError(
                f"Each block of a model must have one map out of attention, from the outputs of its {heads} heads; block "
                f"{number} of {type(model).__name__} has {len(named)} that could be found. Leave experiments on heads out of "
                "the study."
            )
        maps += named
    return maps, heads


def dense_maps(model: PreTrainedModel) -> list[dict[str, nn.Module]]:
    """Return, for each block, the linear maps outside its attention by name: those of its MLP.

    Raises:
        ValueError: if a block has none, or has experts, each of which sees other tokens.
    """
    maps = []
    for number, block in enumerate(blocks(model)):
        outside = {name: module for name, module in block.named_modules() if not _ATTENTION.match(name)}
        dense = {name: module for name, module in outside.items() if isinstance(module, (nn.Linear, Conv1D))}
        if not dense or any("experts" in name for name in outside):
            raise ValueError(
                f"Each block of a model must have a dense MLP; block {number} of {type(model).__name__} has "
                f"{'experts' if dense else 'none'}. Leave experiments on weights out of the study."
            )
        maps.append(dense)
    return maps


def oriented(linear: nn.Module) -> Tensor:
    """Return the weights `out in` of a linear map, a view; GPT-2's maps hold them the other way round."""
    return linear.weight.T if isinstance(linear, Conv1D) else linear.weight


def block_output(output: Tensor | tuple | list) -> Tensor:
    """Return the residual stream `batch pos d_model` from what a block returned.

    Blocks return a bare tensor in most families, a tuple in BLOOM (and everywhere before
    transformers 4.5x) and a list in the first GPT. Indexing a bare tensor as if it were a tuple gives one batch row without an
    error, which is how the released code of the paper breaks on current versions.
    """
    stream = output[0] if isinstance(output, (tuple, list)) else output
    assert stream.dim() == 3, f"a block's output must be batch pos d_model, got {tuple(stream.shape)}"
    return stream


def with_block_output(output: Tensor | tuple | list, stream: Tensor) -> Tensor | tuple | list:
    """Return `output` with its residual stream replaced, in the form the block used."""
    return type(output)((stream, *output[1:])) if isinstance(output, (tuple, list)) else stream
