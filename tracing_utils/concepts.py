"""Concept sets: statements with a trustworthy and an untrustworthy side, and splits that keep groups whole.

Rule: label 1 is the trustworthy side in every set (true, respects privacy, civil, unprejudiced, unperturbed).
The released files of the paper mix polarities; they are turned here, on reading.

Public names: `DIMENSIONS`, `ConceptSet`, `Split`, `load`, `set_name`, `available`, `draw`, `subset`, `folds`.
"""

import csv
import io
import json
import os
import re
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int
from sklearn.model_selection import StratifiedGroupKFold

from . import downloads
from .errors import unknown

DIMENSIONS = ("reliability", "privacy", "toxicity", "fairness", "robustness")
"""The five dimensions of trustworthiness, in the paper's order."""

_SMALLEST = 20


@dataclass(frozen=True, eq=False)
class ConceptSet:
    """Statements of one dimension.

    Attributes:
        name: of the set (`pocket`, `tracingllm`, a folder's name).
        dimension: one of `DIMENSIONS`.
        statements: the texts.
        labels: 1 = trustworthy, 0 = not; one per statement.
        groups: what must not be torn apart by a split: pair, question, twin; one per statement.
        categories: kind of each statement, for reading and counting; empty strings where the file tells none.
        source: where the statements come from.
        licence: of the statements.
    """

    name: str
    dimension: str
    statements: tuple[str, ...]
    labels: Int[np.ndarray, " example"]
    groups: tuple[str, ...]
    categories: tuple[str, ...]
    source: str
    licence: str

    def __len__(self) -> int:
        return len(self.statements)

    @cached_property
    def sha256(self) -> str:
        """sha256 of statements, labels and groups: two sets with the same hash give the same results."""
        content = [self.statements, self.labels.tolist(), self.groups]
        return sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()


@dataclass(frozen=True)
class Split:
    """Indices of the statements to train on, to choose on, and to test on."""

    train: Int[np.ndarray, " train"]
    validation: Int[np.ndarray, " validation"]
    test: Int[np.ndarray, " test"]


# The paper's released files. ChnQ/TracingLLM, commit bf8d38a, Apache-2.0 (its sources have licences of their own).
_RELEASED_URL = "https://github.com/ChnQ/TracingLLM/raw/bf8d38a/src/datasets/"
_RELEASED_SOURCE = "ChnQ/TracingLLM, commit bf8d38a"


@dataclass(frozen=True)
class _Released:
    """One released file: its name and hash, whether its 1 is our 1, and what binds its rows together."""

    file: str
    sha256: str
    one_is_trustworthy: bool
    grouping: str  # "question", "context" or "text"


_RELEASED = {
    "reliability": _Released(
        "truthfulqa_train.csv", "a35b128d62def4fe8a14a74f9c9dd38a0fa4f2039e6714892e88d04b47907e92", True, "question"
    ),
    "privacy": _Released("confaide.csv", "e817ecacea5948576edcb021253ba33727fa3d69527d00b236c78eeca19b867c", False, "text"),
    "toxicity": _Released("toxigen.csv", "8f7ead8fbde13b4e56c1c1b4df8de89d56047768b81e746b6b565bb4b0108047", False, "text"),
    "fairness": _Released("stereoset.csv", "0a648d03836c988efb67f156c6eb7b3327b3aee2f73bb8db06b0570d6ee3aca5", True, "context"),
    "robustness": _Released("sst2.csv", "0606418a6a1bc6b80ec29acf3ead4e30211af98a7c1a803d3c8a2b4f5954fa6f", False, "text"),
}


def set_name(source: str) -> str:
    """Return the name under which the results of `source` are filed: `pocket`, `tracingllm`, or a folder's name.

    Raises:
        ValueError: if `source` is neither a known set nor a folder.
    """
    if source in {"pocket", "tracingllm"}:
        return source
    folder = Path(source)
    if not folder.is_dir():
        raise unknown("concept set", source, ["pocket", "tracingllm", "(or a folder with one <dimension>.csv each)"])
    return "tracingllm" if _holds_released(folder) else folder.resolve().name


