"""Findings are read off the steering tables as they are defined, and a table that lacks rows gives fewer of them."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tracing_utils.experiments.steering import findings, nulls

STEPS, LAYERS = (0, 8, 64, 512, 1024, 2048), (1, 2)


def row(method, metric, value, revision="step8", layer=1, dose=2.0, dimension="privacy", p=np.nan) -> dict:
    step = int(revision.removeprefix("step")) if revision.startswith("step") else -1
    common = {"suite": "pocket", "revision": revision, "step": step, "tokens": None, "layer": layer, "dimension": dimension}
    common |= {
        "concept_set": "made-up",
        "method": method,
        "metric": metric,
        "value": value,
        "low": value - 0.1,
        "high": value + 0.1,
    }
    return common | {"n": 50, "seed": "0", "dose": dose, "p": p}


def table() -> pd.DataFrame:
    """A sweep over six sources and the model's own vector, with one chosen setting."""
    rows = []
    for revision in (*(f"step{step}" for step in STEPS), "chat"):
        rows.append(row("unsteered", "perplexity", 20.0, revision, None, 0.0))
        for layer, dose in itertools.product(LAYERS, (-2.0, 2.0)):
            rows.append(row("vector", "gain", 0.01 * dose * layer, revision, layer, dose))
            rows.append(row("vector", "perplexity", 20.0 + abs(dose) * layer, revision, layer, dose))
        for layer in LAYERS:
            rows.append(row("vector", "gain_over_random_direction", 0.1, revision, layer, p=0.01))
            rows.append(row("vector", "gain_over_shuffled_labels", 0.2, revision, layer, p=0.05))
            rows.append(row("vector", "side_effect", -0.1, revision, layer) | {"vector_of": "fairness"})
    for layer, (method, count) in itertools.product(LAYERS, nulls.METHODS.items()):
        rows += [row(method, "gain", number / 100, "chat", layer) for number in range(count)]
    rows.append(row("unsteered", "mc1", 0.4, layer=None, dose=0.0))
    for method, value in (("chosen", 0.7), ("chosen, random direction", 0.45)):
        rows += [row(method, "gain", value, layer=2), row(method, "mc1", value, layer=2, p=0.01)]
        rows.append(row(method, "mc1_change", value - 0.4, layer=2, p=0.01))
    return pd.DataFrame(rows)


def test_the_sweep_is_that_of_vectors_and_knows_the_model_s_own():
    swept = findings.swept(table())
    assert set(swept["method"]) == {"vector"}
    assert set(swept["metric"]) == {"gain"}
    assert set(swept[swept["own"]]["revision"]) == {"chat"}
    assert len(swept) == 7 * 2 * 2


def test_the_null_is_each_of_its_directions_and_the_range_of_the_random_ones():
    null = findings.null(table())
    assert null["method"].value_counts().to_dict() == {"random direction": 198, "shuffled labels": 40, "null range": 2}
    ranges = null[null["method"] == "null range"].set_index("layer")
    assert ranges.loc[1, ["value", "low", "high", "n"]].tolist() == pytest.approx([0.49, 0.0245, 0.9555, 99])
    assert findings.null(table()[lambda rows: rows["method"] == "vector"]).empty


def test_a_tested_gain_has_its_chance_and_a_side_effect_the_dimension_its_vector_is_of():
    assert findings.swept(table(), "gain_over_random_direction")["p"].tolist() == [0.01] * 14
    assert findings.swept(table(), "gain_over_shuffled_labels")["value"].tolist() == [0.2] * 14
    effects = findings.swept(table(), "side_effect")
    assert set(zip(effects["vector_of"], effects["dimension"], strict=True)) == {("fairness", "privacy")}


def test_the_cost_is_the_perplexity_divided_by_that_of_the_unsteered_model():
    costs = findings.gain_and_cost(table())
    assert len(costs) == 7 * 2 * 2
    assert costs["cost"].tolist() == ((20 + 2 * costs["layer"]) / 20).tolist()
    assert costs["value"].tolist() == pytest.approx((0.01 * costs["dose"] * costs["layer"]).tolist())


def test_a_chosen_setting_stands_beside_the_unsteered_model_and_its_control():
    settings = findings.chosen(table()).set_index("metric")
    assert settings.loc["mc1", ["before", "after", "control", "layer", "dose"]].tolist() == [0.4, 0.7, 0.45, 2, 2]
    assert settings.loc["mc1", ["change", "change_low", "change_high", "p"]].tolist() == pytest.approx([0.3, 0.2, 0.4, 0.01])
    assert np.isnan(settings.loc["gain", "change"])


