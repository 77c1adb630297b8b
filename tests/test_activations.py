"""Batched extraction equals one forward pass a statement, in every family; a stored file says what it holds."""

import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from tracing_utils import activations, suites
from tracing_utils.activations import batches, extract
from tracing_utils.models import load_model, load_tokenizer

BLOCKS = {"llama": "layers", "gpt_neox": "layers", "gpt2": "h", "olmo2": "layers", "bloom": "h"}


def one_by_one(model, tokenizer, statements, position: int = -1) -> np.ndarray:
    """The stream after each block at one position, one statement at a time, without padding or batches."""
    blocks, out = getattr(model.base_model, BLOCKS[model.config.model_type]), []
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
    assert (off[np.array(lengths) < max(lengths)] > 1e-2).all()
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


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gpt2", "olmo2"])
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


# Stored activations


@pytest.fixture
def stored(suite_folder, sentences, make_concepts, tmp_path):
    """A checkpoint, two concept sets, and the file of their activations."""
    chosen = suites.load(str(suite_folder))["step2"]
    sets = [make_concepts([0, 1] * 5, statements=sentences, dimension=name) for name in ("privacy", "fairness")]
    activations.save(chosen, sets, path := tmp_path / "new" / "step2.safetensors")
    return chosen, sets, path


def test_stored_activations_are_those_of_the_model(stored):
    chosen, sets, path = stored
    for concepts in sets:
        assert np.array_equal(activations.of(chosen, concepts, str(path)), activations.of(chosen, concepts))
    assert [p.name for p in path.parent.iterdir()] == ["step2.safetensors"]


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


def test_stored_activations_of_another_tokenizer_are_refused(stored, suite_folder, tmp_path):
    _, sets, path = stored
    shutil.copytree(suite_folder, copy := tmp_path / "tiny")
    same = suites.load(str(copy))["step2"]
    assert np.array_equal(activations.of(same, sets[0], str(path)), activations.of(same, sets[0]))
    vocabulary = copy / "tokenizer" / "tokenizer.json"
    vocabulary.write_text(vocabulary.read_text().replace('"add_prefix_space": true', '"add_prefix_space": false'))
    with pytest.raises(ValueError, match="it holds others"):
        activations.of(same, sets[0], str(path))
