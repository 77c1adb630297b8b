"""Tables of statements that a user brings: read them, refuse what is wrong in one sentence, warn about what is doubtful.

Rule: a refusal names the file and the first row that is wrong; rows are counted as a spreadsheet counts them.

Public names: `SUFFIXES`, `read`, `same_text`, `near_duplicates`.
"""

import csv
import io
import json
import re
import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd

SUFFIXES = (".csv", ".jsonl")
"""Of the files that are read."""

_SMALLEST = 20
_IMBALANCE = 0.2
_NEAR = 0.8


def read(data: bytes, file: str) -> pd.DataFrame:
    """Check a CSV or JSONL of statements and return it.

    Args:
        data: the file's content.
        file: its name, which errors begin with; its suffix tells the format.

    Returns:
        Columns `statement`, `label` (0 or 1), `group` and `category`. Without groups of their own, texts that differ in
        case and spaces alone are a group: a copy must not be trained on and tested.

    Raises:
        ValueError: if the table does not hold what it must; the first fault is named.
    """
    text = _decoded(data, file)
    rows = _jsonl(text, file) if file.endswith(".jsonl") else _csv(text, file)
    _check(rows, file)
    statements = [row["statement"] for _, row in rows]
    groups = [str(row.get("group") or "") for _, row in rows]
    table = pd.DataFrame(
        {
            "statement": statements,
            "label": [int(row["label"]) for _, row in rows],
            "group": [group or text for group, text in zip(groups, same_text(statements), strict=True)],
            "category": [str(row.get("category") or "") for _, row in rows],
        }
    )
    _warn(statements, table["label"], any(groups), file)
    return table


def _decoded(data: bytes, file: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} must be UTF-8; byte {error.start} is not. Save it as UTF-8.") from None


def _require(columns: set, file: str) -> None:
    if missing := {"statement", "label"} - columns:
        named = ", ".join(sorted(map(str, columns))) or "none"
        raise ValueError(
            f"{file} must have the columns statement and label; {', '.join(sorted(missing))} is missing (found: {named})."
        )


def _csv(text: str, file: str) -> list[tuple[int, dict]]:
    """Return the rows with their numbers; the header is row 1."""
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        columns, rows = set(reader.fieldnames or ()), list(reader)
    except csv.Error as error:
        raise ValueError(f"{file} must be a CSV table; it could not be read: {error}.") from None
    _require(columns, file)
    for number, row in enumerate(rows, start=2):
        if None in row:
            raise ValueError(f"{file}, row {number}: it has more fields than the header; put a statement with commas in quotes.")
    return list(enumerate(rows, start=2))


def _jsonl(text: str, file: str) -> list[tuple[int, dict]]:
    """Return the rows with the numbers of their lines; empty lines are none."""
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{file}, row {number}: it must be JSON; it could not be read: {error.msg}.") from None
        if not isinstance(row, dict):
            raise ValueError(f"{file}, row {number}: it must be a JSON object with statement and label; it is {line.strip()!r}.")
        _require(set(row), f"{file}, row {number}")
        label = row["label"]
        rows.append((number, row | {"label": str(label) if type(label) is int else label}))
    return rows


def _check(rows: list[tuple[int, dict]], file: str) -> None:
    """Raise for the first fault."""
    seen: dict[str, str] = {}
    for number, row in rows:
        statement, label = row["statement"], row["label"]
        if not isinstance(statement or "", str) or not (statement or "").strip():
            raise ValueError(f"{file}, row {number}: a statement must hold text; it is {statement or 'empty'!s}.")
        if label not in ("0", "1"):
            raise ValueError(f"{file}, row {number}: a label must be 0 or 1 (1 = trustworthy); it is {label!r}.")
        if seen.setdefault(statement, label) != label:
            raise ValueError(f"{file}, row {number}: a statement must have one label; this one stands above with the other.")
    if len(rows) < _SMALLEST:
        raise ValueError(f"{file} must hold at least {_SMALLEST} statements; it holds {len(rows)}.")
    if len(labels := {row["label"] for _, row in rows}) < 2:
        raise ValueError(f"{file} must hold both labels; every row is {labels.pop()}.")


def _warn(statements: list[str], labels: pd.Series, grouped: bool, file: str) -> None:
    """Warn about what may be meant but makes results hard to read."""
    rarer = min(share := labels.mean(), 1 - share)
    if rarer < _IMBALANCE:
        warnings.warn(
            f"{file}: only {rarer:.0%} of the statements have the rarer label; accuracy says little here, read AUROC.",
            stacklevel=3,
        )
    names = [] if grouped else near_duplicates(statements)
    if near := len(names) - len(set(names)):
        warnings.warn(
            f"{file}: it has no groups, and {near} statements nearly repeat another one; a split may put one on each side. "
            "Name what belongs together in a column group.",
            stacklevel=3,
        )


def same_text(statements: Sequence[str]) -> list[str]:
    """Return the texts without differences of case and spaces."""
    return [re.sub(r"\s+", " ", statement).strip().casefold() for statement in statements]


def near_duplicates(statements: Sequence[str]) -> list[str]:
    """Return the group of each statement: texts are bound whose sets of words have a cosine of at least 0.8.

    What is near to a common third is bound too, so groups may hold members that are not near to each other.
    """
    # Each process of a run reads statements, and few look for duplicates: a second of imports each.
    from scipy.sparse import csr_array, vstack  # noqa: PLC0415
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415
    from sklearn.feature_extraction.text import CountVectorizer  # noqa: PLC0415
    from sklearn.preprocessing import normalize  # noqa: PLC0415

    words = CountVectorizer(binary=True, token_pattern=r"\w+|[^\w\s]+").fit_transform(same_text(statements))
    unit = normalize(words.astype(np.float32))
    near = []
    for start in range(0, len(statements), 500):  # 500 rows of similarities at a time
        similar = csr_array(unit[start : start + 500] @ unit.T)
        similar.data = (similar.data >= _NEAR - 1e-6).astype(np.int8)
        similar.eliminate_zeros()
        near.append(similar)
    _, groups = connected_components(vstack(near), directed=False)
    return [f"text {group}" for group in groups]
