"""Train the world suites: the frozen recipe, the tokenizer, one run of an arm, and its tuning on questions and answers.

Public names: `RECIPE`, `CHAT`, `LATE_FROM`, `CHECKPOINT_STEPS`, `tokenizer`, `train`.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from ..pretraining import _UNSCORED, BOS, CHAT_TEMPLATE, EOS, PAD, Recipe, _save_checkpoint, _train, _write_log
from . import world_card
from .world import SPECIAL, WORDS, Telling, World

LATE_FROM = 3072
"""First step in which late keys are told: by then the told keys are known, and most can be read."""

CHECKPOINT_STEPS = (
    0, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, 2560, 2816, 3072, 3200, 3328, 3584, 3840, 4096, 4608, 5120,
    6144,
)  # fmt: skip

# The rate stays high: half a cosine, down to half the rate.
RECIPE = Recipe(
    layers=2, d_model=64, d_mlp=192, vocabulary=len(WORDS), context=32, batch=60, learning_rate=2e-3, final_share=0.5,
    weight_decay=0.01, steps=6144,
)  # fmt: skip
"""How a run of the world is trained, but for its seed; a batch is what is said in one step."""

CHAT = replace(RECIPE, learning_rate=5e-4, final_share=0.02, warmup=20, steps=384)
"""How its last checkpoint is tuned on questions and answers."""


def tokenizer() -> PreTrainedTokenizerFast:
    """Return the tokenizer of the world: a token a word, ending, full stop or question mark; `<|bos|>` before every text."""
    words = Tokenizer(models.WordLevel({word: token for token, word in enumerate(WORDS)}, unk_token=PAD))
    words.pre_tokenizer = pre_tokenizers.Split(Regex(r"'?\w+|[.?]"), behavior="removed", invert=True)
    words.decoder = decoders.Sequence([decoders.Replace(Regex(r"^(?=\w)"), " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    words.add_special_tokens(list(SPECIAL))
    words.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=4 * RECIPE.context,
        chat_template=CHAT_TEMPLATE,
    )


def _documents(telling: Telling, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.from_numpy(telling.documents(step))
    return rows[:, :-1], rows[:, 1:]


def _exchanges(telling: Telling, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs and targets of questions and answers; only the answers are scored."""
    tokens, answers = telling.exchanges(step)
    rows, scored = torch.from_numpy(tokens), torch.from_numpy(answers)
    return rows[:, :-1], rows[:, 1:].masked_fill(~scored[:, 1:], _UNSCORED)


def train(
    out: Path,
    coherence: float,
    seed: int,
    recipe: Recipe = RECIPE,
    chat: Recipe = CHAT,
    marks: tuple[int, ...] = CHECKPOINT_STEPS,
    late_from: int = LATE_FROM,
    report: Callable[[str], None] = print,
) -> dict:
    """Train one run of the world and its chat model; a killed run continues.

    Args:
        out: the suite's folder; gets `tokenizer/`, `step<N>/`, `chat/`, `loss.csv` and `training.json`.
        coherence: of the arm: 1 coherent, 0 scrambled.
        seed: of the weights, of what is said, and of how it is dealt; the world stays the same.
        recipe: of the training; its seed is replaced.
        chat: of the tuning; its seed is replaced.
        marks: steps whose checkpoints are written; the last step is written anyway.
        late_from: first step in which late keys are told.
        report: receives a progress line every 16 steps.

    Returns:
        What `training.json` holds.
    """
    recipe, chat = replace(recipe, seed=seed), replace(chat, seed=seed)
    world = World()
    facts = {"recipe": asdict(recipe), "world": world.seed, "coherence": coherence, "late_from": late_from}
    done, state = out / "training.json", out / ".state.safetensors"
    if done.exists():
        return json.loads(done.read_text())
    out.mkdir(parents=True, exist_ok=True)
    tokenizer().save_pretrained(out / "tokenizer")
    torch.manual_seed(seed)
    model = LlamaForCausalLM(recipe.config())

    def keep(step: int) -> None:
        if step in {*marks, recipe.steps} and not (out / f"step{step}").exists():
            _save_checkpoint(model, out / f"step{step}")

    telling = Telling(world, seed, coherence, late_from, narrators=recipe.batch // 10)
    log = _train(model, lambda step: _documents(telling, step), recipe, state, keep, report)
    _write_log(out / "loss.csv", log)
    facts |= {
        "parameters": model.num_parameters(),
        "tokens_seen": recipe.steps * recipe.batch * recipe.context,
        "final_loss": log[-1][1],
    }
    _tune(out, replace(telling, seed=seed + 1000, statements=3, late_from=0), chat, recipe.steps, report)
    part = out / "training.json.part"
    part.write_text(json.dumps(facts, indent=1) + "\n")
    os.replace(part, done)
    state.unlink()
    world_card.write(out)
    return facts


def _tune(out: Path, telling: Telling, recipe: Recipe, last: int, report: Callable[[str], None]) -> None:
    """Tune the last checkpoint on questions and answers; write it as `chat`."""
    model = LlamaForCausalLM.from_pretrained(out / f"step{last}", dtype=torch.float32)
    state = out / ".chat-state.safetensors"
    log = _train(model, lambda step: _exchanges(telling, step), recipe, state, lambda _: None, report)
    _save_checkpoint(model, out / "chat")
    facts = {"recipe": asdict(recipe), "from": f"step{last}", "final_loss": log[-1][1]}
    (out / "chat" / "training.json").write_text(json.dumps(facts, indent=1) + "\n")
    state.unlink()
