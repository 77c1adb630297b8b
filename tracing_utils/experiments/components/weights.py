"""MLP weights that matter for a dimension, whether two dimensions share them, and what zeroing the shared ones does.

Rule: an overlap means nothing alone. Above it stands what two halves of one dimension's statements share, below it what sets of
these sizes share by chance.

Importance and sets follow DEAN (2410.16672): |W| times the sum of |dL/dW| over texts; in each matrix the largest are taken, and
those that matter as much for general text are left out. Its released code intersects places in two lists as if they were weights.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import nn
from transformers import PreTrainedModel

from ...checkpoints import activations, models
from ...core import evaluation
from ...statements.concepts import DESIGNED, DIMENSIONS, ConceptSet, load
from ..intervals import from_halves
from ..tables import Rows

__all__ = [
    "PARTS", "Slab", "general_text", "importance", "index_lists", "largest", "overlaps", "parts", "same_size", "slabs",
    "specific", "zeroed", "zeroing",
]  # fmt: skip

PARTS = 6
"""Parts of the groups that importance is summed over; they make ten pairs of halves."""

_BATCH = 256  # tokens, since a gradient of every weight is held for every text
_NEAR = 20  # places, in the order of size, from which a weight as large is drawn


@dataclass(frozen=True)
class Slab:
    """Some `rows` (outputs) of one `linear` map of the MLP of a layer."""

    layer: int
    linear: nn.Module
    rows: Int[torch.Tensor, " row"]

    @property
    def weights(self) -> Float[torch.Tensor, "row in"]:
        """The weights as they are now."""
        return models.oriented(self.linear).detach()[self.rows]


def slabs(model: PreTrainedModel, outputs: int) -> list[Slab]:
    """Return at most `outputs` random outputs of every MLP map, the same at every checkpoint of one shape."""
    rng, drawn = np.random.default_rng(0), []
    for layer, maps in enumerate(models.dense_maps(model)):
        for linear in maps.values():
            count = models.oriented(linear).shape[0]
            rows = np.sort(rng.permutation(count)[:outputs])
            drawn.append(Slab(layer, linear, torch.as_tensor(rows, device=model.device)))
    return drawn


def general_text(beside: Sequence[str], concept_set: str, most: int) -> list[str]:
    """Return at most `most` trustworthy statements of all dimensions but those `beside`, in random order.

    They are pocket's; beside the sets of the designed world, whose models know no other words, they are the world's.
    """
    source = "world" if concept_set in DESIGNED else "pocket"
    sets = (load(source, other) for other in DIMENSIONS if other not in beside)
    texts = [concepts.statements[i] for concepts in sets for i in np.flatnonzero(concepts.labels == 1)]
    return [texts[i] for i in np.random.default_rng(0).permutation(len(texts))[:most]]


def parts(concepts: ConceptSet, rows: Int[np.ndarray, " row"], most: int) -> list[list[int]]:
    """Return at most `most` of the trustworthy statements among `rows`, in `PARTS` parts of whole groups in random order."""
    names = np.random.default_rng(0).permutation(sorted({concepts.groups[i] for i in rows}))
    place = {name: at % PARTS for at, name in enumerate(names)}
    right = [int(i) for i in rows if concepts.labels[i] == 1]
    return [[i for i in right if place[concepts.groups[i]] == part][: most // PARTS] for part in range(PARTS)]


def importance(model: PreTrainedModel, slabs: Sequence[Slab], ids: Sequence[Sequence[int]]) -> list[Float[np.ndarray, "_ _"]]:
    """Return |W| times the sum over texts of |dL/dW| of each slab, L being a text's mean loss a token.

    The gradient of each text alone, from what a map read and the gradient of what it gave; nothing is summed before the
    absolute value is taken. The model has its language-model head.
    """
    sums = [torch.zeros_like(slab.weights, dtype=torch.float32) for slab in slabs]
    seen: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    lengths = [len(text) for text in ids]
    with ExitStack() as stack:
        for at, slab in enumerate(slabs):
            keep = slab.linear.register_forward_hook(
                lambda _module, inputs, out, at=at: seen.update({at: (inputs[0].detach(), out)})
            )
            stack.callback(keep.remove)
        for rows in activations.batches(lengths, _BATCH):
            seen.clear()
            loss = _loss(model, [ids[i] for i in rows])
            gradients = torch.autograd.grad(loss, [out for _, out in seen.values()])
            for (at, (given, _)), gradient in zip(seen.items(), gradients, strict=True):
                slopes, inputs = (each.reshape(len(rows), -1, each.shape[-1]) for each in (gradient, given))  # OPT joins texts
                sums[at] += (slopes[..., slabs[at].rows].transpose(1, 2) @ inputs).abs().sum(0)
    seen.clear()
    return [(slab.weights.abs() * total).float().cpu().numpy() for slab, total in zip(slabs, sums, strict=True)]


def _loss(model: PreTrainedModel, ids: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the sum over texts of the mean loss a token; texts of one token have none."""
    padded = torch.tensor(activations.padded(ids), device=model.device)
    scored = torch.tensor([[1 / (len(text) - 1) if at < len(text) else 0.0 for at in range(1, padded.shape[1])] for text in ids])
    logp = model(input_ids=padded, use_cache=False).logits[:, :-1].float().log_softmax(2)
    return -(logp.gather(2, padded[:, 1:, None])[..., 0] * scored.to(model.device)).sum()


