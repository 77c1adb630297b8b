"""Heads are heads in every family; a planted one is found, and what is spread over all of them is no place."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from tracing_utils.checkpoints import models
from tracing_utils.experiments.components import heads
from tracing_utils.statements.concepts import folds

IDS = [[0, *range(5, 5 + n)] for n in (9, 3, 6, 12)]
WIDTH = 8


def queries(model, layer, head):
    """Return the weights that make the queries of one head, a view."""
    attention = dict(models.blocks(model)[layer].named_modules())
    own = slice(head * WIDTH, (head + 1) * WIDTH)
    if model.config.model_type == "gpt2":  # queries of all heads, then keys, then values
        return attention["attn.c_attn"].weight.data[:, own]
    fused = attention.get("attention.query_key_value") or attention.get("self_attention.query_key_value")
    if fused:  # head by head: its query, its key, its value
        return fused.weight.data[3 * head * WIDTH : (3 * head + 1) * WIDTH]
    return attention["self_attn.q_proj"].weight.data[own]


def test_a_head_is_what_its_own_queries_move_in_every_family_and_a_slice_of_the_output_is_none(model):
    before, given = heads.outputs(model, IDS)
    assert before.shape == (4, 3, 2, WIDTH)
    queries(model, 1, 1).mul_(-1)  # which leaves all norms as they are
    after, given_after = heads.outputs(model, IDS)
    moved = np.abs(after - before)[:, 1].max((0, 2))
    assert moved[1] > 1e-3
    assert moved[0] < 1e-5
    slices = np.abs(given_after - given)[:, 1].reshape(4, 2, -1).max((0, 2))
    assert (slices > 1e-3).all()  # one head moves every slice of the output


def test_a_batch_gives_what_each_text_gives_alone(llama):
    together = heads.outputs(llama, IDS)
    for row, text in enumerate(IDS):
        for batch, alone in zip(together, heads.outputs(llama, [text]), strict=True):
            np.testing.assert_allclose(batch[row], alone[0], atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3"])
def test_a_push_adds_to_one_head_and_goes_through_the_map_and_the_model_is_as_before(make_model, family):
    model, vector = make_model(family), np.linspace(-1, 1, WIDTH)
    (before, given), unit = heads.outputs(model, IDS), 1  # block 0, head 1
    with heads.push(model, {unit: vector}):
        after, given_after = heads.outputs(model, IDS)
    np.testing.assert_allclose(after[:, 0, 1] - before[:, 0, 1], np.tile(vector, (4, 1)), atol=1e-5)
    np.testing.assert_allclose(after[:, 0, 0], before[:, 0, 0], atol=1e-6)
    columns = models.oriented(models.attention_maps(model)[0][0]).detach().numpy()[:, WIDTH:]
    np.testing.assert_allclose(given_after[:, 0] - given[:, 0], np.tile(columns @ vector, (4, 1)), atol=1e-5)
    assert np.array_equal(heads.outputs(model, IDS)[0], before)


def test_a_push_moves_preferences_as_a_larger_bias_of_the_map_does(make_model):
    model, vector = make_model("gpt2"), 3 * np.ones(WIDTH)
    preferred = heads.scorer(model, IDS, np.arange(4), np.array([[0, 1], [2, 3]]))
    plain = preferred()
    with heads.push(model, {2: vector}):  # block 1, head 0
        pushed = preferred()
    linear = models.attention_maps(model)[0][1]
    linear.bias.data += models.oriented(linear).detach()[:, :WIDTH] @ torch.tensor(vector, dtype=torch.float32)
    np.testing.assert_allclose(pushed, preferred(), atol=1e-5)
    assert np.abs(pushed - plain).max() > 1e-2


def test_a_model_whose_attention_is_of_an_unknown_kind_is_refused_in_a_sentence(llama):
    models.blocks(llama)[1].self_attn.o_proj = nn.Identity()
    models.blocks(llama)[1].self_attn.other = nn.Linear(16, 16)
    del models.blocks(llama)[1].self_attn.o_proj
    with pytest.raises(
        ValueError, match=r"^Each block of a model must have one map out of attention.*block 1 of .* has 0"
    ) as refused:
        models.attention_maps(llama)
    assert "\n" not in str(refused.value)
    config = AutoConfig.for_model("mamba", vocab_size=320, hidden_size=16, num_hidden_layers=1, state_size=4)
    with pytest.raises(ValueError, match="from the outputs of its 0 heads; block 0 of MambaForCausalLM has 0 that"):
        models.attention_maps(AutoModelForCausalLM.from_config(config))


@pytest.fixture
def statements(make_concepts):
    """Eighty pairs."""
    return make_concepts(np.tile([0, 1], 80), groups=[f"pair {i // 2}" for i in range(160)])


def planted(concepts, *places, size=1.5, seed=0):
    """Return noise for 2 blocks of 4 heads of 6 numbers, with the label in some heads."""
    made = np.random.default_rng(seed).standard_normal((len(concepts), 2, 4, 6)).astype(np.float32)
    for layer, head in places:
        made[:, layer, head, 0] += size * (2 * concepts.labels - 1)
    return made


def accuracies(inside, concepts):
    kinds = heads.units(inside, inside.reshape(len(inside), 2, -1))
    return kinds, {row[2:4]: row[4] for row in heads.estimates(kinds, concepts) if row[0] is None}


def test_a_planted_head_is_chosen_in_every_fold_and_beats_as_wide_mixtures_and_noise_beats_nothing(statements):
    probed = heads.Probed.of(planted(statements, (1, 2)), statements)
    assert set(probed.losses.argmin(0)) == {6}
    assert probed.correct.mean(1).argmax() == 6
    _, found = accuracies(planted(statements, (1, 2)), statements)
    assert found["best head", "accuracy"].low > 0.85
    assert found["best head", "over_projection"].low > 0.05
    assert found["best head, shuffled labels", "accuracy"].high < 0.65
    _, noise = accuracies(planted(statements), statements)
    assert 0.35 < noise["best head", "accuracy"].value < 0.65
    assert heads.Probed.of(planted(statements), statements).correct.mean(1).max() > noise["best head", "accuracy"].value


def test_what_is_spread_over_all_heads_is_no_place(statements):
    everywhere = [(layer, head) for layer in range(2) for head in range(4)]
    _, found = accuracies(planted(statements, *everywhere, size=0.6), statements)
    assert found["best random projection", "accuracy"].low > 0.6  # it can be read
    assert found["best head", "over_projection"].low < 0


def test_halves_of_the_statements_agree_on_which_heads_tell_only_where_some_do(statements):
    some = [(0, 1), (1, 2), (1, 3)]
    assert heads.replication(planted(statements, *some), statements).low > 0
    assert heads.replication(planted(statements, seed=1), statements).low < 0.3


def test_all_units_are_probed_as_one_alone(statements):
    inside = planted(statements, (0, 3), size=0.5)
    together, alone = heads.Probed.of(inside, statements), heads.Probed.of(inside[:, :1, 3:], statements)
    assert np.array_equal(together.correct[3], alone.correct[0])
    assert sorted(np.concatenate([split.test for split in folds(statements, 0)])) == list(range(160))


def test_top_heads_push_from_what_other_groups_say_and_random_ones_as_far(llama, statements):
    ids = [[0, 7 + i % 5, 20 + i % 2, 30 + i % 7] for i in range(len(statements))]
    inside, _ = heads.outputs(llama, ids)
    probed = heads.Probed.of(inside, statements)
    gains = heads.gains(llama, ids, statements, inside, probed, 2.0, 2, 3)
    assert list(gains) == ["top heads", "random heads", "random directions"]
    assert [each.n for each in gains.values()] == [32, 6, 6]
    assert all(np.isfinite(each.value) and each.low <= each.value <= each.high for each in gains.values())
    assert abs(gains["top heads"].value) > 1e-6
