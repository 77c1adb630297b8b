"""The paper's claims as data, each with its test, its threshold and the smallest effect that matters.

Rule: windows of training are measured in tokens. A level over a window is the mean of the curve through the checkpoints,
each stretch counting by its tokens; what is said of the level at a window's end must be true of the last checkpoint
inside it and of the first one not before its end.

Standard errors: of what probes say, from the spread over folds with the probe's refit (`evaluation.refit_error`); of
nHSIC, over half-samples (delete-half jackknife); of steering, from a bootstrap over whole groups of pairs, and from the
spread over random directions; of correlations, from the number of checkpoints that dependence leaves.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from ..core import evaluation, strict_yaml
from ..experiments.steering import DOSE, PAIRS, TEXTS
from . import framework
from .framework import Claim, Evidence, Found, NotTestable, Part

__all__ = ["CLAIMS", "LEGIBLE", "judge", "titles"]

ACCURACY = 0.02
"""Smallest relevant difference of accuracies: what the paper's own curves move from checkpoint to checkpoint (.004 to .017)."""

SHARE = 0.1
"""Smallest relevant share of nHSIC's level: a tenth; the sizes themselves depend on the statements."""

NATS = 0.01
"""Smallest relevant gain, in nats per token: an eighth more odds for a statement of twelve tokens."""

CORRELATION = 0.3
"""Smallest relevant correlation: a tenth of the variance; the paper's intervals begin at .25 and .36."""

PLATEAU = 0.25
"""A plateau moves, after the first quarter of training, by less than this share of the rise before it."""

FALL = 0.1
"""A fall takes back at least this share of the rise; less is a plateau."""

NEAR_ZERO = 0.1
"""Less than this share of the later mean is near zero."""

COST = math.log(1.1)
"""Nats per token that steering may add: a tenth of the perplexity, the bound within which settings are chosen."""

RELIABLE = 0.5
"""Least share of the variance over checkpoints that is not noise of measurement, for a correlation to be looked at."""

CLAIMS: dict[str, Claim] = {}
"""The claims by name, first on probing, then on information, then on steering.

:meta hide-value:
"""


_WORDS = strict_yaml.read_mapping(Path(__file__).parent / "data" / "claims.yml")


def _claim(*needs: str, untrained: bool = False, reads: str = "") -> Callable:
    """Register the decorated test as the claim of its name, in the words of `data/claims.yml`."""

    def register(test: Callable[[Evidence], Found]) -> Callable:
        numbers = {name: value for name, value in globals().items() if name.isupper()}
        words = {name: text.format(**numbers) for name, text in _WORDS[test.__name__].items()}
        CLAIMS[test.__name__] = Claim(test.__name__, needs, test, untrained, reads, **words)
        return test

    return register


def judge(evidences: Iterable[Evidence], names: Sequence[str] = ()) -> pd.DataFrame:
    """Return the verdicts on all claims, or on those named (`framework.judge`)."""
    return framework.judge(evidences, {name: CLAIMS[name] for name in names or CLAIMS}, LEGIBLE)


def titles() -> dict[str, str]:
    """Return the wording of each claim."""
    return {claim.name: claim.title for claim in CLAIMS.values()}


# Windows of training.


def _weights(share: np.ndarray, begin: float | int, end: float | int, line: bool = False) -> np.ndarray:
    """Return how much each checkpoint counts in the mean of the curve over a window, or in the rise of its line.

    The curve is straight between checkpoints. The line is that of least squares over all tokens of the window; its rise
    is what it gains from the window's begin to its end.
    """
    nodes = np.unique([begin, end, *share[(share > begin) & (share < end)]])
    middles, widths = (nodes[1:] + nodes[:-1]) / 2, np.diff(nodes)
    x = np.concatenate([nodes[:-1], middles, nodes[1:]])
    area = np.concatenate([widths, 4 * widths, widths]) / 6  # Simpson's rule, exact for what is cubic
    if line:
        area = area * (x - (begin + end) / 2) * 12 / (end - begin)
    return np.array([np.interp(x, share, each) for each in np.eye(len(share))]) @ area / (end - begin)


def _over(evidence: Evidence, values: np.ndarray, begin: float | int, end: float | int) -> np.ndarray:
    """Return the level of values (first axis: checkpoints) over a window of training."""
    return np.tensordot(_weights(evidence.share, begin, end), values, 1)


def _late(evidence: Evidence, values: np.ndarray) -> np.ndarray:
    """Return the level over the second half of training."""
    return _over(evidence, values, 0.5, 1.0) if len(values) > 1 else np.asarray(values[0], dtype=float)