def largest(values: Float[np.ndarray, "row in"], share: float) -> Bool[np.ndarray, "row in"]:
    """Return which weights are among the `share` with the largest values, at least one."""
    count = max(1, round(share * values.size))
    marked = np.zeros(values.size, dtype=bool)
    marked[np.argpartition(values.ravel(), -count)[-count:]] = True
    return marked.reshape(values.shape)


Weighed = list[list[np.ndarray]]  # by part, then by slab


def specific(weighed: Weighed, general: Sequence[np.ndarray], share: float) -> list[Bool[np.ndarray, "_ _"]]:
    """Return, by slab, which weights are among the largest over all parts and not among the largest for general text."""
    by_slab = zip(zip(*weighed, strict=True), general, strict=True)
    return [largest(sum(each), share) & ~largest(other, share) for each, other in by_slab]


def overlaps(a: Weighed, b: Weighed, general: list[np.ndarray], slabs: Sequence[Slab], share: float) -> Rows:
    """Yield the rows of what two dimensions share; those of all layers together have none.

    `overlap` is |A and B| / sqrt(|A| |B|). `shared`: of halves of both dimensions; `halves`: of two halves of one, a mean over
    both dimensions; `chance`: what sets of these sizes share (hypergeometric). `share_of_halves` is the first above chance over
    the second above chance. Intervals are 1.96 standard deviations over ten random pairs of halves; that of chance is its own.
    """
    splits = [(half, tuple(set(range(PARTS)) - set(half))) for half in combinations(range(PARTS), PARTS // 2) if 0 in half]
    counts = np.zeros((len(splits), len(slabs), 2, 3))  # shared or halves; both, their sizes' geometric mean, expected
    variance = np.zeros(len(slabs))
    for at in range(len(slabs)):
        pool = ~largest(general[at], share)
        for number, split in enumerate(splits):
            sides = [[largest(sum(each[k][at] for k in half), share) & pool for half in split] for each in (a, b)]
            across = [(one, other) for one in sides[0] for other in sides[1]]
            for kind, pairs in enumerate((across, sides)):
                counts[number, at, kind] = np.mean([_shared(*pair, int(pool.sum())) for pair in pairs], axis=0)
        m, n = counts[0, at, 0, 1], pool.sum()
        variance[at] = counts[0, at, 0, 2] * (1 - m / n) ** 2
    layers = np.array([slab.layer for slab in slabs])
    for layer in (*np.unique(layers), None):
        inside = np.ones(len(slabs), dtype=bool) if layer is None else layers == layer
        both, sizes, expected = np.moveaxis(counts[:, inside].sum(1), 2, 0)
        shared, halves = (both / np.maximum(sizes, 1)).T
        chance = (expected / np.maximum(sizes, 1))[:, 0].mean()
        reach = 1.96 * np.sqrt(variance[inside].sum()) / max(sizes[0, 0], 1)
        n, where = round(sizes[0, 0]), None if layer is None else int(layer)
        yield where, "shared", "overlap", from_halves(shared.mean(), shared.tolist(), n)
        yield where, "halves", "overlap", from_halves(halves.mean(), halves.tolist(), n)
        yield where, "chance", "overlap", evaluation.Estimate(float(chance), float(chance - reach), float(chance + reach), n)
        ratio = (shared - chance) / np.maximum(halves - chance, 1e-9)
        yield where, "shared", "share_of_halves", from_halves(ratio.mean(), ratio.tolist(), n)


def _shared(a: np.ndarray, b: np.ndarray, pool: int) -> tuple[float, float, float]:
    """Return how many weights two sets share, the geometric mean of their sizes, and how many they share by chance."""
    return float((a & b).sum()), float(np.sqrt(a.sum() * b.sum())), float(a.sum() * b.sum() / pool)


def index_lists(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> tuple[int, int]:
    """Return how many weights the released comparison calls shared, and how many of these both sets hold.

    It intersects places in two lists of weights, and takes the common places for weights: the first ones of the matrix,
    whatever the lists hold. Both sets are given by slab.
    """
    called = true = 0
    for first, second in zip(a, b, strict=True):
        places = np.intersect1d(np.arange(first.sum()), np.arange(second.sum()))
        called, true = called + len(places), true + int((first & second).ravel()[places].sum())
    return called, true


def same_size(weights: Float[np.ndarray, "row in"], mark: Bool[np.ndarray, "row in"], seed: int) -> Bool[np.ndarray, "row in"]:
    """Return as many other weights of nearly the same sizes, drawn at random: their norm is that of the marked."""
    size, taken = np.abs(weights).ravel(), mark.ravel()
    others = np.flatnonzero(~taken)
    others = others[np.argsort(size[others], kind="stable")]
    rng, count = np.random.default_rng(seed), int(taken.sum())
    places = np.searchsorted(size[others], np.sort(size[taken])) + rng.integers(-_NEAR, _NEAR + 1, count)
    order = np.arange(count)  # no weight twice: each place at least one behind the one before, and none behind the last
    places = np.maximum.accumulate(np.sort(np.maximum(places, 0)) - order) + order
    places = np.minimum(places, len(others) - count + order)
    marked = np.zeros(size.size, dtype=bool)
    marked[others[places]] = True
    return marked.reshape(weights.shape)


def zeroing(
    slabs: Sequence[Slab], marks: Sequence[Bool[np.ndarray, "_ _"]], preferred: Callable, groups: Sequence[str], draws: int
) -> dict[str, evaluation.Estimate]:
    """Return the mean change of preference (nats per token) when marked weights are set to 0, and when others as large are.

    `preferred` is of `heads.scorer`; the groups are those of its pairs. There are two draws of other weights at least.

    Returns:
        `zeroed shared`, with an interval by groups, and `zeroed random`, with the range of single draws (1.96 deviations).
    """
    plain = preferred()
    with zeroed(slabs, marks):
        shared = preferred() - plain
    drawn = []
    for seed in range(draws):
        others = [same_size(slab.weights.float().cpu().numpy(), mark, seed) for slab, mark in zip(slabs, marks, strict=True)]
        with zeroed(slabs, others):
            drawn.append(float((preferred() - plain).mean()))
    weights = evaluation.bootstrap_weights(groups, seed=0)
    return {"zeroed shared": evaluation.mean(shared, weights), "zeroed random": from_halves(np.mean(drawn), drawn, draws)}


@contextmanager
def zeroed(slabs: Sequence[Slab], marks: Sequence[Bool[np.ndarray, "_ _"]]) -> Iterator[None]:
    """Set the marked weights of each slab to 0, inside the `with` block only."""
    before = [slab.weights.clone() for slab in slabs]
    try:
        for slab, old, mark in zip(slabs, before, marks, strict=True):
            models.oriented(slab.linear).data[slab.rows] = old.masked_fill(torch.as_tensor(mark, device=old.device), 0)
        yield
    finally:
        for slab, old in zip(slabs, before, strict=True):
            models.oriented(slab.linear).data[slab.rows] = old
