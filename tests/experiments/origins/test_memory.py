"""Which keys are told no more follows from the world; what a shipped model remembers of them is asked of it."""

import numpy as np

from tracing_utils.checkpoints import models, suites
from tracing_utils.experiments.origins import memory
from tracing_utils.pocket.telling import Telling
from tracing_utils.statements import concepts
from tracing_utils.statements.world import World

WORLD = World()


def heard(telling: Telling, steps: range) -> np.ndarray:
    """How often each key is told in these steps."""
    counts = np.zeros(WORLD.table.shape, dtype=int)
    for step in steps:
        np.add.at(counts, tuple(telling.rows(step).reshape(-1, 4)[:, :3].T), 1)
    return counts


def test_dropped_keys_are_told_until_the_switch_and_never_again_and_the_others_go_on():
    telling = Telling(WORLD, 0, 1.0, late_from=10, drop_from=20)
    before, after = heard(telling, range(20)), heard(telling, range(20, 60))
    assert (before[WORLD.dropped] > 0).all()
    assert (after[WORLD.dropped] == 0).all()
    assert (after[~WORLD.dropped & (WORLD.status < 2)] > 0).all()
    assert WORLD.dropped.sum() * 3 == (WORLD.status == 0).sum()  # a third of the told keys


def test_until_the_switch_a_run_that_forgets_hears_the_same_words():
    forgets, never = Telling(WORLD, 0, 1.0, 10, drop_from=20), Telling(WORLD, 0, 1.0, 10)
    assert all((forgets.documents(step) == never.documents(step)).all() for step in range(20))
    assert (forgets.documents(20) != never.documents(20)).any()


def test_the_shipped_run_that_forgets_is_the_coherent_one_until_the_switch():
    runs = [suites.load(name)["step6144"] for name in ("world-coherent", "world-forgetting")]
    assert len({(run.folder / "model.safetensors").read_bytes() for run in runs}) == 1
    ends = [suites.load(name)["step12288"] for name in ("world-coherent", "world-forgetting")]
    assert len({(run.folder / "model.safetensors").read_bytes() for run in ends}) == 2


def test_the_concept_set_knows_the_dropped_keys_as_the_world_does():
    for number, name in enumerate(concepts.DIMENSIONS):
        chosen = concepts.load("world", name)
        kind = memory.kinds(chosen)
        assert (kind == memory.DROPPED).sum() == 2 * WORLD.dropped[number].sum()  # each key stands in a crossed quadruple
        assert set(kind) == {memory.DROPPED, memory.KEPT}
    assert memory.kinds(concepts.load("pocket", "privacy")) is None


def test_a_trained_model_hits_the_told_value_and_an_untrained_one_does_not():
    chosen = concepts.load("world", "privacy")
    suite = suites.load("world-coherent")
    tokenizer = models.load_tokenizer(suite["step12288"])
    hits = {}
    for revision in ("step0", "step12288"):
        recalled = memory.recalled(models.load_model(suite[revision], head=True), tokenizer, chosen)
        hits[revision] = recalled["hit_rate"][memory.says_told(chosen)].mean()
    assert hits["step0"] < 0.1
    assert hits["step12288"] > 0.95
    assert recalled["hit_rate"][~memory.says_told(chosen)].mean() < 0.05  # the other value is not the likeliest


def test_a_probe_for_kept_keys_reads_a_planted_direction_in_dropped_ones():
    chosen = concepts.load("world", "privacy")
    kind = memory.kinds(chosen)
    acts = np.random.default_rng(0).standard_normal((len(chosen), 16))
    acts[:, 3] += 4 * (2 * chosen.labels - 1)
    by_kind = memory.by_kind(memory.probed(acts, chosen, kind).astype(float), chosen, kind)
    assert by_kind[memory.DROPPED].value > 0.95
    lost = np.where((kind == memory.DROPPED)[:, None], np.random.default_rng(1).standard_normal(acts.shape), acts)
    by_kind = memory.by_kind(memory.probed(lost, chosen, kind).astype(float), chosen, kind)
    assert abs(by_kind[memory.DROPPED].value - 0.5) < 0.2
    assert by_kind[memory.KEPT].value > 0.95