def _around(evidence: Evidence, end: float) -> tuple[int, int]:
    """Return the last checkpoint (but the start) inside a window from the start of training, and the first not before its end."""
    share = evidence.share
    inside = np.flatnonzero((share > 0) & (share <= end + 1e-9))
    if not len(inside):
        raise NotTestable(f"no checkpoint in the first {end:.0%} of training after step 0")
    return int(inside[-1]), int(np.flatnonzero(share >= end - 1e-9)[0])


def _steps(evidence: Evidence, *shares: float | int) -> list[tuple[float, float]]:
    """Return the windows between neighbouring shares of training, in steps."""
    steps = np.interp(shares, evidence.share, evidence.steps)
    return list(pairwise(steps))


def _middle(evidence: Evidence) -> int:
    """Return the checkpoint nearest to half of training, neither the first nor the last."""
    if len(evidence.steps) < 3:
        raise NotTestable("fewer than three checkpoints")
    return 1 + int(np.abs(evidence.share[1:-1] - 0.5).argmin())


def _thirds(values: np.ndarray) -> list[np.ndarray]:
    """Return the means over the lower, middle and upper third of the layers (first axis)."""
    if len(values) < 3:
        raise NotTestable("fewer than three layers")
    return [part.mean(0) for part in np.array_split(values, 3)]


# What is measured, and how sure it is.


def _probed(name: str, evidence: Evidence, a: np.ndarray, b: np.ndarray | float = 0.0, after: np.ndarray | None = None) -> Part:
    """Return the mean of a - b, answers of probes or of what is compared with them, by seed and example."""
    difference = np.broadcast_to(a - b, evidence.fold.shape)
    error, free = evaluation.refit_error(difference, evidence.fold)
    other = None if after is None else _probed(name, evidence, after, b)
    return Part(name, float(difference.mean()), error, free, difference.shape[1], ACCURACY, other)


def _halved(name: str, replicates: np.ndarray, relevant: float, floor: np.ndarray | None = None) -> Part:
    """Return the first replicate (minus the mean of `floor`, if any) with its standard error over half-samples."""
    value, error, halves = replicates[0], replicates[1:].std(ddof=1), len(replicates) - 1
    if floor is not None:
        value, error = value - floor.mean(), math.hypot(error, floor.std(ddof=1) / math.sqrt(len(floor)))
    return Part(name, float(value), float(error), halves - 1, halves, relevant)


def _paired(name: str, evidence: Evidence, values: np.ndarray, spread: float = 0.0) -> Part:
    """Return the mean over pairs, drawn by whole groups; `spread` is a further standard error."""
    if (count := len(set(evidence.pair_groups))) < 2:
        raise NotTestable("fewer than two groups of pairs")
    weights = evaluation.bootstrap_weights(evidence.pair_groups, seed=0)
    error = math.hypot((weights @ values / weights.sum(1)).std(ddof=1), spread)
    return Part(name, float(values.mean()), error, count - 1, len(values), NATS)


def _against(name: str, value: float, drawn: np.ndarray, n: int) -> Part:
    """Return a value minus the mean of the same under random directions; if it is one of them, it is out there by chance."""
    draws = len(drawn)
    error, ranks = drawn.std(ddof=1) * math.sqrt(1 + 1 / draws), ((drawn >= value).sum(), (drawn <= value).sum())
    more, less = ((1 + int(count)) / (draws + 1) for count in ranks)
    return Part(name, float(value - drawn.mean()), float(error), draws - 1, n, NATS, ranks=(more, less), draws=draws)


def _dosed(evidence: Evidence, values: np.ndarray) -> np.ndarray:
    """Return the mean over the steered layers at `DOSE`; the last three axes are layers, doses and pairs or texts."""
    at = np.flatnonzero(np.isclose(evidence.doses, DOSE))
    if not len(at):
        raise NotTestable(f"no dose of {DOSE:g} standard deviations")
    return values[..., at[0], :].mean(-2)


def _above_chance(evidence: Evidence) -> Part:
    if evidence.selected is None:
        raise NotTestable("no probe's answers by seed and example")
    return _probed("late accuracy minus one half", evidence, _late(evidence, evidence.selected), 0.5)


def _above_floor(evidence: Evidence) -> Part:
    if evidence.floor_ty is None:
        raise NotTestable("no chance floor of nHSIC")
    values, floor = (_late(evidence, each).mean(0) for each in (evidence.nhsic_ty, evidence.floor_ty))
    return _halved("late nHSIC(T;Y) minus its chance floor", values, 1.0, floor)


