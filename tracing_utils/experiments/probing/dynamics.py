"""Dynamics: when a direction is there, whether it is still the same later, and what was lost on the way.

Rule: checkpoints are compared on the same statements, drawn together, and no statement is judged by a direction that
was fitted on it. Everything is computed from the evidence files of a study's probing runs.

Public names: `compute`, `onset`, `transfer`, `SHARE`.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from safetensors.numpy import load_file

from ... import results
from ...checkpoints.suites import Checkpoint
from ...core import evaluation
from ...statements.concepts import ConceptSet, folds
from . import probes

SHARE = 0.5
"""Share of the final gain over the first checkpoint at which a dimension counts as learnt."""


def onset(
    steps: list[int], correct: Float[np.ndarray, "checkpoint example"], weights: Float[np.ndarray, "draw example"]
) -> evaluation.Estimate:
    """Return the first step at which `SHARE` of the final gain in accuracy over the first checkpoint is reached.

    Not a number where the interval of the final gain does not lie above 0: what did not rise has no onset. Every draw
    has an onset of its own; a draw without a gain has none and is left out.
    """
    gains = correct - correct[0]
    drawn = weights @ gains.T / weights.sum(1, keepdims=True)
    if not evaluation.interval(gains[-1].mean(), drawn[:, -1], correct.shape[1]).low > 0:
        return evaluation.Estimate(float("nan"), float("nan"), float("nan"), correct.shape[1])
    at = np.array(steps, dtype=float)
    reached = at[(drawn >= SHARE * drawn[:, -1:]).argmax(1)]
    first = at[(gains.mean(1) >= SHARE * gains[-1].mean()).argmax()]
    return evaluation.interval(first, reached[drawn[:, -1] > 0], correct.shape[1])


def transfer(
    middle: Float[np.ndarray, "checkpoint example d_model"], concepts: ConceptSet
) -> tuple[Bool[np.ndarray, "source target example"], Float[np.ndarray, "source fold d_model"]]:
    """Return whether the direction of each checkpoint tells each statement right at each other one, and the directions.

    A logistic probe is fitted at the source for each fold. At the target its direction stays as it is; the threshold is
    halfway between the two classes' means there, on the training part. So a direction that has turned round scores below
    one half, and one that no longer tells anything scores one half.
    """
    splits, count = folds(concepts, seed=0), len(middle)
    right = np.empty((count, count, len(concepts)), dtype=bool)
    directions = np.empty((count, len(splits), middle.shape[2]))
    for fold, split in enumerate(splits):
        for source in range(count):
            basis = probes.Basis(middle[source, split.train])
            valid = middle[source, split.validation], concepts.labels[split.validation, None]
            ((probe, _),) = probes.fit_chosen(basis, concepts.labels[split.train, None], *valid)
            directions[source, fold] = probe.weight / max(np.linalg.norm(probe.weight), 1e-300)
        labels = concepts.labels[split.train]
        for target in range(count):
            projected = middle[target] @ directions[:, fold].T
            train = projected[split.train]
            threshold = (train[labels == 1].mean(0) + train[labels == 0].mean(0)) / 2
            told = (projected[split.test] - threshold).T > 0
            right[:, target, split.test] = told == (concepts.labels[split.test] == 1)
    return right, directions


def compute(concepts: ConceptSet, evidence: dict[str, Path], checkpoints: list[Checkpoint]) -> list[dict]:
    """Return the rows of `dynamics.csv` for one concept set and dimension.

    Metrics: `change` (accuracy minus that of the first checkpoint, paired, with `p` corrected for the number of
    checkpoints), `onset_step`, `direction_cosine` (of every layer to the last checkpoint, and of the middle layer between
    all), `transfer_accuracy` (of the middle layer). Their method is `logistic`; `random direction` gives the range of a
    cosine by chance. One checkpoint alone has no dynamics: no rows.

    Args:
        concepts: the statements probed, after the study's cap.
        evidence: the file of each revision.
        checkpoints: those of the study; they are taken in the order of their steps.

    Raises:
        ValueError: if a file is missing or holds other statements.
    """
    checkpoints = sorted(checkpoints, key=lambda checkpoint: checkpoint.step)
    if len(checkpoints) < 2:
        return []
    files = [_read(concepts, evidence, checkpoint) for checkpoint in checkpoints]
    parts = (_changes, _last_cosines, _between)
    return [row for part in parts for row in part(concepts, files, checkpoints)]


def _read(concepts: ConceptSet, evidence: dict[str, Path], checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """Return the arrays of one revision and dimension."""
    path = evidence.get(checkpoint.revision)
    if path is None or not path.is_file():
        raise ValueError(
            f"Dynamics need the evidence of every checkpoint; that of {checkpoint.revision} is missing. Run probing."
        )
    prefix = f"{concepts.dimension}/"
    arrays = {key.removeprefix(prefix): array for key, array in load_file(path).items() if key.startswith(prefix)}
    if "selected" not in arrays or len(arrays["selected"]) != len(concepts):
        found = len(arrays["selected"]) if "selected" in arrays else "none"
        raise ValueError(
            f"{path} must hold {len(concepts)} statements of {concepts.dimension}; it holds {found}. Run probing again."
        )
    return {key: array.astype(np.float64) for key, array in arrays.items()}


def _changes(concepts: ConceptSet, files: list[dict], checkpoints: list[Checkpoint]) -> Iterator[dict]:
    """Yield the change against the first checkpoint and the onset, for every layer and for the selected one."""
    weights = evaluation.bootstrap_weights(concepts.groups, seed=0)
    layers = [*range(len(files[0]["correct"])), None]
    for layer in layers:
        correct = np.stack([file["selected"] if layer is None else file["correct"][layer] for file in files])
        changes = [evaluation.paired(row, correct[0], concepts.groups) for row in correct[1:]]
        corrected = evaluation.holm([change.p for change in changes])
        for checkpoint, change, p in zip(checkpoints[1:], changes, corrected, strict=True):
            yield results.row(checkpoint, concepts, layer, "logistic", "change", change, "") | {"p": p}
        found = onset([checkpoint.step for checkpoint in checkpoints], correct, weights)
        yield results.row(checkpoints[-1], concepts, layer, "logistic", "onset_step", found, "")


def _to(checkpoint: Checkpoint) -> dict:
    return {"to_revision": checkpoint.revision, "to_step": checkpoint.step}


def _last_cosines(concepts: ConceptSet, files: list[dict], checkpoints: list[Checkpoint]) -> Iterator[dict]:
    """Yield the cosine of each checkpoint's mean direction to the last one's, at every layer, and its range by chance."""
    units = [file["direction"] / np.linalg.norm(file["direction"], axis=1, keepdims=True) for file in files]
    chance = 1.96 / np.sqrt(units[0].shape[1])
    last, n = checkpoints[-1], len(concepts)
    by_chance = evaluation.Estimate(0.0, -chance, chance, n)
    yield results.row(last, concepts, None, "random direction", "direction_cosine", by_chance, "") | _to(last)
    for checkpoint, unit in zip(checkpoints, units, strict=True):
        for layer, cosine in enumerate((unit * units[-1]).sum(1)):
            estimate = evaluation.Estimate(*[float(cosine)] * 3, n)
            yield results.row(checkpoint, concepts, layer, "mean direction", "direction_cosine", estimate, "") | _to(last)


def _between(concepts: ConceptSet, files: list[dict], checkpoints: list[Checkpoint]) -> Iterator[dict]:
    """Yield cosine and transfer between all checkpoints, at the middle layer.

    A cosine is the mean over pairs of directions from different folds, with their range: on the diagonal it says how well
    the direction is known at all.
    """
    right, directions = transfer(np.stack([file["middle"] for file in files]), concepts)
    weights, n, layer = evaluation.bootstrap_weights(concepts.groups, seed=0), len(concepts), len(files[0]["correct"]) // 2
    apart = ~np.eye(directions.shape[1], dtype=bool)
    for i, source in enumerate(checkpoints):
        for j, target in enumerate(checkpoints):
            estimate = evaluation.mean(right[i, j].astype(float), weights)
            yield results.row(source, concepts, layer, "logistic", "transfer_accuracy", estimate, "0") | _to(target)
            cosines = (directions[i] @ directions[j].T)[apart]
            estimate = evaluation.interval(cosines.mean(), cosines, n)
            yield results.row(source, concepts, layer, "logistic", "direction_cosine", estimate, "0") | _to(target)


def summarise(study, folder: Path, out: Path) -> None:  # a `run.studies.Study`, which nothing here may import
    """Write the dynamics of a study's sets and dimensions, from the evidence that its runs of probing left in `folder`."""
    rows, revisions = [], study.traced()
    checkpoints = [study.loaded[revision] for revision in revisions]
    for name in study.sets:
        files = {revision: folder / name / "probing" / f"{revision}.safetensors" for revision in revisions}
        for dimension in study.dimensions_of(name):
            rows += compute(study.concept_set(name, dimension), files, checkpoints)
    results.write(rows, out)
