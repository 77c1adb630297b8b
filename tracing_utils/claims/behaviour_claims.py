"""Claims on what checkpoints do, beside what can be read from them; written before the tables they judge were made.

Rule: a model may come to prefer the untrustworthy side, and a reader would find it as well; so a curve of behaviour is taken
to rise in the direction in which it ends.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from . import measured
from .framework import Claim, Found, NotTestable, Part
from .measured import Measured

__all__ = ["CLAIMS"]

CHECKPOINTS = 1.0
"""Smallest relevant lead, in checkpoints of the study."""

CORRELATION = 0.3
"""Smallest relevant correlation of changes: a tenth of the variance."""

EQUIVALENT = 0.01
"""Accuracies that differ by less count as the same."""

SHARE = 0.02
"""Smallest relevant difference of shares of pairs."""

_ROUNDING = 1 / 6  # variance of two onsets that are each known to one checkpoint
_NOISE = 1.5  # changes of measured curves share a checkpoint's error with the next: so much fewer they are worth


def _curves(evidence: Measured) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the curves of behaviour and of the probe, by the number of the checkpoint; the first rises to its end."""
    behaviour = evidence.curve("likelihood", "preferred").reset_index(drop=True)
    if behaviour["value"].iloc[-1] < behaviour["value"].iloc[0]:
        value, low, high = (1 - behaviour[name] for name in ("value", "high", "low"))
        behaviour = behaviour.assign(value=value, low=low, high=high)
    return behaviour, evidence.beside("probing").curve("selected layer", "accuracy").reset_index(drop=True)


def preferred_before_read(evidence: Measured) -> Found:
    """The onset of the preference lies at least a checkpoint before that of the probe."""
    found = {}
    for name, curve in zip(("preference", "probe"), _curves(evidence), strict=True):
        found[name] = measured.onset(curve)
        if np.isnan(found[name][0]):
            raise NotTestable(f"the {name} has no onset")
    widths = [(high - low) / (2 * 1.96) for _, low, high in found.values()]
    lead = found["probe"][0] - found["preference"][0]
    error = float(np.sqrt(widths[0] ** 2 + widths[1] ** 2 + _ROUNDING))
    steps = {name: evidence.steps[int(at)] for name, (at, _, _) in found.items()}
    note = f"onset of the preference at step {steps['preference']}, of the probe at step {steps['probe']}"
    return Found([[Part("checkpoints of lead", lead, error, np.inf, len(evidence.steps), CHECKPOINTS)]], [[]], note)


def move_together(evidence: Measured) -> Found:
    """What the preference and the probe change by between checkpoints, beyond what time and its logarithm explain."""
    steps = evidence.steps.astype(float)
    count = len(steps) - 1
    free = (count - 2) / _NOISE - 3
    if free < 1:
        raise NotTestable("too few checkpoints to correlate changes beyond time")
    time = np.diff(np.column_stack([steps, np.log2(1 + steps)]), axis=0)
    known = np.column_stack([np.ones(count), time / time.std(0)])
    changes = np.diff(np.column_stack([curve["value"] for curve in _curves(evidence)]), axis=0)
    left = changes - known @ np.linalg.lstsq(known, changes, rcond=None)[0]
    if (left.std(0) < 1e-9).any():
        raise NotTestable("one of the curves does not change beyond time")
    z = np.arctanh(np.clip(np.corrcoef(left.T)[0, 1], -0.999, 0.999))
    part = Part("correlation of changes", float(z), free**-0.5, np.inf, count, float(np.arctanh(CORRELATION)), shown=np.tanh)
    return Found([[part]], [[]])


def logits_read_like_hidden_state(evidence: Measured) -> Found:
    """Two one-sided tests at the last checkpoint: the logits are neither better nor worse by `EQUIVALENT`."""
    row = evidence.curve("logits minus hidden state", "accuracy").iloc[-1]
    turned = row.copy()
    turned[["value", "low", "high"]] = -row[["value", "high", "low"]].to_numpy()
    sides = {"logits at most so much worse": row, "logits at most so much better": turned}
    return Found([[measured.against(name, side, -EQUIVALENT, 0.0) for name, side in sides.items()]], [[]])


def originality_beyond_likelihood(evidence: Measured) -> Found:
    """At the last checkpoint, over the same pairs."""
    row = evidence.curve("originality minus likelihood", "preferred").iloc[-1]
    return Found([[measured.against("originality minus likelihood", row, 0.0, SHARE)]], [[]])


_WORDS: dict[Callable, tuple[str, ...]] = {
    preferred_before_read: (
        "A checkpoint prefers one side before a probe can read the sides",
        "This book's own: in the designed world the told value is likely some thousand steps before narrators can be read",
        "checkpoints from the onset of the preferred share to the onset of the probe's accuracy (selected layer)",
        "above 0",
        f"a lead of {CHECKPOINTS:g} checkpoint: less is not seen",
    ),
    move_together: (
        "What can be read and what is preferred move together, beyond time",
        "The premise of reading behaviour off probes (Qian et al. 2024, section 3; Legend, Feng et al. 2024)",
        "correlation over checkpoints of the changes in preferred share and in probe accuracy, with the changes of step and of "
        "its logarithm taken out; the number of changes counts for two thirds",
        "above 0",
        f"a correlation of {CORRELATION:g}: a tenth of the variance",
    ),
    logits_read_like_hidden_state: (
        "The logits of the first token give a linear reader what the hidden state gives, and no more",
        "Zhao et al. 2024 read knowledge off the first token's logits and compare with hidden states",
        "held-out accuracy of a ridge probe of the logits minus that of the vector they are made from, last checkpoint",
        f"within {EQUIVALENT:g} either way, by two one-sided tests",
        "none: it lies within or it does not",
    ),
    originality_beyond_likelihood: (
        "Originality tells the sides of a pair better than the likelihood does",
        "SPOT (Yvinec and Kasser 2024) scores texts by originality",
        "share of crossed pairs ordered rightly by originality minus that by likelihood per token, last checkpoint",
        "above 0",
        f"a difference of {SHARE:g}: one pair in fifty",
    ),
}

CLAIMS: dict[str, Claim] = {test.__name__: Claim(test.__name__, (), test, False, "", *words) for test, words in _WORDS.items()}
"""By name."""
