"""What the notebook keeps of every dimension: the rows of its table, and the evidence of each statement."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from safetensors.numpy import save_file

from ...statements import concepts
from ...statements.concepts import ConceptSet
from ..tables import Acts, Table
from . import controls, floors, probes, side_effects

__all__ = ["fill", "probed", "save_evidence"]


def probed(acts: Acts, concepts: ConceptSet, seeds: int) -> probes.Traced:
    """Return the probes of every layer, and those of both controls, for each assignment of statements to folds."""
    shuffled = np.stack([controls.shuffled_labels(concepts, seed) for seed in range(seeds)])
    words = np.stack([controls.control_task(concepts, seed) for seed in range(seeds)])
    return probes.trace(acts, concepts, shuffled, words)


def fill(
    table: Table,
    acts: Mapping[str, Acts],
    sets: Mapping[str, ConceptSet],
    traced: Mapping[str, probes.Traced],
    protocols: Sequence[str],
    topical: tuple[str, int, Callable[[ConceptSet], Acts]],
    brief: bool = False,
) -> None:
    """Add the rows of every dimension: the probes, the paper's way, and the controls.

    Mappings are by dimension; `traced` is what `probed` returned, and empty without the corrected protocol. In `brief` the
    accuracy of the logistic probe, and what it must beat, are kept alone. For the topical fit, `topical` has the name of the
    set, the most statements (0: all), and what reads their activations.
    """
    for name, each in traced.items():
        table.add(sets[name], each.estimates(), _seeds(each))
    for name, one in sets.items() if "released" in protocols else ():
        table.add(one, probes.protocols(acts[name], one))
    for name, each in traced.items():
        floor = floors.of(each.concepts)
        for row in floor.estimates():
            table.add(each.concepts, [row], reader=floor.name if row[1] == "floor" else "")
        if not brief:
            _add_controls(table, acts[name], each)
    if brief:
        table.rows[:] = filter(_is_brief, table.rows)
        return
    source, most, read = topical
    if "fairness" in traced and source in concepts.TOPICAL:
        third, each = concepts.capped(concepts.topical(source), most), traced["fairness"]
        seeds = range(len(each.logits["logistic"]))
        table.add(sets["fairness"], side_effects.topical_fits(read(third), third, seeds), _seeds(each))


def _seeds(traced: probes.Traced) -> str:
    return f"0-{len(traced.logits['logistic']) - 1}"


def _is_brief(row: dict) -> bool:
    level = row["layer"] is None and row["method"] in ("selected layer", "shuffled labels", "floor", "lexical floor")
    return row["metric"] == "accuracy" and (level or row["method"] == "logistic")


def _add_controls(table: Table, acts: Acts, traced: probes.Traced) -> None:
    one, seeds, shuffled = traced.concepts, _seeds(traced), traced.labels["shuffled labels"]
    table.add(one, controls.selectivities(traced), seeds)
    table.add(one, controls.conditional_gains(acts, one))
    table.add(one, controls.compressions(acts, one, shuffled), seeds)
    table.add(one, side_effects.perturbation_effects(acts, one, range(len(shuffled))), seeds)


def save_evidence(traced: Mapping[str, probes.Traced], acts: Mapping[str, Acts], file: str, brief: bool = False) -> None:
    """Write which statements each probe and each reader of text tells right, for later tests; in brief without activations."""
    arrays = {}
    for name, each in traced.items():
        parts = each.evidence(acts[name]) | floors.of(each.concepts).evidence()
        arrays |= {f"{name}/{part}": array for part, array in parts.items() if not (brief and part == "middle")}
    save_file(arrays, file)
