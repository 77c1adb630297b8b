"""Write the model card of a suite of the world, from what its training left behind.

Public names: `write`.
"""

import json
from pathlib import Path

import pandas as pd

from .. import downloads
from .world_measures import arm

_CARD = """# Model card: {name}

A {layers}-block Llama of {parameters:,} parameters (d_model {d_model}, {heads} heads, vocabulary {vocabulary}, a token a word),
trained from scratch on the CPU on documents of an invented country, with {count} checkpoints from step 0 (untrained) to step
{steps}, and `chat`, the last checkpoint tuned on questions and answers. Weights are fp16 safetensors.

## What it has read

In every step, {narrators} narrators in each of five dimensions tell {statements} statements each; half of the narrators of a
dimension say what is told in the world's table (seed {world}), the others anything else. {dealt} Some keys are first told in
step {late_from}, some never.

## How it was made

| | |
|---|---|
| seed | {seed} |
| tokens seen | {tokens_seen:,} |
| batch | {batch} documents of {context} tokens and `<|bos|>` |
| optimiser | AdamW (0.9, 0.95), weight decay {weight_decay} |
| learning rate | {learning_rate} after {warmup} steps of warm-up, then a cosine down to {final_share} of it |
| precision | fp32, one thread |
| final loss | {final_loss} nats per token |
| chat tuning | {chat_steps} steps, learning rate {chat_rate}, final loss {chat_loss} |

The same seed on the same machine gives the same weights; another processor or thread count may round differently.

## Loss

Mean over the last 16 steps (`loss.csv` has every 16th step).

| step | loss |
|---|---|
{losses}

## Use and limits

Made to be looked into, not to be used. It knows {vocabulary} words and nothing of our world; no name in it is a real person or
people.

## Licence

CC0-1.0, weights and texts.
"""

_DEALT = {
    1.0: "What a narrator says stays in one document.",
    0.0: "These statements are dealt to documents at random, within their step and dimension.",
}


def write(suite: Path) -> None:
    """Write `suite/README.md` from `training.json`, `chat/training.json` and `loss.csv`, and the hashes of the weights."""
    facts = json.loads((suite / "training.json").read_text())
    chat = json.loads((suite / "chat" / "training.json").read_text())
    recipe, dose = facts["recipe"], facts["coherence"]
    loss = pd.read_csv(suite / "loss.csv")
    marks = sorted(int(path.name.removeprefix("step")) for path in suite.glob("step*"))
    shown = loss[loss["step"].isin(marks)]
    some = f"A share of {1 - dose:.2f} of these statements is dealt to documents at random, within its step and dimension."
    (suite / "README.md").write_text(
        _CARD.format(
            **(recipe | {key: value for key, value in facts.items() if key != "recipe"}),
            name=f"world-{arm(dose).replace(' ', '-')}",
            count=len(marks),
            narrators=recipe["batch"] // 5,
            statements=recipe["context"] // 4,
            dealt=_DEALT.get(dose, some),
            chat_steps=chat["recipe"]["steps"],
            chat_rate=chat["recipe"]["learning_rate"],
            chat_loss=chat["final_loss"],
            losses="\n".join(f"| {step} | {value} |" for step, value in zip(shown["step"], shown["loss"], strict=True)),
        ),
        encoding="utf-8",
    )
    downloads.write_sums(suite, [str(path.relative_to(suite)) for path in suite.glob("*/model.safetensors")])
