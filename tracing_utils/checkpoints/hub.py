"""Checkpoints on the Hugging Face hub: list a suite's revisions, ask for their metadata, fetch one.

Rule: a suite is pinned to commits when it is listed; a file is used only after its hash is the one of the hub's
metadata; what lies in the user's own Hugging Face cache is used and never deleted.

The client downloads and resumes. What stays ours: it compares no hash after a download, asks for metadata at every
start, and its exceptions are no sentences.
"""

import json
import os
import re
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from glob import escape
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, constants, hf_hub_download, scan_cache_dir, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import CacheNotFound, HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.hf_api import RepoFolder
from huggingface_hub.utils import disable_progress_bars

from ..core import downloads
from . import files, timeline
from .types import (
    INDICES,
    NAMED_TEMPLATE,
    TEMPLATES,
    Checkpoint,
    CheckpointSuite,
    Remote,
    RemoteFile,
    parse_revision,
    placed,
    tokenizer_names,
    weight_names,
)

__all__ = ["HubError", "fetch", "listed", "resolve", "resolve_suite", "whole", "with_tokenizer"]

disable_progress_bars()  # one bar a file floods the log of a run

_SECONDS = 30  # to wait for metadata
_LOCAL = "or name a local folder of checkpoints as the suite"


class HubError(ValueError):
    """The hub did not give what was asked; the message says what happened, what was kept and what to do.

    Attributes:
        gone: whether the same would come again, since what was asked is private, not there, or not in the cache offline.
    """

    def __init__(self, message: str, gone: bool = False):
        """Take the message, and whether it would come again."""
        super().__init__(message)
        self.gone = gone


def _endpoint() -> str:
    """Return the hub's address, read when it is needed (the client library reads it once, at import)."""
    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def _api() -> HfApi:
    return HfApi(endpoint=_endpoint())


@contextmanager
def _explained(what: str, left: str = "Nothing was kept.") -> Iterator[None]:
    """Turn the client's many exceptions into one sentence about `what`."""
    try:
        yield
    except (HfHubHTTPError, httpx2.HTTPError, OfflineModeIsEnabled, OSError) as error:
        cause = _cause(error)
        status = getattr(getattr(cause, "response", None), "status_code", None)
        gone = status in (401, 403, 404) or isinstance(cause, OfflineModeIsEnabled)
        raise HubError(_sentence(what, left, cause), gone) from error
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise HubError(f"{_endpoint()} did not answer as a hub for {what}. {left} Check HF_ENDPOINT and the proxy.") from error


def _cause(error: BaseException) -> BaseException:
    """Return the error of the connection that the client wrapped into "not found in the cache"."""
    while not getattr(error, "response", None) and isinstance(error.__cause__, OSError | httpx2.HTTPError):
        error = error.__cause__
    return error


def _sentence(what: str, left: str, error: BaseException) -> str:
    if isinstance(error, OfflineModeIsEnabled):
        return f"HF_HUB_OFFLINE is set and your Hugging Face cache does not hold {what}. {left} Unset it, {_LOCAL}."
    if (response := getattr(error, "response", None)) is not None:
        return f"The hub refused {what} with status {response.status_code}. {left} {_advice(response)}"
    if isinstance(error, httpx2.TooManyRedirects):
        return f"{_endpoint()} redirects without end when asked for {what}. {left} Check HF_ENDPOINT and the proxy, {_LOCAL}."
    if isinstance(error, httpx2.ConnectError | httpx2.TimeoutException):
        return (
            f"{_endpoint()} could not be reached for {what} ({_first_line(error)}). {left} Check the connection, set "
            f"HF_HUB_OFFLINE=1 to use what your Hugging Face cache holds, {_LOCAL}."
        )
    return f"{what} did not arrive whole ({_first_line(error)}). {left} Run the same command again."


