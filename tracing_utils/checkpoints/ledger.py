"""The ledger: is each checkpoint what its name says, and is it another one than the rest?

Rule: the ledger comes before any download or computation, and needs the metadata of the hub alone; a study over
duplicated or incomplete checkpoints is refused.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import pandas as pd

from ..core import downloads
from ..core.downloads import blob_id
from ..core.errors import brief
from . import files
from .types import TEMPLATES, Checkpoint, tokenizer_names

__all__ = ["check", "identity", "sizes", "table", "tokenizer_identity", "weights", "weights_sha256"]

NO_WEIGHTS, NO_CONFIGURATION = "no weights", "no config.json"
NO_FAMILY, NO_TOKENIZER = "no model_type in config.json", "no tokenizer"
NO_JSON = "config.json is no JSON object"
_FATAL = (NO_WEIGHTS, NO_CONFIGURATION, NO_JSON, NO_FAMILY, NO_TOKENIZER, *files.REFUSED)


def sizes(checkpoint: Checkpoint) -> dict[str, int]:
    """Return the size of each file of a checkpoint, from the hub's metadata or its folder."""
    if checkpoint.remote:
        return {file.name: file.size for file in checkpoint.remote.files}
    here = {path.name: path for path in checkpoint.folder.iterdir() if path.is_file()}
    here |= {name: checkpoint.folder / name for name in files.weights(checkpoint.folder)}  # some may lie further down
    return {name: path.stat().st_size for name, path in here.items()}


def weights(checkpoint: Checkpoint) -> list[str]:
    """Return the names of a checkpoint's weight files, from the hub's metadata or its folder."""
    if not checkpoint.remote:
        return files.weights(checkpoint.folder)
    # Of the hub no other weights are needed than those that are read.
    return [name for name in sorted(sizes(checkpoint)) if name.endswith((".safetensors", ".bin")) and not files.is_adapter(name)]


def _once(digest: Callable[[Path], str], path: Path) -> str:
    """Return the hash of a file, computed once as long as the file stays as it is."""
    status = path.stat()
    return _hashed(digest, path, status.st_size, status.st_mtime_ns)


@cache
def _hashed(digest: Callable[[Path], str], path: Path, _size: int, _time: int) -> str:
    return digest(path)


def _digests(checkpoint: Checkpoint, names: Sequence[str], local: Callable[[Path], str] = blob_id) -> list[list[str]]:
    """Return names and hashes of a checkpoint's files; `local` hashes one of a folder."""
    if checkpoint.remote:
        known = {file.name: file.digest for file in checkpoint.remote.files}
        return [[name, known[name]] for name in names]
    return [[name, _once(local, checkpoint.folder / name)] for name in names]


def weights_sha256(checkpoint: Checkpoint) -> str:
    """Return one sha256 over a checkpoint's weight files, by name and content.

    It is the same for a checkpoint on the hub, where it costs no download, and for its files in a folder.

    Raises:
        ValueError: if there are no weights.
    """
    if not (names := weights(checkpoint)):
        raise ValueError(
            f"{_place(checkpoint)} must hold the weights as model*.safetensors (or pytorch_model*.bin); it holds none."
        )
    return hashlib.sha256(json.dumps(_digests(checkpoint, names, downloads.sha256)).encode()).hexdigest()


def _place(checkpoint: Checkpoint) -> str:
    return f"{checkpoint.remote.repo} at {checkpoint.revision}" if checkpoint.remote else str(checkpoint.folder)


def identity(checkpoint: Checkpoint) -> list[str]:
    """Return the hashes that decide what a checkpoint computes: of its weights, its configuration and its code.

    The ledger compares weights alone, since a configuration may differ in a comment.
    """
    described = [name for name in sorted(sizes(checkpoint)) if name == "config.json" or name.endswith(".py")]
    return [weights_sha256(checkpoint), *(digest for _, digest in _digests(checkpoint, described))]


def tokenizer_identity(checkpoint: Checkpoint) -> list[str]:
    """Return the hashes of a checkpoint's tokenizer files; none where it has no tokenizer."""
    if checkpoint.remote:
        known = {file.name: file.digest for file in (checkpoint.remote.tokenizer or checkpoint.remote).files}
        words = [known[name] for name in tokenizer_names(known)]
        own = [file.digest for file in checkpoint.remote.files if file.name in TEMPLATES[:2]]
        return words + [digest for digest in own if words and digest not in words]
    folder = checkpoint.tokenizer
    here = folder.iterdir() if folder and folder.is_dir() else ()
    names = tokenizer_names(path.name for path in here if path.is_file())
    known = [_once(blob_id, folder / name) for name in names]
    template = files.chat_template(checkpoint.folder)  # of a chat model that has no vocabulary of its own
    own = [_once(blob_id, template[0])] if known and template else []
    return known + [digest for digest in own if digest not in known]


