"""The choice of a GPU: on a machine with several GPUs, each process that runs a model has one of its own.

Rule: a GPU is reserved by a lock file that its process holds, so it is free again when the process ends, however it ends.
"""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import takewhile
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["reserved", "visible"]

_CHOICE = "CUDA_VISIBLE_DEVICES"
_WAIT = 0.5  # seconds until the locks are tried again


def visible() -> list[str]:
    """Return the GPUs this process may use, as `CUDA_VISIBLE_DEVICES` names them, else as the driver counts them."""
    if (named := os.environ.get(_CHOICE)) is not None:
        # CUDA itself reads the list up to the first name that is none: -1, or Slurm's NoDevFiles.
        return list(takewhile(re.compile(r"\d+|GPU-.+|MIG-.+").fullmatch, (name.strip() for name in named.split(","))))
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return re.findall(r"^GPU (\d+):", listed, flags=re.MULTILINE)


@contextmanager
def reserved() -> Iterator[str | None]:
    """Within, this process and those it starts see one GPU that no other process has reserved; wait until there is one.

    It must be entered before CUDA is used, which reads the choice once. Yields the GPU's name, None where there is no GPU.
    The processes of one user and machine share the locks. A job of Slurm has GPUs of its own and may number them anew, so
    the processes inside it share locks of their own.
    """
    names, before = visible(), os.environ.get(_CHOICE)
    if not names:
        yield None
        return
    with ExitStack() as locks:
        name = _first_free(names, locks)
        os.environ[_CHOICE] = name
        try:
            yield name
        finally:
            os.environ.pop(_CHOICE)
            if before is not None:
                os.environ[_CHOICE] = before


def _first_free(names: list[str], locks: ExitStack) -> str:
    """Return the first GPU that is free, its lock entered into `locks`."""
    user = os.getuid() if os.name == "posix" else ""  # elsewhere the folder of temporary files is the user's own
    folder = Path(tempfile.gettempdir()) / f"tracing-utils-gpus-{user}-{os.environ.get('SLURM_JOB_ID', '')}"
    folder.mkdir(mode=0o700, exist_ok=True)
    files = {name: FileLock(folder / f"{re.sub('[^A-Za-z0-9-]', '_', name)}.lock", timeout=0) for name in names}
    while True:
        for name, file in files.items():
            try:
                locks.enter_context(file)
            except Timeout:
                continue
            return name
        time.sleep(_WAIT)
