"""What lies in a checkpoint's folder and would not be used is told or refused; what the index names is read."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tracing_utils.checkpoints import files, ledger, models, suites
from tracing_utils.checkpoints.models import load_model
from tracing_utils.checkpoints.types import Checkpoint

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "ab" * 32 + "\nsize 12345\n"
INDEX = "model.safetensors.index.json"


def at(folder: Path) -> Checkpoint:
    return Checkpoint("s", folder.name, 0, None, folder, folder)


@pytest.fixture
def folder(suite_folder, tmp_path) -> Path:
    """A copy of the tiny suite."""
    shutil.copytree(suite_folder, copy := tmp_path / "tiny")
    return copy


def in_shards(folder: Path, form: str = "model-{:05d}-of-{:05d}.safetensors", count: int = 2) -> None:
    """Put the weights of a folder into several files, and an index beside them."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    named = {name: form.format(1 + i % count, count) for i, name in enumerate(sorted(weights))}
    for file in set(named.values()):
        save_file({name: weights[name] for name in named if named[name] == file}, folder / file, {"format": "pt"})
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": named}))


def pickled(folder: Path) -> None:
    """Put the weights of a folder into a pickle."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def pickled_as_once(folder: Path) -> None:
    """Put the weights of a folder into a pickle of before torch 1.6."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    (folder / "model.safetensors").unlink()


def deeper(folder: Path) -> None:
    """Put the weights of a folder into a folder inside, and an index beside it."""
    (folder / "shards").mkdir()
    in_shards(folder, "shards/{}-{}.safetensors")


def renamed(pattern: str, by: str):
    """Return a function that gives the weights of a folder other names."""

    def rename(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        save_file({re.sub(pattern, by, name): value for name, value in weights.items()}, folder / "model.safetensors")

    return rename


def without_head(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file({name.removeprefix("model."): value for name, value in weights.items()}, folder / "model.safetensors")


def another_head(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"lm_head.weight": weights["lm_head.weight"] + 1}, folder / "model.safetensors")


def blocks_in_another_order(folder: Path) -> None:
    for pattern, by in ((r"layers\.0", "layers.x"), (r"layers\.1", "layers.0"), (r"layers\.x", "layers.1")):
        renamed(pattern, by)(folder)


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_an_index_that_names_its_shards_otherwise_decides_which_files_are_read(folder):
    whole = load_model(at(folder / "step8"), head=True)
    in_shards(folder / "step8", "consolidated-{}-{}.safetensors")
    assert files.weights(folder / "step8") == ["consolidated-1-2.safetensors", "consolidated-2-2.safetensors"]
    assert same(load_model(at(folder / "step8"), head=True), whole)
    made = ledger.table(suites.load(str(folder)).checkpoints)
    assert made["faults"].tolist() == [""] * 5
    (folder / "step8" / INDEX).unlink()
    alone = "no weights (transformers does not read consolidated-1-2.safetensors, consolidated-2-2.safetensors)"
    assert ledger.table(suites.load(str(folder)).checkpoints)["faults"].tolist()[3] == alone
    (folder / "step1" / "global_step1").mkdir()
    shutil.move(folder / "step1" / "model.safetensors", folder / "step1" / "global_step1")
    within = "no weights (transformers does not read global_step1/model.safetensors)"
    assert ledger.table(suites.load(str(folder)).checkpoints)["faults"].tolist()[1] == within


def test_a_stale_shard_is_not_read_not_hashed_and_told(folder):
    in_shards(folder / "step8")
    before = ledger.weights_sha256(at(folder / "step8"))
    shutil.copy(folder / "step1" / "model.safetensors", folder / "step8" / "model-00003-of-00003.safetensors")
    assert ledger.weights_sha256(at(folder / "step8")) == before
    told = files.faults(folder / "step8")
    assert told == ["not named by the index, and not used: model-00003-of-00003.safetensors"]
    ledger.check(ledger.table(suites.load(str(folder)).checkpoints))
    load_model(at(folder / "step8"), head=False)


def test_added_tokens_without_a_vocabulary_are_told(folder):
    (folder / "step8" / "added_tokens.json").write_text('{"mill": 400}')
    assert files.faults(folder / "step8") == ["added_tokens.json is not used, since no vocabulary lies beside it"]
    shutil.copy(folder / "tokenizer" / "tokenizer.json", folder / "step8")
    assert files.faults(folder / "step8") == []


def test_a_configuration_that_tells_something_else_along_a_run_is_told(folder):
    """Other heads of the same width load without a word, and compute something else."""
    path = folder / "step8" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"transformers_version": "0", "torch_dtype": "float16", "new_in_this_version": 1}))
    assert ledger.table(suites.load(str(folder)).checkpoints)["faults"].tolist() == [""] * 5
    path.write_text(json.dumps(config | {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 4}))
    load_model(at(folder / "step8"), head=True)
    told = ledger.table(suites.load(str(folder)).checkpoints)["faults"].tolist()
    keys = "'head_dim', 'num_attention_heads', 'num_key_value_heads'"
    assert told == ["", "", "", *(f"config.json tells another {keys} than that of step{n}" for n in (2, 8))]
    ledger.check(ledger.table(suites.load(str(folder)).checkpoints))
    path.write_text(json.dumps(config | {"rope_scaling": {"rope_type": "linear", "factor": 4.0}, "bias": None}))
    told = ledger.table(suites.load(str(folder)).checkpoints)["faults"].tolist()
    assert told == ["", "", "", *(f"config.json tells another 'rope_scaling' than that of step{n}" for n in (2, 8))]


