"""Steering adds what it says where it says, leaves nothing behind, and is measured by likelihoods that are right."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tracing_utils import steering
from tracing_utils.activations import extract
from tracing_utils.concepts import DIMENSIONS, load
from tracing_utils.models import blocks, load_model
from tracing_utils.steering import (
    Sweep,
    effects,
    held_out_pairs,
    mean_difference,
    neutral_text,
    perplexity,
    preference,
    rescale,
    steer,
    token_log_likelihoods,
)

VECTOR = np.linspace(-1, 1, 16).astype(np.float32)


def logits(model, tokenizer, sentences) -> list[bytes]:
    """The exact bits of the logits of each statement."""
    with torch.no_grad():
        return [model(torch.tensor([tokenizer.encode(s)])).logits.numpy().tobytes() for s in sentences]


def bits(model) -> list[bytes]:
    return [value.numpy().tobytes() for value in model.state_dict().values()]


def hooks(model) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.fixture
def model(checkpoint):
    """A model with its head, of each family in turn."""
    return load_model(checkpoint, head=True)


@pytest.fixture
def llama(family_checkpoints):
    return load_model(family_checkpoints["llama"], head=True)


# The vector


def test_the_mean_difference_points_to_the_trustworthy_side():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    features = rng.standard_normal((400, 16)) + np.where(labels[:, None] == 1, 2.0, -1.0) * VECTOR
    found = mean_difference(features, labels)
    assert np.dot(found, VECTOR) / np.linalg.norm(found) / np.linalg.norm(VECTOR) > 0.95
    assert found == pytest.approx(3 * VECTOR, abs=0.4)
    shuffled = mean_difference(features, rng.permutation(labels))
    assert np.linalg.norm(shuffled) < 0.3 * np.linalg.norm(found)


def test_the_mean_difference_is_that_of_the_two_means_whatever_the_balance():
    features = np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]])
    assert mean_difference(features, np.array([1, 1, 0])).tolist() == [2.0, -5.0]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.floats(0.01, 100))
def test_a_rescaled_vector_has_the_norm_of_the_other_and_its_own_direction(seed, size):
    vector, like = np.random.default_rng(seed).standard_normal((2, 16)) * [[1], [size]]
    made = rescale(vector, like)
    assert np.linalg.norm(made) == pytest.approx(np.linalg.norm(like))
    assert made @ vector == pytest.approx(np.linalg.norm(made) * np.linalg.norm(vector))


# Adding it


def test_a_multiplier_of_0_changes_no_bit_and_one_of_1_does(model, tokenizer, sentences):
    before = logits(model, tokenizer, sentences)
    with steer(model, VECTOR, layer=1, multiplier=0.0):
        assert logits(model, tokenizer, sentences) == before
    with steer(model, VECTOR, layer=1, multiplier=1.0):
        assert all(now != then for now, then in zip(logits(model, tokenizer, sentences), before, strict=True))


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_the_vector_is_added_to_the_output_of_its_block_and_to_none_below(model, tokenizer, sentences, layer):
    before = extract(model, tokenizer, sentences)
    with steer(model, VECTOR, layer=layer, multiplier=-2.5):
        after = extract(model, tokenizer, sentences)
    assert np.array_equal(after[:, :layer], before[:, :layer])
    np.testing.assert_allclose(after[:, layer], before[:, layer] - 2.5 * VECTOR, rtol=1e-5, atol=1e-5)
    assert (np.abs(after[:, layer + 1 :] - before[:, layer + 1 :]).max(axis=2) > 1e-3).all()


def test_the_vector_is_added_at_every_position(model, tokenizer, sentences):
    seen = []
    blocks(model)[2].register_forward_pre_hook(
        lambda _m, args, kwargs: seen.append((args or (kwargs["hidden_states"],))[0]), with_kwargs=True
    )
    ids = torch.tensor([tokenizer.encode(sentences[0])])
    with torch.no_grad():
        model(ids)
        with steer(model, VECTOR, layer=1, multiplier=2.0):
            model(ids)
    shift = (seen[1] - seen[0]).numpy()
    assert shift.shape == (1, ids.shape[1], 16)
    np.testing.assert_allclose(shift, np.broadcast_to(2 * VECTOR, shift.shape), atol=1e-4)


def test_an_exception_inside_leaves_a_bit_identical_model(model, tokenizer, sentences):
    weights, outputs, hooked = bits(model), logits(model, tokenizer, sentences), hooks(model)
    with pytest.raises(RuntimeError, match="in the middle"), steer(model, VECTOR, layer=1, multiplier=3.0):
        assert hooks(model) == hooked + 1
        assert logits(model, tokenizer, sentences) != outputs
        raise RuntimeError("in the middle")
    assert bits(model) == weights
    assert logits(model, tokenizer, sentences) == outputs
    assert hooks(model) == hooked


def test_two_vectors_add_up_and_leave_in_any_order(llama, tokenizer, sentences):
    before = extract(llama, tokenizer, sentences)[:, 1]
    with steer(llama, VECTOR, layer=1, multiplier=1.0), steer(llama, VECTOR, layer=1, multiplier=2.0):
        both = extract(llama, tokenizer, sentences)[:, 1]
    np.testing.assert_allclose(both, before + 3 * VECTOR, rtol=1e-5, atol=1e-5)
    assert hooks(llama) == 0


@pytest.mark.parametrize(
    ("vector", "layer", "multiplier", "sentence"),
    [
        (VECTOR, 3, 1.0, r"The layer must be 0 to 2; 3 was asked for\."),
        (VECTOR, -1, 1.0, r"The layer must be 0 to 2; -1 was asked for\."),
        (VECTOR[:8], 1, 1.0, r"The vector must have the model's width, 16; it has 8\."),
        (VECTOR, 1, float("nan"), r"The multiplier must be a finite number; it is nan\."),
        (VECTOR, 1, float("inf"), r"The multiplier must be a finite number; it is inf\."),
    ],
)
def test_what_cannot_be_added_is_refused_in_a_sentence(llama, vector, layer, multiplier, sentence):
    with pytest.raises(ValueError, match=sentence), steer(llama, vector, layer=layer, multiplier=multiplier):
        pass
    assert hooks(llama) == 0


# Likelihoods


def direct_log_likelihood(model, ids: list[int]) -> float:
    """Sum over tokens of log softmax at the token before, statement alone, in float64."""
    with torch.no_grad():
        rows = model(torch.tensor([ids])).logits[0].double().numpy()
    nats = 0.0
    for position in range(1, len(ids)):
        row = rows[position - 1]
        nats += row[ids[position]] - np.log(np.exp(row - row.max()).sum()) - row.max()
    return nats


def test_log_likelihoods_equal_a_direct_computation_in_every_family(model, tokenizer, sentences):
    nats, tokens = token_log_likelihoods(model, tokenizer, sentences)
    ids = [tokenizer.encode(sentence) for sentence in sentences]
    np.testing.assert_allclose(nats, [direct_log_likelihood(model, row) for row in ids], rtol=1e-5)
    assert tokens.tolist() == [len(row) - 1 for row in ids]


def test_a_likelihood_that_scored_padding_would_be_caught(model, tokenizer, sentences):
    nats, _ = token_log_likelihoods(model, tokenizer, sentences)
    ids = [tokenizer.encode(sentence) for sentence in sentences]
    width = max(map(len, ids))
    padded = np.array([direct_log_likelihood(model, row + [0] * (width - len(row))) for row in ids])
    short = np.array([len(row) < width for row in ids])
    assert (padded[short] < nats[short] - 0.1).all()


def test_the_likelihood_of_a_pair_changes_under_steering_and_comes_back(model, tokenizer, sentences):
    before, _ = token_log_likelihoods(model, tokenizer, sentences)
    with steer(model, VECTOR, layer=1, multiplier=2.0):
        within, _ = token_log_likelihoods(model, tokenizer, sentences)
    after, _ = token_log_likelihoods(model, tokenizer, sentences)
    assert np.array_equal(before, after)
    assert (np.abs(within - before) > 1e-3).all()


# Pairs


def test_the_pairs_of_a_group_are_all_its_combinations(make_concepts):
    made = make_concepts([1, 0, 1, 0, 1, 0], groups=["a", "a", "a", "b", "b", "c"])
    assert held_out_pairs(made, np.arange(6)).tolist() == [[0, 1], [2, 1], [4, 3]]


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 1), st.booleans()), min_size=4, max_size=40))
def test_pairs_are_made_of_held_out_statements_only_trustworthy_first(make_concepts, rows):
    made = make_concepts([label for _, label, _ in rows], groups=[f"g{group}" for group, _, _ in rows])
    held_out = np.flatnonzero([kept for *_, kept in rows])
    if len(set(made.labels[held_out].tolist())) < 2:
        with pytest.raises(ValueError, match="must hold both labels"):
            held_out_pairs(made, held_out)
        return
    pairs = held_out_pairs(made, held_out)
    assert set(pairs.ravel().tolist()) <= set(held_out.tolist())
    assert (made.labels[pairs] == [1, 0]).all()


def test_statements_that_stand_alone_are_paired_in_the_order_of_the_file(make_concepts):
    made = make_concepts([1, 0, 0, 1, 1, 0, 1])
    assert held_out_pairs(made, np.array([0, 2, 3, 5, 6])).tolist() == [[0, 2], [3, 5]]


def test_a_few_contradicting_duplicates_do_not_become_the_only_pairs(make_concepts):
    made = make_concepts([1, 0, 1, 0, 1, 0], groups=["same", "same", "a", "b", "c", "d"])
    assert len(held_out_pairs(made, np.arange(6))) == 3
    assert len(held_out_pairs(made, np.arange(2))) == 1  # where they are all there is, they are a pair


def test_a_preference_is_positive_where_the_trustworthy_member_is_likelier_per_token():
    nats, tokens = np.array([-10.0, -30.0, -40.0]), np.array([10, 10, 40])
    assert preference(nats, tokens, np.array([[0, 1], [1, 0], [0, 2]])).tolist() == [2.0, -2.0, 0.0]


# Perplexity


def test_a_model_that_knows_nothing_has_the_vocabulary_as_its_perplexity(llama, tokenizer, sentences):
    with torch.no_grad():
        for parameter in llama.parameters():
            parameter.zero_()
    measured = perplexity(*token_log_likelihoods(llama, tokenizer, sentences))
    size = llama.config.vocab_size
    assert (measured.value, measured.low, measured.high) == pytest.approx((size, size, size), rel=1e-5)
    assert measured.n == len(sentences)


def test_perplexity_is_weighted_by_tokens_and_not_by_statements():
    nats, tokens = np.array([-2 * np.log(4), -8 * np.log(16)]), np.array([2, 8])
    assert perplexity(nats, tokens).value == pytest.approx(4**0.2 * 16**0.8)
    assert perplexity(nats, tokens).value != pytest.approx(np.sqrt(4 * 16), rel=0.1)


def test_the_interval_of_perplexity_holds_the_value_and_narrows_with_more_statements():
    rng = np.random.default_rng(1)
    tokens = rng.integers(5, 20, size=400)
    nats = -tokens * rng.normal(3, 0.5, size=400)
    few, many = perplexity(nats[:40], tokens[:40]), perplexity(nats, tokens)
    assert many.low < many.value < many.high
    assert many.low < np.exp(3.0) < many.high * 1.02
    assert many.high - many.low < 0.6 * (few.high - few.low)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_neutral_text_is_trustworthy_and_of_the_other_four_dimensions(dimension):
    text = neutral_text(dimension)
    assert len(text) == len(set(text)) == 60
    own = load("pocket", dimension)
    assert not set(text) & set(own.statements)
    sides = {s: int(label) for d in DIMENSIONS for s, label in zip(load("pocket", d).statements, load("pocket", d).labels)}  # noqa: B905
    assert {sides[statement] for statement in text} == {1}


# A sweep


@pytest.fixture
def pairs(make_concepts, sentences):
    """Ten statements as five pairs, in an order that is not that of the file."""
    made = make_concepts([1, 0] * 5, statements=sentences, groups=[f"g{i // 2}" for i in range(10)], dimension="privacy")
    return made, np.array([[8, 9], [2, 3], [6, 7], [0, 1], [4, 5]])


def steered(model, tokenizer, pairs, layer: int, shift: np.ndarray):
    """Preferences and perplexity by the context manager, whole model every time."""
    concepts, index = pairs
    with steer(model, shift, layer=layer, multiplier=1.0):
        own = token_log_likelihoods(model, tokenizer, concepts.statements)
        neutral = token_log_likelihoods(model, tokenizer, neutral_text(concepts.dimension))
    return preference(*own, index), perplexity(*neutral)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_sweep_gives_what_steering_the_whole_model_gives(model, tokenizer, pairs, layer):
    sweep = Sweep(model, tokenizer, *pairs, layer)
    for multiplier in (0.0, 2.0, -3.0):
        preferences, cost = sweep(multiplier * VECTOR)
        expected, expected_cost = steered(model, tokenizer, pairs, layer, multiplier * VECTOR)
        np.testing.assert_allclose(preferences, expected, rtol=1e-4, atol=1e-4)
        assert cost.value == pytest.approx(expected_cost.value, rel=1e-4)
        assert cost.n == expected_cost.n == 60
        wrong, _ = steered(model, tokenizer, pairs, (layer + 1) % 3, multiplier * VECTOR)
        assert multiplier == 0 or np.abs(preferences - wrong).max() > 1e-3


def test_a_sweep_leaves_the_model_as_it_was_even_if_a_call_fails(model, tokenizer, pairs, sentences):
    weights, outputs, hooked = bits(model), logits(model, tokenizer, sentences), hooks(model)
    own = list(blocks(model))
    sweep = Sweep(model, tokenizer, *pairs, 1)
    sweep(VECTOR)
    broken = blocks(model)[2].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        sweep(VECTOR)
    broken.remove()
    assert all(now is then for now, then in zip(blocks(model), own, strict=True))
    assert bits(model) == weights
    assert logits(model, tokenizer, sentences) == outputs
    assert hooks(model) == hooked


@pytest.mark.parametrize("layer", [-1, 3])
def test_a_sweep_over_a_layer_that_does_not_exist_is_refused_in_a_sentence(llama, tokenizer, pairs, layer):
    with pytest.raises(ValueError, match=rf"The layer must be 0 to 2; {layer} was asked for\."):
        Sweep(llama, tokenizer, *pairs, layer)


def test_a_sweep_with_a_vector_of_another_width_is_refused_in_a_sentence(llama, tokenizer, pairs):
    sweep = Sweep(llama, tokenizer, *pairs, 1)
    with pytest.raises(ValueError, match=r"must have the model's width, 16; it has 1\."):
        sweep(VECTOR[:1])


# Effects


def gradient_of_preference(model, tokenizer, pairs, layer: int) -> np.ndarray:
    """The direction in which a push at `layer` raises the mean preference fastest, by automatic differentiation."""
    concepts, index = pairs
    push = torch.zeros(16, requires_grad=True)
    handle = blocks(model)[layer].register_forward_hook(lambda _m, _i, o: o + push)
    per_token = []
    for statement in concepts.statements:
        ids = torch.tensor([tokenizer.encode(statement)])
        per_token.append(-model(ids, labels=ids).loss)
    sum(per_token[one] - per_token[zero] for one, zero in index).backward()
    handle.remove()
    return push.grad.numpy() / len(index)


def test_a_vector_that_raises_the_preference_gains_with_a_positive_multiplier_and_loses_with_a_negative(llama, tokenizer, pairs):
    gradient = gradient_of_preference(llama, tokenizer, pairs, 1)
    sweep = Sweep(llama, tokenizer, *pairs, 1)
    step = 1e-2 * gradient / np.linalg.norm(gradient)
    before, after, opposite = (sweep(shift.astype(np.float32))[0] for shift in (0 * step, step, -step))
    groups = [f"g{i}" for i in range(5)]
    expected = 1e-2 * np.linalg.norm(gradient)
    assert effects(before, after, groups)["gain"].value == pytest.approx(expected, rel=0.1)
    assert effects(before, opposite, groups)["gain"].value == pytest.approx(-expected, rel=0.1)


def test_the_effect_is_the_mean_change_and_the_share_preferred_afterwards():
    before, after = np.array([-1.0, -1.0, 1.0, 2.0]), np.array([1.0, -0.5, 0.5, 3.0])
    made = effects(before, after, ["a", "b", "c", "d"])
    assert made["gain"].value == pytest.approx(0.75)
    assert made["preferred"].value == pytest.approx(0.75)
    same = effects(before, before, ["a", "b", "c", "d"])
    assert (same["gain"].value, same["gain"].low, same["gain"].high) == (0, 0, 0)
    assert same["preferred"].value == 0.5


def test_every_public_name_of_the_module_exists():
    named = steering.__doc__.split("Public names:")[1].replace("\n", " ")
    for name in named.replace("`", "").replace(".", "").split(","):
        assert hasattr(steering, name.strip())
