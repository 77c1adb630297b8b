"""What is forked from the server of a run is as if it had been started anew, ends as it would, and reads our code itself."""

import ast
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tracing_utils.core.paths import PROJECT
from tracing_utils.experiments import notebook
from tracing_utils.run import runner, studies, warm

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the server")

TOLD = """
import os, random, sys
forked = "torch" in sys.modules
import numpy, torch
if sys.argv[1] == "chance":
    print(forked, numpy.random.random(), random.random(), torch.rand(1).item())
elif sys.argv[1] == "sleep":
    import signal, subprocess, time
    below = subprocess.Popen(["sleep", "60"])
    print(os.getpid(), below.pid, flush=True)
    signal.signal(signal.SIGTERM, lambda *_: (print("asked to end", flush=True), below.kill(), sys.exit(7)))
    time.sleep(60)
else:
    print(sys.argv[1:], os.path.basename(sys.argv[0]), __name__, os.getcwd())
    print(sys.path, sorted(os.environ), torch.get_num_threads())
    print("forked" if forked else "started", len(os.listdir("/proc/self/task")), file=sys.stderr)
    print(sys.stdin.read())
    import atexit, threading, time
    left_open = open("left open", "w")
    left_open.write("what was written")
    atexit.register(print, "said at the end")
    threading.Thread(target=lambda: (time.sleep(0.2), print("said by a thread"))).start()
    sys.exit(3)
"""


@pytest.fixture
def start(tmp_path):
    """Return a function that starts the module `told` by way of `warm` in an environment, and end it afterwards."""
    (tmp_path / "told.py").write_text(TOLD)
    started = []

    def begin(environment, *words, package=PROJECT) -> subprocess.Popen:
        command = [sys.executable, "-m", warm.__name__, "-m", "told", *words]
        here = environment | {"PYTHONPATH": f"{package}:{tmp_path}"}
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        started.append(subprocess.Popen(command, env=here, cwd=tmp_path, text=True, **pipes))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def test_a_forked_module_has_the_words_the_files_the_folder_and_the_environment_of_its_caller_and_gives_its_exit_code(
    server_of_kernels, start, tmp_path
):
    alone = {key: value for key, value in server_of_kernels.items() if key != "TRACING_UTILS_WARM"}
    ways = {}
    for name, environment in {"forked": server_of_kernels, "started": alone | {"TRACING_UTILS_WARM": "nobody"}}.items():
        process = start(environment, "a word", "-f")
        ways[name] = (*process.communicate("what was typed"), process.returncode)
        assert (tmp_path / "left open").read_text() == "what was written"
        (tmp_path / "left open").unlink()
    assert ways["forked"][1] == "forked 1\n"  # one thread
    assert ways["started"][1].startswith("started")
    assert ways["forked"][0] == ways["started"][0]
    assert "['a word', '-f'] told.py __main__" in ways["forked"][0]
    assert ways["forked"][0].endswith("what was typed\nsaid by a thread\nsaid at the end\n")
    assert ways["forked"][2] == ways["started"][2] == 3


def test_no_two_have_the_same_chance(server_of_kernels, start):
    first, second = (start(server_of_kernels, "chance").communicate()[0].split() for _ in range(2))
    assert first[0] == second[0] == "True"
    assert not set(first[1:]) & set(second[1:])


def test_code_that_was_changed_since_the_server_began_is_read(server_of_kernels, start, tmp_path):
    assert "changed" not in start(server_of_kernels, "chance").communicate()[0]
    (tmp_path / "told.py").write_text("print('changed')")
    assert start(server_of_kernels, "chance").communicate()[0] == "changed\n"


def test_a_copy_of_the_package_is_not_run_by_the_server_of_another(server_of_kernels, start, tmp_path):
    for name in ("__init__.py", "run/__init__.py", "run/warm.py"):
        (to := tmp_path / "copy" / "tracing_utils" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / "tracing_utils" / name, to)
    assert start(server_of_kernels, "chance").communicate()[0].startswith("True")
    assert start(server_of_kernels, "chance", package=tmp_path / "copy").communicate()[0].startswith("False")


