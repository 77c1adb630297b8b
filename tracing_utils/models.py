"""Load a checkpoint's model and tokenizer, and find its blocks: the only file that knows model families.

Rule: "layer" is the 0-based index of a block, and its activation is the block's *output* before any final
norm. transformers' `hidden_states[-1]` is after that norm and is not used here.

Public names: `load_model`, `load_tokenizer`, `blocks`, `block_output`, `with_block_output`.
"""

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from .suites import Checkpoint

logging.disable_progress_bar()  # one bar a file floods the output of executed notebooks

# Where the block list of a base model lies: llama, mistral, qwen, gpt_neox, olmo and olmo2 call it
# `layers`; gpt2 and bloom call it `h`.
_BLOCK_LISTS = ("layers", "h")


def load_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    """Return the tokenizer of `checkpoint`.

    Raises:
        ValueError: if its folder holds none.
    """
    try:
        return AutoTokenizer.from_pretrained(checkpoint.tokenizer)
    except (OSError, ValueError) as error:
        raise ValueError(f"{checkpoint.tokenizer} must hold a tokenizer; reading it failed: {_first_line(error)}") from error


def load_model(checkpoint: Checkpoint, *, head: bool, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Return the model of `checkpoint`, in evaluation mode, on the GPU where there is one.

    Args:
        checkpoint: which.
        head: with the language-model head (for likelihoods), or the bare base model (for activations).
        dtype: of the weights in memory. Always explicit, since transformers' own default has changed
            between versions.

    Raises:
        ValueError: if the folder holds no model that can be read, or some of its weights are missing.
    """
    kind = AutoModelForCausalLM if head else AutoModel
    try:
        model, report = kind.from_pretrained(checkpoint.folder, dtype=dtype, use_safetensors=True, output_loading_info=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"{checkpoint.folder} must hold a model; reading it failed: {_first_line(error)}") from error
    if missing := sorted(report["missing_keys"]):
        # transformers would fill them with random numbers and go on.
        raise ValueError(f"{checkpoint.folder} must hold all weights; {len(missing)} are missing, the first is {missing[0]}.")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.eval().to(device)


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def blocks(model: PreTrainedModel) -> nn.ModuleList:
    """Return the decoder blocks of `model` (with or without head), first block first.

    Families are found by the name of their block list; an unknown one by its longest `ModuleList`
    whose members share a class.

    Raises:
        ValueError: if no such list exists.
    """
    base = model.base_model
    for module in (base, *base.children()):
        for name in _BLOCK_LISTS:
            if isinstance(found := getattr(module, name, None), nn.ModuleList):
                return found
    lists = [m for m in base.modules() if isinstance(m, nn.ModuleList) and len({type(child) for child in m}) == 1]
    if not lists:
        raise ValueError(f"A model must have a list of blocks; {type(model).__name__} has none that could be found.")
    return max(lists, key=len)


def block_output(output: Tensor | tuple) -> Tensor:
    """Return the residual stream `batch pos d_model` from what a block returned.

    Blocks return a bare tensor in most families and a tuple in BLOOM (and everywhere before
    transformers 4.5x). Indexing a bare tensor as if it were a tuple gives one batch row without an
    error, which is how the released code of the paper breaks on current versions.
    """
    stream = output[0] if isinstance(output, tuple) else output
    assert stream.dim() == 3, f"a block's output must be batch pos d_model, got {tuple(stream.shape)}"
    return stream


def with_block_output(output: Tensor | tuple, stream: Tensor) -> Tensor | tuple:
    """Return `output` with its residual stream replaced, in the form the block used."""
    return (stream, *output[1:]) if isinstance(output, tuple) else stream
