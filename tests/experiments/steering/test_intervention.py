"""Steering adds what it says where it says, leaves nothing behind, and chooses by its rule."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from tracing_utils.checkpoints.activations import encode
from tracing_utils.checkpoints.activations import extract as extract_ids
from tracing_utils.checkpoints.models import blocks
from tracing_utils.experiments.steering import intervention
from tracing_utils.experiments.steering.intervention import (
    Response,
    Sweep,
    choose,
    directions,
    dose_response,
    effects,
    mean_difference,
    one_deviation,
    read_preferences,
    relative_norms,
    save,
    steer,
)
from tracing_utils.experiments.steering.likelihoods import Perplexity, neutral_text, perplexity, preference, token_log_likelihoods

NEUTRAL = neutral_text("privacy")
VECTOR = np.linspace(-1, 1, 16).astype(np.float32)


def logits(model, tokenizer, sentences) -> list[bytes]:
    """The exact bits of the logits of each statement."""
    with torch.no_grad():
        return [model(torch.tensor([tokenizer.encode(s)])).logits.numpy().tobytes() for s in sentences]


def extract(model, tokenizer, sentences) -> np.ndarray:
    """The last-token residual stream of each statement after every block."""
    return extract_ids(model, encode(model, tokenizer, sentences))


def bits(model) -> list[bytes]:
    return [value.numpy().tobytes() for value in model.state_dict().values()]


def hooks(model) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


# The vector


def test_the_mean_difference_points_to_the_trustworthy_side():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    features = rng.standard_normal((400, 16)) + np.where(labels[:, None] == 1, 2.0, -1.0) * VECTOR
    vector = mean_difference(features, labels)
    assert np.dot(vector, VECTOR) / np.linalg.norm(vector) / np.linalg.norm(VECTOR) > 0.95
    assert vector == pytest.approx(3 * VECTOR, abs=0.4)
    shuffled = mean_difference(features, rng.permutation(labels))
    assert np.linalg.norm(shuffled) < 0.3 * np.linalg.norm(vector)


def test_the_mean_difference_is_that_of_the_two_means_whatever_the_balance():
    features = np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]])
    assert mean_difference(features, np.array([1, 1, 0])).tolist() == [2.0, -5.0]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.floats(0.01, 100))
def test_a_vector_of_one_deviation_moves_projections_by_their_spread_whatever_its_length_was(seed, size):
    rng = np.random.default_rng(seed)
    vector, features = size * rng.standard_normal(16), rng.standard_normal((40, 16)) @ rng.standard_normal((16, 16)) + 100.0
    scaled = one_deviation(vector, features)
    unit = vector / np.linalg.norm(vector)
    along = features @ unit
    assert scaled @ vector == pytest.approx(np.linalg.norm(scaled) * np.linalg.norm(vector))
    assert ((features + scaled) @ unit - along) == pytest.approx(np.sqrt(((along - along.mean()) ** 2).mean()))


@pytest.fixture
def two_models(make_concepts):
    """Activations of two models on forty statements: one concept each, of different size, at three layers."""
    concepts = make_concepts(np.arange(40) % 2, groups=[f"g{i // 2}" for i in range(40)])
    rng = np.random.default_rng(3)
    small, large = (
        size * (rng.standard_normal((40, 3, 16)) + 2 * concepts.labels[:, None, None] * VECTOR) for size in (1.0, 30.0)
    )
    return concepts, small, large


def test_directions_are_one_deviation_of_the_target_long_and_come_from_the_train_part_alone(two_models):
    made, source, target = two_models
    train = np.arange(24)
    vectors = directions(source, target, made, train, [0, 2])
    for k, layer in enumerate((0, 2)):
        true = mean_difference(source[train, layer], made.labels[train])
        unit = true / np.linalg.norm(true)
        assert vectors["vector"][k] == pytest.approx(unit * (target[train, layer] @ unit).std())
    changed = source.copy()
    changed[24:] = 1e6
    again = directions(changed, target, made, train, [0, 2])
    assert np.array_equal(again["vector"], vectors["vector"])
    changed[:24] = np.random.default_rng(0).standard_normal((24, 3, 16))
    assert not np.allclose(directions(changed, target, made, train, [0, 2])["vector"], vectors["vector"])


def test_a_dose_does_not_vanish_where_crossing_cancels_the_difference_of_means(make_concepts):
    """On 49ec766 a vector had the norm of the target's own difference of means: 1 to 4 % of an activation's norm."""
    rng = np.random.default_rng(4)
    concepts = make_concepts(np.arange(400) % 2, groups=[f"g{i // 2}" for i in range(400)])
    scene = np.repeat(rng.standard_normal((200, 16)), 2, axis=0)  # both members of a pair lie on the same spot, nearly
    acts = (scene + 0.05 * rng.standard_normal((400, 16)) + 0.02 * concepts.labels[:, None] * VECTOR)[:, None]
    train = np.arange(400)
    cancelled = np.linalg.norm(mean_difference(acts[:, 0], concepts.labels))
    vector = directions(acts, acts, concepts, train, [0])["vector"]
    (share,) = relative_norms(vector, acts, [0])
    assert cancelled / np.linalg.norm(acts[:, 0], axis=1).mean() < 0.04
    assert share > 0.15
    assert share == pytest.approx(np.linalg.norm(vector) / np.linalg.norm(acts[:, 0], axis=1).mean())


PAIRS = {
    "pairs.csv": 'prompt,chosen,rejected\nq,"Good, kind.",Bad.\nq,Fair.,Foul.\n',
    "pairs.jsonl": '{"chosen": "Good, kind.", "rejected": "Bad."}\n\n{"rejected": "Foul.", "chosen": "Fair."}\n',
}


@pytest.mark.parametrize("name", PAIRS)
def test_preferences_are_read_with_the_chosen_text_as_the_trustworthy_one(tmp_path, name):
    (tmp_path / name).write_text(PAIRS[name])
    pairs = read_preferences(tmp_path / name)
    assert pairs.statements == ("Good, kind.", "Bad.", "Fair.", "Foul.")
    assert pairs.labels.tolist() == [1, 0, 1, 0]
    assert pairs.groups[0] == pairs.groups[1] != pairs.groups[2] == pairs.groups[3]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("pairs.csv", b"chosen,other\na,b\n", "must have the columns chosen and rejected; rejected is missing"),
        ("pairs.csv", b"chosen,rejected\na,b\nc,\n", "row 3: both texts of a pair must hold text; it is empty"),
        ("pairs.csv", b"chosen,rejected\na\n", "row 2: both texts of a pair must hold text; it is empty"),
        ("pairs.csv", b"chosen,rejected\n", "must hold at least one pair"),
        ("pairs.csv", b"chosen,rejected\n\xff,a\n", "must be UTF-8"),
        ("pairs.jsonl", b'{"chosen": "a", "rejected": 3}\n', "row 1: both texts of a pair must hold text; it is 3"),
        ("pairs.jsonl", b'["a", "b"]\n', "row 1: it must be a JSON object with chosen and rejected"),
        ("pairs.jsonl", b"chosen", "row 1: it must be JSON"),
    ],
)
def test_a_preference_file_that_is_wrong_is_refused_in_a_sentence(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        read_preferences(tmp_path / name)
    with pytest.raises(ValueError, match="is no file"):
        read_preferences(tmp_path / "absent.csv")


def test_the_universal_vector_is_the_mean_difference_over_the_pairs_one_deviation_of_the_target_long(two_models, tmp_path):
    made, source, target = two_models
    (tmp_path / "pairs.csv").write_text(PAIRS["pairs.csv"])
    acts = np.random.default_rng(5).standard_normal((4, 3, 16))
    found = intervention.universal(acts, read_preferences(tmp_path / "pairs.csv"))
    assert found == pytest.approx((acts[0] + acts[2] - acts[1] - acts[3]) / 2)
    train = np.arange(24)
    vectors = directions(source, target, made, train, [0, 2], found)
    for k, layer in enumerate((0, 2)):
        assert vectors["universal"][k] == pytest.approx(one_deviation(found[layer], target[train, layer]))
    assert set(directions(source, target, made, train, [0, 2])) == {"vector"}


def test_vectors_lie_in_their_file_with_their_provenance(tmp_path):
    provenance = {"revision": "step8", "layers": [1, 2]}
    save(tmp_path / "new" / "v.safetensors", {"privacy/direction/vector": np.stack([VECTOR, 2 * VECTOR])}, provenance)
    with safe_open(tmp_path / "new" / "v.safetensors", "numpy") as file:
        assert np.array_equal(file.get_tensor("privacy/direction/vector"), np.stack([VECTOR, 2 * VECTOR]))
        assert json.loads(file.metadata()["provenance"]) == provenance
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["v.safetensors"]


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


@pytest.mark.parametrize("positions", intervention.POSITIONS)
def test_an_exception_inside_leaves_a_bit_identical_model(model, tokenizer, sentences, positions):
    weights, outputs, hooked = bits(model), logits(model, tokenizer, sentences), hooks(model)
    steered = steer(model, {0: VECTOR, 1: VECTOR}, multiplier=3.0, positions=positions)
    with pytest.raises(RuntimeError, match="in the middle"), steered:
        assert hooks(model) == hooked + 2 + (positions in ("first", "response"))
        assert (logits(model, tokenizer, sentences) == outputs) == (positions == "response")
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


def test_several_layers_at_once_are_as_one_inside_another(model, tokenizer, sentences):
    with steer(model, VECTOR, layer=0, multiplier=2.0), steer(model, -VECTOR, layer=2, multiplier=2.0):
        nested = extract(model, tokenizer, sentences)
    with steer(model, {0: VECTOR, 2: -VECTOR}, multiplier=2.0):
        assert np.array_equal(extract(model, tokenizer, sentences), nested)
    assert not np.allclose(extract(model, tokenizer, sentences), nested)


def streams(model, run) -> list[np.ndarray]:
    """What enters block 2 in each pass of `run`."""
    seen = []
    handle = blocks(model)[2].register_forward_pre_hook(
        lambda _m, args, kwargs: seen.append((args or (kwargs["hidden_states"],))[0].numpy().copy()), with_kwargs=True
    )
    with torch.no_grad():
        run()
    handle.remove()
    return seen


def test_in_generation_the_last_position_or_only_the_response_is_steered(model, tokenizer, sentences):
    """The first pass holds the prompt; the second the token that was generated, the same in all, since it is forced."""
    ids = torch.tensor([tokenizer.encode(sentences[0])])

    def run():
        first = model(ids, use_cache=True)
        model(torch.tensor([[9]]), past_key_values=first.past_key_values, use_cache=True)

    plain, shifts = streams(model, run), {}
    for positions in intervention.POSITIONS:
        with steer(model, VECTOR, layer=1, multiplier=2.0, positions=positions):
            shifts[positions] = [after - before for after, before in zip(streams(model, run), plain, strict=True)]
    everywhere = np.broadcast_to(2 * VECTOR, plain[0].shape)
    np.testing.assert_allclose(shifts["all"][0], everywhere, atol=1e-4)
    np.testing.assert_allclose(shifts["last"][0][:, -1], everywhere[:, -1], atol=1e-4)
    assert not shifts["last"][0][:, :-1].any()
    assert not shifts["response"][0].any()
    np.testing.assert_allclose(shifts["first"][0][:, 0], everywhere[:, 0], atol=1e-4)
    assert not shifts["first"][0][:, 1:].any()
    assert not shifts["first"][1].any()
    for positions in ("all", "last", "response"):
        np.testing.assert_allclose(shifts[positions][1][0, 0], 2 * VECTOR, atol=1e-4)


def test_the_first_token_of_a_text_is_steered_wherever_padding_puts_it(llama, tokenizer, sentences):
    """Padded on the left, the first token is not at the first place: without the mask nobody could know."""
    ids = tokenizer.encode(sentences[0])
    alone, padded = torch.tensor([ids]), torch.tensor([[0, 0, *ids]])
    mask = torch.tensor([[0, 0, *[1] * len(ids)]])
    with steer(llama, VECTOR, layer=1, multiplier=2.0, positions="first"):
        (here,) = streams(llama, lambda: llama(alone))
        (there,) = streams(llama, lambda: llama(padded, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)))
        (blind,) = streams(llama, lambda: llama(padded))
    np.testing.assert_allclose(there[:, 2:], here, atol=1e-4)
    assert np.abs(blind[:, 2] - here[:, 0]).max() > 0.1


def test_one_vector_needs_a_layer_and_several_need_none(llama):
    for vector, layer in ((VECTOR, None), ({1: VECTOR}, 1)):
        with pytest.raises(ValueError, match="One vector needs its layer"), steer(llama, vector, layer=layer, multiplier=1.0):
            pass
    with (
        pytest.raises(ValueError, match="Did you mean 'response'"),
        steer(llama, {1: VECTOR}, multiplier=1.0, positions="respons"),
    ):
        pass


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


def test_the_likelihood_of_a_pair_changes_under_steering_and_comes_back(model, tokenizer, sentences):
    before, _ = token_log_likelihoods(model, tokenizer, sentences)
    with steer(model, VECTOR, layer=1, multiplier=2.0):
        within, _ = token_log_likelihoods(model, tokenizer, sentences)
    after, _ = token_log_likelihoods(model, tokenizer, sentences)
    assert np.array_equal(before, after)
    assert (np.abs(within - before) > 1e-3).all()


# A sweep


@pytest.fixture
def pairs(make_concepts, sentences):
    """Ten statements as five pairs, in an order that is not that of the file."""
    concepts = make_concepts([1, 0] * 5, statements=sentences, groups=[f"g{i // 2}" for i in range(10)], dimension="privacy")
    return concepts, np.array([[8, 9], [2, 3], [6, 7], [0, 1], [4, 5]])


def steered(model, tokenizer, pairs, layer: int, shift: np.ndarray, positions: str = "all", neutral=NEUTRAL):
    """Preferences and perplexity by the context manager, whole model every time."""
    concepts, index = pairs
    with steer(model, shift, layer=layer, multiplier=1.0, positions=positions):
        own = token_log_likelihoods(model, tokenizer, concepts.statements)
        likely = token_log_likelihoods(model, tokenizer, neutral)
    return preference(*own, index), perplexity(*likely)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_sweep_gives_what_steering_the_whole_model_gives(model, tokenizer, pairs, layer):
    sweep = Sweep(model, tokenizer, *pairs, [layer], NEUTRAL)
    for multiplier in (0.0, 2.0, -3.0):
        preferences, cost = sweep(layer, multiplier * VECTOR)
        expected, expected_cost = steered(model, tokenizer, pairs, layer, multiplier * VECTOR)
        np.testing.assert_allclose(preferences, expected, rtol=1e-4, atol=1e-4)
        assert cost.value == pytest.approx(expected_cost.value, rel=1e-4)
        assert cost.n == expected_cost.n == 60
        if multiplier:
            wrong, _ = steered(model, tokenizer, pairs, (layer + 1) % 3, multiplier * VECTOR, neutral=NEUTRAL[:1])
            assert np.abs(preferences - wrong).max() > 1e-3


@pytest.mark.parametrize("positions", ["all", "first"])
def test_a_sweep_gives_what_the_whole_model_gives_on_one_statement_at_a_time(model, tokenizer, pairs, positions):
    """The plain way: no trees, no shared lines, no padding, every block and every logit; to 1e-4 nats per token."""
    concepts, index = pairs
    neutral, per_token = NEUTRAL[:6], []
    preferences, cost = Sweep(model, tokenizer, concepts, index, [1], neutral, positions)(1, 2 * VECTOR)
    with torch.no_grad(), steer(model, VECTOR, layer=1, multiplier=2.0, positions=positions):
        for ids in encode(model, tokenizer, [*concepts.statements, *neutral]):
            logp = model(torch.tensor([ids])).logits[0, :-1].log_softmax(1)
            per_token.append(float(logp[range(len(ids) - 1), ids[1:]].mean()))
    plain = np.array(per_token)
    np.testing.assert_allclose(preferences, plain[index[:, 0]] - plain[index[:, 1]], atol=1e-4)
    np.testing.assert_allclose(cost.losses, -plain[10:], atol=1e-4)
    unsteered, _ = Sweep(model, tokenizer, concepts, index, [1], neutral, positions).unsteered()
    assert np.abs(preferences - unsteered).max() > 1e-3


def test_a_sweep_skips_the_head_where_members_begin_alike_and_only_if_they_are_equally_long(llama, tokenizer, make_concepts):
    """What a pair begins with adds as much to both likelihoods per token; not so if one member is longer."""
    texts = ["the red cat sat on chair 4", "the red cat sat on chair 7", "the old dog ran to it", "the old dog ran to it and on"]
    concepts = make_concepts([1, 0, 1, 0], statements=texts, groups=["a", "a", "b", "b"], dimension="privacy")
    ids = encode(llama, tokenizer, texts)
    (first, second), (third, fourth) = ids[:2], ids[2:]
    assert len(first) == len(second) and len(third) != len(fourth)
    both = np.array([[0, 1], [2, 3]])
    begins = intervention._scored_from(ids, both)
    assert begins == [next(at for at, (a, b) in enumerate(zip(first, second, strict=True)) if a != b)] * 2 + [1, 1]
    assert begins[0] > 4
    sweep = Sweep(llama, tokenizer, concepts, both, [1], NEUTRAL)
    expected, cost = steered(llama, tokenizer, (concepts, both), 1, 2 * VECTOR)
    found, swept = sweep(1, 2 * VECTOR)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(swept.losses, cost.losses, atol=1e-4)


def test_a_sweep_at_first_tokens_gives_what_steering_there_gives(llama, tokenizer, pairs):
    preferences, cost = Sweep(llama, tokenizer, *pairs, [1], NEUTRAL, "first")(1, 3 * VECTOR)
    expected, expected_cost = steered(llama, tokenizer, pairs, 1, 3 * VECTOR, "first")
    np.testing.assert_allclose(preferences, expected, rtol=1e-4, atol=1e-4)
    assert cost.value == pytest.approx(expected_cost.value, rel=1e-4)
    everywhere, _ = steered(llama, tokenizer, pairs, 1, 3 * VECTOR)
    assert np.abs(preferences - everywhere).max() > 1e-3
    with pytest.raises(ValueError, match="positions of a sweep"):
        Sweep(llama, tokenizer, *pairs, [1], NEUTRAL, "last")


def test_a_sweep_leaves_the_model_as_it_was_even_if_a_call_fails(model, tokenizer, pairs, sentences):
    weights, outputs, hooked = bits(model), logits(model, tokenizer, sentences), hooks(model)
    own = list(blocks(model))
    sweep = Sweep(model, tokenizer, *pairs, [1], NEUTRAL)
    sweep(1, VECTOR)
    broken = blocks(model)[2].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        sweep(1, VECTOR)
    broken.remove()
    assert all(now is then for now, then in zip(blocks(model), own, strict=True))
    assert bits(model) == weights
    assert logits(model, tokenizer, sentences) == outputs
    assert hooks(model) == hooked


@pytest.mark.parametrize("layer", [-1, 3])
def test_a_sweep_over_a_layer_that_does_not_exist_is_refused_in_a_sentence(llama, tokenizer, pairs, layer):
    with pytest.raises(ValueError, match=rf"The layer must be 0 to 2; {layer} was asked for\."):
        Sweep(llama, tokenizer, *pairs, [layer], NEUTRAL)


def test_a_sweep_with_a_vector_of_another_width_is_refused_in_a_sentence(llama, tokenizer, pairs):
    sweep = Sweep(llama, tokenizer, *pairs, [1], NEUTRAL)
    with pytest.raises(ValueError, match=r"must have the model's width, 16; it has 1\."):
        sweep(1, VECTOR[:1])


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
    sweep = Sweep(llama, tokenizer, *pairs, [1], NEUTRAL)
    step = 1e-2 * gradient / np.linalg.norm(gradient)
    before, after, opposite = (sweep(1, shift.astype(np.float32))[0] for shift in (0 * step, step, -step))
    groups = [f"g{i}" for i in range(5)]
    expected = 1e-2 * np.linalg.norm(gradient)
    assert effects(before, after, groups)["gain"].value == pytest.approx(expected, rel=0.1)
    assert effects(before, opposite, groups)["gain"].value == pytest.approx(-expected, rel=0.1)


def test_the_effect_is_the_mean_change_and_the_share_preferred_afterwards():
    before, after = np.array([-1.0, -1.0, 1.0, 2.0]), np.array([1.0, -0.5, 0.5, 3.0])
    effect = effects(before, after, ["a", "b", "c", "d"])
    assert effect["gain"].value == pytest.approx(0.75)
    assert effect["preferred"].value == pytest.approx(0.75)
    same = effects(before, before, ["a", "b", "c", "d"])
    assert (same["gain"].value, same["gain"].low, same["gain"].high) == (0, 0, 0)
    assert same["preferred"].value == 0.5


# Choosing


def test_a_dose_response_is_the_sweep_of_every_setting(llama, tokenizer, pairs):
    sweep = Sweep(llama, tokenizer, *pairs, [0, 2], NEUTRAL[:5])
    vectors = np.stack([VECTOR, -VECTOR])
    response = dose_response(sweep, [0, 2], vectors, [-1.0, 0.5, 3.0], sweep.unsteered())
    assert response.after.shape == response.gain.shape == (2, 3, 5)
    for i, layer in enumerate((0, 2)):
        for j, multiplier in enumerate((-1.0, 0.5, 3.0)):
            preferences, cost = sweep(layer, multiplier * vectors[i])
            assert np.array_equal(response.after[i, j], preferences)
            assert response.costs[i][j].value == cost.value
            assert np.array_equal(response.losses[i, j], cost.losses)
    assert np.array_equal(response.gain, response.after - response.before)


def cost_of(value: float) -> Perplexity:
    return Perplexity(value, value, value, 1, np.log([value]))


def response(gains, perplexities) -> Response:
    """A response with the given mean gains and perplexities, over two pairs; 10 without steering."""
    gains = np.array(gains, dtype=float)
    costs = tuple(tuple(cost_of(cost) for cost in row) for row in perplexities)
    return Response(np.zeros(2), np.stack([gains - 0.1, gains + 0.1], axis=2), cost_of(10.0), costs)


def test_the_largest_gain_within_the_bound_is_chosen():
    made = response([[0.2, 0.5], [0.3, 0.9]], [[10.0, 10.9], [10.5, 12.0]])
    assert choose(made, [1.0, 2.0], 1.3) == (1, 1)
    assert choose(made, [1.0, 2.0], 1.1) == (0, 1)
    assert choose(made, [1.0, 2.0], 1.06) == (1, 0)
    assert choose(made, [1.0, 2.0], 0.9) is None


def test_a_negative_multiplier_or_a_loss_is_never_chosen():
    assert choose(response([[0.9, 0.1]], [[10.0, 10.0]]), [-1.0, 1.0], 1.1) == (0, 1)
    assert choose(response([[-0.2, 0.0]], [[10.0, 10.0]]), [1.0, 2.0], 1.1) is None
    assert choose(response([[]], [[]]), [], 1.1) is None


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), bound=st.floats(0.8, 1.5))
def test_what_is_chosen_is_beaten_by_no_setting_that_was_allowed(seed, bound):
    rng = np.random.default_rng(seed)
    gains, costs, multipliers = rng.normal(size=(3, 4)), rng.uniform(8, 14, (3, 4)), [-1.0, 1.0, 2.0, 3.0]
    best = choose(response(gains, costs.tolist()), multipliers, bound)
    allowed = [gains[i, j] for i in range(3) for j in range(4) if costs[i, j] <= bound * 10 and multipliers[j] > 0]
    assert (gains[best] if best else 0.0) == pytest.approx(max([*allowed, 0.0]))
