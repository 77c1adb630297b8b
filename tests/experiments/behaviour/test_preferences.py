"""Which pairs are compared, what summed scores are fooled by, and what is compared with the first checkpoint."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from tracing_utils.checkpoints.types import Checkpoint
from tracing_utils.experiments.behaviour import preferences
from tracing_utils.experiments.behaviour.reading import Reading
from tracing_utils.statements import concepts


def found(rows, method, metric):
    (value,) = [estimate for _, m, k, estimate in rows if (m, k) == (method, metric)]
    return value


def reading(nats, tokens, originality=None):
    nats = np.asarray(nats, dtype=float)
    return Reading(
        nats, np.asarray(tokens), np.zeros(len(nats)) if originality is None else originality, np.zeros((len(nats), 2))
    )


@pytest.mark.parametrize("source", ["world", "pocket"])
def test_pairs_of_crossed_sets_differ_in_the_fewest_words_and_stay_inside_a_group(source):
    chosen = concepts.load(source, "privacy")
    pairs = preferences.crossed_pairs(chosen)
    assert all(chosen.labels[one] == 1 and chosen.labels[zero] == 0 for one, zero in pairs)
    assert all(chosen.groups[one] == chosen.groups[zero] for one, zero in pairs)
    if source == "world":  # the same subject with another value, or the same value with another subject
        words = [set(statement.split()) for statement in chosen.statements]
        assert {len(words[one] ^ words[zero]) for one, zero in pairs} == {2}
        assert len(pairs) == len(chosen)


def test_statements_without_groups_are_paired_as_they_stand(make_concepts):
    assert preferences.crossed_pairs(make_concepts([1, 0, 1, 0])).tolist() == [[0, 1], [2, 3]]


def test_a_summed_score_prefers_the_shorter_text_before_anything_was_learnt_and_a_score_per_token_does_not(make_concepts):
    """An untrained model gives each token about the same log-probability."""
    concepts = make_concepts([1, 0] * 50, groups=[str(i // 2) for i in range(100)])
    generator, tokens = np.random.default_rng(0), np.tile([8, 10], 50)
    nats = -np.log(300) * tokens + generator.standard_normal(100) * 0.1 * np.sqrt(tokens)
    scored = preferences.scores(reading(nats, tokens), np.zeros(100))
    rows = list(preferences.rows(scored, concepts, preferences.crossed_pairs(concepts)))
    assert found(rows, "summed", "preferred").low > 0.95  # the trap
    right = found(rows, "likelihood", "preferred")
    assert right.low < 0.5 < right.high
    assert found(rows, "word frequency", "preferred").value == 0.5  # ties count half


def test_originality_and_likelihood_may_part_and_their_difference_is_paired(make_concepts):
    concepts = make_concepts([1, 0] * 30, groups=[str(i // 2) for i in range(60)])
    same = reading(np.full(60, -20.0), np.full(60, 5), np.tile([0.1, 0.4], 30))
    rows = list(preferences.rows(preferences.scores(same, np.zeros(60)), concepts, preferences.crossed_pairs(concepts)))
    assert found(rows, "originality", "preferred").value == 1
    assert found(rows, "originality", "auroc").value == 1
    assert found(rows, "likelihood", "auroc").value == 0.5
    difference = found(rows, "originality minus likelihood", "preferred")
    assert (difference.value, difference.low, difference.high) == (0.5, 0.5, 0.5)


def test_gains_over_the_first_checkpoint_are_paired_and_what_was_there_before_is_no_gain(make_concepts, tmp_path):
    concepts = make_concepts([1, 0] * 40, groups=[str(i // 2) for i in range(80)])
    start = np.random.default_rng(0).standard_normal(40) + 1  # most prefer the right side before training
    later = {"step0": start, "step1": start, "step2": start + 0.2}
    for name, margins in later.items():
        (tmp_path / "mine" / "behaviour").mkdir(parents=True, exist_ok=True)
        stored = {f"reliability/{method}": margins.astype(np.float32) for method in ("likelihood", "summed")}
        save_file(stored, tmp_path / "mine" / "behaviour" / f"{name}.safetensors")
    study = SimpleNamespace(
        traced=lambda: list(later),
        sets=["mine"],
        dimensions_of=lambda _: ["reliability"],
        concept_set=lambda *_: concepts,
        loaded={name: Checkpoint("tiny", name, int(name[4:]), None, tmp_path, None) for name in later},
    )
    preferences.summarise(study, tmp_path, tmp_path / "gains.csv")
    table = pd.read_csv(tmp_path / "gains.csv").query("method == 'likelihood' and metric == 'preference'").set_index("revision")
    assert start.mean() / (start.std() / np.sqrt(40)) > 4  # unpaired, step 1 would look like a preference that was learnt
    assert table.loc["step1", ["value", "low", "high"]].tolist() == [0, 0, 0]
    assert table.loc["step2", "value"] == pytest.approx(0.2, abs=1e-3)
    assert set(table["before"]) == {"step0"}