def _advice(response: httpx2.Response) -> str:
    status = response.status_code
    if status in (401, 403):
        return (
            "It is private, gated or not there: accept its terms on its page and log in with `hf auth login` "
            f"(or set HF_TOKEN), {_LOCAL}."
        )
    if status == 404:
        return f"Check the spelling of owner, name and revision, {_LOCAL}."
    if status == 429:
        wait = response.headers.get("Retry-After")
        return f"It limits requests: wait {f'{wait} seconds' if wait else 'a few minutes'} and run the same command."
    return "The fault is the hub's: wait and run the same command, or set HF_HUB_OFFLINE=1 to use your Hugging Face cache."


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def listed(name: str, entry: dict) -> CheckpointSuite:
    """Return a suite of the hub by its revisions alone, each pinned to its commit.

    Args:
        name: of the suite.
        entry: its fields in `suites.yml`; of a repository that is not registered, `repository` alone
            (`owner/name`, or `owner/name@revision` for that one model).

    Raises:
        HubError: if the hub cannot be asked or the repository holds no revision that names a step.
    """
    repo, _, single = entry["repository"].partition("@")
    if single:
        model = Checkpoint(name, "model", -1, None, None, None, Remote(repo, single))
        return CheckpointSuite(name, (model,), model)
    commits = _revisions(repo)
    remotes = {revision: Remote(repo, commit) for revision, commit in commits.items()}
    parsed = _parsed(remotes, entry)
    if not parsed:
        if constants.is_offline_mode():
            raise HubError(_sentence(f"any checkpoint of {repo}", "Nothing was asked of the hub.", OfflineModeIsEnabled()))
        remotes = _subfolders(repo, commits.get("main", "main"), entry.get("subfolder"))
        parsed = _parsed(remotes, entry)
    if not parsed:
        raise HubError(
            f"{repo} must have revisions or folders named like step1000; found were {', '.join(sorted(commits)) or 'none'}. "
            f"For one of them alone write hub:{repo}@main."
        )
    tokenizer = _elsewhere(entry.get("tokenizer"))
    checkpoints = []
    times, notes = timeline.told(parsed, entry)
    if others := sorted(set(remotes) - set(parsed) - {"main"}) if "revisions" not in entry else []:
        notes.append(f"left out (the name tells no step): {timeline.until_ten(others)}")
    for revision, (step, tokens) in times.items():
        remote = replace(remotes[revision], tokenizer=tokenizer)
        checkpoints.append(Checkpoint(name, revision, step, tokens, None, None, remote))
    chat = _elsewhere(entry.get("chat"))
    final = Remote(repo, commits["main"]) if "main" in commits and not checkpoints[0].remote.subfolder else None
    return CheckpointSuite(
        name,
        tuple(checkpoints),
        Checkpoint(name, "chat", -1, None, None, None, chat) if chat else None,
        replace(checkpoints[-1], revision="main", remote=final) if final else None,
        tuple(notes),
    )


def _elsewhere(reference: str | None) -> Remote | None:
    """Return where `owner/name` or `owner/name@revision` lies."""
    if not reference:
        return None
    repo, _, revision = reference.partition("@")
    return Remote(repo, revision or "main")


def _parsed(remotes: dict[str, Remote], entry: dict) -> list[str]:
    """Return the names that are revisions of this suite and tell a step."""
    wanted = re.compile(entry.get("revisions", ".*"))
    return [name for name in remotes if wanted.fullmatch(name) and parse_revision(name)]


def _revisions(repo: str) -> dict[str, str]:
    """Return the commit of each branch and tag, from the hub or, offline, from the user's cache."""
    if constants.is_offline_mode():
        return {name: commit for commit, cached in _cached(repo).items() for name in cached.refs}
    with _explained(f"the revisions of {repo}"):
        refs = _api().list_repo_refs(repo)
    return {ref.name: ref.target_commit for ref in (*refs.tags, *refs.branches)}


def _subfolders(repo: str, commit: str, parent: str | None) -> dict[str, Remote]:
    with _explained(f"the folders of {repo}"):
        folders = [item.path for item in _api().list_repo_tree(repo, parent, revision=commit) if isinstance(item, RepoFolder)]
    # Only the last name of each path is used, so that the hub cannot make us open a path of its choice.
    names = [Path(path).name for path in folders]
    return {name: Remote(repo, commit, f"{parent}/{name}" if parent else name) for name in names}


def _cached(repo: str) -> dict:
    """Return what the user's Hugging Face cache holds of a repository, by commit."""
    try:
        repos = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return {}
    return {cached.commit_hash: cached for r in repos if (r.repo_type, r.repo_id) == ("model", repo) for cached in r.revisions}


