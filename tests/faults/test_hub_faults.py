"""A hub that fails, through the command that fetches a checkpoint: resumed or refused, and no half file taken for a whole one."""

import re

import pytest
from hub_server import HubServer
from test_hub import FAILURES, files, pythia  # noqa: F401 - fixtures

from tracing_utils.checkpoints import ledger, models
from tracing_utils.run import jobs, studies

DONE = {
    "cut for good": "each transfer of the weights is cut in the middle",
    "short": "the weights are shorter than promised",
    "corrupt": "one bit of the weights is flipped on the way",
    "small file corrupt": "one bit of the configuration is flipped on the way",
    "a loop": "an address leads back to itself",
}


@pytest.fixture
def command(pythia, own_statements, tmp_path, monkeypatch):  # noqa: F811
    """Return a function that fetches one checkpoint as a job of a run does: its exit code, and the study."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hub.yml").write_text(f"suite: hub:tests/pythia\nconcepts: {own_statements}\nrevisions: [step8, step64]\n")
    return lambda: jobs.main(["weights", "hub.yml", "step8", str(tmp_path / "there")])


def whole(tmp_path) -> bool:
    """Is the fetched checkpoint the one of the hub's metadata, and can it be loaded?"""
    from dataclasses import replace  # noqa: PLC0415

    from tracing_utils.checkpoints import hub  # noqa: PLC0415
    from tracing_utils.checkpoints.types import placed  # noqa: PLC0415

    (described,) = hub.resolve([studies.read(tmp_path / "hub.yml").loaded["step8"]])
    here = placed(described, tmp_path / "there")
    models.load_model(here, head=False)
    return ledger.identity(replace(here, remote=None)) == ledger.identity(described)


def told(capsys) -> str:
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    return re.sub(r"\b([0-9a-f]{8})[0-9a-f]{32,56}\b", r"\1...", re.sub(r"127\.0\.0\.1:\d+|localhost:\d+", "HUB", said))


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.fault("hub", "", "", "a sentence; the same command goes on afterwards")
def test_a_failing_hub_is_told_and_the_same_command_goes_on(name, server, command, tmp_path, capsys, outcome):
    match, kind, _ = FAILURES[name]
    studies.read(tmp_path / "hub.yml")
    server.fail(match, kind, **({"Retry-After": "7"} if kind == 429 else {}))
    assert command() == 2
    sentence = told(capsys)
    assert not (tmp_path / "there").exists()
    server.faults.clear()
    assert command() == 0
    assert whole(tmp_path)
    case = f"status {name}" if isinstance(kind, int) else name
    outcome(sentence, case=f"the hub: {case}", done=DONE.get(name, f"the hub answers {case} when asked for a file"))


@pytest.mark.fault("hub", "the hub: refused connection", "nothing listens at the hub's address", "a sentence")
def test_a_hub_that_is_not_there(server, command, capsys, outcome):
    server.close()
    assert command() == 2
    outcome(told(capsys))
    server.__dict__.update(HubServer().__dict__)  # for the fixture to close


@pytest.mark.parametrize(
    ("kind", "times"),
    [
        pytest.param(
            "drip", None, marks=pytest.mark.fault("hub", "the hub: slow drip", "weights arrive in small pieces", "whole")
        ),
        pytest.param(
            "cut", 1, marks=pytest.mark.fault("hub", "the hub: cut once", "one transfer is cut in the middle", "resumed")
        ),
    ],
)
def test_a_slow_or_broken_transfer_is_finished(kind, times, server, command, tmp_path, outcome):
    server.fail("GET /cdn/", kind, times=times)
    assert command() == 0
    assert whole(tmp_path)
    how = "waited" if kind == "drip" else "asked again for the rest"
    outcome(f"the command {how}; the checkpoint is the one of the metadata")


@pytest.mark.fault("hub", "the hub: a revision moves", "a branch gets other weights between listing and download", "as listed")
def test_a_revision_that_moves_between_listing_and_download(server, files, pythia, tmp_path, outcome):  # noqa: F811
    from tracing_utils.checkpoints import hub, suites  # noqa: PLC0415

    (listed,) = hub.resolve([pythia["step8"]])
    server.publish("tests/pythia", "step8", files(seed=50))
    (moved,) = hub.resolve([suites.load("hub:tests/pythia")["step8"]])
    assert ledger.weights_sha256(moved) != ledger.weights_sha256(listed)
    fetched = hub.fetch(listed, tmp_path / "there")
    assert ledger.weights_sha256(fetched) == ledger.weights_sha256(listed)
    assert hub.whole(listed, fetched.folder)
    outcome("the weights that were listed came, by their commit")
