"""A null direction means nothing, is shaped like the target's activations, and is measured once, on the pairs of the effect."""

import numpy as np
import pytest
from scipy import stats

from tracing_utils.core import downloads
from tracing_utils.experiments.steering import nulls
from tracing_utils.experiments.steering.intervention import Sweep, directions, mean_difference
from tracing_utils.experiments.steering.likelihoods import neutral_text
from tracing_utils.statements.concepts import folds

NEUTRAL = neutral_text("privacy")


@pytest.fixture
def acts():
    """Activations that are wide along a few axes, off centre, and hold no label."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((300, 16)) * np.geomspace(10, 0.1, 16) @ np.linalg.qr(rng.standard_normal((16, 16)))[0] + 7.0


def test_random_directions_have_the_covariance_of_the_activations_and_not_that_of_a_sphere(acts):
    drawn = nulls.random_directions(acts, 4000)
    expected = np.cov(acts.T)
    assert np.linalg.norm(np.cov(drawn.T) - expected) < 0.1 * np.linalg.norm(expected)
    assert np.linalg.norm(np.eye(16) * np.trace(expected) / 16 - expected) > 0.5 * np.linalg.norm(expected)
    assert np.abs(drawn.mean(0)).max() < 0.1 * np.sqrt(expected.trace())
    assert np.array_equal(nulls.random_directions(acts, 3), nulls.random_directions(acts, 3))
    assert not np.allclose(nulls.random_directions(acts, 3, seed=1), nulls.random_directions(acts, 3))


def test_there_are_ninety_nine_random_directions_and_twenty_of_shuffled_labels_with_the_dose_of_the_vector(acts, make_concepts):
    """On 49ec766 there was one random direction a source, with the norm of a difference of means, drawn from a sphere."""
    made, train = make_concepts(np.arange(300) % 2), np.arange(180)
    found = nulls.directions(acts, made, train, layer=2)
    assert {method: len(each) for method, each in found.items()} == {"random direction": 99, "shuffled labels": 20}
    for vectors in found.values():
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        assert np.linalg.norm(vectors, axis=1) == pytest.approx((acts[train] @ units.T).std(0))
        assert len(np.unique(vectors.round(9), axis=0)) == len(vectors)
    (vector,) = directions(acts[:, None], acts[:, None], made, train, [0])["vector"]
    unit = vector / np.linalg.norm(vector)
    assert np.linalg.norm(vector) == pytest.approx((acts[train] @ unit).std())  # the same rule
    assert not np.allclose(nulls.directions(acts, made, train, layer=3)["random direction"], found["random direction"])
    true = mean_difference(acts[train], made.labels[train])
    assert not any(np.allclose(v / np.linalg.norm(v), true / np.linalg.norm(true)) for v in found["shuffled labels"])


@pytest.mark.parametrize(("observed", "gain", "loss"), [(99.0, 1 / 100, 1.0), (-1.0, 1.0, 1 / 100), (49.0, 51 / 100, 51 / 100)])
def test_the_p_value_counts_the_observed_value_among_the_draws(observed, gain, loss):
    assert nulls.p_values(observed, np.arange(99.0)) == pytest.approx((gain, loss))


def test_an_effect_is_held_against_the_null_on_the_first_pairs_alone(monkeypatch):
    monkeypatch.setattr(nulls, "PAIRS", 2)
    drawn = np.stack([np.zeros(99), np.arange(99.0)], axis=1)
    ((method, found, chances),) = nulls.Null({"random direction": drawn}, {}).against(np.array([90.0, 100.0, -1e6]), place=1)
    assert (method, found.value, found.n) == ("random direction", 95 - 49, 99)
    assert (found.low, found.high) == pytest.approx((95 - 95.55, 95 - 2.45))
    assert chances == pytest.approx({"p": 5 / 100, "p_loss": 97 / 100})


def test_a_direction_of_the_null_is_found_to_gain_as_rarely_as_the_level_says():
    """One random direction beside a vector was no null: its spread was up to 2.5 times the bootstrap error."""
    rng = np.random.default_rng(1)
    spread, error = 2.0, 1.0
    p, z = [], []
    for _ in range(2000):
        null = spread * rng.standard_normal(99)
        observed = spread * rng.standard_normal()
        p.append(nulls.p_values(observed, null)[0])
        z.append(observed / error)
    assert np.mean(np.array(z) > 1.96) > 0.1  # what the bootstrap over pairs would have said
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.015)
    assert stats.kstest(p, "uniform").statistic < 0.04


@pytest.fixture
def asked(llama, tokenizer, make_concepts, sentences, monkeypatch):
    """A target, forty statements in pairs, and a null of few directions on few pairs."""
    monkeypatch.setattr(nulls, "METHODS", {"random direction": 3, "shuffled labels": 2})
    monkeypatch.setattr(nulls, "PAIRS", 4)
    monkeypatch.setattr(nulls, "TEXTS", 5)
    texts = [f"{number} {text}" for number in range(4) for text in sentences]
    concepts = make_concepts(np.arange(40) % 2, statements=texts, groups=[f"g{i // 2}" for i in range(40)], dimension="privacy")
    acts = np.random.default_rng(2).standard_normal((40, 3, 16)).astype(np.float32)
    pairs = np.arange(20).reshape(-1, 2)[:, ::-1]
    return llama, tokenizer, acts, concepts, folds(concepts, 0)[0].train, pairs, [0, 2], NEUTRAL


def test_the_null_is_measured_on_the_pairs_and_texts_of_the_effect_and_as_steering_measures_it(asked):
    model, tokenizer, acts, made, train, pairs, layers, _ = asked
    null = nulls.measured(*asked)
    assert {method: values.shape for method, values in null.gain.items()} == {
        "random direction": (3, 2),
        "shuffled labels": (2, 2),
    }
    sweep = Sweep(model, tokenizer, made, pairs[:4], layers, NEUTRAL[:5])
    before, plain = sweep.unsteered()
    vector = nulls.directions(acts[:, 2], made, train, 2)["shuffled labels"][1]
    after, cost = sweep(2, (nulls.DOSE * vector).astype(np.float32))
    assert null.gain["shuffled labels"][1, 1] == pytest.approx((after - before).mean())
    assert null.cost["shuffled labels"][1, 1] == pytest.approx((cost.losses - plain.losses).mean())
    assert abs(null.gain["shuffled labels"][1, 1]) > 1e-6


def test_the_null_is_measured_once_for_a_target_and_anew_for_another(asked, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACING_UTILS_CACHE", str(tmp_path))
    first = nulls.measured(*asked)
    folder = downloads.cache_folder() / "controls"
    assert len(list(folder.iterdir())) == 1
    with monkeypatch.context() as broken:
        broken.setattr(nulls, "Sweep", lambda *_: 1 / 0)
        again = nulls.measured(*asked)
        assert all(np.array_equal(again.gain[method], first.gain[method]) for method in first.gain)
        model, tokenizer, acts, *rest = asked
        with pytest.raises(ZeroDivisionError):
            nulls.measured(model, tokenizer, acts + 1, *rest)
    assert len(list(folder.iterdir())) == 1
