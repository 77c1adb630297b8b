"""What a run starts ends with it: the processes of a run are marked, and none outlives it.

Rule: all that a run starts inherits a mark in its environment. By it the run ends what it started; a job that loses its
run ends itself; and where even that failed, the next run of the study ends what still works before it writes anything.
"""

import errno
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from ..core.errors import brief
from ..core.paths import PROJECT

__all__ = ["end", "end_with_run", "exit_code", "marked", "stoppable"]

_MARK = "TRACING_UTILS_RUN"  # the run's process id and folder
_PATIENCE = 5.0  # seconds between asking a process to end and ending it


def marked(folder: Path) -> dict[str, str]:
    """Return the environment for what the run of this folder starts."""
    return os.environ | {_MARK: f"{os.getpid()}:{folder}"}


@contextmanager
def stoppable() -> Iterator[None]:
    """Within, SIGTERM and a closed terminal do what Ctrl-C does: raise `KeyboardInterrupt`; what comes after it is ignored."""

    def stop(*_) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_IGN)  # the clearing up is short, and must not be stopped half way
        raise KeyboardInterrupt

    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    signals = [each for name in names if signal.getsignal(each := getattr(signal, name)) is not signal.SIG_IGN]  # nohup
    before = {each: signal.signal(each, stop) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _of_run(folder: Path) -> list[psutil.Process]:
    """Return the processes that runs of this folder started, apart from this one."""
    started = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # gone since, or another user's
            mark = process.environ().get(_MARK, "")
            if mark.partition(":")[2] == str(folder) and process.pid != os.getpid():
                started.append(process)
    return started


def end(folder: Path) -> int:
    """End what runs of this folder started: ask, wait some seconds, then kill; return how many there were."""
    started = _of_run(folder)
    for process in started:
        with suppress(psutil.Error):
            process.terminate()
    psutil.wait_procs(started, timeout=_PATIENCE)
    for process in (left := _of_run(folder)):  # what was started meanwhile too
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=_PATIENCE)
    return len(started)


def end_with_run() -> None:
    """Let this process, and all below it, end as soon as its run, or what stands between them, is gone; else do nothing."""
    pid = int(os.environ.get(_MARK, "0").partition(":")[0])
    above = psutil.Process().parents()
    # On another machine, where a cluster runs the job, the run is none of its ancestors: there the cluster sees to it.
    if place := next((place for place, process in enumerate(above, 1) if process.pid == pid), None):
        threading.Thread(target=_watch, args=(above[:place],), daemon=True).start()


def _watch(above: list[psutil.Process]) -> None:
    with suppress(psutil.NoSuchProcess):
        while all(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in above):
            time.sleep(0.5)
    with suppress(psutil.Error):
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                process.kill()
    os._exit(1)


def exit_code(name: str, work: Callable[[], int | None]) -> int:
    """Do the work of a command or job, and end with its run; return its exit code, and print why it failed to stderr.

    Returns:
        What the work returns, or 0; 2 after a caller's mistake or what the machine lacks, with one sentence; 1 after what
        nobody foresaw, with where it happened and one sentence; 130 when it was stopped; 141 when nobody reads its output.
    """
    end_with_run()
    warnings.formatwarning = _in_words
    try:
        with stoppable():
            code = work() or 0
            sys.stdout.flush()
            return code
    except (ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains as it ends
        return 141
    except (OSError, MemoryError) as error:
        print(f"error: {_machine_error(error, name)} What was finished is kept; the same command continues.", file=sys.stderr)
        return 2
    except Exception as error:
        traceback.print_exc()
        said = " ".join(str(error).split())
        print(f"error: `{name}` failed, as nobody foresaw: {type(error).__name__}{f': {said}' if said else ''}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped; what was finished is kept; the same command continues.", file=sys.stderr)
        return 130


_format = warnings.formatwarning


def _in_words(message: Warning | str, category: type, file: str, *place) -> str:
    """Return a warning of this package as one line, `warning: ...`, which a run passes on."""
    own = file.startswith(str(PROJECT / "tracing_utils"))
    return f"warning: {message}\n" if own else _format(message, category, file, *place)


def _machine_error(error: OSError | MemoryError, name: str) -> str:
    """Return one sentence on what the machine did not give to a command or job."""
    if isinstance(error, MemoryError):
        return f"`{name}` needs more memory than there is ({error})."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full: `{name}` could not write {error.filename or 'what it computed'}. Free some space."
    return f"`{name}` failed: {error.strerror or error}{f', {brief(error.filename)}' if error.filename else ''}."
