"""Likelihoods are those of the model: summed by token, compared per token, chosen among inside groups."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tracing_utils.checkpoints import suites
from tracing_utils.checkpoints.models import load_model, load_tokenizer
from tracing_utils.experiments.steering.likelihoods import (
    Forest,
    encoded_log_likelihoods,
    grammatical,
    held_out_pairs,
    multiple_choice,
    neutral_text,
    perplexity,
    preference,
    token_log_likelihoods,
)
from tracing_utils.statements.concepts import DIMENSIONS, load


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


# Trees


@pytest.fixture
def alike(tokenizer, sentences) -> list[list[int]]:
    """Rows of tokens that begin alike, two and three deep, with one that another begins with, one alone, and one of one token."""
    first, second = tokenizer.encode(sentences[0]), tokenizer.encode(sentences[1])
    ends = [tokenizer.encode(sentence, add_special_tokens=False) for sentence in sentences[2:6]]
    return [
        first,
        first[:20] + ends[0],
        first[:20] + ends[0][:9] + ends[1],
        first[:15] + ends[2],
        first[:12],
        second,
        ends[3],
        first[:1],
    ]


def count(forest) -> int:
    return sum(batch.inputs["input_ids"].shape[1] for batch in forest.batches for _ in batch.inputs["input_ids"])


@pytest.mark.parametrize("begin", [1, 6])
def test_rows_that_begin_alike_score_as_if_alone_in_every_family(model, alike, begin):
    begins = [min(begin, len(row)) for row in alike]
    found = encoded_log_likelihoods(model, alike, begins)
    for row, at, nats in zip(alike, begins, found, strict=True):
        expected = direct_log_likelihood(model, row) - direct_log_likelihood(model, row[:at])
        assert nats == pytest.approx(expected, rel=1e-4, abs=1e-3)
    turned = encoded_log_likelihoods(model, alike[::-1], begins[::-1])[::-1]
    np.testing.assert_allclose(turned, found, rtol=1e-4, atol=1e-4)


def test_what_rows_begin_with_is_run_once_where_the_model_sees_by_the_mask_and_else_again(model, alike):
    """BLOOM places tokens by a mask of its own, and a window of eight tokens does not reach up these trees."""
    forest = Forest(model, alike, [1] * len(alike))
    prefixes = {tuple(row[:end]) for row in alike for end in range(1, len(row))}
    masked = any("attention_mask" in batch.inputs for batch in forest.batches)
    assert masked == (model.config.model_type not in {"bloom", "mistral", "olmo3"})
    places = sum(len(batch.places) for batch in forest.batches)
    if masked:
        assert places <= len(prefixes) + 1  # the lone row begins with the same special token
    else:
        assert places == sum(len(row) - 1 for row in alike)


def test_short_trees_share_a_line_so_that_little_is_padding(llama, alike):
    """A tree a line, padded to the largest, ran up to half as many nodes again."""
    ids = [*alike, *([20 + first, 5, 6, 7, 8, *range(9, 9 + size)] for first in range(6) for size in range(1, 3))]
    nodes = {tuple(row[:end]) for row in ids for end in range(1, len(row))}
    forest = Forest(llama, ids, [1] * len(ids))
    alone = sum(len(row) - 1 for row in ids)
    assert len(nodes) <= count(forest) < min(1.3 * len(nodes), alone)
    assert sum(len(batch.inputs["input_ids"]) for batch in forest.batches) < sum(len(batch.roots) for batch in forest.batches)
    expected = [direct_log_likelihood(llama, row) if len(row) > 1 else 0.0 for row in ids]
    nats = encoded_log_likelihoods(llama, ids, [1] * len(ids))
    np.testing.assert_allclose(nats, expected, rtol=1e-4, atol=1e-4)


def test_the_head_runs_only_where_a_token_is_scored_and_is_left_as_it_was(llama, alike):
    seen = []
    handle = llama.lm_head.register_forward_hook(lambda _m, args, _o: seen.append(args[0].shape[1]))
    encoded_log_likelihoods(llama, alike, [len(row) - 1 for row in alike[:-1]] + [1])
    handle.remove()
    assert sum(seen) <= len(alike)
    assert not llama.lm_head._forward_pre_hooks


@pytest.fixture(scope="module")
def one_llama(family_checkpoints):
    return load_model(family_checkpoints["llama"], head=True)


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.lists(st.integers(3, 5), min_size=1, max_size=12), min_size=1, max_size=12))
def test_any_rows_score_as_if_alone(one_llama, rows):
    nats = encoded_log_likelihoods(one_llama, rows, [1] * len(rows))
    alone = [encoded_log_likelihoods(one_llama, [row], [1])[0] for row in rows]
    np.testing.assert_allclose(nats, alone, rtol=1e-4, atol=1e-4)


# Pairs


def test_the_pairs_of_a_group_are_all_its_combinations(make_concepts):
    concepts = make_concepts([1, 0, 1, 0, 1, 0], groups=["a", "a", "a", "b", "b", "c"])
    assert held_out_pairs(concepts, np.arange(6)).tolist() == [[0, 1], [2, 1], [4, 3]]


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 1), st.booleans()), min_size=4, max_size=40))
def test_pairs_are_made_of_held_out_statements_only_trustworthy_first(make_concepts, rows):
    concepts = make_concepts([label for _, label, _ in rows], groups=[f"g{group}" for group, _, _ in rows])
    held_out = np.flatnonzero([kept for *_, kept in rows])
    if len(set(concepts.labels[held_out].tolist())) < 2:
        with pytest.raises(ValueError, match="must hold both labels"):
            held_out_pairs(concepts, held_out)
        return
    pairs = held_out_pairs(concepts, held_out)
    assert set(pairs.ravel().tolist()) <= set(held_out.tolist())
    assert (concepts.labels[pairs] == [1, 0]).all()


def test_statements_that_stand_alone_are_paired_in_the_order_of_the_file(make_concepts):
    concepts = make_concepts([1, 0, 0, 1, 1, 0, 1])
    assert held_out_pairs(concepts, np.array([0, 2, 3, 5, 6])).tolist() == [[0, 2], [3, 5]]


def test_a_few_contradicting_duplicates_do_not_become_the_only_pairs(make_concepts):
    concepts = make_concepts([1, 0, 1, 0, 1, 0], groups=["same", "same", "a", "b", "c", "d"])
    assert len(held_out_pairs(concepts, np.arange(6))) == 3
    assert len(held_out_pairs(concepts, np.arange(2))) == 1  # where they are all there is, they are a pair


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
    assert perplexity(nats, tokens).losses == pytest.approx(np.log([4, 16]))


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
    text, chosen_on = neutral_text(dimension), neutral_text(dimension, "validation")
    assert len(text) == len(set(text)) == 60
    assert len(chosen_on) == 40
    assert not set(text) & set(chosen_on)
    text += chosen_on
    own = load("pocket", dimension)
    assert not set(text) & set(own.statements)
    sides = {s: int(label) for d in DIMENSIONS for s, label in zip(load("pocket", d).statements, load("pocket", d).labels)}  # noqa: B905
    assert {sides[statement] for statement in text} == {1}


# Multiple choice


@pytest.fixture
def questions(make_concepts):
    """Three questions with answers of either label, and one whose answers are all true."""
    answers = {
        "Where do fish live?": [("In the water.", 1), ("In the sea, mostly.", 1), ("On the moon.", 0)],
        "Who reads?": [("Nobody at all.", 0), ("People.", 1)],
        "Why?": [("Because.", 1), ("So that it may be.", 0), ("No.", 0)],
        "How?": [("Well.", 1), ("Gladly.", 1)],
    }
    rows = [(f"Q: {q} A: {text}", label, q) for q, each in answers.items() for text, label in each]
    statements, labels, groups = zip(*rows, strict=True)
    return make_concepts(labels, statements, groups)


def direct_choice(model, tokenizer, made) -> tuple[list[float], list[float]]:
    """MC1 and MC2 by the definition: one answer after another, conditioned on its question's tokens."""
    mc1, mc2 = [], []
    for question in dict.fromkeys(made.groups):
        rows = [i for i, group in enumerate(made.groups) if group == question]
        if len({int(made.labels[i]) for i in rows}) < 2:
            continue
        ids = {i: tokenizer.encode(made.statements[i]) for i in rows}
        shared = 0
        while len({tuple(row[: shared + 1]) for row in ids.values()}) == 1:
            shared += 1
        score = {}
        for i, row in ids.items():
            with torch.no_grad():
                logp = model(torch.tensor([row])).logits[0].double().log_softmax(1)
            score[i] = np.mean([float(logp[at - 1, row[at]]) for at in range(shared, len(row))])
        true, false = ([score[i] for i in rows if made.labels[i] == label] for label in (1, 0))
        mc1.append(float(true[0] > max(false)))
        mc2.append(sum(map(np.exp, true)) / sum(map(np.exp, score.values())))
    return mc1, mc2


