"""A study: one suite, one or several concept sets, and what is computed over every checkpoint; read from a YAML file.

Rule: a key that is not known is refused, never ignored.

Public names: `EXPERIMENTS`, `PROTOCOLS`, `MEASURES`, `Study`, `read`, `check_layers`, `parameters`.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from types import UnionType
from typing import get_args

from ..checkpoints import suites
from ..checkpoints.types import CheckpointSuite
from ..core import strict_yaml
from ..core.errors import brief, file_name, unknown
from ..core.paths import PROJECT
from ..statements import concepts

EXPERIMENTS = ("probing", "mutual_information", "steering")
"""The experiments. Each has one notebook, one page, one results file and one module or more of this name."""

PROTOCOLS = ("corrected", "released")
"""How probes are split, fitted and scored: as this book does, and exactly as the paper's released code does."""

MEASURES = ("trust", "ability")
"""What steering is measured on beside pairs: trust, and general ability through lm-evaluation-harness."""


@dataclass(frozen=True)
class Study:
    """What is traced over which checkpoints.

    Attributes:
        name: of the study; its results are in `results/<name>/`.
        suite: a registered suite, a folder of checkpoints, a folder with one model, or a GGUF file.
        concepts: sources of statements: `pocket`, `tracingllm`, `corrected`, or a folder or file of statements.
        checkpoints: how many, spread over the logarithm of the step; None for all.
        revisions: exactly these checkpoints, by name; replaces `checkpoints`.
        dimensions: which of the five; of each set those that it has.
        experiments: which of `EXPERIMENTS` are run.
        seeds: how many assignments of statements to folds the scores are averaged over.
        protocols: which of `PROTOCOLS` the probes follow.
        statements: most statements a dimension and set, whole groups drawn at random; None for all.
        examples: number of statements nHSIC and CKA are computed on (their values depend on it).
        steering_layers: layers the vectors are taken from and added to.
        multipliers: strengths of steering, in units of the target's own difference of means.
        asked: most held-out statements a part that steering is chosen on, and tested on.
        measures: which of `MEASURES` are taken with the chosen settings of the target's own vectors and of featured revisions.
        preferences: a file of preference pairs (`chosen`, `rejected`) that gives the universal vector, as .csv or .jsonl.
        toxicity_judge: classifier of continuations, `hub:owner/name` or a folder; None for a small one fitted on the statements.
        featured: revisions whose executed notebooks, on the first concept set, become pages of the book.
        allow_duplicates: trace checkpoints with equal weights all the same.
        trust_remote_code: run the Python code that a model's repository brings.
        cell_timeout: seconds after which a cell of a notebook counts as hung.
    """

    name: str
    suite: str
    concepts: tuple[str, ...]
    checkpoints: int | None = None
    revisions: tuple[str, ...] = ()
    dimensions: tuple[str, ...] = concepts.DIMENSIONS
    experiments: tuple[str, ...] = EXPERIMENTS
    seeds: int = 5
    protocols: tuple[str, ...] = PROTOCOLS
    statements: int | None = None
    examples: int = 600
    steering_layers: tuple[int, ...] = (2, 4)
    multipliers: tuple[float, ...] = (-4.0, 2.0, 4.0)
    asked: int = 120
    measures: tuple[str, ...] = ("trust",)
    preferences: str | None = None
    toxicity_judge: str | None = None
    featured: tuple[str, ...] = ()
    allow_duplicates: bool = False
    trust_remote_code: bool = False
    cell_timeout: int = 86_400

    @cached_property
    def loaded(self) -> CheckpointSuite:
        """The suite, read from where it lies."""
        return suites.load(self.suite)

    @cached_property
    def sets(self) -> dict[str, str]:
        """The concept sets: name, under which results are filed, to source."""
        return {concepts.set_name(source): source for source in self.concepts}

    @cached_property
    def _dimensions(self) -> dict[str, tuple[str, ...]]:
        has = {name: concepts.available(source) for name, source in self.sets.items()}
        return {name: tuple(dimension for dimension in self.dimensions if dimension in has[name]) for name in has}

    def source(self, concept_set: str) -> str:
        """Return where the set of this name comes from."""
        if concept_set not in self.sets:
            raise unknown(f"concept set of study {self.name}", concept_set, self.sets)
        return self.sets[concept_set]

    def dimensions_of(self, concept_set: str) -> tuple[str, ...]:
        """Return the dimensions traced on the set of this name."""
        return self._dimensions[concept_set]

    def traced(self, experiment: str = "probing") -> list[str]:
        """Return the revisions an experiment runs over; steering also takes the chat model's own vectors."""
        if self.revisions:
            chosen = [self.loaded[name] for name in self.revisions]
        elif self.checkpoints is not None:
            chosen = suites.select(self.loaded.checkpoints, self.checkpoints)
        else:
            chosen = self.loaded.checkpoints
        names = [checkpoint.revision for checkpoint in chosen]
        if experiment != "steering":
            return names
        # A suite of one model has that model as its chat model.
        return list(dict.fromkeys([*names, self.loaded.chat.revision])) if self.loaded.chat else []

    def runs(self) -> list[str]:
        """Return the experiments that are run: those the study names; steering needs a chat model."""
        return [experiment for experiment in EXPERIMENTS if experiment in self.experiments and self.traced(experiment)]

    def needed(self) -> list[str]:
        """Return every revision that any experiment of this study needs."""
        return list(dict.fromkeys(revision for experiment in self.runs() for revision in self.traced(experiment)))

    def on_hub(self) -> list[str]:
        """Return the needed revisions whose weights come from a model hub."""
        return [revision for revision in self.needed() if self.loaded[revision].remote]

    def summaries(self) -> list[str]:
        """Return the tables that are made from all runs together; a single checkpoint has no dynamics."""
        more = ["dynamics"] if len(self.traced()) > 1 else []
        return more + ["reweighting", "claims"] + (["answers"] if "steering" in self.runs() else [])

    def concept_set(self, name: str, dimension: str) -> concepts.ConceptSet:
        """Return the statements of one set and dimension, at most `statements` of them, whole groups drawn."""
        return concepts.capped(concepts.load(self.source(name), dimension), self.statements or 0)

    def statement_sets(self, name: str) -> list[concepts.ConceptSet]:
        """Return everything of one set that a model has to read: all dimensions, and fairness's third sentences."""
        found = [self.concept_set(name, dimension) for dimension in self.dimensions_of(name)]
        if self.sets[name] in concepts.TOPICAL and "fairness" in self.dimensions_of(name):
            found.append(concepts.capped(concepts.topical(self.sets[name]), self.statements or 0))
        return found


