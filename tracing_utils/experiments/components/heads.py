"""Attention heads: what each can tell, whether it is more than a random subspace, and what pushing the best ones does.

Rule: a head is a slice of the *input* of the map out of attention. That map mixes all heads, so slices of its output, which the
released introspection code calls heads, are none.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import stats
from transformers import PreTrainedModel

from ...checkpoints import activations, models
from ...core import evaluation
from ...statements.concepts import ConceptSet, Split, folds, subset, tested
from ..intervals import fisher, from_halves
from ..probing import controls, probes
from ..steering import intervention, likelihoods

__all__ = [
    "KINDS", "SHARE", "Probed", "best", "directions", "estimates", "gains", "outputs", "push", "replication", "scorer", "top",
    "units",
]  # fmt: skip

KINDS = ("head", "slice", "random projection")
"""What is probed: heads, and two things that are as wide and as many and are no heads."""

SHARE = 0.1
"""The share of all heads that is pushed, at least one."""


def outputs(
    model: PreTrainedModel, ids: Sequence[Sequence[int]]
) -> tuple[Float[np.ndarray, "example layer head width"], Float[np.ndarray, "example layer d_model"]]:
    """Return the output of every head at the last token of each text, and that of attention as a whole."""
    maps, heads = models.attention_maps(model)
    inside, outside = [], []
    row = last = torch.empty(0)

    def gather(_module, inputs, output) -> None:
        inside.append(inputs[0][row, last].float().cpu().numpy())
        outside.append(output[row, last].float().cpu().numpy())

    into, out = None, None
    with ExitStack() as stack, torch.inference_mode():
        for each in maps:
            stack.callback(each.register_forward_hook(gather).remove)
        lengths = [len(text) for text in ids]
        for rows in activations.batches(lengths, activations.BUDGET[model.device.type]):
            padded = torch.tensor(activations.padded([ids[i] for i in rows]), device=model.device)
            row, last = torch.arange(len(rows)), torch.tensor([lengths[i] - 1 for i in rows])
            inside.clear(), outside.clear()
            models.decoder(model)(input_ids=padded, use_cache=False)
            if into is None:
                into, out = (np.empty((len(ids), *np.stack(part, 1).shape[1:]), np.float32) for part in (inside, outside))
            into[rows], out[rows] = np.stack(inside, 1), np.stack(outside, 1)
    return into.reshape(*into.shape[:2], heads, -1), out


def units(
    inside: Float[np.ndarray, "example layer head width"], outside: Float[np.ndarray, "example layer d_model"]
) -> dict[str, Float[np.ndarray, "example layer unit other"]]:
    """Return heads, slices of attention's output and random projections of all heads together: of each kind as many.

    The projections, as wide as a head, are the same at every checkpoint. Slices are as wide as the output allows.
    """
    n, layers, heads, width = inside.shape
    joined, rng = inside.reshape(n, layers, -1), np.random.default_rng(0)
    drawn = np.empty_like(joined)
    for layer in range(layers):
        drawn[:, layer] = joined[:, layer] @ rng.standard_normal((heads * width, heads * width)).astype(np.float32)
    slices = outside[..., : heads * (outside.shape[2] // heads)]
    return dict(zip(KINDS, (inside, slices.reshape(n, layers, heads, -1), drawn.reshape(inside.shape)), strict=True))


@dataclass(frozen=True)
class Probed:
    """What a probe of each unit says of statements whose groups it did not see.

    Attributes:
        correct: whether the statement is told right.
        losses: of each fold's validation part, squared error.
    """

    correct: Float[np.ndarray, "unit example"]
    losses: Float[np.ndarray, "unit fold"]

    @classmethod
    def of(
        cls,
        features: Float[np.ndarray, "example layer unit width"],
        concepts: ConceptSet,
        labels: Int[np.ndarray, " example"] | None = None,
    ) -> "Probed":
        """Probe every unit by ridge regression, all together; its penalty is chosen on the validation part.

        The result counts the units of one layer after those of another. Other `labels` than the set's own are for a control.

        Source: the ridge probe of `probes.METHODS`, with the labels as -1 and 1 and the threshold at 0.
        """
        flat = features.reshape(len(features), -1, features.shape[3]).swapaxes(0, 1).astype(np.float64)
        signs = 2.0 * (concepts.labels if labels is None else labels) - 1
        correct, losses = np.empty(flat.shape[:2]), []
        for split in folds(concepts, 0):
            scores, errors = _ridge(flat, signs, split)
            correct[:, split.test] = (scores > 0) == (signs[split.test] > 0)
            losses.append(errors)
        return cls(correct, np.stack(losses, 1))


def _ridge(features: np.ndarray, signs: np.ndarray, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Return each unit's scores on the test part, and its error on the validation part, which chooses the penalty."""
    train, others, count = split.train, np.concatenate([split.validation, split.test]), len(split.validation)
    centre, spread = features[:, train].mean(1, keepdims=True), features[:, train].std(1, keepdims=True)
    scaled = (features - centre) / np.where(spread > 1e-12, spread, 1)
    squares, axes = np.linalg.eigh(scaled[:, train].swapaxes(1, 2) @ scaled[:, train])
    level = signs[train].mean()
    pull = axes.swapaxes(1, 2) @ (scaled[:, train].swapaxes(1, 2) @ (signs[train] - level))[..., None]
    weights = axes @ (pull / (np.maximum(squares, 0)[..., None] + np.array(probes.STRENGTHS)))
    scores = scaled[:, others] @ weights + level
    errors = ((scores[:, :count] - signs[split.validation, None]) ** 2).mean(1)
    penalty = errors.argmin(1)[:, None]
    return np.take_along_axis(scores[:, count:], penalty[:, None], 2)[..., 0], np.take_along_axis(errors, penalty, 1)[:, 0]


