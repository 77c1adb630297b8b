"""Simulated studies with an effect of known size, to ask each claim's test how often it is wrong and how often it sees.

Rule: effect 0 is the claim's own threshold, so a verdict there is as hard to get right as it can be; a positive effect
makes the claim true, a negative one false.

Public names: `EFFECTS`, `simulate`, `verdicts`, `power`.
"""

import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd

from . import framework
from .framework import Evidence

STEPS = np.array([0, 8, 32, 128, 512, 1024, 2048, 4096, 6144, 8192], dtype=float)
LAYERS, SEEDS, HALVES, MEMBERS = 6, 5, 20, 4
_SLOPE = np.log1p(STEPS) / np.log1p(STEPS[-1])
_MIDDLE = np.array([0, 0, 1, 1, 0, 0], dtype=float)


def _answers(rng: np.random.Generator, means: np.ndarray, groups: int) -> np.ndarray:
    """Return shares of seeds that are right, `[*means.shape, example]`: some groups and some examples are harder."""
    hard = 0.1 * np.repeat(rng.choice([-1, 1], groups), MEMBERS) + 0.1 * rng.choice([-1, 1], groups * MEMBERS)
    return rng.binomial(SEEDS, np.clip(means[..., None] + hard, 0, 1)) / SEEDS