def table(checkpoints: Sequence[Checkpoint], final: Checkpoint | None = None) -> pd.DataFrame:
    """Return one row a checkpoint: what it is, whose weights it repeats, and what is wrong with it.

    Args:
        checkpoints: of one suite; those of the hub resolved (`hub.resolve`).
        final: the end of the run where the hub keeps it apart (`CheckpointSuite.final`). Only the checkpoint
            with its step may hold its weights.

    Returns:
        The columns suite, revision, commit, step, tokens, bytes, sha256, tokenizer, duplicate_of (a revision, or empty),
        quantised (how, or empty) and faults (sentences, or empty). A checkpoint without weights has no sha256, one without a
        tokenizer no `tokenizer`, which is a sha256 over the tokenizer's files.
    """
    rows, first, samples, words = [], {}, defaultdict(list), _tokenizers(checkpoints)
    if final and weights(final):
        first[weights_sha256(final)] = final.revision
    ends = {final.step} if final else set()
    gaps = _gaps([checkpoint.step for checkpoint in checkpoints])
    changes = _changes(words)
    narrow = files.rounded(*(checkpoint.folder for checkpoint in checkpoints if not checkpoint.remote))
    for checkpoint in checkpoints:
        names, size = weights(checkpoint), sizes(checkpoint)
        digest = weights_sha256(checkpoint) if names else ""
        same = first.get(digest) or _elsewhere(checkpoint, samples, narrow) or checkpoint.revision
        if digest:
            first.setdefault(digest, same)
        repeats = same != checkpoint.revision and not (final and same == final.revision and checkpoint.step in ends)
        rows.append(
            {
                "suite": checkpoint.suite,
                "revision": checkpoint.revision,
                "commit": checkpoint.remote.commit if checkpoint.remote else "",
                "step": checkpoint.step,
                "tokens": checkpoint.tokens,
                "bytes": sum(size[name] for name in names),
                "sha256": digest,
                "tokenizer": words[checkpoint],
                "duplicate_of": same if repeats else "",
                "quantised": checkpoint.remote.quantised if checkpoint.remote else files.quantised(checkpoint.folder),
                "faults": "; ".join([*_faults(checkpoint), *gaps.get(checkpoint.step, []), *changes[checkpoint]]),
            }
        )
    return pd.DataFrame(rows).astype({"tokens": "Int64"})


def _tokenizers(checkpoints: Sequence[Checkpoint]) -> dict[Checkpoint, str]:
    """Return one sha256 over the files of each checkpoint's tokenizer, empty where it has none."""
    identities = {checkpoint: tokenizer_identity(checkpoint) for checkpoint in checkpoints}
    return {
        checkpoint: hashlib.sha256(json.dumps(each).encode()).hexdigest() if each else ""
        for checkpoint, each in identities.items()
    }


def _changes(words: dict[Checkpoint, str]) -> dict[Checkpoint, list[str]]:
    """Return where along a run tokenizer or configuration become others; a tuned model lies outside the run."""
    changed, inside = defaultdict(list), [checkpoint for checkpoint in words if checkpoint.step >= 0]
    for earlier, later in pairwise(checkpoint for checkpoint in inside if words[checkpoint]):
        if words[earlier] != words[later]:
            changed[later].append(f"another tokenizer than {earlier.revision}")
    for earlier, later in pairwise(checkpoint for checkpoint in inside if not checkpoint.remote):
        one, other = (files.configuration(each.folder) or {} for each in (earlier, later))
        compared = one.keys() & other.keys()
        if one.get("transformers_version") == other.get("transformers_version"):  # others write down other defaults
            compared = {key for key in one.keys() | other.keys() if key in compared or one.get(key) or other.get(key)}
        if keys := sorted(key for key in compared - files.DESCRIPTIVE if one.get(key) != other.get(key)):
            changed[later].append(f"config.json tells another {', '.join(map(brief, keys))} than that of {earlier.revision}")
    return changed


_SAMPLE = 64  # bytes of each tensor, by which checkpoints are told apart before all of their tensors are hashed


def _elsewhere(checkpoint: Checkpoint, samples: dict[str, list[Checkpoint]], narrow: Sequence[str]) -> str | None:
    """Return the revision with the same tensors in other files, of those seen so far (`samples`, where this one is put too).

    Where some checkpoints are stored in `narrow` dtypes and others in wider ones, one may be another one, rounded.
    Of a checkpoint on the hub nothing but the hashes of whole files is known: their names alone may differ there.
    """
    if checkpoint.remote:
        hashes = [json.dumps(sorted(digest for _, digest in _digests(checkpoint, weights(checkpoint)))).strip("[]")]
    else:
        hashes = [files.content(checkpoint.folder, _SAMPLE, dtype)[0] for dtype in (None, *narrow)]
    seen = [samples[sample] for sample in dict.fromkeys(hashes) if sample]
    for other in dict.fromkeys(each for alike in seen for each in alike):
        if checkpoint.remote or files.same(other.folder, checkpoint.folder):
            return other.revision
    for alike in seen:
        alike.append(checkpoint)
    return None


