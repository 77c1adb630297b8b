"""Simulated studies of known truth, to ask each claim's test how often it is wrong and how often it sees.

Rule: what looks like the claim and is not stands beside what is, and answers come from probes that are fitted, on
features whose separability has the planted shape.

A cell is a claim, a shape and how far checkpoints depend on each other. Its truth is "yes", "no", "nothing" (the number
lies on its threshold, or the checkpoints cannot tell) or "little" (the claim holds, by less than the smallest effect that
matters). False is a verdict "supported" unless the truth is yes or little, "not supported" unless it is no, and
"no relevant effect" where it is yes.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from multiprocessing import get_context

import numpy as np
import pandas as pd
import sklearn
from jaxtyping import Float, Int
from scipy.signal import lfilter

from tracing_utils.claims import paper_claims
from tracing_utils.claims.framework import VERDICTS, Evidence
from tracing_utils.experiments.mutual_information import kernels
from tracing_utils.experiments.probing import controls, probes
from tracing_utils.statements.concepts import ConceptSet, folds

__all__ = ["CELLS", "DEPENDENCE", "SHAPES", "SHARES", "false", "power", "simulate", "unchecked", "verdicts"]

SHARES = np.array([0, 0.001, 0.004, 0.016, 0.06, 0.125, 0.25, 0.5, 0.75, 1.0])
"""Of training done at each checkpoint: as in real suites, most are early."""

DEPENDENCE = {"none": 0.0, "strong": 0.9}
"""Share of the noise that all checkpoints have in common."""

_GROUPS, _INFORMED_GROUPS, _MEMBERS, _SEEDS, _HALVES = 80, 30, 4, 2, 20
_WIDTH = 64  # of what probes read: few enough axes would make a refit harmless
_AXES = 6  # of what nHSIC is computed on
_LEAST, _MOST = 0.3, 2.8  # distance of the two sides in standard deviations where a shape is 0 and 1


def _through(*points: tuple[float | int, float | int]) -> Float[np.ndarray, " checkpoint"]:
    """Return the shape that is straight between points (share of training, height)."""
    return np.interp(SHARES, *np.transpose(points))


SHAPES = {
    "flat": _through((0, 0.5)),
    "all early": _through((0, 0), (0.016, 1)),
    "all late": _through((0, 0), (0.5, 0), (0.75, 1)),
    "straight rise": _through((0, 0), (1, 1)),
    "step between checkpoints": _through((0, 0), (0.06, 0), (0.125, 1)),
    "short rise, long rise": _through((0, 0), (0.004, 0.15), (1, 1)),
    "early, dip": _through((0, 0), (0.016, 1), (0.125, 1), (0.25, 0.1), (0.5, 0.1), (0.75, 1)),
    "spike": _through((0, 0), (0.001, 0), (0.004, 1), (0.016, 0)),
    "spike, long rise": _through((0, 0.3), (0.001, 1), (0.004, 0), (1, 0.5)),
    "fall, rise, fall": _through((0, 0.6), (0.06, 0), (0.25, 1), (0.5, 0.6), (1, 0.2)),
    "short rise, long fall": _through((0, 0), (0.06, 1), (1, 0.1)),
    "long rise, short fall": _through((0, 0), (0.75, 1), (1, 0.3)),
}
"""Heights by name.

