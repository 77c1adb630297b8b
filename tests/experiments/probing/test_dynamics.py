"""An onset is where it was planted, a direction that stays transfers, one that turns does not, and nothing leaks."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tracing_utils.checkpoints.types import Checkpoint
from tracing_utils.core.evaluation import bootstrap_weights
from tracing_utils.experiments.probing import dynamics, probes
from tracing_utils.experiments.probing.controls import shuffled_labels
from tracing_utils.experiments.probing.dynamics import compute, cosines, onset, transfer
from tracing_utils.results import COLUMNS
from tracing_utils.statements.concepts import folds

N, WIDTH, STEPS = 240, 16, (0, 8, 64, 512)


@pytest.fixture(scope="module")
def pairs(make_concepts):
    return make_concepts(np.arange(N) % 2, groups=[f"g{i // 2}" for i in range(N)])


def right(rates, n: int = 2000, seed: int = 0) -> np.ndarray:
    """Statements told right at given rates, the same ones first at every checkpoint."""
    luck = np.random.default_rng(seed).uniform(size=n)
    return np.stack([luck < rate for rate in rates]).astype(float)


def weights(n: int):
    return bootstrap_weights([f"row {i}" for i in range(n)], seed=0)


# Onset


def test_the_onset_is_the_first_step_with_half_of_the_final_gain():
    steps = [0, 8, 64, 512, 4096]
    first = onset(steps, right([0.5, 0.52, 0.8, 0.78, 0.9]), weights(2000))
    assert (first.value, first.low, first.high) == (64, 64, 64)
    assert onset(steps, right([0.5, 0.52, 0.6, 0.69, 0.9]), weights(2000)).value == 4096
    assert onset(steps, right([0.5, 0.4, 0.45, 0.72, 0.9]), weights(2000)).value == 512  # a fall before it counts for nothing


def test_an_onset_between_two_steps_has_an_interval_that_holds_both():
    first = onset([0, 8, 64, 512], right([0.5, 0.5, 0.6, 0.7], n=300), weights(300))
    assert (first.low, first.high) == (64, 512)


@pytest.mark.parametrize("rates", [(0.5, 0.5, 0.5), (0.7, 0.6, 0.55), (0.5, 0.9, 0.5)])
def test_what_has_not_risen_has_no_onset(rates):
    first = onset([0, 8, 64], right(rates), weights(2000))
    assert np.isnan([first.value, first.low, first.high]).all()


def test_an_onset_is_claimed_for_noise_as_rarely_as_its_interval_says():
    rng = np.random.default_rng(1)
    claimed = [
        not np.isnan(onset([0, 8], (rng.uniform(size=(2, 300)) < 0.6).astype(float), weights(300)).value) for _ in range(200)
    ]
    assert np.mean(claimed) < 0.06  # one side of a 95 % interval


# Transfer


def labelled(concepts, direction: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((len(concepts), len(direction)))
    return noise + 2.0 * np.outer(2 * concepts.labels - 1, direction)


def axis(i: int, width: int = WIDTH) -> np.ndarray:
    return np.eye(width)[i]


def test_a_direction_that_stays_transfers_one_that_moves_does_not_and_one_that_turns_round_tells_the_opposite(pairs):
    middle = np.stack([labelled(pairs, d, seed) for seed, d in enumerate((axis(0), axis(0), axis(1), -axis(0)))])
    rate = transfer(middle, pairs).mean(2)
    assert np.diag(rate).min() > 0.93  # at home every one of them tells the label
    assert rate[0, 1] > 0.93
    assert rate[0, 2] == pytest.approx(0.5, abs=0.12)
    assert rate[0, 3] < 0.07
    found = cosines(middle, pairs)[0].mean(2)
    assert found[0, 1] > 0.6
    assert abs(found[0, 2]) < 0.35
    assert found[0, 3] < -0.6


def test_a_shift_of_all_activations_costs_a_direction_nothing(pairs):
    first = labelled(pairs, axis(0), seed=0)
    right = transfer(np.stack([first, 3 * labelled(pairs, axis(0), seed=1) + 50]), pairs)
    assert right[0, 1].mean() > 0.93
    probe = probes.held_out(first, pairs, 0)[0]["logistic"].probes[0]
    assert ((probe.logits(first + 50) > 0) == (pairs.labels == 1)).mean() < 0.6  # its own threshold would have failed


def test_wide_noise_that_any_probe_learns_by_heart_transfers_at_chance_even_to_itself(pairs):
    middle = np.random.default_rng(2).standard_normal((4, N, 400))
    right = transfer(middle, pairs)
    train = folds(pairs, seed=0)[0].train
    projected = probes.held_out(middle[0], pairs, 0)[0]["logistic"].probes[0].logits(middle[0, train])
    assert ((projected > np.median(projected)) == (pairs.labels[train] == 1)).mean() > 0.95  # what it was fitted on
    assert np.diag(right.mean(2)).mean() == pytest.approx(0.5, abs=0.06)
    assert right.mean() == pytest.approx(0.5, abs=0.06)


# Cosines


def squeezed(width: int, seed: int, count: int) -> np.ndarray:
    """Activations that lie along few axes and hold no label."""
    rng = np.random.default_rng(seed)
    return (
        rng.standard_normal((count, N, width))
        * np.geomspace(1, 0.01, width)
        @ np.linalg.qr(rng.standard_normal((width, width)))[0]
    )


def test_directions_of_folds_that_share_statements_agree_about_nothing_and_those_of_disjoint_halves_do_not(pairs):
    """On 49ec766 cosines were taken between folds: .5 where the labels mean nothing, far above the page's chance line."""
    blind = squeezed(64, 5, 1)
    probe = probes.held_out(blind[0], pairs, 0)[0]["logistic"].probes
    units = np.stack([one.weight / np.linalg.norm(one.weight) for one in probe])
    shared = (units @ units.T)[~np.eye(5, dtype=bool)].mean()
    assert shared > 1.96 / np.sqrt(64)
    found, null = cosines(blind, pairs)
    assert abs(found.mean()) < shared / 2
    assert abs(null.mean()) < shared / 2


