"""A planted direction is found, and what looks like one is not: a pair's own group, its length, a random direction."""

import numpy as np
import pytest

from tracing_utils.experiments.behaviour import margins, preferences


@pytest.fixture
def pairs_of(make_concepts):
    concepts = make_concepts([1, 0] * 60, groups=[str(i // 2) for i in range(120)])
    return concepts, preferences.crossed_pairs(concepts)


def share(acts, made, pairs, method, lengths=None):
    lengths = [9] * len(made) if lengths is None else lengths.tolist()
    rows = margins.rows(acts[:, None].astype(np.float32), made, lengths, pairs)
    found = [estimate for _, m, metric, estimate in rows if (m, metric) == (method, "margin_right")]
    return found[0] if found else None


def test_a_planted_direction_is_found_in_other_groups_and_beats_random_ones(pairs_of):
    made, pairs = pairs_of
    noise = np.random.default_rng(0).standard_normal((120, 64))
    planted = noise + 5 * made.labels[:, None] * np.eye(64)[0]
    assert share(planted, made, pairs, "other groups").low > 0.9
    assert share(planted, made, pairs, "random direction").high < share(planted, made, pairs, "other groups").low


def test_in_noise_a_pair_s_own_group_makes_a_margin_and_other_groups_make_none(pairs_of):
    made, pairs = pairs_of
    noise = np.random.default_rng(0).standard_normal((120, 200))
    assert share(noise, made, pairs, "same groups").low > 0.85  # the trap
    right = share(noise, made, pairs, "other groups")
    assert right.low < 0.5 < right.high


def test_a_direction_of_length_fools_pairs_of_any_length_and_not_pairs_of_equal_length(pairs_of):
    made, pairs = pairs_of
    lengths = 9 + 3 * (np.arange(120) % 2) * (np.arange(120) < 60)  # in half of the pairs the untrustworthy member is longer
    acts = np.random.default_rng(0).standard_normal((120, 20)) - 4 * (lengths[:, None] - 9) * np.eye(20)[0]
    assert share(acts, made, pairs, "any length", lengths).value > 0.7
    equal = share(acts, made, pairs, "other groups", lengths)
    assert equal.n == 30
    assert equal.low < 0.5 < equal.high


def test_too_few_pairs_of_equal_length_give_no_row(pairs_of):
    made, pairs = pairs_of
    acts, lengths = np.random.default_rng(0).standard_normal((120, 8)), np.arange(120)
    assert share(acts, made, pairs, "other groups", lengths) is None
    assert share(acts, made, pairs, "any length", lengths).n == 60
