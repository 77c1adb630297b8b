"""Start a module from a process that has imported the libraries already: `python -m tracing_utils.run.warm -m MODULE WORD ...`.

Rule: imported beforehand are other people's libraries alone. This package's own code, which somebody may edit while a run is at
work, is read by each process itself, as its key is. Where no server takes the module, it is run here, as if this were not there.
"""

import json
import os
import runpy
import signal
import socket
import struct
import sys
from contextlib import contextmanager, suppress
from select import select

# ruff: noqa: PLC0415 - whoever asks waits for no import that only the server needs

__all__ = ["LIBRARIES", "server"]

LIBRARIES = (
    "numpy", "pandas", "scipy.stats", "sklearn.linear_model", "sklearn.model_selection", "sklearn.feature_extraction.text",
    "sklearn.discriminant_analysis", "sklearn.neighbors", "sklearn.pipeline", "sklearn.tree", "safetensors.numpy", "torch",
    "tokenizers.trainers", "transformers.modeling_utils", "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto", "transformers.models.llama.modeling_llama",
    "altair", "vl_convert", "docutils.nodes", "pydantic.dataclasses", "pydantic.type_adapter", "jaxtyping", "jupytext",
    "papermill", "nbclient", "ipykernel.kernelapp", "ipykernel.ipkernel",
)  # fmt: skip
"""What the jobs and notebooks of a run import, as far as it takes long."""

_SERVER = "TRACING_UTILS_WARM"  # the name of the run's server
_TURN = 0.5  # seconds between two looks whether the parent is still there
_FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def server(environment: dict[str, str]):
    """Within, a server forks what is asked of it; yield the environment in which it is found. Only Linux has one."""
    if sys.platform != "linux":
        yield environment
        return
    import subprocess

    # A name that is no file: it needs no short folder, and it is gone with its server.
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind("\0" + (name := f"tracing-utils-{os.urandom(16).hex()}"))
        listener.listen(128)
        command = [sys.executable, "-m", __name__, "--serve", str(listener.fileno())]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, env=environment, pass_fds=[listener.fileno()], start_new_session=True, **quiet)
    try:
        yield environment | {_SERVER: name}
    finally:
        process.terminate()
        process.wait()


def _own() -> dict[str, str]:
    """Return what must be the same here and in the server: the interpreter, and where this package lies."""
    return {"python": sys.executable, "prefix": sys.prefix, "package": os.path.realpath(__file__)}


def _asked(words: list[str]) -> int | None:
    """Let the server run a module, and wait for its end; return its exit code, None if no server took it.

    Signals go on to it. It ends if this process ends, and this one with its own parent.
    """
    if sys.platform != "linux" or not (name := os.environ.get(_SERVER)):
        return None
    parent, connection = os.getppid(), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    request = _own() | {"words": words, "cwd": os.getcwd(), "path": sys.path, "environment": dict(os.environ)}  # noqa: PTH109
    try:
        connection.connect("\0" + name)
        if not _same_user(connection):
            return None
        socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
    except OSError:
        return None
    # From here on, lest a signal between the start and this line end us alone.
    numbers = [getattr(signal, each) for each in _FORWARDED]
    before = [signal.getsignal(number) for number in numbers]
    for number in numbers:
        _forward(number, connection)
    started = b""
    with suppress(OSError):
        started = connection.recv(1)  # comes as soon as it has been started
    if not started:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        return None
    connection.settimeout(_TURN)
    while True:
        try:
            status = connection.recv(16)
            break
        except TimeoutError:
            if os.getppid() != parent:
                os._exit(1)
        except OSError:
            status = b""
            break
    code = os.waitstatus_to_exitcode(int(status)) if status else -signal.SIGKILL  # without a word the server was killed
    if code < 0:  # end as it did
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def _forward(number: int, connection: socket.socket) -> None:
    """Send a signal on from now, unless it is ignored here, as under nohup."""

    def send(*_) -> None:
        with suppress(OSError):
            connection.send(bytes([number]))

    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, send)


def _same_user(connection: socket.socket) -> bool:
    _pid, user, _group = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return user == os.getuid()


def _serve(listener: socket.socket) -> list[str]:
    """Fork a child for each request until SIGTERM or the parent's end; return in each child its module and words."""
    parent, callers, ending = os.getppid(), {}, False
    woken, wake = socket.socketpair()
    for end in (woken, wake):
        end.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    for each in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: None)
    while callers or not ending:
        ready, _, _ = select([woken, *([] if ending else [listener]), *callers.values()], [], [], _TURN)
        if os.getppid() != parent:
            for pid in callers:
                _signal(pid, signal.SIGKILL)
            break
        if woken in ready:
            ending = ending or signal.SIGTERM in woken.recv(4096)
        for pid, caller in list(callers.items()):
            if caller in ready:
                _signal(pid, _received(caller) or signal.SIGKILL)  # whoever asked is gone
        _reap(callers)
        if listener in ready and (words := _accept(listener, callers)):
            for each in (listener, woken, wake, *callers.values()):
                each.close()
            return words
    os._exit(0)