LEGIBLE: dict[str, Callable[[Evidence], Part]] = {"probe": _above_chance, "labels": _above_floor}
"""What must be there for a claim on when or where it can be read (`Claim.reads`)."""


# On probing.


@_claim("selected", "shuffled", "fold", untrained=True)
def early_separability(evidence: Evidence) -> Found:
    """Random features of words separate much, so early training must add something to the untrained model."""
    last, after = _around(evidence, 0.1)
    values, shuffled = evidence.selected, evidence.shuffled.mean(1)
    parts = [
        _probed("minus untrained", evidence, values[last], values[0], values[after]),
        _probed("minus shuffled labels", evidence, values[last], shuffled[last], values[after]),
    ]
    return Found([parts], [_steps(evidence, 0, 0.1)])


@_claim("selected", "fold", untrained=True, reads="probe")
def most_is_early(evidence: Evidence) -> Found:
    """Half of the rise within a tenth of training; without a rise there is nothing to be early."""
    last, after = _around(evidence, 0.1)
    rise, late = evidence.selected - evidence.selected[0], _late(evidence, evidence.selected - evidence.selected[0])
    parts = [
        _probed("early rise minus half of the rise", evidence, rise[last], late / 2, rise[after]),
        _probed("whole rise", evidence, late),
    ]
    return Found([parts], [_steps(evidence, 0, 0.1) + _steps(evidence, 0.5, 1)])


@_claim("selected", "fold", untrained=True, reads="probe")
def rise_then_plateau(evidence: Evidence) -> Found:
    """A plateau is shown by equivalence (the change is small both ways), never by the absence of a clear change."""
    last, after = _around(evidence, 0.25)
    rises = evidence.selected - evidence.selected[0]
    parts = [_probed("rise", evidence, rises[last], 0.0, rises[after])]
    for quarter, begin in {"second": 0.25, "third": 0.5, "last": 0.75}.items():
        level = _over(evidence, rises, begin, begin + 0.25)
        for way, sign in {"rise": 1, "fall": -1}.items():
            room, other = (PLATEAU * rises[at] - sign * (level - rises[at]) for at in (last, after))
            parts.append(_probed(f"room for a {way} in the {quarter} quarter", evidence, room, 0.0, other))
    return Found([parts], [_steps(evidence, 0, 0.25, 0.5, 0.75, 1)])


@_claim("correct", "selected", "fold", reads="probe")
def middle_layers_best(evidence: Evidence) -> Found:
    """Thirds are fixed in advance; the best layer of the sample would be above its neighbours by chance alone."""
    lower, middle, upper = _thirds(_late(evidence, evidence.correct))
    parts = [_probed("minus lower third", evidence, middle, lower), _probed("minus upper third", evidence, middle, upper)]
    return Found([parts], [_steps(evidence, 0.5, 1)])


@_claim("selected", "floors", "fold")
def above_the_floors(evidence: Evidence) -> Found:
    """Each floor is a part, so that none has to be called the best on the statements that are tested."""
    late = _late(evidence, evidence.selected)
    parts = [
        _probed(f"minus {name}", evidence, late, floor if len(floor) == len(late) else floor.mean(0))
        for name, floor in evidence.floors.items()
    ]
    return Found([parts], [_steps(evidence, 0.5, 1)])


# On information.


@_claim("nhsic_tx", untrained=True)
def tx_rises_then_falls(evidence: Evidence) -> Found:
    """Two phases by slope and by duration. The peak may lie at any checkpoint of the first half: each is an alternative.

    Layer 0 is X itself.
    """
    curve, share = evidence.nhsic_tx[:, 1:].mean(1), evidence.share
    if evidence.nhsic_tx.shape[1] < 2:
        raise NotTestable("fewer than two layers")
    places = [at for at in range(1, len(curve) - 1) if share[at] <= 0.5]
    if not places:
        raise NotTestable("no checkpoint after the start and in the first half of training")
    relevant = SHARE * float(_over(evidence, curve, 0, 1)[0])
    alternatives, windows = [], []
    for at in places:
        rise, middle = curve[at] - curve[0], (share[at] + 1) / 2
        parts = [_halved("rise", rise, relevant)]
        parts += [_halved("start is the lowest", curve[each] - curve[0] + FALL * rise, relevant) for each in range(1, at)]
        after = {"fall": (share[at], 1), "early room for a rise": (share[at], middle), "late room for a rise": (middle, 1)}
        for name, window in after.items():
            fallen = -_weights(share, *window, line=True) @ curve
            parts.append(_halved(name, fallen - FALL * rise if name == "fall" else fallen + FALL * rise, relevant))
        alternatives.append(parts)
        windows.append(_steps(evidence, 0, share[at], 1))
    return Found(alternatives, windows)


