"""Goal 6: what the released scripts do for one checkpoint, from statements to a table, written plainly and by this package.

Rule: both give the same table: at every layer the accuracy of the released probe, nHSIC(T; X) and nHSIC(T; Y). The plain
way runs one statement a forward pass with the head, standardises over all rows, fits `LogisticRegression()` on the first
four fifths and takes the literal float32 formula on them.

Public names: `goal`.
"""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from tracing_utils import activations, concepts, kernels, models, suites
from tracing_utils.concepts import ConceptSet

from .extraction import one_by_one
from .measure import Row, Timed, paired, row, seconds
from .nhsic import literal

STATEMENTS = 2500
"""Most statements of a file: the literal formula takes a minute a layer on all of the longest."""


def _plain(model, tokenizer, chosen: ConceptSet) -> np.ndarray:
    acts, cut, rows = one_by_one(model, tokenizer, chosen.statements), int(0.8 * len(chosen)), []
    made = [(acts[:, layer] - acts[:, layer].mean(0)) / acts[:, layer].std(0, ddof=1) for layer in range(acts.shape[1])]
    for features in made:
        fitted = LogisticRegression().fit(features[:cut], chosen.labels[:cut])
        accuracy = (fitted.predict(features[cut:]) == chosen.labels[cut:]).mean()
        rows.append([accuracy, *literal(made[0][:cut], features[:cut], chosen.labels[:cut])])
    return np.array(rows)


def _ours(model, tokenizer, chosen: ConceptSet) -> np.ndarray:
    acts, cut = activations.extract(model, activations.encode(model, tokenizer, chosen.statements)), int(0.8 * len(chosen))
    smooth = lambda layer: kernels.released_smoother(acts[:cut, layer])  # noqa: E731
    first, rows = smooth(0), []
    for layer in range(acts.shape[1]):
        made = (acts[:, layer] - acts[:, layer].mean(0)) / acts[:, layer].std(0, ddof=1)
        fitted = LogisticRegression().fit(made[:cut], chosen.labels[:cut])
        t = smooth(layer)
        accuracy = (fitted.predict(made[cut:]) == chosen.labels[cut:]).mean()
        rows.append([accuracy, kernels.alignment(first, t), kernels.nhsic_labels(t, chosen.labels[:cut])])
    return np.array(rows)


def goal(source: str = "tracingllm", statements: int = STATEMENTS) -> list[Row]:
    """Return the row of goal 6; one pair a file."""
    checkpoint = suites.load("pocket").checkpoints[-1]
    headed, bare = (models.load_model(checkpoint, head=head) for head in (True, False))
    tokenizer = models.load_tokenizer(checkpoint)
    sets = [concepts.load(source, name) for name in concepts.available(source)]
    sets = [concepts.subset(chosen, np.random.default_rng(0).permutation(len(chosen))[:statements]) for chosen in sets]

    def way(run, model):
        def timed(part: int) -> Timed:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # part of the released protocol
                return seconds(lambda: run(model, tokenizer, sets[part]))

        return timed

    done = paired(way(_ours, bare), way(_plain, headed), len(sets))
    whole = sum(pair[1].seconds for pair in done) / sum(pair[0].seconds for pair in done)
    note = (
        f"pocket suite, {len(sets)} files of at most {statements} statements, one pair a file; all of them together: {whole:.3g}"
    )
    note += " times; agreement: largest difference of any accuracy (nHSIC differs by the literal formula's float32 error)"
    return [
        row(
            6, "a checkpoint of the paper's table", "the released procedure", done, _apart, target=10.0, tolerance=0.01, note=note
        )
    ]


def _apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours[:, 0] - theirs[:, 0]).max())
