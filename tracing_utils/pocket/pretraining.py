"""Pre-train the pocket suite: tokenizer, training loop, checkpoints, chat tuning.

Rule: recipe and corpus decide everything. Batch `i` is drawn from a generator seeded with `(seed, i)`, so a run that was
killed and resumed sees the same batches.
"""

import copy
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ..core.paths import replacing

__all__ = [
    "CHECKPOINT_STEPS", "BOS", "EOS", "PAD", "CHAT_TEMPLATE", "Recipe", "MuonRecipe", "BASE_RECIPE", "CHAT_RECIPE",
    "train_tokenizer", "pretrain", "tune_chat", "Batch", "UNSCORED", "begin", "train_suite",
    "tune_suite",
]  # fmt: skip

# Step 0 is the untrained model; 16, 64, and powers of two from there on.
CHECKPOINT_STEPS = (0, 16, 64, 128, 256, 512, 1024, 2048, 4096)

Batch = tuple[torch.Tensor, torch.Tensor]
"""Inputs and targets."""

Optimizers = list[torch.optim.Optimizer]

UNSCORED = -100
"""Target of a token that the loss leaves out."""

_WORTH_COMPILING = 2**20  # tokens; half as many take half a minute uncompiled
_BEGUN = ".recipe.json"
_EVERY = 16  # steps a row of `loss.csv`

BOS, EOS, PAD, USER, ASSISTANT = "<|bos|>", "<|eos|>", "<|pad|>", "<|user|>", "<|assistant|>"
CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights, apart from the corpus. Lengths in tokens."""

    layers: int = 3
    d_model: int = 72
    heads: int = 3
    d_mlp: int = 192
    vocabulary: int = 32768
    context: int = 128
    batch: int = 32
    learning_rate: float = 3e-3
    final_share: float = 0.02  # of the learning rate, at the end of the cosine
    warmup: int = 50
    weight_decay: float = 0.1
    steps: int = 4096
    seed: int = 0

    def __post_init__(self):
        for name in ("layers", "d_model", "heads", "d_mlp", "vocabulary", "context", "batch", "steps"):
            if not isinstance(size := getattr(self, name), int) or size < 1:
                raise ValueError(f"A recipe's {name} must be a whole number from 1 up; {size} came.")
        for name, value in asdict(self).items():
            if not value >= 0:
                raise ValueError(f"A recipe's {name} must be 0 or more; {value} came.")

    def config(self) -> LlamaConfig:
        """Return the transformers configuration of this recipe."""
        sizes = {"vocab_size": self.vocabulary, "hidden_size": self.d_model, "intermediate_size": self.d_mlp}
        depth = {"num_hidden_layers": self.layers, "num_attention_heads": self.heads}
        tokens = {"max_position_embeddings": 4 * self.context, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
        return LlamaConfig(**sizes, **depth, **tokens, tie_word_embeddings=True)

    def rate(self, step: int) -> float:
        """Return the learning rate of `step`: linear warm-up, then a cosine down to `final_share`."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (self.final_share + (1 - self.final_share) * 0.5 * (1 + math.cos(math.pi * done)))

    def optimizers(self, model: LlamaForCausalLM) -> Optimizers:
        """Return AdamW; norms are not decayed."""
        matrices = [p for p in model.parameters() if p.dim() > 1]
        vectors = [p for p in model.parameters() if p.dim() == 1]
        groups = [{"params": matrices, "weight_decay": self.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        return [torch.optim.AdamW(groups, lr=self.learning_rate, betas=(0.9, 0.95), eps=1e-8)]


@dataclass(frozen=True)
class MuonRecipe(Recipe):
    """A recipe whose matrices are trained by Muon, and whose embeddings learn faster and are not decayed.

    Rare words are what such a model learns last: decay would take from them what they got many steps ago.

    Source: Jordan et al., Muon (2024); the step is scaled to AdamW's, after Liu et al. (2025), arXiv 2502.16982.
    """

    embedding_share: float = 2.0  # of the learning rate

    def optimizers(self, model: LlamaForCausalLM) -> Optimizers:
        """Return Muon for the matrices of the blocks, and AdamW for embeddings and norms."""
        embeddings = model.get_input_embeddings().weight
        matrices = [p for p in model.parameters() if p.dim() > 1 and p is not embeddings]
        vectors = [p for p in model.parameters() if p.dim() == 1]
        rate, decay = self.learning_rate, self.weight_decay
        muon = torch.optim.Muon(matrices, lr=rate, weight_decay=decay, momentum=0.95, adjust_lr_fn="match_rms_adamw")
        groups = [{"params": [embeddings], "share": self.embedding_share}, {"params": vectors}]
        return [muon, torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)]


BASE_RECIPE = MuonRecipe()
"""The training of the shipped suite."""

CHAT_RECIPE = Recipe(learning_rate=5e-4, steps=512, warmup=20, seed=1)
"""The tuning of the chat model from the last checkpoint: 512 steps at a sixth of the rate."""


def train_tokenizer(documents: list[str], vocabulary: int, context: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer on `documents`; it puts `<|bos|>` before every text."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    bpe.decoder = decoders.ByteLevel()
    special, alphabet = [BOS, EOS, PAD, USER, ASSISTANT], pre_tokenizers.ByteLevel.alphabet()
    options = {"special_tokens": special, "initial_alphabet": alphabet, "show_progress": False}
    bpe.train_from_iterator(documents, trainers.BpeTrainer(vocab_size=vocabulary, **options))
    bpe.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)])
    special = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD, "chat_template": CHAT_TEMPLATE}
    return PreTrainedTokenizerFast(tokenizer_object=bpe, model_max_length=4 * context, **special)


