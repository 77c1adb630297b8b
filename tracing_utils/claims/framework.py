"""The paper's claims as data, each with a test that was fixed before any result was seen.

Rule: a verdict comes from `judge`, over all claims and dimensions of a concept set at once, or its correction for
many tests is not worth its name.

A claim is a set of *parts*, numbers that must all lie above 0 (thresholds are subtracted): it is supported when every
part does (the largest of their p-values counts), and not supported when at least one clearly lies below (the smallest,
times their number). Where the paper leaves open *where* something happens (a peak), every place is an alternative and
pays for it (Bonferroni). Standard errors come from a bootstrap over whole groups, for what is measured
on statements or pairs, and from the spread over half-samples (delete-half jackknife), for nHSIC; p-values and 95 %
intervals from Student's t with groups - 1 or halves - 1 degrees of freedom. No test chooses a layer or a checkpoint by
what it then reports.

Public names: `Evidence`, `Claim`, `CLAIMS`, `VERDICTS`, `COLUMNS`, `judge`, `summary`, `titles`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from safetensors.numpy import load_file
from scipy import stats

from ..core import evaluation
from ..run.studies import Study

VERDICTS = ("supported", "not supported", "inconclusive", "not testable here")
"""What a claim can be found to be, in the order in which tables count them."""

COLUMNS = (
    "claim", "title", "concept_set", "dimension", "suite", "statistic", "value", "low", "high", "threshold",
    "p", "p_corrected", "verdict", "n", "note",
)  # fmt: skip
"""Of the table of verdicts. `n` counts what the number rests on: statements, pairs, texts, half-samples or checkpoints."""

LEVEL = 0.05
"""Chance of any false verdict in one study and concept set."""

PLATEAU = 0.25
"""A plateau moves, after the first quarter of training, by less than this share of the rise before it."""

FALL = 0.1
"""A fall takes back at least this share of the rise; less is a plateau."""

NEAR_ZERO = 0.1
"""Less than this share of the later mean is near zero."""

COST = math.log(6 / 4.5)
"""Nats per token that steering may add, since the paper calls a perplexity below 6 reasonable for a model that has 4.5."""


@dataclass(frozen=True)
class Evidence:
    """What one study measured on one dimension of one concept set; a part that is None was not measured.

    Attributes:
        suite: the checkpoints' suite.
        concept_set: name of the set.
        dimension: of the set.
        steps: of the checkpoints, rising.
        groups: of the examples; what belongs together is drawn together.
        correct: share of seeds in which the probe of a layer is right on an example it was not fitted on.
        selected: the same at the layer chosen on validation parts.
        floor: the same of the lexical floor.
        shuffled: the same with shuffled labels.
        nhsic_tx: nHSIC(T;X), the whole sample first, then half-samples, the same halves at every checkpoint.
        nhsic_ty: nHSIC(T;Y), alike.
        floor_tx: nHSIC(T;X) with one side shuffled.
        floor_ty: nHSIC(T;Y), alike.
        multipliers: strengths of steering.
        pair_groups: of the test pairs.
        gain: change of the chat model's preference by the vector of each checkpoint (nats per token).
        gain_random: the same by a random direction of the same norm.
        gain_own: the same by the chat model's own vector.
        cost: rise of the chat model's loss on neutral texts under each checkpoint's vector (nats per token).
    """

    suite: str
    concept_set: str
    dimension: str
    steps: Float[np.ndarray, " checkpoint"]
    groups: tuple[str, ...] = ()
    correct: Float[np.ndarray, "checkpoint layer example"] | None = None
    selected: Float[np.ndarray, "checkpoint example"] | None = None
    floor: Float[np.ndarray, " example"] | None = None
    shuffled: Float[np.ndarray, "checkpoint layer example"] | None = None
    nhsic_tx: Float[np.ndarray, "checkpoint layer replicate"] | None = None
    nhsic_ty: Float[np.ndarray, "checkpoint layer replicate"] | None = None
    floor_tx: Float[np.ndarray, "checkpoint layer draw"] | None = None
    floor_ty: Float[np.ndarray, "checkpoint layer draw"] | None = None
    multipliers: Float[np.ndarray, " multiplier"] | None = None
    pair_groups: tuple[str, ...] = ()
    gain: Float[np.ndarray, "checkpoint steered multiplier pair"] | None = None
    gain_random: Float[np.ndarray, "checkpoint steered multiplier pair"] | None = None
    gain_own: Float[np.ndarray, "steered multiplier pair"] | None = None
    cost: Float[np.ndarray, "checkpoint steered multiplier text"] | None = None

    @classmethod
    def read(cls, study: Study, folder: Path, concept_set: str, dimension: str) -> "Evidence":
        """Read what the notebooks of a whole run kept of one concept set and dimension.

        Args:
            study: that was run.
            folder: of the run; the evidence lies in `<set>/<experiment>/<revision>.safetensors`.
            concept_set: name of the set.
            dimension: one that the set has.

        Raises:
            ValueError: if an experiment has evidence of some checkpoints only, or of other statements than the study's.
        """
        concepts, revisions = study.concept_set(concept_set, dimension), study.traced()
        files = {name: _Files(folder / concept_set / name, dimension) for name, _ in _KEYS.values()}
        parts = {name: files[experiment].stacked(key, revisions) for name, (experiment, key) in _KEYS.items()}
        if parts["selected"] is not None and parts["selected"].shape[1] != len(concepts):
            raise ValueError(
                f"Evidence must be of the study's {len(concepts)} statements of {concept_set}/{dimension}; that in {folder} is "
                f"of {parts['selected'].shape[1]}. Run the study again."
            )
        floors, plain, steered, paired = (parts.pop(name) for name in ("floors", "plain", "steered", "paired"))
        by_text = plain is not None and steered is not None and steered.ndim == 4  # a mean over texts has no spread
        return cls(
            suite=study.suite,
            concept_set=concept_set,
            dimension=dimension,
            steps=np.array([float(study.loaded[revision].step) for revision in revisions]),
            groups=tuple(concepts.groups),
            floor=None if floors is None else floors[0],  # one for all checkpoints
            multipliers=np.array(study.options_of("steering")["doses"], dtype=float),
            pair_groups=() if paired is None else tuple(f"{group:.0f}" for group in paired[0]),
            gain_own=None if parts["gain"] is None else files["steering"].one("gain/vector", study.loaded.chat.revision),
            cost=steered - plain[:, None, None] if by_text else None,
            **parts,
        )


_KEYS = {
    "correct": ("probing", "correct"),
    "selected": ("probing", "selected"),
    "floors": ("probing", "floor"),
    "shuffled": ("probing", "shuffled"),
    "nhsic_tx": ("mutual_information", "nhsic_tx"),
    "nhsic_ty": ("mutual_information", "nhsic_ty"),
    "floor_tx": ("mutual_information", "floor_tx"),
    "floor_ty": ("mutual_information", "floor_ty"),
    "gain": ("steering", "gain/vector"),
    "gain_random": ("steering", "gain/random direction"),
    "steered": ("steering", "nats/vector"),
    "plain": ("steering", "nats/unsteered"),
    "paired": ("steering", "groups"),
}
"""Where each part lies: experiment, and key after the dimension."""


class _Files:
    """The evidence files of one experiment, concept set and dimension, each read once."""

    def __init__(self, folder: Path, dimension: str) -> None:
        self._folder, self._prefix = folder, f"{dimension}/"
        self._read: dict[str, dict[str, np.ndarray]] = {}

    def one(self, key: str, revision: str) -> np.ndarray | None:
        """Return the array of one revision; None if there is no such file or key."""
        if revision not in self._read:
            path = self._folder / f"{revision}.safetensors"
            entries = load_file(path) if path.is_file() else {}
            self._read[revision] = {k: v for k, v in entries.items() if k.startswith(self._prefix)}
        found = self._read[revision].get(self._prefix + key)
        return None if found is None else found.astype(float)

    def stacked(self, key: str, revisions: Sequence[str]) -> np.ndarray | None:
        """Return the arrays of all revisions; None if none has the key."""
        found = {revision: self.one(key, revision) for revision in revisions}
        missing = [revision for revision, array in found.items() if array is None]
        if len(missing) == len(found):
            return None
        if missing:
            raise ValueError(
                f"Every checkpoint must have evidence of {self._prefix}{key} in {self._folder}; it is missing for "
                f"{', '.join(missing)}. The run of the study must be whole."
            )
        return np.stack(list(found.values()))


class _NotTestable(Exception):  # noqa: N818 - not an error: a verdict
    """The evidence cannot answer the claim; the message says why."""


@dataclass(frozen=True)
class _Part:
    """A number that must lie above 0, with its 95 % interval and its two-sided p-value against 0."""

    name: str
    value: float
    low: float
    high: float
    p: float
    n: int

    @property
    def above(self) -> float:
        """One-sided p-value against "not above 0"."""
        return self.p / 2 if self.value > 0 else 1 - self.p / 2

    @property
    def below(self) -> float:
        """One-sided p-value against "not below 0"."""
        return self.p / 2 if self.value < 0 else 1 - self.p / 2

    @property
    def strength(self) -> float:
        """How far above 0 in standard errors of a normal variable with the same p-value."""
        return math.copysign(stats.norm.isf(self.p / 2), self.value)


Parts = list[_Part]


@dataclass(frozen=True)
class Claim:
    """One claim of the paper and its test.

    Attributes:
        name: short name.
        title: in plain words.
        paper: what the paper says, and where.
        statistic: what is computed, in words.
        threshold: what it must pass, in words.
        needs: the parts of the evidence it rests on.
        untrained: whether it needs a checkpoint of step 0.
        parts: the alternatives, each a list of parts that must all hold.
    """

    name: str
    title: str
    paper: str
    statistic: str
    threshold: str
    needs: tuple[str, ...]
    untrained: bool
    parts: Callable[[Evidence], list[Parts]]


CLAIMS: dict[str, Claim] = {}
"""The claims by name, first on probing, then on information, then on steering.

