"""From a laptop to a cluster: planning stays cheap, and jobs ask for what they need."""

import ast
import json
import os
import subprocess
import sys
from collections import Counter

import jupytext
import pytest

from benchmarks.planning import write_study
from tracing_utils import experiments
from tracing_utils.checkpoints import ledger
from tracing_utils.core.paths import PROJECT
from tracing_utils.experiments import notebook
from tracing_utils.run import keys, plan, runner, studies
from tracing_utils.statements import concepts


@pytest.fixture
def counted(monkeypatch):
    """Count the calls of what planning would do again for every job if it kept nothing."""
    calls = Counter()

    def count(owner, name):
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given, **named: calls.update([name]) or original(*given, **named))

    for owner, name in (
        (jupytext, "read"), (ast, "parse"), (runner, "version"), (concepts, "load"), (ledger, "identity"),
        (concepts, "available"),
    ):  # fmt: skip
        count(owner, name)
    for function in [found for module in (runner, keys, notebook) for found in vars(module).values()]:
        if hasattr(function, "cache_clear"):
            function.cache_clear()
    return calls


def all_keys(study) -> None:
    runner.study_key(study)
    for experiment in study.runs():
        runner.experiment_key(study, experiment)


def test_planning_reads_notebooks_modules_and_sets_once_and_asks_each_run_once(tmp_path, counted):
    small, large = (studies.read(write_study(tmp_path / str(n), n, 2)) for n in (5, 20))
    all_keys(small)
    first = counted.copy()
    assert first["read"] == len(experiments.names())
    assert first["load"] == 2
    runs = 2 * sum(len(small.traced(experiment)) for experiment in small.runs())
    steered = 2 * len(small.traced("steering"))  # asks about the chat model too
    assert first["identity"] == runs + steered + len(small.needed())
    all_keys(small)
    assert counted - first == Counter(identity=len(small.needed()))  # of `suite_key`, and nothing of the runs
    counted.clear()
    all_keys(large)
    assert counted["read"] == counted["parse"] == counted["version"] == 0
    assert counted["load"] == 2  # sets of its own
    assert counted["available"] <= 4
    assert counted["identity"] < 5 * first["identity"]  # four times the checkpoints: linear


def test_the_time_of_steering_counts_the_directions_of_the_null():
    """Until then the plan knew doses alone, and a study whose null took hours asked for minutes."""
    options = {"layers": [2, 4], "doses": [-2.0, 2.0], "asked": 40}
    experiment = experiments.get("steering")
    swept, null = 2 * 2 * 40, 2 * (99 + 20) * (40 + 20)
    assert experiment.passes(options) == swept + null
    assert experiment.passes(options | {"asked": 1000}) == 2 * 2 * 1000 + 2 * 119 * (120 + 20)  # of 60 pairs at most


def test_a_file_of_a_checkpoint_is_hashed_once_as_long_as_it_stays(suite_folder):
    study = studies.Study("s", str(suite_folder), ("pocket",))
    before = ledger._hashed.cache_info().misses
    identities = [ledger.identity(study.loaded["step1"]) + ledger.tokenizer_identity(study.loaded["step1"]) for _ in range(5)]
    files = len(identities[0])
    assert ledger._hashed.cache_info().misses - before <= files
    assert all(found == identities[0] for found in identities)


def dry_run(study, profile: str) -> dict[str, int]:
    """Return how many jobs of each rule Snakemake plans."""
    command = [sys.executable, "-m", "snakemake", "trace", "-n", "--workflow-profile", f"profiles/{profile}"]
    done = subprocess.run(
        [*command, "--config", f"study={study}"], cwd=PROJECT, env=os.environ | {"PYTHONPATH": str(PROJECT)}, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    table = done.stdout.partition("Job stats:")[2].partition("total")[0]
    return {words[0]: int(words[1]) for words in map(str.split, table.splitlines()) if len(words) == 2 and words[1].isdigit()}


def test_a_laptop_and_a_cluster_plan_the_same_jobs(tmp_path):
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="the extra `cluster` is not installed")
    study = write_study(tmp_path, 6, 2)
    planned = dry_run(study, "laptop")
    assert planned["notebook"] == 2 * (6 + 6 + 7)
    assert planned["weights"] == planned["activations"] == 7
    assert dry_run(study, "slurm") == planned


@pytest.mark.parametrize("name", ["pocket", "pocket-tracingllm", "smollm2"])
def test_the_time_that_notebooks_ask_for_covers_what_published_runs_took_and_is_no_ten_times_more(name):
    try:
        study = studies.read(PROJECT / "studies" / f"{name}.yml")
        asked = plan.needs(study)
    except ValueError as missing:
        pytest.skip(f"what the study needs is not here: {missing}")
    took = json.loads((PROJECT / "results" / name / "provenance.json").read_text())["notebook_seconds"]
    for experiment, seconds in took.items():
        mean = seconds / len(study.traced(experiment)) / len(study.sets) / 60
        assert mean < asked[experiment].runtime
        assert asked[experiment].runtime < 10 + 10 * mean


def needs(tmp_path, gigabytes: int):
    study = studies.read(write_study(tmp_path / str(gigabytes), 2, 1, bytes_=gigabytes * 10**9))
    return plan.needs(study)


def test_jobs_ask_for_more_where_the_model_is_larger_and_for_a_gpu_where_a_core_would_take_long(tmp_path):
    small, large = needs(tmp_path, 1), needs(tmp_path, 200)
    assert (small["activations"].gpu, large["activations"].gpu) == (0, 1)
    assert large["activations"].mem_mb > 200_000 > 10_000 > small["activations"].mem_mb
    assert large["weights"].runtime == 10 + round(3 * 200e9 / 20e6 / 60)
    assert [need.gpu for job, need in large.items() if job in ("weights", "probing", "mutual_information", "summary")] == [0] * 4


def test_memory_asked_for_activations_holds_the_weights_in_float32_and_the_largest_set_twice(tmp_path):
    study = studies.read(write_study(tmp_path, 2, 1, bytes_=10**9))
    layers, d_model = plan._usual_shape(5e8)
    assert 12 * layers * d_model**2 == pytest.approx(5e8, rel=0.3)
    assert plan.needs(study)["activations"].mem_mb == 2000 + round((4 * 5e8 + 2 * 4 * 60 * layers * d_model) / 1e6)