def beside_shards(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder.parent / "old")
    in_shards(folder)
    shutil.move(folder.parent / "old", folder / "model.safetensors")


def killed_while_saving(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder / "model-00001-of-00002.safetensors")


def one_weight_twice(folder: Path) -> None:
    in_shards(folder)
    save_file(
        load_file(folder.parent / "step1" / "model.safetensors"), folder / "model-00001-of-00002.safetensors", {"format": "pt"}
    )


def a_shard_lost(folder: Path) -> None:
    in_shards(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


def a_link_in_place_of_a_shard(folder: Path) -> None:
    a_shard_lost(folder)
    (folder / "model-00002-of-00002.safetensors").symlink_to("../../blobs/shard")


def a_link_in_place_of_the_index(folder: Path) -> None:
    no_index(folder)
    (folder / INDEX).symlink_to("../../blobs/index")


def no_index(folder: Path) -> None:
    in_shards(folder)
    (folder / INDEX).unlink()


def an_index_without_metadata(folder: Path) -> None:
    in_shards(folder)
    (folder / INDEX).write_text(json.dumps({"weight_map": json.loads((folder / INDEX).read_text())["weight_map"]}))


def an_index_that_names_nothing(folder: Path) -> None:
    in_shards(folder)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": {}}))


def a_training_state(folder: Path) -> None:
    torch.save({"model": load_file(folder / "model.safetensors"), "step": 8}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def of_a_distributed_save(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder / "shard-00000-model-00001-of-00001.safetensors")


def named_by_the_configuration(folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"transformers_weights": "other.safetensors"}))


def an_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4}))
    save_file(
        {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(4, 16)},
        folder / "adapter_model.safetensors",
    )


@pytest.mark.parametrize(
    ("name", "adapts"),
    [(name, True) for name in ("LoRA.safetensors", "my_lora.safetensors", "adapters.npz", "adapter.ckpt", "adapter_config.json")]
    + [(name, False) for name in ("model.safetensors", "exploration.bin", "lorawan.txt", "adapters.md")],
)
def test_an_adapter_is_known_by_its_name(name, adapts):
    assert files.is_adapter(name) == adapts


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_small_numbers_without_a_word_on_their_scales_are_refused(folder, dtype):
    """A mask of bytes, which old models store, is none of them."""
    weights = load_file(folder / "step8" / "model.safetensors")
    name = next(name for name, value in weights.items() if value.ndim == 2 and name.endswith("weight"))
    save_file(weights | {"model.mask": torch.ones(4, 4, dtype=torch.uint8)}, folder / "step8" / "model.safetensors")
    files.refuse(folder / "step8")
    save_file(weights | {name: torch.ones_like(weights[name]).to(dtype)}, folder / "step8" / "model.safetensors")
    with pytest.raises(ValueError, match=f"without a word on their scales: {re.escape(name)}"):
        files.refuse(folder / "step8")


