"""The tables of a checkpoint see what is there, beside what chance gives; the control changes no information."""

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from tracing_utils import results
from tracing_utils.experiments.mutual_information import kernels
from tracing_utils.experiments.mutual_information.estimates import EXPONENTS, evidence, in_bits, readable, released, reweighting
from tracing_utils.experiments.mutual_information.kernels import (
    alignment,
    debiased,
    median_kernel,
    released_kernel,
    smoother,
    standardise,
    text_kernel,
)
from tracing_utils.run import jobs


def table(measures) -> dict:
    return {(layer, method, metric): e for measure in measures for layer, method, metric, e in measure.rows()}


def layers_that_learn(n: int = 80) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Three layers of which the last holds the label of each member of a pair."""
    rng = np.random.default_rng(12)
    labels = np.arange(n) % 2
    acts = rng.standard_normal((n, 3, 6)).astype(np.float32)
    acts[:, 2] += 3 * (2 * labels[:, None] - 1)
    return acts, labels, [f"g{i // 2}" for i in range(n)]


def test_the_released_table_has_every_layer_with_its_control_and_sees_where_the_label_is(make_concepts):
    acts, labels, groups = layers_that_learn()
    rows = table(released(acts, make_concepts(labels, groups=groups)))
    assert len(rows) == 3 * 4
    assert rows[2, "released", "nhsic_ty"].low > rows[2, "shuffled", "nhsic_ty"].high
    assert rows[1, "released", "nhsic_ty"].value < rows[1, "shuffled", "nhsic_ty"].high * 1.5
    own = smoother(released_kernel(standardise(acts[:, 0])))
    assert rows[0, "released", "nhsic_tx"].value == pytest.approx(alignment(own, own))
    assert all(e.low <= e.value <= e.high and e.n == 80 for (_, method, _), e in rows.items() if method == "released")


def test_the_evidence_is_the_whole_sample_and_the_same_halves_at_every_checkpoint(make_concepts):
    acts, labels, groups = layers_that_learn()
    concepts = make_concepts(labels, groups=groups)
    first, again = (evidence(released(a, concepts)) for a in (acts, acts))
    later = evidence(released(acts[:, [0, 2, 1]], make_concepts(labels, groups=groups)))
    assert {key: values.shape for key, values in first.items()} == {
        "nhsic_tx": (3, 21), "nhsic_ty": (3, 21), "floor_tx": (3, 200), "floor_ty": (3, 200)
    }  # fmt: skip
    for key, values in first.items():
        assert np.array_equal(values, again[key])
        assert later[key][[0, 2, 1]] == pytest.approx(values, rel=1e-5)
    assert first["nhsic_ty"][2, 0] == np.float32(table(released(acts, concepts))[2, "released", "nhsic_ty"].value)


def test_a_half_is_half_of_the_groups_and_standardised_on_its_own(make_concepts):
    acts, labels, groups = layers_that_learn(40)
    halves = released(acts, make_concepts(labels, groups=groups))[0].values[:, 1:]
    own = smoother(released_kernel(standardise(acts[:20, 0])))
    assert 0.5 * alignment(own, own) < halves[0].min() < halves[0].max() < 2 * alignment(own, own)
    assert halves[0].std() > 0


def test_many_statements_are_measured_over_features_and_give_the_same_but_for_a_few_in_a_hundred_thousand(
    make_concepts, monkeypatch
):
    acts, labels, groups = layers_that_learn(200)
    exact = released(acts, make_concepts(labels, groups=groups))
    monkeypatch.setattr(kernels, "MANY", 150)  # the whole sample, not its halves
    for before, after in zip(exact, released(acts, make_concepts(labels, groups=groups)), strict=True):
        assert np.array_equal(before.values[:, 1:], after.values[:, 1:])
        assert not np.array_equal(before.values[:, 0], after.values[:, 0])
        np.testing.assert_allclose(after.values[:, 0], before.values[:, 0], rtol=5e-5)
        np.testing.assert_allclose(after.null, before.null, rtol=5e-4)


def words_and_kinds() -> tuple[np.ndarray, list[str], np.ndarray]:
    rng = np.random.default_rng(13)
    words = ["alpha beta gamma delta", "one two three four", "red green blue grey", "north south east west"]
    kinds = rng.integers(4, size=80)
    acts = rng.standard_normal((80, 2, 6)).astype(np.float32)
    acts[:, 1, :4] += 6 * np.eye(4)[kinds]
    return acts, [f"{words[kind]} item" for kind in kinds], kinds


def test_the_readable_table_sees_the_words_where_they_are_and_not_elsewhere(make_concepts):
    acts, statements, _ = words_and_kinds()
    rows = table(readable(acts, make_concepts(np.arange(80) % 2, statements=statements)))
    assert rows[1, "debiased", "cka"].low > max(0.3, rows[1, "permutation null", "cka"].high)
    assert rows[0, "debiased", "cka"].low < 0 < rows[0, "debiased", "cka"].high
    for width in ("half", "twice"):
        assert rows[1, f"debiased, {width} the width", "cka"].low > 0.2
        assert abs(rows[0, f"debiased, {width} the width", "cka"].value) < 0.1
    whole = alignment(debiased(text_kernel(statements)), debiased(median_kernel(acts[:, 1])))
    assert rows[1, "debiased", "cka"].value == pytest.approx(whole)
    assert 4 < rows[0, "covariance", "participation_ratio"].value <= 6
    for count in ("participation_ratio", "effective_rank"):
        assert rows[1, "covariance", count].value < rows[0, "covariance", count].value


def test_cka_with_block_0_and_with_the_labels_are_what_they_say(make_concepts):
    acts, labels, groups = layers_that_learn()
    rows = table(readable(acts, make_concepts(labels, groups=groups)))
    assert rows[0, "debiased", "cka_x"].value == pytest.approx(1)
    assert rows[1, "debiased", "cka_x"].low < 0 < rows[1, "debiased", "cka_x"].high
    assert rows[2, "debiased", "cka_y"].low > 0.5 > rows[2, "permutation null", "cka_y"].high
    assert rows[1, "debiased", "cka_y"].low < 0.05
    assert {method for _, method, metric in rows if metric.startswith("cka_")} == {"debiased", "permutation null"}


def test_the_permutation_null_of_unrelated_data_is_about_0_and_holds_their_value(make_concepts):
    inside = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        acts = rng.standard_normal((50, 2, 40)).astype(np.float32)
        rows = table(readable(acts, make_concepts(rng.permutation(np.arange(50) % 2))))
        for metric in ("cka_x", "cka_y"):
            null = rows[1, "permutation null", metric]
            assert abs(null.value) < 0.02
            inside += null.low <= rows[1, "debiased", metric].value <= null.high
    assert inside >= 19  # of 24, 95 % expected


def test_the_interval_of_a_jackknife_over_halves_covers_the_value_at_full_size(make_concepts):
    # The participation ratio of 4 equal variances is 4; the interval at n = 200 should hold it in most samples.
    held = 0
    for seed in range(10):
        acts = np.random.default_rng(seed).standard_normal((200, 1, 4)).astype(np.float32)
        rows = table(
            readable(acts, make_concepts(np.arange(200) % 2, statements=[f"word{i % 7} word{i % 5}" for i in range(200)]))
        )
        ratio = rows[0, "covariance", "participation_ratio"]
        held += ratio.low < 4 * (1 - 4 / 200) < ratio.high
    assert held >= 6


def test_all_estimates_in_bits_find_the_layer_that_holds_the_label_and_no_other(make_concepts):
    acts, labels, groups = layers_that_learn(200)
    found = {(layer, metric): e for layer, _, metric, e in in_bits(acts, make_concepts(labels, groups=groups))}
    assert len(found) == 3 * 3
    for metric in ("usable_information", "fano_bound", "ksg_y"):
        assert found[2, metric].low > 0.5
        assert found[2, metric].value < 1.05
        assert found[0, metric].value < 0.1
    assert found[2, "fano_bound"].value <= found[2, "usable_information"].value + 0.05


# The control


@pytest.fixture(scope="module")
def control():
    """The control with one draw, one column a metric."""
    rows = reweighting(draws=1)
    return rows.pivot(index="exponent", columns="metric", values="value").loc[list(EXPONENTS)]


def test_reweighting_shows_two_phases_while_the_information_stays_the_same(control):
    peak = int(np.argmax(control["nhsic_tx"]))
    assert 0 < peak < len(control) - 1
    assert control["nhsic_tx"].iloc[peak] > 1.5 * control["nhsic_tx"].iloc[[0, -1]].max()  # rises, then falls
    assert control["nhsic_ty"].is_monotonic_increasing
    assert control["nhsic_ty"].iloc[-1] > 1.3 * control["nhsic_ty"].iloc[0]
    assert control["shannon"].nunique() == 1
    for count in ("participation_ratio", "effective_rank"):
        assert control[count].is_monotonic_decreasing
        assert control[count].iloc[0] > 10 * control[count].iloc[-1]


def test_its_information_is_that_of_the_channel(control):
    def lost(z):
        p = norm.cdf(2 * z)
        return -norm.pdf(z) * sum(q * np.log2(q) for q in (p, 1 - p) if q > 0)

    assert control["shannon"].iloc[0] == pytest.approx(1 - quad(lost, -9, 9)[0], abs=1e-4)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_the_map_can_be_undone_for_every_exponent_and_one_that_drops_directions_cannot(exponent):
    rng = np.random.default_rng(0)
    hidden = standardise(rng.standard_normal((300, 64)))
    rotation, _ = np.linalg.qr(rng.standard_normal((64, 64)))
    weights = np.arange(1.0, 65) ** -exponent

    def left_over(t):
        return np.abs(hidden - t @ np.linalg.lstsq(t, hidden, rcond=1e-15)[0]).max()

    assert left_over(standardise(hidden * weights @ rotation)) < 1e-6
    assert left_over(standardise(hidden * weights * (np.arange(64) < 40) @ rotation)) > 1


def test_reweighting_is_the_same_twice_and_gives_a_range_over_draws():
    first, second = (reweighting(n=60, width=16, draws=3) for _ in range(2))
    assert first.equals(second)
    assert (first["low"] <= first["value"]).all()
    assert (first["value"] <= first["high"]).all()
    assert (first["low"] < first["high"]).any()


def test_the_job_of_a_run_writes_the_control_as_a_tidy_table(tmp_path):
    assert jobs.main(["summary", "studies/pocket.yml", "reweighting", str(tmp_path), str(tmp_path / "reweighting.csv")]) == 0
    written = pd.read_csv(tmp_path / "reweighting.csv")
    assert list(written.columns) == [*results.COLUMNS, "exponent"]
    assert set(written["method"]) == {"reweighted random features"}
    assert set(written["metric"]) == {"nhsic_tx", "nhsic_ty", "participation_ratio", "effective_rank", "shannon"}
    assert sorted(set(written["exponent"])) == list(EXPONENTS)
    assert written[["value", "low", "high", "n", "seed"]].notna().all(axis=None)
