"""A part of a run ends badly: it is said which and why, what was finished stays, and the same command completes."""

import os
import signal

import pytest
from program import wait_for

fault = pytest.mark.fault
pytestmark = pytest.mark.long


def failed(program) -> str:
    code, said = program.run()
    assert code == 2, said
    assert "Traceback" not in said
    return said


def completes(program, undisturbed) -> None:
    code, said = program.run()
    assert code == 0, said
    assert program.tables() == undisturbed


@pytest.fixture
def planted(program):
    """A program whose notebook does something bad as long as a file `bad` is there; returns how to plant it."""

    def plant(cell: str) -> None:
        program.plant(f"from pathlib import Path\nif Path('bad').exists():\n    {cell}")
        (program.folder / "bad").touch()

    return plant


@fault("ended", "a killed kernel", "SIGKILL of a notebook's kernel", "a sentence; the rerun completes")
def test_a_killed_kernel_is_told_and_the_rerun_completes(program, undisturbed, outcome):
    run = program.start()
    wait_for(program.kernel, run).send_signal(signal.SIGKILL)
    assert run.wait() == 2
    assert "probing (step64) failed: its kernel died" in program.said()
    assert not program.finished()
    told = next(line for line in program.said().splitlines() if "its kernel died" in line)
    completes(program, undisturbed)
    outcome(f"{told.replace(f'{program.folder}/', '')} The rerun completed.")


@fault("ended", "a killed worker", "SIGKILL of the job that runs a notebook", "a sentence; the rerun completes")
def test_a_killed_job_is_told_and_the_rerun_completes(program, undisturbed, outcome):
    run = program.start()
    wait_for(program.kernel, run)
    program.job("notebook").send_signal(signal.SIGKILL)
    assert run.wait() == 2
    told = next(line for line in program.said().splitlines() if "killed" in line)
    assert "probing step64" in told
    completes(program, undisturbed)
    outcome(f"{told} The rerun completed.")


@fault("ended", "killed Snakemake", "SIGKILL of the scheduler", "a sentence; nothing is left at work; the rerun completes")
def test_a_killed_scheduler_is_told_and_the_rerun_completes(program, undisturbed, outcome):
    run = program.start()
    wait_for(program.kernel, run)
    program._process("snakemake").send_signal(signal.SIGKILL)
    assert run.wait() == 2
    assert not program.processes()
    told = next(line for line in program.said().splitlines() if "killed" in line)
    completes(program, undisturbed)
    outcome(f"{told.replace(f'{program.folder}/', '')} The rerun completed.")


@fault("ended", "a cell that hangs", "a cell that never ends, and `cell_timeout: 180`", "a sentence; the rerun completes")
def test_a_cell_that_hangs_is_ended_and_told(program, planted, undisturbed, outcome):
    program.study(experiments=["probing"], cell_timeout=180)
    planted("import time; time.sleep(10_000)")
    said = failed(program)
    told = next(line for line in said.splitlines() if "a cell must end within 180 seconds" in line)
    (program.folder / "bad").unlink()
    completes(program, undisturbed)
    outcome(f"{told.replace(f'{program.folder}/', '')} The rerun completed.")


@fault(
    "ended", "memory runs out in a notebook", "a limit on memory, and a cell that wants more", "a sentence; the rerun completes"
)
def test_a_notebook_that_runs_out_of_memory_is_told(program, planted, undisturbed, outcome):
    planted("import resource, numpy; resource.setrlimit(resource.RLIMIT_AS, (2**33, -1)); numpy.ones(2**32)")
    said = failed(program)
    told = next(line for line in said.splitlines() if "probing (step64) failed" in line)
    assert "MemoryError" in told
    assert "GiB" in told
    (program.folder / "bad").unlink()
    completes(program, undisturbed)
    outcome(f"{told.replace(f'{program.folder}/', '')} The rerun completed.")


@fault(
    "ended",
    "the system takes a kernel for its memory",
    "a group of processes with 1 GB, and a cell that wants more",
    "a sentence",
)
def test_a_kernel_that_the_system_kills_for_its_memory_is_told(program, planted, undisturbed, outcome, tmp_path):
    group = f"/sys/fs/cgroup/memory/faults-{os.getpid()}"
    try:
        os.mkdir(group)  # noqa: PTH102
    except OSError:
        pytest.skip("groups of processes with a limit of memory can be made by root only, and are not here")
    try:
        planted(
            f"Path('{group}/memory.limit_in_bytes').write_text(str(2**30)); "
            f"Path('{group}/cgroup.procs').write_text(str(__import__('os').getpid())); bytearray(2**32)"
        )
        said = failed(program)
        told = next(line for line in said.splitlines() if "probing (step64) failed" in line)
        assert "its kernel died; the system kills what takes too much memory" in told
    finally:
        os.rmdir(group)  # noqa: PTH106
    (program.folder / "bad").unlink()
    completes(program, undisturbed)
    outcome(f"{told.replace(f'{program.folder}/', '')} The rerun completed.")
