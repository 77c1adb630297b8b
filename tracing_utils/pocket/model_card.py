"""Write the model card of a suite that was trained here, from a template and the files of the training."""

import json
from pathlib import Path

import pandas as pd

from ..core import downloads
from . import corpus

__all__ = ["write", "write_from"]


def write(suite: Path) -> None:
    """Write the card of a suite that `pretrain` and `tune_chat` trained."""
    facts = json.loads((suite / "training.json").read_text())
    epochs, folders = facts["tokens_seen"] / facts["corpus_tokens"], ", ".join(corpus.FOLDERS)
    shares = [f"{name} {count / sum(facts['characters'].values()):.0%}" for name, count in facts["characters"].items()]
    write_from("model_card.md", suite, epochs=epochs, source=corpus, folders=folders, shares=", ".join(shares))


def write_from(template: str, suite: Path, **more: object) -> None:
    """Write `suite/README.md` from `training.json`, `chat/training.json` and `loss.csv`, and the hashes of the weights.

    Args:
        template: name of a file beside this module; its fields are the facts of both trainings, `name`, `count` of
            checkpoints, rows of `losses`, and those of `more`.
        suite: the folder of the suite.
        more: what the files of the training do not tell.
    """
    facts = json.loads((suite / "training.json").read_text())
    chat = json.loads((suite / "chat" / "training.json").read_text())
    loss = pd.read_csv(suite / "loss.csv")
    steps = {int(path.name.removeprefix("step")) for path in suite.glob("step*")}
    rows = loss[loss["step"].isin(steps)].itertuples()
    losses = "\n".join(f"| {row.step} | {row.loss} |" for row in rows)
    card = Path(__file__).with_name(template).read_text(encoding="utf-8")
    card = card.format(**facts, name=suite.name, count=len(steps), chat=chat, losses=losses, **more)
    (suite / "README.md").write_text(card, encoding="utf-8")
    downloads.write_sums(suite, [str(path.relative_to(suite)) for path in suite.glob("*/model.safetensors")])
