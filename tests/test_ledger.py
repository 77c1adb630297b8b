"""The ledger sees what a checkpoint is, not what it is called; duplicates are refused."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from tracing_utils import ledger, suites


@pytest.fixture
def folder(suite_folder, tmp_path):
    shutil.copytree(suite_folder, copy := tmp_path / "tiny")
    return copy


def table(folder):
    return ledger.read(list(suites.load(str(folder)).checkpoints))


def test_different_weights_make_a_ledger_without_duplicates(folder):
    made = table(folder)
    assert made["revision"].tolist() == ["step0", "step1", "step2", "step8", "step64"]
    assert made["sha256"].nunique() == 5
    assert set(made["duplicate_of"]) == {""}
    assert made["bytes"].tolist() == [(folder / name / "model.safetensors").stat().st_size for name in made["revision"]]
    ledger.check(made)


def test_a_revision_that_serves_another_one_s_weights_is_refused_by_both_names(folder):
    for name in ("step1", "step64"):
        shutil.copytree(folder / "step8", folder / name, dirs_exist_ok=True)
    made = table(folder)
    assert made["duplicate_of"].tolist() == ["", "", "", "step1", "step1"]
    with pytest.raises(ValueError, match="these are the same: step1 = step8, step64"):
        ledger.check(made)


def test_the_same_weights_are_seen_under_a_configuration_that_differs_in_a_comment_only(folder):
    # Another transformers version writes another `transformers_version` beside the same weights.
    shutil.copy(folder / "step8" / "model.safetensors", folder / "step64" / "model.safetensors")
    path = folder / "step64" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"transformers_version": "4.0.0"}))
    with pytest.raises(ValueError, match="step8 = step64"):
        ledger.check(table(folder))


def test_one_changed_number_makes_other_weights(folder):
    path = folder / "step8" / "model.safetensors"
    before, weights = ledger.weights_sha256(suites.load(str(folder))["step8"]), load_file(path)
    save_file(weights, path, {"format": "pt"})
    assert ledger.weights_sha256(suites.load(str(folder))["step8"]) == before
    weights["model.norm.weight"][3] += 1e-6
    save_file(weights, path, {"format": "pt"})
    assert ledger.weights_sha256(suites.load(str(folder))["step8"]) != before


def test_the_hash_does_not_know_the_folder_s_name(folder):
    before = ledger.weights_sha256(suites.load(str(folder))["step8"])
    (folder / "step8").rename(folder / "step9")
    assert ledger.weights_sha256(suites.load(str(folder))["step9"]) == before


def test_a_folder_without_weights_is_refused_and_pickled_weights_are_told(folder):
    (folder / "step2" / "model.safetensors").rename(folder / "step2" / "pytorch_model.bin")
    (folder / "step8" / "model.safetensors").rename(folder / "step8" / "optimizer.bin")
    made = table(folder)
    assert made["faults"].tolist() == ["", "", "only .bin weights", "no weights", ""]
    assert made["sha256"].tolist()[3] == ""
    with pytest.raises(ValueError, match=r"these have not: step8 \(no weights\)\. Leave them out"):
        ledger.check(made)
    with pytest.raises(ValueError, match=r"step8 must hold the weights as model\*\.safetensors .* it holds none\."):
        ledger.weights_sha256(suites.load(str(folder))["step8"])