def test_the_null_has_the_spread_of_cosines_that_read_nothing_and_a_true_direction_lies_above_it(pairs):
    rng, ranks = np.random.default_rng(6), []
    for _ in range(40):
        blind = rng.standard_normal((1, N, 12)) * np.geomspace(1, 0.03, 12)
        found, null = cosines(blind, pairs, draws=20)
        ranks.append((null[0, 0] >= found.mean()).mean())
    assert np.mean(np.array(ranks) < 0.05) < 0.15  # a false finding is as rare as the null says
    assert np.mean(np.array(ranks) > 0.5) == pytest.approx(0.5, abs=0.25)
    true, null = cosines(np.stack([labelled(pairs, axis(0), seed) for seed in range(2)]), pairs)
    assert true[0, 1].mean() > null[0, 1].max() + 0.2


def test_the_halves_behind_a_cosine_share_no_group(pairs, monkeypatch):
    seen = []
    monkeypatch.setattr(dynamics, "_directions", lambda acts, tasks, train, valid: (seen.append((train, valid)), acts[:1])[1])
    cosines(np.ones((1, N, 3)), pairs)
    assert len(seen) == 10
    for (first, chosen), (second, same) in zip(seen[::2], seen[1::2], strict=True):
        groups = [{pairs.groups[i] for i in rows} for rows in (first, second, chosen)]
        assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
        assert np.array_equal(chosen, same)


# The table


def saved(folder, concepts, acts: dict[int, np.ndarray]):
    """Evidence files as the probing notebook writes them, and their checkpoints."""
    evidence, checkpoints = {}, []
    for step, layers in acts.items():
        name = f"step{step}"
        shuffled = shuffled_labels(concepts, 0)[None]
        traced = probes.trace(layers, concepts, shuffled, shuffled)
        parts = traced.evidence(layers) | {"floor": np.zeros(len(concepts), np.float32)}
        save_file({f"{concepts.dimension}/{part}": array for part, array in parts.items()}, folder / f"{name}.safetensors")
        evidence[name] = folder / f"{name}.safetensors"
        checkpoints.append(Checkpoint("tiny", name, step, step * 4096, folder, folder))
    return evidence, checkpoints


