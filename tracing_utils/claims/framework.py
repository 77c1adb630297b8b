"""How a claim is judged: its evidence, its parts, its verdict, and whether its data were seen before its test was fixed.

Rule: a verdict comes from `judge`, or from `decide` over all that a page pools, or its correction for many tests is not
worth its name.

A claim is a set of *parts*, numbers that must all lie above 0 (thresholds are subtracted). It is supported when every
part does (the largest of their p-values counts), and not supported when at least one clearly lies below (the smallest,
times their number). It has no relevant effect when some part is shown to lie below its smallest relevant effect and none
as far below 0 (two one-sided tests). Where the paper leaves open *where* something happens (a peak), every place is an
alternative and pays for it (Bonferroni). No test chooses a layer or a checkpoint by what it then reports.
"""

import ast
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from safetensors.numpy import load_file
from scipy import stats

from ..core import evaluation
from ..core.paths import PROJECT

__all__ = [
    "COLUMNS", "LEVEL", "VERDICTS", "Claim", "Evidence", "Found", "NotTestable", "Part", "Series", "code", "decide", "findings",
    "judge", "register", "summary",
]  # fmt: skip

VERDICTS = ("supported", "not supported", "no relevant effect", "inconclusive", "not testable here")
"""What a claim can be found to be, in the order in which tables count them."""

COLUMNS = (
    "claim", "concept_set", "dimension", "suite", "value", "low", "high", "relevant", "p", "side", "p_corrected", "p_within",
    "p_within_corrected", "verdict", "data", "weights", "n", "windows", "note",
)  # fmt: skip
"""Of the table of verdicts. `relevant` is the smallest value that matters; `p` is against no effect, `side` the verdict it
speaks for, `p_within` against an effect that matters; `n` counts what the number rests on: statements, pairs, texts,
half-samples or checkpoints; `windows` are those of training it is about, as `first-last` in steps."""

LEVEL = 0.05
"""Chance of any false verdict among all that is corrected together."""

REGISTERED = PROJECT / "results" / "registered.json"
"""When the tests were written down, by the hash of their code, and which weights had been looked at by then."""


@dataclass(frozen=True)
class Series:
    """The checkpoints that a study followed.

    Attributes:
        suite: their suite.
        revisions: in the order of training.
        steps: of each; a tuned model alone has -1.
        tokens: seen by each; None where a suite does not tell: windows of training are then measured in steps.
        tuned: revision of the model that was steered, if any.
        weights: hash of the last checkpoint's weights.
    """

    suite: str
    revisions: tuple[str, ...]
    steps: tuple[int, ...]
    tokens: tuple[int, ...] | None = None
    tuned: str | None = None
    weights: str = ""


