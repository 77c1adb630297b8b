"""What the notebook keeps of every dimension: the rows of its table, and the evidence of each statement."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from safetensors.numpy import save_file

from ...statements import concepts
from ...statements.concepts import ConceptSet
from ..tables import Acts, Table
from . import controls, floors, probes, side_effects

__all__ = ["fill", "probed", "save_evidence"]


def probed(acts: Acts, chosen: ConceptSet, seeds: int) -> probes.Traced:
    """Return the probes of every layer, and those of both controls, for each assignment of statements to folds."""
    shuffled = np.stack([controls.shuffled_labels(chosen, seed) for seed in range(seeds)])
    words = np.stack([controls.control_task(chosen, seed) for seed in range(seeds)])
    return probes.trace(acts, chosen, shuffled, words)


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

    Args:
        table: gets the rows.
        acts: activations, by dimension.
        sets: statements, by dimension.
        traced: what `probed` returned, by dimension; empty without the corrected protocol.
        protocols: `corrected`, `released` or both.
        topical: name of the set, most statements (0: all), and what reads their activations, for the topical fit.
        brief: keep the accuracy of the logistic probe, and what it must beat, alone.
    """
    for name, found in traced.items():
        table.add(sets[name], found.estimates(), _seeds(found))
    for name, chosen in sets.items() if "released" in protocols else ():
        table.add(chosen, probes.protocols(acts[name], chosen))
    for name, found in traced.items():
        _add_floors(table, found.concepts)
        if not brief:
            _add_controls(table, acts[name], found)
    if brief:
        table.rows[:] = filter(_is_brief, table.rows)
        return
    source, most, read = topical
    if "fairness" in traced and source in concepts.TOPICAL:
        third, found = concepts.capped(concepts.topical(source), most), traced["fairness"]
        seeds = range(len(found.logits["logistic"]))
        table.add(sets["fairness"], side_effects.topical_fits(read(third), third, seeds), _seeds(found))


def _seeds(found: probes.Traced) -> str:
    return f"0-{len(found.logits['logistic']) - 1}"


def _is_brief(row: dict) -> bool:
    level = row["layer"] is None and row["method"] in ("selected layer", "shuffled labels", "floor", "lexical floor")
    return row["metric"] == "accuracy" and (level or row["method"] == "logistic")


def _add_floors(table: Table, chosen: ConceptSet) -> None:
    floor = floors.read(chosen)
    for row in floor.estimates():
        table.add(chosen, [row], reader=floor.name if row[1] == "floor" else "")


def _add_controls(table: Table, acts: Acts, found: probes.Traced) -> None:
    chosen, seeds, shuffled = found.concepts, _seeds(found), found.labels["shuffled labels"]
    table.add(chosen, controls.selectivities(found), seeds)
    table.add(chosen, controls.conditional_gains(acts, chosen))
    table.add(chosen, controls.compressions(acts, chosen, shuffled), seeds)
    table.add(chosen, side_effects.perturbation_effects(acts, chosen, range(len(shuffled))), seeds)


def save_evidence(traced: Mapping[str, probes.Traced], acts: Mapping[str, Acts], file: str, brief: bool = False) -> None:
    """Write which statements each probe and each reader of text tells right, for later tests; in brief without activations."""
    kept = {}
    for name, found in traced.items():
        parts = found.evidence(acts[name]) | floors.read(found.concepts).evidence()
        kept |= {f"{name}/{part}": array for part, array in parts.items() if not (brief and part == "middle")}
    save_file(kept, file)
