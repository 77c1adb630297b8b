"""Did a rerun give the published results? Cell by cell, verdict by verdict, with both machines beside each other.

Rule: a number that has a published interval is compared with it; that so many lie outside as the interval's level leaves out
by chance is no difference. A verdict is a difference wherever it is not the same. What no rule can judge is counted and said.
"""

import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from scipy.stats import binom

from .. import experiments, results
from ..claims import framework
from ..core.errors import brief, unknown
from ..experiments import notebook

__all__ = ["COUNTS", "Comparison", "compare", "compared", "opened", "others", "reruns"]

COUNTS = ("cells", "equal", "equal within rounding", "within the interval", "outside", "allowed outside", "no interval")
"""The counts of a table; last come numbers that differ and have no interval, and texts of a model: nothing judges them."""

_LEVEL = 0.95  # of every published interval
_RARE = 0.01  # a table has more cells outside than chance allows if chance alone leaves out so many less often than this
_KEYS = (
    "claim", "suite", "revision", "step", "tokens", "layer", "dimension", "concept_set", "method", "metric", "seed",
    "prompt", "to_revision", "vector_of", "dose", "exponent",
)  # fmt: skip
_SAME = ("weights", "statements", "options", "trust_remote_code")  # of the provenance; without these the same, it is no rerun
_FREE = ("before", "after", "verdict", "note")  # texts that a model wrote; verdicts, which are judged apart, with their notes
_EXACT = ("n", "statements", "trustworthy", "groups", "bytes", "sigma", "epsilon")  # counts and settings: a rerun has the same
_LARGEST = 1 << 30  # bytes that a zip may unpack to


@dataclass(frozen=True)
class Comparison:
    """What came of a comparison.

    Attributes:
        study: its name.
        tables: one row a table, with the columns `COUNTS`.
        verdicts: those that differ: claim, concept set, dimension, and the verdict of each.
        judged: how many verdicts there are.
        machines: what computed each, from their provenance: commit, machine, dtypes, versions.
        inputs: what the two did not have in common, in words; empty for a rerun.
    """

    study: str
    tables: pd.DataFrame
    verdicts: pd.DataFrame
    judged: int
    machines: pd.DataFrame
    inputs: tuple[str, ...]

    @property
    def reproduced(self) -> bool:
        """Whether it was a rerun, every verdict is the same, and no table has more cells outside than chance allows."""
        return not self.inputs and self.verdicts.empty and not self._beyond

    @property
    def _beyond(self) -> list[str]:
        return list(self.tables.index[self.tables["outside"] > self.tables["allowed outside"]])

    @property
    def sentence(self) -> str:
        """What came, in one sentence."""
        if self.inputs:
            return f"This was no rerun of the published study {self.study}: {'; '.join(self.inputs)}."
        outside, cells, free, *same = (self.tables[name].sum() for name in ("outside", "cells", "no interval", *COUNTS[1:3]))
        if self.reproduced:
            words = f"Yes, {self.study} was reproduced: its {self.judged} verdicts are as published, and"
            if sum(same) == cells:
                return f"{words} so are all {cells:,} cells of its tables{', within rounding' if same[1] else ''}."
            chance = ", which chance allows" if outside else ""
            words += f" {outside:,} of {cells:,} cells lie outside the published intervals{chance}."
            return words + (f" {free:,} cells without an interval differ; nothing judges them." if free else "")
        words = [f"{len(self.verdicts)} of {self.judged} verdicts differ"] if len(self.verdicts) else []
        if self._beyond:
            words.append(f"more cells of {', '.join(self._beyond)} lie outside the published intervals than chance allows")
        return f"No, {self.study} was not reproduced: {', and '.join(words)}."


def reruns() -> list[str]:
    """Return the published studies of which a run on this machine is shown."""
    return [name for name in results.studies("claims") if results.shown(name) == results.own(name) and _is_published(name)]


def others() -> list[tuple[str, Path]]:
    """Return somebody else's results, a folder or a zip each, in `runs/<study>/others`, after the study that they are of."""
    places = [(path.parents[1].name, path) for path in sorted((results.PROJECT / "runs").glob("*/others/[!.]*"))]
    return [(study, path) for study, path in places if _is_published(study)]


def _is_published(study: str) -> bool:
    return (results.folder(study) / "provenance.json").is_file()


def compare(study: str, other: Path | None = None) -> Comparison:
    """Return what came of comparing the published results of a study with this machine's run, or with `other`, a folder or a zip.

    Raises:
        ValueError: if the study is not published, there is no run of it, or the other's files are not those of its provenance.
    """
    if not _is_published(study):
        raise unknown("published study", study, [name for name in results.studies("claims") if _is_published(name)])
    if other is None and not results.whole(results.own(study)):
        raise ValueError(f"Nothing was rerun: runs/{study}/results holds no finished run. `make study STUDY={study}` reruns it.")
    with opened(other or results.own(study)) as theirs:
        return compared(results.folder(study), theirs, other)


