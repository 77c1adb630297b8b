"""Batched extraction equals one forward pass a statement, in every family; a stored file says what it holds."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from tokenizers import processors
from torch import nn
from transformers import BertConfig, BertModel, LlamaConfig, PreTrainedModel, PreTrainedTokenizerFast

from tracing_utils.checkpoints import activations, suites
from tracing_utils.checkpoints.activations import batches, check, encode
from tracing_utils.checkpoints.models import load_model, load_tokenizer

VOCABULARY = 320


def extract(model, tokenizer, statements, token_budget=None) -> np.ndarray:
    return activations.extract(model, encode(model, tokenizer, statements), token_budget)


def one_by_one(model, tokenizer, statements, position: int = -1) -> np.ndarray:
    """The stream after each block at one position, one statement at a time, without padding or batches."""
    blocks, out = model.base_model.h if model.config.model_type in ("gpt2", "bloom") else model.base_model.layers, []
    for statement in statements:
        seen = []
        handles = [block.register_forward_hook(lambda _m, _i, o, seen=seen: seen.append(o)) for block in blocks]
        with torch.no_grad():
            model.base_model(torch.tensor([tokenizer.encode(statement)]))
        for handle in handles:
            handle.remove()
        streams = [o[0] if isinstance(o, tuple) else o for o in seen]
        out.append(torch.stack([stream[0, position] for stream in streams]).numpy())
    return np.stack(out)


def left_padded(model, tokenizer, statements) -> np.ndarray:
    """What a naive batch gives: padded on the left, without a mask, last position of all."""
    ids = [tokenizer.encode(statement) for statement in statements]
    width = max(map(len, ids))
    rows = torch.tensor([[2] * (width - len(row)) + row for row in ids])
    with torch.no_grad():
        return model.base_model(rows, output_hidden_states=True).hidden_states[1][:, -1].numpy()


def test_batched_extraction_equals_one_by_one_forward_passes_in_every_family(checkpoint, sentences):
    model, tokenizer = load_model(checkpoint, head=False), load_tokenizer(checkpoint)
    expected = one_by_one(model, tokenizer, sentences)
    got = extract(model, tokenizer, sentences)
    assert got.shape == (len(sentences), 3, 16)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_a_wrong_position_or_padding_would_be_caught(checkpoint, sentences):
    model, tokenizer = load_model(checkpoint, head=False), load_tokenizer(checkpoint)
    expected = one_by_one(model, tokenizer, sentences)
    before_last = one_by_one(model, tokenizer, sentences, position=-2)
    assert (np.abs(before_last - expected).max(axis=2) > 1e-2).all()
    off = np.abs(left_padded(model, tokenizer, sentences) - expected[:, 0]).max(axis=1)
    lengths = [len(tokenizer.encode(statement)) for statement in sentences]
    window = model.config.sliding_window if model.config.model_type in ("mistral", "olmo3") else max(lengths)  # seen at once
    assert (off[np.array(lengths) < window] > 1e-2).all()
    assert off[np.argmax(lengths)] < 1e-5


def test_the_last_layer_is_the_block_s_output_and_not_the_normed_hidden_state(checkpoint, sentences):
    model, tokenizer = load_model(checkpoint, head=False), load_tokenizer(checkpoint)
    got = extract(model, tokenizer, sentences[:1])[0]
    with torch.no_grad():
        states = model(torch.tensor([tokenizer.encode(sentences[0])]), output_hidden_states=True).hidden_states
    np.testing.assert_allclose(got[0], states[1][0, -1].numpy(), rtol=1e-5, atol=1e-5)
    assert np.abs(got[2] - states[3][0, -1].numpy()).max() > 1e-2


@pytest.mark.parametrize("budget", [1, 40, 100, 10_000])
def test_the_token_budget_changes_nothing(family_checkpoints, sentences, budget):
    model, tokenizer = load_model(family_checkpoints["llama"], head=False), load_tokenizer(family_checkpoints["llama"])
    expected = one_by_one(model, tokenizer, sentences)
    np.testing.assert_allclose(extract(model, tokenizer, sentences, budget), expected, rtol=1e-5, atol=1e-5)


def test_the_order_of_the_statements_is_kept(family_checkpoints, sentences):
    model, tokenizer = load_model(family_checkpoints["llama"], head=False), load_tokenizer(family_checkpoints["llama"])
    there, back = extract(model, tokenizer, sentences), extract(model, tokenizer, sentences[::-1])
    np.testing.assert_allclose(there, back[::-1], rtol=1e-5, atol=1e-5)
    assert np.abs(there - back).max() > 1e-2


def test_a_model_with_its_head_gives_the_same_activations(checkpoint, sentences):
    tokenizer = load_tokenizer(checkpoint)
    bare, headed = (extract(load_model(checkpoint, head=head), tokenizer, sentences) for head in (False, True))
    assert np.array_equal(bare, headed)


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=40), budget=st.integers(1, 200))
def test_batches_take_every_statement_once_within_the_budget_longest_first(lengths, budget):
    made = list(batches(lengths, budget))
    assert sorted(i for rows in made for i in rows) == list(range(len(lengths)))
    widths = [max(lengths[i] for i in rows) for rows in made]
    assert widths == sorted(widths, reverse=True)
    assert all(len(rows) == 1 or len(rows) * width <= budget for rows, width in zip(made, widths, strict=True))


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gpt2", "olmo2", "mistral"])
def test_a_statement_longer_than_the_model_s_positions_is_refused_and_one_that_just_fits_is_not(family_checkpoints, family):
    model, tokenizer = load_model(family_checkpoints[family], head=False), load_tokenizer(family_checkpoints[family])
    fits = "é" * 127  # two byte tokens each, the prefix space and <|bos|>: 256
    assert len(tokenizer.encode(fits)) == model.config.max_position_embeddings == 256
    assert extract(model, tokenizer, [fits]).shape == (1, 3, 16)
    with pytest.raises(ValueError, match=r"1 to 256 tokens .* 'ééé.* has 258\."):
        extract(model, tokenizer, ["Short.", fits + "é"])


def test_a_statement_without_a_token_is_refused(family_checkpoints, tokenizer_folder):
    bare = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    bare.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    bare.backend_tokenizer.pre_tokenizer.add_prefix_space = False
    with pytest.raises(ValueError, match=r"1 to 256 tokens.*'' has 0\."):
        extract(load_model(family_checkpoints["llama"], head=False), bare, ["Good.", ""])


def test_no_hook_stays_behind_even_if_the_forward_pass_fails(family_checkpoints, sentences):
    model, tokenizer = load_model(family_checkpoints["llama"], head=False), load_tokenizer(family_checkpoints["llama"])
    extract(model, tokenizer, sentences)
    assert not any(module._forward_hooks for module in model.modules())
    model.layers[1].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        extract(model, tokenizer, sentences)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_tokenizer_that_knows_more_tokens_than_the_model_is_refused(family_checkpoints, tokenizer_folder):
    model, other = load_model(family_checkpoints["llama"], head=False), PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    assert encode(model, other, ["Good."])
    other.add_tokens(["Good"])
    with pytest.raises(ValueError, match="must belong to its model, which knows 320 tokens; this one gave number 320"):
        encode(model, other, ["Good."])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU; this machine has none")
def test_a_gpu_gives_what_the_cpu_gives(checkpoint, sentences):
    model, tokenizer = load_model(checkpoint, head=False), load_tokenizer(checkpoint)
    assert model.device.type == "cuda"
    there = extract(model, tokenizer, sentences, 40)  # several batches, so that copies and computation overlap
    np.testing.assert_allclose(there, extract(model.to("cpu"), tokenizer, sentences, 40), rtol=1e-4, atol=1e-4)


# The check of a model before it is used


class Model(PreTrainedModel):
    """A decoder of an unknown family: blocks under another name, with lists inside that are longer than theirs."""

    config_class = LlamaConfig

    def __init__(self, config):
        super().__init__(config)
        self.embedding = nn.Embedding(VOCABULARY, config.hidden_size)
        self.stack = nn.ModuleList(Mixer(config.hidden_size) for _ in range(3))
        self.spare = nn.ModuleList()

    def get_input_embeddings(self):
        return self.embedding

    def forward(self, input_ids, use_cache=False):
        stream = self.embedding(input_ids)
        for block in self.stack:
            stream = block(stream)
        return stream


class Mixer(nn.Module):
    """Adds to each position the mean of those up to it."""

    def __init__(self, width):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(width, width) for _ in range(5))

    def mean(self, stream):
        return stream.cumsum(1) / torch.arange(1, stream.shape[1] + 1)[:, None]

    def forward(self, stream):
        return stream + sum(torch.tanh(expert(self.mean(stream))) for expert in self.experts)


class BothWays(Mixer):
    """Sees the whole row, as an encoder does."""

    def mean(self, stream):
        return stream.mean(1, keepdim=True).expand_as(stream)


@pytest.fixture
def unknown_model():
    torch.manual_seed(0)
    return Model(LlamaConfig(vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=3, num_attention_heads=2)).eval()


def test_activations_that_overflow_are_called_that_and_no_leak(llama, tokenizer):
    check(llama, tokenizer)
    llama.model.layers[1].mlp.down_proj.weight.data.fill_(3e38)
    with pytest.raises(ValueError, match=r"Activations must be finite; those of LlamaForCausalLM overflow in torch\.float32"):
        check(llama, tokenizer)


def test_every_family_passes_the_check(checkpoint):
    check(load_model(checkpoint, head=False), load_tokenizer(checkpoint))


def test_an_unknown_decoder_passes_the_check_and_is_read_by_its_outer_list(unknown_model, tokenizer, sentences):
    check(unknown_model, tokenizer)
    assert extract(unknown_model, tokenizer, sentences).shape == (10, 3, 16)


def test_bfloat16_passes_the_check_by_its_own_tolerance(family_checkpoints, tokenizer):
    model = load_model(family_checkpoints["llama"], head=False, dtype=torch.bfloat16)
    check(model, tokenizer)


def test_a_model_that_sees_what_follows_is_refused(unknown_model, tokenizer):
    check(unknown_model, tokenizer)
    for block in unknown_model.stack:
        block.__class__ = BothWays
    with pytest.raises(ValueError, match=r"A batch must give what single statements give.* with Model they differ"):
        check(unknown_model, tokenizer)
    bert = BertModel(BertConfig(vocab_size=VOCABULARY, hidden_size=16, num_attention_heads=2, intermediate_size=8)).eval()
    with pytest.raises(ValueError, match=r"It sees what follows a token \(an encoder does\)"):
        check(bert, tokenizer)


def test_an_entry_that_is_far_larger_than_the_others_hides_nothing(unknown_model, tokenizer):
    unknown_model.embedding.weight.data[:, 3] += 1e5
    for block in unknown_model.stack:
        for expert in block.experts:
            expert.weight.data[:, 3] = 0  # or it would drown what the blocks see
    check(unknown_model, tokenizer)
    for block in unknown_model.stack:
        block.__class__ = BothWays
    with pytest.raises(ValueError, match="A batch must give what single statements give"):
        check(unknown_model, tokenizer)


def test_blocks_that_were_mistaken_are_refused(unknown_model, tokenizer):
    unknown_model.spare.extend(nn.Linear(16, 16) for _ in range(4))  # longer than the true list, and never run
    with pytest.raises(ValueError, match="Each of a model's blocks must run once, in order; those found in Model do not"):
        check(unknown_model, tokenizer)


# Stored activations


@pytest.fixture
def stored(suite_folder, sentences, make_concepts, tmp_path):
    """A checkpoint, three concept sets of two names, and the file of their activations."""
    chosen = suites.load(str(suite_folder))["step2"]
    sets = [make_concepts([0, 1] * 5, statements=sentences, dimension=name) for name in ("privacy", "fairness")]
    sets.append(make_concepts([0, 1] * 2, statements=sentences[:4], name="other", dimension="privacy"))
    activations.save(chosen, sets, tmp_path / "new")
    return chosen, sets, tmp_path / "new" / "step2.safetensors"


def test_stored_activations_are_those_of_the_model(stored):
    chosen, sets, path = stored
    for concepts in sets:
        assert np.array_equal(activations.of(chosen, concepts, str(path)), activations.of(chosen, concepts))
    assert [p.name for p in path.parent.iterdir()] == ["step2.safetensors"]
    with safe_open(path, "numpy") as file:
        assert set(file.keys()) == {"made-up/privacy", "made-up/fairness", "other/privacy"}
        assert file.metadata()["dtype"] == "float32"


def test_a_dtype_that_is_asked_for_is_taken_and_one_that_is_not_leaves_the_file_that_is_there(stored):
    chosen, sets, path = stored
    exact, begun = activations.of(chosen, sets[0], str(path)), path.stat().st_mtime_ns
    for asked, made, kept in (("float32", "float32", True), ("bfloat16", "bfloat16", False), ("auto", "bfloat16", True)):
        activations.save(chosen, sets, path.parent, dtype=asked)
        assert activations.dtype(str(path)) == made
        assert (path.stat().st_mtime_ns == begun) == kept
        begun = path.stat().st_mtime_ns
    rounded = activations.of(chosen, sets[0], str(path))
    assert not np.array_equal(rounded, exact)
    assert np.allclose(rounded, exact, atol=0.03 * np.abs(exact).max())


def test_beyond_the_memory_s_budget_activations_stay_in_a_file_and_are_the_same(stored, monkeypatch):
    chosen, sets, path = stored
    held = [activations.of(chosen, concepts, file) for concepts in sets for file in (str(path), "")]
    assert not any(isinstance(array, np.memmap) for array in held)
    monkeypatch.setattr(activations, "MEMORY", 4 * 4 * 3 * 16)  # the smallest set just fits
    again = [activations.of(chosen, concepts, file) for concepts in sets for file in (str(path), "")]
    assert [isinstance(array, np.memmap) for array in again] == [True, True, True, True, False, False]
    for before, after in zip(held, again, strict=True):
        assert np.array_equal(before, after)
    assert [p.name for p in path.parent.iterdir()] == ["step2.safetensors"]


def test_a_file_is_written_batch_by_batch(stored, monkeypatch, tmp_path):
    chosen, sets, path = stored
    most, stream = [], activations._stream

    def watched(*arguments):
        for rows, batch in stream(*arguments):
            most.append(len(rows))
            yield rows, batch

    monkeypatch.setattr(activations, "_stream", watched)
    monkeypatch.setitem(activations.BUDGET, "cpu", 40)
    activations.save(chosen, sets, tmp_path / "small")
    assert max(most[-3:]) <= 3 < len(sets[0])
    for concepts in sets:
        small = activations.of(chosen, concepts, str(tmp_path / "small" / path.name))
        np.testing.assert_allclose(small, activations.of(chosen, concepts, str(path)), rtol=1e-5, atol=1e-5)


def test_each_checkpoint_is_stored_in_a_file_of_its_own(stored, suite_folder, tmp_path):
    _, sets, _ = stored
    made = []
    for checkpoint in suites.load(str(suite_folder)).checkpoints[:2]:
        activations.save(checkpoint, sets, tmp_path / "all")
        made.append(activations.of(checkpoint, sets[0], str(tmp_path / "all" / f"{checkpoint.revision}.safetensors")))
        assert np.array_equal(made[-1], activations.of(checkpoint, sets[0]))
    assert np.abs(made[0] - made[1]).max() > 1e-2


def test_a_file_that_holds_the_same_is_kept_and_another_is_made_anew(stored, make_concepts):
    chosen, sets, path = stored
    before = path.stat().st_ino
    activations.save(chosen, sets[::-1], path.parent)
    activations.save(chosen, sets[:1], path.parent)
    assert path.stat().st_ino == before
    more = [*sets, make_concepts([0, 1], statements=["Snow.", "Ice."], dimension="toxicity")]
    with pytest.raises(ValueError, match="it holds others"):
        activations.of(chosen, more[-1], str(path))
    activations.save(chosen, more, path.parent)
    assert path.stat().st_ino != before
    assert activations.of(chosen, more[-1], str(path)).shape == (2, 3, 16)


def test_a_run_that_breaks_leaves_whole_files_only(stored, suite_folder, tmp_path):
    _, sets, _ = stored
    shutil.copytree(suite_folder, copy := tmp_path / "tiny")
    (copy / "step1" / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"step1 must hold one whole model; it holds a damaged file: model.safetensors"):
        for checkpoint in suites.load(str(copy)).checkpoints:
            activations.save(checkpoint, sets, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["step0.safetensors"]


def test_stored_activations_of_other_weights_are_refused(stored, suite_folder):
    _, sets, path = stored
    other = suites.load(str(suite_folder))["step8"]
    with pytest.raises(ValueError, match=r"must hold step8 on made-up/privacy; it holds others\. Delete it\."):
        activations.of(other, sets[0], str(path))


@pytest.mark.parametrize("change", ["statements", "labels", "groups", "dimension"])
def test_stored_activations_of_other_statements_are_refused(stored, make_concepts, change):
    chosen, sets, path = stored
    content = {"labels": [0, 1] * 5, "statements": list(sets[0].statements), "groups": None, "dimension": "privacy"}
    other = {
        "statements": [*content["statements"][:-1], "Sun."],
        "labels": [1, 0] * 5,
        "groups": ["g"] * 10,
        "dimension": "toxicity",
    }
    with pytest.raises(ValueError, match="it holds others"):
        activations.of(chosen, make_concepts(**(content | {change: other[change]})), str(path))


def test_stored_activations_of_another_tokenizer_are_refused_and_a_copy_elsewhere_is_the_same(stored, suite_folder, tmp_path):
    _, sets, path = stored
    shutil.copytree(suite_folder, copy := tmp_path / "tiny")
    same = suites.load(str(copy))["step2"]
    assert np.array_equal(activations.of(same, sets[0], str(path)), activations.of(same, sets[0]))
    vocabulary = copy / "tokenizer" / "tokenizer.json"
    vocabulary.write_text(vocabulary.read_text().replace('"add_prefix_space": true', '"add_prefix_space": false'))
    with pytest.raises(ValueError, match="it holds others"):
        activations.of(same, sets[0], str(path))


def test_a_tokenizer_without_a_tokenizer_json_has_a_key_too(stored, tmp_path):
    chosen, sets, path = stored
    old = tmp_path / "old"
    old.mkdir()
    (old / "vocab.json").write_text("{}")
    with pytest.raises(ValueError, match="it holds others"):
        activations.of(replace(chosen, tokenizer=old), sets[0], str(path))


DAMAGES = {
    "cut off": lambda old: old[:-7],
    "one bit": lambda old: old[:-100] + bytes([old[-100] ^ 1]) + old[-99:],
    "empty": lambda _: b"",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_seen_refused_and_made_again(stored, damage):
    chosen, sets, path = stored
    assert activations.whole(path)
    before = path.read_bytes()
    path.write_bytes(DAMAGES[damage](before))
    assert not activations.whole(path)
    with pytest.raises(ValueError, match=r"step2\.safetensors must hold .* Delete it"):
        activations.of(chosen, sets[-1], str(path))
    activations.save(chosen, sets, path.parent)
    assert path.read_bytes() == before
