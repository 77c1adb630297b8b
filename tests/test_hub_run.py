"""A Pythia-like suite on a hub, traced from its name to its results by the command a user types."""

import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest
from hub_server import HubServer, files_of

from tracing_utils import experiments
from tracing_utils.book import vega
from tracing_utils.core.paths import PROJECT

STEPS = ("step0", "step8", "step512")
EXPERIMENTS = experiments.names()


@pytest.fixture
def server(family_checkpoints, tokenizer_folder):
    """A hub with three checkpoints of a run and a tuned model of another repository."""
    served = HubServer()
    for seed, name in enumerate((*STEPS, "main")):
        kept = min(seed, len(STEPS) - 1)
        served.publish("tests/pythia", name, files_of(family_checkpoints["gpt_neox"].folder, tokenizer_folder, kept))
    served.publish("tests/chat", "main", files_of(family_checkpoints["gpt_neox"].folder, tokenizer_folder, 20))
    yield served
    served.close()


@pytest.fixture
def project(tmp_path, own_statements):
    """A copy of what a run needs, whose registry knows the suite."""
    copy = tmp_path / "project"
    for name in ("tracing_utils", "notebooks", "profiles"):
        shutil.copytree(PROJECT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "Snakefile", copy)
    shutil.copytree(own_statements, copy / "mine")
    with (copy / "tracing_utils" / "checkpoints" / "suites.yml").open("a") as registry:
        registry.write(
            "tiny-pythia: {repository: tests/pythia, chat: tests/chat, tokens_per_step: 1024, licence: none, about: t}\n"
        )
    (copy / "tiny.yml").write_text(
        "suite: tiny-pythia\nconcepts: mine\nprobing: {seeds: 1}\nmutual_information: {examples: 40}\n"
        "steering: {layers: [1], doses: [-2, 2]}\n"
    )
    return copy


def test_the_checkpoints_of_a_hub_are_traced_through_all_experiments_and_nothing_is_left_of_them(server, project, tmp_path):
    command = [sys.executable, "-m", "tracing_utils", "run", "--study", "tiny.yml"]
    environment = os.environ | {
        "PYTHONPATH": str(project), "HF_ENDPOINT": server.address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hf"),
        "TRACING_UTILS_CACHE": str(tmp_path / "cache"), vega.DRAWN: "1",  # no pictures: `test_notebooks` asks for them
    }  # fmt: skip
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for experiment in EXPERIMENTS:
        table = pd.read_csv(project / f"runs/tiny/results/{experiment}.csv")
        assert set(table["suite"]) == {"tiny-pythia"}
        assert set(STEPS) <= set(table["revision"])
        assert table.loc[table["revision"] == "step512", "tokens"].unique().tolist() == [512 * 1024]
    summaries = [table for name in EXPERIMENTS for table in experiments.get(name).summaries]
    assert {"dynamics", "answers", "reweighting", "preference_gains"} <= set(summaries)
    made = {path.stem for path in (project / "runs/tiny/results").glob("*.csv")}
    assert made == {"ledger", "concepts", "claims", *EXPERIMENTS, *summaries}
    ledger = pd.read_csv(project / "runs/tiny/results/ledger.csv")
    assert dict(zip(ledger["revision"], ledger["commit"], strict=True)) == {
        **{name: server.repos["tests/pythia"][name] for name in STEPS},
        "chat": server.repos["tests/chat"]["main"],
    }
    weights = [path for path in server.downloaded() if "/cdn/" in path]
    assert len(weights) == len(set(weights)) == len(STEPS) + 1  # each once
    assert not list((project / "runs").rglob("model.safetensors"))  # and deleted after use
    again = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert "nothing to compute" in again.stdout
    assert len([path for path in server.downloaded() if "/cdn/" in path]) == len(weights)