@_claim("nhsic_ty", "floor_ty", untrained=True, reads="labels")
def ty_keeps_rising(evidence: Evidence) -> Found:
    """Thirds of the tokens; a line, so that no single checkpoint decides. What falls first and then climbs back has not risen."""
    curve, relevant = evidence.nhsic_ty.mean(1), SHARE * _above_floor(evidence).value
    lines = [_weights(evidence.share, third / 3, (third + 1) / 3, line=True) @ curve for third in range(3)]
    parts = [_halved(f"{name} third", line, relevant) for name, line in zip(("first", "second", "last"), lines, strict=True)]
    parts.append(_halved("second third above step 0", _over(evidence, curve, 1 / 3, 2 / 3) - curve[0], relevant))
    return Found([parts], [_steps(evidence, 0, 1 / 3, 2 / 3, 1)])


@_claim("nhsic_tx", "nhsic_ty", "floor_tx", "floor_ty", untrained=True)
def near_zero_at_start(evidence: Evidence) -> Found:
    """Zero is what shuffled rows give, not the number zero; near is measured by what training then reaches."""
    if evidence.nhsic_tx.shape[1] < 2 or len(evidence.steps) < 2:
        raise NotTestable("fewer than two layers or checkpoints")
    sides = {"T;X": (evidence.nhsic_tx[:, 1:], evidence.floor_tx[:, 1:]), "T;Y": (evidence.nhsic_ty, evidence.floor_ty)}
    parts = []
    for name, both in sides.items():
        late = [_late(evidence, values.mean(1)) for values in both]
        room = [NEAR_ZERO * level - values.mean(1)[0] for level, values in zip(late, both, strict=True)]
        parts.append(_halved(name, room[0], 0.5 * NEAR_ZERO * abs(late[0][0] - late[1].mean()), room[1]))
    return Found([parts], [_steps(evidence, 0, 0.5, 1)])


@_claim("nhsic_ty", "floor_ty", reads="labels")
def middle_layers_hold_ty(evidence: Evidence) -> Found:
    """The same thirds as for the probes."""
    lower, middle, upper = _thirds(_late(evidence, evidence.nhsic_ty))
    relevant = SHARE * _above_floor(evidence).value
    parts = [_halved("minus lower third", middle - lower, relevant), _halved("minus upper third", middle - upper, relevant)]
    return Found([parts], [_steps(evidence, 0.5, 1)])


# On steering.


def _gains(evidence: Evidence) -> list[Part]:
    """Return the parts of a gain by the mid-training vector: above 0, above random directions, above shuffled labels."""
    gain = _dosed(evidence, evidence.gain[_middle(evidence)])
    same = gain[:PAIRS]  # the pairs on which the others were tried
    # Any push gains or loses a little: pairs alone would call most random directions an effect.
    parts = [_paired("gain", evidence, gain, evidence.gain_random.mean(1).std(ddof=1))]
    for name, drawn in {"random directions": evidence.gain_random, "shuffled labels": evidence.gain_shuffled}.items():
        parts.append(_against(f"minus {name}", same.mean(), drawn.mean(1), len(same)))
    return parts


@_claim("gain", "doses", "gain_random", "gain_shuffled")
def midtraining_vector_helps(evidence: Evidence) -> Found:
    """No layer or dose is chosen; a push of the same size in any direction must do less."""
    parts = _gains(evidence)
    ranks = ", ".join(f"{part.name.removeprefix('minus ')} {part.ranks[0]:.2g}" for part in parts[1:])
    return Found([parts], [[]], f"Monte-Carlo p against {ranks}")


@_claim("gain", "doses", "gain_own", "gain_random")
def beats_own_vector(evidence: Evidence) -> Found:
    """Two directions always differ a little: what two random ones differ by counts as noise."""
    middle, own = (_dosed(evidence, gain) for gain in (evidence.gain[_middle(evidence)], evidence.gain_own))
    spread = evidence.gain_random.mean(1).std(ddof=1)
    return Found([[_paired("difference of gains", evidence, middle - own, math.sqrt(2) * spread)]], [[]])


