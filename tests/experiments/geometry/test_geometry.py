"""The shape of a concept: planted dimensions, spectra and directions are found, and what only looks like them is not."""

import numpy as np
import pandas as pd
import pytest

from tracing_utils.checkpoints import activations, suites
from tracing_utils.experiments.geometry import classes, local, noise, spectrum
from tracing_utils.statements import concepts


def rng(seed=0):
    return np.random.default_rng(seed)


def cloud(dimension, n=600, width=96):
    """Gaussian points of so many dimensions in a wider space."""
    rotation = np.linalg.qr(rng(1).standard_normal((width, width)))[0][:dimension]
    return rng().standard_normal((n, dimension)) @ rotation


def crossed(groups):
    """Labels and groups of crossed fours: two words of a kind, each on both sides."""
    return np.tile([1, 1, 0, 0], groups), [f"g{i}" for i in range(groups) for _ in range(4)]


def sample(make_concepts, groups=60, direction=0.0, own=0.0, words=3.0, width=24, layers=1):
    """Crossed fours with words that cancel, a direction of the label for all groups, and one of each group's own."""
    labels, names = crossed(groups)
    concepts = make_concepts(labels, groups=names, statements=[f"S{i} {k}." for i, k in enumerate(names)])
    a, b, private = rng(2).standard_normal((3, groups, 1, width))
    first, second, side = np.array([1, -1, 1, -1]), np.array([1, -1, -1, 1]), np.array([1, 1, -1, -1])
    shared, common = rng(3).standard_normal((2, width)) * [[1], [2]]
    acts = words * ((a + common) * first[:, None] + (b + common) * second[:, None]) + own * private * side[:, None]
    acts = acts + direction * shared * side[:, None] + 0.3 * rng(4).standard_normal((groups, 4, width))
    return np.repeat(acts.reshape(-1, 1, width), layers, axis=1), concepts


def table(rows):
    found = [(layer, method, metric, e.value, e.low, e.high) for layer, method, metric, e in rows]
    return pd.DataFrame(found, columns=["layer", "method", "metric", "value", "low", "high"]).set_index(["metric", "method"])


def mean_row(found, metric, method):
    rows = found.loc[[(metric, method)]]
    return rows[rows["layer"].isna()].iloc[0]


@pytest.mark.parametrize("dimension", [5, 20, 64])
def test_few_neighbours_tell_planted_dimensions_and_all_references_do_not(dimension):
    far = local.distances(cloud(dimension))
    few, every = local.lid(far).mean(), local.lid(far, len(far) - 1).mean()
    assert 0.45 * dimension < few < 1.2 * dimension
    assert 0.45 * dimension < local.two_nn(far, [str(i) for i in range(len(far))]).value < 1.2 * dimension
    assert every < 6  # whatever the dimension


def test_a_local_dimension_is_that_of_the_formula_whatever_the_scale_and_the_place():
    points = rng().standard_normal((40, 3))
    near = np.sort(np.linalg.norm(points - points[0], axis=1))[1:11]
    expected = -1 / np.mean(np.log(near / near[-1]))
    assert local.lid(local.distances(points), 10)[0] == pytest.approx(expected)
    assert local.lid(local.distances(7 * points + 100), 10)[0] == pytest.approx(expected)


def test_a_gaussian_has_the_spectrum_and_a_curved_line_has_fewer_dimensions_than_it():
    angle = rng().uniform(0, 6, 600)
    points = np.stack([np.cos(k * angle) for k in range(1, 9)], axis=1)
    same = local.gaussian(points)
    np.testing.assert_allclose(np.sort(same.var(0)), np.sort(np.linalg.eigvalsh(np.cov(points.T))), rtol=0.3)
    bent, straight = (local.lid(local.distances(each)).mean() for each in (points, same))
    assert bent < 1.6
    assert straight > 5


def test_exact_copies_are_no_neighbours_and_too_few_references_are_refused_in_a_sentence():
    points = np.repeat(cloud(5, n=100), 2, axis=0)
    assert np.isfinite(local.lid(local.distances(points))).all()
    with pytest.raises(ValueError, match="needs at least 2 references"):
        local.lid(local.distances(points[:2]))


def test_near_twins_of_one_label_fake_a_score_which_leaving_the_group_out_takes_away(make_concepts):
    # Groups of three: the untrustworthy statement has a trustworthy twin, which has none of its own.
    groups = 120
    labels, names = np.tile([1, 0], groups), [f"g{i}" for i in range(groups) for _ in range(2)]
    points = np.repeat(cloud(20, n=groups), 2, axis=0) + 0.05 * rng(5).standard_normal((2 * groups, 96))
    rows = table(local.rows(points[:, None], make_concepts(labels, groups=names)))
    wrong, right = (mean_row(rows, "lid_auroc", method) for method in ("k = 20", "group left out"))
    assert wrong["high"] < 0.2
    assert right["low"] < 0.5 < right["high"]
    assert rows.loc[[("two_nn", "whole groups")], "value"].iloc[0] < 2
    assert rows.loc[[("two_nn", "one a group")], "value"].iloc[0] > 7


