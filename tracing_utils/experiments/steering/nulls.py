"""The null of steering: what directions that mean nothing do to the same pairs, measured once for a target.

Rule: a null direction is made from the target's own activations and gets the dose of the vectors it is shown with. It does
not depend on the source of a vector, so it is kept in the cache folder and every source of a study reads it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import torch
from jaxtyping import Float, Int
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...core.evaluation import Estimate
from ...statements.concepts import ConceptSet
from ..cache import cached
from ..probing import controls
from . import DOSE, METHODS, PAIRS, TEXTS
from .intervention import Sweep, mean_difference, one_deviation

__all__ = ["Null", "directions", "measured", "p_values", "random_directions"]


@dataclass(frozen=True, eq=False)
class Null:
    """What null directions do to a target.

    Attributes:
        gain: by method, the mean change of preference over the pairs, in nats per token.
        cost: by method, the mean rise of the loss on neutral texts, in nats per token.
    """

    gain: dict[str, Float[np.ndarray, "direction layer"]]
    cost: dict[str, Float[np.ndarray, "direction layer"]]

    def against(self, gain: Float[np.ndarray, " pair"], place: int) -> Iterator[tuple[str, Estimate, dict[str, float]]]:
        """Yield, by method, by how much the pairs gain more than its directions do, with their 95 % range, and the `p_values`.

        `gain` is that of every test pair, by a vector at the dose of the null, at the layer of this place.
        """
        observed = float(gain[:PAIRS].mean())
        for method, drawn in self.gain.items():
            low, high = observed - np.quantile(drawn[:, place], [0.975, 0.025])
            chances = dict(zip(("p", "p_loss"), p_values(observed, drawn[:, place]), strict=True))
            yield method, Estimate(observed - float(drawn[:, place].mean()), float(low), float(high), len(drawn)), chances


def random_directions(
    features: Float[np.ndarray, "example d_model"], count: int, seed: int = 0
) -> Float[np.ndarray, "direction d_model"]:
    """Return draws of a normal variable with the covariance of the features.

    Activations are wide along a few axes; a direction drawn from a sphere would hardly touch these.
    """
    centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    return np.random.default_rng(seed).standard_normal((count, len(centred))) @ centred / np.sqrt(len(centred) - 1)


def directions(
    features: Float[np.ndarray, "example d_model"], concepts: ConceptSet, train: Int[np.ndarray, " train"], layer: int
) -> dict[str, Float[np.ndarray, "direction d_model"]]:
    """Return the null directions of each method at one layer, each one standard deviation long.

    They are made from the rows `train` of the target's activations. Each layer has random directions of its own.
    """
    rows, orders = features[train], (controls.shuffled_labels(concepts, seed) for seed in range(METHODS["shuffled labels"]))
    by_method = {
        "random direction": random_directions(rows, METHODS["random direction"], seed=layer),
        "shuffled labels": [mean_difference(rows, labels[train]) for labels in orders],
    }
    return {method: np.stack([one_deviation(vector, rows) for vector in vectors]) for method, vectors in by_method.items()}


def measured(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    acts: Float[np.ndarray, "example layer d_model"],
    concepts: ConceptSet,
    train: Int[np.ndarray, " train"],
    pairs: Int[np.ndarray, "pair 2"],
    layers: Sequence[int],
    neutral: Sequence[str],
    positions: str = "all",
) -> Null:
    """Return the null of a target on test pairs, from the cache folder if it was measured before.

    Directions are made from the rows `train` of the target's activations, and added at `positions` as in `Sweep`. The first
    `PAIRS` pairs and the first `TEXTS` neutral texts are asked.
    """
    pairs, neutral = pairs[:PAIRS], list(neutral[:TEXTS])

    def make() -> dict[str, np.ndarray]:
        sweep = Sweep(model, tokenizer, concepts, pairs, layers, neutral, positions)
        before, plain = sweep.unsteered()
        tables = {}
        for place, layer in enumerate(layers):
            for method, vectors in directions(acts[:, layer], concepts, train, layer).items():
                for number, vector in enumerate(vectors):
                    after, cost = sweep(layer, np.asarray(DOSE * vector, dtype=np.float32))
                    for what, value in (("gain", after - before), ("cost", cost.losses - plain.losses)):
                        table = tables.setdefault(f"{what}/{method}", np.empty((len(vectors), len(layers))))
                        table[number, place] = value.mean()
        return tables

    of = [concepts.sha256, train.tolist(), pairs.tolist(), [*layers], neutral, positions, METHODS, DOSE, torch.__version__]
    tables = cached("steering null", [*of, sha256(np.ascontiguousarray(acts).tobytes()).hexdigest()], make)
    return Null(*({method: tables[f"{what}/{method}"] for method in METHODS} for what in ("gain", "cost")))


def p_values(observed: float, null: Float[np.ndarray, " direction"]) -> tuple[float, float]:
    """Return the chance that a null direction gains as much, and that it loses as much: (1 + as many as do) / (1 + all).

    Source: Phipson and Smyth 2010, why the observed value counts among the draws.
    """
    return tuple(float((1 + count) / (1 + len(null))) for count in ((null >= observed).sum(), (null <= observed).sum()))
