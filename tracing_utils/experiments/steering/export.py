"""Write steering vectors in the formats of other tools: lm-evaluation-harness and llama.cpp.

Rule: what is exported is added at every position, since both tools do so.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from transformers import PreTrainedModel

from ...checkpoints import models
from ...core.paths import replacing

__all__ = ["to_harness", "to_gguf"]


def _checked(model: PreTrainedModel, vectors: Mapping[int, np.ndarray], first: int, why: str) -> None:
    depth, width = len(models.blocks(model)), models.decoder(model).config.hidden_size
    for layer, vector in vectors.items():
        if not first <= layer < depth:
            raise ValueError(f"A layer must be {first} to {depth - 1}{why}; {layer} came.")
        if len(vector) != width:
            raise ValueError(f"A vector must have the model's width, {width}; the one of layer {layer} has {len(vector)}.")


def to_harness(
    model: PreTrainedModel, vectors: Mapping[int, Float[np.ndarray, " d_model"]], multiplier: float, path: str | Path
) -> None:
    """Write vectors for lm-evaluation-harness: `lm_eval --model steered --model_args pretrained=...,steer_path=<path>`.

    Args:
        model: whose blocks are steered; only their names are read.
        vectors: layer (0-based block) to vector.
        multiplier: how many times each is added.
        path: of a file that ends in `.pt`; it holds tensors, numbers and words, nothing that runs code.

    Raises:
        ValueError: if a layer or a width does not fit the model, or the file's name does not end in `.pt`.
    """
    if Path(path).suffix != ".pt":
        raise ValueError(f"The harness reads steering vectors from files that end in .pt; {path} does not.")
    _checked(model, vectors, 0, "")
    names = {module: name for name, module in model.base_model.named_modules()}
    blocks = models.blocks(model)
    content = {
        names[blocks[layer]]: {
            "steering_vector": torch.as_tensor(np.array(vector)),
            "steering_coefficient": float(multiplier),
            "action": "add",
            "bias": None,
            "head_index": None,
        }
        for layer, vector in vectors.items()
    }
    with replacing(Path(path)) as part:
        torch.save(content, part)


def to_gguf(
    model: PreTrainedModel, vectors: Mapping[int, Float[np.ndarray, " d_model"]], multiplier: float, path: str | Path
) -> None:
    """Write a control vector for llama.cpp: `llama-cli --control-vector <path>`.

    llama.cpp adds `direction.N` to the output of its block N, counted from 0, and leaves block 0 alone.

    Args:
        model: whose type is named in the file.
        vectors: layer (0-based block, from 1 on) to vector.
        multiplier: multiplied into the vectors; llama.cpp can scale further.
        path: of the file.

    Raises:
        ValueError: if a layer or a width does not fit the model.

    Source: `common_control_vector_load` of llama.cpp; the same layout as repeng's `export_gguf`.
    """
    import gguf  # noqa: PLC0415 - only needed here

    _checked(model, vectors, 1, " (llama.cpp cannot steer block 0)")
    with replacing(Path(path)) as part:
        writer = gguf.GGUFWriter(part, "controlvector")
        writer.add_string("controlvector.model_hint", model.config.model_type)
        writer.add_uint32("controlvector.layer_count", len(vectors))
        for layer, vector in sorted(vectors.items()):
            writer.add_tensor(f"direction.{layer}", np.asarray(multiplier * np.asarray(vector), dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
