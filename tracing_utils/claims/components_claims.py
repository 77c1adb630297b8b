"""What two systems say about parts of a model, as claims on the table of `components`: heads to push, weights that are shared."""

from . import framework, measured
from .framework import Claim, Found
from .measured import Measured
from .paper_claims import ACCURACY, NATS

__all__ = ["CLAIMS", "SHARE"]

SHARE = 0.05
"""Smallest relevant part of what two halves of one dimension's statements share: what such halves themselves move by."""


def _last(read: Measured, *rows: tuple[str, str]) -> list:
    """Return the rows (method, metric) of the last checkpoint that no layer has."""
    return [read.curve(*row).iloc[-1] for row in rows]


def _found(read: Measured, *parts: framework.Part) -> Found:
    return Found([list(parts)], [[(float(read.steps[-1]), float(read.steps[-1]))]])


def _heads_hold_it(read: Measured) -> Found:
    head, over = _last(read, ("best head", "accuracy"), ("best head", "over_projection"))
    told = measured.against("best head minus chance", head, 0.5, ACCURACY)
    return _found(read, told, measured.against("best head minus best random projection", over, 0.0, ACCURACY))


def _pushing_heads(read: Measured) -> Found:
    top, others = _last(read, ("top heads", "gain"), ("random heads", "gain"))
    gained = measured.against("gain by the top heads", top, 0.0, NATS)
    return _found(read, gained, measured.against("top heads minus random heads", top, others, NATS))


def _weights_are_shared(read: Measured) -> Found:
    shared, chance = _last(read, ("shared", "overlap"), ("chance", "overlap"))
    learnt = read.curve("shared", "share_of_halves")
    above = measured.against("shared minus chance", shared, chance, SHARE)
    return _found(read, above, measured.against("last minus untrained", learnt.iloc[-1], learnt.iloc[0], SHARE))


def _zeroing_lifts(read: Measured) -> Found:
    shared, others = _last(read, ("zeroed shared", "gain"), ("zeroed random", "gain"))
    gained = measured.against("gain by zeroing shared weights", shared, 0.0, NATS)
    return _found(read, gained, measured.against("shared minus random weights", shared, others, NATS))


CLAIMS: dict[str, Claim] = {
    "heads_hold_it": Claim(
        "heads_hold_it", (), _heads_hold_it, False, "",
        title="Single heads tell the two sides apart, better than as many numbers that mix all heads.",
        paper="Inference-time intervention (Li et al. 2023) and 2410.18819: few heads tell, and they are the place.",
        statistic=(
            "at the last checkpoint: accuracy of the head chosen on validation parts, minus one half, and minus that of the best "
            "random projection"
        ),
        threshold="both above 0",
        relevant=f"{ACCURACY}",
    ),
    "pushing_heads": Claim(
        "pushing_heads", (), _pushing_heads, False, "",
        title="Pushing the heads that tell best makes the model prefer the trustworthy side, more than pushing others as far.",
        paper="Inference-time intervention (Li et al. 2023): shifting the top heads makes answers truthful.",
        statistic=(
            "at the last checkpoint: change of preference (nats per token) by the top tenth of heads, and its distance to "
            "that by random heads"
        ),
        threshold="both above 0",
        relevant=f"{NATS} nats per token",
    ),
    "weights_are_shared": Claim(
        "weights_are_shared", (), _weights_are_shared, True, "",
        title="Training makes two dimensions share weights that matter to both and not to general text.",
        paper="DEAN (2410.16672): neurons of fairness and of privacy are coupled in tuned models.",
        statistic=(
            "at the last checkpoint: overlap minus that by chance; and overlap above chance as a part of what two halves of one "
            "dimension share, minus the same of the untrained model"
        ),
        threshold="both above 0",
        relevant=f"{SHARE}",
    ),
    "zeroing_lifts": Claim(
        "zeroing_lifts", (), _zeroing_lifts, False, "",
        title="Zeroing the shared weights raises the preference for the trustworthy side, more than zeroing others as large.",
        paper="DEAN (2410.16672): without the coupled neurons both fairness and privacy rise.",
        statistic=(
            "at the last checkpoint: change of preference (nats per token) by zeroing shared weights, and its distance to "
            "that by random weights of the same norm"
        ),
        threshold="both above 0",
        relevant=f"{NATS} nats per token",
    ),
}  # fmt: skip
"""The claims by name.

:meta hide-value:
"""