def best(probed: Probed, concepts: ConceptSet) -> Float[np.ndarray, " example"]:
    """Return whether each statement is told right by the unit that did best on its fold's validation part."""
    unit = probed.losses.argmin(0)[tested(concepts, 0)]
    return probed.correct[unit, np.arange(len(concepts))]


def estimates(
    features: Mapping[str, Float[np.ndarray, "example layer unit other"]], concepts: ConceptSet
) -> Iterator[tuple[int | None, int | None, str, str, evaluation.Estimate]]:
    """Yield (layer, unit, method, metric, estimate): every unit's accuracy, the best one's, replication, and paired differences.

    The features are those of the units by kind (`units`).
    """
    weights, right = evaluation.bootstrap_weights(concepts.groups, seed=0), {}
    for kind, each in features.items():
        probed = Probed.of(each, concepts)
        for unit, correct in enumerate(probed.correct):
            yield *divmod(unit, each.shape[2]), kind, "accuracy", evaluation.mean(correct, weights)
        right[f"best {kind}"] = best(probed, concepts)
        if len(set(concepts.groups)) >= 10:  # a half needs five, one a fold
            correlation = replication(each, concepts)
            if not np.isnan(correlation.value):  # units of one accuracy have no order
                yield None, None, kind, "replication", correlation
    shuffled = Probed.of(features["head"], concepts, controls.shuffled_labels(concepts, 0))
    right["best head, shuffled labels"] = best(shuffled, concepts)
    for method, correct in right.items():
        yield None, None, method, "accuracy", evaluation.mean(correct, weights)
    for method, metric in (("best random projection", "over_projection"), ("best slice", "over_slice")):
        yield None, None, "best head", metric, evaluation.paired(right["best head"], right[method], concepts.groups)


