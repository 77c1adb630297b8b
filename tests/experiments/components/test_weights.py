"""Importance is each text's own gradient; a planted overlap is found beside halves and chance; the released comparison is not."""

import numpy as np
import pytest
import torch
from torch import nn

from tracing_utils.checkpoints import models
from tracing_utils.experiments.components import weights
from tracing_utils.experiments.components.weights import PARTS, Slab

IDS = [[0, *range(5, 5 + n)] for n in (9, 3, 6, 12)]
SHAPE = (50, 80)
SLABS = [Slab(layer, nn.Linear(80, 50), torch.arange(50)) for layer in (0, 0, 1)]


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gpt2", "qwen3", "bloom", "opt"])
def test_importance_is_the_size_of_a_weight_times_the_summed_sizes_of_each_text_s_gradient(make_model, family):
    model = make_model(family)
    slabs = weights.slabs(model, 5)
    assert {len(slab.rows) for slab in slabs} == {5}
    sizes, sums = [0.0] * len(slabs), [0.0] * len(slabs)
    for text in IDS:
        model.zero_grad()
        model(input_ids=torch.tensor([text]), labels=torch.tensor([text])).loss.backward()
        for at, slab in enumerate(slabs):
            weight = slab.linear.weight
            gradient = (weight.grad.T if family == "gpt2" else weight.grad)[slab.rows]
            sizes[at], sums[at] = sizes[at] + gradient.abs(), sums[at] + gradient
    for made, slab, size, total in zip(weights.importance(model, slabs, IDS), slabs, sizes, sums, strict=True):
        np.testing.assert_allclose(made, (slab.weights.abs() * size).numpy(), rtol=1e-3, atol=1e-7)
        assert np.abs(made - (slab.weights * total).abs().numpy()).max() > 1e-3 * made.max()  # of the sum it would be another


def test_a_model_with_experts_is_refused_in_a_sentence(make_model):
    with pytest.raises(ValueError, match="must have a dense MLP; block 0 of OlmoeForCausalLM has ") as refused:
        models.dense_maps(make_model("olmoe"))
    assert "\n" not in str(refused.value)


def scores(rng, *planted, noise=0.5):
    """Return importance by part and slab: noise of its own in each part, and weights that are planted large in all."""
    base = [rng.exponential(size=SHAPE) for _ in SLABS]
    for marks in planted:
        for values, mark in zip(base, marks, strict=True):
            values[mark] += 20
    return [[values * rng.uniform(1 - noise, 1 + noise, SHAPE) for values in base] for _ in range(PARTS)]


def marked(rng, share=0.03):
    return [rng.random(SHAPE) < share for _ in SLABS]


def together(a, b, general, share=0.05):
    return {row[1:3]: row[3] for row in weights.overlaps(a, b, general, SLABS, share) if row[0] is None}


def test_a_planted_overlap_is_found_and_two_sets_without_one_share_what_chance_gives():
    rng = np.random.default_rng(0)
    general = [rng.exponential(size=SHAPE) for _ in SLABS]
    common = marked(rng)
    shared = together(scores(rng, common), scores(rng, common), general)
    apart = together(scores(rng), scores(rng), general)
    assert shared["shared", "overlap"].low > 0.4
    assert shared["shared", "overlap"].low > shared["chance", "overlap"].high
    assert 0.4 < shared["shared", "share_of_halves"].value < 0.95  # halves also agree on what is not shared
    low, high = apart["chance", "overlap"].low, apart["chance", "overlap"].high
    assert low < apart["shared", "overlap"].value < high
    assert apart["halves", "overlap"].low > 5 * apart["chance", "overlap"].value
    assert abs(apart["shared", "share_of_halves"].value) < 0.1


def test_two_samples_of_one_thing_share_all_that_halves_share():
    rng = np.random.default_rng(1)
    general, same = [rng.exponential(size=SHAPE) for _ in SLABS], scores(rng)
    again = [[values * rng.uniform(0.5, 1.5, SHAPE) for values in part] for part in same]
    assert together(same, again, general)["shared", "share_of_halves"].value == pytest.approx(1, abs=0.15)


def test_what_matters_to_all_text_is_not_counted_as_shared():
    rng = np.random.default_rng(2)
    common = marked(rng)
    a, b = scores(rng, common), scores(rng, common)
    blind = together(a, b, [rng.exponential(size=SHAPE) for _ in SLABS])
    seeing = together(a, b, [50.0 * mark for mark in common], share=0.05)
    assert blind["shared", "overlap"].value > 0.4
    assert seeing["shared", "overlap"].value < 0.1