_ENTRIES = {field.name: field.type for field in fields(Study) if field.name != "name"}


def _checked(file: Path, key: str, value: object) -> object:
    """Return `value` in the type of the entry `key`, or say which type it must have."""
    kind = _ENTRIES[key]
    if key == "concepts" and _is(str, value):
        return (value,)
    if get_args(kind) and not isinstance(kind, UnionType):  # tuple[X, ...]
        inner = get_args(kind)[0]
        if isinstance(value, list) and value and all(_is(inner, item) for item in value):
            if repeated := _repeated(value):
                raise ValueError(f"{file}: {key} must name each once; {brief(repeated)} stands twice.")
            return tuple(inner(item) for item in value)
        raise ValueError(f"{file}: {key} must be a list of {_MANY[inner]}, not {brief(value)}.")
    simple = get_args(kind)[0] if isinstance(kind, UnionType) else kind
    if not _is(simple, value) or (simple is int and value == 0):  # counts begin at one; a layer, in a list, may be 0
        raise ValueError(f"{file}: {key} must be {_ONE[simple]}, not {brief(value)}.")
    return value


_MOST = 10**9
_ONE = {str: "text", int: f"a positive whole number up to {_MOST:,}", bool: "true or false"}
_MANY = {str: "names", int: f"whole numbers from 0 to {_MOST:,}", float: f"finite numbers up to {_MOST:,}"}


def _is(kind: type, value: object) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MOST
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST
    return isinstance(value, kind) and (kind is not str or bool(value.strip()))


def _repeated(values: Iterable) -> object | None:
    """Return a value that stands twice, or None."""
    seen = list(values)
    return next((value for value in seen if seen.count(value) > 1), None)


