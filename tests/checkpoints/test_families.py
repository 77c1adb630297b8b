"""Tiny random models of many families: what is traced equals their own hidden states; what cannot be is refused in a sentence.

`make families` writes what came of each to `results/families.csv`, which the book shows.
"""

import csv
import dataclasses
import os

import numpy as np
import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from tracing_utils.checkpoints import activations, models
from tracing_utils.checkpoints.types import Checkpoint
from tracing_utils.core.paths import PROJECT

VOCABULARY, WIDTH, LAYERS = 320, 16, 3
SENTENCES = ("The bridge was closed on Monday because the river had risen.", "Birds sang.", "Why did the lamp go out?")

# What the configurations of most families call the same few sizes; of each family those are taken that it has.
_ATTENTION = {"num_attention_heads": 2, "n_head": 2, "n_heads": 2, "attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
_SIZES = _ATTENTION | {
    "vocab_size": VOCABULARY, "hidden_size": WIDTH, "n_embd": WIDTH, "d_model": WIDTH, "initializer_range": 0.3,
    "init_std": 0.3,
    "num_hidden_layers": LAYERS, "n_layer": LAYERS, "n_layers": LAYERS, "num_layers": LAYERS,
    "intermediate_size": 24, "ffn_dim": 24, "ffn_hidden_size": 24, "dff": 24,
    "max_position_embeddings": 64, "n_positions": 64, "max_seq_len": 64, "sliding_window": 8,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "num_experts_per_tok": 2, "moe_k": 2,
    "moe_topk": 2, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 8, "n_group": 1, "topk_group": 1,
    "first_k_dense_replace": 1, "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4,
    "v_head_dim": 8,
    "state_size": 4, "conv_kernel": 3, "expand": 2, "time_step_rank": 4, "mamba_n_heads": 4, "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_n_groups": 1, "mamba_d_ssm": 32, "mamba_expand": 2, "linear_num_key_heads": 2, "linear_num_value_heads": 2,
    "linear_key_head_dim": 8, "linear_value_head_dim": 8, "vocab_size_per_layer_input": VOCABULARY,
    "hidden_size_per_layer_input": 4,
}  # fmt: skip
_SIGHT = _ATTENTION | {
    "hidden_size": WIDTH, "intermediate_size": 24, "num_hidden_layers": 1, "depth": 1, "num_heads": 2, "embed_dim": WIDTH,
    "out_hidden_size": WIDTH, "image_size": 28, "patch_size": 14, "fullatt_block_indexes": [0], "deepstack_visual_indexes": [0],
    "num_key_value_heads": 2,
}  # fmt: skip
_ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}}

DENSE = {
    "apertus": {}, "arcee": {}, "biogpt": {}, "bitnet": {}, "bloom": {}, "cohere": {}, "cohere2": {}, "ctrl": {}, "ernie4_5": {},
    "exaone4": {}, "falcon": {}, "gemma": {}, "gemma2": {}, "gemma3_text": {}, "glm4": {}, "gpt2": {}, "gpt_bigcode": {},
    "gpt_neo": {"attention_types": [[["global", "local"], 1], [["global"], 1]], "window_size": 8}, "gpt_neox": {},
    "gptj": {"rotary_dim": 4}, "granite": {}, "helium": {}, "llama": {}, "mistral": {}, "modernbert-decoder": {}, "mpt": {},
    "nemotron": {}, "olmo": {}, "olmo2": {}, "olmo3": {}, "openai-gpt": {}, "opt": {}, "persimmon": {}, "phi": {}, "phi3": {},
    "qwen2": {}, "qwen3": {}, "seed_oss": {}, "smollm3": {}, "stablelm": {}, "starcoder2": {}, "xglm": {},
}  # fmt: skip
EXPERTS = {
    "deepseek_v2": {}, "deepseek_v3": {}, "ernie4_5_moe": {}, "flex_olmo": {}, "glm4_moe": {}, "gpt_oss": {}, "granitemoe": {},
    "mixtral": {}, "olmoe": {}, "phimoe": {}, "qwen2_moe": {}, "qwen3_moe": {},
}  # fmt: skip
STATES = {
    "bamba": {}, "falcon_h1": {}, "falcon_mamba": {}, "jamba": {}, "lfm2": {}, "mamba": {},
    "mamba2": {"num_heads": 4, "head_dim": 8, "n_groups": 1}, "olmo_hybrid": {}, "qwen3_next": {}, "recurrent_gemma": {},
    "rwkv": {},
}  # fmt: skip
SEEING = {
    "aya_vision": {}, "gemma3": {}, "idefics3": {}, "internvl": {}, "llava": {}, "mistral3": {}, "qwen2_vl": _ROPE,
    "qwen2_5_vl": _ROPE, "qwen3_vl": _ROPE, "smolvlm": {},
}  # fmt: skip
# What no decoder of text is, or reads both ways, and what the sentence on it says.
REFUSED = {
    "bert": "has an encoder", "roberta": "has an encoder", "electra": "has an encoder", "xlm": "has an encoder",
    "bart": "has an encoder", "t5": "has an encoder", "bert-generation": "reads in both directions",
    "xlnet": "reads in both directions", "cpmant": "reads in both directions", "vit": "reads no text",
}  # fmt: skip
FAMILIES = {
    family: (kind, own)
    for kind, members in {
        "dense": DENSE, "mixture of experts": EXPERTS, "state space, recurrent or hybrid": STATES,
        "text part of a model that sees": SEEING, "no decoder of text": {family: {} for family in REFUSED},
    }.items()
    for family, own in members.items()
}  # fmt: skip

