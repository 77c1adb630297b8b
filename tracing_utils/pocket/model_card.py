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
    loss = pd.read_csv(suite / "loss.csv")
    steps = {int(path.name.removeprefix("step")) for path in suite.glob("step*")}
    rows = loss[loss["step"].isin(steps)].itertuples()
    card = _CARD.format(
        **facts,
        name=suite.name,
        count=len(steps),
        epochs=facts["tokens_seen"] / facts["corpus_tokens"],
        source=pretraining,
        chat=chat,
        losses="\n".join(f"| {row.step} | {row.loss} |" for row in rows),
        folders=", ".join(pretraining.CORPUS_FOLDERS),
    )
    (suite / "README.md").write_text(card, encoding="utf-8")
    downloads.write_sums(suite, [str(path.relative_to(suite)) for path in suite.glob("*/model.safetensors")])