def test_chance_is_what_drawn_sets_share():
    rng = np.random.default_rng(3)
    general = [rng.exponential(size=SHAPE) for _ in SLABS]
    draws = [together(scores(rng, noise=0), scores(rng, noise=0), general) for _ in range(20)]
    shared = np.array([found["shared", "overlap"].value for found in draws])
    chance = draws[0]["chance", "overlap"]
    assert shared.mean() == pytest.approx(chance.value, abs=0.01)
    assert 1.96 * shared.std() == pytest.approx(chance.high - chance.value, rel=0.5)
    layers = {row[0] for row in weights.overlaps(scores(rng), scores(rng), general, SLABS, 0.05)}
    assert layers == {0, 1, None}


def test_the_released_comparison_calls_places_shared_which_hold_neither_set_and_misses_what_is():
    rng = np.random.default_rng(4)
    planted = marked(rng)
    first, second = ([mark | each for mark, each in zip(planted, marked(rng), strict=True)] for _ in range(2))
    both = sum(int((one & other).sum()) for one, other in zip(first, second, strict=True))  # the right way
    called, true = weights.index_lists(first, second)
    smaller = sum(min(int(one.sum()), int(other.sum())) for one, other in zip(first, second, strict=True))
    assert both >= sum(int(mark.sum()) for mark in planted) > 300
    assert called == smaller > both
    assert true < 0.1 * both  # as many as lie among the first weights by chance
    apart = [mark & ~other for mark, other in zip(marked(rng), first, strict=True)]
    assert weights.index_lists(first, apart)[0] > 300
    ahead = [np.arange(one.size).reshape(SHAPE) < 100 for one in first]
    assert weights.index_lists(ahead, ahead) == (300, 300)  # only where places are the weights' numbers is it right


def test_random_weights_of_the_same_norm_are_others_and_as_many_and_of_the_same_norm():
    rng = np.random.default_rng(5)
    values = rng.standard_normal(SHAPE)
    marks = weights.largest(np.abs(values) * rng.random(SHAPE), 0.05)
    other = weights.same_size(values, marks, seed=0)
    assert other.sum() == marks.sum()
    assert not (other & marks).any()
    assert np.linalg.norm(values[other]) == pytest.approx(np.linalg.norm(values[marks]), rel=0.03)
    anywhere = rng.permutation(marks.ravel()).reshape(SHAPE)
    assert np.linalg.norm(values[anywhere]) < 0.8 * np.linalg.norm(values[marks])  # which other draws would not be
    assert not np.array_equal(other, weights.same_size(values, marks, seed=1))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_only_the_marked_weights_are_zero_and_only_inside(make_model, family):
    model = make_model(family)
    slabs = weights.slabs(model, 5)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    marks = [weights.largest(slab.weights.abs().numpy(), 0.1) for slab in slabs]
    with pytest.raises(KeyError), weights.zeroed(slabs, marks):
        for slab, mark in zip(slabs, marks, strict=True):
            assert (slab.weights.numpy()[mark] == 0).all()
            assert (slab.weights.numpy()[~mark] != 0).all()
        changed = sum(int((weight != before[name]).sum()) for name, weight in model.state_dict().items())
        assert changed == sum(int(mark.sum()) for mark in marks)
        raise KeyError
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_zeroing_what_makes_a_preference_takes_it_away_and_as_large_weights_do_not(make_model):
    slab = weights.slabs(make_model("llama"), 24)[0]
    mark = [weights.largest(slab.weights.abs().numpy(), 0.02)]

    def preferred():  # of a model whose preferences are the marked weights
        return np.array([slab.weights.numpy()[mark[0]].any(), slab.weights.numpy()[mark[0]].all()], dtype=float)

    gains = weights.zeroing([slab], mark, preferred, ("a", "b"), 3)
    assert gains["zeroed shared"].value == -1
    assert gains["zeroed random"].value == 0


def test_general_text_is_of_other_dimensions_and_parts_keep_groups_whole(make_concepts):
    text = weights.general_text(["fairness", "privacy"], "world", 20)
    assert len(text) == len(set(text)) == 20
    concepts = make_concepts(np.tile([0, 1], 60), groups=[f"pair {i // 4}" for i in range(120)])
    parts = weights.parts(concepts, np.arange(100), 120)
    assert sorted(np.concatenate(parts)) == list(range(1, 100, 2))
    groups = [{concepts.groups[i] for i in part} for part in parts]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert max(len(part) for part in weights.parts(concepts, np.arange(100), 12)) <= 2