def torchtune_s_adapter(folder: Path) -> None:
    (folder / "adapter_0.pt").write_bytes(b"")


def a_pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text(POINTER)


def a_pointer_to_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_text(POINTER)


def a_pointer_to_the_configuration(folder: Path) -> None:
    (folder / "config.json").write_text(POINTER)


def a_pointer_to_one_shard(folder: Path) -> None:
    in_shards(folder)
    (folder / "model-00002-of-00002.safetensors").write_text(POINTER)


def one_weight_in_two_pickles(folder: Path) -> None:
    pickled(folder)
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    (folder / "pytorch_model.bin").unlink()
    half, twice = len(weights) // 2, sorted(weights)[0]
    named = {name: f"pytorch_model-0000{1 + (i >= half)}-of-00002.bin" for i, name in enumerate(sorted(weights))}
    for file in set(named.values()):
        torch.save({name: weights[name] for name in weights if named[name] == file or name == twice}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": named}))


def an_index_that_leads_out(folder: Path) -> None:
    shutil.move(folder / "model.safetensors", folder.parent / "elsewhere.safetensors")
    named = dict.fromkeys(load_file(folder.parent / "elsewhere.safetensors"), "../elsewhere.safetensors")
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": named}))


REFUSED = {
    beside_shards: "two saves of weights, model.safetensors and model-00001-of-00002.safetensors: delete the one",
    killed_while_saving: "two saves of weights, model.safetensors and model-00001-of-00002.safetensors",
    one_weight_twice: "two saves of weights: model-00001-of-00002.safetensors and model-00002-of-00002.safetensors both hold",
    one_weight_in_two_pickles: "two saves of weights: pytorch_model-00001-of-00002.bin and pytorch_model-00002-of-00002.bin both",
    an_index_that_leads_out: "no index that fits: model.safetensors.index.json names '../elsewhere.safetensors', which is not in",
    a_shard_lost: "no index that fits: model.safetensors.index.json names 'model-00002-of-00002.safetensors', which is not here",
    a_link_in_place_of_a_shard: "a link to nothing in place of model-00002-of-00002.safetensors: copy what it leads to",
    a_link_in_place_of_the_index: "a link to nothing in place of model.safetensors.index.json: copy",
    no_index: "no index that fits: model.safetensors.index.json is not there",
    an_index_without_metadata: "no index that fits: model.safetensors.index.json is not there, or cannot be read",
    an_index_that_names_nothing: "no index that fits: model.safetensors.index.json is not there, or cannot be read",
    a_training_state: "a damaged file: pytorch_model.bin cannot be read, 'model' in it is no tensor: save the state_dict",
    of_a_distributed_save: "two saves of weights, model.safetensors and shard-00000-model-00001-of-00001.safetensors",
    named_by_the_configuration: "two saves of weights, model.safetensors and 'other.safetensors'",
    an_adapter: "an adapter, which would not be used: adapter_config.json, merge it into its base first",
    torchtune_s_adapter: "an adapter, which would not be used: adapter_0.pt",
    a_pointer: "a pointer of git-lfs in place of model.safetensors: run `git lfs pull`",
    a_pointer_to_a_pickle: "a pointer of git-lfs in place of pytorch_model.bin",
    a_pointer_to_the_configuration: "a pointer of git-lfs in place of config.json",
    a_pointer_to_one_shard: "a pointer of git-lfs in place of model-00002-of-00002.safetensors",
}


@pytest.mark.parametrize("spoil", REFUSED, ids=lambda spoil: spoil.__name__)
def test_a_folder_that_leaves_open_what_its_weights_are_is_refused_by_ledger_and_load_alike(spoil, folder):
    ledger.check(ledger.table(suites.load(str(folder)).checkpoints))
    spoil(folder / "step8")
    made = ledger.table(suites.load(str(folder)).checkpoints)
    assert made["faults"].tolist()[3].startswith(REFUSED[spoil])
    assert made["faults"].tolist()[3].count("; ") <= 1  # and no second, wrong cause but that the weights are pickled
    with pytest.raises(ValueError, match="these have not: step8"):
        ledger.check(made)
    with pytest.raises(ValueError, match="must hold one whole model; it holds ") as refused:
        load_model(at(folder / "step8"), head=False)
    assert REFUSED[spoil] in str(refused.value)


def test_what_lies_beside_and_is_no_second_save_is_let_pass(folder):
    for name in ("optimizer.bin", "training_args.bin", "scheduler.pt", "adapters.md"):
        (folder / "step8" / name).write_bytes(b"other")
    assert files.faults(folder / "step8") == []
    (folder / "step8" / "tuned").mkdir()
    (folder / "step8" / "tuned" / "adapter_config.json").write_text("{}")
    assert files.faults(folder / "step8") == ["adapters inside it, not used: tuned"]
    load_model(at(folder / "step8"), head=False)


def test_a_pickle_beside_safetensors_is_told(folder):
    shutil.copy(folder / "step1" / "model.safetensors", kept := folder / "kept")
    pickled(folder / "step1")
    assert ledger.table([suites.load(str(folder))["step1"]])["faults"].item() == "only .bin weights"  # which are used
    shutil.move(kept, folder / "step1" / "model.safetensors")
    made = ledger.table([suites.load(str(folder))["step1"]])
    assert made["faults"].item() == "not used, since there are safetensors: pytorch_model.bin"
    ledger.check(made)


@pytest.mark.parametrize("name", ["consolidated.safetensors", "model.fp16.safetensors", "consolidated.00.pth", "model.gguf"])
def test_weights_that_other_programs_read_are_told_beside_ours_and_named_where_they_are_alone(folder, name):
    shutil.copy(folder / "step8" / "model.safetensors", folder / "step8" / name)
    assert files.faults(folder / "step8") == [f"not used, since transformers reads model.safetensors: {name}"]
    ledger.check(ledger.table(suites.load(str(folder)).checkpoints))
    (folder / "step8" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=rf"step8 \(no weights \(transformers does not read {re.escape(name)}\)\)"):
        ledger.check(ledger.table(suites.load(str(folder)).checkpoints))


def test_a_tokenizer_that_is_a_pointer_is_called_one(folder):
    (folder / "tokenizer" / "tokenizer.json").write_text(POINTER)
    made = ledger.table(suites.load(str(folder)).checkpoints)
    assert set(made["faults"]) == {"a pointer of git-lfs in place of tokenizer.json: run `git lfs pull`"}
    with pytest.raises(ValueError, match=r"these have not: step0 \(a pointer of git-lfs"):
        ledger.check(made)


def test_the_same_weights_in_other_files_are_seen_as_the_same(folder):
    names = ("step1", "step2", "step64")
    for name in names:
        shutil.copytree(folder / "step8", folder / name, dirs_exist_ok=True)
    in_shards(folder / "step2")
    in_shards(folder / "step64", "part{}of{}.safetensors", 3)
    made = ledger.table(suites.load(str(folder)).checkpoints)
    assert made["duplicate_of"].tolist() == ["", "", "step1", "step1", "step1"]
    assert made["sha256"].nunique() == 4  # files are told apart as they always were
    path = folder / "step64" / "part1of3.safetensors"
    weights = load_file(path)
    next(iter(weights.values())).view(-1)[-1] += 1e-6  # the last of many numbers
    save_file(weights, path, {"format": "pt"})
    assert ledger.table(suites.load(str(folder)).checkpoints)["duplicate_of"].tolist() == ["", "", "step1", "step1", ""]


ALIKE = [
    pickled,
    pickled_as_once,
    deeper,
    renamed("^", "module."),
    renamed("^", "_orig_mod."),
    renamed(r"^model\.", ""),
    without_head,
]


@pytest.mark.parametrize("change", [*ALIKE, another_head, blocks_in_another_order])
def test_weights_are_the_same_by_their_tensors_whatever_file_or_prefix_holds_them(folder, change):
    shutil.copytree(folder / "step8", folder / "step1", dirs_exist_ok=True)
    change(folder / "step8")
    made = ledger.table(suites.load(str(folder)).checkpoints).set_index("revision")
    assert made["sha256"]["step1"] != made["sha256"]["step8"]
    assert made["duplicate_of"]["step8"] == ("step1" if change in ALIKE else "")


def test_an_index_may_name_files_in_a_folder_inside(folder):
    whole = load_model(at(folder / "step8"), head=True)
    deeper(folder / "step8")
    assert same(load_model(at(folder / "step8"), head=True), whole)
    made = ledger.table(suites.load(str(folder)).checkpoints).set_index("revision")
    assert (made["faults"] == "").all()
    assert made["bytes"]["step8"] > 0


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.model."])
def test_names_with_a_prefix_are_refused_with_the_name_there_is(folder, prefix):
    renamed(r"^model\.", prefix)(folder / "step8")
    for head in (False, True):
        with pytest.raises(ValueError, match=f"there is '{prefix}embed_tokens.weight': take the names that save_pretrained"):
            load_model(at(folder / "step8"), head=head)


@pytest.mark.parametrize(
    ("name", "is_head"),
    [
        (name, True)
        for name in ("lm_head.weight", "score.weight", "v_head.summary.bias", "model.lm_head.weight", "pooler.dense.weight")
    ]
    + [
        (name, False)
        for name in ("output.norm.weight", "head.0.weight", "head.layers.0.w", "classifier_norm.weight", "x.score.weight")
    ],
)
def test_a_weight_that_is_left_over_passes_if_it_is_a_head_and_not_if_it_is_only_called_like_one(folder, name, is_head):
    weights = load_file(folder / "step8" / "model.safetensors")
    save_file(weights | {name: torch.ones(2, 16)}, folder / "step8" / "model.safetensors")
    if is_head:
        load_model(at(folder / "step8"), head=False)
        return
    with pytest.raises(ValueError, match=f"1 would be left over: {name!r}"):
        load_model(at(folder / "step8"), head=False)


def test_a_second_head_of_the_kind_a_model_has_is_left_over_and_one_of_another_kind_is_not(folder):
    weights, path = load_file(folder / "step8" / "model.safetensors"), folder / "step8" / "model.safetensors"
    save_file(weights | {"score.weight": torch.ones(2, 16)}, path)
    load_model(at(folder / "step8"), head=True)
    save_file(weights | {"module.lm_head.weight": weights["lm_head.weight"] + 1}, path)
    with pytest.raises(ValueError, match=r"1 would be left over: 'module\.lm_head\.weight'"):
        load_model(at(folder / "step8"), head=True)


def test_the_ledger_says_how_weights_were_quantised(folder):
    def told() -> str:
        return ledger.table([suites.load(str(folder))["step8"]])["quantised"].item()

    path = folder / "step8" / "config.json"
    plain = json.loads(path.read_text())
    assert told() == ""
    for config, expected in (
        ({"quant_method": "gptq", "bits": 4}, "gptq, 4 bits"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes, 8 bits"),
        ({"quant_method": "fp8"}, "fp8"),
        ({"bits": 3}, "unknown, 3 bits"),
    ):
        path.write_text(json.dumps(plain | {"quantization_config": config}))
        assert told() == expected
        path.write_text(json.dumps(plain | {"text_config": {"quantization_config": config}}))
        assert told() == expected
    path.write_text(json.dumps(plain))
    weights = load_file(folder / "step8" / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"].to(torch.float8_e4m3fn)
    save_file(weights, folder / "step8" / "model.safetensors", {"format": "pt"})
    assert told() == "F8_E4M3"


NO_METHOD = ("int8", ["int8"], 8, True, {}, {"bits": 4}, {"quant_method": None}, {"quant_method": ["gptq"]})


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("name", ["quantization_config", "compression_config"])
@pytest.mark.parametrize("told", [*NO_METHOD, {"load_in_8bit": True}, {"quant_method": "own"}, None])
def test_a_quantisation_that_tells_no_method_is_refused_by_the_ledger_and_by_load_in_one_sentence(folder, told, name, inside):
    path = folder / "step8" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | ({"text_config": {name: told}} if inside else {name: told})))
    named = told in NO_METHOD or (told == {"load_in_8bit": True} and name == "compression_config")
    assert (files.untold(json.loads(path.read_text())) != []) == named
    if named:
        with pytest.raises(ValueError, match=rf"step8 \(a quantisation without a method: {name} in config\.json must be"):
            ledger.check(ledger.table(suites.load(str(folder)).checkpoints))
        for read in (lambda: load_model(at(folder / "step8"), head=False), lambda: models.sizes(folder / "step8")):
            with pytest.raises(ValueError, match="a quantisation without a method") as refused:
                read()
            assert "\n" not in str(refused.value)


@pytest.mark.parametrize("change", [in_shards, pickled, pickled_as_once, deeper])
def test_a_file_of_weights_that_is_cut_is_named_by_ledger_and_load(folder, change):
    change(folder / "step8")
    ledger.check(ledger.table(suites.load(str(folder)).checkpoints))
    name = files.weights(folder / "step8")[-1]
    path = folder / "step8" / name
    path.write_bytes(path.read_bytes()[:-99])
    said = f"a damaged file: {name} cannot be read, "
    with pytest.raises(ValueError, match=rf"step8 \({re.escape(said)}"):
        ledger.check(ledger.table(suites.load(str(folder)).checkpoints))
    with pytest.raises(ValueError, match=re.escape(said)):
        load_model(at(folder / "step8"), head=False)


def stored_as(dtype):
    def change(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        weights = {name: value if "norm" in name else value.to(dtype) for name, value in weights.items()}
        save_file(weights, folder / "model.safetensors", {"format": "pt"})

    return change


@pytest.mark.parametrize("first", ["step1", "step64"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_that_are_those_of_another_checkpoint_rounded_are_the_same(folder, dtype, first):
    """One number that still differs after rounding makes them others."""
    by_torch = torch.tensor(ROUNDED).to(dtype).view(torch.uint8).numpy().tobytes()
    assert files._round(np.array(ROUNDED, np.float32), {torch.bfloat16: "BF16", torch.float16: "F16"}[dtype]) == by_torch
    shutil.copytree(folder / "step8", folder / first, dirs_exist_ok=True)
    stored_as(dtype)(folder / first)
    earlier, later = sorted(("step8", first), key=lambda name: int(name.removeprefix("step")))
    made = ledger.table(suites.load(str(folder)).checkpoints).set_index("revision")["duplicate_of"]
    assert made[made != ""].to_dict() == {later: earlier}
    weights = load_file(path := folder / first / "model.safetensors")
    largest = max(weights, key=lambda name: weights[name].numel())
    weights[largest].view(-1)[-1] += 1
    save_file(weights, path, {"format": "pt"})
    assert set(ledger.table(suites.load(str(folder)).checkpoints)["duplicate_of"]) == {""}


ROUNDED = (0.0, -0.0, 1.0, -1.5, 1.00390625, 1.01171875, 0.1, 65519.0, 1e-8, 3.0e38)