def test_choices_equal_the_definition_in_every_family_and_leave_out_a_question_with_one_label(model, tokenizer, questions):
    scores, groups = multiple_choice(model, tokenizer, questions)
    mc1, mc2 = direct_choice(model, tokenizer, questions)
    assert len(groups) == len(mc1) == 3
    assert "How?" not in groups
    assert scores["mc1"].tolist() == mc1
    np.testing.assert_allclose(scores["mc2"], mc2, rtol=1e-5)


def test_a_model_that_knows_nothing_gives_true_answers_their_share(llama, tokenizer, questions):
    with torch.no_grad():
        for parameter in llama.parameters():
            parameter.zero_()
    scores, _ = multiple_choice(llama, tokenizer, questions)
    assert scores["mc2"] == pytest.approx([2 / 3, 1 / 2, 1 / 3])


def test_a_set_without_mixed_groups_has_no_choices(llama, tokenizer, make_concepts):
    concepts = make_concepts([1, 0, 1, 0])
    scores, groups = multiple_choice(llama, tokenizer, concepts)
    assert groups == ()
    assert scores["mc1"].shape == (0,)


def test_scoring_from_a_later_position_leaves_out_what_comes_before(model, tokenizer, sentences):
    ids = [tokenizer.encode(sentence) for sentence in sentences[:4]]
    whole = encoded_log_likelihoods(model, ids, [1] * 4)
    first = encoded_log_likelihoods(model, [row[:3] for row in ids], [1] * 4)
    rest = encoded_log_likelihoods(model, ids, [3] * 4)
    np.testing.assert_allclose(first + rest, whole, rtol=1e-4)
    assert (np.abs(rest - whole) > 1e-3).all()


def test_a_trained_model_prefers_the_grammatical_sentence_and_an_untrained_one_neither():
    checkpoints, read = suites.load("pocket"), []
    for name in ("step0", "step4096"):
        read.append(grammatical(load_model(checkpoints[name], head=True), load_tokenizer(checkpoints[name])))
    untrained, trained = read
    assert abs(untrained["grammar"].value - 0.5) < 0.05
    assert trained["grammar"].low > 0.6
    kinds = [estimate for name, estimate in trained.items() if name != "grammar"]
    assert sum(each.n for each in kinds) == trained["grammar"].n >= 200
    assert np.mean([each.value for each in kinds]) == pytest.approx(trained["grammar"].value)
