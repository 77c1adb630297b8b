"""Stopped by its user, by the system, or by a kill: one sentence, nothing left at work, and the same command continues."""

import random
import signal
import subprocess
import time

import pytest
from program import STOPPED, gone, kill, wait_for

KILLS = 20

fault = pytest.mark.fault


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("SIGINT", marks=fault("stopped", "Ctrl-C", "SIGINT while a notebook runs", "a sentence, exit code 130")),
        pytest.param(
            "SIGTERM",
            marks=[fault("stopped", "SIGTERM", "SIGTERM while a notebook runs", "a sentence, exit code 130"), pytest.mark.long],
        ),
    ],
)
def test_a_stopped_run_says_so_once_and_leaves_nothing_at_work(name, program, outcome):
    run = program.start()
    wait_for(program.kernel, run)
    run.send_signal(getattr(signal, name))
    code = run.wait(timeout=120)
    assert code == 130, program.said()
    assert program.said().endswith(STOPPED)
    assert "Traceback" not in program.said()
    assert gone(program, 0)
    outcome(f"exit code 130: {program.sentence()} Nothing was left at work.")


@pytest.mark.long
@fault("stopped", "Ctrl-C, then the same command", "Ctrl-C while a notebook runs, then the same command", "the same results")
def test_a_stopped_run_is_continued_by_the_same_command(program, undisturbed, outcome):
    run = program.start()
    wait_for(program.kernel, run)
    run.send_signal(signal.SIGINT)
    assert run.wait(timeout=120) == 130
    code, said = program.run()
    assert code == 0, said
    assert program.tables() == undisturbed
    assert "activations of" not in said  # they were finished
    outcome("completed; the results are the same, byte by byte")


@pytest.mark.long
@fault("stopped", "kill -9 of the command alone", "SIGKILL of the command while a notebook runs", "all it started ends too")
def test_what_a_killed_run_started_ends_with_it(program, outcome):
    run = program.start()
    wait_for(program.kernel, run)
    assert len(program.processes()) >= 3  # Snakemake, a job, a kernel
    run.kill()
    run.wait()
    begun = time.monotonic()
    assert gone(program)
    outcome(f"nothing was left at work {time.monotonic() - begun:.1f} seconds later")


@pytest.mark.long
@pytest.mark.parametrize(
    "alone",
    [
        pytest.param(True, marks=fault("stopped", "kill -9 of the command, again and again", "", "")),
        pytest.param(False, marks=fault("stopped", "kill -9 of everything, again and again", "", "")),
    ],
    ids=["alone", "everything"],
)
def test_a_run_that_is_killed_at_random_moments_is_always_continued_by_the_same_command(
    alone, program, traced_once, undisturbed, outcome
):
    chance, kills, length = random.Random(f"kill {alone}"), KILLS // 2, traced_once.seconds
    done, completed, places = 0, 0, []
    while done < kills:
        run = program.start()
        try:
            run.wait(chance.uniform(0, length))
        except subprocess.TimeoutExpired:
            done += 1
            kill(run, *([] if alone else program.processes()))
            run.wait()
            places.append(len(program.jobs_finished()))
            continue
        assert run.returncode == 0, program.said()
        assert program.tables() == undisturbed
        assert set(program.jobs_finished().values()) == {1}  # none twice
        completed += 1
        program.forget()
    code, said = program.run()
    assert code == 0, said
    assert program.tables() == undisturbed
    assert set(program.jobs_finished().values()) == {1}
    whom = "the command" if alone else "the command and all it started"
    outcome(
        f"killed when {', '.join(map(str, places))} of {len(program.jobs_finished())} jobs were finished; completed with the "
        "same results, byte by byte; no finished job was run again",
        done=f"SIGKILL of {whom} at {kills} random moments of a run of {length:.0f} s, each time followed by the same command",
        expected="it completes with the same results and repeats only what was unfinished",
    )
