"""Tidy result tables: one row a number, the same columns everywhere.

Rules: a table is written whole, by rename; a table that stands there is complete. A run writes to `runs/<study>/results`, and
`results/<study>` holds what was published; which of the two is read is decided in `shown` alone.
"""

import json
import os
import shutil
from hashlib import sha256
from pathlib import Path

import pandas as pd

from .checkpoints.types import Checkpoint
from .core.errors import brief, file_name, unknown
from .core.evaluation import Estimate
from .core.paths import PROJECT, replacing
from .statements.concepts import DESIGNED, ConceptSet

__all__ = [
    "COLUMNS", "row", "write", "write_csv", "read_csv", "collect", "digest", "damaged", "folder", "own", "whole", "shown",
    "studies", "publish", "load", "read", "read_all", "read_so_far", "gains", "dimensions_above",
]  # fmt: skip

COLUMNS = (
    "suite", "revision", "step", "tokens", "layer", "dimension", "concept_set",
    "method", "metric", "value", "low", "high", "n", "seed",
)  # fmt: skip
_NAMES = (
    "suite", "revision", "dimension", "concept_set", "method", "metric", "seed", "reader", "to_revision", "vector_of", "study",
    "commit", "sha256", "tokenizer", "duplicate_of", "quantised", "faults", "prompt", "before", "after", "licence", "source",
    "claim", "verdict",
)  # fmt: skip


def row(
    checkpoint: Checkpoint, concepts: ConceptSet, layer: int | None, method: str, metric: str, estimate: Estimate, seed: str
) -> dict:
    """Return one row of a tidy table; `layer` is None for what no layer has (a floor)."""
    where = (checkpoint.suite, checkpoint.revision, checkpoint.step, checkpoint.tokens, layer)
    what = (concepts.dimension, concepts.name, method, metric)
    number = (estimate.value, estimate.low, estimate.high, estimate.n)
    return dict(zip(COLUMNS, (*where, *what, *number, seed), strict=True))


def write(rows: list[dict] | pd.DataFrame, path: str | Path) -> pd.DataFrame:
    """Write a tidy table as CSV (four significant digits) and return it; further columns follow the common ones."""
    table = pd.DataFrame(rows)
    more = [column for column in table.columns if column not in COLUMNS]
    table = table[[*COLUMNS, *more]].astype({"tokens": "Int64", "layer": "Int64"})
    write_csv(table, Path(path))
    return table


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table of any columns as CSV (four significant digits), by rename."""
    with replacing(path) as part:
        table.to_csv(part, index=False, float_format="%.4g", lineterminator="\n")


def read_csv(path: Path) -> pd.DataFrame:
    """Return a table as `write_csv` wrote it: an empty cell is missing, and a name stays what it was: NA, null, 007, True."""
    types = dict.fromkeys(_NAMES, str) | {"tokens": "Int64", "layer": "Int64"}
    return pd.read_csv(path, dtype=types, keep_default_na=False, na_values=[""])


def folder(study: str) -> Path:
    """Return the folder of a study's published results; of no study, the one that holds them all."""
    return PROJECT / "results" / (study and file_name("study", study))


def own(study: str) -> Path:
    """Return the folder of the results that runs of a study on this machine make."""
    return PROJECT / "runs" / file_name("study", study) / "results"


def whole(results: Path) -> bool:
    """Return whether a folder holds all results of a finished run, as they were written."""
    return (results / "provenance.json").is_file() and not damaged(results)


def shown(study: str) -> Path:
    """Return the folder from which tables of a study are read: of this machine's run if there is a whole one, else the published.

    With `TRACING_UTILS_RESULTS=published` in the environment it is the published one: for tests, and for pictures of it.
    """
    if os.environ.get("TRACING_UTILS_RESULTS") != "published" and whole(own(study)):
        return own(study)
    return folder(study)


def studies(experiment: str = "*") -> list[str]:
    """Return the names of the studies that have a table of this name (or any) to read, those of the pocket suite first."""
    folders = [*folder("").glob("[!.]*/"), *(path.parent for path in (PROJECT / "runs").glob("[!.]*/results/"))]
    named = {path.name for path in folders if any(shown(path.name).glob(f"{experiment}.csv"))}
    return sorted(named, key=lambda name: (not name.startswith("pocket"), name))


