"""Tables of statements that a user brings: read them, refuse what is wrong in one sentence, warn about what is doubtful.

Rule: a refusal names the file and the first row that is wrong; rows are counted as a spreadsheet counts them.
"""

import csv
import io
import json
import re
import unicodedata
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from difflib import get_close_matches

import pandas as pd

from ..core.errors import brief
from .texts import near_duplicates, same_text

__all__ = ["read_pairs", "read_statements"]

_SMALLEST = 20
_GROUPS = 5  # each is tested once
_LONGEST = 100_000  # characters of a statement, about twenty times the context of the models that are traced
_IMBALANCE = 0.2
_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe00-\ufe0f\ufeff]")  # signs of no width
_SPREADSHEET = re.compile(r"#(NAME\?|REF!|VALUE!|N/A|DIV/0!|NUM!|NULL!)")  # what stands in a cell that is taken for a formula
_LABELS = {"0": 0, "1": 1, "false": 0, "true": 1}
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


def read_statements(data: bytes, file: str) -> pd.DataFrame:
    """Check a table of statements and return it; errors begin with the name of its file, whose suffix tells the format.

    Returns:
        Columns `statement`, `label` (0 or 1), `group` and `category`. Without groups of their own, texts that differ in
        case, spaces and Unicode's ways to write a sign alone are a group: a copy must not be trained on and tested.

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
            "label": [_label(row["label"]) for _, row in rows],
            "group": [group or text for group, text in zip(groups, same_text(_compatible(statements)), strict=True)],
            "category": [_text(row.get("category")) for _, row in rows],
        }
    )
    if (n := table["group"].nunique()) < _GROUPS:
        raise ValueError(f"{file} must hold at least {_GROUPS} groups, of which each is once tested; it holds {n}. Add others.")
    unbound = (
        "it has no groups" if not any(groups) else "" if table["group"].nunique() < len(table) else "its groups bind nothing"
    )
    _warn(statements, table["label"], unbound, file)
    _warn_of_groups(rows, groups, statements, file)
    return table


def _compatible(statements: Sequence[str]) -> list[str]:
    """Return the texts with one sign for all that Unicode calls compatible (full width, raised, joined), and none not seen."""
    return [_UNSEEN.sub("", unicodedata.normalize("NFKC", statement)) for statement in statements]


def _text(value: object) -> str:
    """Return a group or category as text that can be written to a file; empty where there is none (null, not a number)."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():  # as JSON has it, 1.0 is 1
        value = int(value)
    text = brief(value) if isinstance(value, list | dict) else str(value)
    return unicodedata.normalize("NFC", text.strip()).encode(errors="backslashreplace").decode()


def _label(value: object) -> int | None:
    """Return a label as a number, None where it is none."""
    if not isinstance(value, str | int | float):
        return None
    written = re.sub(r"(?<=\d)[.,]0*$", "", str(value).strip().lower())  # 1.0, as other programs write it
    return _LABELS.get(written)