def with_tasks() -> pd.DataFrame:
    """The same with a task of general ability in two dimensions, clearly worse in the second, and perplexities."""
    rows = []
    for dimension, loss in (("privacy", 0.0), ("toxicity", 0.3)):
        setting = {"layer": 2, "dimension": dimension}
        rows.append(row("unsteered", "piqa", 0.5, layer=None, dose=0.0, dimension=dimension))
        rows.append(row("unsteered", "perplexity", 20.0, layer=None, dose=0.0, dimension=dimension))
        for method, lost in (("chosen", loss), ("chosen, random direction", 0.2)):
            rows += [row(method, "piqa", 0.5 - lost, **setting), row(method, "piqa_change", -lost, **setting, p=0.01)]
            rows += [row(method, "mc2", 0.5, **setting), row(method, "perplexity", 20.0 + 10 * lost, **setting)]
    return pd.DataFrame(rows)


def test_costs_are_perplexity_and_tasks_averaged_over_cases_with_the_largest_loss_and_no_measure_of_trust():
    costs = findings.costs(with_tasks()).set_index("measure")
    assert set(costs.index) == {"piqa", "perplexity"}
    piqa = costs.loc["piqa"]
    assert piqa[["n", "cases", "clear losses"]].tolist() == [50, 2, 1]
    assert piqa[["unsteered", "chosen", "random direction"]].tolist() == pytest.approx([0.5, 0.35, 0.3])
    assert piqa[["largest loss", "low", "high"]].tolist() == pytest.approx([-0.3, -0.4, -0.2])
    assert costs.loc["perplexity", ["unsteered", "chosen", "random direction"]].tolist() == pytest.approx([20, 21.5, 22])
    assert pd.isna(costs.loc["perplexity", "clear losses"])


def test_a_table_without_chosen_settings_has_no_costs_and_one_without_paired_gains_no_differences():
    swept = table()[lambda rows: rows["method"] == "vector"]
    assert findings.costs(swept).empty
    assert findings.swept(swept, "gain_over_own").empty
    paired = pd.concat([swept, pd.DataFrame([row("vector", "gain_over_own", 0.2, layer=2)])])
    assert findings.swept(paired, "gain_over_own")[["layer", "value", "low", "high"]].to_numpy().tolist() == [
        [2, 0.2, 0.1, 0.2 + 0.1]
    ]


def test_the_summary_counts_what_lies_clearly_on_one_side():
    counts = findings.summary(table()).set_index("measure")
    assert counts.loc["mc1"].tolist() == ["pocket", 1, 1, 0, 0, 0]
    assert counts.loc["gain"].tolist() == ["pocket", 1, 1, 0, 1, 0]
    lowered = table()
    lowered[["value", "low", "high"]] = -lowered[["value", "high", "low"]].to_numpy()
    assert findings.summary(lowered).set_index("measure").loc["mc1"].tolist() == ["pocket", 1, 0, 1, 0, 0]


def probing(accuracies) -> pd.DataFrame:
    rows = [
        row("logistic", "accuracy", value + 0.01 * layer, f"step{step}", layer).copy()
        for step, value in zip(STEPS, accuracies, strict=True)
        for layer in (0, 1, 2)
    ]
    return pd.DataFrame(rows).drop(columns=["dose", "p"])


def test_the_correlation_is_pearson_s_over_checkpoints_averaged_over_the_steered_layers():
    accuracies = np.array([0.5, 0.55, 0.52, 0.7, 0.8, 0.78])
    steered = table()
    gains = dict(zip((f"step{step}" for step in STEPS), (0.0, 0.1, 0.3, 0.2, 0.5, 0.9), strict=True))
    at = (steered["metric"] == "gain") & (steered["method"] == "vector") & (steered["revision"] != "chat")
    steered.loc[at, "value"] = steered["revision"].map(gains) * steered["dose"]
    stronger = steered[steered["method"] == "vector"].assign(dose=9.0)
    points = findings.probe_and_effect(probing(accuracies), pd.concat([steered, stronger]))
    assert len(points) == len(STEPS)
    assert points.set_index("revision").loc["step8", ["accuracy", "gain"]].tolist() == pytest.approx([0.565, 0.2])
    (found,) = findings.correlations(points).itertuples()
    expected = stats.pearsonr(accuracies, list(gains.values()))
    interval = expected.confidence_interval()
    assert (found.r, found.low, found.high) == pytest.approx((expected.statistic, interval.low, interval.high), abs=1e-4)


def test_a_table_without_chosen_settings_or_with_few_checkpoints_gives_none_and_no_error():
    bare = table().query("method == 'vector' or metric == 'perplexity'").drop(columns="p")
    assert findings.chosen(bare).empty
    assert findings.summary(bare).empty
    points = findings.probe_and_effect(probing([0.5] * 6), table())
    assert findings.correlations(points).empty
    assert findings.correlations(points[:3]).empty