@pytest.fixture(scope="module")
def study(tmp_path_factory, pairs):
    """Layer 1 learns the label at step 64, along an axis that stays; layer 0 never does."""
    rng, acts = np.random.default_rng(3), {}
    for place, step in enumerate(STEPS):
        layers = rng.standard_normal((N, 2, WIDTH)).astype(np.float32)
        if step >= 64:
            layers[:, 1] = labelled(pairs, axis(0), seed=10 + place)
        acts[step] = layers
    return saved(tmp_path_factory.mktemp("evidence"), pairs, acts)


@pytest.fixture(scope="module")
def rows(study, pairs):
    return compute(pairs, *study)


def one(rows, **wanted):
    (found,) = [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]
    return found


def test_the_table_tells_when_and_where_the_label_was_learnt(rows):
    assert one(rows, metric="onset_step", layer=1)["value"] == 64
    assert one(rows, metric="onset_step", layer=None)["value"] == 64
    assert np.isnan(one(rows, metric="onset_step", layer=0)["value"])
    early, late = (one(rows, metric="change", layer=1, step=step) for step in (8, 64))
    assert late["low"] > 0.2
    assert late["p"] < 1e-3
    assert early["low"] < 0 < early["high"]
    assert early["p"] > 0.05


def test_the_table_tells_that_the_direction_stayed(rows):
    def found(metric, source, target):
        return one(rows, metric=metric, method="logistic", step=source, to_step=target)

    assert found("transfer_accuracy", 64, 512)["low"] > 0.85
    assert found("direction_cosine", 64, 512)["value"] > 0.6
    assert found("transfer_accuracy", 0, 512)["value"] < 0.75
    chance = one(rows, metric="direction_cosine", method="permuted labels", step=64, to_step=512)
    assert chance["high"] < found("direction_cosine", 64, 512)["low"]
    assert chance["low"] < found("direction_cosine", 0, 512)["value"] < chance["high"] + 0.1


def test_every_pair_of_checkpoints_has_its_rows_and_every_row_the_common_columns(rows):
    assert all(set(COLUMNS) <= set(row) for row in rows)
    for metric in ("transfer_accuracy", "direction_cosine"):
        pairs = {(r["step"], r["to_step"]) for r in rows if r["metric"] == metric and r["method"] == "logistic"}
        assert pairs == {(a, b) for a in STEPS for b in STEPS}
    assert {row["metric"] for row in rows} == {"change", "onset_step", "direction_cosine", "transfer_accuracy"}


def test_the_order_in_which_checkpoints_are_named_does_not_matter(study, rows, pairs):
    evidence, checkpoints = study
    again = compute(pairs, evidence, checkpoints[::-1])
    assert [str(row) for row in again] == [str(row) for row in rows]


def test_one_checkpoint_has_no_dynamics(study, pairs):
    evidence, checkpoints = study
    assert compute(pairs, evidence, checkpoints[:1]) == []


def test_missing_or_foreign_evidence_is_refused(study, pairs, make_concepts):
    evidence, checkpoints = study
    with pytest.raises(ValueError, match="that of step8 is missing"):
        compute(pairs, {name: path for name, path in evidence.items() if name != "step8"}, checkpoints)
    with pytest.raises(ValueError, match="must hold 20 statements of reliability; it holds 240"):
        compute(make_concepts(np.arange(20) % 2), evidence, checkpoints)
    with pytest.raises(ValueError, match="statements of privacy; it holds none"):
        compute(make_concepts(np.arange(20) % 2, dimension="privacy"), evidence, checkpoints)


def test_evidence_of_a_brief_study_has_changes_and_onset_but_nothing_between_checkpoints(study, rows, pairs, tmp_path):
    evidence, checkpoints = study
    brief = {}
    for name, path in evidence.items():
        kept = {key: array for key, array in load_file(path).items() if not key.endswith("/middle")}
        save_file(kept, brief.setdefault(name, tmp_path / path.name))
    found = compute(pairs, brief, checkpoints)
    assert {row["metric"] for row in found} == {"change", "onset_step"} < {row["metric"] for row in rows}
    assert str(found) == str([row for row in rows if row["metric"] in ("change", "onset_step")])
