"""Two runs at once: of one study, the second is refused; of two studies, both complete."""

import signal

import pytest
from program import gone, wait_for

fault = pytest.mark.fault
pytestmark = pytest.mark.long


@fault("together", "two runs of one study", "the same command twice at once", "the second is refused; the first completes")
def test_a_second_run_of_one_study_is_refused_and_the_first_completes(program, undisturbed, outcome):
    first = program.start()
    wait_for(program.kernel, first)
    code, said = program.run()
    assert code == 2
    assert "One run of a study at a time: another run of small is under way." in said
    told = program.sentence()
    assert first.wait() == 0
    assert program.tables() == undisturbed
    outcome(f"{told} The first completed.")


@fault("together", "two studies", "two studies in one project at once", "both complete as if each were alone")
def test_two_studies_at_once_both_complete(program, undisturbed, outcome):
    program.study("other", experiments=["probing"])
    first = program.start()
    second, said = program.run("run", "--study", "other.yml", "--cores", "2")
    assert (first.wait(), second) == (0, 0), said
    assert program.tables() == undisturbed
    other = program.tables("other")
    assert {name: other[name] for name in other if name.endswith(".csv")} == {
        name: undisturbed[name] for name in undisturbed if name.endswith(".csv")
    }
    outcome("both completed; the results are those of a run alone, byte by byte")


@fault("together", "a run that starts while a killed one still works", "SIGKILL of the command and of all that watches it", "")
def test_what_an_earlier_run_left_at_work_is_ended_before_anything_is_written(program, undisturbed, outcome):
    run = program.start()
    wait_for(program.kernel, run)
    job = program.job("notebook")
    for process in program.processes():  # stopped, none of them can see that the run is gone
        process.send_signal(signal.SIGSTOP)
    run.kill()
    run.wait()
    assert not gone(program, 2)
    code, said = program.run()
    assert code == 0, said
    assert "of a run that was killed were still at work, and were ended" in said
    assert not job.is_running()
    assert program.tables() == undisturbed
    outcome(said.splitlines()[0], expected="the next run ends them first; the results are the same")
