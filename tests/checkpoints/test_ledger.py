"""The ledger sees what a checkpoint is, not what it is called; duplicates are refused."""

import json
import re
import shutil
from dataclasses import replace

import pytest
from safetensors.torch import load_file, save_file

from tracing_utils.__main__ import main
from tracing_utils.checkpoints import ledger, suites
from tracing_utils.core import downloads
from tracing_utils.core.paths import PROJECT


@pytest.fixture
def folder(suite_folder, tmp_path):
    shutil.copytree(suite_folder, copy := tmp_path / "tiny")
    return copy


def table(folder):
    return ledger.table(list(suites.load(str(folder)).checkpoints))


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


def test_one_step_may_hold_the_final_weights_and_no_other(folder):
    shutil.copytree(folder / "step64", folder / "step2", dirs_exist_ok=True)
    *steps, last = suites.load(str(folder)).checkpoints
    final = replace(last, revision="main")
    made = ledger.table([*steps, last], final)
    assert made["duplicate_of"].tolist() == ["", "", "main", "", ""]
    assert ledger.table([*steps, last])["duplicate_of"].tolist() == ["", "", "", "", "step2"]  # without main, the first is first


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([0, 1000, 2000, 4000, 5000, 6000], {4000: ["missing before it: 3000"]}),
        ([0, 1000, 2000, 3000, 4000, 8000], {8000: ["missing before it: 5000 to 7000"]}),
        ([0, 1, 2, 4, 512, 1000, 2000, 3000, 4000, 5000, 6000], {}),  # dense at first, as in Pythia
        ([150, 600, 700, 850, 900, 2150], {}),  # no regular distance
        ([0, 8, 16, 32, 64, 128, 256], {}),
        ([0, 1000], {}),
        ([-1], {}),
    ],
)
def test_a_gap_is_a_hole_in_an_even_series(steps, expected):
    assert ledger._gaps(steps) == expected


def test_a_configuration_without_a_family_and_a_missing_tokenizer_are_refused(folder):
    (folder / "step1" / "config.json").write_text("{}")
    shutil.rmtree(folder / "tokenizer")
    made = table(folder)
    assert made["faults"].tolist()[1] == "no model_type in config.json; no tokenizer"
    with pytest.raises(ValueError, match=r"step0 \(no tokenizer\), step1 \(no model_type in config\.json\), step1 \(no tok"):
        ledger.check(made)


def test_duplicates_pass_only_where_they_are_allowed(folder):
    shutil.copytree(folder / "step8", folder / "step64", dirs_exist_ok=True)
    made = table(folder)
    with pytest.raises(ValueError, match=r"step8 = step64\. .* write `allow_duplicates: true`"):
        ledger.check(made)
    ledger.check(made, allow_duplicates=True)


def test_the_identity_sees_the_configuration_and_the_tokenizer_that_the_ledger_does_not_compare(folder):
    before = suites.load(str(folder))["step8"]
    identity, words = ledger.identity(before), ledger.tokenizer_identity(before)
    path = folder / "step8" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rms_norm_eps": 0.5}))
    assert ledger.identity(before) != identity
    assert ledger.weights_sha256(before) == identity[0]
    path = folder / "tokenizer" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"padding_side": "left"}))
    assert ledger.tokenizer_identity(before) != words


def test_the_command_prints_the_ledger_of_any_suite(folder, capsys):
    shutil.copytree(folder / "step8", folder / "step64", dirs_exist_ok=True)
    assert main(["ledger", str(folder)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"step64 .* step8", said)
    assert "5 checkpoints; 1 repeat the weights of another; 0 with something to know." in said


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


def test_weights_that_are_cut_off_or_not_those_of_the_list_of_hashes_are_refused_by_name(folder):
    downloads.write_sums(folder, [f"{name}/model.safetensors" for name in ("step1", "step2", "step8")])
    ledger.check(table(folder))
    cut, flipped = (folder / name / "model.safetensors" for name in ("step1", "step2"))
    cut.write_bytes(cut.read_bytes()[:-5])
    content = bytearray(flipped.read_bytes())
    content[-5] ^= 1
    flipped.write_bytes(content)
    (unlisted := folder / "step64" / "model.safetensors").write_bytes(unlisted.read_bytes()[:5])
    with pytest.raises(ValueError, match="must have whole weights") as refused:
        ledger.check(table(folder))
    assert re.search(r"step1 \(a damaged file: model\.safetensors cannot be read, .*\)", str(refused.value))
    assert "step2 (a damaged file: model.safetensors is not the one of SHA256SUMS)" in str(refused.value)
    assert re.search(r"step64 \(a damaged file: model\.safetensors cannot be read, .*\)", str(refused.value))
    assert "step8 " not in str(refused.value)


def test_the_shipped_weights_are_those_of_their_list_of_hashes():
    suite = suites.load("pocket")
    listed = (PROJECT / "checkpoints/pocket/SHA256SUMS").read_text().splitlines()
    assert len(listed) == len([*suite.checkpoints, suite.chat])
    assert downloads.damaged(PROJECT / "checkpoints/pocket") == []
