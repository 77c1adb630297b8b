"""Goal 6: what the released scripts do for one checkpoint, from statements to a table, written plainly and by this package.

Rule: both give the same table: at every layer the accuracy of the released probe, nHSIC(T; X) and nHSIC(T; Y). The plain
way runs one statement a forward pass with the head, standardises over all rows, fits `LogisticRegression()` on the first
four fifths and takes the literal float32 formula on them. The table is made once, since the plain way takes minutes.
"""

import warnings
from dataclasses import replace

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from tracing_utils.checkpoints import activations, models, suites
from tracing_utils.experiments.mutual_information import kernels
from tracing_utils.statements import concepts
from tracing_utils.statements.concepts import ConceptSet

from .extraction import one_by_one
from .measure import Row, Timed, paired, row, seconds
from .nhsic import literal


def released(model, tokenizer, concept_set: ConceptSet) -> np.ndarray:
    """Return accuracy, nHSIC(T; X) and nHSIC(T; Y) of every layer, as the released scripts do."""
    acts, cut, rows = one_by_one(model, tokenizer, concept_set.statements), int(0.8 * len(concept_set)), []
    layers = [(acts[:, layer] - acts[:, layer].mean(0)) / acts[:, layer].std(0, ddof=1) for layer in range(acts.shape[1])]
    for features in layers:
        fitted = LogisticRegression().fit(features[:cut], concept_set.labels[:cut])
        accuracy = (fitted.predict(features[cut:]) == concept_set.labels[cut:]).mean()
        rows.append([accuracy, *literal(layers[0][:cut], features[:cut], concept_set.labels[:cut])])
    return np.array(rows)


def ours(model, tokenizer, concept_set: ConceptSet) -> np.ndarray:
    """Return the same by this package."""
    acts = activations.extract(model, activations.encode(model, tokenizer, concept_set.statements))
    cut = int(0.8 * len(concept_set))
    smooth = lambda layer: kernels.released_smoother(acts[:cut, layer])  # noqa: E731
    first, rows = smooth(0), []
    for layer in range(acts.shape[1]):
        scaled = (acts[:, layer] - acts[:, layer].mean(0)) / acts[:, layer].std(0, ddof=1)
        fitted = LogisticRegression().fit(scaled[:cut], concept_set.labels[:cut])
        t = smooth(layer)
        accuracy = (fitted.predict(scaled[cut:]) == concept_set.labels[cut:]).mean()
        rows.append([accuracy, kernels.alignment(first, t), kernels.nhsic_labels(t, concept_set.labels[:cut])])
    return np.array(rows)


def goal(source: str = "tracingllm") -> list[Row]:
    """Return the row of goal 6: the time of all files together; the spread is over the files."""
    checkpoint = suites.load("pocket").checkpoints[-1]
    headed, bare = (models.load_model(checkpoint, head=head) for head in (True, False))
    tokenizer = models.load_tokenizer(checkpoint)
    sets = [concepts.load(source, name) for name in concepts.available(source)]

    def way(run, model):
        def timed(part: int) -> Timed:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # part of the released protocol
                return seconds(lambda: run(model, tokenizer, sets[part]))

        return timed

    done = paired(way(ours, bare), way(released, headed), len(sets))
    whole = tuple(Timed(sum(pair[side].seconds for pair in done), [pair[side].result for pair in done]) for side in (0, 1))
    note = (
        f"pocket suite, all six files ({sum(map(len, sets))} statements), one table; least and greatest: of a dimension; "
        "agreement: largest difference of any accuracy (nHSIC differs by the literal formula's float32 error)"
    )
    compared = row(
        6, "the paper's table at a checkpoint", "the released procedure", [whole], _apart, target=10.0, tolerance=0.01, note=note
    )
    ratios = [theirs.seconds / own.seconds for own, theirs in done]
    return [replace(compared, low=min(ratios), high=max(ratios))]


def _apart(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    return max(float(np.abs(a[:, 0] - b[:, 0]).max()) for a, b in zip(ours, theirs, strict=True))