def replication(features: Float[np.ndarray, "example layer unit width"], concepts: ConceptSet) -> evaluation.Estimate:
    """Return the rank correlation over units of their accuracies in two halves of the groups, each probed for itself.

    The interval is Fisher's over units, as if these were independent; `n` counts them.
    """
    names = np.random.default_rng(0).permutation(sorted(set(concepts.groups)))
    inside = np.isin(concepts.groups, names[: len(names) // 2])
    halves = [np.flatnonzero(side) for side in (inside, ~inside)]
    accuracies = [Probed.of(features[rows], subset(concepts, rows)).correct.mean(1) for rows in halves]
    return fisher(float(stats.spearmanr(*accuracies).statistic), len(accuracies[0]))


def top(losses: Float[np.ndarray, " unit"]) -> Int[np.ndarray, " top"]:
    """Return the share `SHARE` of the units that has the smallest losses, at least one."""
    return np.argsort(losses, kind="stable")[: max(1, round(SHARE * len(losses)))]


def directions(
    inside: Float[np.ndarray, "example layer head width"], labels: Int[np.ndarray, " example"]
) -> Float[np.ndarray, "unit width"]:
    """Return each head's difference of means, one standard deviation of its projections long."""
    flat = inside.reshape(len(inside), -1, inside.shape[3]).astype(np.float64)
    heads = np.moveaxis(flat, 1, 0)
    return np.stack([intervention.one_deviation(intervention.mean_difference(head, labels), head) for head in heads])


@contextmanager
def push(model: PreTrainedModel, vectors: Mapping[int, Float[np.ndarray, " width"]]) -> Iterator[PreTrainedModel]:
    """Add a vector to the output of each of some heads, at every token, inside the `with` block only.

    Vectors are by head, counted through the layers.

    Source: inference-time intervention (Li et al. 2023), equation 2.
    """
    maps, heads = models.attention_maps(model)
    shifts: dict[int, torch.Tensor] = {}
    for unit, vector in vectors.items():
        layer, head = divmod(unit, heads)
        shift = shifts.setdefault(layer, torch.zeros(models.oriented(maps[layer]).shape[1]))
        shift[head * len(vector) : (head + 1) * len(vector)] = torch.as_tensor(vector)
    with ExitStack() as stack:
        for layer, shift in shifts.items():
            moved = shift.to(model.device, model.dtype)
            hook = maps[layer].register_forward_pre_hook(lambda _module, inputs, moved=moved: (inputs[0] + moved, *inputs[1:]))
            stack.callback(hook.remove)
        yield model


def gains(
    model: PreTrainedModel,
    ids: Sequence[Sequence[int]],
    concepts: ConceptSet,
    inside: Float[np.ndarray, "example layer head width"],
    probed: Probed,
    alpha: float,
    rounds: int,
    draws: int,
) -> dict[str, evaluation.Estimate]:
    """Return the mean change of preference inside held-out pairs (nats per token) when heads are pushed.

    In each round a fold is tested; the directions come from its training part and the heads from its validation part. They are
    pushed `alpha` standard deviations. A round has `draws` random sets of heads, and as many of directions; two at least.

    Returns:
        `top heads`, with an interval by groups; `random heads` (others, along directions of their own) and `random
        directions` (at the top heads), of the same norms, with the range of single draws (1.96 standard deviations).
    """
    rng, pushed, groups = np.random.default_rng(0), [], []
    drawn: dict[str, list[float]] = {"random heads": [], "random directions": []}
    for fold, split in enumerate(folds(concepts, 0)[:rounds]):
        pairs = likelihoods.held_out_pairs(concepts, split.test)
        preferred = scorer(model, ids, split.test, pairs)

        def score(units: np.ndarray, vectors: np.ndarray, preferred=preferred) -> np.ndarray:
            with push(model, dict(zip(units.tolist(), vectors, strict=True))):
                return preferred()

        along, strongest = alpha * directions(inside[split.train], concepts.labels[split.train]), top(probed.losses[:, fold])
        norms, others = np.linalg.norm(along[strongest], axis=1), np.setdiff1d(np.arange(len(along)), strongest)
        plain = preferred()
        pushed.append(score(strongest, along[strongest]) - plain)
        for _ in range(draws):
            heads = rng.permutation(others)[: len(strongest)]  # a tenth are the strongest, so there are enough others
            turned = rng.standard_normal(along[strongest].shape)
            for name, units, vectors in (("random heads", heads, along[heads]), ("random directions", strongest, turned)):
                scaled = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) * norms[:, None]
                drawn[name].append(float((score(units, scaled) - plain).mean()))
        groups += [concepts.groups[i] for i in pairs[:, 0]]
    weights = evaluation.bootstrap_weights(groups, seed=0)
    ranges = {name: from_halves(np.mean(each), each, len(each)) for name, each in drawn.items()}
    return {"top heads": evaluation.mean(np.concatenate(pushed), weights)} | ranges


def scorer(
    model: PreTrainedModel, ids: Sequence[Sequence[int]], rows: Int[np.ndarray, " row"], pairs: Int[np.ndarray, "pair 2"]
) -> Callable[[], Float[np.ndarray, " pair"]]:
    """Return a function that gives the preference of the model, as it is then, in pairs among `rows` (nats per token)."""
    forest = likelihoods.Forest(model, [ids[i] for i in rows], [1] * len(rows))
    nats, tokens = np.full(len(ids), np.nan), np.array([len(text) - 1 for text in ids])

    def preferred() -> np.ndarray:
        nats[rows] = forest.nats(lambda batch, _: model(**batch.inputs, use_cache=False).logits)
        return likelihoods.preference(nats, tokens, pairs)

    return preferred