:meta hide-value:
"""


def _noise(rng: np.random.Generator, shape: tuple[int, ...], shared: float) -> np.ndarray:
    """Return standard normal noise of which a share is the same along the first axis."""
    return np.sqrt(shared) * rng.standard_normal(shape[1:]) + np.sqrt(1 - shared) * rng.standard_normal(shape)


def _statements() -> ConceptSet:
    n = _GROUPS * _MEMBERS
    groups = tuple(f"g{i // _MEMBERS}" for i in range(n))
    texts = tuple(str(i) for i in range(n))
    return ConceptSet("simulated", "reliability", texts, np.arange(n) % 2, groups, ("",) * n, "simulated", "none")


_SET = _statements()
_FOLD = np.zeros((_SEEDS, len(_SET)), dtype=int)
for _seed in range(_SEEDS):
    for _k, _split in enumerate(folds(_SET, _seed)):
        _FOLD[_seed, _split.test] = _k


def _features(rng: np.random.Generator, heights: np.ndarray, shared: float) -> Float[np.ndarray, "state example axis"]:
    """Return features in which the two sides lie `_LEAST` to `_MOST` apart; groups have something in common."""
    features = _noise(rng, (len(heights), len(_SET), _WIDTH), shared)
    features += 0.5 * np.repeat(rng.standard_normal((_GROUPS, _WIDTH)), _MEMBERS, axis=0)
    features[:, :, 0] += np.outer(_LEAST + (_MOST - _LEAST) * heights, _SET.labels - 0.5)
    return features


def _fitted(
    features: Float[np.ndarray, "state example axis"], tasks: Int[np.ndarray, "example task"]
) -> Float[np.ndarray, "state task seed example"]:
    """Return whether probes, fitted without the example, are right on it."""
    right = np.empty((len(features), tasks.shape[1], _SEEDS, len(_SET)))
    for state, each in enumerate(features):
        for seed in range(_SEEDS):
            for split in folds(_SET, seed):
                basis = probes.Basis(each[split.train])
                fitted = probes.fit_chosen(basis, tasks[split.train], each[split.validation], tasks[split.validation])
                for task, (probe, _) in enumerate(fitted):
                    positive = probe.logits(each[split.test]) > 0
                    right[state, task, seed, split.test] = positive == (tasks[split.test, task] == 1)
    return right


def _trained(rng: np.random.Generator, shape: str, shared: float) -> dict:
    """Return what probes say of checkpoints whose separability has a shape."""
    tasks = np.column_stack([_SET.labels, controls.shuffled_labels(_SET, int(rng.integers(1000)))])
    right = _fitted(_features(rng, SHAPES[shape], shared), tasks)
    return {"fold": _FOLD, "selected": right[:, 0], "shuffled": right[:, 1:]}


_LAYERS = {
    "flat": [0.5] * 6,
    "middle best": [0, 0, 1, 1, 0, 0],
    "rising": [0, 0, 0.5, 0.5, 1, 1],
    "middle worst": [1, 1, 0, 0, 1, 1],
}


def _layers(rng: np.random.Generator, shape: str, shared: float) -> dict:
    """Return what probes say of the layers of one checkpoint."""
    right = _fitted(_features(rng, np.array(_LAYERS[shape]), shared), _SET.labels[:, None])[:, 0]
    return {"steps": np.ones(1), "fold": _FOLD, "correct": right[None], "selected": right[None, right.mean((1, 2)).argmax()]}


def _floors(rng: np.random.Generator, shape: str, shared: float) -> dict:
    """Return what probes say of one checkpoint and of two kinds of features of the text."""
    heights = {"better": [0.9, 0.2, 0.2], "equal": [0.5, 0.5, 0.2], "worse than one": [0.5, 0.2, 0.9]}[shape]
    probe, *floors = _fitted(_features(rng, np.array(heights), shared), _SET.labels[:, None])[:, 0]
    named = dict(zip(("words", "surface"), floors, strict=True))
    return {"steps": np.ones(1), "fold": _FOLD, "selected": probe[None], "floors": named}


def _shared(rng: np.random.Generator, heights: np.ndarray, shared: float) -> dict[str, np.ndarray]:
    """Return nHSIC, by state and draw, of features that share with X, or with the labels, as much as heights say.

    The draws are the whole sample and half-samples, then, as the floor, shuffled rows.
    """
    n, rows = _INFORMED_GROUPS * _MEMBERS, np.arange(_INFORMED_GROUPS).repeat(_MEMBERS)
    x, labels = rng.standard_normal((n, _AXES)) + 0.5 * rng.standard_normal((_INFORMED_GROUPS, _AXES))[rows], np.arange(n) % 2
    mixed = np.sqrt(0.9 * heights)[:, None, None]
    with_x = mixed * x + np.sqrt(1 - mixed**2) * _noise(rng, (len(heights), n, _AXES), shared)
    with_y = _noise(rng, (len(heights), n, _AXES), shared)
    with_y[:, :, 0] += np.outer(4 * np.sqrt(heights), labels - 0.5)
    halves = [np.flatnonzero(np.isin(rows, rng.permutation(_INFORMED_GROUPS)[::2])) for _ in range(_HALVES)]
    values_of: dict[str, list] = {"nhsic_tx": [], "nhsic_ty": [], "floor_tx": [], "floor_ty": []}
    for some in (np.arange(n), *halves):
        first, *others = (kernels.released_smoother(each[some]) for each in (x, *with_x))
        by_labels = [kernels.released_smoother(each[some]) for each in with_y]
        values_of["nhsic_tx"].append([kernels.alignment(first, each) for each in others])
        values_of["nhsic_ty"].append([kernels.nhsic_labels(each, labels[some]) for each in by_labels])
        if len(some) == n:
            orders = np.stack([rng.permutation(n) for _ in range(_HALVES)])
            values_of["floor_tx"] = kernels.null(first, others, orders).T
            values_of["floor_ty"] = np.stack([kernels.nhsic_labels(each, labels[orders]) for each in by_labels]).T
    return {name: np.array(values).T for name, values in values_of.items()}


def _informed(rng: np.random.Generator, shape: str, shared: float) -> dict:
    """Return nHSIC of checkpoints that share as much as a shape says; the second layer is the first once more."""
    return {name: np.stack([each, each], axis=1) for name, each in _shared(rng, SHAPES[shape], shared).items()}


def _informed_layers(rng: np.random.Generator, shape: str, shared: float) -> dict:
    """Return nHSIC of the layers of one checkpoint."""
    values_of = _shared(rng, np.array(_LAYERS[shape]), shared)
    return {"steps": np.ones(1)} | {name: each[None] for name, each in values_of.items()}


_MANY = np.array([0, *np.geomspace(1, 1000, 16)])  # as many steps as the paper correlates
_DOSES = np.array([-1.0, 1.0]) * paper_claims.DOSE
_PAIRS = tuple(f"g{i // 2}" for i in range(80))
_DIRECTIONS = 0.03  # spread of the gain over random directions, in nats per token


def _steered(rng: np.random.Generator, gain: np.ndarray, own: float, cost: float = 0.0) -> dict:
    """Return gains by vectors whose mean effects are given, each with an accident of its direction."""

    def pairs(means: np.ndarray) -> np.ndarray:
        common = np.repeat(rng.standard_normal(len(_PAIRS) // 2), 2)
        return means[:, None, None, None] + 0.1 * (common + rng.standard_normal((len(means), 1, len(_DOSES), len(_PAIRS))))

    drawn = {name: rng.normal(0, _DIRECTIONS, (n, 1)) for name, n in (("gain_random", 99), ("gain_shuffled", 20))}
    return drawn | {
        "doses": _DOSES,
        "pair_groups": _PAIRS,
        "gain": pairs(gain),
        "gain_own": pairs(np.array([own]))[0],
        "cost": rng.normal(cost, 0.1, (len(gain), 1, len(_DOSES), 60)),
        "cost_random": rng.normal(0, 0.01, (99, 1)),
    }


_EFFECTS = {  # by shape: effect of the mid-training vector, effect of the tuned model's own, cost
    "a random direction": (0.0, 0.0, 0.0), "helps": (0.3, 0.0, 0.01), "harms": (-0.3, 0.0, 0.0), "helps, dear": (0.3, 0.0, 0.3),
    "equal merit": (0.2, 0.2, 0.0), "better": (0.5, 0.2, 0.0), "worse": (-0.1, 0.2, 0.0),
}  # fmt: skip


def _pushed(rng: np.random.Generator, shape: str, shared: float) -> dict:
    """Return gains and costs of vectors that do something, or that do no more than random directions do."""
    (gain, own, cost), accidents = _EFFECTS[shape], rng.normal(0, _DIRECTIONS, 2)
    return _steered(rng, np.full(len(SHARES), gain + accidents[0]), own + accidents[1], cost)


def _drifting(rng: np.random.Generator, shape: str, shared: float) -> dict:
    """Return accuracies and gains over checkpoints; dependent ones drift."""

    def series() -> np.ndarray:
        return lfilter([np.sqrt(1 - shared**2)], [1, -shared], rng.standard_normal(100 + len(_MANY)))[100:]

    accuracy, other, trend = series(), series(), 3 * np.sqrt(np.arange(len(_MANY)) / len(_MANY))
    both = {"related": (accuracy, 0.95 * accuracy + 0.3 * other), "unrelated": (accuracy, other)}
    both["only time in common"] = (accuracy + trend, other + trend)
    chance = np.clip(0.7 + 0.08 * (both[shape][0] - both[shape][0].mean()), 0.05, 0.95)
    right = rng.random((len(_MANY), _SEEDS, len(_SET))) < chance[:, None, None]
    return _steered(rng, 0.2 * both[shape][1], 0.0) | {"steps": _MANY, "fold": _FOLD, "selected": right.astype(float)}


_PROBED = {
    "early_separability": {"flat": "nothing", "all early": "yes", "all late": "nothing", "step between checkpoints": "nothing",
                           "early, dip": "yes", "spike": "nothing", "spike, long rise": "no", "fall, rise, fall": "no"},
    "most_is_early": {"flat": "nothing", "all early": "yes", "all late": "no", "straight rise": "no",
                      "step between checkpoints": "nothing", "short rise, long rise": "no", "early, dip": "yes",
                      "spike": "nothing", "fall, rise, fall": "no", "long rise, short fall": "no"},
    "rise_then_plateau": {"flat": "nothing", "all early": "yes", "all late": "no", "straight rise": "no",
                          "short rise, long rise": "no", "early, dip": "no", "spike": "nothing", "fall, rise, fall": "no",
                          "short rise, long fall": "no", "step between checkpoints": "yes"},
}  # fmt: skip
_INFORMED = {
    "tx_rises_then_falls": dict.fromkeys(SHAPES, "no") | {"short rise, long fall": "yes", "flat": "nothing"},
    "ty_keeps_rising": dict.fromkeys(SHAPES, "no")
    | {"straight rise": "yes", "short rise, long rise": "little"}  # nHSIC levels off before the heights do
    | dict.fromkeys(("flat", "all early", "all late", "spike", "step between checkpoints"), "nothing"),
    "near_zero_at_start": {"flat": "no", "spike, long rise": "no", "straight rise": "yes", "all early": "yes"},
}

_SLOW = (_trained, _layers, _floors, _informed, _informed_layers)  # these fit something; of the others there can be more

CELLS: dict[str, tuple[Callable, dict[str, str]]] = {
    **{claim: (_trained, truths) for claim, truths in _PROBED.items()},
    "middle_layers_best": (_layers, {"flat": "nothing", "middle best": "yes", "rising": "no", "middle worst": "no"}),
    "above_the_floors": (_floors, {"better": "yes", "equal": "nothing", "worse than one": "no"}),
    **{claim: (_informed, truths) for claim, truths in _INFORMED.items()},
    "middle_layers_hold_ty": (_informed_layers, {"flat": "nothing", "middle best": "yes", "rising": "no", "middle worst": "no"}),
    "midtraining_vector_helps": (_pushed, {"a random direction": "nothing", "helps": "yes", "harms": "no"}),
    "beats_own_vector": (_pushed, {"equal merit": "nothing", "better": "yes", "worse": "no"}),
    "little_cost": (_pushed, {"helps, dear": "no", "helps": "yes", "a random direction": "nothing"}),
    "probe_tracks_steering": (_drifting, {"related": "yes", "unrelated": "nothing", "only time in common": "yes"}),
    "probe_predicts_steering": (_drifting, {"related": "yes", "unrelated": "nothing", "only time in common": "nothing"}),
}
"""Of each claim what makes its evidence, and the truth of each shape.

