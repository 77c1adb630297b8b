"""Which statements there are: the five dimensions, the sets with names, and a user's own folders and files.

Rule: nothing heavy is imported here, since the command line asks for these names before it does anything.
"""

import os
import warnings
from difflib import get_close_matches
from pathlib import Path

from ..core.errors import file_name, unknown

__all__ = ["DESIGNED", "DIMENSIONS", "LADDER", "RUNGS", "SETS", "SUFFIXES", "TOPICAL", "available", "own_files", "set_name"]

DIMENSIONS = ("reliability", "privacy", "toxicity", "fairness", "robustness")
"""The five dimensions of trustworthiness, in the paper's order."""

RUNGS = {"words": DIMENSIONS, "turn": DIMENSIONS[:-1]}
"""The dimensions of each rung below the crossed statements. No context turns a misspelt word into a well-spelt one."""

LADDER = ("grammar", *RUNGS, "pocket")
"""The rungs from the lowest to the highest. Grammar belongs to no dimension and is judged by likelihood; the others are sets."""

DESIGNED = ("world", "world-never")
"""Sets about the designed world: what its narrators told, and what nobody ever told. It is known what can be known."""

SETS = ("pocket", *RUNGS, "tracingllm", "corrected", *DESIGNED)
"""The sets with names: hand-written for this book, the paper's released files, the originals of those files, and generated."""

TOPICAL = ("pocket", "corrected")
"""Sets whose fairness has a third, unrelated sentence a group."""

SUFFIXES = (".csv", ".tsv", ".jsonl")
"""How the name of a table of statements ends, in small letters or capitals: commas, tabs, or a JSON object a line."""


def set_name(source: str) -> str:
    """Return the name under which the results of `source` are filed: one of `SETS`, or a folder's or file's own name.

    Raises:
        ValueError: if `source` is neither a known set nor a folder or file, or has a name that results cannot have.
    """
    if source in SETS:
        return source
    path = _place(source)
    # os.path: a name that is too long for a file system names nothing, and is no error.
    if not os.path.isdir(path) and not (os.path.isfile(path) and path.suffix.lower() in SUFFIXES):  # noqa: PTH112, PTH113
        raise unknown(
            "concept set", source, [*SETS, "(or a folder with one <dimension>.csv each, or a file: .csv, .tsv, .jsonl)"]
        )
    name = path.resolve().name if path.is_dir() else path.stem
    if name in SETS:
        raise ValueError(f"Statements of your own must have a name of their own; {source} would be filed as {name}. Rename it.")
    return file_name("concept set", name)


def _place(source: str) -> Path:
    return Path(os.path.expanduser(os.path.expandvars(source)))  # noqa: PTH111 - an unknown user names nothing, and is no error


def available(source: str) -> tuple[str, ...]:
    """Return the dimensions that `source` has statements for.

    Raises:
        ValueError: if it has none.
    """
    return RUNGS.get(source, DIMENSIONS) if source in SETS else tuple(own_files(source))


def own_files(source: str) -> dict[str, Path]:
    """Return the file of each dimension of a user's folder or file, in the paper's order.

    Raises:
        ValueError: if there is none, two for one dimension, or a file that is not named after its dimension.
    """
    set_name(source)
    path = _place(source)
    if path.is_file():
        for dimension in DIMENSIONS:
            if path.stem.lower() == dimension or path.stem.lower().endswith((f"-{dimension}", f"_{dimension}")):
                return {dimension: path}
        raise ValueError(
            f"A file of statements must be named after its dimension (privacy.csv, or mine-privacy.csv; known: "
            f"{', '.join(DIMENSIONS)}); {path.name} is not. Rename it."
        )
    tables = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    files_of = {dimension: [file for file in tables if file.stem.lower() == dimension] for dimension in DIMENSIONS}
    if not any(files_of.values()):
        names = ", ".join(f"{dimension}.csv" for dimension in DIMENSIONS)
        raise ValueError(f"A folder of statements must hold one or more of {names} (or .tsv, .jsonl); {source} holds none.")
    if double := [dimension for dimension, paths in files_of.items() if len(paths) > 1]:
        raise ValueError(f"A folder of statements must hold one file a dimension; {source} has two for {double[0]}.")
    file_of = {dimension: paths[0] for dimension, paths in files_of.items() if paths}
    _warn_of_others(path, file_of)
    return file_of


def _warn_of_others(folder: Path, file_of: dict[str, Path]) -> None:
    """Warn if a file is named nearly as one of a dimension that has none."""
    lacking = [dimension for dimension in DIMENSIONS if dimension not in file_of]
    for file in sorted(folder.iterdir()):
        name = file.stem.lower()
        near = [each for each in lacking if each in name] or get_close_matches(name, lacking, n=1, cutoff=0.8)
        if near:
            warnings.warn(
                f"{file} is not read. If it holds statements, call it {near[0]}.csv (or .tsv, .jsonl).",
                stacklevel=1,  # in one place, so that it is said once
            )
