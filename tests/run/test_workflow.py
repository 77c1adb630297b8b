"""Snakemake is started where it is said, and whatever fails, the user reads why: real Snakemake on small Snakefiles."""

import os
import re
import shlex
import sys
from pathlib import Path

import pytest
from hub_server import files_of

from tracing_utils.__main__ import main
from tracing_utils.checkpoints import suites
from tracing_utils.checkpoints.hub import HubError
from tracing_utils.core.paths import PROJECT
from tracing_utils.run import gpus, studies, workflow
from tracing_utils.run.workflow import placement

RULE = 'rule a:\n    output: "x"\n'
FAILING = {
    "a Snakefile that raises": ('raise ValueError("planted")\n', "ValueError in file", "line 1: planted."),
    "a Snakefile that is none": (RULE + '    shell "true"\n', "SyntaxError in file", "Colon expected after keyword shell"),
    "an input that nothing makes": (RULE + '    input: "y"\n    shell: "true"\n', "MissingInputException in rule a", "files: y."),
    "a function of a rule that raises": (
        'def key(_):\n    raise ValueError("planted")\n' + RULE + '    params: key=key\n    shell: "true"\n',
        "Snakemake failed: ValueError: planted.",
    ),
    "an output that is not written": (RULE + '    shell: "true"\n', "MissingOutputException", "some output files are missing"),
    "a command that fails without a word": (RULE + '    shell: "false"\n', "CalledProcessError", "exit status 1."),
    "a book with a warning": (
        RULE + f'    shell: "{shlex.quote(sys.executable)} -m sphinx -q -W --keep-going -C . out"\n',
        "index.rst", "WARNING: unknown document: 'absent'",
    ),
}  # fmt: skip


@pytest.fixture
def follow(tmp_path, capsys):
    """Return a function that follows Snakemake over the content of a Snakefile: the exit code, and what was printed."""

    def run(content: str, *options: str) -> tuple[int, str]:
        (tmp_path / "Snakefile").write_text(content)
        (tmp_path / "index.rst").write_text("Title\n=====\n\n:doc:`absent`\n")
        command = [sys.executable, "-m", "snakemake", "-s", str(tmp_path / "Snakefile"), "--directory", str(tmp_path)]
        laptop = ["--cores", "1", "--workflow-profile", str(PROJECT / "profiles" / "laptop"), "--latency-wait", "1"]
        return workflow.follow([*command, *laptop, *options], tmp_path), capsys.readouterr().out

    return run


@pytest.mark.parametrize("case", FAILING)
def test_when_snakemake_fails_its_log_s_last_error_is_the_reason(follow, tmp_path, case):
    content, *words = FAILING[case]
    code, printed = follow(content)
    (line,) = [line for line in printed.splitlines() if line.startswith("error:")]
    assert code == 1
    assert line.startswith("error: Snakemake failed: ")
    for expected in words:
        assert expected in line
    assert line.endswith(f"All it said is in {tmp_path / 'snakemake.log'}.")


def test_an_option_that_snakemake_refuses_is_the_reason(follow):
    code, printed = follow(RULE + '    shell: "touch x"\n', "--cores", "some")
    assert code != 0
    assert "error: Snakemake failed: Error: Error parsing number of cores" in printed


def test_what_a_job_says_is_the_reason_and_nothing_is_added(follow):
    code, printed = follow(RULE + "    shell: \"echo 'error: The floor is wet.' >&2; exit 2\"\n")
    assert code == 1
    assert [line for line in printed.splitlines() if line.startswith("error:")] == ["error: The floor is wet."]


def test_a_warning_of_a_job_is_passed_on_once(follow):
    code, printed = follow(RULE + "    shell: \"for i in 1 2; do echo 'warning: The floor is wet.' >&2; done; touch {output}\"\n")
    assert code == 0
    assert printed.count("warning: The floor is wet.\n") == 1


def test_a_job_that_was_killed_is_named(follow):
    code, printed = follow(RULE + '    shell: "kill -9 $$ # -m tracing_utils.run.jobs notebook of step8"\n')
    assert code == 1
    assert "error: A job was killed, as the system does when memory runs out: notebook of step8\n" in printed


def test_a_run_that_succeeds_has_a_line_a_job_and_no_error_and_the_next_computes_nothing(follow):
    content = RULE + '    message: "the letter"\n    shell: "echo error at the gate; touch x"\n'
    assert follow(content) == (0, "[0/1] the letter\n[1/1] done\n")
    assert follow(content) == (0, "nothing to compute: all results are up to date\n")


def test_the_error_of_a_job_on_a_cluster_is_read_from_its_log(tmp_path):
    (tmp_path / "7.log").write_text("error: The first attempt.\nSomething else\nerror: The last attempt.\nExiting\n")
    line = f"    log: {tmp_path / 'gone.log'}, {tmp_path / '7.log'} (check log file(s) for error details)\n"
    assert workflow._job_errors(line) == ["error: The last attempt."]
    assert workflow._job_errors(line.replace("7.log", "8.log")) == []
    assert workflow._job_errors("    log: 7.log\n") == []


def test_without_an_error_line_the_last_line_of_a_cluster_s_job_is_told(tmp_path):
    (tmp_path / "7.log").write_text("Loading\nslurmstepd: Detected 1 oom_kill event.\n\n")
    line = f"    log: {tmp_path / '7.log'} (check log file(s) for error details)\n"
    assert workflow._job_errors(line) == ["error: slurmstepd: Detected 1 oom_kill event."]


