"""What activations T share with inputs X and labels Y, layer by layer: the paper's measure and those to read beside it.

Rule: only what `in_bits` yields is in bits. nHSIC depends on the number of statements, and nHSIC and CKA alike move with
the spectrum of T when no information does (`reweighting` shows it).

Half-samples, orders and shuffled labels depend on the statements alone, so they are the same at every checkpoint.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.special import ndtr

from ... import results
from ...core import evaluation
from ...statements.concepts import ConceptSet
from ..intervals import from_halves
from ..probing import controls, probes
from ..tables import Acts, Rows, Table
from . import bits, kernels

__all__ = ["EXPONENTS", "Measure", "evidence", "fill", "in_bits", "readable", "released", "reweighting", "summarise"]

EXPONENTS = (0.1, 0.3, 0.5, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0)
"""Steepness of the spectrum in `reweighting`, in the order that training is imitated."""

_DRAWS = 200


@dataclass(frozen=True, eq=False)
class Measure:
    """One measure at every layer.

    Attributes:
        method: how it is computed.
        metric: what it is.
        values: at the whole sample, then at random halves of the groups.
        n: number of statements of the whole sample.
        null: its values where nothing is shared; None where there is no such thing.
        null_method: how those were drawn.
    """

    method: str
    metric: str
    values: Float[np.ndarray, "layer sample"]
    n: int
    null: Float[np.ndarray, "layer draw"] | None = None
    null_method: str = "permutation null"

    def rows(self) -> Rows:
        """Yield the null after each layer's value."""
        for layer, (whole, *halves) in enumerate(self.values):
            yield layer, self.method, self.metric, from_halves(whole, halves, self.n)
            if self.null is not None:
                null = evaluation.interval(self.null[layer].mean(), self.null[layer], self.n)
                yield layer, self.null_method, self.metric, null


def evidence(measures: Sequence[Measure]) -> dict[str, np.ndarray]:
    """Return the samples behind nHSIC for later tests over checkpoints: `nhsic_tx`, `floor_tx` and the like."""
    out = {}
    for measure in measures:
        out[measure.metric] = measure.values.astype(np.float32)
        out[measure.metric.replace("nhsic", "floor")] = measure.null.astype(np.float32)
    return out


@dataclass(frozen=True, eq=False)
class _Draws:
    """Indices of every example, then of random halves of the groups; orders and shuffled labels for what chance gives."""

    samples: list[np.ndarray]
    orders: Int[np.ndarray, "draw example"]
    shuffled: Int[np.ndarray, "draw example"]


