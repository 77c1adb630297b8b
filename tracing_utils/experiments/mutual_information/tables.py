"""What the notebook keeps of every dimension: the rows of its table, and the half-samples behind nHSIC."""

from collections.abc import Mapping

import numpy as np

from ...statements.concepts import ConceptSet
from ..tables import Acts, Table
from . import estimates, kernels

__all__ = ["fill"]


def fill(
    table: Table, acts: Mapping[str, Acts], sets: Mapping[str, ConceptSet], used: Mapping[str, tuple[Acts, ConceptSet]]
) -> dict[str, np.ndarray]:
    """Add the rows of every dimension: nHSIC as released, the measures beside it, information in bits.

    All mappings are by dimension. What nHSIC and CKA are computed on is `used`.

    Returns:
        The half-samples behind nHSIC, by dimension and measure.
    """
    evidence, setting = {}, {"sigma": kernels.SIGMA, "epsilon": kernels.EPSILON}
    for name, (features, chosen) in used.items():
        measures = estimates.released(features, chosen)
        evidence |= {f"{name}/{key}": samples for key, samples in estimates.evidence(measures).items()}
        table.add(chosen, (row for measure in measures for row in measure.rows()), **setting)
    for features, chosen in used.values():
        table.add(chosen, (row for measure in estimates.readable(features, chosen) for row in measure.rows()))
    for name, chosen in sets.items():
        table.add(chosen, estimates.in_bits(acts[name], chosen))
    return evidence