def resolve(checkpoints: Iterable[Checkpoint]) -> tuple[Checkpoint, ...]:
    """Return the checkpoints with the hub's metadata: exact commits, file names, sizes and hashes. Downloads no file.

    Local checkpoints, and those already resolved, come back as they are.

    Raises:
        HubError: if the hub cannot be asked.
    """
    checkpoints = tuple(checkpoints)
    asked = [c for c in checkpoints if c.remote and not c.remote.files]
    tokenizers = {r: _described(r, f"the tokenizer {r.repo}") for r in {c.remote.tokenizer for c in asked} - {None}}
    with ThreadPoolExecutor(8) as pool:
        described = dict(zip(asked, pool.map(partial(_resolved, tokenizers=tokenizers), asked), strict=True))
    missing = {c.remote.repo for c in described.values() if not _has_tokenizer(c.remote)}
    mains = {repo: _main(repo) for repo in missing}
    return tuple(_with_tokenizer(described[c], mains) if c in described else c for c in checkpoints)


def _resolved(checkpoint: Checkpoint, tokenizers: dict[Remote, Remote]) -> Checkpoint:
    remote = _described(checkpoint.remote, f"{checkpoint.remote.repo} at {checkpoint.revision}")
    return replace(checkpoint, remote=replace(remote, tokenizer=tokenizers.get(remote.tokenizer)))


def _has_tokenizer(remote: Remote) -> bool:
    return bool(remote.tokenizer or tokenizer_names(file.name for file in remote.files))


def _main(repo: str) -> Remote | None:
    commit = _revisions(repo).get("main")
    return _described(Remote(repo, commit), f"the tokenizer of {repo}") if commit else None


def _with_tokenizer(checkpoint: Checkpoint, mains: dict[str, Remote | None]) -> Checkpoint:
    """Give a checkpoint without a tokenizer the one of its repository's main branch, if that has one."""
    main = mains.get(checkpoint.remote.repo)
    if _has_tokenizer(checkpoint.remote) or main is None or not _has_tokenizer(main):
        return checkpoint
    return replace(checkpoint, remote=replace(checkpoint.remote, tokenizer=main))


def resolve_suite(suite: CheckpointSuite, revisions: Sequence[str] | None = None) -> CheckpointSuite:
    """Return a suite of these revisions alone (None: all) with the hub's metadata, and those of the final weights.

    A chat model that is none of the revisions is left out, so that nobody asks for what a run does not use.
    """
    wanted = suite.checkpoints if revisions is None else [suite[revision] for revision in revisions if revision != "chat"]
    chat = suite.chat if suite.chat and (revisions is None or suite.chat.revision in revisions) else None
    others = [c for c in (chat, suite.final) if c]
    resolved = resolve([*wanted, *others])
    rest = iter(resolved[len(wanted) :])
    chat, final = (next(rest) if c else None for c in (chat, suite.final))
    return replace(suite, checkpoints=resolved[: len(wanted)], chat=chat, final=final)


def _described(remote: Remote, what: str) -> Remote:
    """Return `remote` with its exact commit and the files that are needed of it."""
    metadata = _metadata(remote, what)
    inside = f"{remote.subfolder}/" if remote.subfolder else ""
    here = {name.removeprefix(inside): file for name, file in metadata["files"].items() if name.startswith(inside)}
    indexed = _indexed(remote, here, what)
    needed = tuple(RemoteFile(name, *here[name]) for name in _needed(here, indexed))
    # The hub reads the configuration at the root alone.
    family = None if remote.subfolder else metadata["model_type"]
    quantised = "" if remote.subfolder else metadata.get("quantised", "")
    faults = [*files.of_names(here, _weights(here, indexed), indexed), *([] if remote.subfolder else metadata.get("untold", []))]
    facts = {"model_type": family, "quantised": quantised, "faults": tuple(faults)}
    return replace(remote, commit=metadata["commit"], files=needed, **facts)


