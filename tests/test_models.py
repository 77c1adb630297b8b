"""Models of five families are loaded, their blocks found, and what is wrong is said in one sentence."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BertConfig, BertModel, LlamaConfig, PreTrainedModel

from tracing_utils.models import block_output, blocks, load_model, load_tokenizer, with_block_output
from tracing_utils.suites import Checkpoint


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
    assert block_output((stream, "cache")) is stream
    assert with_block_output(stream, other) is other
    assert with_block_output((stream, "cache"), other) == (other, "cache")


def test_the_released_code_s_indexing_of_a_bare_tensor_is_caught_as_it_would_lose_the_batch():
    stream = torch.zeros(2, 5, 4)
    with pytest.raises(AssertionError, match="batch pos d_model"):
        block_output(stream[0])


def test_a_folder_without_a_model_is_refused_by_name(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ValueError, match="must hold a model; reading it failed") as refused:
        load_model(Checkpoint("s", "step0", 0, None, tmp_path, tmp_path), head=True)
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_folder_without_a_tokenizer_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="must hold a tokenizer; reading it failed") as refused:
        load_tokenizer(Checkpoint("s", "step0", 0, None, tmp_path, tmp_path))
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
        load_model(Checkpoint("s", "step0", 0, None, tmp_path, tmp_path), head=True)


def test_a_weights_file_that_was_cut_off_is_refused_by_name(tmp_path, family_checkpoints):
    source = family_checkpoints["llama"].folder
    (tmp_path / "config.json").write_text((source / "config.json").read_text())
    whole = (source / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="must hold a model; reading it failed"):
        load_model(Checkpoint("s", "step0", 0, None, tmp_path, tmp_path), head=True)