def compared(published: Path, own: Path, named: Path | None = None) -> Comparison:
    """Return what came of comparing two folders of results, the published one first; an error calls the second `named`."""
    records = [_provenance(published, published), _provenance(own, named or own)]
    study, came = (record["study"] for record in records)
    if study != came:
        raise ValueError(f"Results must be of the study they are compared with, {study}; these are of {brief(came)}.")
    names = [name for name in records[0]["tables"] if name in records[1]["tables"]]
    pairs = {name.removesuffix(".csv"): _indexed(*(results.load(folder / name) for folder in (published, own))) for name in names}
    counts = pd.DataFrame({name: _counted(*pair) for name, pair in pairs.items()}, index=list(COUNTS)).T
    verdicts = pairs["claims"][0][["verdict"]].set_axis(["published"], axis=1)
    came = pairs["claims"][1].reindex(columns=["verdict"])["verdict"].reindex(verdicts.index)
    verdicts["own"] = came.where(came.isin(framework.VERDICTS), "none")
    machines = pd.DataFrame({"published": _machine(records[0]), "own": _machine(records[1])}).fillna("not recorded")
    return Comparison(
        study, counts, verdicts[verdicts["published"] != verdicts["own"]], len(verdicts), machines, _apart(*records)
    )


def _indexed(*tables: pd.DataFrame) -> list[pd.DataFrame]:
    """Return tables whose rows are named by what they are of: `_KEYS`, and the place among those with the same keys."""
    keys, named = [column for column in _KEYS if all(column in table for table in tables)], []
    if not keys:
        raise ValueError(f"Tables must have columns that say what a row is of ({', '.join(_KEYS[1:4])}, ...); one has none.")
    for table in tables:
        texts = table[keys].map(lambda value: f"{value:.9g}" if isinstance(value, float) else str(value))
        texts["place"] = texts.groupby(keys, sort=False).cumcount()
        named.append(table.drop(columns=keys).set_index(pd.MultiIndex.from_frame(texts)))
    return named


def _counted(published: pd.DataFrame, own: pd.DataFrame) -> dict[str, int]:
    """Return the counts of one table; all cells of a row or a column that only one of the two has lie outside."""
    both = published.index.intersection(own.index, sort=False)
    columns = [column for column in published if column in own]
    alone = (len(published) + len(own) - 2 * len(both)) * published.shape[1] + len(both) * (published.shape[1] - len(columns))
    published, own, bounded = published[columns].reindex(both), own[columns].reindex(both), 0
    counts = dict.fromkeys(COUNTS, 0) | {"cells": published.size + alone, "outside": alone}
    for column in published:
        kinds, judged = _kinds(published, own, column)
        bounded += judged
        for kind in COUNTS:
            counts[kind] += int((kinds == kind).sum())
    by_chance = int(binom.ppf(1 - _RARE, bounded, 1 - _LEVEL)) if bounded and not alone else 0
    return counts | {"allowed outside": by_chance}


def _kinds(published: pd.DataFrame, own: pd.DataFrame, column: str) -> tuple[np.ndarray, int]:
    """Return which of `COUNTS` each cell of a column is, and how many are values that an interval judges."""
    numbers = [_numbers(table[column]) for table in (published, own)]
    if any(each is None for each in numbers):
        here, there = (table[column].astype(object).fillna("").astype(str) for table in (published, own))
        free = column in _FREE and all(each is None for each in numbers)
        return np.where(here == there, "equal", "no interval" if free else "outside"), 0
    low, high = _interval(published, column)
    is_value = not column.endswith(("low", "high"))
    kinds = classified(*numbers, low, high, is_value=is_value)
    if column in _EXACT:
        kinds = np.where(np.isin(kinds, ("equal", "equal within rounding")), kinds, "outside")
    return kinds, int(np.isfinite(high - low).sum()) if is_value else 0


def _numbers(column: pd.Series) -> np.ndarray | None:
    """Return a column as numbers, None if it holds words."""
    return column.to_numpy(float, na_value=np.nan) if pd.api.types.is_numeric_dtype(column) else None


