"""Models of twelve families are loaded, their blocks found, and what is wrong is said in one sentence."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertModel, LlamaConfig, PreTrainedModel, T5Config, T5Model

from tracing_utils.checkpoints import activations, models
from tracing_utils.checkpoints.models import block_output, blocks, load_model, load_tokenizer, with_block_output
from tracing_utils.checkpoints.types import Checkpoint


def at(folder: Path, tokenizer: Path | None = None) -> Checkpoint:
    return Checkpoint("s", "step0", 0, None, folder, tokenizer or folder)


@pytest.mark.parametrize("head", [True, False])
def test_the_three_blocks_are_found_in_every_family_with_and_without_head(checkpoint, head):
    model = load_model(checkpoint, head=head)
    found = blocks(model)
    assert len(found) == 3
    assert len({type(block) for block in found}) == 1
    order = []
    for index, block in enumerate(found):
        block.register_forward_hook(lambda *_, index=index: order.append(index))
    model(torch.tensor([[0, 5, 6]]))
    assert order == [0, 1, 2]


def test_an_unknown_family_is_read_by_its_longest_list_of_alike_modules():
    bert = BertModel(BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=8))
    assert blocks(bert) is bert.encoder.layer


def test_a_model_without_blocks_is_refused_by_name():
    class Flat(PreTrainedModel):
        config_class = LlamaConfig

        def __init__(self, config):
            super().__init__(config)
            self.only = nn.Linear(2, 2)

    with pytest.raises(ValueError, match=r"must have a list of blocks; Flat has none"):
        blocks(Flat(LlamaConfig()))


def test_weights_are_loaded_as_they_were_saved_in_evaluation_mode_and_in_float32(checkpoint):
    model = load_model(checkpoint, head=True)
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    again = load_model(checkpoint, head=True)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_a_dtype_that_is_asked_for_is_given(family_checkpoints):
    model = load_model(family_checkpoints["llama"], head=False, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_the_stream_is_taken_from_a_tuple_and_from_a_bare_tensor_and_put_back_in_the_same_form():
    stream, other = torch.zeros(2, 5, 4), torch.ones(2, 5, 4)
    assert block_output(stream) is stream
    assert block_output((stream, "cache")) is block_output([stream, "attentions"]) is stream
    assert with_block_output(stream, other) is other
    assert with_block_output((stream, "cache"), other) == (other, "cache")
    assert with_block_output([stream, "attentions"], other) == [other, "attentions"]


def test_the_released_code_s_indexing_of_a_bare_tensor_is_caught_as_it_would_lose_the_batch():
    stream = torch.zeros(2, 5, 4)
    with pytest.raises(AssertionError, match="batch pos d_model"):
        block_output(stream[0])


def test_a_folder_without_a_model_is_refused_by_name(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ValueError, match="must hold a model; reading it failed") as refused:
        load_model(at(tmp_path), head=True)
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


def changed(source: Path, folder: Path, **entries) -> Checkpoint:
    """The model in `source`, with other entries of its configuration, in `folder`."""
    shutil.copytree(source, folder)
    (folder / "config.json").write_text(json.dumps(json.loads((source / "config.json").read_text()) | entries))
    return at(folder)


def test_how_attention_and_experts_were_computed_elsewhere_needs_nothing_here(tmp_path, family_checkpoints):
    plain = family_checkpoints["llama"]
    wanted = changed(plain.folder, tmp_path / "a", _attn_implementation="flash_attention_2", _experts_implementation="deepgemm")
    assert models.sizes(wanted.folder) == models.sizes(plain.folder)
    ids = torch.tensor([[0, 5, 6]])
    for head in (True, False):
        got, expected = (load_model(each, head=head)(ids)[0] for each in (wanted, plain))
        assert torch.equal(got, expected)


@pytest.mark.parametrize(
    "entries",
    [
        {"hidden_size": None}, {"hidden_size": "16"}, {"num_attention_heads": 0}, {"num_key_value_heads": 0},
        {"hidden_act": "none"}, {"dtype": "float7"},
        {"rope_parameters": {"rope_type": "own"}}, {"rope_parameters": []}, {"vocab_size": -1}, {"text_config": 3},
        {"text_config": {"hidden_size": 16}, "text_encoder": {}}, {"num_hidden_layers": 0}, {"pad_token_id": 10**6},
    ],
)  # fmt: skip
def test_whatever_a_configuration_makes_transformers_raise_becomes_one_sentence(
    tmp_path, family_checkpoints, entries, tokenizer_folder
):
    broken = changed(family_checkpoints["llama"].folder, tmp_path / "a", **entries)
    try:
        activations._load(at(broken.folder, tmp_path / "tokenizer"), False)
    except ValueError as error:
        assert "\n" not in str(error)
        assert str(error).endswith((".", "rights"))


def test_a_folder_without_a_tokenizer_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"must hold a tokenizer, best as tokenizer\.json, .*; reading it failed") as refused:
        load_tokenizer(at(tmp_path))
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_weights_that_lack_a_block_are_not_filled_with_random_numbers(tmp_path, family_checkpoints):
    # transformers only warns and initialises what a file lacks: an activation of such a model is noise.
    source = family_checkpoints["llama"].folder
    (tmp_path / "config.json").write_text((source / "config.json").read_text())
    weights = load_file(source / "model.safetensors")
    kept = {name: value for name, value in weights.items() if ".layers.1." not in name}
    assert len(kept) < len(weights)
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="must hold all weights; 9 are missing"):
        load_model(at(tmp_path), head=True)


def test_a_weights_file_that_was_cut_off_is_refused_by_name(tmp_path, family_checkpoints):
    source = family_checkpoints["llama"].folder
    (tmp_path / "config.json").write_text((source / "config.json").read_text())
    whole = (source / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"it holds a damaged file: model\.safetensors cannot be read"):
        load_model(at(tmp_path), head=True)


def test_an_encoder_is_refused_by_name(tmp_path):
    small = {"vocab_size": 30, "num_attention_heads": 2, "num_hidden_layers": 2}
    BertForMaskedLM(BertConfig(**small, hidden_size=16, intermediate_size=8)).save_pretrained(tmp_path / "bert")
    T5Model(T5Config(vocab_size=30, d_model=16, d_ff=8, num_layers=2, num_heads=2, d_kv=8)).save_pretrained(tmp_path / "t5")
    for kind in ("bert", "t5"):
        for head in (True, False):
            with pytest.raises(ValueError, match=rf"must hold a decoder.*; it holds {kind}, which has an encoder\."):
                load_model(at(tmp_path / kind), head=head)


def test_an_architecture_nobody_knows_is_refused_in_one_line(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "lama"}')
    with pytest.raises(ValueError, match=r"must hold a model; reading it failed: .*`lama`") as refused:
        load_model(at(tmp_path), head=True)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_single_weight_that_is_not_finite_is_found(tmp_path, family_checkpoints, value):
    shutil.copytree(family_checkpoints["llama"].folder, tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = value
    load_model(at(tmp_path), head=False)
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"must hold finite weights; layers\.1\.mlp\.up_proj\.weight has NaN or infinity"):
        load_model(at(tmp_path), head=False)


def test_huge_weights_are_finite_though_their_sum_is_not(tmp_path, family_checkpoints):
    shutil.copytree(family_checkpoints["llama"].folder, tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    weights["lm_head.weight"].fill_(3e38)
    assert not weights["lm_head.weight"].sum().isfinite()
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    assert torch.equal(load_model(at(tmp_path), head=True).lm_head.weight, weights["lm_head.weight"])


# Weights that the model of config.json has no place for


def configured(folder: Path, **entries) -> None:
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | entries))


def biases(folder: Path, weights: dict) -> None:
    weights |= {f"model.layers.{i}.self_attn.{part}_proj.bias": torch.ones(16) for i in range(3) for part in "qkvo"}


def one_bias(folder: Path, weights: dict) -> None:
    weights["model.layers.1.mlp.down_proj.bias"] = torch.ones(16)


def a_layer(folder: Path, weights: dict) -> None:
    configured(folder, num_hidden_layers=2)


def scales(folder: Path, weights: dict) -> None:
    weights |= {f"{name}_scale_inv": torch.ones(1, 1) for name in weights if name.endswith("proj.weight")}


def norms_of_keys(folder: Path, weights: dict) -> None:
    weights |= {f"model.layers.{i}.self_attn.k_norm.weight": torch.ones(8) for i in range(3)}


def a_lora(folder: Path, weights: dict) -> None:
    weights["model.layers.0.self_attn.q_proj.lora_A.default.weight"] = torch.ones(4, 16)


def positions(folder: Path, weights: dict) -> None:
    weights["model.embed_positions.weight"] = torch.ones(256, 16)


LEFT_OVER = {
    biases: "12 would be left over: 'model.layers.0.self_attn.k_proj.bias', .* and 9 more",
    one_bias: r"1 would be left over: 'model\.layers\.1\.mlp\.down_proj\.bias'\. Mend config\.json",
    a_layer: "9 would be left over: 'model.layers.2.input_layernorm.weight'",
    scales: "21 would be left over: 'model.layers.0.mlp.down_proj.weight_scale_inv'",
    norms_of_keys: "3 would be left over: 'model.layers.0.self_attn.k_norm.weight'",
    a_lora: "1 would be left over: 'model.layers.0.self_attn.q_proj.lora_A.default.weight'",
    positions: "1 would be left over: 'model.embed_positions.weight'",
}


def with_more(source: Path, folder: Path, more) -> Checkpoint:
    """A copy of a checkpoint whose weights or configuration `more` has changed."""
    shutil.copytree(source, folder)
    weights = load_file(folder / "model.safetensors")
    more(folder, weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return at(folder)


@pytest.mark.parametrize("more", LEFT_OVER, ids=lambda more: more.__name__)
def test_weights_that_would_be_left_over_are_refused_by_name(more, tmp_path, family_checkpoints):
    spoiled = with_more(family_checkpoints["llama"].folder, tmp_path / "more", more)
    for head in (True, False):
        with pytest.raises(
            ValueError, match=f"must hold the weights .* that its config.json tells, and no others; {LEFT_OVER[more]}"
        ):
            load_model(spoiled, head=head)


def test_the_bias_of_a_head_is_left_over_only_where_the_head_is_used(tmp_path, family_checkpoints):
    more = with_more(
        family_checkpoints["llama"].folder, tmp_path / "more", lambda _, w: w.update({"lm_head.bias": torch.ones(320)})
    )
    load_model(more, head=False)
    with pytest.raises(ValueError, match=r"1 would be left over: 'lm_head\.bias'"):
        load_model(more, head=True)


def test_other_heads_and_what_follows_from_the_configuration_are_no_left_over_weights(tmp_path, family_checkpoints, sentences):
    def harmless(_folder: Path, weights: dict) -> None:
        weights |= {"v_head.summary.weight": torch.ones(1, 16), "score.weight": torch.ones(2, 16)}
        weights |= {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(4) for i in range(3)}

    source = family_checkpoints["llama"]
    more = with_more(source.folder, tmp_path / "more", harmless)
    for head in (True, False):
        model = load_model(source, head=head)
        fresh = load_model(more, head=head)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), fresh.parameters(), strict=True))
    old = family_checkpoints["gpt2"]  # as its files were written before 2023
    masks = {f"transformer.h.{i}.attn.{name}": torch.ones(1, 1, 8, 8) for i in range(3) for name in ("bias", "masked_bias")}
    load_model(with_more(old.folder, tmp_path / "old", lambda _, weights: weights.update(masks)), head=True)


@pytest.mark.parametrize("key", ["quantization_config", "compression_config"])
def test_an_unknown_way_of_quantisation_is_not_taken_for_plain_numbers(key, tmp_path, family_checkpoints):
    source = family_checkpoints["llama"]
    changed = with_more(
        source.folder, tmp_path / "q", lambda folder, _: configured(folder, **{key: {"quant_method": "zip9", "bits": 3}})
    )
    with pytest.raises(ValueError, match=r"says that they were quantised by 'zip9', which it does not know"):
        load_model(changed, head=False)
    with pytest.raises(ValueError, match="quantised by 'zip9'"):
        models.sizes(changed.folder)
    if key == "quantization_config":  # as transformers has it for what bitsandbytes rounded
        configured(changed.folder, **{key: {"quant_method": "bitsandbytes", "load_in_4bit": True}})
        with pytest.raises(ValueError, match=r"reading it failed: .*bitsandbytes") as refused:
            load_model(changed, head=False)
        assert "does not know" not in str(refused.value)


# Pickles and code


def pickled(source: Path, folder: Path, content=None) -> Checkpoint:
    """The model in `source` as a `pytorch_model.bin` in `folder`."""
    shutil.copy(source / "config.json", folder)
    torch.save(load_file(source / "model.safetensors") | (content or {}), folder / "pytorch_model.bin")
    return at(folder)


class Trap:
    """What a pickle with code in it unpickles to: a call."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def test_a_bin_file_with_tensors_is_read_where_there_are_no_safetensors(tmp_path, family_checkpoints):
    source = family_checkpoints["llama"]
    model = load_model(pickled(source.folder, tmp_path), head=True)
    expected = load_model(source, head=True)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))