@lru_cache(maxsize=16)  # both tables of a set use the same
def _draws(concepts: ConceptSet) -> _Draws:
    count = concepts.group_numbers.max() + 1
    rng = np.random.default_rng(0)
    samples = [np.arange(len(concepts))]
    for _ in range(bits.HALVES):
        half = rng.permutation(count)[: count // 2]
        samples.append(np.flatnonzero(np.isin(concepts.group_numbers, half)))
    orders = np.stack([rng.permutation(len(concepts)) for _ in range(_DRAWS)])
    return _Draws(samples, orders, np.stack([controls.shuffled_labels(concepts, seed) for seed in range(_DRAWS)]))


def released(acts: Acts, concepts: ConceptSet) -> list[Measure]:
    """Return nHSIC(T; X) and nHSIC(T; Y) as the released code computes them, and what shuffled statements or labels give.

    X is the output of block 0 of the same checkpoint. Deviation: the released code standardises over all rows and
    computes on the first 80 %; here both are done on the statements given, in float64 (or, beyond `kernels.MANY`
    statements, to a few 1e-5).
    """
    draws, layers = _draws(concepts), range(acts.shape[1])
    tx, ty = np.empty((2, len(layers), len(draws.samples)))
    for draw, rows in enumerate(draws.samples):
        parts = [kernels.released_smoother(acts[rows, layer]) for layer in layers]
        tx[:, draw] = [kernels.alignment(parts[0], t) for t in parts]
        ty[:, draw] = [kernels.nhsic_labels(t, concepts.labels[rows]) for t in parts]
        if draw == 0:
            floor_tx = kernels.null(parts[0], parts, draws.orders)
            floor_ty = np.stack([kernels.nhsic_labels(t, draws.shuffled) for t in parts])
    n = len(concepts)
    return [
        Measure("released", "nhsic_tx", tx, n, floor_tx, "shuffled"),
        Measure("released", "nhsic_ty", ty, n, floor_ty, "shuffled"),
    ]


def readable(acts: Acts, concepts: ConceptSet) -> list[Measure]:
    """Return debiased CKA of T with three others, and two counts of the directions that carry the variance of T.

    `cka` is to the words of the statements, which no checkpoint can change; `cka_x` to the paper's X, the output of
    block 0 of the same checkpoint; `cka_y` to the labels. Kernels have the median distance as their width; half and
    twice that width are given for `cka`.
    """
    draws, n = _draws(concepts), len(concepts)
    text, labels = kernels.text_kernel(concepts.statements), kernels.label_kernel(concepts.labels)
    grams = [kernels.median_kernel(acts[:, layer]) for layer in range(acts.shape[1])]
    whole = [kernels.debiased(gram) for gram in grams]
    cka, cka_x, cka_y = _cka([text, grams[0], labels], grams, draws.samples)
    (half,), (twice,) = (_cka([text], [gram**power for gram in grams], draws.samples) for power in (4.0, 0.25))
    by_text = kernels.null(kernels.debiased(text), whole, draws.orders)
    by_labels = np.stack([kernels.cka_labels(t, draws.shuffled) for t in whole])
    ratio, rank = _directions(acts, draws.samples)
    return [
        Measure("debiased", "cka", cka, n, by_text),
        Measure("debiased", "cka_x", cka_x, n, kernels.null(whole[0], whole, draws.orders)),
        Measure("debiased", "cka_y", cka_y, n, by_labels),
        Measure("debiased, half the width", "cka", half, n),
        Measure("debiased, twice the width", "cka", twice, n),
        Measure("covariance", "participation_ratio", ratio, n),
        Measure("covariance", "effective_rank", rank, n),
    ]


def _cka(
    references: Sequence[kernels.Matrix], grams: Sequence[kernels.Matrix], samples: Sequence[np.ndarray]
) -> Float[np.ndarray, "reference layer sample"]:
    """Return debiased CKA of each layer's kernel with each reference, on each sample of the examples."""
    parts = [np.ix_(rows, rows) for rows in samples]
    prepared = [[kernels.debiased(reference[part]) for part in parts] for reference in references]
    out = np.empty((len(references), len(grams), len(samples)))
    for layer, gram in enumerate(grams):
        for sample, part in enumerate(parts):
            t = kernels.debiased(gram[part])
            out[:, layer, sample] = [kernels.alignment(reference[sample], t) for reference in prepared]
    return out


def _directions(acts: Acts, samples: Sequence[np.ndarray]) -> Float[np.ndarray, "count layer sample"]:
    """Return participation ratio and effective rank of each layer, on each sample of the examples."""
    out = np.empty((2, acts.shape[1], len(samples)))
    for layer in range(acts.shape[1]):
        features = kernels.standardise(acts[:, layer])
        for sample, rows in enumerate(samples):
            shares = kernels.spectrum(features[rows])
            out[:, layer, sample] = kernels.participation_ratio(shares), kernels.effective_rank(shares)
    return out


def in_bits(acts: Acts, concepts: ConceptSet) -> Rows:
    """Yield what a linear reader and nearest neighbours know of the labels of all statements, in bits."""
    labels, weights = concepts.labels, evaluation.bootstrap_weights(concepts.groups, seed=0)
    for layer in range(acts.shape[1]):
        logits = probes.held_out_logits(acts[:, layer], concepts, seed=0)
        usable = bits.usable_information(bits.calibrated(logits, concepts, 0)[None], labels, concepts.groups)
        accuracy = evaluation.mean(((logits > 0) == (labels == 1)).astype(float), weights)
        yield layer, "probe", "usable_information", usable
        yield layer, "probe", "fano_bound", bits.fano_bound(accuracy, labels)
        yield layer, "ksg", "ksg_y", bits.ksg(acts[:, layer], concepts)


def fill(
    table: Table, acts: Mapping[str, Acts], sets: Mapping[str, ConceptSet], used: Mapping[str, tuple[Acts, ConceptSet]]
) -> dict[str, np.ndarray]:
    """Add the rows of every dimension: nHSIC as released, the measures beside it, information in bits.

    All mappings are by dimension. What nHSIC and CKA are computed on is `used`.

    Returns:
        The half-samples behind nHSIC, by dimension and measure.
    """
    samples, setting = {}, {"sigma": kernels.SIGMA, "epsilon": kernels.EPSILON}
    for name, (features, concepts) in used.items():
        measures = released(features, concepts)
        samples |= {f"{name}/{metric}": values for metric, values in evidence(measures).items()}
        table.add(concepts, (row for measure in measures for row in measure.rows()), **setting)
    for features, concepts in used.values():
        table.add(concepts, (row for measure in readable(features, concepts) for row in measure.rows()))
    for name, concepts in sets.items():
        table.add(concepts, in_bits(acts[name], concepts))
    return samples


def reweighting(n: int = 600, width: int = 256, draws: int = 5) -> pd.DataFrame:
    """Return what the kernel measures say of random features that are only weighted anew.

    T = std(Z diag(i^-a) W), with Z Gaussian and W a rotation, can be turned back into Z for every exponent a: the Shannon
    information is the same for all a. X is T at a = 1; Y is the sign of the first direction of Z with noise.

    Returns:
        One row an exponent and metric, with mean and range over the draws; further column `exponent`. The metric
        `shannon` is I(T; Y) of the channel in bits, exact.

    Source: our construction, after the linear limit of wide kernels (Alvarez 2021).
    """
    by_draw = [_reweighted(n, width, seed) for seed in range(draws)]
    seeds = f"0-{draws - 1}"
    rows = []
    for exponent in EXPONENTS:
        for metric in by_draw[0][exponent]:
            values = [one[exponent][metric] for one in by_draw]
            spread = {"value": np.mean(values), "low": min(values), "high": max(values), "n": n, "seed": seeds}
            rows.append({"method": "reweighted random features", "metric": metric, "exponent": exponent} | spread)
    return pd.DataFrame(rows)


_SIGNAL = 2.0  # of the label, in units of its noise


def _reweighted(n: int, width: int, seed: int) -> dict[float, dict[str, float]]:
    """Return the measures by exponent for one draw of the random features."""
    rng = np.random.default_rng(seed)
    hidden, (rotation, _) = rng.standard_normal((n, width)), np.linalg.qr(rng.standard_normal((width, width)))
    labels = (_SIGNAL * hidden[:, 0] + rng.standard_normal(n) > 0).astype(int)

    def features(exponent: float) -> np.ndarray:
        return kernels.standardise(hidden * np.arange(1.0, width + 1) ** -exponent @ rotation)

    x, out = kernels.smoother(kernels.released_kernel(features(1.0))), {}
    for exponent in EXPONENTS:
        t = kernels.smoother(kernels.released_kernel(features(exponent)))
        shares = kernels.spectrum(features(exponent))
        out[exponent] = {
            "nhsic_tx": kernels.alignment(x, t),
            "nhsic_ty": float(kernels.nhsic_labels(t, labels)),
            "participation_ratio": kernels.participation_ratio(shares),
            "effective_rank": kernels.effective_rank(shares),
            "shannon": _channel_information(_SIGNAL),
        }
    return out


def _channel_information(signal: float) -> float:
    """Return I(Z; Y) in bits of Y = [signal Z + noise > 0], both standard normal, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    sure = ndtr(signal * nodes)
    return float(1 - weights @ [bits.entropy(share) for share in sure] / weights.sum())


def summarise(_study: object, _folder: Path, out: Path) -> None:
    """Write the control with reweighted random features as a tidy table; it is the same for every study."""
    table = reweighting()
    results.write(table.reindex(columns=[*results.COLUMNS, "exponent"]), out)