def _interval(table: pd.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval that belongs to a column's numbers, also for the interval's own ends; NaN where there is none."""
    stem = re.sub(r"(^|_)(low|high)$", "", column)
    names = [end if stem in ("", "value") else f"{stem}_{end}" for end in ("low", "high")]
    ends = [_numbers(table[name]) for name in names] if set(names) <= set(table) else [None]
    none = np.full(len(table), np.nan)
    return (none, none) if any(end is None for end in ends) else (ends[0], ends[1])


def classified(published: np.ndarray, own: np.ndarray, low: np.ndarray, high: np.ndarray, *, is_value: bool = True) -> np.ndarray:
    """Return for each pair of numbers which of `COUNTS` it is, by the published intervals; NaN where there is none.

    If it is no value, it is an interval's end, which may move by half its width.
    """
    size = np.maximum(np.abs(published), np.abs(own))
    unit = 10.0 ** (np.floor(np.log10(np.where(size > 0, size, 1.0))) - 3)  # tables are written with four significant digits
    moved = np.abs(own - published)
    inside = (low <= own) & (own <= high) if is_value else moved <= (high - low) / 2
    equal = (published == own) | (np.isnan(published) & np.isnan(own))
    return np.select(
        [equal, np.isfinite(published) & ~np.isfinite(own), moved <= unit * (1 + 1e-6), inside, np.isfinite(high - low)],
        ["equal", "outside", "equal within rounding", "within the interval", "outside"],
        "no interval",
    )


def _apart(published: dict, own: dict) -> tuple[str, ...]:
    """Return in words what two records of provenance must have in common and have not."""
    lacking = sorted({*published["tables"]} - {*own["tables"]})
    differences = [f"no {', '.join(lacking)}"] if lacking else []
    for name in _SAME:
        here, there = (_completed(record.get(name)) if name == "options" else record.get(name) for record in (published, own))
        if here == there:
            continue
        parts = (
            sorted(key for key in {*here, *there} if here.get(key) != there.get(key))
            if isinstance(here, dict) and isinstance(there, dict)
            else []
        )
        differences.append(f"other {name.replace('_', ' ')}" + (f" ({brief(', '.join(parts))[1:-1]})" if parts else ""))
    return tuple(differences)


def _completed(options: object) -> object:
    """Return options with the defaults of those that came after the record was written: a default keeps what was done before."""
    if not isinstance(options, dict) or not all(isinstance(each, dict) for each in options.values()):
        return options
    known = {name: notebook.options(name) for name in options if name in experiments.names()}
    return {
        name: {option: parameter.default for option, parameter in known.get(name, {}).items()} | each
        for name, each in options.items()
    }


def _machine(record: dict) -> pd.Series:
    """Return what computed: each part of the provenance that may make numbers differ, as plain text."""
    parts = {"commit": record.get("commit"), "python": record.get("python")}
    for name in ("machine", "computed", "libraries"):
        parts |= record[name] if isinstance(record.get(name), dict) else {}
    known = {str(key): value for key, value in parts.items() if value}
    words = {key: ", ".join(map(str, value)) if isinstance(value, list) else str(value) for key, value in known.items()}
    return pd.Series({key: brief(word)[1:-1] for key, word in words.items()}, dtype=object)


def _provenance(folder: Path, named: Path) -> dict:
    """Return the provenance of a folder of results, after its tables were compared with it."""
    try:
        record = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
        tables = record["tables"]
        plain = isinstance(record["study"], str) and all(re.fullmatch(r"\w[\w-]*\.csv", name) for name in tables)
        whole = plain and "claims.csv" in tables and not results.damaged(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise ValueError(
            f"Results must come with their provenance.json, and each table must be the one whose sha256 it holds; in "
            f"{named} that is not so. Ask for the folder as the run left it."
        )
    return record


@contextmanager
def opened(source: Path) -> Iterator[Path]:
    """Give the folder of results that `source` is, or that a zip of one unpacks to; it goes when the block ends.

    Raises:
        ValueError: if there is no such folder or zip, or the zip is damaged, names files outside its folder, or is too large.
    """
    if source.is_dir():
        yield source
        return
    with TemporaryDirectory() as folder:
        _unpack(source, Path(folder))
        yield Path(folder)


def _unpack(source: Path, out: Path) -> None:
    """Write the provenance and the tables beside it from a zip, and nothing else of it."""
    try:
        with zipfile.ZipFile(source) as archive:
            files = {PurePosixPath(entry.filename): entry for entry in archive.infolist() if not entry.is_dir()}
            if outside := [path for path in files if path.is_absolute() or ".." in path.parts or re.search(r"[\\:]", str(path))]:
                raise ValueError(
                    f"A zip of results must hold files inside its own folder; {brief(str(outside[0]))} is not. Refuse it."
                )
            records = [path for path in files if path.name == "provenance.json"]
            if len(records) != 1:
                raise ValueError(f"A zip of results must hold one provenance.json; {brief(str(source))} holds {len(records)}.")
            tables = [path for path in files if path.parent == records[0].parent and path.suffix in (".csv", ".json")]
            if sum(files[path].file_size for path in tables) > _LARGEST:
                raise ValueError(f"A zip of results must unpack to at most a gigabyte; {brief(str(source))} is larger.")
            for path in tables:
                (out / path.name).write_bytes(archive.read(files[path]))
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"Results must be a folder or a zip that can be read; {brief(str(source))} is none: {error}.") from None
