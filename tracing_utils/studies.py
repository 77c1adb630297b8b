"""A study: one suite, one concept set, and what is computed over every checkpoint; read from a YAML file.

Rule: a key that is not known is refused, never ignored.

Public names: `EXPERIMENTS`, `Study`, `read`, `parameters`.
"""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from types import UnionType
from typing import get_args

import yaml

from . import concepts, suites
from .errors import unknown

EXPERIMENTS = ("probing", "mutual_information", "steering")
"""The experiments. Each has one notebook, one page, one results file and one module or more of this name."""


@dataclass(frozen=True)
class Study:
    """What is traced over which checkpoints.

    Attributes:
        name: of the study; its results are in `results/<name>/`.
        suite: a registered suite, or a folder of checkpoints.
        concepts: `pocket`, `tracingllm`, or a folder of statements.
        checkpoints: how many, spread over the logarithm of the step; None for all.
        dimensions: which of the five; a study file may leave them out and get those the set has.
        seeds: how many assignments of statements to folds the scores are averaged over.
        examples: number of statements nHSIC and CKA are computed on (their values depend on it).
        steering_layers: layers the vectors are taken from and added to.
        multipliers: strengths of steering, in units of the target's own difference of means.
        featured: revisions whose executed notebooks become pages of the book.
    """

    name: str
    suite: str
    concepts: str
    checkpoints: int | None = None
    dimensions: tuple[str, ...] = concepts.DIMENSIONS
    seeds: int = 3
    examples: int = 600
    steering_layers: tuple[int, ...] = (2, 4)
    multipliers: tuple[float, ...] = (-4.0, -2.0, 2.0, 4.0)
    featured: tuple[str, ...] = ()

    @cached_property
    def loaded(self) -> suites.CheckpointSuite:
        """The suite, read from where it lies."""
        return suites.load(self.suite)

    def revisions(self, experiment: str = "probing") -> list[str]:
        """Return the revisions an experiment runs over; steering also takes the chat model's own vectors."""
        chosen = self.loaded.checkpoints
        if self.checkpoints is not None:
            chosen = suites.select(chosen, self.checkpoints)
        names = [checkpoint.revision for checkpoint in chosen]
        if experiment != "steering":
            return names
        return [*names, "chat"] if self.loaded.chat else []

    def experiments(self) -> list[str]:
        """Return the experiments of this study; steering needs a chat model."""
        return [experiment for experiment in EXPERIMENTS if self.revisions(experiment)]


_ENTRIES = {field.name: field.type for field in fields(Study) if field.name != "name"}


def _checked(file: Path, key: str, value: object) -> object:
    """Return `value` in the type of the entry `key`, or say which type it must have."""
    kind = _ENTRIES[key]
    if get_args(kind) and not isinstance(kind, UnionType):  # tuple[X, ...]
        inner = get_args(kind)[0]
        if isinstance(value, list) and value and all(_is(inner, item) for item in value):
            return tuple(inner(item) for item in value)
        raise ValueError(f"{file}: {key} must be a list of {_MANY[inner]}, not {value!r}.")
    simple = get_args(kind)[0] if isinstance(kind, UnionType) else kind
    if not _is(simple, value) or value == 0:  # counts begin at one; a layer, in a list, may be 0
        raise ValueError(f"{file}: {key} must be {_ONE[simple]}, not {value!r}.")
    return value


_ONE = {str: "text", int: "a positive whole number"}
_MANY = {str: "names", int: "whole numbers from 0 on", float: "finite numbers"}


def _is(kind: type, value: object) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return isinstance(value, kind)


def read(path: str | Path, concept_source: str | None = None) -> Study:
    """Read a study file.

    Args:
        path: a YAML file; its stem is the study's name.
        concept_source: replaces the file's `concepts`; the study is then called `<name>-<set>`.

    Raises:
        ValueError: if the file, one of its keys or values, the suite, the set, a dimension or a revision is unknown.
    """
    path = Path(path)
    if not path.is_file():
        near = sorted(str(other) for other in path.parent.glob("*.yml")) or sorted(
            str(other.relative_to(suites.PROJECT)) for other in (suites.PROJECT / "studies").glob("*.yml")
        )
        raise unknown("study", path, near)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be a YAML file; it could not be read: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold entries such as `suite: pocket`; it holds {type(content).__name__}.")
    for key in content:
        if key not in _ENTRIES:
            raise unknown(f"entry of {path}", key, _ENTRIES)
    for key in ("suite", "concepts"):
        if key not in content:
            raise ValueError(f"{path} must name its {key}; the entry is missing.")
    study = Study(path.stem, **{key: _checked(path, key, value) for key, value in content.items()})
    if concept_source and concept_source != study.concepts:
        name = f"{study.name}-{concepts.set_name(concept_source)}"
        study = replace(study, name=name, concepts=concept_source, featured=())
    if "dimensions" not in content:
        study = replace(study, dimensions=concepts.available(study.concepts))
    _check_names(study)
    return study


def _check_names(study: Study) -> None:
    for dimension in study.dimensions:
        if dimension not in concepts.DIMENSIONS:
            raise unknown("dimension", dimension, concepts.DIMENSIONS)
    concepts.set_name(study.concepts)
    study.revisions()  # the suite must be there
    for revision in study.featured:
        study.loaded[revision]


def parameters(study: Study, experiment: str, revision: str) -> dict:
    """Return what the notebook of `experiment` is told about `study` at `revision`."""
    common = {"suite": study.suite, "revision": revision, "concept_set": study.concepts, "dimensions": list(study.dimensions)}
    own = {
        "probing": {"seeds": study.seeds},
        "mutual_information": {"examples": study.examples},
        "steering": {"layers": list(study.steering_layers), "multipliers": list(study.multipliers)},
    }
    if experiment not in own:
        raise unknown("experiment", experiment, EXPERIMENTS)
    return common | own[experiment]