def test_statements_of_a_truly_lower_dimension_are_told_without_twins(make_concepts):
    labels = np.tile([1, 0], 150)
    points = np.where(labels[:, None] == 1, cloud(4, n=300), cloud(40, n=300))
    mean = mean_row(table(local.rows(points[:, None], make_concepts(labels))), "lid_auroc", "group left out")
    assert mean["low"] > 0.8


@pytest.mark.parametrize("held", [4, 16])
def test_the_spectrum_has_closed_forms_where_some_directions_hold_all(held):
    variances = np.ones(held)
    assert spectrum.participation_ratio(variances)[0] == pytest.approx(held)
    assert spectrum.rankme(variances)[0] == pytest.approx(held)
    assert spectrum.alpha_req(variances)[0] == pytest.approx(0)
    for alpha in (0.7, 2.0):
        assert spectrum.alpha_req(np.arange(1.0, held + 1) ** -alpha)[0] == pytest.approx(alpha)


@pytest.mark.parametrize("function", [spectrum.participation_ratio, spectrum.rankme, spectrum.alpha_req])
def test_a_derivative_is_the_change_by_a_small_step(function):
    variances = np.sort(rng().gamma(1.0, size=30) + 0.1)[::-1].copy()
    value, slope = function(variances)
    for place in (0, 8, 20):
        moved = variances.copy()
        moved[place] += 1e-6
        assert (function(moved)[0] - value) / 1e-6 == pytest.approx(slope[place], rel=1e-3, abs=1e-6)


def test_an_interval_of_the_spectrum_is_as_wide_as_fresh_draws_differ_and_groups_count_as_one():
    scale = np.arange(1.0, 25) ** -0.5
    draws = [dict(spectrum.measures(rng(s).standard_normal((200, 24)) * scale, [f"{i}" for i in range(200)])) for s in range(60)]
    for metric in draws[0]:
        spread = np.std([draw[metric].value for draw in draws])
        reach = np.mean([draw[metric].high - draw[metric].value for draw in draws])
        assert reach / 1.96 == pytest.approx(spread, rel=0.4), metric
    twice = np.repeat(rng().standard_normal((200, 24)) * scale, 2, axis=0)
    alone, bound = (
        dict(spectrum.measures(twice, groups))["participation_ratio"]
        for groups in ([f"{i}" for i in range(400)], [f"{i // 2}" for i in range(400)])
    )
    assert (bound.high - bound.value) / (alone.high - alone.value) == pytest.approx(2**0.5, rel=0.02)


def test_more_features_than_texts_give_the_same_spectrum_as_their_rotation_into_fewer():
    texts, groups = rng().standard_normal((40, 30)), [f"{i}" for i in range(40)]
    wide = texts @ np.linalg.qr(rng(1).standard_normal((90, 90)))[0][:30]
    for (_, narrow), (_, same) in zip(spectrum.measures(texts, groups), spectrum.measures(wide, groups), strict=True):
        assert (same.value, same.low, same.high) == pytest.approx((narrow.value, narrow.low, narrow.high), rel=1e-6)


def test_kappa_is_the_mean_cosine_over_pairs_as_a_loop_computes_it(make_concepts):
    acts, chosen = sample(make_concepts, groups=12, direction=0.5, own=1.0)
    mean = mean_row(table(classes.rows(acts, chosen)), "kappa", "groups")
    differences = [acts[i : i + 2, 0].mean(0) - acts[i + 2 : i + 4, 0].mean(0) for i in range(0, 48, 4)]
    cosines = [
        a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        for i, a in enumerate(differences)
        for j, b in enumerate(differences)
        if i != j
    ]
    assert mean["value"] == pytest.approx(np.mean(cosines))


def test_a_shared_direction_is_found_and_directions_of_each_groups_own_are_not(make_concepts):
    for method in ("groups", "no word shared"):
        for planted, clear in (({"direction": 0.5}, True), ({"own": 2.0}, False), ({}, False)):
            rows = table(classes.rows(*sample(make_concepts, layers=2, **planted)))
            kappa, null = (mean_row(rows, "kappa", each) for each in (method, f"{method}, labels swapped"))
            assert (kappa["low"] > null["high"]) == clear
            assert abs(null["value"]) < 0.02
    assert rows.loc[[("scatter_ratio", "groups")], "value"].max() < 0.01


def test_labels_permuted_at_random_hide_a_direction_in_crossed_groups_that_swapped_ones_show(make_concepts):
    acts, chosen = sample(make_concepts, groups=30, direction=0.025)
    groups = chosen.group_numbers
    pairs = ~np.eye(30, dtype=bool)

    def kappa(labels):
        units = classes.unit_differences(classes.Sums(acts[:, 0], labels, groups))
        return classes.mean_cosine(units @ units.T, pairs, np.ones((1, 30)))[0]

    permuted = [kappa(rng(seed).permutation(chosen.labels)) for seed in range(100)]
    rows = table(classes.rows(acts, chosen))
    swapped = mean_row(rows, "kappa", "groups, labels swapped")
    assert swapped["high"] < kappa(chosen.labels) < np.quantile(permuted, 0.975)  # words are alike across groups