def test_an_error_that_a_module_names_with_dots_is_the_reason():
    log = "zmq.error.ZMQError: the path is too long\nCalledProcessError in file Snakefile:\nCommand 'x' returned 1\n"
    assert workflow._cause(log, 1) == "Snakemake failed: zmq.error.ZMQError: the path is too long."


@pytest.fixture
def on_hub(server, family_checkpoints, tokenizer_folder, own_statements, tmp_path, monkeypatch):
    """Return a builder of studies of a suite on a hub whose chat model's repository is not there, by their experiments."""
    for seed, name in enumerate(("step0", "step8", "main")):
        server.publish("tests/run", name, files_of(family_checkpoints["gpt_neox"].folder, tokenizer_folder, min(seed, 1)))
    entry = {"repository": "tests/run", "chat": "tests/gone", "licence": "none", "about": "for this test"}
    monkeypatch.setattr(suites, "_registry", lambda: {"neox": entry})

    def build(*names: str, **more) -> studies.Study:
        return studies.Study("s", "neox", (str(own_statements),), dimensions=("privacy",), experiments=names, **more)

    return build


def test_a_chat_model_that_nothing_needs_is_not_asked_for(on_hub, server, tmp_path, capsys):
    resolved = studies.read(workflow.write_resolved(on_hub("probing", "mutual_information"), tmp_path))
    assert resolved.runs() == ["mutual_information", "probing"]
    assert resolved.needed() == ["step0", "step8"]
    assert not [path for _, path, _ in server.requests if "gone" in path]
    assert capsys.readouterr().out == ""


def test_a_chat_model_that_is_gone_costs_the_steering_alone_and_that_is_said(on_hub, server, tmp_path, capsys):
    study = on_hub("probing", "steering", featured=("step8", "chat"))
    assert "chat" in study.needed()
    resolved = studies.read(workflow.write_resolved(study, tmp_path))
    assert (resolved.runs(), resolved.needed(), resolved.featured) == (["probing"], ["step0", "step8"], ("step8",))
    (said,) = capsys.readouterr().out.splitlines()
    assert said.startswith("left out, since it needs the chat model, which cannot be had: steering. The hub refused tests/gone")


def test_where_nothing_is_left_or_the_hub_may_give_it_later_the_run_stops(on_hub, server, tmp_path):
    with pytest.raises(HubError, match="refused tests/gone at chat with status 401"):
        workflow.write_resolved(on_hub("steering"), tmp_path)
    server.fail("tests/gone", 429)
    with pytest.raises(HubError, match="limits requests"):
        workflow.write_resolved(on_hub("probing", "steering"), tmp_path)


@pytest.mark.skipif(not Path("/proc/self/fdinfo").is_dir(), reason="no folder that takes no writing, even by root")
def test_a_folder_of_runs_that_takes_no_writing_is_not_taken_for_another_run(
    suite_folder, own_statements, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(workflow, "PROJECT", tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to("/proc/self/fdinfo")
    (tmp_path / "mine.yml").write_text(f"suite: {suite_folder}\nconcepts: {own_statements}\nexperiments: [probing]\n")
    assert main(["run", "--study", str(tmp_path / "mine.yml")]) == 2
    assert re.fullmatch(r"error: `run` failed: [^\n]*runs/mine/\.lock'\. [^\n]*\.\n", capsys.readouterr().err)


def test_a_disk_that_is_full_and_a_kill_are_named_before_what_follows_from_them():
    full = "\x1b[31mOSError: [Errno 28] No space left on device: 'x'\x1b[0m\nWorkflowError:\nAt least one job did not complete.\n"
    assert workflow._cause(full, 1) == "The disk is full: OSError: [Errno 28] No space left on device: 'x'."
    assert workflow._cause("ValueError: earlier\n", -9) == "Snakemake was killed."
    assert workflow._cause("WorkflowError:\nAt least one job did not complete successfully.\n", 1) == "Snakemake failed."


def test_jobs_run_on_this_machine_or_where_a_profile_says(monkeypatch, tmp_path):
    laptop = ["--workflow-profile", str(PROJECT / "profiles/laptop"), "--cores"]
    monkeypatch.setattr(gpus, "visible", lambda: ["0", "1", "2"])
    assert placement(3) == [*laptop, "3", "--resources", "gpu=3"]
    monkeypatch.setattr(gpus, "visible", lambda: [])
    assert placement(3) == [*laptop, "3"]
    assert placement() == [*laptop, str(len(os.sched_getaffinity(0)))]
    (tmp_path / "config.yaml").write_text("jobs: 3\n")
    assert placement(profile=tmp_path) == ["--workflow-profile", str(tmp_path)]


def test_a_profile_that_is_not_there_or_lacks_its_plug_in_or_its_cluster_gets_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"Unknown profile 'profiles/slrum'.*Did you mean 'profiles/slurm'"):
        placement(profile=PROJECT.joinpath("profiles/slrum").relative_to(PROJECT))
    (tmp_path / "config.yaml").write_text("executor: no-such-cluster\n")
    with pytest.raises(ValueError, match="pip install snakemake-executor-plugin-no-such-cluster"):
        placement(profile=tmp_path)
    monkeypatch.setattr(workflow, "find_spec", lambda _name: True)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with pytest.raises(ValueError, match=r"profiles/slurm needs Slurm; there is no `sbatch` here"):
        placement(profile=PROJECT / "profiles/slurm")
    with pytest.raises(ValueError, match="--cores must be left out"):
        placement(2, PROJECT / "profiles/slurm")