:meta hide-value:
"""


def _claim(title: str, paper: str, statistic: str, threshold: str, needs: Sequence[str], untrained: bool = False):
    """Register the decorated test; it returns one list of parts, or several alternatives."""

    def register(test: Callable[[Evidence], Parts | list[Parts]]) -> Callable:
        def parts(evidence: Evidence) -> list[Parts]:
            found = test(evidence)
            return found if isinstance(found[0], list) else [found]

        CLAIMS[test.__name__] = Claim(test.__name__, title, paper, statistic, threshold, tuple(needs), untrained, parts)
        return test

    return register


# What is measured, and how sure it is.


def _over_groups(name: str, a: np.ndarray, b: np.ndarray | float, groups: tuple[str, ...]) -> _Part:
    """Return the mean of a - b, one number an example or pair each, drawn by whole groups."""
    if len(set(groups)) < 2:
        raise _NotTestable("fewer than two groups")
    found = evaluation.paired(a, np.broadcast_to(b, a.shape), groups)
    return _Part(name, found.value, found.low, found.high, found.p, found.n)


def _over_halves(name: str, replicates: np.ndarray, floor: np.ndarray | None = None) -> _Part:
    """Return the first replicate (minus the mean of `floor`, if any) with its standard error over half-samples."""
    value, error, halves = replicates[0], replicates[1:].std(ddof=1), len(replicates) - 1
    if floor is not None:
        value, error = value - floor.mean(), math.hypot(error, floor.std(ddof=1) / math.sqrt(len(floor)))
    p = 2 * stats.t.sf(abs(value) / error, halves - 1) if error > 0 else float(value == 0)
    reach = stats.t.ppf(0.975, halves - 1) * error
    return _Part(name, float(value), float(value - reach), float(value + reach), float(p), halves)


def _early(evidence: Evidence) -> np.ndarray:
    early = np.flatnonzero((evidence.steps > 0) & (evidence.steps <= 0.1 * evidence.steps[-1]))
    if not len(early):
        raise _NotTestable("no checkpoint in the first tenth of training after step 0")
    return early


def _late(evidence: Evidence) -> np.ndarray:
    """Return the checkpoints in the second half of training; the last one is, even if it is the only one."""
    return np.flatnonzero([*(evidence.steps[:-1] >= 0.5 * evidence.steps[-1]), True])


def _nearest(evidence: Evidence, share: float) -> int:
    """Return the index of the checkpoint nearest to a share of training, neither the first nor the last."""
    if len(evidence.steps) < 3:
        raise _NotTestable("fewer than three checkpoints")
    return 1 + int(np.abs(evidence.steps[1:-1] - share * evidence.steps[-1]).argmin())


def _thirds(values: np.ndarray, of: str) -> list[np.ndarray]:
    """Return the means over the lower, middle and upper third of the first axis."""
    if len(values) < 3:
        raise _NotTestable(f"fewer than three {of}")
    return [part.mean(0) for part in np.array_split(values, 3)]


def _strengthened(evidence: Evidence, gains: np.ndarray) -> np.ndarray:
    """Return the mean over the steered layers and the positive multipliers, per pair or text (the last axis)."""
    positive = evidence.multipliers > 0
    if not positive.any():
        raise _NotTestable("no positive multiplier")
    return gains[..., positive, :].mean((-3, -2))


# The claims.

_PROBE = ("correct", "selected", "floor", "shuffled")


@_claim(
    title="Early checkpoints already tell the two sides apart",
    paper="Page 3, Figure 2: models in early pre-training can already distinguish each concept.",
    statistic="accuracy at the selected layer, mean over the first tenth of training after step 0, minus the untrained model's, "
    "and minus that with shuffled labels",
    threshold="both above 0",
    needs=("selected", "shuffled"),
    untrained=True,
)
def early_separability(evidence: Evidence) -> Parts:
    """Random features of words separate much, so early training must add something to the untrained model."""
    early = _early(evidence)
    reached = evidence.selected[early].mean(0)
    return [
        _over_groups("minus untrained", reached, evidence.selected[0], evidence.groups),
        _over_groups("minus shuffled labels", reached, evidence.shuffled[early].mean((0, 1)), evidence.groups),
    ]


@_claim(
    title="Most of the rise is early",
    paper="Page 3, Figure 2: accuracy rises during the early phase of pre-training.",
    statistic="rise of the selected layer's accuracy from step 0 to the first tenth of training, minus half of the rise to the "
    "second half of training; and that whole rise",
    threshold="both above 0",
    needs=("selected",),
    untrained=True,
)
def most_is_early(evidence: Evidence) -> Parts:
    """Half of the rise within a tenth of training; without a rise there is nothing to be early."""
    early, late = (evidence.selected[window(evidence)].mean(0) - evidence.selected[0] for window in (_early, _late))
    return [
        _over_groups("early rise minus half of the rise", early, late / 2, evidence.groups),
        _over_groups("whole rise", late, 0.0, evidence.groups),
    ]


@_claim(
    title="Accuracy rises, then stays level",
    paper="Page 3, Figure 2: after the early rise the accuracies fluctuate about a level.",
    statistic="rise of the selected layer's accuracy over the first quarter of training; and a quarter of that rise minus the "
    "change after it, up or down",
    threshold="all above 0",
    needs=("selected",),
    untrained=True,
)
def rise_then_plateau(evidence: Evidence) -> Parts:
    """A plateau is shown by equivalence (the change is small both ways), never by the absence of a clear change."""
    quarter = evidence.selected[_nearest(evidence, 0.25)]
    rise, change = quarter - evidence.selected[0], evidence.selected[-1] - quarter
    return [
        _over_groups("rise", quarter, evidence.selected[0], evidence.groups),
        _over_groups("room above the later change", PLATEAU * rise, change, evidence.groups),
        _over_groups("room below the later change", PLATEAU * rise, -change, evidence.groups),
    ]


@_claim(
    title="The middle layers separate best",
    paper="Page 3, Figures 2 and 8-12: middle layers (12, 18 of 32) have the highest accuracy.",
    statistic="accuracy of the middle third of the layers minus that of the lower third, and minus that of the upper third, in "
    "the second half of training",
    threshold="both above 0",
    needs=("correct",),
)
def middle_layers_best(evidence: Evidence) -> Parts:
    """Thirds are fixed in advance; the best layer of the sample would be above its neighbours by chance alone."""
    lower, middle, upper = _thirds(evidence.correct[_late(evidence)].mean(0), "layers")
    return [
        _over_groups("minus lower third", middle, lower, evidence.groups),
        _over_groups("minus upper third", middle, upper, evidence.groups),
    ]


@_claim(
    title="Late accuracy is high: above what the words give away",
    paper="Page 3, Figures 2 and 8-12: probes reach high accuracy (against a chance of one half; no lexical floor is given).",
    statistic="accuracy at the selected layer in the second half of training, minus the lexical floor's; and that accuracy",
    threshold="above 0; above one half",
    needs=("selected", "floor"),
)
def high_accuracy(evidence: Evidence) -> Parts:
    """An accuracy says something about the model only beyond what n-grams of the statements reach on the same folds."""
    late = evidence.selected[_late(evidence)].mean(0)
    return [
        _over_groups("minus lexical floor", late, evidence.floor, evidence.groups),
        _over_groups("minus one half", late, 0.5, evidence.groups),
    ]


@_claim(
    title="What states share with the input, I(T;X), rises and then falls",
    paper="Pages 7-8, Figure 7: first a short phase of fitting, then a long one of compression.",
    statistic="for some checkpoint between the first and the last: rise of nHSIC(T;X) up to it; and fall after it minus a tenth "
    "of that rise; mean over the layers above the first",
    threshold="both above 0",
    needs=("nhsic_tx",),
)
def tx_rises_then_falls(evidence: Evidence) -> list[Parts]:
    """The peak may lie anywhere: each inner checkpoint is an alternative, and the p-value is multiplied by their number.

    Layer 0 is X itself. The tenth makes "no fall" something that can be shown.
    """
    curve = evidence.nhsic_tx[:, 1:].mean(1)
    if len(curve) < 3:
        raise _NotTestable("fewer than three checkpoints")
    if not evidence.nhsic_tx.shape[1] > 1:
        raise _NotTestable("fewer than two layers")
    return [
        [_over_halves("rise", peak - curve[0]), _over_halves("fall", (peak - curve[-1]) - FALL * (peak - curve[0]))]
        for peak in curve[1:-1]
    ]


@_claim(
    title="What they share with the label, I(T;Y), keeps rising",
    paper="Pages 7-8, Figure 7: I(T;Y) continues to rise in both phases.",
    statistic="rise of nHSIC(T;Y), mean over layers, from the first to the middle and from the middle to the last third of the "
    "checkpoints",
    threshold="both above 0",
    needs=("nhsic_ty",),
)
def ty_keeps_rising(evidence: Evidence) -> Parts:
    """Thirds of the checkpoints as the study spaces them, so that no single checkpoint decides."""
    first, middle, last = _thirds(evidence.nhsic_ty.mean(1), "checkpoints")
    return [_over_halves("first to middle third", middle - first), _over_halves("middle to last third", last - middle)]


@_claim(
    title="Both kinds of information are near zero at the start",
    paper="Pages 7-8: at initialisation both are about zero.",
    statistic="a tenth of the mean of nHSIC over later checkpoints minus its value at step 0, both above their chance floor, "
    "mean over the layers; for T;X (without the first layer) and T;Y",
    threshold="both above 0",
    needs=("nhsic_tx", "nhsic_ty", "floor_tx", "floor_ty"),
    untrained=True,
)
def near_zero_at_start(evidence: Evidence) -> Parts:
    """Zero is what shuffled rows give, not the number zero; near is measured by what training then reaches."""
    sides = {"T;X": (evidence.nhsic_tx[:, 1:], evidence.floor_tx[:, 1:]), "T;Y": (evidence.nhsic_ty, evidence.floor_ty)}
    parts = []
    for name, (measured, floor) in sides.items():
        if not measured.shape[1]:
            raise _NotTestable("fewer than two layers")
        if len(measured) < 2:
            raise _NotTestable("fewer than two checkpoints")
        room = [NEAR_ZERO * curve[1:].mean(0) - curve[0] for curve in (measured.mean(1), floor.mean(1))]
        parts.append(_over_halves(name, *room))
    return parts


@_claim(
    title="The middle layers share most with the label",
    paper="Pages 7-8, Figure 7: middle layers have larger I(T;Y).",
    statistic="nHSIC(T;Y) of the middle third of the layers minus that of the lower third, and minus that of the upper third, in "
    "the second half of training",
    threshold="both above 0",
    needs=("nhsic_ty",),
)
def middle_layers_hold_ty(evidence: Evidence) -> Parts:
    """The same thirds as for the probes."""
    lower, middle, upper = _thirds(evidence.nhsic_ty[_late(evidence)].mean(0), "layers")
    return [_over_halves("minus lower third", middle - lower), _over_halves("minus upper third", middle - upper)]


@_claim(
    title="Adding a vector from mid-training helps the chat model",
    paper="Pages 4-7, Tables 1 and 2: the vector of checkpoint 179 of 360 raises AmberChat's scores.",
    statistic="gain by the vector of the checkpoint nearest to half of training; and that gain minus a random direction's; mean "
    "over steered layers and positive multipliers",
    threshold="both above 0",
    needs=("gain", "gain_random"),
)
def midtraining_vector_helps(evidence: Evidence) -> Parts:
    """No layer or multiplier is chosen; a push of the same size in any direction must do less."""
    middle = _nearest(evidence, 0.5)
    vector, chance = (_strengthened(evidence, gains[middle]) for gains in (evidence.gain, evidence.gain_random))
    return [
        _over_groups("gain", vector, 0.0, evidence.pair_groups),
        _over_groups("minus random direction", vector, chance, evidence.pair_groups),
    ]


@_claim(
    title="It helps more than the chat model's own vector",
    paper="Pages 4-7, Tables 1 and 2: checkpoint 179's vector scores above AmberChat's own.",
    statistic="gain by the mid-training vector minus gain by the chat model's own, on the same pairs, at the same norm",
    threshold="above 0",
    needs=("gain", "gain_own"),
)
def beats_own_vector(evidence: Evidence) -> Parts:
    """Paired over the same pairs, layers and multipliers."""
    middle, own = (_strengthened(evidence, gains) for gains in (evidence.gain[_nearest(evidence, 0.5)], evidence.gain_own))
    return [_over_groups("difference of gains", middle, own, evidence.pair_groups)]


@_claim(
    title="Adding a vector costs the chat model little",
    paper="Pages 4-7, Table 1 and Figure 4: general ability falls slightly; a perplexity below 6 is reasonable (from 4.5).",
    statistic="the loss on neutral texts that the paper's bound allows (nats per token) minus what the mid-training vector adds",
    threshold="above 0",
    needs=("cost",),
)
def little_cost(evidence: Evidence) -> Parts:
    """Equivalence again: little must be shown to be little. The mean is over the same layers and multipliers as the gain."""
    added = _strengthened(evidence, evidence.cost[_nearest(evidence, 0.5)])
    return [
        _over_groups("room below the bound", np.full_like(added, COST), added, tuple(str(text) for text in range(len(added))))
    ]


@_claim(
    title="Probe accuracy predicts the steering effect",
    paper="Pages 4-7, Figure 5: over 17 checkpoints the correlation is .72 (TruthfulQA) and .65 (StereoSet).",
    statistic="correlation over checkpoints of the selected layer's accuracy with the gain, given training time (log step and "
    "its square)",
    threshold="above 0",
    needs=("selected", "gain"),
)
def probe_predicts_steering(evidence: Evidence) -> Parts:
    """Two quantities that both grow with training correlate without having to do with each other; Fisher's interval."""
    time = np.log1p(evidence.steps)
    known = np.stack([np.ones_like(time), time, time**2], axis=1)
    free = len(time) - known.shape[1] - 2
    if free < 3:
        raise _NotTestable("fewer than eight checkpoints")
    both = np.stack([evidence.selected.mean(1), _strengthened(evidence, evidence.gain).mean(1)], axis=1)
    rest = both - known @ np.linalg.lstsq(known, both, rcond=None)[0]
    if (rest.std(0) < 1e-12).any():
        raise _NotTestable("accuracy or gain does not vary beyond training time")
    z = math.atanh(float(np.clip(np.corrcoef(rest.T)[0, 1], -1 + 1e-12, 1 - 1e-12)))
    reach = stats.norm.ppf(0.975) / math.sqrt(free)
    p = 2 * stats.norm.sf(abs(z) * math.sqrt(free))
    return [_Part("partial correlation", math.tanh(z), math.tanh(z - reach), math.tanh(z + reach), float(p), len(time))]


