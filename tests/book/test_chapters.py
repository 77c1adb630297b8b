"""Every chapter begins with an example, its finding and a figure; then come reasons, method and what it does not show."""

import re

import jupytext
import pytest

from tracing_utils.core.paths import PROJECT

NUMBERED = {page: jupytext.read(page).metadata.get("chapter") for page in sorted((PROJECT / "book").glob("*.md"))}
CHAPTERS = [page for page, number in NUMBERED.items() if number] + [
    PROJECT / "book" / name for name in ("world.md", "what_stands.md")
]

PARTS = {
    "example": r"\*(?:\{glue:text\}`[^`]+`|[A-Z][^*]+)\*",
    "finding": r"^:::\{div\} finding$",
    "figure": r"^  figure:$",
    "reasons": r"^#{2,3} Why believe it",
    "method": r"^## Method",
    "limits": r"^## What this does not show$",
}
"""How each part of a chapter begins."""


def places(text, opens="figure"):
    """Where each part begins, where the first thing that a cell shows is a figure, or what it opens with."""
    found = {name: re.search(form, text, flags=re.M) for name, form in PARTS.items()}
    assert all(found.values()), [name for name, match in found.items() if not match]
    first = re.search(r"^(?:---\nmystnb:\n  figure:|:tags: \[remove-input)", text, flags=re.M)
    assert opens in first[0], "something else is shown before the first figure"
    return [match.start() for match in found.values()]


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.stem)
def test_a_chapter_goes_from_its_example_to_what_it_does_not_show(page):
    text, opens = page.read_text(), ":tags:" if page.stem == "what_stands" else "figure"  # the table of the claims
    assert places(text, opens) == sorted(places(text, opens))


def test_what_stands_opens_with_the_table_of_claims():
    shown = re.search(
        r":tags: \[remove-input, full-width\]\n\n(.*?)```", (PROJECT / "book" / "what_stands.md").read_text(), flags=re.S
    )
    assert "What the paper claims, what is found here, and how sure that is" in shown[1]


def test_a_chapter_that_shows_a_table_first_or_its_method_before_the_reasons_is_found():
    text = (PROJECT / "book" / "ladder.md").read_text()
    table = "```{code-cell} python\n:tags: [remove-input]\n\ntable\n```\n\n"
    with pytest.raises(AssertionError, match="before the first figure"):
        places(text.replace("## Over training", f"{table}## Over training"))
    reasons, method = "## Why believe it", "## Method"
    swapped = text.replace(reasons, "## !").replace(method, reasons).replace("## !", method)
    assert places(swapped) != sorted(places(swapped))


def test_each_chapter_has_a_number_of_its_own():
    numbers = sorted(number for number in NUMBERED.values() if number)
    assert numbers == list(range(1, len(numbers) + 1))
