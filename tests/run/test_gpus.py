"""Each process that runs a model has a GPU of its own, and a killed one gives it back: real processes, pretended GPUs."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from tracing_utils.run import gpus

HOLD = """
import os, subprocess, sys, time
from tracing_utils.run import gpus
with gpus.reserved() as name:
    child = subprocess.check_output([sys.executable, "-c", "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'))"], text=True)
    print(name, child.strip(), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a process which reserves a GPU, prints which, and holds it until its input is closed."""
    with ExitStack() as running:

        def build(**environment) -> subprocess.Popen:
            here = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
            environment = {"CUDA_VISIBLE_DEVICES": "3,5", "TMPDIR": str(tmp_path)} | environment
            process = subprocess.Popen(
                [sys.executable, "-c", HOLD], env=here | environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            running.enter_context(process)
            running.callback(process.kill)
            return process

        yield build


def told(process: subprocess.Popen) -> list[str]:
    """Return the GPU a process has and the one that a process it started sees."""
    return process.stdout.readline().split()


def waits(process: subprocess.Popen, seconds: float = 1.5) -> bool:
    os.set_blocking(process.stdout.fileno(), False)
    time.sleep(seconds)
    nothing = not process.stdout.buffer.peek()
    os.set_blocking(process.stdout.fileno(), True)
    return nothing and process.poll() is None


def test_two_processes_have_a_gpu_each_and_a_third_waits_until_one_is_killed(start):
    first = start()
    assert told(first) == ["3", "3"]
    second = start()
    assert told(second) == ["5", "5"]
    third = start()
    assert waits(third)
    os.kill(second.pid, signal.SIGKILL)
    assert told(third) == ["5", "5"]
    fourth = start()
    assert waits(fourth, 0.8)
    first.stdin.close()  # an end like any other
    assert told(fourth) == ["3", "3"]


def test_two_jobs_of_slurm_that_number_their_gpus_from_0_do_not_wait_for_each_other(start):
    first = start(CUDA_VISIBLE_DEVICES="0", SLURM_JOB_ID="71")
    assert told(first) == ["0", "0"]
    assert told(start(CUDA_VISIBLE_DEVICES="0", SLURM_JOB_ID="72")) == ["0", "0"]
    assert waits(start(CUDA_VISIBLE_DEVICES="0", SLURM_JOB_ID="71"))


def test_without_a_gpu_nothing_is_reserved_and_nothing_changes(start):
    assert told(start(CUDA_VISIBLE_DEVICES="")) == ["None"]
    assert told(start(CUDA_VISIBLE_DEVICES="")) == ["None"]


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ("0,1,2,3", ["0", "1", "2", "3"]),
        ("2, 0", ["2", "0"]),
        ("0,-1,1", ["0"]),
        ("", []),
        ("NoDevFiles", []),
        ("GPU-8932f937-d72c,MIG-4a1b/1/0", ["GPU-8932f937-d72c", "MIG-4a1b/1/0"]),
    ],
)
def test_the_gpus_are_those_that_cuda_reads_off_its_list(monkeypatch, named, found):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert gpus.visible() == found


def test_without_a_list_the_driver_is_asked(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.visible() == []
    driver = tmp_path / "nvidia-smi"
    lines = ("GPU 0: NVIDIA A100 (UUID: GPU-5c)", "  MIG 1g.5gb Device 0: (UUID: MIG-1)", "GPU 1: NVIDIA A100 (UUID: GPU-6d)")
    driver.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    driver.chmod(0o755)
    assert gpus.visible() == ["0", "1"]


def test_the_choice_is_as_before_afterwards(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    with gpus.reserved() as name:
        assert os.environ["CUDA_VISIBLE_DEVICES"] == name == "4"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,6"
