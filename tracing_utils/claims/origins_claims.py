"""Claims on where a direction comes from and on what is forgotten; written before the runs they judge were looked at."""

from . import measured
from .framework import Claim, Found, NotTestable
from .measured import Measured

__all__ = ["CLAIMS"]

ACCURACY = 0.05
"""Smallest relevant difference of accuracies between runs: what seeds of the world differ by at one checkpoint."""

HITS = 0.1
"""Smallest relevant share of keys that are forgotten."""


def _relatives(evidence: Measured, metric: str) -> dict[str, "measured.pd.Series"]:
    """Return the last checkpoint's row of each relative at the last layer."""
    rows = evidence.rows[(evidence.rows["metric"] == metric) & (evidence.rows["step"] == evidence.steps[-1])]
    rows = rows[rows["layer"] == rows["layer"].max()]
    return {row["method"]: row for _, row in rows.iterrows()}


def _both(evidence: Measured, metric: str, *names: str) -> list:
    found = _relatives(evidence, metric)
    if missing := [name for name in names if name not in found]:
        raise NotTestable(f"no model that is {missing[0]} was compared")
    return [found[name] for name in names]


def own_start_is_closer(evidence: Measured) -> Found:
    """The same start under other data, against another start under the same data; words, which both models must read."""
    start, seed = _both(evidence, "word_transfer", "same start", "other seed")
    return Found([[measured.against("same start minus other seed", start, seed, ACCURACY)]], [[]])


def other_seed_is_rotated(evidence: Measured) -> Found:
    """A probe of trust travels to another seed once the two are aligned, and less well before."""
    (plain,), (turned,) = (_both(evidence, metric, "other seed") for metric in ("transfer", "aligned_transfer"))
    parts = [
        measured.against("aligned minus one half", turned, 0.5, ACCURACY),
        measured.against("aligned minus as it is", turned, plain, ACCURACY),
    ]
    return Found([parts], [[]])


def _since(evidence: Measured, metric: str, layer: int | None) -> list:
    """Return by how much dropped keys fell from the first checkpoint to the last, and that beyond kept keys."""
    if len(evidence.steps) < 2:
        raise NotTestable("fewer than two checkpoints")
    kept, dropped = (evidence.curve(kind, metric, layer) for kind in ("kept", "dropped"))
    fallen = measured.against("fall of dropped keys", dropped.iloc[0], dropped.iloc[-1], HITS)
    return [fallen, measured.against("kept minus dropped in the end", kept.iloc[-1], dropped.iloc[-1], HITS)]


def dropped_keys_are_forgotten(evidence: Measured) -> Found:
    """From the switch on: the told value is the likeliest word less often, and less often than for keys still told."""
    return Found([_since(evidence, "hit_rate", None)], [[]])


def what_is_forgotten_is_not_read(evidence: Measured) -> Found:
    """The same for a probe that was fitted on kept keys."""
    layer = int(evidence.rows.loc[evidence.rows["metric"] == "read", "layer"].max())
    return Found([_since(evidence, "read", layer)], [[]])


_SOURCES = {
    own_start_is_closer: (
        "A model reads its twin of the same start better than a model of another seed",
        "EasyDetector (Zhang et al. 2024): a probe that transfers tells that two models have one origin",
        "accuracy of this model's probe for words on the twin trained on other data from the same start, minus that on "
        "another seed trained on the same kind of data",
        f"{ACCURACY:g} of accuracy: what two seeds differ by at a checkpoint",
    ),
    other_seed_is_rotated: (
        "Another seed holds the same concept, turned",
        "The transfer matrix of EasyDetector, with the alignment as its control",
        "accuracy on another seed after alignment without labels, minus one half, and minus that without alignment",
        f"{ACCURACY:g} of accuracy: what two seeds differ by at a checkpoint",
    ),
    dropped_keys_are_forgotten: (
        "Keys that are told no more are forgotten",
        "Liao et al. 2024: entity memory fades during pre-training once its texts stop",
        "share of dropped keys whose told value is the likeliest word: at the switch minus at the end; and kept minus dropped "
        "keys at the end",
        f"{HITS:g} of the keys: one in ten",
    ),
    what_is_forgotten_is_not_read: (
        "What is forgotten cannot be read either",
        "This book's own: knowing and being readable, backwards",
        "accuracy on dropped keys of a probe fitted on kept ones: at the switch minus at the end; and kept minus dropped keys "
        "at the end",
        f"{HITS:g} of accuracy: one statement in ten",
    ),
}

CLAIMS: dict[str, Claim] = {
    test.__name__: Claim(test.__name__, (), test, False, "", title, paper, statistic, "all above 0", relevant)
    for test, (title, paper, statistic, relevant) in _SOURCES.items()
}
"""By name."""
