"""Tables of statements that a user brings: read them, refuse what is wrong in one sentence, warn about what is doubtful.

Rule: a refusal names the file and the first row that is wrong; rows are counted as a spreadsheet counts them.
"""

import csv
import io
import json
import re
import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..core.errors import brief

__all__ = ["near_duplicates", "read_pairs", "read_statements", "same_text"]

_SMALLEST = 20
_GROUPS = 5  # each is tested once
_LONGEST = 100_000  # characters of a statement, about twenty times the context of the models that are traced
_IMBALANCE = 0.2
_NEAR = 0.8


def read_statements(data: bytes, file: str) -> pd.DataFrame:
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
    rows = _rows(data, file, _COLUMNS)
    _check(rows, file)
    statements = [row["statement"] for _, row in rows]
    groups = [_text(row.get("group")) for _, row in rows]
    table = pd.DataFrame(
        {
            "statement": statements,
            "label": [int(row["label"]) for _, row in rows],
            "group": [group or text for group, text in zip(groups, same_text(statements), strict=True)],
            "category": [_text(row.get("category")) for _, row in rows],
        }
    )
    if (n := table["group"].nunique()) < _GROUPS:
        raise ValueError(f"{file} must hold at least {_GROUPS} groups, of which each is once tested; it holds {n}. Add others.")
    _warn(statements, table["label"], any(groups), file)
    return table


def _text(value: object) -> str:
    """Return a group or category as text that can be written to a file."""
    text = brief(value) if isinstance(value, list | dict) else str(value or "")
    return text.encode(errors="backslashreplace").decode()


def read_pairs(data: bytes, file: str) -> list[tuple[int, tuple[str, str]]]:
    """Check a CSV or JSONL of preferences, columns `chosen` and `rejected`, and return its pairs with the numbers of their rows.

    Args:
        data: the file's content.
        file: its name, which errors begin with; its suffix tells the format.

    Raises:
        ValueError: if a column is missing, a cell holds no words or there is no pair; the first fault is named.
    """
    rows = _rows(data, file, ("chosen", "rejected"))
    for number, row in rows:
        for text in (row["chosen"], row["rejected"]):
            if fault := _fault_of(text):
                raise ValueError(f"{file}, row {number}: both texts of a pair must hold text; {fault}.")
    if not rows:
        raise ValueError(f"{file} must hold at least one pair; it holds none.")
    return [(number, (row["chosen"], row["rejected"])) for number, row in rows]


def _rows(data: bytes, file: str, needed: Sequence[str]) -> list[tuple[int, dict]]:
    """Return the rows of a table with their numbers."""
    return (_jsonl if file.endswith(".jsonl") else _csv)(_decoded(data, file), file, needed)


def _decoded(data: bytes, file: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} must be UTF-8; byte {error.start} is not. Save it as UTF-8.") from None


_COLUMNS = ("statement", "label")


def _require(columns: Sequence[str], file: str, needed: Sequence[str]) -> None:
    if missing := set(needed) - set(columns):
        named = brief(", ".join(sorted(columns)) or "none").strip("'")
        raise ValueError(
            f"{file} must have the columns {' and '.join(needed)}; {', '.join(sorted(missing))} is missing (found: {named})."
        )
    if double := next((name for name in columns if name and columns.count(name) > 1), None):
        raise ValueError(f"{file} must have each column once; {brief(double)} stands twice. Leave one out.")


def _csv(text: str, file: str, needed: Sequence[str]) -> list[tuple[int, dict]]:
    """Return the rows with their numbers; the header is row 1."""
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        columns, rows = list(reader.fieldnames or ()), list(reader)
    except csv.Error as error:
        most = f"fields of at most {csv.field_size_limit():,} characters"
        raise ValueError(f"{file} must be a CSV table with {most}; it could not be read: {error}.") from None
    _require(columns, file, needed)
    for number, row in enumerate(rows, start=2):
        if None in row:
            raise ValueError(f"{file}, row {number}: it has more fields than the header; put a statement with commas in quotes.")
    return list(enumerate(rows, start=2))


class _Pairs(list):
    """The entries of a JSON object, in which a name may stand twice."""


def _jsonl(text: str, file: str, needed: Sequence[str]) -> list[tuple[int, dict]]:
    """Return the rows with the numbers of their lines; empty lines are none."""
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            pairs = json.loads(line, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
            reason = "too many brackets" if isinstance(error, RecursionError) else getattr(error, "msg", "a number is too long")
            raise ValueError(f"{file}, row {number}: it must be JSON; it could not be read: {reason}.") from None
        if not isinstance(pairs, _Pairs):
            came = brief(line.strip())
            raise ValueError(f"{file}, row {number}: it must be a JSON object with {' and '.join(needed)}; it is {came}.")
        _require([name for name, _ in pairs], f"{file}, row {number}", needed)
        rows.append((number, dict(pairs)))
    return rows


def _check(rows: list[tuple[int, dict]], file: str) -> None:
    """Raise for the first fault."""
    seen: dict[str, str] = {}
    for number, row in rows:
        statement, label = row["statement"], row["label"]
        if fault := _fault_of(statement):
            raise ValueError(f"{file}, row {number}: a statement must hold text; {fault}.")
        if type(label) not in (int, str) or str(label) not in ("0", "1"):
            raise ValueError(f"{file}, row {number}: a label must be 0 or 1 (1 = trustworthy); it is {brief(label)}.")
        if seen.setdefault(statement, str(label)) != str(label):
            raise ValueError(f"{file}, row {number}: a statement must have one label; this one stands above with the other.")
    if len(rows) < _SMALLEST:
        raise ValueError(f"{file} must hold at least {_SMALLEST} statements; it holds {len(rows)}.")
    if (n := sum(not re.search(r"\w\w", row["statement"]) for _, row in rows)) > len(rows) / 2:
        raise ValueError(f"{file} must hold statements of words; {n} of {len(rows)} have none of two letters or more.")
    if len(labels := {str(row["label"]) for _, row in rows}) < 2:
        raise ValueError(f"{file} must hold both labels; every row is {labels.pop()}.")


def _fault_of(statement: object) -> str:
    """Return why this cannot be a statement, or nothing."""
    if not isinstance(statement or "", str):
        return f"it is {brief(statement)}"
    if not any(sign.isprintable() and not sign.isspace() for sign in statement or ""):
        return "it is empty"
    if len(statement) > _LONGEST:
        return f"at most {_LONGEST:,} characters, it has {len(statement):,}"
    if re.search("[\0\ud800-\udfff]", statement):
        return "it holds NUL or half a character. Save the file as UTF-8"
    return ""


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