def _encode(documents: list[str], tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """Return the corpus as one flat array of token ids; each document begins with `<|bos|>`."""
    rows = tokenizer.backend_tokenizer.encode_batch(documents)
    return np.concatenate([np.asarray(row.ids, dtype=np.uint16) for row in rows])


def _batch(tokens: np.ndarray, recipe: Recipe, step: int) -> Batch:
    """Return inputs and targets of `step`, each `batch context`: windows of the corpus at random places."""
    generator = np.random.default_rng([recipe.seed, step])
    starts = generator.integers(len(tokens) - recipe.context - 1, size=recipe.batch)
    windows = torch.from_numpy(np.stack([tokens[s : s + recipe.context + 1] for s in starts]).astype(np.int64))
    return windows[:, :-1], windows[:, 1:]


def _loss(model: LlamaForCausalLM, recipe: Recipe, exact: bool) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return the loss, compiled in bf16 unless it must be `exact`, where there is a C++ compiler and a run worth its minute."""

    def loss(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = model(input_ids=inputs, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=UNSCORED)

    short = recipe.steps * recipe.batch * recipe.context < _WORTH_COMPILING
    if exact or short or not (shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")):
        return loss
    fast = torch.compile(loss)

    def autocast(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return fast(inputs, targets)

    return autocast


def _save_checkpoint(model: LlamaForCausalLM, folder: Path) -> None:
    """Write the weights as fp16 safetensors, by rename, so that a checkpoint is never half-written; link the tokenizer."""
    config = copy.deepcopy(model.config)
    config.dtype, config.architectures = "float16", [type(model).__name__]
    weights = {name: value.half() for name, value in model.state_dict().items() if name != "lm_head.weight"}  # tied
    with replacing(folder) as part:
        shutil.rmtree(part, ignore_errors=True)
        config.save_pretrained(part)
        save_file(weights, part / "model.safetensors", {"format": "pt"})
        for file in (folder.parent / "tokenizer").glob("*"):  # so that transformers opens the folder as it lies there
            (part / file.name).symlink_to(Path("..") / "tokenizer" / file.name)
        shutil.rmtree(folder, ignore_errors=True)


def _save_state(path: Path, step: int, recipe: Recipe, model: torch.nn.Module, optimizers: Optimizers, log: list) -> None:
    """Write what a resumed run needs: weights, optimisers' moments, step and loss so far."""
    tensors = {f"model.{name}": value for name, value in model.named_parameters()}
    for number, optimizer in enumerate(optimizers):
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{index}.{name}": value for name, value in moments.items()}
    metadata = {"step": str(step), "recipe": json.dumps(asdict(recipe)), "log": json.dumps(log)}
    with replacing(path) as part:
        save_file({name: value.detach().contiguous() for name, value in tensors.items()}, part, metadata)


def _load_state(path: Path, recipe: Recipe, model: torch.nn.Module, optimizers: Optimizers) -> tuple[int, list]:
    """Read the file that `_save_state` wrote; return the next step and the loss so far."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    if json.loads(metadata["recipe"]) != asdict(recipe):
        raise ValueError(f"{path} holds an unfinished run of another recipe; delete it to begin anew.")
    tensors = load_file(path)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
    states: list[dict[int, dict]] = [{} for _ in optimizers]
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, number, index, name = key.split(".")
            states[int(number)].setdefault(int(index), {})[name] = value
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(metadata["step"]), json.loads(metadata["log"])


def _train(
    model: LlamaForCausalLM,
    next_batch: Callable[[int], Batch],
    recipe: Recipe,
    state: Path,
    after_step: Callable[[int], None],
    report: Callable[[str], None],
    exact: bool,
) -> list:
    """Run the loop from the saved state, if any, to the last step; return `[[step, loss], ...]`."""
    optimizers = recipe.optimizers(model)
    first, log = _load_state(state, recipe, model, optimizers) if state.exists() else (0, [])
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]  # loading makes them anew
    loss_of = _loss(model, recipe, exact)
    after_step(first)
    marked, recent = time.monotonic(), []
    for step in range(first, recipe.steps):
        for group in groups:
            group["lr"] = recipe.rate(step) * group.get("share", 1)
        inputs, targets = next_batch(step)
        loss = loss_of(inputs, targets)
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        recent.append(loss.item())
        done = step + 1
        if done % _EVERY == 0 or done == recipe.steps:
            log.append([done, round(sum(recent) / len(recent), 4)])
            seconds, marked = time.monotonic() - marked, time.monotonic()
            speed = len(recent) * inputs.numel() / seconds
            left = seconds / len(recent) * (recipe.steps - done)
            recent.clear()
            report(f"step {done}/{recipe.steps}  loss {log[-1][1]:.3f}  {speed:,.0f} tokens/s  {left / 60:.1f} min left")
        after_step(done)
        if done % 256 == 0:
            _save_state(state, done, recipe, model, optimizers, log)
    _save_state(state, recipe.steps, recipe, model, optimizers, log)
    return log


def pretrain(out: Path, parts: dict[str, list[str]], recipe: Recipe = BASE_RECIPE, report: Callable[[str], None] = print) -> dict:
    """Train a small Llama from scratch on the CPU and save checkpoints; a killed run continues.

    Args:
        out: the suite's folder; gets `tokenizer/`, `step<N>/`, `loss.csv` and `training.json`.
        parts: the documents of each part of the corpus, one string each; the book's is `corpus.parts()`.
        recipe: sizes, rates, steps and seed; `CHECKPOINT_STEPS` below its last step, and that step, are saved.
        report: receives a progress line every 16 steps.

    Returns:
        The content of `training.json`: recipe, corpus hash, characters by part, tokens, final loss.

    Raises:
        ValueError: if `out` holds a run of another recipe or corpus, or if the corpus is shorter than one window.
    """
    documents = [document for part in parts.values() for document in part]
    if sum(map(len, documents)) < recipe.context + 2:
        raise ValueError(
            f"The corpus must be longer than a window of {recipe.context} tokens; it has {len(documents)} documents."
        )
    corpus = sha256("\0".join(documents).encode()).hexdigest()
    characters = {name: sum(map(len, part)) for name, part in parts.items()}
    facts = {"recipe": asdict(recipe), "corpus_sha256": corpus, "documents": len(documents), "characters": characters}
    if finished := begin(out, facts):
        return finished
    tokens = _encode(documents, _tokenizer(out / "tokenizer", documents, recipe))
    report(f"{len(documents):,} documents, {len(tokens):,} tokens")
    facts["corpus_tokens"] = len(tokens)
    return train_suite(out, recipe, lambda step: _batch(tokens, recipe, step), CHECKPOINT_STEPS, facts, report)


def train_suite(
    out: Path,
    recipe: Recipe,
    next_batch: Callable[[int], Batch],
    marks: Iterable[int],
    facts: dict,
    report: Callable[[str], None],
    exact: bool = False,
) -> dict:
    """Train a small Llama of random weights on any batches; a killed run continues.

    Args:
        out: the suite's folder, which `begin` has marked; gets `step<N>/`, `loss.csv` and `training.json`.
        recipe: sizes, rates, steps and seed.
        next_batch: gives the batch of each step, the same whenever it is asked.
        marks: steps whose checkpoints are saved; the last step is saved anyway.
        facts: what else `training.json` says.
        report: receives a progress line every 16 steps.
        exact: compute in fp32, where a machine with a C++ compiler may else compute in bf16.

    Returns:
        The content of `training.json`: `facts`, parameters, tokens seen, final loss.
    """
    state, steps = out / ".state.safetensors", {step for step in marks if step < recipe.steps} | {recipe.steps}
    torch.manual_seed(recipe.seed)
    model = LlamaForCausalLM(recipe.config())

    def save(step: int) -> None:
        if step in steps and not (out / f"step{step}").exists():
            _save_checkpoint(model, out / f"step{step}")

    log = _train(model, next_batch, recipe, state, save, report, exact)
    (out / "loss.csv").write_text("step,loss\n" + "".join(f"{step},{loss}\n" for step, loss in log))
    seen = recipe.steps * recipe.batch * recipe.context
    facts = facts | {"parameters": model.num_parameters(), "tokens_seen": seen, "final_loss": log[-1][1]}
    (out / "training.json").write_text(json.dumps(facts, indent=1) + "\n")
    state.unlink()
    (out / _BEGUN).unlink()
    return facts


def begin(out: Path, facts: dict) -> dict | None:
    """Mark a training in `out` as begun, or return the facts of the finished one.

    Raises:
        ValueError: if the folder holds a suite or an unfinished run of which other facts hold.
    """
    begun, done = out / _BEGUN, out / "training.json"
    if done.exists():
        finished = json.loads(done.read_text())
        if any(finished.get(name) != value for name, value in facts.items()):
            raise ValueError(f"{out} holds a suite of another recipe or corpus; name an empty folder.")
        return finished
    if begun.exists() and json.loads(begun.read_text()) != facts:
        raise ValueError(f"{out} holds an unfinished run of another recipe or corpus; name an empty folder.")
    out.mkdir(parents=True, exist_ok=True)
    begun.write_text(json.dumps(facts))
    return None


def _tokenizer(folder: Path, documents: list[str], recipe: Recipe) -> PreTrainedTokenizerFast:
    """Return the suite's tokenizer, which is trained if `folder` does not exist yet."""
    if not folder.exists():
        with replacing(folder) as part:
            train_tokenizer(documents, recipe.vocabulary, recipe.context).save_pretrained(part)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def _chat_rows(
    exchanges: Iterable[tuple[str, str]], tokenizer: PreTrainedTokenizerFast, context: int
) -> list[tuple[list[int], int]]:
    """Return the exchanges that fit the context: token ids, and where the answer begins."""
    rows = []
    for question, answer in dict.fromkeys(exchanges):
        asked = [{"role": "user", "content": question}]
        answered = [*asked, {"role": "assistant", "content": answer}]
        prompt = tokenizer(tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True))["input_ids"]
        whole = tokenizer(tokenizer.apply_chat_template(answered, tokenize=False))["input_ids"]
        if answer and len(whole) <= context + 1:
            rows.append((whole, len(prompt)))
    return rows


