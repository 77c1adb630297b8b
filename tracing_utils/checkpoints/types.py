"""What a checkpoint is: where it lies, what its revision's name says, and which of its files are weights or tokenizer.

Rule: revisions are kept verbatim and only parsed for their step and tokens.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ..core.errors import unknown

__all__ = [
    "ADDED",
    "CHAT_TEMPLATE",
    "INDICES",
    "NAMED_TEMPLATE",
    "TEMPLATES",
    "Checkpoint",
    "CheckpointSuite",
    "Remote",
    "RemoteFile",
    "alternative",
    "counts_tokens",
    "is_weights",
    "parse_revision",
    "placed",
    "tokenizer_names",
    "tokens_seen",
    "weight_names",
]

# Tried in order; the first that matches the whole name decides. `later` marks a second stage that a word names, `branch` what
# tells runs apart that go on from one state.
_PATTERNS = tuple(
    re.compile(pattern, re.ASCII | re.IGNORECASE)
    for pattern in (
        # Pythia, OLMo, OLMo-2, Olmo-3, SmolLM2, SmolLM3, Apertus, Lucie, and what people write themselves
        r"(?:stage(?P<stage>\d+)-)?(?:(?P<branch>ingredient\d+)-)?step[-_]?(?P<step>\d+)(?:-tokens(?P<billions>\d+)B)?",
        r"step-(?P<thousand_steps>\d+)k-token-(?P<billions>\d+)B",  # TinyLlama
        r"step-(?P<step>\d+)-(?P<billions>\d+)BT",  # the FineWeb ablations
        r"step(?P<step>\d+)-(?P<branch>seed-[a-z0-9-]+)",  # DataDecide
        r"step-(?P<step>\d+)_tokens-(?P<billions>\d+)B-phase(?P<stage>\d)",  # Gaperon
        r"(?:\w+_phase(?P<stage>\d)_)?checkpoint[-_](?P<step>\d+)",  # CrystalCoder, CRFM's GPT-2, HPLT, transformers' Trainer
        r"(?:pretrain_|(?P<later>anneal_))?iter_(?P<step>\d+)",  # OpenCoder, OpenEuroLLM
        r"(?P<later>extension_)step(?P<step>\d+)",  # Lucie
        r"train_(?P<billions>\d+)B",  # Baichuan 2, which counts billions of tokens only
        r"(?:(?:ckpt|checkpoint|model|train)[-_])?(?:global[-_])?step[-_=]?(?P<step>\d+)",  # BLOOM, DeepSpeed, litgpt
        r"(?:ckpt|checkpoint|iter|iteration)[-_=]?(?P<step>\d+)",  # Amber, nanoGPT, Megatron
        r"(?:epoch[-_=]?\d+[-_])?(?:\w+=[\d.]*\d-)*step[-_=]?(?P<step>\d+)(?:-\w+=[\d.]*\d)*(?:-v\d+)?(?:\.ckpt)?",  # Lightning
        r"(?P<step>\d+)",
    )
)
_LONGEST = 256  # that a file's name may be
# What transformers reads, safetensors first. Other files of these kinds (optimiser states, `consolidated`) are no weights
# unless an index names them.
_WEIGHTS = {"model.safetensors": r"model-\d+-of-\d+\.safetensors", "pytorch_model.bin": r"pytorch_model-\d+-of-\d+\.bin"}
INDICES = tuple(f"{name}.index.json" for name in _WEIGHTS)
"""The names of the files that say in which file each weight lies."""
_TOKENIZER = (
    "tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tekken.json", "vocab.json", "vocab.txt",
    "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.json",
    "chat_template.jinja",
)  # fmt: skip
ADDED = _TOKENIZER[-3]
"""The file in which older tokenizers name the tokens beyond their vocabulary."""
CHAT_TEMPLATE = _TOKENIZER[-1]
"""The file in which a chat model says how messages are put together."""
TEMPLATES = (*_TOKENIZER[-2:], "tokenizer_config.json")
"""The files in which it may say so."""
NAMED_TEMPLATE = re.compile(r"additional_chat_templates/[\w.-]+\.jinja")
"""The files in which transformers puts templates that have names; of these that of the name `default` is asked with."""
_VOCABULARIES = _TOKENIZER[:7]  # one of these makes a tokenizer; the others describe it


@dataclass(frozen=True)
class RemoteFile:
    """One file of a checkpoint on the hub, as the hub's metadata describe it.

    Attributes:
        name: relative to the checkpoint's folder.
        size: in bytes.
        digest: the sha256 of a large file (all weights), the git blob id of a small one.
    """

    name: str
    size: int
    digest: str


@dataclass(frozen=True)
class Remote:
    """Where a checkpoint lies on the hub.

    Attributes:
        repo: `owner/name`.
        commit: the commit its revision pointed to when the suite was listed; for a model outside the run the
            name of a branch, until `hub.resolve` pins it.
        subfolder: of the repository, or empty.
        files: configuration, weights and tokenizer; empty until `hub.resolve` has asked.
        tokenizer: where the tokenizer lies if not among `files`.
        model_type: the family its configuration names; empty if it names none, None if the hub does not say.
        quantised: how its configuration says that its weights were quantised; empty if it does not.
        faults: what the names of all its files and its configuration tell of it, in sentences (`files.of_names`).
    """

    repo: str
    commit: str
    subfolder: str = ""
    files: tuple[RemoteFile, ...] = ()
    tokenizer: "Remote | None" = None
    model_type: str | None = None
    quantised: str = ""
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Checkpoint:
    """One saved state of one training run.

    Attributes:
        suite: name of the suite it belongs to.
        revision: its name there, verbatim (`step3000`, `ckpt_356`, `chat`).
        step: optimiser steps done; -1 for a tuned model, which lies outside the run.
        tokens: tokens seen so far, where known, else None.
        folder: the folder that holds `config.json` and the weights; None while it is only on the hub.
        tokenizer: the folder of its tokenizer; None while it is only on the hub.
        remote: where it lies on the hub, if it came from there (`hub.fetch` keeps it).
    """

    suite: str
    revision: str
    step: int
    tokens: int | None
    folder: Path | None
    tokenizer: Path | None
    remote: Remote | None = None


@dataclass(frozen=True)
class CheckpointSuite:
    """A training run with its checkpoints, in the order of training, and its chat model, if any.

    Attributes:
        name: of the suite.
        checkpoints: in the order of training. A single model is a suite of one.
        chat: the tuned model.
        final: the end of the run where no revision of the run names it (the hub's `main`); the ledger compares
            every checkpoint with it.
        notes: what lies there and was left out, with the reason, and how time was read from names that leave it open.
    """

    name: str
    checkpoints: tuple[Checkpoint, ...]
    chat: Checkpoint | None
    final: Checkpoint | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def _named(self) -> dict[str, Checkpoint]:
        return {c.revision: c for c in self.checkpoints} | ({"chat": self.chat} if self.chat else {})

    def __getitem__(self, revision: str) -> Checkpoint:
        """Return the checkpoint named `revision` (`chat` is the tuned model)."""
        if revision not in self._named:
            raise unknown(f"revision of suite {self.name}", revision, self._named)
        return self._named[revision]


def parse_revision(name: str) -> tuple[int, int, int | None] | None:
    """Return `(stage, step, tokens)` read from a revision's name, or None where it names no step.

    Tokens are those in the name (rounded there to billions), None where it holds none. A name that holds
    tokens alone counts in billions of them.

    Example:
        >>> parse_revision("stage1-step1000-tokens3B")
        (1, 1000, 3000000000)
        >>> parse_revision("ckpt_356")
        (1, 356, None)
        >>> parse_revision("train_00220B")
        (1, 220, 220000000000)
        >>> parse_revision("main") is None
        True
    """
    if (groups := _groups(name)) is None:
        return None
    billions = groups.get("billions")
    thousands = groups.get("thousand_steps")
    step = 1000 * int(thousands) if thousands else int(groups.get("step") or billions)
    stage = 2 if groups.get("later") else int(groups.get("stage") or 1)
    return stage, step, int(billions) * 10**9 if billions else None


def _groups(name: str) -> dict[str, str | None] | None:
    matches = (pattern.fullmatch(name) for pattern in _PATTERNS if len(name) < _LONGEST)
    return next((match.groupdict() for match in matches if match), None)


def alternative(name: str) -> str:
    """Return what a revision's name says of the run it belongs to, of several that part from one state; empty if nothing.

    Example:
        >>> alternative("stage2-ingredient1-step500-tokens2B"), alternative("step1000")
        ('ingredient1', '')
    """
    return (_groups(name) or {}).get("branch") or ""


def counts_tokens(name: str) -> bool:
    """Return whether a revision's name counts tokens in the place of steps, as `train_00220B` does."""
    groups = _groups(name) or {}
    return bool(groups.get("billions")) and not (groups.get("step") or groups.get("thousand_steps"))


def weight_names(names: Iterable[str], indexed: Mapping[str, Iterable[str]] | None = None) -> list[str]:
    """Return which of a checkpoint's file names are its weights: safetensors, or `.bin` where there are none.

    `indexed` holds the files that each index (`INDICES`) names, as far as its content is known.
    """
    names = set(names)
    for whole, shard in _WEIGHTS.items():
        shards = [name for name in names if re.fullmatch(shard, name)]
        named = names & set((indexed or {}).get(f"{whole}.index.json", ()))
        if weights := [whole] if whole in names else sorted(named or shards):
            return weights
    return []


def is_weights(name: str) -> bool:
    """Return whether a file is named as transformers names weights, whether it is read or not."""
    return any(name == whole or re.fullmatch(shard, name) for whole, shard in _WEIGHTS.items())


def tokenizer_names(names: Iterable[str]) -> list[str]:
    """Return which of a folder's file names belong to its tokenizer; none where it holds no vocabulary."""
    files = sorted(set(names) & set(_TOKENIZER))
    return files if set(files) & set(_VOCABULARIES) else []


def tokens_seen(entry: dict, step: int, tokens: int | None) -> int | None:
    """Return the tokens a checkpoint has seen: those in its name, else counted from its step, else None."""
    if tokens is None and "tokens_per_step" in entry:
        return entry.get("tokens_at_zero", 0) + step * entry["tokens_per_step"]
    return tokens


def placed(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    """Return a checkpoint of the hub with the folder that `hub.fetch` has put it in."""
    own = folder / "tokenizer"
    return replace(checkpoint, folder=folder, tokenizer=own if own.is_dir() else folder)
