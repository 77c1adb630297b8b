"""Logits, by their Gram matrix alone, are read as stored logits are; they lose what the head maps to nothing, and only that."""

import numpy as np
import pytest

from tracing_utils.experiments.behaviour import first_token


@pytest.fixture
def planted(make_concepts):
    """120 statements whose label lies along the first of 12 axes, and a head of 50 words."""
    concepts = make_concepts([1, 0] * 60, groups=[str(i // 2) for i in range(120)])
    generator = np.random.default_rng(0)
    hidden = generator.standard_normal((120, 12)) + 4 * concepts.labels[:, None] * np.eye(12)[0]
    return concepts, hidden.astype(np.float32), generator.standard_normal((50, 12)).astype(np.float32)


def test_features_from_the_gram_matrix_are_read_like_logits_that_are_stored(planted):
    made, hidden, head = planted
    stored = hidden.astype(np.float64) @ head.T
    made_of = first_token.logit_features(hidden, head.T @ head)
    assert made_of.shape == hidden.shape
    np.testing.assert_allclose(made_of @ made_of.T, stored @ stored.T, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(first_token.held_out(made_of, made, 0), first_token.held_out(stored, made, 0), atol=1e-4)


def test_a_head_of_full_rank_loses_nothing_and_one_that_maps_the_label_to_nothing_loses_all(planted):
    made, hidden, head = planted
    blind = head * (np.arange(12) > 0)
    for which, expected in ((head, 0), (blind, -0.4)):
        found = {(method, metric): value for _, method, metric, value in first_token.rows(hidden, which.T @ which, made)}
        assert found["hidden state", "accuracy"].value > 0.95
        difference = found["logits minus hidden state", "accuracy"]
        assert difference.value == pytest.approx(expected, abs=0.12)
        assert (difference.high < -0.2) == (which is blind)
        assert found["first-token logits", "rank_share"].value == (11 / 12 if which is blind else 1)
    assert found["logits and hidden state", "agreement"].value < 0.7


def test_labels_by_chance_are_read_by_neither(planted, make_concepts):
    _, hidden, head = planted
    concepts = make_concepts(np.random.default_rng(1).permutation(np.tile([1, 0], 60)), groups=[str(i // 2) for i in range(120)])
    found = {(method, metric): value for _, method, metric, value in first_token.rows(hidden, head.T @ head, concepts)}
    assert 0.3 < found["hidden state", "accuracy"].value < 0.65
    assert 0.3 < found["first-token logits", "accuracy"].value < 0.65


def test_each_of_three_readers_is_fitted_once_a_seed(planted, monkeypatch):
    made, hidden, head = planted
    fitted, held_out = [], first_token.held_out
    monkeypatch.setattr(first_token, "held_out", lambda features, *more: fitted.append(features) or held_out(features, *more))
    list(first_token.rows(hidden, head.T @ head, made, hidden + 1, seeds=(0, 1)))
    assert len(fitted) == 6


def test_what_the_first_token_reveals_may_be_gone_at_the_second(planted):
    made, hidden, head = planted
    gram, gone = head.T @ head, np.random.default_rng(2).standard_normal(hidden.shape)
    for second, expected in ((hidden, 0), (gone, -0.45)):
        found = {method: value for _, method, _, value in first_token.rows(hidden, gram, made, second)}
        difference = found["second minus first token"]
        assert difference.value == pytest.approx(expected, abs=0.15)
        assert (difference.high < -0.2) == (second is gone)
        assert found["second-token logits"].value == pytest.approx(0.97 + difference.value, abs=0.05)