def _received(caller: socket.socket) -> int:
    """Return the signal that a caller sent, 0 if it is gone."""
    with suppress(OSError):
        if got := caller.recv(1):
            return got[0]
    return 0


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _reap(callers: dict[int, socket.socket]) -> None:
    """Tell the callers of all children that have ended how they ended."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            with suppress(OSError), callers.pop(ended[0]) as caller:
                caller.send(str(ended[1]).encode())


def _accept(listener: socket.socket, callers: dict[int, socket.socket]) -> list[str]:
    """Fork for one request; return its words in the child. Whoever is refused sees the connection closed."""
    (caller, _), files = listener.accept(), []
    try:
        request, files, *_ = socket.recv_fds(caller, 1 << 22, 3)
        asked = json.loads(request)
        if not (_same_user(caller) and _own().items() <= asked.items() and _import_all(asked["environment"])):
            raise ValueError
    except (OSError, ValueError):
        caller.close()
        for file in files:  # held open here, the caller's reader would wait for ever
            os.close(file)
        return []
    server = os.getpid()
    if pid := os.fork():
        with suppress(OSError):  # the child may have ended
            os.setpgid(pid, pid)
        callers[pid] = caller
        with suppress(OSError):
            caller.send(b"+")
        for file in files:
            os.close(file)
        return []
    caller.close()
    _become(asked, files, server)
    return asked["words"]


def _import_all(environment: dict[str, str]) -> bool:
    """Import the libraries in the environment of the first job; return whether this process may be forked."""
    if "torch" not in sys.modules:
        import gc
        import importlib

        os.environ.clear()
        os.environ.update(environment)  # how many threads and which GPUs there are is read by imports
        os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"  # pandas' Arrow would start a thread
        for name in LIBRARIES:
            with suppress(Exception):  # who needs it will say what is wrong with it
                importlib.import_module(name)
        if "pandas" in sys.modules:
            sys.modules["pandas"].options.display.max_columns = 20  # as pandas has it where a notebook imports it
        gc.collect()
        gc.freeze()  # else the children's collections would copy what they share
    return _forkable()


def _forkable() -> bool:
    """Return whether this process has one thread, as a child would lack the others, and no GPU, which a child could not use."""
    opened = []
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with suppress(OSError):  # the folder itself, closed again
            opened.append(os.readlink(f"/proc/self/fd/{number}"))  # noqa: PTH115
    return len(os.listdir("/proc/self/task")) == 1 and not any(name.startswith("/dev/nvidia") for name in opened)  # noqa: PTH208


def _become(asked: dict, files: list[int], server: int) -> None:
    """Take over what a process started anew would have of its caller: files, folder, environment, signals, chance."""
    import ctypes

    os.setpgid(0, 0)
    system = ctypes.CDLL(None)
    system.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the server
    system.prctl(15, asked["words"][0].rpartition(".")[2].encode())  # PR_SET_NAME: what `top` shows
    if os.getppid() != server:
        os._exit(1)
    signal.set_wakeup_fd(-1)
    for each in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(each, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.path[:] = asked["path"]
    sys.modules["numpy"].random.seed()  # Python seeds its own anew
    sys.modules["torch"].seed()


def main(words: list[str]) -> None:
    """Run a module as `python -m` does, by the run's server or here."""
    if forked := words[0] == "--serve":
        words = _serve(socket.socket(fileno=int(words[1])))
    elif (code := _asked(words := words[1:])) is not None:
        sys.exit(code)
    sys.argv[:] = words  # the first of them becomes the module's file
    code = None
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if not forked or not isinstance(code := end.code, int | None):
            raise
    if forked:
        _end(code or 0)


def _end(code: int) -> None:
    """End as Python does, but do not take the libraries apart: for most jobs that takes longer than all else."""
    import atexit
    import ctypes
    import gc
    import io
    import threading

    threading._shutdown()
    atexit._run_exitfuncs()
    left = [each for each in gc.get_objects() if isinstance(each, io.TextIOWrapper | io.BufferedWriter | io.BufferedRandom)]
    for file in sorted(left, key=lambda each: not isinstance(each, io.TextIOWrapper)):  # texts first, which write to the others
        with suppress(Exception):  # closed, or nobody reads any more
            file.flush()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # as on a full disk; Python ends with 120, too
            code = code or 120
    ctypes.CDLL(None).fflush(None)
    os._exit(code & 0xFF)


if __name__ == "__main__":
    main(sys.argv[1:])