@dataclass(frozen=True)
class Evidence:
    """What one study measured on one dimension of one concept set; a part that is None was not measured.

    Attributes:
        suite: the checkpoints' suite.
        concept_set: name of the set.
        dimension: of the set.
        steps: of the checkpoints, rising.
        tokens: seen by each; None where it is not known.
        weights: hash of the last checkpoint's weights.
        fold: which fold tested an example.
        correct: whether the probe of a layer is right on an example it was not fitted on.
        selected: the same at the layer chosen on validation parts.
        shuffled: the same with shuffled labels.
        floors: the same of what needs no model, by name, under the first seeds' folds.
        nhsic_tx: nHSIC(T;X), the whole sample first, then half-samples, the same halves at every checkpoint.
        nhsic_ty: nHSIC(T;Y), alike.
        floor_tx: nHSIC(T;X) with one side shuffled.
        floor_ty: nHSIC(T;Y), alike.
        doses: standard deviations of the target's projection by which it was steered.
        pair_groups: of the test pairs.
        gain: change of the tuned model's preference by the vector of each checkpoint (nats per token).
        gain_own: the same by the tuned model's own vector.
        gain_random: mean over the first pairs of the same by random directions, drawn once for the tuned model, at one dose.
        gain_shuffled: the same by vectors of shuffled labels.
        cost: rise of the tuned model's loss on neutral texts under each checkpoint's vector (nats per token).
        cost_random: mean over the first texts of the same under the random directions.
    """

    suite: str
    concept_set: str
    dimension: str
    steps: Float[np.ndarray, " checkpoint"]
    tokens: Float[np.ndarray, " checkpoint"] | None = None
    weights: str = ""
    fold: Int[np.ndarray, "seed example"] | None = None
    correct: Float[np.ndarray, "checkpoint layer seed example"] | None = None
    selected: Float[np.ndarray, "checkpoint seed example"] | None = None
    shuffled: Float[np.ndarray, "checkpoint layer seed example"] | None = None
    floors: Mapping[str, np.ndarray] | None = None
    nhsic_tx: Float[np.ndarray, "checkpoint layer replicate"] | None = None
    nhsic_ty: Float[np.ndarray, "checkpoint layer replicate"] | None = None
    floor_tx: Float[np.ndarray, "checkpoint layer draw"] | None = None
    floor_ty: Float[np.ndarray, "checkpoint layer draw"] | None = None
    doses: Float[np.ndarray, " dose"] | None = None
    pair_groups: tuple[str, ...] = ()
    gain: Float[np.ndarray, "checkpoint steered dose pair"] | None = None
    gain_own: Float[np.ndarray, "steered dose pair"] | None = None
    gain_random: Float[np.ndarray, "direction steered"] | None = None
    gain_shuffled: Float[np.ndarray, "vector steered"] | None = None
    cost: Float[np.ndarray, "checkpoint steered dose text"] | None = None
    cost_random: Float[np.ndarray, "direction steered"] | None = None

    @classmethod
    def read(cls, series: Series, folder: Path, concept_set: str, dimension: str, statements: int | None = None) -> "Evidence":
        """Read what the notebooks of a whole run left of one concept set and dimension.

        Args:
            series: the checkpoints followed.
            folder: of the run; the evidence lies in `<set>/<experiment>/<revision>.safetensors`.
            concept_set: name of the set.
            dimension: one that the set has.
            statements: how many the study has of them, if that is to be checked.

        Raises:
            ValueError: if an experiment has evidence of some checkpoints only, or of another number of statements.
        """
        files = {name: _Files(folder / concept_set / name, dimension) for name in ("probing", "mutual_information", "steering")}
        parts = {name: files[experiment].stacked(key, series.revisions) for name, (experiment, key) in _KEYS.items()}
        fold, doses, paired, plain, steered = (parts.pop(name) for name in ("fold", "doses", "paired", "plain", "steered"))
        if statements is not None and fold is not None and fold.shape[2] != statements:
            raise ValueError(
                f"Evidence must be of the study's {statements} statements of {concept_set}/{dimension}; that in {folder} is of "
                f"{fold.shape[2]}. Run the study again."
            )
        once = {name: files["steering"].one(key, series.tuned) for name, key in _ONCE.items()} if series.tuned else {}
        return cls(
            suite=series.suite,
            concept_set=concept_set,
            dimension=dimension,
            steps=np.array(series.steps, dtype=float),
            tokens=None if series.tokens is None else np.array(series.tokens, dtype=float),
            weights=series.weights,
            fold=None if fold is None else fold[0].astype(int),  # one for all checkpoints, as are the four below
            floors=files["probing"].named("floor/", series.revisions[0]) or None,
            doses=None if doses is None else doses[0],
            pair_groups=() if paired is None else tuple(f"{group:.0f}" for group in paired[0]),
            cost=None if plain is None or steered is None else steered - plain[:, None, None],
            **parts,
            **once,
        )

    @property
    def share(self) -> Float[np.ndarray, " checkpoint"]:
        """Share of training done at each checkpoint, in tokens (or steps, where the suite tells no tokens)."""
        seen = self.steps if self.tokens is None else self.tokens
        return seen / seen[-1] if seen[-1] > 0 else np.ones(len(seen))


_KEYS = {
    **{name: ("probing", name) for name in ("fold", "correct", "selected", "shuffled")},
    **{name: ("mutual_information", name) for name in ("nhsic_tx", "nhsic_ty", "floor_tx", "floor_ty")},
    "gain": ("steering", "gain/vector"),
    "doses": ("steering", "doses"),
    "steered": ("steering", "nats/vector"),
    "plain": ("steering", "nats/unsteered"),
    "paired": ("steering", "groups"),
}
"""Where each part lies: experiment, and key after the dimension."""

_ONCE = {
    "gain_own": "gain/vector",
    "gain_random": "null/gain/random direction",
    "gain_shuffled": "null/gain/shuffled labels",
    "cost_random": "null/cost/random direction",
}
"""What the tuned model's own file of steering holds."""