def _replicates(rng: np.random.Generator, means: np.ndarray, groups: int, spread: float) -> np.ndarray:
    """Return a statistic on the whole sample and on half-samples, `[*means.shape, 1 + half]`, as a mean of influences."""
    common = rng.standard_normal(groups)  # what every checkpoint and layer share
    influence = means[..., None] + spread * (common + rng.standard_normal((*means.shape, groups)))
    kept = rng.permuted(np.tile(np.arange(groups) < groups // 2, (HALVES, 1)), axis=1) / (groups // 2)
    return np.concatenate([influence.mean(-1, keepdims=True), influence @ kept.T], axis=-1)


def _pairs(rng: np.random.Generator, mean: float | np.ndarray, groups: int, spread: float = 1.0) -> np.ndarray:
    """Return gains by steered layer, multiplier and pair; a scalar mean has no axis of checkpoints."""
    mean = np.asarray(mean, dtype=float)[..., None, None, None]
    common = np.repeat(rng.standard_normal(groups), MEMBERS)
    own = rng.standard_normal((*mean.shape[:-3], 2, 2, groups * MEMBERS))
    return mean + spread * (common + own)


def _names(groups: int, members: int = MEMBERS) -> tuple[str, ...]:
    return tuple(f"g{i}" for i in range(groups) for _ in range(members))


def _curve(untrained: float, early: float, late: float) -> np.ndarray:
    """Return a value for step 0, for the first tenth of training, and for the rest."""
    return np.array([untrained if step == 0 else early if step <= STEPS[-1] / 10 else late for step in STEPS])


def _layers(curve: np.ndarray) -> np.ndarray:
    return np.repeat(np.asarray(curve, dtype=float)[:, None], LAYERS, axis=1)


def _early_separability(rng, effect, groups):
    shuffled = _answers(rng, np.full((len(STEPS), LAYERS), 0.5), groups)
    return {"selected": _answers(rng, _curve(0.6, 0.6 + effect, 0.7), groups), "shuffled": shuffled}


def _most_is_early(rng, effect, groups):
    return {"selected": _answers(rng, _curve(0.5, 0.6 + effect, 0.7), groups)}


def _rise_then_plateau(rng, effect, groups):
    rise = 0.25
    curve = 0.45 + rise * np.minimum(STEPS / 2048, 1)  # with the easiest examples still below 1
    curve[-1] += framework.PLATEAU * rise - effect
    return {"selected": _answers(rng, curve, groups)}


def _middle_layers_best(rng, effect, groups):
    return {"correct": _answers(rng, 0.65 + np.tile(effect * _MIDDLE, (len(STEPS), 1)), groups)}


def _high_accuracy(rng, effect, groups):
    both = _answers(rng, np.array([0.6] + [0.6 + effect] * len(STEPS)), groups)
    return {"floor": both[0], "selected": both[1:]}


def _tx_rises_then_falls(rng, effect, groups):
    curve = np.array([1.0] + [2.0] * (len(STEPS) - 2) + [2.0 - framework.FALL - effect])  # every inner checkpoint may be the peak
    return {"nhsic_tx": _replicates(rng, _layers(curve), groups, 0.5)}


def _ty_keeps_rising(rng, effect, groups):
    thirds = [len(part) for part in np.array_split(STEPS, 3)]
    curve = np.repeat([0.02, 0.05, 0.05 + effect], thirds)
    return {"nhsic_ty": _replicates(rng, _layers(curve), groups, 0.05)}


def _near_zero_at_start(rng, effect, groups):
    out = {}
    for name, size in {"tx": 1.0, "ty": 0.1}.items():
        curve = size * _curve(framework.NEAR_ZERO - effect, 1.0, 1.0)
        out[f"nhsic_{name}"] = 0.5 * size + _replicates(rng, _layers(curve), groups, 0.1 * size)
        out[f"floor_{name}"] = size * rng.normal(0.5, 0.02, (len(STEPS), LAYERS, 50))
    return out


def _middle_layers_hold_ty(rng, effect, groups):
    return {"nhsic_ty": _replicates(rng, 0.1 + np.tile(effect * _MIDDLE, (len(STEPS), 1)), groups, 0.05)}


def _steering(rng, groups, gain, **more):
    return {
        "multipliers": np.array([-2.0, 2.0]),
        "pair_groups": _names(groups),
        "gain": _pairs(rng, gain, groups),
        **more,
    }


def _midtraining_vector_helps(rng, effect, groups):
    chance = _pairs(rng, np.zeros(len(STEPS)), groups, 0.3)
    return _steering(rng, groups, np.full(len(STEPS), effect), gain_random=chance)


def _beats_own_vector(rng, effect, groups):
    return _steering(rng, groups, np.full(len(STEPS), 0.5 + effect), gain_own=_pairs(rng, 0.5, groups))


def _little_cost(rng, effect, groups):
    cost = rng.normal(framework.COST - effect, 1, (len(STEPS), 2, 2, groups))
    return {"multipliers": np.array([-2.0, 2.0]), "cost": cost}


def _probe_predicts_steering(rng, effect, groups):
    accuracy = rng.standard_normal(len(STEPS))
    gain = effect * accuracy + np.sqrt(1 - effect**2) * rng.standard_normal(len(STEPS))
    right = np.repeat((0.5 + 0.3 * _SLOPE + 0.03 * accuracy)[:, None], groups * MEMBERS, axis=1)
    gains = np.broadcast_to((3 * _SLOPE + gain)[:, None, None, None], (len(STEPS), 2, 2, groups * MEMBERS))
    return {"selected": right, "gain": gains, "multipliers": np.array([-2.0, 2.0]), "pair_groups": _names(groups)}


EFFECTS: dict[str, tuple[Callable, tuple[float, ...], str]] = {
    "early_separability": (_early_separability, (-0.1, 0.0, 0.025, 0.05, 0.1), "accuracy"),
    "most_is_early": (_most_is_early, (-0.1, 0.0, 0.025, 0.05, 0.1), "accuracy"),
    "rise_then_plateau": (_rise_then_plateau, (-0.1, 0.0, 0.02, 0.04, 0.0625), "accuracy"),
    "middle_layers_best": (_middle_layers_best, (-0.1, 0.0, 0.0125, 0.025, 0.05), "accuracy"),
    "high_accuracy": (_high_accuracy, (-0.1, 0.0, 0.025, 0.05, 0.1), "accuracy"),
    "tx_rises_then_falls": (_tx_rises_then_falls, (-0.4, 0.0, 0.1, 0.2, 0.4), "nHSIC"),
    "ty_keeps_rising": (_ty_keeps_rising, (-0.02, 0.0, 0.005, 0.01, 0.02), "nHSIC"),
    "near_zero_at_start": (_near_zero_at_start, (-0.4, 0.0, 0.025, 0.05, 0.1), "share of the later mean"),
    "middle_layers_hold_ty": (_middle_layers_hold_ty, (-0.02, 0.0, 0.005, 0.01, 0.02), "nHSIC"),
    "midtraining_vector_helps": (_midtraining_vector_helps, (-1.0, 0.0, 0.25, 0.5, 1.0), "nats per token"),
    "beats_own_vector": (_beats_own_vector, (-1.0, 0.0, 0.25, 0.5, 1.0), "nats per token"),
    "little_cost": (_little_cost, (-1.0, 0.0, 0.1, 0.2, framework.COST), "nats per token"),
    "probe_predicts_steering": (_probe_predicts_steering, (-0.9, 0.0, 0.5, 0.7, 0.9), "correlation"),
}
"""Of each claim its simulated evidence, the sizes of effect it is tried with, and their unit.

:meta hide-value:
"""


def simulate(claim: str, effect: float, rng: np.random.Generator, groups: int = 60, concept_set: str = "simulated") -> Evidence:
    """Return evidence for one claim in which the truth lies `effect` beyond its threshold."""
    measured = EFFECTS[claim][0](rng, effect, groups)
    common = {"suite": "simulated", "concept_set": concept_set, "dimension": "reliability"}
    return Evidence(**common, steps=STEPS, groups=_names(groups), **measured)


def verdicts(claim: str, effect: float, simulations: int, groups: int = 60, seed: int = 0) -> pd.Series:
    """Return the verdicts on a claim in as many simulated studies, each of one dimension, so that nothing is corrected."""
    rng = np.random.default_rng([seed, groups])
    studies = (simulate(claim, effect, rng, groups, f"study {i}") for i in range(simulations))
    return framework.judge(studies, [claim])["verdict"]


def power(simulations: int = 400, sizes: tuple[int, ...] = (60, 240), seed: int = 0) -> pd.DataFrame:
    """Return how often each claim gets which verdict, by size of the effect and number of groups (of four statements).

    Returns:
        Columns `claim`, `effect`, `unit`, `groups`, `simulations`, `supported`, `not_supported` and `false`, the share
        of verdicts that are wrong: at effect 0 both are.
    """
    rows = []
    for (name, (_, effects, unit)), groups in itertools.product(EFFECTS.items(), sizes):
        for effect in effects:
            found = verdicts(name, effect, simulations, groups, seed)
            yes, no = (float((found == word).mean()) for word in framework.VERDICTS[:2])
            false = no * (effect >= 0) + yes * (effect <= 0)
            rows.append((name, effect, unit, groups, simulations, yes, no, false))
    columns = ["claim", "effect", "unit", "groups", "simulations", "supported", "not_supported", "false"]
    return pd.DataFrame(rows, columns=columns)
