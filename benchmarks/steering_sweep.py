"""Time a sweep over layers and multipliers against steering the whole model for each setting, in one run, as a ratio.

Usage: python -m benchmarks.steering_sweep [suite]
"""

import sys
import time

import numpy as np

from tracing_utils import concepts, likelihoods, models, steering, suites

MULTIPLIERS = (-4.0, -2.0, 2.0, 4.0)
REPEATS = 2


def main(suite: str = "pocket") -> None:
    """Print processor seconds of both ways, their ratio, and the largest difference between their results."""
    target = suites.load(suite).chat
    model, tokenizer = models.load_model(target, head=True), models.load_tokenizer(target)
    depth = len(models.blocks(model))
    layers = sorted({depth // 4, depth // 2, 3 * depth // 4, depth - 1})
    chosen = concepts.load("pocket", "privacy")
    pairs = likelihoods.held_out_pairs(chosen, concepts.folds(chosen, seed=0)[0].test[:60])
    neutral = likelihoods.neutral_text("privacy")
    rows, index = np.unique(pairs, return_inverse=True)
    statements = [chosen.statements[i] for i in rows]
    vector = np.random.default_rng(0).standard_normal(model.config.hidden_size).astype(np.float32)

    def naive() -> list[np.ndarray]:
        found = []
        for layer in layers:
            for multiplier in MULTIPLIERS:
                with steering.steer(model, vector, layer=layer, multiplier=multiplier):
                    nats, tokens = likelihoods.token_log_likelihoods(model, tokenizer, [*statements, *neutral])
                found.append(likelihoods.preference(nats, tokens, index.reshape(pairs.shape)))
        return found

    def swept() -> list[np.ndarray]:
        found = []
        for layer in layers:
            sweep = steering.Sweep(model, tokenizer, chosen, pairs, layer, neutral)
            found += [sweep(multiplier * vector)[0] for multiplier in MULTIPLIERS]
        return found

    seconds = {naive: [], swept: []}
    for _ in range(REPEATS):  # in turn, so that a busy machine slows both alike
        for way, spent in seconds.items():
            begun = time.process_time()
            way()
            spent.append(time.process_time() - begun)
    slow, fast = (min(spent) for spent in seconds.values())
    apart = max(np.abs(a - b).max() for a, b in zip(naive(), swept(), strict=True))
    print(f"{target.suite}: layers {layers}, {len(MULTIPLIERS)} multipliers, {len(statements) + len(neutral)} statements")
    print(
        f"naive {slow:.2f} s, sweep {fast:.2f} s, ratio {slow / fast:.2f}; results differ by {apart:.0e} nats per token at most"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