:meta hide-value:
"""


def simulate(claim: str, shape: str, dependence: str, rng: np.random.Generator) -> Evidence:
    """Return the evidence of one study in which the truth of a claim is known."""
    measured = CELLS[claim][0](rng, shape, DEPENDENCE[dependence])
    return Evidence("simulated", "simulated", "reliability", **{"steps": 1000 * SHARES} | measured)


def unchecked() -> AbstractContextManager[None]:
    """Return a context in which scikit-learn does not check what it is given: half of the time of small kernels."""
    return sklearn.config_context(assume_finite=True, skip_parameter_validation=True)


def verdicts(claims: Sequence[str], shape: str, dependence: str, simulations: int, seed: int = 0) -> pd.DataFrame:
    """Return verdicts, one column a claim, in as many simulated studies; the claims must rest on the same evidence."""
    rng, rows = np.random.default_rng([seed, *shape.encode(), *dependence.encode()]), []
    with unchecked():
        for _ in range(simulations):
            evidence = simulate(claims[0], shape, dependence, rng)
            rows.append([paper_claims.judge([evidence], [claim])["verdict"].iloc[0] for claim in claims])
    return pd.DataFrame(rows, columns=list(claims))


def power() -> pd.DataFrame:
    """Return how often each claim gets which verdict in every cell, alone, so that nothing else is corrected for.

    Returns:
        Columns `claim`, `shape`, `dependence`, `truth`, `push` (of a planted vector, in nats per token; empty where none is
        planted), `simulations`, the share of each of `VERDICTS`, and `false`.
    """
    cells = [
        (claims, shape, dependence, 100 if CELLS[claims[0]][0] in _SLOW else 400)
        for claims, shape in _studies()
        for dependence in DEPENDENCE
    ]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        rows = [row for cell in pool.map(_cell, *zip(*cells, strict=True)) for row in cell]
    columns = ["claim", "shape", "dependence", "truth", "push", "simulations", *VERDICTS, "false"]
    return pd.DataFrame(rows, columns=columns).sort_values("claim", key=lambda names: names.map(list(CELLS).index), kind="stable")


def _studies() -> list[tuple[tuple[str, ...], str]]:
    """Return claims and shape of all that is simulated; claims that rest on the same evidence are judged on the same."""
    claims_of: dict[tuple[Callable, str], tuple[str, ...]] = {}
    for claim, (make, truths) in CELLS.items():
        for shape in truths:
            claims_of[make, shape] = (*claims_of.get((make, shape), ()), claim)
    return [(claims, shape) for (_, shape), claims in claims_of.items()]


def _cell(claims: Sequence[str], shape: str, dependence: str, simulations: int) -> list[tuple]:
    """Return the rows of `power` for claims that rest on the same evidence."""
    judged, rows = verdicts(claims, shape, dependence, simulations), []
    push = _EFFECTS[shape][0] if CELLS[claims[0]][0] is _pushed else None
    for claim in claims:
        shares, truth = [float((judged[claim] == verdict).mean()) for verdict in VERDICTS], CELLS[claim][1][shape]
        rows.append((claim, shape, dependence, truth, push, simulations, *shares, false(truth, shares)))
    return rows


def false(truth: str, shares: Sequence[float]) -> float:
    """Return the share of false verdicts, given the shares of each of `VERDICTS`."""
    supported, refuted, irrelevant = shares[:3]
    return supported * (truth not in ("yes", "little")) + refuted * (truth != "no") + irrelevant * (truth == "yes")