@_claim("gain", "doses", "gain_random", "gain_shuffled", "cost", "cost_random")
def little_cost(evidence: Evidence) -> Found:
    """A vector that does nothing costs nothing: the cost is tested only where there is a gain, and the gain must hold too."""
    gains = _gains(evidence)
    if max(part.above() for part in gains) >= framework.LEVEL:
        raise NotTestable("the vector brings no clear gain, so there is nothing to pay for")
    added, random = _dosed(evidence, evidence.cost[_middle(evidence)]), evidence.cost_random.mean(1)
    same, free = added[:TEXTS], len(added) - 1  # the texts on which the random directions were tried
    error, spread = added.std(ddof=1) / math.sqrt(len(added)), random.std(ddof=1) * math.sqrt(1 + 1 / len(random))
    parts = [
        *gains,
        Part("room below the bound", COST - added.mean(), error, free, len(added), NATS),
        Part("room beyond random directions", COST / 2 - same.mean() + random.mean(), spread, len(random) - 1, len(same), NATS),
    ]
    return Found([parts], [[]])


def _both(evidence: Evidence) -> tuple[np.ndarray, str]:
    """Return accuracy and gain by checkpoint, and how reliable they are; each must vary by more than its noise."""
    gain = _dosed(evidence, evidence.gain)
    weights = evaluation.bootstrap_weights(evidence.pair_groups, seed=0)
    drawn = gain @ (weights / weights.sum(1, keepdims=True)).T
    noise = {
        # What all checkpoints share moves no correlation: the noise is that of a checkpoint's distance to their mean.
        "accuracy": np.mean([evaluation.refit_error(each, evidence.fold)[0] ** 2 for each in _centred(evidence.selected)]),
        "gain": (drawn - drawn.mean(0)).var(1, ddof=1).mean(),
    }
    both = np.stack([evidence.selected.mean((1, 2)), gain.mean(1)], axis=1)
    told = []
    for (name, error), varied in zip(noise.items(), both.var(0, ddof=1), strict=True):
        reliable = max(0.0, 1 - error / varied) if varied > 0 else 0.0
        told.append(f"{name} {reliable:.2f}")
        if reliable < RELIABLE:
            raise NotTestable(f"{name} varies over the checkpoints by little more than its noise (reliability {reliable:.2f})")
    return both, f"reliability of {' and '.join(told)}"


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean(0)


def _correlated(name: str, pairs: np.ndarray, effective: float, n: int) -> Part:
    """Return a correlation on Fisher's scale, over a number of checkpoints that dependence leaves."""
    z = math.atanh(float(np.clip(np.corrcoef(pairs.T)[0, 1], -1 + 1e-9, 1 - 1e-9)))
    return Part(name, z, 1 / math.sqrt(max(effective - 3, 0.1)), math.inf, n, math.atanh(CORRELATION), shown=math.tanh)


@_claim("selected", "fold", "gain", "doses")
def probe_tracks_steering(evidence: Evidence) -> Found:
    """The paper's own number. Bartlett's count of independent points, with lag-one correlations corrected for their bias."""
    if (n := len(evidence.steps)) < 8:
        raise NotTestable("fewer than eight checkpoints")
    both, note = _both(evidence)
    moved = _centred(both)
    lagged = (moved[1:] * moved[:-1]).sum(0) / (moved**2).sum(0)
    product = float(np.prod(np.clip((n * lagged + 1) / (n - 4), 0, 0.99)))
    effective = n * (1 - product) / (1 + product)
    return Found([[_correlated("correlation", both, effective, n)]], [[]], f"{note}; {effective:.1f} independent checkpoints")


@_claim("selected", "fold", "gain", "doses")
def probe_predicts_steering(evidence: Evidence) -> Found:
    """Two quantities that both grow with training correlate without having to do with each other; their changes need not.

    Changes of independent values depend on their neighbours, those of slowly drifting ones do not: the count of points
    is that of the worse case, two thirds.
    """
    if (n := len(evidence.steps)) < 8:
        raise NotTestable("fewer than eight checkpoints")
    both, note = _both(evidence)
    time = np.log(evidence.share + evidence.share[evidence.share > 0][0])
    known = np.column_stack([np.diff(time), np.diff(time**2)])
    moved = np.diff(both, axis=0)
    rest = moved - known @ np.linalg.lstsq(known, moved, rcond=None)[0]
    effective = (n - 1 - known.shape[1]) / 1.5
    return Found([[_correlated("correlation of changes", rest, effective, n)]], [[]], note)