def available(source: str) -> tuple[str, ...]:
    """Return the dimensions that `source` has statements for.

    Raises:
        ValueError: if it has none.
    """
    if set_name(source) in {"pocket", "tracingllm"}:
        return DIMENSIONS
    found = tuple(dimension for dimension in DIMENSIONS if (Path(source) / f"{dimension}.csv").is_file())
    if not found:
        names = ", ".join(f"{dimension}.csv" for dimension in DIMENSIONS)
        raise ValueError(f"A folder of statements must hold one or more of {names}; {source} holds none.")
    return found


def _holds_released(folder: Path) -> bool:
    return any((folder / entry.file).exists() for entry in _RELEASED.values())


def load(source: str, dimension: str) -> ConceptSet:
    """Return the statements of one dimension.

    Args:
        source: `pocket` (hand-written for this book, shipped), `tracingllm` (the paper's released files, downloaded
            and checked by sha256), a folder that holds the released files, or a folder of your own with
            `<dimension>.csv` files (columns `statement`, `label`, and optionally `group` and `category`).
        dimension: one of `DIMENSIONS`.

    Raises:
        ValueError: if the set, dimension or file is unknown, or the file does not hold what it must.
    """
    if dimension not in DIMENSIONS:
        raise unknown("dimension", dimension, DIMENSIONS)
    name = set_name(source)
    if name == "tracingllm":
        return _load_released(None if source == "tracingllm" else Path(source), dimension)
    if source == "pocket":
        data = files(__package__).joinpath("data", "pocket", f"{dimension}.csv").read_bytes()
        return _from_table(data, f"pocket/{dimension}.csv", "pocket", dimension, "hand-written for this book", "CC0-1.0")
    path = Path(source) / f"{dimension}.csv"
    if not path.is_file():
        raise unknown(f"statement file in {source}", path.name, sorted(p.name for p in Path(source).glob("*.csv")))
    return _from_table(path.read_bytes(), str(path), name, dimension, str(path), "the user's own")