def read(path: str | Path, concept_source: str | None = None) -> Study:
    """Read a study file.

    Args:
        path: a YAML file; its stem is the study's name.
        concept_source: replaces the file's `concepts`; the study is then called `<name>-<set>`.

    Raises:
        ValueError: if the file, one of its keys or values, the suite, the set, a dimension or a revision is unknown.
    """
    path = Path(path)
    if not os.path.isfile(path):  # noqa: PTH113 - a name that is too long for a file system is none
        beside = path if os.path.isdir(path) else path.parent  # noqa: PTH112
        near = sorted(str(other) for other in beside.glob("*.yml")) or sorted(
            str(other.relative_to(PROJECT)) for other in (PROJECT / "studies").glob("*.yml")
        )
        raise unknown("study", path, near)
    content = strict_yaml.load(path)
    for key in content:
        if key not in _ENTRIES:
            raise unknown(f"entry of {path}", key, _ENTRIES)
    for key in ("suite", "concepts"):
        if key not in content:
            raise ValueError(f"{path} must name its {key}; the entry is missing.")
    study = Study(file_name("study", path.stem), **{key: _checked(path, key, value) for key, value in content.items()})
    if concept_source and (concept_source,) != study.concepts:
        name = f"{study.name}-{concepts.set_name(concept_source)}"
        study = replace(study, name=name, concepts=(concept_source,), featured=())
    _check_names(study)
    return study


def check_layers(study: Study) -> None:
    """Refuse to steer at layers that the chat model does not have, as far as its configuration is here.

    Raises:
        ValueError: if it has not so many.
    """
    if "steering" not in study.runs() or (have := suites.layers(study.loaded.chat)) is None:
        return
    if beyond := [layer for layer in study.steering_layers if layer >= have]:
        raise ValueError(
            f"steering_layers must be 0 to {have - 1}, the layers of {study.loaded.chat.suite}; {beyond[0]} is not. "
            "Change it in the study."
        )


def _check_names(study: Study) -> None:
    for known, kind, names in (
        (concepts.DIMENSIONS, "dimension", study.dimensions),
        (EXPERIMENTS, "experiment", study.experiments),
        (PROTOCOLS, "protocol", study.protocols),
        (MEASURES, "measure", study.measures),
    ):
        for name in names:
            if name not in known:
                raise unknown(kind, name, known)
    if len(study.sets) < len(study.concepts):
        raise ValueError(f"Each concept set of a study must have a name of its own; these have not: {', '.join(study.concepts)}.")
    for name in study.sets:
        if not study.dimensions_of(name):
            raise ValueError(f"Set {name} must have a dimension of the study; it has none of {', '.join(study.dimensions)}.")
    if suites.entry(study.suite).get("remote_code") and not study.trust_remote_code:
        raise ValueError(
            f"Suite {study.suite} runs Python code of its repository; say trust_remote_code: true in the study to allow that."
        )
    if study.preferences and not os.path.isfile(study.preferences):  # noqa: PTH113 - as in `read`
        raise ValueError(
            f"Preferences must be a .csv or .jsonl file of chosen and rejected texts; {brief(study.preferences)} is no file."
        )
    study.traced()  # the suite must be there
    for revision in study.featured:
        if study.loaded[revision].revision not in (traced := study.needed()):
            raise ValueError(f"featured must name revisions that the study traces ({', '.join(traced)}); {revision} is not one.")


def _in_depth(study: Study, revision: str) -> bool:
    """Return whether steering with this source is measured on more than pairs, which takes as long again."""
    return revision in study.featured or study.loaded[revision] == study.loaded.chat


def parameters(study: Study, concept_set: str, experiment: str, revision: str) -> dict:
    """Return what the notebook of `experiment` is told about `study` on one of its sets at `revision`."""
    common = {
        "suite": study.suite,
        "revision": revision,
        "concept_set": study.source(concept_set),
        "dimensions": list(study.dimensions_of(concept_set)),
        "statements": study.statements or 0,
        "trust_remote_code": study.trust_remote_code,
    }
    own = {
        "probing": {"seeds": study.seeds, "protocols": list(study.protocols)},
        "mutual_information": {"examples": study.examples},
        "steering": {
            "layers": list(study.steering_layers),
            "multipliers": list(study.multipliers),
            "asked": study.asked,
            "measures": list(study.measures) if _in_depth(study, revision) else [],
            "preferences": study.preferences or "",
            "toxicity_judge": study.toxicity_judge or "",
        },
    }
    if experiment not in own:
        raise unknown("experiment", experiment, EXPERIMENTS)
    return common | own[experiment]
