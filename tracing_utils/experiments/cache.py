"""Arrays that are computed once: they stay in the cache folder, under the hash of all they depend on."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from zipfile import BadZipFile

import numpy as np

from ..core import downloads

__all__ = ["cached"]


def cached(name: str, of: object, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the arrays that `make` returns, from the cache folder if they were computed before.

    `of` is all that they depend on, the way they are computed among it, as JSON can write it.
    """
    key = sha256(json.dumps([name, of]).encode()).hexdigest()[:32]
    file = downloads.cache_folder() / "controls" / f"{key}.npz"
    with suppress(FileNotFoundError, EOFError, ValueError, BadZipFile), np.load(file) as stored:  # a zip, which knows a damage
        return dict(stored)
    file.parent.mkdir(exist_ok=True)
    part, arrays = file.with_suffix(f".{os.getpid()}.part"), make()
    with part.open("wb") as opened:
        np.savez(opened, **arrays)
    os.replace(part, file)
    return arrays