class _Files:
    """The evidence files of one experiment, concept set and dimension, each read once."""

    def __init__(self, folder: Path, dimension: str) -> None:
        self._folder, self._prefix = folder, f"{dimension}/"
        self._read: dict[str, dict[str, np.ndarray]] = {}

    def named(self, begin: str, revision: str) -> dict[str, np.ndarray]:
        """Return the arrays of one revision whose keys begin so, by the rest of their keys; none if there is no such file."""
        if revision not in self._read:
            path = self._folder / f"{revision}.safetensors"
            entries = load_file(path) if path.is_file() else {}
            self._read[revision] = {k.removeprefix(self._prefix): v for k, v in entries.items() if k.startswith(self._prefix)}
        found = {k.removeprefix(begin): v for k, v in self._read[revision].items() if k.startswith(begin)}
        return {k: v.astype(np.float32 if v.dtype == np.uint8 else float) for k, v in found.items()}  # answers are many

    def one(self, key: str, revision: str) -> np.ndarray | None:
        """Return the array of one revision; None if there is no such file or key."""
        return self.named(key, revision).get("")

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


class NotTestable(Exception):  # noqa: N818 - not an error: a verdict
    """The evidence cannot answer the claim; the message says why."""


@dataclass(frozen=True)
class Part:
    """A number that must lie above 0.

    Attributes:
        name: what it is.
        value: of it.
        error: its standard error.
        free: degrees of freedom of Student's t.
        n: what it rests on.
        relevant: the smallest value that matters, in the same unit.
        after: the same number at the next checkpoint, if the end of a window lies between two: what holds must hold at
            both, what fails must fail at both.
        ranks: Monte-Carlo p-values against "not above 0" and "not below 0" (the share of random draws at least as far out,
            counting itself). A count cannot go below its first step; there, and only there, the tail of Student's t
            stands in for it.
        draws: behind `ranks`.
        shown: makes the value and the interval's ends from those of the scale that is tested; None leaves them.
    """

    name: str
    value: float
    error: float
    free: float | int
    n: int
    relevant: float
    after: "Part | None" = None
    ranks: tuple[float, float] | None = None
    draws: int = 0
    shown: Callable[[float], float] | None = None

    def above(self, bound: float = 0.0) -> float:
        """Return the one-sided p-value against "not above `bound`" (times the smallest relevant value)."""
        here = self._tail(self.value - bound * self.relevant, self.ranks[0] if self.ranks and not bound else None)
        return max(here, self.after.above(bound)) if self.after else here

    def below(self, bound: float = 0.0) -> float:
        """Return the one-sided p-value against "not below `bound`" (times the smallest relevant value)."""
        here = self._tail(bound * self.relevant - self.value, self.ranks[1] if self.ranks and not bound else None)
        return max(here, self.after.below(bound)) if self.after else here

    def _tail(self, beyond: float, rank: float | None) -> float:
        t = float(stats.t.sf(beyond / self.error, self.free)) if self.error > 0 else float(beyond <= 0)
        if rank is None:
            return t
        return rank if rank > 1.5 / (self.draws + 1) else min(t, rank)

    @property
    def interval(self) -> tuple[float, float, float]:
        """Value with the ends of its 95 % interval."""
        reach = stats.t.ppf(0.975, self.free) * self.error
        return tuple(self.scaled(each) for each in (self.value, self.value - reach, self.value + reach))

    def scaled(self, number: float) -> float:
        """Return a number of the tested scale as it is reported."""
        return float(self.shown(number) if self.shown else number)

    @property
    def strength(self) -> float:
        """How far above 0 in standard errors of a normal variable with the same p-value."""
        return float(stats.norm.isf(min(max(self.above(), 1e-300), 1 - 1e-16)))


Parts = list[Part]
Windows = list[tuple[float, float]]


@dataclass(frozen=True)
class Found:
    """What a claim's test returns.

    Attributes:
        alternatives: each a list of parts that must all hold.
        windows: of training that each alternative is about, in steps.
        note: further numbers a reader should see.
    """

    alternatives: list[Parts]
    windows: list[Windows]
    note: str = ""


@dataclass(frozen=True)
class Claim:
    """One claim of the paper and its test.

    Attributes:
        name: short name.
        needs: the parts of the evidence it rests on.
        test: see `Found`.
        untrained: whether it needs a checkpoint of step 0.
        reads: "probe" or "labels", if the claim is about when or where something can be read and so presumes that it can.
        title: in plain words.
        paper: what the paper says, and where.
        statistic: what is computed, in words.
        threshold: what it must pass, in words.
        relevant: the smallest effect that matters and why, in words.
    """

    name: str
    needs: tuple[str, ...]
    test: Callable[[Evidence], Found]
    untrained: bool
    reads: str
    title: str
    paper: str
    statistic: str
    threshold: str
    relevant: str


