"""Train the world suites: the recipe, the tokenizer, one run of an arm, and its tuning on questions and answers."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from ..statements.world import SPECIAL, WORDS, World
from . import model_card
from .pretraining import BOS, CHAT_TEMPLATE, EOS, PAD, UNSCORED, Batch, Recipe, begin, train_suite, tune_suite
from .telling import Telling

__all__ = ["LATE_FROM", "CHECKPOINT_STEPS", "RECIPE", "CHAT", "tokenizer", "train"]

LATE_FROM = 6144
"""First step in which late keys are told: the told keys are known long before, and some dimensions can be read."""

CHECKPOINT_STEPS = (
    0, 64, 128, 256, 512, 768, 1024, 1536, 2048, 2560, 3072, 3584, 4096, 5120, 6144, 6272, 6400, 6656, 7168, 8192, 9216, 10240,
    11264, 12288,
)  # fmt: skip

# The rate stays high: half a cosine, down to half the rate.
RECIPE = Recipe(
    layers=2, d_model=64, heads=4, d_mlp=192, vocabulary=len(WORDS), context=32, batch=60, learning_rate=2e-3, final_share=0.5,
    weight_decay=0.01, steps=12288,
)  # fmt: skip
"""How a run of the world is trained, but for its seed: the longest of the trials. A batch is what is said in one step."""

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


def _documents(telling: Telling, step: int) -> Batch:
    rows = torch.from_numpy(telling.documents(step))
    return rows[:, :-1], rows[:, 1:]


def _exchanges(telling: Telling, step: int) -> Batch:
    """Return inputs and targets of questions and answers; only the answers are scored."""
    tokens, answers = telling.exchanges(step)
    rows, scored = torch.from_numpy(tokens), torch.from_numpy(answers)
    return rows[:, :-1], rows[:, 1:].masked_fill(~scored[:, 1:], UNSCORED)


def train(
    out: Path,
    coherence: float,
    seed: int,
    recipe: Recipe = RECIPE,
    chat: Recipe = CHAT,
    marks: tuple[int, ...] = CHECKPOINT_STEPS,
    late_from: int = LATE_FROM,
    report: Callable[[str], None] = print,
    drop_from: int | None = None,
) -> dict:
    """Train one run of the world and its chat model; a killed run continues.

    The arm is coherent at a `coherence` of 1, scrambled at 0. The seed is that of the weights, of what is said, and of how it is
    dealt; it replaces those of both recipes, and the world stays the same. Late keys are told from step `late_from` on, a third
    of the told keys up to `drop_from` alone (`Telling`). `train_suite` says what the others are; `out` gets `tokenizer/` and
    `chat/` too.

    Returns:
        What `training.json` holds.

    Raises:
        ValueError: if `out` holds a run of another recipe, arm or seed.
    """
    recipe, chat = replace(recipe, seed=seed), replace(chat, seed=seed)
    world = World()
    facts = {"recipe": asdict(recipe), "world": world.seed, "coherence": coherence, "late_from": late_from}
    facts |= {} if drop_from is None else {"drop_from": drop_from}
    telling = Telling(world, seed, coherence, late_from, recipe.batch // 10, drop_from=drop_from)
    training = begin(out, facts)
    if not training:
        tokenizer().save_pretrained(out / "tokenizer")
        training = train_suite(out, recipe, lambda step: _documents(telling, step), marks, facts, report, exact=True)
    if not (out / "chat" / "training.json").exists():
        asked = replace(telling, seed=seed + 1000, statements=3, late_from=0)
        tune_suite(out, chat, lambda step: _exchanges(asked, step), {}, report, exact=True)
    model_card.write_from("world_card.md", out)
    return training
