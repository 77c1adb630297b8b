"""Intervals that several experiments need."""

from collections.abc import Sequence

import numpy as np

from ..core.evaluation import Estimate

__all__ = ["fisher", "from_halves"]


def fisher(correlation: float, n: int) -> Estimate:
    """Return a correlation over `n` things with Fisher's 95 % interval, which takes them for independent."""
    reach = 1.96 / np.sqrt(max(n - 3, 1))
    low, high = np.tanh(np.arctanh(np.clip(correlation, -0.999, 0.999)) + np.array([-reach, reach]))
    return Estimate(correlation, float(min(low, correlation)), float(max(high, correlation)), n)


def from_halves(value: float, halves: Sequence[float], n: int) -> Estimate:
    """Return `value` with a 95 % interval from the spread of its values at random half-samples.

    That spread estimates the standard error at full size (delete-half jackknife, Shao and Tu 1995). A bootstrap would
    not do: repeated rows raise a kernel statistic and are nearest neighbours.
    """
    error = 1.96 * float(np.std(halves, ddof=1))
    return Estimate(float(value), float(value - error), float(value + error), n)