_MISSING = {
    **dict.fromkeys(("fold", "correct", "selected"), "no probe's answers by seed and example"),
    "floors": "no floor by example",
    "shuffled": "no answers with shuffled labels",
    **dict.fromkeys(("nhsic_tx", "nhsic_ty"), "no half-samples of nHSIC"),
    **dict.fromkeys(("floor_tx", "floor_ty"), "no chance floor of nHSIC"),
    **dict.fromkeys(("gain", "doses"), "no tuned model was steered"),
    "gain_random": "no random directions were tried",
    "gain_shuffled": "no vectors of shuffled labels were tried",
    "gain_own": "no vector of the tuned model itself",
    "cost": "no loss by text under steering",
    "cost_random": "no loss under random directions",
}


def _all(parts: Parts, bound: float) -> float:
    """Return the p-value against "not all parts lie above the bound"."""
    return max(part.above(bound) for part in parts)


def _any_below(parts: Parts, bound: float) -> float:
    """Return the p-value against "no part lies below the bound"."""
    return min(1.0, len(parts) * min(part.below(bound) for part in parts))


def _p_values(alternatives: list[Parts]) -> tuple[float, float, float]:
    """Return the p-values against "the claim does not hold", "the claim holds" and "its effect is relevant".

    The claim: at some alternative every part lies above 0. Valid whatever the dependence.
    """
    n = len(alternatives)
    holds = min(1.0, n * min(_all(parts, 0.0) for parts in alternatives))
    fails = max(_any_below(parts, 0.0) for parts in alternatives)
    small = max(_any_below(parts, 1.0) for parts in alternatives)
    harmless = min(1.0, n * min(_all(parts, -1.0) for parts in alternatives))
    return holds, fails, max(small, harmless)


def _test(claim: Claim, evidence: Evidence, legible: Mapping[str, Callable[[Evidence], Part]]) -> dict:
    """Return one row without its correction; `side` is the verdict that a small p-value speaks for."""
    row = {"claim": claim.name, "data": _data(evidence.weights)}
    row |= {name: getattr(evidence, name) for name in ("concept_set", "dimension", "suite", "weights")}
    try:
        for name in claim.needs:
            if getattr(evidence, name) is None:
                raise NotTestable(_MISSING[name])
        if claim.untrained and evidence.steps[0] != 0:
            raise NotTestable("no untrained checkpoint (step 0)")
        if claim.reads and (read := legible[claim.reads](evidence)).above() >= LEVEL:
            raise NotTestable(f"nothing to read: {read.name} is {read.value:.2g} (p = {read.above():.2g})")
        found = claim.test(evidence)
    except NotTestable as reason:
        return row | {"note": str(reason)}
    holds, fails, within = _p_values(found.alternatives)
    best = max(range(len(found.alternatives)), key=lambda i: min(part.strength for part in found.alternatives[i]))
    weakest = min(found.alternatives[best], key=lambda part: part.strength)
    value, low, high = weakest.interval
    windows = ";".join(f"{begin:.0f}-{end:.0f}" for begin, end in found.windows[best])
    row |= {"value": value, "low": low, "high": high, "relevant": weakest.scaled(weakest.relevant)}
    row |= {"p": min(1.0, 2 * min(holds, fails)), "p_within": within, "n": weakest.n, "windows": windows}
    note = "; ".join(part for part in (f"weakest part: {weakest.name}", found.note) if part)
    return row | {"note": note, "side": VERDICTS[0] if holds < fails else VERDICTS[1]}


def judge(evidences: Iterable[Evidence], claims: Mapping[str, Claim], legible: Mapping[str, Callable]) -> pd.DataFrame:
    """Return a verdict on every claim and dimension, corrected over all of them.

    Args:
        evidences: of one study.
        claims: by name (`paper_claims.CLAIMS`).
        legible: by `Claim.reads`, the part that must lie above 0 for there to be something to read.

    Returns:
        One row a claim, concept set and dimension, with `COLUMNS`. Value and 95 % interval (not corrected) are those of
        the weakest part, which the note names: its distance beyond the threshold.
    """
    rows = [_test(claim, evidence, legible) for evidence in evidences for claim in claims.values()]
    kinds = dict.fromkeys(("value", "low", "high", "relevant", "p", "p_within"), float) | {"n": "Int64"}
    return decide(pd.DataFrame(rows, columns=[*COLUMNS]).astype(kinds))