def _from_table(data: bytes, file: str, name: str, dimension: str, source: str, licence: str) -> ConceptSet:
    """Check a CSV of statements, naming the first row that is wrong, and build the set."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} must be UTF-8; byte {error.start} is not. Save it as UTF-8.") from None
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        columns, rows = set(reader.fieldnames or ()), list(reader)
    except csv.Error as error:
        raise ValueError(f"{file} must be a CSV table; it could not be read: {error}.") from None
    if missing := {"statement", "label"} - columns:
        named = ", ".join(sorted(map(str, columns))) or "none"
        raise ValueError(
            f"{file} must have the columns statement and label; {', '.join(sorted(missing))} is missing (found: {named})."
        )
    seen: dict[str, str] = {}
    for line, row in enumerate(rows, start=2):
        if not (row["statement"] or "").strip():
            raise ValueError(f"{file}, row {line}: a statement must hold text; it is empty.")
        if row["label"] not in {"0", "1"}:
            raise ValueError(f"{file}, row {line}: a label must be 0 or 1 (1 = trustworthy); it is {row['label']!r}.")
        if seen.setdefault(row["statement"], row["label"]) != row["label"]:
            raise ValueError(f"{file}, row {line}: a statement must have one label; this one stands above with the other.")
    if len(rows) < _SMALLEST:
        raise ValueError(f"{file} must hold at least {_SMALLEST} statements; it holds {len(rows)}.")
    labels = np.array([int(row["label"]) for row in rows])
    if len(set(labels.tolist())) < 2:
        raise ValueError(f"{file} must hold both labels; every row is {labels[0]}.")
    statements = tuple(row["statement"] for row in rows)
    # Without groups of their own, equal texts still stay together: a copy must not be trained on and tested.
    groups = tuple(row.get("group") or text for row, text in zip(rows, _same_text(statements), strict=True))
    categories = tuple(row.get("category") or "" for row in rows)
    return ConceptSet(name, dimension, statements, labels, groups, categories, source, licence)


def _load_released(folder: Path | None, dimension: str) -> ConceptSet:
    entry = _RELEASED[dimension]
    path = folder / entry.file if folder else _download_released(entry)
    if not path.is_file():
        raise ValueError(f"The folder must hold {entry.file} of ChnQ/TracingLLM (commit bf8d38a); {folder} does not.")
    if (found := downloads.sha256(path)) != entry.sha256:
        raise ValueError(f"{path} must have sha256 {entry.sha256}, it has {found}; take the file of commit bf8d38a.")
    table = pd.read_csv(path, keep_default_na=False)
    labels = table["label"].to_numpy()
    statements = tuple(table["statement"])
    return ConceptSet(
        name="tracingllm",
        dimension=dimension,
        statements=statements,
        labels=labels if entry.one_is_trustworthy else 1 - labels,
        groups=_released_groups(statements, entry.grouping),
        categories=("",) * len(statements),
        source=f"{_RELEASED_SOURCE}, {entry.file}",
        licence="Apache-2.0 (as released)",
    )


def _download_released(entry: _Released) -> Path:
    """Return the released file from the cache, downloading it when it is not there."""
    kept = downloads.cache_folder() / "tracingllm" / entry.file
    if kept.exists():
        return kept
    kept.parent.mkdir(exist_ok=True)
    try:
        with urllib.request.urlopen(_RELEASED_URL + entry.file, timeout=60) as answer:
            data = answer.read()
    except (urllib.error.URLError, OSError) as error:
        raise ValueError(
            f"{entry.file} could not be downloaded ({error}). Name a folder that holds the files of "
            f"{_RELEASED_SOURCE} instead of the set's name (--concepts FOLDER)."
        ) from None
    if (found := sha256(data).hexdigest()) != entry.sha256:
        raise ValueError(f"{entry.file} must have sha256 {entry.sha256}, the download has {found}; nothing was kept.")
    with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as part:
        part.write(data)
    os.replace(part.name, kept)
    return kept


def _released_groups(statements: tuple[str, ...], grouping: str) -> tuple[str, ...]:
    """Return the group of each row: same question, same context, or same text but for case and spaces."""
    if grouping == "question":
        return tuple(statement.split("\tA:")[0] for statement in statements)
    if grouping == "context":  # rows come in pairs that share their beginning
        prefixes = [os.path.commonprefix(statements[i : i + 2]) for i in range(0, len(statements), 2)]  # noqa: RUF071 - texts, not paths
        return tuple(prefixes[i // 2] or f"pair {i // 2}" for i in range(len(statements)))
    return _same_text(statements)


def _same_text(statements: tuple[str, ...]) -> tuple[str, ...]:
    """Return the texts without differences of case and spaces."""
    return tuple(re.sub(r"\s+", " ", statement).strip().casefold() for statement in statements)


def draw(concepts: ConceptSet, n: int, seed: int = 0) -> Int[np.ndarray, " drawn"]:
    """Return the indices of `n` statements (or all, if there are fewer), whole groups in random order but for the last."""
    names = np.random.default_rng(seed).permutation(sorted(set(concepts.groups)))
    rank = {name: place for place, name in enumerate(names)}
    order = np.argsort([rank[group] for group in concepts.groups], kind="stable")
    return np.sort(order[:n])


def subset(concepts: ConceptSet, rows: Int[np.ndarray, " drawn"]) -> ConceptSet:
    """Return the set that holds only `rows`."""
    statements, groups, categories = (
        tuple(values[i] for i in rows) for values in (concepts.statements, concepts.groups, concepts.categories)
    )
    return replace(concepts, statements=statements, labels=concepts.labels[rows], groups=groups, categories=categories)


@lru_cache(maxsize=32)  # every layer is split alike, and sklearn takes longer to split than to fit
def folds(concepts: ConceptSet, seed: int, k: int = 5) -> tuple[Split, ...]:
    """Return `k` splits in which every statement is tested once; no group is ever on two sides.

    Fold i is the test part, fold i + 1 the validation part, the rest is trained on. Labels are stratified
    as far as the groups allow.

    Raises:
        ValueError: if there are fewer than `k` groups.
    """
    if (n := len(set(concepts.groups))) < k:
        raise ValueError(f"{k} folds need at least {k} groups; {concepts.name}/{concepts.dimension} has {n}.")
    splitter = StratifiedGroupKFold(k, shuffle=True, random_state=seed)
    parts = [test for _, test in splitter.split(np.zeros(len(concepts)), concepts.labels, concepts.groups)]
    out = []
    for i in range(k):
        rest = [parts[j] for j in range(k) if j not in {i, (i + 1) % k}]
        out.append(Split(np.sort(np.concatenate(rest)), parts[(i + 1) % k], parts[i]))
    return tuple(out)