def test_what_is_known_of_a_shared_word_is_no_direction_of_the_label(make_concepts):
    # Each word has a direction of its own by which a true use differs from a false one; five words, in many groups.
    n, values, width = 60, 5, 40
    chosen_words = np.stack([rng(s).permutation(values)[:2] for s in range(n)])
    known, labels = np.eye(width)[:values], np.tile([1, 1, 0, 0], n)
    statements, acts = [], []
    for g, (x, y) in enumerate(chosen_words):
        for subject, word, true in (("a", x, 1), ("b", y, 1), ("a", y, -1), ("b", x, -1)):
            statements.append(f"{subject}{g} likes value{word}")
            acts.append(true * known[word])
    acts = np.array(acts)[:, None] + 0.02 * rng(2).standard_normal((4 * n, 1, width))
    concepts = make_concepts(labels, statements=statements, groups=[f"g{i}" for i in range(n) for _ in range(4)])
    rows = table(classes.rows(acts, concepts))
    assert mean_row(rows, "kappa", "groups")["low"] > 0.2
    apart, null = (mean_row(rows, "kappa", f"no word shared{each}") for each in ("", ", labels swapped"))
    assert abs(apart["value"]) < 0.1
    assert not apart["low"] > null["high"]


def test_a_cross_of_the_designed_world_is_taken_by_itself_and_other_sets_keep_their_groups():
    told = concepts.load("world", "privacy")
    units = classes.crosses(told)
    assert set(np.bincount(units)) == {4}
    assert classes.apart(told, units).sum() > 100
    for name in ("pocket", "turn", "words"):
        chosen = concepts.load(name, "toxicity")
        assert len(set(classes.crosses(chosen))) == len(set(chosen.groups))


def test_an_interval_of_kappa_holds_nothing_where_nothing_is_planted(make_concepts):
    missed = 0
    for seed in range(40):
        labels, names = crossed(25)
        concepts = make_concepts(labels, groups=names)
        rows = table(classes.rows(rng(seed).standard_normal((100, 1, 16)), concepts))
        row = rows.loc[[("kappa", "groups")]].iloc[0]
        missed += not row["low"] < 0 < row["high"]
    assert missed <= 4


def test_groups_of_one_label_have_no_kappa_and_other_rows_stay(make_concepts):
    labels = np.tile([1, 1, 0, 0], 10)
    concepts = make_concepts(labels, groups=[f"g{i // 2}" for i in range(40)])
    metrics = {metric for _, _, metric, _ in classes.rows(rng().standard_normal((40, 1, 8)), concepts)}
    assert metrics == {"scatter_ratio"}


def test_the_arm_that_keeps_its_narrators_shares_a_direction_and_the_other_does_not():
    chosen = concepts.load("world", "reliability")
    kappa = {}
    for arm in ("coherent", "scrambled"):
        acts = activations.of(suites.load(f"world-{arm}")["step12288"], chosen)
        kappa[arm] = mean_row(table(classes.rows(acts, chosen)), "kappa", "no word shared")
    assert kappa["coherent"]["low"] > 0.3
    assert kappa["scrambled"]["high"] < 0.1


def test_a_dimension_by_itself_has_no_neutral_text(make_concepts):
    acts, chosen = sample(make_concepts, groups=10)
    assert list(spectrum.rows({"privacy": acts}, {"privacy": chosen}, "privacy")) == []
    both = {"privacy": acts, "fairness": acts}
    (row, *_) = spectrum.rows(both, dict.fromkeys(both, chosen), "privacy")
    assert row[3].n == chosen.labels.sum()


def test_activations_that_only_grow_stand_more_noise_as_it_is_added_and_no_more_in_spreads(make_concepts):
    labels = np.tile([1, 0], 150)
    concepts = make_concepts(labels)
    points = rng().standard_normal((300, 1, 12)) + 3 * labels[:, None, None] * np.eye(12)[0]
    once, grown, clearer = (
        {method: e.value for _, method, metric, e in noise.rows(acts, concepts) if metric == "half_noise"}
        for acts in (points, 3 * points, points + 3 * labels[:, None, None] * np.eye(12)[0])
    )
    assert grown["as added"] == pytest.approx(3 * once["as added"], rel=0.1)  # the trap
    assert grown["in spreads"] == pytest.approx(once["in spreads"], rel=0.1)
    assert clearer["in spreads"] > 1.5 * once["in spreads"]  # and what is truly further apart stands more
    assert not list(noise.rows(points, make_concepts(rng(1).permutation(labels))))


def test_the_noise_that_halves_is_what_drawn_noise_gives():
    apart, size = rng().standard_normal(400) + 1.5, np.geomspace(0.01, 100, 400)
    found = noise.half(apart, np.ones((1, 400)), size)[0]
    told = np.mean([apart + found * rng(seed).standard_normal(400) > 0 for seed in range(200)])
    assert told == pytest.approx(((apart > 0).mean() + 0.5) / 2, abs=0.01)
