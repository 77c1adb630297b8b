"""What a run starts carries its mark, is found by it, and ends with it; other processes are left alone."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tracing_utils.run import processes

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = [
    sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)",
]  # fmt: skip


@pytest.fixture
def start():
    """Return a function that starts a process, and end it afterwards."""
    started = []

    def begin(command, **more) -> subprocess.Popen:
        started.append(subprocess.Popen(command, **more))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def test_what_carries_the_mark_of_a_folder_is_ended_and_nothing_else(start, tmp_path):
    mine = [start(SLEEPER, env=processes.marked(tmp_path / "a")) for _ in range(2)]
    others = [start(SLEEPER, env=processes.marked(tmp_path / "ab")), start(SLEEPER)]
    assert processes.end(tmp_path / "a") == 2
    assert all(process.poll() is not None for process in mine)
    assert [process.poll() for process in others] == [None, None]
    assert processes.end(tmp_path / "a") == 0


def test_what_does_not_end_when_asked_is_killed(start, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_PATIENCE", 0.3)
    process = start(STUBBORN, env=processes.marked(tmp_path), stdout=subprocess.PIPE)
    process.stdout.readline()  # the signal is ignored from here on
    assert processes.end(tmp_path) == 1
    assert process.poll() is not None


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_stops_the_command_once_and_is_as_before_afterwards(name):
    each = getattr(signal, name)
    before = signal.getsignal(each)
    with pytest.raises(KeyboardInterrupt), processes.stoppable():
        try:
            os.kill(os.getpid(), each)
            time.sleep(5)
        finally:
            for again in (signal.SIGINT, signal.SIGTERM):
                os.kill(os.getpid(), again)  # would break the clearing up
    assert signal.getsignal(each) == before


def test_a_signal_that_was_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with processes.stoppable():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


WATCHED = """
import subprocess, sys, time
from pathlib import Path
from tracing_utils.run import processes
processes.end_with_run()
below = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(below.pid, flush=True)
time.sleep(60)
"""
BETWEEN = """
import subprocess, sys, time
job = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
print(job.pid, flush=True)
time.sleep(60)
"""
RUN = """
import subprocess, sys, time
from pathlib import Path
from tracing_utils.run import processes
between = subprocess.Popen([sys.executable, "-c", *sys.argv[1:]], env=processes.marked(Path("/a/folder")))
print(between.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("killed", ["run", "between"])
def test_a_job_ends_with_all_below_it_when_its_run_or_what_is_between_is_killed(start, killed):
    run = start([sys.executable, "-c", RUN, BETWEEN, WATCHED], stdout=subprocess.PIPE)
    left = [psutil.Process(int(run.stdout.readline())) for _ in range(3)]
    assert all(process.is_running() for process in left)
    (run if killed == "run" else left.pop(0)).kill()
    if killed == "run":
        run.wait()
        left.pop(0).kill()  # it watches nothing
    gone, alive = psutil.wait_procs(left, timeout=10)
    assert (len(gone), alive) == (2, [])


def test_a_job_whose_run_is_none_of_its_ancestors_goes_on(start):
    stranger = start(SLEEPER)  # a process of that number on the machine a cluster chose
    environment = os.environ | {"TRACING_UTILS_RUN": f"{stranger.pid}:/a/folder"}
    job = start([sys.executable, "-c", WATCHED], env=environment, stdout=subprocess.PIPE)
    below = psutil.Process(int(job.stdout.readline()))
    stranger.kill()
    stranger.wait()
    time.sleep(1.5)
    assert job.poll() is None
    below.kill()