def test_a_bin_file_that_would_run_code_is_refused_and_runs_none(tmp_path, family_checkpoints):
    checkpoint = pickled(family_checkpoints["llama"].folder, tmp_path, {"trap": Trap(tmp_path / "sprung")})
    with pytest.raises(ValueError, match=r"must hold tensors and nothing else; its \.bin file .*none was run"):
        load_model(checkpoint, head=True)
    assert not (tmp_path / "sprung").exists()
    torch.load(tmp_path / "pytorch_model.bin", weights_only=False)
    assert (tmp_path / "sprung").exists()  # it is a trap


def test_safetensors_are_read_first_where_both_are(tmp_path, family_checkpoints):
    source = family_checkpoints["llama"]
    checkpoint = pickled(source.folder, tmp_path, {"trap": Trap(tmp_path / "sprung")})
    shutil.copy(source.folder / "model.safetensors", tmp_path)
    assert load_model(checkpoint, head=True).num_parameters() == load_model(source, head=True).num_parameters()
    assert not (tmp_path / "sprung").exists()


@pytest.fixture
def with_code(tmp_path, family_checkpoints) -> Checkpoint:
    """A llama that comes with Python code for its configuration; the code leaves a file when it runs."""
    shutil.copytree(family_checkpoints["llama"].folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(
        "from pathlib import Path\nfrom transformers import LlamaConfig, LlamaModel\n"
        f"Path({str(tmp_path / 'ran')!r}).touch()\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnModel(LlamaModel):\n    config_class = OwnConfig\n"
    )
    return at(tmp_path)


def test_code_beside_the_weights_does_not_run_unless_it_is_trusted(with_code):
    with pytest.raises(ValueError, match="must hold a model; reading it failed") as refused:
        load_model(with_code, head=False)
    assert "\n" not in str(refused.value)
    assert not (with_code.folder / "ran").exists()


def test_code_that_is_trusted_runs_with_a_warning_that_says_what_it_means(with_code, family_checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    with pytest.warns(UserWarning, match="trust_remote_code: Python code that lies in .* runs now, with all your rights"):
        model = load_model(with_code, head=False, trust_remote_code=True)
    assert (with_code.folder / "ran").exists()
    same = load_model(family_checkpoints["llama"], head=False)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))