# Verdicts.

_WORDS = {
    "correct": "no probe's answers by example",
    "selected": "no probe's answers by example",
    "floor": "no lexical floor by example",
    "shuffled": "no answers with shuffled labels by example",
    "nhsic_tx": "no half-samples of nHSIC",
    "nhsic_ty": "no half-samples of nHSIC",
    "floor_tx": "no chance floor of nHSIC",
    "floor_ty": "no chance floor of nHSIC",
    "gain": "no tuned model was steered",
    "gain_random": "no random direction was tried",
    "gain_own": "no vector of the tuned model itself",
    "cost": "no loss by text under steering",
}


def _p_values(alternatives: list[Parts]) -> tuple[float, float]:
    """Return the p-values against "the claim does not hold" and against "the claim holds".

    The claim: at some alternative every part lies above its threshold. One-sided, valid whatever the dependence.
    """
    above, below = (np.array([[getattr(part, side) for part in parts] for parts in alternatives]) for side in ("above", "below"))
    holds = min(1.0, len(alternatives) * above.max(1).min())
    fails = min(1.0, (below.shape[1] * below.min(1)).max())
    return float(holds), float(fails)


def _test(claim: Claim, evidence: Evidence) -> dict:
    """Return one row without its correction; `side` is the verdict a small p-value would speak for."""
    row = {
        "claim": claim.name,
        "title": claim.title,
        "concept_set": evidence.concept_set,
        "dimension": evidence.dimension,
        "suite": evidence.suite,
    }
    try:
        for name in claim.needs:
            if getattr(evidence, name) is None:
                raise _NotTestable(_WORDS[name])
        if claim.untrained and evidence.steps[0] != 0:
            raise _NotTestable("no untrained checkpoint (step 0)")
        alternatives = claim.parts(evidence)
    except _NotTestable as reason:
        return row | {"statistic": claim.statistic, "note": str(reason)}
    holds, fails = _p_values(alternatives)
    best = max(alternatives, key=lambda parts: min(part.strength for part in parts))
    weakest = min(best, key=lambda part: part.strength)
    return row | {
        "statistic": claim.statistic,
        "value": weakest.value,
        "low": weakest.low,
        "high": weakest.high,
        "threshold": 0.0,
        "p": min(1.0, 2 * min(holds, fails)),
        "n": weakest.n,
        "note": f"weakest part: {weakest.name}",
        "side": VERDICTS[0] if holds < fails else VERDICTS[1],
    }