def digest(table: Path) -> str:
    """Return the sha256 of a table's lines, however git ends them on this system."""
    return sha256(table.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def damaged(results: Path) -> list[str]:
    """Return which tables of a folder are not those of its `provenance.json`, or are not there; none where it has none."""
    record = results / "provenance.json"
    try:
        recorded = json.loads(record.read_text(encoding="utf-8")).get("tables", {}) if record.is_file() else {}
    except ValueError:
        return [record.name]
    return [name for name, written in recorded.items() if not (results / name).is_file() or digest(results / name) != written]


def publish(study: str) -> None:
    """Copy what this machine's run of a study made to its published results, each file by rename; the provenance comes last.

    Raises:
        ValueError: if the study has a name that no folder can have, or its run is not whole.
    """
    source, target = own(study), folder(study)
    if not whole(source):
        raise ValueError(f"What is published must be a finished run; runs/{study}/results is none. Run the study again.")
    for name in [*json.loads((source / "provenance.json").read_text(encoding="utf-8"))["tables"], "provenance.json"]:
        with replacing(target / name) as part:
            shutil.copyfile(source / name, part)


_read: dict[str, None] = {}


def read_so_far() -> list[str]:
    """Return the tables that `read` gave in this session, as the built book names them, in that order."""
    return list(_read)


def read(study: str, experiment: str) -> pd.DataFrame:
    """Return a table of a study, such as `probing`, from the folder that `shown` gives.

    Raises:
        ValueError: if there is no such study or experiment, or the table is not the one that was published.
    """
    base = shown(study)
    if not base.is_dir():
        raise unknown("study with results", study, sorted(p.name for p in folder("").glob("*") if p.is_dir()))
    path = base / f"{experiment}.csv"
    if not path.is_file():
        raise unknown(f"result of study {study}", experiment, sorted(p.stem for p in base.glob("*.csv")))
    if path.name in damaged(base):
        raise ValueError(
            f"results/{study}/{path.name} must be the table that was published; its sha256 is not the one in provenance.json. "
            "Take the file from git."
        )
    _read[f"results/{study}/{path.name}"] = None
    return load(path)


def read_all(experiment: str, designed: bool = False) -> pd.DataFrame:
    """Return the tables of this name of all studies, joined, with the further column `study`; empty where there is none.

    Args:
        experiment: name of the tables.
        designed: whether of studies on statements of the designed world, where methods are tried, or of all others.
    """
    tables = {study: read(study, experiment) for study in studies(experiment)}
    wanted = [
        table.assign(study=study) for study, table in tables.items() if table["concept_set"].isin(DESIGNED).all() == designed
    ]
    return pd.concat(wanted, ignore_index=True) if wanted else pd.DataFrame()


def collect(tables: list[Path], path: Path) -> None:
    """Join the tables of single runs into one published table.

    Raises:
        ValueError: if a table is not there, cannot be read or lacks one of the common columns.
    """
    frames = [load(table) for table in tables]
    for table, frame in zip(tables, frames, strict=True):
        if missing := [column for column in COLUMNS if column not in frame]:
            raise ValueError(
                f"{table} must have the columns of a tidy table; {', '.join(missing)} is missing. "
                "Another version wrote it: delete it and run the study again."
            )
    write(pd.concat(frames), path)


def load(path: Path) -> pd.DataFrame:
    """Return the table of results in a file; raise `ValueError` if it is none."""
    try:
        return read_csv(path)
    except FileNotFoundError:
        raise ValueError(f"A table of results must exist; {path} does not. Run the study again.") from None
    except (ValueError, OverflowError, TypeError) as error:  # not UTF-8, no table, a word for a layer
        raise ValueError(
            f"{path} must be a table of results; it could not be read: {brief(' '.join(str(error).split()))}. "
            "Delete it and run the study again."
        ) from None


def gains(probing: pd.DataFrame) -> pd.DataFrame:
    """Return the logistic probe's accuracies with the floor beside them.

    Returns:
        One row per checkpoint, layer and dimension, with the further columns `floor`, `gain` (value minus floor)
        and `above` (the probe's whole interval lies above the floor's, and above one half: on balanced pairs a
        reader of the text can fall below chance).
    """
    rows = probing[probing["metric"] == "accuracy"]
    on = ["suite", "revision", "dimension", "concept_set"]
    floors = rows[rows["method"] == "floor"].rename(columns={"value": "floor", "high": "floor_high"})
    joined = rows[rows["method"] == "logistic"].merge(floors[[*on, "floor", "floor_high"]], on=on)
    above = joined["low"] > joined["floor_high"].clip(lower=0.5)
    return joined.assign(gain=joined["value"] - joined["floor"], above=above).drop(columns="floor_high")


def dimensions_above(gains: pd.DataFrame, concept_set: str) -> list[str]:
    """Return the dimensions that lie above the floor in more than half of the layers at the last checkpoint.

    Half of the layers, not the best one: the best of several is above by chance more often than an interval says.
    """
    rows = gains[(gains["concept_set"] == concept_set) & (gains["step"] == gains["step"].max())]
    share = rows.groupby("dimension")["above"].mean()
    return list(share.index[share > 0.5])