# Their `hidden_states` begin with the first block's output; those of all others with the embedding.
_WITHOUT_EMBEDDING = ("falcon_mamba", "mamba", "mamba2", "rwkv")
_WITHOUT_FINAL_NORM = ("openai-gpt",)


def _sized(kind: type, sizes: dict, own: dict) -> dict:
    """Return the arguments of a configuration: of the sizes those it knows, and its own."""
    known = {field.name for field in dataclasses.fields(kind)} | set(kind.attribute_map)
    return {name: value for name, value in sizes.items() if name in known} | own


def _config(family: str, own: dict):
    kind = CONFIG_MAPPING[family]
    parts = kind.sub_configs if "vision_config" in kind.sub_configs else {}
    if not parts:
        return kind(**_sized(kind, _SIZES, own))
    made = {}
    for name, sizes, usual in (("text_config", _SIZES | own, "llama"), ("vision_config", _SIGHT, "siglip_vision_model")):
        part = parts[name] if dataclasses.is_dataclass(parts[name]) and parts[name].model_type else CONFIG_MAPPING[usual]
        made[name] = _sized(part, sizes, {"model_type": part.model_type}) | (own if name == "text_config" else {})
    return kind(
        **made, **_sized(kind, {"image_token_id": 5, "image_token_index": 5, "boi_token_index": 6, "eoi_token_index": 7}, {})
    )


@pytest.fixture
def family(request, tmp_path, tokenizer_folder) -> Checkpoint:
    """A random model of a family, saved."""
    config = _config(request.param, FAMILIES[request.param][1])
    torch.manual_seed(0)
    if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        model = AutoModelForImageTextToText.from_config(config)
    else:
        decodes = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and request.param not in REFUSED
        model = (AutoModelForCausalLM if decodes else AutoModel).from_config(config)
    model.save_pretrained(tmp_path)
    return Checkpoint("families", request.param, 0, None, tmp_path, tokenizer_folder)


@pytest.fixture(scope="module")
def told():
    """Rows for the table, written where `$FAMILIES_TABLE` says."""
    rows = []
    yield rows
    if table := os.environ.get("FAMILIES_TABLE"):
        with (PROJECT / table).open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("family", "kind", "parameters", "outcome"))
            writer.writerows(sorted(rows, key=lambda row: (list(FAMILIES).index(row[0]),)))


def _own_states(model, ids: list[int]) -> list[np.ndarray]:
    """Return the hidden states that the model itself gives at the last token of one statement."""
    with torch.inference_mode():
        out = models.decoder(model)(input_ids=torch.tensor([ids]), output_hidden_states=True, use_cache=False)
    return [state[0, -1].float().numpy() for state in out.hidden_states]


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in REFUSED], indirect=True)
def test_what_is_traced_is_the_family_s_own_hidden_states(family, told):
    model, tokenizer = activations._load(family, False)
    ids = activations.encode(model, tokenizer, SENTENCES)
    got, name = activations.extract(model, ids), family.revision
    assert got.shape == (len(SENTENCES), LAYERS, WIDTH)
    assert models.sizes(family.folder)["layers"] == LAYERS
    first = 0 if name in _WITHOUT_EMBEDDING else 1
    for row, traced in zip(ids, got, strict=True):
        states = _own_states(model, row)
        below = LAYERS if first == 0 or name in _WITHOUT_FINAL_NORM else LAYERS - 1
        for layer in range(below):
            np.testing.assert_allclose(traced[layer], states[layer + first], rtol=1e-3, atol=1e-3)
            assert np.abs(traced[layer] - states[layer + 1 - first]).max() > 1e-2  # of the wrong block, that would be caught
        if name not in _WITHOUT_FINAL_NORM:
            assert np.abs(traced[-1] - states[-1]).max() > 1e-2  # which is behind the final norm
    parameters = sum(weight.numel() for weight in models.decoder(model).parameters())
    told.append((name, FAMILIES[name][0], parameters, "traced"))


@pytest.mark.parametrize("family", [name for name, (kind, _) in FAMILIES.items() if kind.startswith("text part")], indirect=True)
def test_with_its_head_a_model_that_sees_gives_the_same_and_continues_text(family):
    bare, headed = (models.load_model(family, head=head) for head in (False, True))
    ids = activations.encode(bare, models.load_tokenizer(family), SENTENCES)
    assert np.array_equal(activations.extract(bare, ids), activations.extract(headed, ids))
    assert headed(input_ids=torch.tensor(ids[:1]), use_cache=False).logits.shape == (1, len(ids[0]), VOCABULARY)


@pytest.mark.parametrize("family", REFUSED, indirect=True)
def test_what_cannot_be_traced_is_refused_in_a_sentence(family, told):
    with pytest.raises(ValueError, match=REFUSED[family.revision]) as refused:
        activations._load(family, False)
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match=REFUSED[family.revision]):
        models.sizes(family.folder)  # which a plan asks for
    parameters = sum(weight.numel() for weight in AutoModel.from_pretrained(family.folder).parameters())
    sentence = str(refused.value).removeprefix(f"{family.folder} ")
    told.append((family.revision, FAMILIES[family.revision][0], parameters, f"refused: {sentence}"))
