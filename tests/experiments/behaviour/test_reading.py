"""One pass gives what direct computations give, in every family, and what is planted in it."""

import numpy as np
import pytest
import torch

from tracing_utils.checkpoints import activations
from tracing_utils.experiments.behaviour import reading


def test_likelihood_originality_and_last_vector_equal_a_direct_computation_in_every_family(model, tokenizer, sentences):
    ids = activations.encode(model, tokenizer, sentences)
    read = reading.one_pass(model, ids)
    weight, logits = model.get_output_embeddings().weight.detach().numpy(), []
    for i, row in enumerate(ids):
        with torch.inference_mode():
            logits.append(model(torch.tensor([row])).logits[0])
        p = logits[i].double().softmax(-1)
        own = p[range(len(row) - 1), row[1:]]
        assert read.nats[i] == pytest.approx(own.log().sum().item(), rel=1e-4)
        assert read.originality[i] == pytest.approx((p[:-1].amax(1) - own).mean().item(), abs=1e-4)
    assert read.tokens.tolist() == [len(row) - 1 for row in ids]
    last = np.stack([each[-1].numpy() for each in logits])
    bias = last - read.last @ weight.T
    np.testing.assert_allclose(bias, np.broadcast_to(bias[0], bias.shape), atol=2e-3)  # linear, for these families
    np.testing.assert_allclose(reading.gram(model), weight.T @ weight, rtol=1e-3, atol=1e-4)


def test_a_text_that_the_model_would_have_written_itself_is_not_original(llama, tokenizer):
    (start,) = activations.encode(llama, tokenizer, ["The"])
    said = llama.generate(torch.tensor([start]), max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=2)[
        0
    ].tolist()
    other = [*start, *[(token + 1) % 300 for token in said[len(start) :]]]
    own, strange = reading.one_pass(llama, [said, other]).originality
    assert 0 <= own < strange


def test_frequencies_know_rare_words_alone():
    common = reading.frequencies([[0, 5, 5, 5], [0, 5, 5, 9], [0, 7, 7, 9]])
    assert common.argmax() == 0
    assert common[0] == pytest.approx(np.log(5 / 9))
    assert common[1] > common[2]


def test_a_step_later_the_head_reads_at_the_token_that_was_said_first_in_every_family(model, tokenizer, sentences):
    ids = activations.encode(model, tokenizer, sentences)
    made = reading.one_pass(model, ids)
    later = reading.one_step_later(model, ids, made)
    assert later.shape == made.last.shape
    assert np.abs(later - made.last).max() > 0.01  # it is another step
    for i, row in enumerate(ids):
        with torch.inference_mode():
            said = model(torch.tensor([row])).logits[0, -1].argmax().item()
        np.testing.assert_allclose(later[i], reading.one_pass(model, [[*row, said]]).last[0], atol=2e-3)