def test_a_head_of_its_own_that_the_configuration_ties_to_the_embedding_is_told(make_model, tmp_path):
    make_model("gpt2").save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    embedding = weights["transformer.wte.weight"]
    save_file(weights | {"lm_head.weight": embedding.clone()}, tmp_path / "model.safetensors", {"format": "pt"})
    assert torch.equal(load_model(at(tmp_path), head=True).lm_head.weight, embedding)  # the same, twice
    save_file(weights | {"lm_head.weight": 2 * embedding}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.warns(UserWarning, match=r"must hold one weight for head and embedding, .* lm_head\.weight is another one"):
        model = load_model(at(tmp_path), head=True)
    assert torch.equal(model.lm_head.weight, 2 * embedding)
    load_model(at(tmp_path), head=False)  # which needs none


def test_weights_in_several_files_are_loaded_too(make_model, tmp_path):
    (source := make_model("llama", 1)).save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    pairs = zip(load_model(at(tmp_path), head=True).parameters(), source.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_weights_that_lack_are_not_finite_or_are_cut_are_refused(family_checkpoints, tmp_path):
    source = family_checkpoints["llama"]
    weights = load_file(source.folder / "model.safetensors")
    lacking = {name: value for name, value in weights.items() if ".layers.1." not in name}
    spoiled = weights | {"model.norm.weight": torch.full((16,), float("nan"))}
    for name, content, said in (("lacking", lacking, "must hold all weights"), ("spoiled", spoiled, "must hold finite weights")):
        shutil.copytree(source.folder, tmp_path / name)
        save_file(content, tmp_path / name / "model.safetensors", {"format": "pt"})
        with pytest.raises(ValueError, match=said):
            load_model(at(tmp_path / name), head=False)
    shutil.copytree(source.folder, tmp_path / "cut")
    (tmp_path / "cut" / "model.safetensors").write_bytes((source.folder / "model.safetensors").read_bytes()[:999])
    with pytest.raises(ValueError, match=r"it holds a damaged file: model\.safetensors cannot be read"):
        load_model(at(tmp_path / "cut"), head=False)


# Sizes and dtypes


def test_the_sizes_are_read_from_the_configuration_alone(checkpoint, make_model, tmp_path):
    shutil.copy(checkpoint.folder / "config.json", tmp_path)
    found, base = models.sizes(tmp_path), make_model(checkpoint.revision).base_model
    assert found["parameters"] == sum(p.numel() for p in base.parameters())
    assert (found["layers"], found["d_model"]) == (3, 16)


def test_the_multiplied_parameters_are_those_of_the_closed_form(tmp_path, family_checkpoints):
    d, inner, heads_width = 16, 24, 16
    llama = 3 * (4 * d * heads_width + 3 * d * inner)
    assert models.sizes(family_checkpoints["llama"].folder)["multiplied"] == llama
    router, two_of_four = 4 * d, 2 * 3 * d * inner
    olmoe = 3 * (4 * d * heads_width + router + two_of_four)
    assert models.sizes(family_checkpoints["olmoe"].folder)["multiplied"] == olmoe


def test_small_models_are_float32_on_every_machine_and_large_ones_what_the_trial_finds(monkeypatch):
    for faster, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(models, "_bfloat16_is_faster", lambda faster=faster: faster)
        assert models.choose_dtype(99_999_999) == torch.float32
        assert models.choose_dtype(100_000_000) == expected
    monkeypatch.undo()
    assert models._bfloat16_is_faster() in (True, False)
