"""The ledger: is each checkpoint what its name says, and is it another one than the rest?

Rule: the ledger is made before anything is computed; a study over duplicated checkpoints is refused.

Public names: `weights_sha256`, `read`, `check`.
"""

import json
from collections import defaultdict
from hashlib import sha256

import pandas as pd

from . import downloads
from .suites import Checkpoint


def weights_sha256(checkpoint: Checkpoint) -> str:
    """Return one sha256 over a checkpoint's weight files, by name and content.

    Raises:
        ValueError: if there are no safetensors in its folder.
    """
    weights = sorted(checkpoint.folder.glob("*.safetensors"))
    if not weights:
        raise ValueError(f"{checkpoint.folder} must hold the weights as safetensors; it holds none.")
    return sha256(json.dumps([[path.name, downloads.sha256(path)] for path in weights]).encode()).hexdigest()


def read(checkpoints: list[Checkpoint]) -> pd.DataFrame:
    """Return one row a checkpoint: suite, revision, step, tokens, bytes, sha256, and whose weights it repeats, if any."""
    rows, first = [], {}
    for checkpoint in checkpoints:
        digest = weights_sha256(checkpoint)
        size = sum(path.stat().st_size for path in checkpoint.folder.glob("*.safetensors"))
        same = first.setdefault(digest, checkpoint.revision)
        rows.append(
            {
                "suite": checkpoint.suite,
                "revision": checkpoint.revision,
                "step": checkpoint.step,
                "tokens": checkpoint.tokens,
                "bytes": size,
                "sha256": digest,
                "duplicate_of": same if same != checkpoint.revision else "",
            }
        )
    return pd.DataFrame(rows).astype({"tokens": "Int64"})


def check(table: pd.DataFrame) -> None:
    """Refuse a ledger with duplicates.

    Raises:
        ValueError: if two revisions hold the same weights; names every such set.
    """
    sets = defaultdict(list)
    for revision, original in zip(table["revision"], table["duplicate_of"], strict=True):
        if original:
            sets[original].append(revision)
    if sets:
        named = "; ".join(f"{original} = {', '.join(others)}" for original, others in sets.items())
        raise ValueError(
            f"Each checkpoint must have weights of its own; these are the same: {named}. Leave them out of the study."
        )
