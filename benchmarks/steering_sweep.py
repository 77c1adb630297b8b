"""Goal 5: a sweep over layers and multipliers against steering the whole model for each setting.

The naive way is what one writes first with transformers: the whole model, without a vector and then for every setting, on
batches of sixteen statements in the order of the file, padded and masked; the logits of all positions; `log_softmax`; the
targets gathered.

Usage: python -m benchmarks.steering_sweep [suite]
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from tracing_utils.checkpoints import models, suites
from tracing_utils.experiments.steering import intervention, likelihoods
from tracing_utils.statements import concepts

from .measure import Row, Timed, row

DIMENSION = "privacy"
MULTIPLIERS = (-4.0, -2.0, 2.0, 4.0)
REPEATS = 2
BATCH = 16


@dataclass(frozen=True)
class Ratio:
    """Processor seconds of both ways, the best of `REPEATS`, and by how many nats per token their results differ at most."""

    suite: str
    layers: tuple[int, ...]
    multipliers: int
    statements: int
    naive: float
    sweep: float
    apart: float


def per_token(model, tokenizer, statements) -> np.ndarray:
    """Return the mean log-likelihood per token of each statement, the plain way."""
    scores = []
    for start in range(0, len(statements), BATCH):
        batch = tokenizer(list(statements[start : start + BATCH]), return_tensors="pt", padding=True).to(model.device)
        ids, mask = batch["input_ids"], batch["attention_mask"][:, 1:]
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=batch["attention_mask"], use_cache=False).logits
        logp = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
        scores.append(((logp * mask).sum(1) / mask.sum(1)).cpu().numpy())
    return np.concatenate(scores)


class Ways(NamedTuple):
    """The two ways over the same settings, and what they are over."""

    layers: tuple[int, ...]
    statements: int
    naive: Callable[[], list[np.ndarray]]
    swept: Callable[[], list[np.ndarray]]


def prepared(suite: str = "pocket", asked: int = 120, multipliers: Sequence[float] = MULTIPLIERS) -> Ways:
    """Return both ways, their model loaded."""
    target = suites.load(suite).chat
    model, tokenizer = models.load_model(target, head=True), models.load_tokenizer(target)
    tokenizer.padding_side, tokenizer.pad_token_id = "right", tokenizer.pad_token_id or 0
    depth = len(models.blocks(model))
    layers = sorted({depth // 4, depth // 2, 3 * depth // 4, depth - 1})
    concept_set = concepts.load("pocket", DIMENSION)
    pairs = likelihoods.held_out_pairs(concept_set, concepts.folds(concept_set, seed=0)[0].test[:asked])
    neutral = likelihoods.neutral_text(DIMENSION)
    rows, index = np.unique(pairs, return_inverse=True)
    index = index.reshape(pairs.shape)
    statements = [concept_set.statements[i] for i in rows] + list(neutral)
    vector = np.random.default_rng(0).standard_normal(model.config.hidden_size).astype(np.float32)

    def scores() -> np.ndarray:
        score = per_token(model, tokenizer, statements)
        return np.concatenate([score[index[:, 0]] - score[index[:, 1]], -score[len(rows) :]])

    def naive() -> list[np.ndarray]:
        results = [scores()]
        for layer in layers:
            for multiplier in multipliers:
                with intervention.steer(model, vector, layer=layer, multiplier=multiplier):
                    results.append(scores())
        return results

    def swept() -> list[np.ndarray]:
        sweep = intervention.Sweep(model, tokenizer, concept_set, pairs, layers, neutral)
        response = intervention.dose_response(sweep, layers, np.stack([vector] * len(layers)), multipliers, sweep.unsteered())
        both = np.concatenate([response.after, response.losses], axis=2)
        return [np.concatenate([response.before, response.plain.losses]), *both.reshape(-1, both.shape[2])]

    return Ways(tuple(layers), len(statements), naive, swept)


def products(ways: Ways) -> float:
    """Return the multiplications in matrix products that ours needs, over those of the plain way."""
    counted = []
    for way in (ways.swept, ways.naive):
        with FlopCounterMode(display=False) as counter:
            way()
        counted.append(counter.get_total_flops())
    return counted[0] / counted[1]


def compare(suite: str = "pocket", asked: int = 120, repeats: int = REPEATS, multipliers: Sequence[float] = MULTIPLIERS) -> Ratio:
    """Run both ways in turn, so that a busy machine slows both alike."""
    ways = prepared(suite, asked, multipliers)
    seconds, results = {ways.naive: [], ways.swept: []}, {}
    for _ in range(repeats):
        for way, spent in seconds.items():
            begun = time.process_time()
            results[way] = way()
            spent.append(time.process_time() - begun)
    slow, fast = (min(spent) for spent in seconds.values())
    apart = max(float(np.abs(a - b).max()) for a, b in zip(*results.values(), strict=True))
    return Ratio(suite, ways.layers, len(multipliers), ways.statements, slow, fast, apart)


def goal(pairs: int = 5, asked: int = 120) -> list[Row]:
    """Return the rows of goal 5; the larger model is tried once, at one multiplier. Products are counted apart from the time."""
    rows = []
    few = MULTIPLIERS[:1]
    kinds = {"pocket": (pairs, asked, MULTIPLIERS), "smollm2-135m-instruct-wheel": (1, 40, few)}
    for suite, (times, most, multipliers) in kinds.items():
        ratios = [compare(suite, most, 1, multipliers) for _ in range(times)]
        done = [(Timed(one.sweep, one.apart), Timed(one.naive, 0.0)) for one in ratios]
        layers = ", ".join(map(str, ratios[0].layers))
        note = f"layers {layers}, {len(multipliers)} multipliers, {ratios[0].statements} statements"
        share = products(prepared(suite, most, multipliers))
        note += f"; ours does {share:.0%} of their matrix products; agreement: largest difference, nats per token"
        what, against = f"steering sweep, {suite}", "the whole model for every setting"
        rows.append(row(5, what, against, done, lambda a, b: a - b, target=5.0, tolerance=1e-3, note=note))
    return rows


def main(suite: str = "pocket") -> None:
    """Print both times, their ratio, and the largest difference between the results."""
    r = compare(suite)
    print(f"{r.suite}: layers {r.layers}, {r.multipliers} multipliers, {r.statements} statements")
    print(f"naive {r.naive:.2f} s, sweep {r.sweep:.2f} s, ratio {r.naive / r.sweep:.2f}")
    print(f"results differ by {r.apart:.0e} nats per token at most")


if __name__ == "__main__":
    main(*sys.argv[1:])
