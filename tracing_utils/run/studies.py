"""A study: one suite, one or several concept sets, and what is computed over every checkpoint; read from a YAML file.

Rule: an entry that is not known is refused, never ignored. An experiment's options stand under its name.
"""

import os
from collections.abc import Iterable
from dataclasses import field, fields, replace
from functools import cached_property
from pathlib import Path

from pydantic import create_model
from pydantic.dataclasses import dataclass

from .. import experiments
from ..checkpoints import suites
from ..checkpoints.types import CheckpointSuite
from ..core import strict_yaml
from ..core.errors import brief, file_name, unknown
from ..core.paths import PROJECT
from ..core.validation import Count, Counts, Dtype, Names, Number, Numbers, Steps, Switch, Text, Validated, validate
from ..experiments import notebook
from ..statements import concepts

__all__ = ["Study", "parameters", "read"]


@dataclass(frozen=True)  # of pydantic, so that what a file gives is checked
class Study:
    """What is traced over which checkpoints.

    Attributes:
        name: of the study; its results are in `runs/<name>/results/`.
        suite: a registered suite, a folder of checkpoints, a folder with one model, or a GGUF file.
        steps: folders of checkpoints by step, inside the suite's folder or elsewhere; empty where their names tell.
        concepts: sources of statements: a named set (`sources.SETS`), or a folder or file of statements.
        checkpoints: how many, spread over the logarithm of the step; None for all.
        revisions: exactly these checkpoints, by name; replaces `checkpoints`.
        dimensions: which of the five; of each set those that it has.
        experiments: which experiments are run.
        statements: most statements a dimension and set, whole groups drawn at random; None for all.
        featured: revisions whose executed notebooks, on the first concept set, become pages of the book.
        allow_duplicates: trace checkpoints with equal weights all the same.
        trust_remote_code: run the Python code that a model's repository brings.
        dtype: that models have when activations are made: float32, bfloat16, or auto, which tries on this machine what is faster.
        cell_timeout: seconds after which a cell of a notebook counts as hung.
        options: what the study changes of each experiment's options, by experiment and option.
    """

    name: str
    suite: Text
    concepts: Names
    steps: Steps = field(default_factory=dict)
    checkpoints: Count | None = None
    revisions: Names | tuple[()] = ()
    dimensions: Names = concepts.DIMENSIONS
    experiments: Names = field(default_factory=experiments.names)
    statements: Count | None = None
    featured: Names | tuple[()] = ()
    allow_duplicates: Switch = False
    trust_remote_code: Switch = False
    dtype: Dtype = "auto"
    cell_timeout: Count = 86_400
    options: dict[str, dict] = field(default_factory=dict)

    def __hash__(self) -> int:
        """Return a hash; equal studies have equal ones."""
        return hash((self.name, self.suite, self.concepts))

    @cached_property
    def loaded(self) -> CheckpointSuite:
        """The suite, read from where it lies."""
        return suites.load(self.suite, self.steps)

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

    def options_of(self, experiment: str) -> dict:
        """Return the options of an experiment: the study's, and its notebook's defaults for the others."""
        declared = notebook.options(experiment)
        return {name: parameter.default for name, parameter in declared.items()} | self.options.get(experiment, {})

    def traced(self, experiment: str | None = None) -> list[str]:
        """Return the revisions traced; of an experiment, those it runs on: with the chat model where it needs that."""
        if self.revisions:
            checkpoints = [self.loaded[name] for name in self.revisions]
        elif self.checkpoints is not None:
            checkpoints = suites.select(self.loaded.checkpoints, self.checkpoints)
        else:
            checkpoints = self.loaded.checkpoints
        names = [checkpoint.revision for checkpoint in checkpoints]
        if experiment is None or not experiments.get(experiment).target:
            return names
        # A suite of one model has that model as its chat model.
        return list(dict.fromkeys([*names, self.loaded.chat.revision])) if self.loaded.chat else []

    def runs(self) -> list[str]:
        """Return the experiments that are run: those the study names, as far as there is the chat model they need."""
        return [name for name in experiments.names() if name in self.experiments and self.traced(name)]

    def needed(self) -> list[str]:
        """Return every revision that any experiment of this study needs."""
        return list(dict.fromkeys(revision for experiment in self.runs() for revision in self.traced(experiment)))

    def on_hub(self) -> list[str]:
        """Return the needed revisions whose weights come from a model hub."""
        return [revision for revision in self.needed() if self.loaded[revision].remote]

    def summaries(self) -> list[str]:
        """Return the tables that are made from all runs of an experiment together."""
        several = len(self.traced()) > 1
        tables = {name: table for run in self.runs() for name, table in experiments.get(run).summaries.items()}
        return [name for name, table in tables.items() if several or not table.several]

    def concept_set(self, name: str, dimension: str) -> concepts.ConceptSet:
        """Return the statements of one set and dimension, at most `statements` of them, whole groups drawn."""
        return concepts.capped(concepts.load(self.source(name), dimension), self.statements or 0)

    def statement_sets(self, name: str) -> list[concepts.ConceptSet]:
        """Return everything of one set that a model has to read: all dimensions, and fairness's third sentences."""
        sets = [self.concept_set(name, dimension) for dimension in self.dimensions_of(name)]
        if self.sets[name] in concepts.TOPICAL and "fairness" in self.dimensions_of(name):
            sets.append(concepts.capped(concepts.topical(self.sets[name]), self.statements or 0))
        return sets

    def entries(self) -> dict:
        """Return what a study file with this study's name would hold."""
        values = {name: getattr(self, name) for name in _ENTRIES}
        written = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return {name: value for name, value in written.items() if value not in (None, [], {})} | self.options

    def check_options(self, of_model: bool = True) -> None:
        """Refuse options that cannot hold, with `of_model` also for the chat model, as far as its configuration is here.

        Raises:
            ValueError: if one cannot.
        """
        layers = suites.layers(self.loaded.chat) if of_model and self.loaded.chat else None
        for name in self.runs():
            if check := experiments.get(name).check:
                check(self.options_of(name), layers)