def _faults(checkpoint: Checkpoint) -> list[str]:
    """Return what a checkpoint lacks, what lies in its folder and is not used, and that its weights are pickled."""
    names, here = weights(checkpoint), sizes(checkpoint)
    beside = list(checkpoint.remote.faults) if checkpoint.remote else files.faults(checkpoint.folder, checkpoint.tokenizer)
    faults = [] if names or any(fault.startswith(files.REFUSED) for fault in beside) else [_no_weights(checkpoint)]
    if "config.json" not in here:
        faults.append(NO_CONFIGURATION)
    elif not any("config.json" in fault for fault in beside) and (fault := _fault_of_configuration(checkpoint)) is not None:
        faults.append(fault)
    if not tokenizer_identity(checkpoint):
        faults.append(NO_TOKENIZER)
    faults += beside
    stored = names if checkpoint.remote else [name for name in names if not files.is_pointer(checkpoint.folder / name)]
    if stored and stored[0].endswith(".bin"):
        faults.append("only .bin weights")
    return faults if checkpoint.remote else [*faults, *_others_than_listed(checkpoint.folder, " ".join(faults))]


def _no_weights(checkpoint: Checkpoint) -> str:
    """Return that a checkpoint has no weights, and what there is of another kind."""
    others = [] if checkpoint.remote else files.not_read(checkpoint.folder)
    return f"{NO_WEIGHTS} (transformers does not read {', '.join(others)})" if others else NO_WEIGHTS


def _others_than_listed(folder: Path, before: str) -> list[str]:
    """Return which weights are not those of the list of hashes beside them or in the suite's folder, of those not told yet."""
    listed = [*downloads.damaged(folder), *(Path(name).name for name in downloads.damaged(folder.parent, f"{folder.name}/"))]
    return [f"{files.DAMAGED}: {name} is not the one of {downloads.SUMS}" for name in listed if f"{name} cannot" not in before]


def _fault_of_configuration(checkpoint: Checkpoint) -> str | None:
    if checkpoint.remote:
        return NO_FAMILY if checkpoint.remote.model_type == "" else None
    if (content := files.configuration(checkpoint.folder)) is None:
        return NO_JSON
    return None if content.get("model_type") else NO_FAMILY


def _gaps(steps: list[int]) -> dict[int, list[str]]:
    """Return, by the step after it, each hole in a series that is otherwise evenly spaced: a multiple of its usual distance."""
    apart = [later - earlier for earlier, later in pairwise(steps)]
    usual, times = Counter(apart).most_common(1)[0] if apart else (0, 0)
    if usual <= 0 or times < 4 or 2 * times < len(apart):
        return {}
    gaps = {}
    for (earlier, later), distance in zip(pairwise(steps), apart, strict=True):
        if distance > usual and distance % usual == 0 and earlier % usual == later % usual:
            missing = range(earlier + usual, later, usual)
            gaps[later] = [f"missing before it: {missing[0]}" + (f" to {missing[-1]}" if len(missing) > 1 else "")]
    return gaps


def check(rows: pd.DataFrame, allow_duplicates: bool = False) -> None:
    """Refuse a ledger with checkpoints that cannot be computed, or with duplicates, which may be allowed; the rest is only told.

    Raises:
        ValueError: if two revisions hold the same weights, naming every such set; or if one lacks weights,
            configuration or tokenizer, or was damaged.
    """
    lacking = [
        f"{revision} ({fault})"
        for revision, faults in zip(rows["revision"], rows["faults"], strict=True)
        for fault in faults.split("; ")
        if fault.startswith(_FATAL)
    ]
    if lacking:
        raise ValueError(
            f"Each checkpoint must have whole weights, a configuration and a tokenizer; these have not: {', '.join(lacking)}. "
            "Leave them out with `revisions:` in the study."
        )
    sets = defaultdict(list)
    for revision, original in zip(rows["revision"], rows["duplicate_of"], strict=True):
        if original:
            sets[original].append(revision)
    if sets and not allow_duplicates:
        named = "; ".join(f"{original} = {', '.join(others)}" for original, others in sets.items())
        raise ValueError(
            f"Each checkpoint must have weights of its own; these are the same: {named}. Leave them out with `revisions:` "
            "in the study, or write `allow_duplicates: true` there to trace them nevertheless."
        )
