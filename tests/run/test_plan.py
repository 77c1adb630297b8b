"""A plan's numbers are those of closed forms and of the files a run writes; planning changes nothing."""

import json

import pytest
from safetensors import safe_open

from tracing_utils.__main__ import main
from tracing_utils.checkpoints import activations, hub, suites
from tracing_utils.checkpoints.types import Checkpoint, CheckpointSuite, Remote, RemoteFile
from tracing_utils.core.paths import PROJECT
from tracing_utils.run import plan, studies

BLOCK = 4 * 16 * 16 + 3 * 16 * 24  # a tiny llama's: four projections and three of the feed-forward part


@pytest.fixture
def study(tmp_path, suite_folder, own_statements) -> studies.Study:
    (file := tmp_path / "mine.yml").write_text(f"suite: {suite_folder}\nconcepts: {own_statements}\ncheckpoints: 3\n")
    return studies.read(file)


@pytest.fixture
def on_hub(monkeypatch, study):
    """Let the study's suite lie on a hub that cannot be reached, registered with or without its size."""

    def build(entry: dict, files: tuple[RemoteFile, ...] = ()) -> studies.Study:
        far = [Checkpoint("far", f"step{n}", n, None, None, None, Remote("me/far", "main", files=files)) for n in (0, 1, 4)]
        monkeypatch.setitem(study.__dict__, "loaded", CheckpointSuite("far", tuple(far), None))
        monkeypatch.setattr(suites, "entry", lambda _: entry)
        return study

    return build


def test_operations_are_two_for_each_parameter_a_token_is_multiplied_with(study, tokenizer):
    table = plan.costs(study)
    statements = study.concept_set(*study.sets, "privacy").statements
    tokens = sum(len(tokenizer.encode(statement)) for statement in statements)
    assert list(table["revision"]) == study.needed()
    assert set(table["tokens"]) == {tokens}
    assert set(table["flops"]) == {2 * 3 * BLOCK * tokens}
    assert set(table["download"]) == {0}
    assert set(table["assumed"]) == {""}


def test_the_planned_bytes_of_activations_are_those_of_the_file(study, tmp_path):
    checkpoint = study.loaded["step0"]
    activations.save(checkpoint, [study.concept_set(*study.sets, "privacy")], tmp_path)
    with safe_open(tmp_path / "step0.safetensors", "numpy") as file:
        held = sum(file.get_tensor(name).nbytes for name in file.keys())  # noqa: SIM118
    assert plan.costs(study)["activations"][0] == held


def test_a_suite_on_the_hub_is_sized_by_its_metadata(on_hub, monkeypatch):
    files = (RemoteFile("model.safetensors", 10**9, "0" * 64), RemoteFile("config.json", 500, "0" * 40))
    table = plan.costs(on_hub({"parameters": 4e8, "bytes": 7}, files))
    assert set(table["download"]) == {10**9}
    assert set(table["parameters"]) == {400_000_000}
    assert set(table["assumed"]) == {"layers, d_model, tokens"}


def test_a_suite_on_a_hub_that_cannot_be_reached_is_sized_by_the_registry(on_hub, monkeypatch):
    study = on_hub({"parameters": 4e8, "bytes": 8e8})
    asked = []
    monkeypatch.setattr(hub, "resolve", lambda _: asked.append(1) or (_ for _ in ()).throw(hub.HubError("no connection")))
    table = plan.costs(study)
    assert asked
    assert set(table["download"]) == {800_000_000}
    assert set(table["assumed"]) == {"layers, d_model, download, tokens"}
    characters = sum(len(s) for s in study.concept_set(*study.sets, "privacy").statements)
    assert table["tokens"][0] == round(characters / plan.CHARACTERS_A_TOKEN + 60)
    with pytest.raises(ValueError, match=r"The size of me/far must be known to plan; neither the hub nor suites\.yml tells it"):
        plan.costs(on_hub({}))


def test_the_assumed_shape_is_near_that_of_well_known_models(on_hub):
    files = (RemoteFile("model.safetensors", 1, "0" * 64),)
    known = {6.7e9: 32 * 4096, 1.01e9: 16 * 2048, 1.62e8: 12 * 768, 7e10: 80 * 8192}  # Llama 7B, Pythia 1B, 160M, Llama 70B
    for parameters, width in known.items():
        row = plan.costs(on_hub({"parameters": parameters}, files)).iloc[0]
        assert 0.5 < row["layers"] * row["d_model"] / width < 2


def test_the_pocket_study_takes_what_its_published_run_took():
    study = studies.read(PROJECT / "studies" / "pocket.yml")
    took = json.loads((PROJECT / "results" / "pocket" / "provenance.json").read_text())["notebook_seconds"]
    assert plan.notebook_seconds(study, plan.costs(study)) == pytest.approx(took)


def test_a_notebook_takes_some_seconds_however_little_it_reads(study):
    seconds = plan.notebook_seconds(study, plan.costs(study))
    assert study.traced("probing") == ["step0", "step8", "step64"]
    assert seconds["probing"] >= 3 * plan._NOTEBOOK
    assert "Notebooks, one after the other" in plan.describe(study, seconds=0.1)


def test_the_calibration_measures_this_machine():
    assert plan.calibrate(10**6, 64, seconds=0.1) > 1e6


def test_the_plan_says_all_of_it_and_changes_nothing(study, cache, suite_folder):
    def there():
        return {p: p.stat().st_mtime_ns for root in (cache, suite_folder, PROJECT / "results") for p in root.rglob("*")}

    before = there()
    told = plan.describe(study, "l4", seconds=0.1)
    assert there() == before
    for words in ("step64", "Download: 0 B.", "4 checkpoints; 60 statements", "GFLOP/s just measured", "25% of its 121 TFLOP/s"):
        assert words in told


def test_the_disk_holds_two_checkpoints_and_three_files_of_activations_at_most(on_hub, monkeypatch):
    study = on_hub({"parameters": 4e8, "bytes": 8e8}, (RemoteFile("model.safetensors", 10**9, "0" * 64),))
    monkeypatch.setattr(plan, "calibrate", lambda *_: 1e9)
    row = plan.costs(study).iloc[0]
    peak = 2 * 10**9 + 3 * row["activations"] + 3 * row["evidence"]
    told = plan.describe(study)
    assert f"evidence): {peak / 1e9:.3g} GB" in told
    assert "Download: 3 GB, 30 s at 100 MB a second." in told
    assert "Estimated, not read: d_model, layers, tokens (tokens by 4.5 characters each)." in told


def test_mistakes_get_one_sentence(study, tmp_path, capsys):
    assert main(["plan", str(tmp_path / "mine.yml"), "--gpu", "h10"]) == 2
    assert main(["plan", "studies/poket.yml"]) == 2
    assert main(["fetch", "smolm2"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert [("Did you mean" in line) for line in said] == [True, True, True]