def _at_work(process: subprocess.Popen) -> list[psutil.Process]:
    return [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]


def test_a_killed_caller_ends_what_it_asked_for_and_all_below_it(server_of_kernels, start):
    process = start(server_of_kernels, "sleep")
    forked, below = _at_work(process)
    assert psutil.Process(process.pid) not in forked.parents()
    assert forked.is_running()
    process.kill()
    assert psutil.wait_procs([below], timeout=5)[1] == []
    until = time.monotonic() + 5
    while forked.is_running() and time.monotonic() < until:
        time.sleep(0.05)
    assert not forked.is_running()


def test_a_signal_to_the_caller_reaches_what_it_asked_for_and_a_killed_child_is_a_killed_caller(server_of_kernels, start):
    asked, killed = start(server_of_kernels, "sleep"), start(server_of_kernels, "sleep")
    for process in (asked, killed):
        process.forked, process.below = _at_work(process)
    asked.terminate()
    assert asked.communicate()[0] == "asked to end\n"
    assert asked.returncode == 7
    killed.forked.kill()
    assert killed.wait(timeout=5) == -signal.SIGKILL
    killed.below.kill()


def test_with_its_server_a_child_ends_and_the_next_is_started_anew(start):
    with warm.server(dict(os.environ)) as environment:
        process = start(environment, "sleep")
        forked, below = _at_work(process)
        forked.parent().kill()
        assert process.wait(timeout=5) == -signal.SIGKILL
        assert psutil.wait_procs([forked], timeout=5)[1] == []
        below.kill()
        assert start(environment, "chance").communicate()[0].startswith("False")


def test_a_notebook_leaves_the_same_bytes_forked_and_started(
    server_of_kernels, suite_folder, own_statements, tmp_path, monkeypatch
):
    options = {"probing": {"seeds": 1, "protocols": ["corrected"]}}
    study = studies.Study("s", str(suite_folder), (str(own_statements),), dimensions=("privacy",), options=options)
    source = tmp_path / "probing.md"
    text = notebook.path("probing").read_text()
    source.write_text(text.replace("vega.enable()", "vega.enable()\nprint(open('/proc/self/comm').read())", 1))
    values = studies.parameters(study, own_statements.name, "probing", "step1")
    monkeypatch.setenv("PYTHONWARNINGS", "ignore:IProgress not found")  # as the job of a notebook says
    left = {}
    for name in ("forked", "started"):
        monkeypatch.setenv("TRACING_UTILS_WARM", server_of_kernels["TRACING_UTILS_WARM"] if name == "forked" else "")
        out = tmp_path / f"{name}.ipynb"
        runner.execute(source, values | {"output": str(tmp_path / "out.csv")}, out, tmp_path / "failed.ipynb")
        left[name] = out.read_text(), (tmp_path / "out.csv").read_bytes()
    assert "ipykernel_launc" in left["forked"][0]
    assert "ipykernel_launc" not in left["started"][0]
    assert left["forked"][0].replace("ipykernel_launc", "python") == left["started"][0]
    assert left["forked"][1] == left["started"][1]


def test_what_notebooks_import_beyond_our_own_code_has_been_imported(server_of_kernels, start, tmp_path):
    cells = [
        "\n".join(ast.unparse(node) for node in ast.parse(cell.source).body if isinstance(node, ast.Import | ast.ImportFrom))
        for path in (PROJECT / "notebooks").glob("*.md")
        for cell in notebook.source(path.stem).cells
        if cell.cell_type == "code"
    ]
    told = "import sys\nbefore = set(sys.modules)\n" + "\n".join(cells) + "\nfrom tracing_utils.run import runner, jobs\n"
    (tmp_path / "told.py").write_text(told + "print(*(set(sys.modules) - before))")
    new = start(server_of_kernels).communicate()[0].split()
    others = sorted(name for name in new if not name.startswith("tracing_utils"))
    assert len(new) > len(others) + 20
    assert len(others) < 40, others