def read_pairs(data: bytes, file: str) -> list[tuple[int, tuple[str, str]]]:
    """Check a table of preferences, columns `chosen` and `rejected`, and return its pairs with the numbers of their rows.

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
    return (_jsonl if file.lower().endswith(".jsonl") else _csv)(_decoded(data, file), file, needed)


def _decoded(data: bytes, file: str) -> str:
    if data.startswith(b"version https://git-lfs"):
        raise ValueError(f"{file} must be a table of statements; it is a pointer of git-lfs in its place: run `git lfs pull`.")
    if data.startswith((b"PK\3\4", b"\x1f\x8b")):
        raise ValueError(f"{file} must be a table of statements; it is a spreadsheet or archive under that name. Save it as CSV.")
    if re.match(rb"([ -~]\0){4}|(\0[ -~]){4}", data):
        raise ValueError(f"{file} must be UTF-8; it is UTF-16, without a mark that says so. Save it as UTF-8.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} must be UTF-8; byte {error.start} is not. Save it as UTF-8.") from None


_COLUMNS = ("statement", "label")
_NAMES = (*_COLUMNS, "group", "category", "chosen", "rejected")


def _require(columns: Sequence[str], file: str, needed: Sequence[str]) -> None:
    if missing := set(needed) - set(columns):
        named = brief(", ".join(sorted(columns)) or "none").strip("'")
        raise ValueError(
            f"{file} must have the columns {' and '.join(needed)}; {', '.join(sorted(missing))} is missing (found: {named})."
        )
    if double := next((name for name in columns if name and columns.count(name) > 1), None):
        raise ValueError(f"{file} must have each column once; {brief(double)} stands twice. Leave one out.")


def _known(name: str) -> str:
    """Return the name of a column as it stands here where it is one of those we read, in capitals or with spaces around."""
    return plain if (plain := name.strip().lower()) in _NAMES else name


def _csv(text: str, file: str, needed: Sequence[str]) -> list[tuple[int, dict]]:
    """Return the rows that hold anything, with their numbers in a spreadsheet: empty ones count, and a first header is row 1."""
    separator = "\t" if file.lower().endswith(".tsv") else ","
    if line := re.match(r'"?sep=([,;|\t])"?[,;|\t]*\r?\n', text, re.IGNORECASE):  # as spreadsheets write it; it is no row there
        separator, text = line[1], text[line.end() :]
    _check_separator(text.lstrip("\r\n").partition("\n")[0], separator, file, needed)
    filled = [
        (number, cells) for number, cells in enumerate(_cells(text, separator, file), start=1) if any(map(str.strip, cells))
    ]
    (_, header), *rows = filled or [(1, [])]
    columns = list(map(_known, header))
    _require(columns, file, needed)
    for number, cells in rows:
        if any(cells[len(columns) :]):
            signs = _SEPARATORS[separator]
            raise ValueError(f"{file}, row {number}: it has more fields than the header; put a statement with {signs} in quotes.")
    return [(number, dict.fromkeys(columns) | dict(zip(columns, cells, strict=False))) for number, cells in rows]


def _cells(text: str, separator: str, file: str) -> list[list[str]]:
    """Return the cells of each row. In a table with tabs quotes may be signs of the text, as not every program means them."""
    rows, fault = [], None
    try:
        for cells in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True):
            rows.append(cells)
    except csv.Error as error:
        fault = error
    if separator == "\t":
        plain = [line.removesuffix("\r").split("\t") for line in text.rstrip("\r\n").split("\n")]
        even = len({len(cells) for cells in plain if any(cells)}) == 1
        if even and (fault or len(rows) != len(plain)):
            return plain
    if fault:
        raise ValueError(
            f"{file} must be a CSV table with fields of at most {csv.field_size_limit():,} characters; row {len(rows) + 1} could "
            f"not be read: {fault}. A statement with quotes must stand in quotes, with those inside it doubled."
        )
    return rows


def _check_separator(header: str, separator: str, file: str, needed: Sequence[str]) -> None:
    """Raise if the header has the needed columns, but between other signs than it must have."""
    for other, named in _SEPARATORS.items():
        if other != separator and set(needed) <= {_known(name.strip(' "\r')) for name in header.split(other)}:
            raise ValueError(
                f"{file} must have {_SEPARATORS[separator]} between its columns; it has {named}. Save it with commas as .csv, or "
                "with tabs as .tsv."
            )


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
        named = [(_known(name), value) for name, value in pairs]
        _require([name for name, _ in named], f"{file}, row {number}", needed)
        rows.append((number, dict(named)))
    return rows


def _check(rows: list[tuple[int, dict]], file: str) -> None:
    """Raise for the first fault."""
    seen: dict[str, int | None] = {}
    for number, row in rows:
        statement, label = row["statement"], row["label"]
        if fault := _fault_of(statement):
            raise ValueError(f"{file}, row {number}: a statement must hold text; {fault}.")
        if _label(label) is None:
            raise ValueError(f"{file}, row {number}: a label must be 0 or 1 (1 = trustworthy); it is {brief(label)}.")
        if seen.setdefault(unicodedata.normalize("NFC", statement), _label(label)) != _label(label):
            raise ValueError(f"{file}, row {number}: a statement must have one label; this one stands above with the other.")
    if len(rows) < _SMALLEST:
        raise ValueError(f"{file} must hold at least {_SMALLEST} statements; it holds {len(rows)}.")
    if (n := sum(not re.search(r"\w\w", row["statement"]) for _, row in rows)) > len(rows) / 2:
        raise ValueError(f"{file} must hold statements of words; {n} of {len(rows)} have none of two letters or more.")
    if len(labels := {_label(row["label"]) for _, row in rows}) < 2:
        raise ValueError(f"{file} must hold both labels; every row is {labels.pop()}.")


def _fault_of(statement: object) -> str:
    """Return why this cannot be a statement, or nothing."""
    if not isinstance(statement or "", str):
        return f"it is {brief(statement)}"
    if not any(map(_seen, statement or "")):
        return "it is empty"
    if _SPREADSHEET.fullmatch(statement.strip()):
        return f"it is {statement.strip()}, by which a spreadsheet replaced it. Take the text from before"
    if len(statement) > _LONGEST:
        return f"at most {_LONGEST:,} characters, it has {len(statement):,}"
    if re.search("[\0\ud800-\udfff]", statement):
        return "it holds NUL or half a character. Save the file as UTF-8"
    return ""


def _seen(sign: str) -> bool:
    return sign.isprintable() and not sign.isspace()


def _warn_of_groups(rows: list[tuple[int, dict]], groups: list[str], statements: list[str], file: str) -> None:
    """Warn where groups may bind less than was meant: merged cells, a copy in another group, a column of nearly that name."""
    named = Counter(filter(None, groups))
    missing = [number for (number, _), group in zip(rows, groups, strict=True) if not group]
    alone = sum(n == 1 for n in named.values())
    if missing and alone >= _GROUPS and alone > 0.8 * len(named):  # a few may have groups that the others do not need
        warnings.warn(
            f"{file}: {len(missing)} of {len(rows)} rows have no group, the first is row {missing[0]}, and most groups have one "
            "row alone; nothing binds them. If cells were merged in a spreadsheet, write the group into every row.",
            stacklevel=3,
        )
    groups_of = defaultdict(set)
    for text, group in zip(same_text(statements), groups, strict=True):
        groups_of[text].add(group)
    if torn := [text for text, names in groups_of.items() if len(names) > 1]:
        warnings.warn(
            f"{file}: {len(torn)} statements stand in more than one group, first {brief(torn[0])}; a copy may be trained on and "
            "tested. Give copies one group, or leave them out.",
            stacklevel=3,
        )
    columns = () if named else sorted({str(name) for _, row in rows for name in row} - set(_NAMES))
    if near := [name for name in columns if get_close_matches(name.strip().lower(), ["group"], cutoff=0.75)]:
        warnings.warn(
            f"{file}: the column {brief(near[0])} is not read. If it tells what belongs together, call it group.", stacklevel=3
        )


def _warn(statements: list[str], labels: pd.Series, unbound: str, file: str) -> None:
    """Warn about what may be meant but makes results hard to read; `unbound` says why no group binds two statements."""
    rarer = min(share := labels.mean(), 1 - share)
    if rarer < _IMBALANCE:
        warnings.warn(
            f"{file}: only {rarer:.0%} of the statements have the rarer label; accuracy says little here, read AUROC.",
            stacklevel=3,
        )
    edged = [not (_seen(text[0]) and _seen(text[-1])) for text in statements]
    if any(edged):
        shares = [f"{labels[edged].eq(label).sum()} of {labels.eq(label).sum()} with label {label}" for label in (0, 1)]
        warnings.warn(
            f"{file}: {sum(edged)} statements begin or end with white space or a sign that is not seen ({', '.join(shares)}); "
            "models read it, and it may tell them the label. Take it off.",
            stacklevel=3,
        )
    forms = _compatible(statements)
    first = dict(reversed([*zip(forms, zip(labels, statements, strict=True), strict=True)]))
    # Two labels may be meant: 5\u00b2 is 25, and 52 is not. So these are told; what is one text in all programs is refused above.
    if twins := [
        (first[form][1], text) for form, label, text in zip(forms, labels, statements, strict=True) if first[form][0] != label
    ]:
        warnings.warn(
            f"{file}: {len(twins)} statements differ from one with the other label in the way their signs are written alone "
            f"(width, raised or joined signs, signs not seen), first {brief(twins[0][1])} and {brief(twins[0][0])}; a "
            "tokenizer may make one text of them. Write both in the same way, or leave one out.",
            stacklevel=3,
        )
    names = near_duplicates(forms) if unbound else []
    if near := len(names) - len(set(names)):
        warnings.warn(
            f"{file}: {unbound}, and {near} statements nearly repeat another one; a split may put one on each side. "
            "Name what belongs together in a column group.",
            stacklevel=3,
        )
