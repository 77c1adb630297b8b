"""A perturbation lowers the accuracy by the sentiment it hides; a probe that reads topic is told from one that does not."""

from dataclasses import replace

import numpy as np
import pytest

from tracing_utils.experiments.probing.side_effects import perturbation_effect, perturbation_effects, topical_fit
from tracing_utils.statements.concepts import ConceptSet, load, subset, topical

WIDTH = 6


@pytest.fixture(scope="module")
def reviews() -> ConceptSet:
    return load("pocket", "robustness")


def activations(chosen: ConceptSet, hidden: str | None = None, strength: float = 6.0, seed: int = 0) -> np.ndarray:
    """Noise with the sentiment along one axis; twins of the kind `hidden` do not show it."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((len(chosen), WIDTH))
    shown = np.array([not (kind == hidden and label == 0) for kind, label in zip(chosen.categories, chosen.labels, strict=True)])
    features[:, 0] += strength * (2 * chosen.sentiment - 1) * shown
    return features


def test_the_kind_that_hides_the_sentiment_drops_to_chance_and_the_others_do_not_drop(reviews):
    effects = perturbation_effect(activations(reviews, hidden="typos"), reviews, seeds=(0,))
    assert list(effects) == ["clean", "case", "typos", "swaps", "homoglyphs", "dropped-spaces", "leetspeak"]
    assert effects["clean"]["accuracy"].value > 0.99
    assert effects["typos"]["drop"].low > 0.3
    assert effects["typos"]["accuracy"].low < 0.5 < effects["typos"]["accuracy"].high
    for kind in set(effects) - {"clean", "typos"}:
        assert effects[kind]["drop"].low <= 0 <= effects[kind]["drop"].high


def test_the_drop_is_the_difference_of_accuracies_on_the_same_sentences(reviews):
    features = activations(reviews, hidden="case", strength=1.0)
    effects = perturbation_effect(features, reviews, seeds=(0, 1))
    kinds = [kind for kind in effects if kind != "clean"]
    assert {metric for kind in kinds for metric in effects[kind]} == {"accuracy", "drop"}
    assert sum(effects[kind]["drop"].n for kind in kinds) == effects["clean"]["accuracy"].n == reviews.labels.sum()
    clean = sum((effects[kind]["accuracy"].value + effects[kind]["drop"].value) * effects[kind]["drop"].n for kind in kinds)
    assert clean / effects["clean"]["accuracy"].n == pytest.approx(effects["clean"]["accuracy"].value)


def test_twins_play_no_part_in_the_fit(reviews):
    features = activations(reviews, strength=1.0)
    loud = features.copy()
    loud[reviews.labels == 0] = 100 * np.random.default_rng(1).standard_normal((int((reviews.labels == 0).sum()), WIDTH))
    before, after = (perturbation_effect(made, reviews, seeds=(0,))["clean"]["accuracy"] for made in (features, loud))
    assert before == after
    louder = features.copy()
    louder[reviews.labels == 1] = loud[reviews.labels == 0]  # what is fitted does play one
    assert perturbation_effect(louder, reviews, seeds=(0,))["clean"]["accuracy"] != before


def test_no_sentiment_in_the_activations_gives_chance_and_no_drop(reviews):
    effects = perturbation_effect(np.random.default_rng(3).standard_normal((len(reviews), WIDTH)), reviews, seeds=(0, 1))
    assert 0.42 < effects["clean"]["accuracy"].value < 0.58
    assert all(abs(effects[kind]["drop"].value) < 0.12 for kind in effects if kind != "clean")


def test_whole_groups_are_enough_and_half_a_pair_is_no_pair(reviews):
    part = subset(reviews, np.arange(241))  # the last clean sentence has lost its twin
    effects = perturbation_effect(activations(part), part, seeds=(0,))
    assert effects["clean"]["accuracy"].n == 121
    assert sum(effects[kind]["drop"].n for kind in effects if kind != "clean") == 120


def test_a_set_that_knows_no_sentiment_is_refused(reviews):
    with pytest.raises(ValueError, match=r"must have a sentiment for each statement; pocket/robustness has none\."):
        perturbation_effect(activations(reviews), replace(reviews, sentiment=None))


def test_every_layer_has_its_rows_and_a_set_without_sentiment_none(reviews):
    shown, noise = activations(reviews, hidden="swaps"), np.random.default_rng(1).standard_normal((len(reviews), WIDTH))
    found = list(perturbation_effects(np.stack([noise, shown], axis=1), reviews, seeds=(0,)))
    assert len(found) == 2 * (1 + 2 * 6)
    value = {(layer, method, metric): estimate.value for layer, method, metric, estimate in found}
    assert value[1, "sentiment clean", "accuracy"] > 0.99 > 0.6 > value[0, "sentiment clean", "accuracy"]
    assert value[1, "sentiment under swaps", "drop"] > 0.3 > value[1, "sentiment under case", "drop"]
    assert list(perturbation_effects(np.stack([noise], axis=1), replace(reviews, sentiment=None))) == []


def test_a_probe_that_reads_topic_is_told_from_one_that_reads_stereotypes():
    asked = topical("pocket")
    categories = np.array(asked.categories)
    side = (categories == "anti-stereotype") * 2.0 - (categories == "stereotype") * 2.0
    rng = np.random.default_rng(0)
    features = rng.standard_normal((len(asked), WIDTH))
    features[:, 0] += 2 * side
    stereotypes = topical_fit(features, asked, seeds=(0,))
    assert stereotypes.low < 0.5 < stereotypes.high
    topic = features.copy()
    topic[:, 0] += 12.0 * (categories == "unrelated")  # what the probe reads is also what does not fit
    assert topical_fit(topic, asked, seeds=(0,)).high < 0.1