def decide(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the verdicts it has when all its tests are corrected together (Holm).

    Each row is tested twice: for an effect, either way, and for its being too small to matter. What is shown to be too
    small to matter is that, even where it is clearly not 0.
    """
    tests = table[["p", "p_within"]].to_numpy(float)
    corrected = np.reshape(evaluation.holm(tests.ravel()), tests.shape)
    table = table.assign(p_corrected=corrected[:, 0], p_within_corrected=corrected[:, 1])
    small, clear = (table[name] < LEVEL for name in ("p_within_corrected", "p_corrected"))
    verdict = np.select([table["p"].isna(), small, clear], [VERDICTS[4], VERDICTS[2], table["side"]], VERDICTS[3])
    return table.assign(verdict=verdict)[list(COLUMNS)]


def findings(table: pd.DataFrame, titles: Mapping[str, str], power: pd.DataFrame) -> pd.DataFrame:
    """Return one row a claim: what is found over all that could be tested, how sure that is, and the verdict of most tests.

    Args:
        table: of verdicts (`decide`).
        titles: of the claims.
        power: of the simulations (`make power`).
    """
    rows = {}
    for claim, title in titles.items():
        own, cells = table[table["claim"] == claim], power[power["claim"] == claim]
        tested = own[own["verdict"] != VERDICTS[4]]
        counts = {verdict: int((tested["verdict"] == verdict).sum()) for verdict in VERDICTS[:4]}
        told = ", ".join(f"{verdict} {n}" for verdict, n in counts.items() if n)
        seen = cells.loc[cells["truth"] == "yes", VERDICTS[0]]
        span = " to ".join(dict.fromkeys(f"{share:.0%}" for share in (seen.min(), seen.max())))
        new = int((tested["data"] == "confirmed").sum())
        rows[title] = {
            "found here": f"{told} (of {len(tested)} tests)" if len(tested) else "not testable in any study",
            "on which data": f"{new} confirmed, {len(tested) - new} exploratory" if len(tested) else "",
            "simulations: false verdicts": f"at most {cells['false'].max():.0%}",
            "simulations: found where true": span,
            "mostly": next((verdict for verdict, n in counts.items() if 2 * n > len(tested)), ""),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def summary(table: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """Return claims, by their titles, by concept sets; a cell counts the verdicts ("3 supported, 2 inconclusive")."""

    def words(verdicts: pd.Series) -> str:
        return ", ".join(f"{n} {verdict}" for verdict in VERDICTS if (n := int((verdicts == verdict).sum())))

    wide = table.groupby(["claim", "concept_set"], sort=False)["verdict"].agg(words).unstack()
    names, sets = (table[column].drop_duplicates() for column in ("claim", "concept_set"))
    return wide.reindex(index=names, columns=sets).fillna(VERDICTS[4]).rename(index=titles)


_TESTS = (
    "claims/framework.py",
    "claims/measured.py",
    "claims/*_claims.py",
    "core/evaluation.py",
    "experiments/steering/__init__.py",
)


@cache
def code() -> str:
    """Return a hash of the code that decides verdicts, without what only explains it: docstrings and lines of comment."""
    text, package = [], Path(__file__).parents[1]
    for path in (path for name in _TESTS for path in sorted(package.glob(name))):
        source = path.read_text(encoding="utf-8")
        told = [
            node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        ]
        explained = {line for node in told for line in range(node.lineno, node.end_lineno + 1)}
        lines = (line.strip() for number, line in enumerate(source.splitlines(), 1) if number not in explained)
        text += [line for line in lines if line and not line.startswith("#")]
    return sha256("\n".join(text).encode()).hexdigest()[:16]


def register(date: str, seen: Iterable[str], file: Path = REGISTERED) -> None:
    """Write down that the tests are fixed as they are now, and which weights have been looked at by now.

    What is looked at afterwards, with the same tests, confirms; everything else explores.

    Args:
        date: of today.
        seen: hashes of weights (`Series.weights`).
        file: to which the entry is added.
    """
    entries = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    entries.append({"date": date, "code": code(), "seen": sorted(set(seen))})
    file.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def _data(weights: str) -> str:
    """Return whether data of these weights explore or confirm."""
    entries = json.loads(REGISTERED.read_text(encoding="utf-8")) if REGISTERED.is_file() else []
    new = any(entry["code"] == code() and weights not in entry["seen"] for entry in entries)
    return "confirmed" if weights and new else "exploratory"