def _chat_batch(rows: list[tuple[list[int], int]], recipe: Recipe, step: int) -> Batch:
    """Return inputs and targets of `step`; only the tokens of the answer are scored."""
    inputs = torch.zeros((recipe.batch, recipe.context), dtype=torch.int64)
    targets = torch.full((recipe.batch, recipe.context), UNSCORED)
    for i, drawn in enumerate(np.random.default_rng([recipe.seed, step]).integers(len(rows), size=recipe.batch)):
        ids, begin = rows[drawn]
        inputs[i, : len(ids) - 1] = torch.tensor(ids[:-1])
        targets[i, begin - 1 : len(ids) - 1] = torch.tensor(ids[begin:])
    return inputs, targets


def tune_chat(
    suite: Path,
    exchanges: Iterable[tuple[str, str]],
    recipe: Recipe = CHAT_RECIPE,
    report: Callable[[str], None] = print,
) -> dict:
    """Tune the last checkpoint of `suite` on questions and answers; write it as `suite/chat`.

    The arguments are those of `pretrain`, but for pairs of a question and its answer; the sizes of the recipe must be the
    suite's.

    Returns:
        The content of `chat/training.json`: recipe, number of exchanges, final loss.
    """
    tokenizer = PreTrainedTokenizerFast.from_pretrained(suite / "tokenizer")
    rows = _chat_rows(exchanges, tokenizer, recipe.context)
    report(f"{len(rows):,} questions with answers")
    return tune_suite(suite, recipe, lambda step: _chat_batch(rows, recipe, step), {"exchanges": len(rows)}, report)


def tune_suite(
    suite: Path,
    recipe: Recipe,
    next_batch: Callable[[int], Batch],
    facts: dict,
    report: Callable[[str], None],
    exact: bool = False,
) -> dict:
    """Tune the last checkpoint of `suite` on any batches; write it as `suite/chat`.

    The arguments are those of `train_suite`; the sizes of the recipe must be the suite's.

    Returns:
        The content of `chat/training.json`: recipe, checkpoint, `facts`, final loss.
    """
    last = max(suite.glob("step*"), key=lambda path: int(path.name.removeprefix("step")))
    model = LlamaForCausalLM.from_pretrained(last, dtype=torch.float32)
    state = suite / ".chat-state.safetensors"
    log = _train(model, next_batch, recipe, state, lambda _: None, report, exact)
    _save_checkpoint(model, suite / "chat")
    facts = {"recipe": asdict(recipe), "from": last.name} | facts | {"final_loss": log[-1][1]}
    (suite / "chat" / "training.json").write_text(json.dumps(facts, indent=1) + "\n")
    state.unlink()
    return facts
