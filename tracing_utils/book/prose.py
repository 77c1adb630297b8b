"""Words for computed findings, so that a page's sentence changes with its numbers."""

from collections.abc import Iterable

import pandas as pd
from pandas.io.formats.style import Styler

from .. import results
from ..claims import framework
from ..statements.concepts import DIMENSIONS, RUNGS

__all__ = ["ASKS", "NAMES", "SETS", "confirmed", "listed", "dimensions", "span", "table", "verdicts"]

NAMES = {
    "answer_accuracy": "right answers (0 or 1)",
    "answer_margin": "margin of the right answer",
    "answer_neither": "neither 0 nor 1",
    "concept_set": "statements",
    "duplicate_of": "same weights as",
    "mc1": "MC1",
    "mc2": "MC2",
    "mmlu": "MMLU",
    "openbookqa": "OpenBookQA",
    "p_corrected": "p, corrected",
    "p_within": "p against what matters",
    "p_within_corrected": "the same, corrected",
    "piqa": "PIQA",
    "preferred": "pairs preferred rightly",
    "relevant": "smallest that matters",
    "revision": "checkpoint",
    "smollm2-135m-instruct-wheel": "SmolLM2 (135M)",
    "title": "claim",
}
"""What tables of the book call metrics, suites and columns."""

SETS = {"tracingllm": "the paper's statements", "pocket": "the hand-written statements", "corrected": "the corrected originals"}
"""What a sentence calls a set of statements."""


def verdicts(designed: bool = False) -> pd.DataFrame:
    """Return the verdicts of studies that the book shows, decided together, with the further column `study`.

    They are of studies on statements of the designed world, or of all others. Those try the tests where the truth is known,
    these try the paper: each pays for its own number of tests. Studies of rungs are left out, since the paper says nothing of
    rungs (`claims.ladder_claims` judges them).
    """
    table = results.read_all("claims", designed)
    if not table.empty:
        table = table[~table["concept_set"].isin(RUNGS).groupby(table["study"]).transform("any")]
    if table.empty:
        return pd.DataFrame(columns=["study", *framework.COLUMNS])
    return framework.decide(table).assign(study=table["study"])


def confirmed(table: pd.DataFrame) -> str:
    """Say how many of the verdicts that could be reached are confirmed: "0 of 12"."""
    tested = table[table["verdict"] != framework.VERDICTS[4]]
    return f"{(tested['data'] == 'confirmed').sum()} of {len(tested)}"


def listed(words: Iterable[str]) -> str:
    """Return words as a list inside a sentence; "none" where there are none.

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    words = list(words)
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words) or "none"


def span(values: Iterable[float]) -> str:
    """Return the range of values as words: one number where both ends are printed the same, never minus zero.

    Example:
        >>> span([0.991, -0.001]), span([0.5, 0.501])
        ('0.00 to 0.99', '0.50')
    """
    values = list(values)
    return " to ".join(dict.fromkeys(f"{value:z.2f}" for value in (min(values), max(values))))


ASKS = {"fairness": "coherence", "robustness": "capitals"}
"""What two of the released files (`tracingllm`) ask in truth, by their dimension; "The released data" shows it."""


def dimensions(names: Iterable[str], concept_set: str = "") -> str:
    """Return the dimensions among `names`, in their own order, as a list inside a sentence.

    A released file that asks something else than its dimension is named by that too.

    Example:
        >>> dimensions(["fairness", "privacy"], "tracingllm")
        'privacy and fairness (coherence)'
    """
    present, asked = set(names), ASKS if concept_set == "tracingllm" else {}
    return listed(f"{name} ({asked[name]})" if name in asked else name for name in DIMENSIONS if name in present)


def table(rows: pd.DataFrame, caption: str = "") -> Styler:
    """Return a table of words for a page: whole, to the left, with line breaks; a dash where there is no value."""
    left = [
        {"selector": "th, td", "props": "text-align: left; vertical-align: top; white-space: normal"},
        {"selector": "caption", "props": "text-align: left; font-weight: bold"},
    ]
    styled = rows.style.format(escape="html", na_rep="–", precision=3).format_index(escape="html").set_table_styles(left)  # noqa: RUF001 - a dash, as in print
    return styled.set_caption(caption) if caption else styled
