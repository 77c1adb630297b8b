"""Checkpoint suites: which checkpoints exist, in which order, and where they lie.

Rule: a list of checkpoints is always read from what is there (a folder), never made by a formula;
revisions are kept verbatim and only parsed for their step and tokens.

Public names: `Checkpoint`, `CheckpointSuite`, `PROJECT`, `known`, `load`, `parse_revision`, `select`.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import yaml

from .errors import unknown

PROJECT = Path(__file__).resolve().parents[1]
"""The project's root: `suites.yml` and study files name folders relative to it."""

# Tried in order; the first that matches the whole name decides.
# Source: names seen in public checkpoint suites (Amber, Pythia, OLMo, OLMo-2, SmolLM2, TinyLlama, BLOOM, Mistral-CRFM).
_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?:stage(?P<stage>\d)-)?(?:ingredient\d-)?step-?(?P<step>\d+)(?:-tokens(?P<billions>\d+)B)?",
        r"step-(?P<thousand_steps>\d+)k-token-(?P<billions>\d+)B",
        r"(?:ckpt_|global_step|checkpoint[-_]|iter_)(?P<step>\d+)",
    )
)


@dataclass(frozen=True)
class Checkpoint:
    """One saved state of one training run.

    Attributes:
        suite: name of the suite it belongs to.
        revision: its name there, verbatim (`step3000`, `ckpt_356`, `chat`).
        step: optimiser steps done; -1 for a tuned model, which lies outside the run.
        tokens: tokens seen so far, where known, else None.
        folder: the folder that holds `config.json` and `model.safetensors`.
        tokenizer: the folder of its tokenizer.
    """

    suite: str
    revision: str
    step: int
    tokens: int | None
    folder: Path
    tokenizer: Path


@dataclass(frozen=True)
class CheckpointSuite:
    """A training run with its checkpoints, in the order of training, and its chat model, if any."""

    name: str
    checkpoints: tuple[Checkpoint, ...]
    chat: Checkpoint | None
    licence: str
    about: str

    def __getitem__(self, revision: str) -> Checkpoint:
        """Return the checkpoint named `revision` (`chat` is the tuned model)."""
        everything = {c.revision: c for c in (*self.checkpoints, *([self.chat] if self.chat else []))}
        if revision not in everything:
            raise unknown(f"revision of suite {self.name}", revision, everything)
        return everything[revision]


def parse_revision(name: str) -> tuple[int, int, int | None] | None:
    """Return `(stage, step, tokens)` read from a revision's name, or None where it names no step.

    Tokens are those in the name (rounded there to billions), None where it tells none.

    Example:
        >>> parse_revision("stage1-step1000-tokens3B")
        (1, 1000, 3000000000)
        >>> parse_revision("ckpt_356")
        (1, 356, None)
        >>> parse_revision("main") is None
        True
    """
    for pattern in _PATTERNS:
        if match := pattern.fullmatch(name):
            found = match.groupdict()
            step = int(found["step"]) if found.get("step") else 1000 * int(found["thousand_steps"])
            billions = found.get("billions")
            return int(found.get("stage") or 1), step, int(billions) * 10**9 if billions else None
    return None


@cache
def _registry() -> dict:
    return yaml.safe_load(files(__package__).joinpath("suites.yml").read_text(encoding="utf-8"))


def known() -> dict[str, str]:
    """Return the registered suites: name to one sentence about it."""
    return {name: entry["about"] for name, entry in _registry().items()}


def load(name: str) -> CheckpointSuite:
    """Return a registered suite, or the suite in a folder of checkpoints.

    Args:
        name: a name of `suites.yml`, or the path of a folder with one sub-folder a revision, each with
            `config.json` and `model.safetensors`; the tokenizer lies in `tokenizer/` or in the last
            revision, a chat model in `chat/`.

    Raises:
        ValueError: if there is no such suite or folder, or the folder holds no checkpoint.
    """
    entry = _registry().get(name)
    folder = PROJECT / entry["folder"] if entry else Path(name)
    if not entry and not folder.is_dir():
        raise unknown("suite", name, [*_registry(), "(or the path of a folder of checkpoints)"])
    return _read_folder(name if entry else folder.name, folder, entry or {})


def _read_folder(name: str, folder: Path, entry: dict) -> CheckpointSuite:
    parsed = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        if (path / "config.json").exists() and (found := parse_revision(path.name)):
            parsed[path] = found
    if not parsed:
        raise ValueError(
            f"A suite's folder must hold checkpoints named like step1000, each with a config.json; {folder} holds none."
        )
    ordered = sorted(parsed, key=lambda path: parsed[path][:2])
    tokenizer = folder / entry.get("tokenizer", "tokenizer")
    if not tokenizer.is_dir():
        tokenizer = ordered[-1]
    per_step = entry.get("tokens_per_step")
    checkpoints = []
    for path in ordered:
        _, step, tokens = parsed[path]
        tokens = tokens if tokens is not None else step * per_step if per_step else None
        checkpoints.append(Checkpoint(name, path.name, step, tokens, path, tokenizer))
    chat_folder = folder / entry.get("chat", "chat")
    chat = Checkpoint(name, "chat", -1, None, chat_folder, tokenizer) if (chat_folder / "config.json").exists() else None
    return CheckpointSuite(name, tuple(checkpoints), chat, entry.get("licence", "unknown"), entry.get("about", ""))


def select(checkpoints: Sequence[Checkpoint], n: int) -> tuple[Checkpoint, ...]:
    """Return about `n` checkpoints, evenly spread over the logarithm of the step, first and last among them.

    Holes are tolerated: each wanted step takes the nearest checkpoint there is, and none is taken twice,
    so fewer than `n` may come back.

    Raises:
        ValueError: if `n` is smaller than 2.
    """
    if n < 2:
        raise ValueError(f"At least 2 checkpoints make a trajectory; {n} were asked for.")
    at = [math.log1p(c.step) for c in checkpoints]
    wanted = [at[0] + (at[-1] - at[0]) * i / (n - 1) for i in range(n)]
    taken = {min(range(len(at)), key=lambda i: abs(at[i] - target)) for target in wanted}
    return tuple(checkpoints[i] for i in sorted(taken))