_KINDS = {
    "str": Text, "int": Count, "float": Number, "bool": Switch, "list[str]": Names, "list[int]": Counts, "list[float]": Numbers
}  # fmt: skip
_ENTRIES = tuple(field.name for field in fields(Study) if field.name not in ("name", "options"))


def _options(file: Path, experiment: str, content: object) -> dict:
    """Return the options that a study file writes under the name of an experiment, checked."""
    declared, choices = notebook.options(experiment), experiments.get(experiment).choices
    if not isinstance(content, dict):
        raise ValueError(f"{file}: {experiment} must hold options ({', '.join(declared)}), not {brief(content)}.")
    if foreign := [name for name in content if name not in declared]:
        raise unknown(f"option of {experiment} in {file}", foreign[0], declared)
    model = create_model(experiment, __base__=Validated, **{name: (_KINDS[declared[name].kind], ...) for name in content})
    checked = validate(model, content, f"{file}: {experiment}").model_dump()
    for name, value in checked.items():
        for each in ([value] if isinstance(value, str) else value) if name in choices else ():
            if each not in choices[name]:
                raise unknown(name.removesuffix("s"), each, choices[name])
    return {name: list(value) if isinstance(value, tuple) else value for name, value in checked.items()}


def _unknown_entry(file: Path, key: object) -> ValueError:
    """Return the sentence on an entry that no study has; an option in the wrong place gets the right one."""
    for experiment in experiments.names():
        for option in notebook.options(experiment):
            if key in (option, f"{experiment}_{option}"):
                return ValueError(
                    f"{file}: {key} is an option of {experiment}; write it under that name: `{experiment}: {{{option}: ...}}`."
                )
    return unknown(f"entry of {file}", key, [*_ENTRIES, *experiments.names()])


def read(path: str | Path, concept_source: str | None = None) -> Study:
    """Read a study file, whose stem is the study's name.

    A `concept_source` replaces the file's `concepts`; the study is then called `<name>-<set>`.

    Raises:
        ValueError: if the file, one of its entries or values, the suite, the set, a dimension or a revision is unknown.
    """
    path = Path(path)
    if not os.path.isfile(path):  # noqa: PTH113 - a name that is too long for a file system is none
        raise unknown("study", path, _studies_near(path))
    content = strict_yaml.read_mapping(path)
    if isinstance(content.get("concepts"), str) and content["concepts"].strip():
        content["concepts"] = [content["concepts"]]
    entries, options = {}, {}
    for key, value in content.items():
        if key in experiments.names():
            options[key] = _options(path, key, value)
        elif key in _ENTRIES:
            entries[key] = value
        else:
            raise _unknown_entry(path, key)
    study = validate(Study, {"name": file_name("study", path.stem), "options": options} | entries, str(path))
    if concept_source and (concept_source,) != study.concepts:
        name = f"{study.name}-{concepts.set_name(concept_source)}"
        study = replace(study, name=name, concepts=(concept_source,), featured=())
    _check_names(study)
    return study


def _studies_near(path: Path) -> Iterable[str]:
    """Return the studies beside a path, else those of the project."""
    beside = path if os.path.isdir(path) else path.parent  # noqa: PTH112 - as in `read`
    here = sorted(str(other) for other in beside.glob("*.yml"))
    return here or sorted(str(other.relative_to(PROJECT)) for other in (PROJECT / "studies").glob("*.yml"))


def _check_names(study: Study) -> None:
    for kind, known, names in (
        ("dimension", concepts.DIMENSIONS, study.dimensions),
        ("experiment", experiments.names(), study.experiments),
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
    study.traced()  # the suite must be there
    study.check_options(of_model=False)
    for revision in study.featured:
        if study.loaded[revision].revision not in (traced := study.needed()):
            raise ValueError(f"featured must name revisions that the study traces ({', '.join(traced)}); {revision} is not one.")


def parameters(study: Study, concept_set: str, experiment: str, revision: str) -> dict:
    """Return what the notebook of `experiment` gets from `study`, on one of its sets at `revision`."""
    described = experiments.get(experiment)
    declared = notebook.parameters_of(experiment)
    own = study.options_of(experiment)
    if revision not in study.featured and study.loaded[revision] != study.loaded.chat:
        own |= {name: [] for name in described.in_depth}
    common = {
        "suite": study.suite,
        "revision": revision,
        "concept_set": study.source(concept_set),
        "dimensions": list(study.dimensions_of(concept_set)),
        "statements": study.statements or 0,
        "trust_remote_code": study.trust_remote_code,
    }
    return {name: value for name, value in (common | own).items() if name in declared}