def judge(evidences: Iterable[Evidence], claims: Sequence[str] = tuple(CLAIMS)) -> pd.DataFrame:
    """Return a verdict on every claim and dimension, corrected (Holm) within each suite and concept set.

    Returns:
        One row a claim, concept set and dimension, with `COLUMNS`. Value and 95 % interval (not corrected) are those of
        the weakest part, which the note names: its distance beyond the threshold. `verdict` follows `p_corrected`.
    """
    rows = [_test(CLAIMS[name], evidence) for evidence in evidences for name in claims]
    table = pd.DataFrame(rows, columns=[*COLUMNS, "side"]).astype({"p": float, "p_corrected": float, "n": "Int64"})
    for _, part in table[table["p"].notna()].groupby(["suite", "concept_set"]):
        table.loc[part.index, "p_corrected"] = evaluation.holm(part["p"].to_numpy())
    clear = table["p_corrected"] < LEVEL
    table["verdict"] = np.select([table["p"].isna(), clear], [VERDICTS[3], table["side"]], VERDICTS[2])
    return table[list(COLUMNS)]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return claims, as they are worded now, by concept sets; a cell counts the verdicts ("3 supported, 2 inconclusive")."""

    def words(verdicts: pd.Series) -> str:
        return ", ".join(f"{n} {verdict}" for verdict in VERDICTS if (n := int((verdicts == verdict).sum())))

    wide = table.groupby(["claim", "concept_set"], sort=False)["verdict"].agg(words).unstack()
    names, sets = (table[column].drop_duplicates() for column in ("claim", "concept_set"))
    return wide.reindex(index=names, columns=sets).fillna(VERDICTS[3]).rename(index=titles())


def titles() -> dict[str, str]:
    """Return the wording of each claim; a table that was published before may hold another."""
    return {claim.name: claim.title for claim in CLAIMS.values()}
