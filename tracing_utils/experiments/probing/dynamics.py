"""Dynamics: when a direction is there, whether it is still the same later, and what was lost on the way.

Rule: checkpoints are compared on the same statements, drawn together, and no statement is judged by a direction that
was fitted on it. Everything is computed from the evidence files of a study's probing runs.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from safetensors.numpy import load_file

from ... import results
from ...checkpoints.types import Checkpoint
from ...core import evaluation
from ...statements.concepts import ConceptSet, folds
from . import controls, probes

__all__ = ["DRAWS", "SHARE", "compute", "cosines", "onset", "summarise", "transfer"]

DRAWS = 20
"""Rows of permuted labels behind the null of a cosine."""

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
) -> Bool[np.ndarray, "source target example"]:
    """Return whether the direction of each checkpoint tells each statement right at each other one.

    A logistic probe is fitted at the source for each fold. At the target its direction stays as it is; the threshold is
    halfway between the two classes' means there, on the training part. So a direction that has turned round scores below
    one half, and one that no longer tells anything scores one half.
    """
    count = len(middle)
    right = np.empty((count, count, len(concepts)), dtype=bool)
    for split in folds(concepts, seed=0):
        labels = concepts.labels[split.train]
        fitted = [_directions(acts, concepts.labels[None], split.train, split.validation)[0] for acts in middle]
        for target in range(count):
            projected = middle[target] @ np.stack(fitted).T
            train = projected[split.train]
            threshold = (train[labels == 1].mean(0) + train[labels == 0].mean(0)) / 2
            positive = (projected[split.test] - threshold).T > 0
            right[:, target, split.test] = positive == (concepts.labels[split.test] == 1)
    return right


def _directions(
    features: Float[np.ndarray, "example d_model"],
    tasks: Int[np.ndarray, "task example"],
    train: Int[np.ndarray, " train"],
    validation: Int[np.ndarray, " validation"],
) -> Float[np.ndarray, "task d_model"]:
    """Return the unit vector of a logistic probe for each row of labels."""
    fitted = probes.fit_chosen(probes.Basis(features[train]), tasks.T[train], features[validation], tasks.T[validation])
    weights = np.stack([probe.weight for probe, _ in fitted])
    return weights / np.maximum(np.linalg.norm(weights, axis=1, keepdims=True), 1e-300)


def cosines(
    middle: Float[np.ndarray, "checkpoint example d_model"], concepts: ConceptSet, draws: int = DRAWS
) -> tuple[Float[np.ndarray, "source target halving"], Float[np.ndarray, "source target draw"]]:
    """Return cosines of directions that were fitted on disjoint halves of the groups, and the same for permuted labels.

    Of the five folds, two train one half, two the other, and the last chooses both penalties; each fold is that last one
    once. A direction of one half is compared with those of the other half alone: shared statements would make two
    directions alike where there is nothing to read, and so does the shape of the activations, which the null has too.

    Returns:
        A cosine for each of the halvings, and the mean over them for each draw of permuted labels.
    """
    tasks = np.stack([concepts.labels, *(controls.shuffled_labels(concepts, seed) for seed in range(draws))])
    parts = [split.test for split in folds(concepts, seed=0)]
    halvings = []
    for last in range(5):
        a, b, c, d, validation = (parts[(last + 1 + i) % 5] for i in range(5))
        first, second = (
            np.stack([_directions(acts, tasks, np.concatenate(half), validation) for acts in middle]) for half in ((a, b), (c, d))
        )
        one_way = np.einsum("itd,jtd->tij", first, second)
        halvings.append((one_way + one_way.swapaxes(1, 2)) / 2)
    every = np.stack(halvings)
    return np.moveaxis(every[:, 0], 0, -1), np.moveaxis(every[:, 1:].mean(0), 0, -1)


def compute(concepts: ConceptSet, evidence: dict[str, Path], checkpoints: list[Checkpoint]) -> list[dict]:
    """Return the rows of `dynamics.csv` for one concept set and dimension.

    Metrics: `change` (accuracy minus that of the first checkpoint, paired, the refit counted, with `p` corrected for the number
    of checkpoints), `onset_step`, `direction_cosine` and `transfer_accuracy` (of the middle layer, between all checkpoints).
    Their method is `logistic`; `permuted labels` gives the cosines of directions that read nothing. One checkpoint alone
    has no dynamics: no rows. Evidence without activations (`probing: {brief: true}`) has nothing between checkpoints.

    The statements are those probed, after the study's cap; `evidence` has the file of each revision.

    Raises:
        ValueError: if a file is missing or holds other statements.
    """
    checkpoints = sorted(checkpoints, key=lambda checkpoint: checkpoint.step)
    if len(checkpoints) < 2:
        return []
    files = [_read(concepts, evidence, checkpoint) for checkpoint in checkpoints]
    parts = (_changes, _between) if "middle" in files[0] else (_changes,)
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
    if "selected" not in arrays or arrays["selected"].shape[-1] != len(concepts):
        held = arrays["selected"].shape[-1] if "selected" in arrays else "none"
        raise ValueError(
            f"{path} must hold {len(concepts)} statements of {concepts.dimension}; it holds {held}. Run probing again."
        )
    return {key: array.astype(np.float64) for key, array in arrays.items()}


def _changes(concepts: ConceptSet, files: list[dict], checkpoints: list[Checkpoint]) -> Iterator[dict]:
    """Yield the change against the first checkpoint and the onset, for every layer and for the selected one."""
    weights = evaluation.bootstrap_weights(concepts.groups, seed=0)
    layers = [*range(len(files[0]["correct"])), None]
    for layer in layers:
        correct = np.stack([file["selected"] if layer is None else file["correct"][layer] for file in files])
        changes = [evaluation.paired_refit(row, correct[0], files[0]["fold"].astype(int)) for row in correct[1:]]
        corrected = evaluation.holm([change.p for change in changes])
        for checkpoint, change, p in zip(checkpoints[1:], changes, corrected, strict=True):
            yield results.row(checkpoint, concepts, layer, "logistic", "change", change, "") | {"p": p}
        first_step = onset([checkpoint.step for checkpoint in checkpoints], correct.mean(1), weights)
        yield results.row(checkpoints[-1], concepts, layer, "logistic", "onset_step", first_step, "")


def _to(checkpoint: Checkpoint) -> dict:
    return {"to_revision": checkpoint.revision, "to_step": checkpoint.step}


def _between(concepts: ConceptSet, files: list[dict], checkpoints: list[Checkpoint]) -> Iterator[dict]:
    """Yield cosine (a mean over halvings, with their range) and transfer between all checkpoints, and the null of cosines."""
    middle = np.stack([file["middle"] for file in files])
    right, (cosine, null) = transfer(middle, concepts), cosines(middle, concepts)
    weights, n, layer = evaluation.bootstrap_weights(concepts.groups, seed=0), len(concepts), len(files[0]["correct"]) // 2
    for i, source in enumerate(checkpoints):
        for j, target in enumerate(checkpoints):
            estimate = evaluation.mean(right[i, j].astype(float), weights)
            yield results.row(source, concepts, layer, "logistic", "transfer_accuracy", estimate, "0") | _to(target)
            for method, drawn in (("logistic", cosine[i, j]), ("permuted labels", null[i, j])):
                estimate = evaluation.interval(drawn.mean(), drawn, n)
                yield results.row(source, concepts, layer, method, "direction_cosine", estimate, "0") | _to(target)


def summarise(study, folder: Path, out: Path) -> None:  # a `run.studies.Study`, which nothing here may import
    """Write the dynamics of a study's sets and dimensions, from the evidence that its runs of probing left in `folder`."""
    rows, revisions = [], study.traced()
    checkpoints = [study.loaded[revision] for revision in revisions]
    for name in study.sets:
        files = {revision: folder / name / "probing" / f"{revision}.safetensors" for revision in revisions}
        for dimension in study.dimensions_of(name):
            rows += compute(study.concept_set(name, dimension), files, checkpoints)
    results.write(rows, out)