def _metadata(remote: Remote, what: str) -> dict:
    """Return commit, family and files of a repository at a commit: from our cache, from the hub, or offline from its cache."""
    pinned = re.fullmatch("[0-9a-f]{40}", remote.commit)  # and not a branch, which may move, or a path
    path = downloads.cache_folder() / "hub" / f"{remote.commit}.json"
    if pinned and path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    if constants.is_offline_mode():
        return _cached_files(remote, what)
    with _explained(what, "Metadata already fetched are kept."):
        info = _api().model_info(remote.repo, revision=remote.commit, files_metadata=True, timeout=_SECONDS)
        metadata = {
            "commit": info.sha,
            "model_type": info.config.get("model_type", "") if info.config else None,
            "quantised": files.quantisation(info.config or {}),
            "untold": files.untold(info.config or {}),
            "files": {s.rfilename: [s.size, s.lfs.sha256 if s.lfs else s.blob_id] for s in info.siblings},
        }
    if pinned and remote.commit == info.sha:
        path.parent.mkdir(exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
        part.write_text(json.dumps(metadata), encoding="utf-8")
        os.replace(part, path)
    return metadata


def _indexed(remote: Remote, names: Iterable[str], what: str) -> dict[str, list[str]]:
    """Return what an index names, by its name; it is asked for only where the names of files leave open what that may be."""
    index = next((name for name in INDICES if name in names), None)
    whole = (index or "").removesuffix(".index.json")
    if index is None or whole in names:
        return {}
    stem, _, kind = whole.partition(".")
    shards = sorted(name for name in names if "/" not in name and re.fullmatch(rf".+-\d+-of-\d+\.{kind}", name))
    if shards and shards == [f"{stem}-{i:05d}-of-{len(shards):05d}.{kind}" for i in range(1, len(shards) + 1)]:
        return {index: shards}
    path = f"{remote.subfolder}/{index}" if remote.subfolder else index
    with _explained(f"{index} of {what}"):
        return files.indices(Path(hf_hub_download(remote.repo, path, revision=remote.commit, endpoint=_endpoint())).parent)


def _needed(names: Iterable[str], indexed: Mapping[str, Sequence[str]]) -> list[str]:
    """Return which files of a checkpoint are needed: configuration (its code included), weights, tokenizer."""
    weights, named = _weights(names, indexed), filter(NAMED_TEMPLATE.fullmatch, names)
    names = {name for name in names if "/" not in name}
    kind = ".safetensors" if weights and weights[0].endswith(".safetensors") else ".bin"
    index = {name for name in INDICES if kind in name}
    others = {name for name in names if name.endswith(".py") or files.is_adapter(name)}  # an adapter is refused
    words = {*tokenizer_names(names), *TEMPLATES}  # a chat model may bring a template alone
    return sorted({*weights, *named, *(names & ({"config.json"} | others | index | words))})


def _weights(names: Iterable[str], indexed: Mapping[str, Sequence[str]]) -> list[str]:
    """Return which of a checkpoint's files are its weights; in a folder inside it are those alone that an index names."""
    inside = {name for named in indexed.values() for name in named if ".." not in Path(name).parts}
    return weight_names((name for name in names if "/" not in name or name in inside), indexed)


def _cached_files(remote: Remote, what: str) -> dict:
    """Return the metadata that the user's cache holds; it names blobs by their hashes."""
    for commit, cached in _cached(remote.repo).items():
        if remote.commit in (commit, *cached.refs):
            root = cached.snapshot_path
            entries = {
                file.file_path.relative_to(root).as_posix(): [file.size_on_disk, file.blob_path.name] for file in cached.files
            }
            return {"commit": commit, "model_type": None, "files": entries}
    raise HubError(_sentence(what, "Nothing was asked of the hub.", OfflineModeIsEnabled()), gone=True)


def fetch(checkpoint: Checkpoint, into: Path) -> Checkpoint:
    """Return a checkpoint whose files lie in a folder: fetch those of the hub, or find them there from before.

    Only configuration, weights (safetensors; `.bin` where there are none) and tokenizer are downloaded. The
    folder appears when everything is in it and has the hashes of the hub's metadata. A file that is whole in
    the user's Hugging Face cache is linked, not copied; deleting `into` leaves that cache as it was.

    Args:
        checkpoint: one of a suite on the hub; a local one comes back as it is.
        into: the folder to make. A broken download is kept in `<into>.part` and continued.

    Raises:
        HubError: if the hub does not give a file, a hash is wrong, or the disk is too small.
    """
    if checkpoint.remote is None:
        return checkpoint
    if into.is_dir() and not whole(checkpoint, into):
        shutil.rmtree(into)
    if not into.is_dir():
        (checkpoint,) = resolve([checkpoint])
        remote, part = checkpoint.remote, into.with_name(into.name + ".part")
        _get(remote, part, f"{remote.repo} at {checkpoint.revision}")
        if remote.tokenizer:
            _get(remote.tokenizer, part / "tokenizer", f"the tokenizer {remote.tokenizer.repo}", tokenizer_only=True)
        os.replace(part, into)
    return placed(checkpoint, into)


def with_tokenizer(checkpoint: Checkpoint, into: Path) -> Checkpoint:
    """Return a resolved checkpoint of the hub with its tokenizer alone in a folder, so that it is looked at before the weights.

    Raises:
        HubError: as `fetch`.
    """
    remote = checkpoint.remote.tokenizer or checkpoint.remote
    _get(remote, into, f"the tokenizer {remote.repo}", tokenizer_only=True)
    return replace(checkpoint, folder=into, tokenizer=into)


def whole(checkpoint: Checkpoint, folder: Path) -> bool:
    """Return whether the files that `fetch` put into a folder have the hashes of the metadata, as far as these are known."""
    remote = checkpoint.remote
    words = _of_tokenizer(remote.tokenizer) if remote.tokenizer else []
    return all(_is(folder / file.name, file) for file in remote.files) and all(
        _is(folder / "tokenizer" / file.name, file) for file in words
    )


def _of_tokenizer(remote: Remote) -> list[RemoteFile]:
    """Return those of the files that a tokenizer needs."""
    words = tokenizer_names(file.name for file in remote.files)
    return [file for file in remote.files if file.name in words or NAMED_TEMPLATE.fullmatch(file.name)]


def _get(remote: Remote, target: Path, what: str, *, tokenizer_only: bool = False) -> None:
    """Put the files of `remote` into `target`, each checked."""
    needed = _of_tokenizer(remote) if tokenizer_only else remote.files
    target.mkdir(parents=True, exist_ok=True)
    waiting = [file for file in needed if not _whole(target / file.name, file) and not _linked(remote, file, target)]
    scratch = target / ".download"
    if waiting:
        left = f"Whole files are kept in {target.name} and not downloaded again."
        if constants.is_offline_mode():
            raise HubError(_sentence(f"{waiting[0].name} of {what}", left, OfflineModeIsEnabled()))
        _check_disk(waiting, scratch, what)
        paths = {file: f"{remote.subfolder}/{file.name}" if remote.subfolder else file.name for file in waiting}
        with _explained(what, left):
            snapshot_download(
                remote.repo,
                revision=remote.commit,
                local_dir=scratch,
                allow_patterns=[escape(path) for path in paths.values()],
                endpoint=_endpoint(),
                max_workers=4,
            )
        for file, path in paths.items():
            _check_file(scratch / path, file, what)
            (target / file.name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(scratch / path, target / file.name)
    shutil.rmtree(scratch, ignore_errors=True)


def _whole(path: Path, file: RemoteFile) -> bool:
    """Return whether a file is here from before, with the right content; one of another commit is deleted."""
    if _is(path, file):
        return True
    path.unlink(missing_ok=True)
    return False


def _linked(remote: Remote, file: RemoteFile, target: Path) -> bool:
    """Link a file that the user's Hugging Face cache holds; return whether it does, with the right content."""
    path = f"{remote.subfolder}/{file.name}" if remote.subfolder else file.name
    cached = try_to_load_from_cache(remote.repo, path, cache_dir=constants.HF_HUB_CACHE, revision=remote.commit)
    if not isinstance(cached, str) or not _is(Path(cached), file):
        return False
    (target / file.name).parent.mkdir(parents=True, exist_ok=True)
    (target / file.name).symlink_to(Path(cached).resolve())
    return True


def _check_disk(files: Sequence[RemoteFile], scratch: Path, what: str) -> None:
    have = sum(path.stat().st_size for path in scratch.rglob("*") if path.is_file())
    need = sum(file.size for file in files) - have
    free = shutil.disk_usage(scratch.parent).free
    if need > free:
        raise HubError(
            f"{what} needs {need / 1e9:.1f} GB of disk; {free / 1e9:.1f} GB are free where it goes, and nothing was downloaded. "
            "Free some, or run the study from a larger disk."
        )


def _check_file(path: Path, file: RemoteFile, what: str) -> None:
    """Refuse, and delete, a file that is not the one of the hub's metadata."""
    if not path.is_file():
        raise HubError(f"{file.name} of {what} did not arrive. Whole files are kept; run the same command again.")
    if (actual := _digest(path, file)) != file.digest:
        size = path.stat().st_size
        path.unlink()
        raise HubError(
            f"{file.name} of {what} must have {file.size} bytes and hash {file.digest}; {size} bytes with hash {actual} came. "
            "It was deleted, the other files are kept; run the same command again."
        )


def _is(path: Path, file: RemoteFile) -> bool:
    """Return whether what lies at a path is this file."""
    return path.is_file() and _digest(path, file) == file.digest


def _digest(path: Path, file: RemoteFile) -> str:
    """Return the hash of a file of the kind that the metadata give for it."""
    return downloads.sha256(path) if len(file.digest) == 64 else downloads.blob_id(path)
