"""Write the model card of a suite that `pretrain` trained, from the files of the training."""

import json
from pathlib import Path

import pandas as pd

from ..core import downloads
from . import pretraining

__all__ = ["write"]

_CARD = Path(__file__).with_name("model_card.md").read_text(encoding="utf-8")


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
