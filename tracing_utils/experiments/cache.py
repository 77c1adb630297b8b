"""What is computed once and kept in the cache folder, under the hash of all it depends on."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from zipfile import BadZipFile

import numpy as np

from ..core import downloads

__all__ = ["kept"]


def kept(name: str, of: object, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return what `make` returns, from the cache folder if it was made before under this name, of this.

    Args:
        name: of what is made.
        of: all that it depends on, the way it is made among it, as JSON can write it.
        make: makes it.
    """
    key = sha256(json.dumps([name, of]).encode()).hexdigest()[:32]
    file = downloads.cache_folder() / "controls" / f"{key}.npz"
    with suppress(FileNotFoundError, EOFError, ValueError, BadZipFile), np.load(file) as stored:  # a zip, which knows a damage
        return dict(stored)
    file.parent.mkdir(exist_ok=True)
    part, made = file.with_suffix(f".{os.getpid()}.part"), make()
    with part.open("wb") as opened:
        np.savez(opened, **made)
    os.replace(part, file)
    return made
