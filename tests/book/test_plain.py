"""Plain language: each sentence of the book, the README and the command line can be read once, also in a second language.

A sentence is flagged when it is long, when three or more commas come before its verb, or when it holds one of the
constructions that used to recur here. Whoever meets a flag writes the sentence anew, or names it below with the reason.
"""

import argparse
import re

import pytest

from tests.book.plain import MOST_WORDS, faults, rendered, sentences
from tracing_utils import __main__
from tracing_utils.core.paths import PROJECT

EXCEPTIONS = {
    "book/changelog.md": "includes CHANGELOG.md: entries in note form, for people who know the code",
}
"""Pages that are not checked, with the reason."""

PAGES = [
    page
    for page in [*sorted((PROJECT / "book").rglob("*.md")), *sorted((PROJECT / "notebooks").glob("*.md")), PROJECT / "README.md"]
    if not any(page.relative_to(PROJECT).as_posix().startswith(name) for name in EXCEPTIONS)
]

WORLD = "narrators of the designed world tell their keys: there, `told` is exact"
TELLS = dict.fromkeys(("world.md", "origins.md", "index.md", "README.md", "dimensions.md"), WORLD)
"""Pages that may say that something is told."""


def flagged(name, text):
    told = re.compile(r"told")
    return [
        f"{name}: {', '.join(kept)}: {sentence}"
        for sentence in sentences(text)
        if (kept := [fault for fault in faults(sentence) if not (name in TELLS and told.search(fault))])
    ]


def test_each_kind_of_fault_is_found_and_a_plain_sentence_has_none():
    assert faults("The probe reads the label at every layer, and its accuracy rises with training.") == []
    assert faults("word " * MOST_WORDS + "is.") == [f"{MOST_WORDS + 1} words"]
    assert faults("In each layer, at each step, on both kinds, the probe rises.") == ["3 commas before the verb"]
    assert faults("The probe rises in each layer, at each step, on both kinds, of all.") == []
    for sample in (
        "Beside it stand the controls.",
        "A direction is held against each other one.",
        "Words give away the label.",
        "The best layer is told.",
        "Chance alone passes one in forty.",
        "Every place is paid for.",
        "Here it is turned to one side.",
    ):
        assert faults(sample), sample


def test_a_sentence_is_found_in_a_caption_a_list_a_table_and_a_solution_but_not_in_code_or_a_heading():
    page = """---
title: Front matter is no prose.
---
# A heading is none

A first sentence. A *second* one with [a link](a.md), {glue:text}`x`.

- an entry of a list

| a | cell of a table |

```{code-cell} python
---
mystnb:
  figure:
    caption: |
      A caption of a figure.
---
print("Code has none.")
```

:::{admonition} Solution
The solution is prose.
:::
"""
    assert list(sentences(page)) == [
        "A first sentence.",
        "A second one with a link, X.",
        "an entry of a list",
        "cell of a table",
        "The solution is prose.",
        "A caption of a figure.",
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_sentence_of_the_book_and_the_readme_is_plain(page):
    flags = flagged(page.name, page.read_text())
    assert not flags, "\n" + "\n".join(flags)


def test_a_sentence_of_a_built_page_is_counted_with_its_numbers_and_without_its_citation():
    page = """<article><h1>A heading is none</h1><p>It is <span>one, two and three</span> [<a>Ng and Lee, 2020</a>].</p>
    <table><tr><td>A cell of it</td></tr></table><pre>no prose here</pre>
    <ul><li><p>In <code>a b</code> seeds: 1, 2, 3 and 4</p></li></ul></article>"""
    assert list(rendered("index", page)) == ["It is one, two and three .", "A cell of it", "In X seeds: X"]
    assert "A cell of it" not in list(rendered("costs", page))


def helps(parser):
    """What a command says about itself and its options."""
    yield from (text for text in (parser.description, parser.epilog) if text)
    for action in parser._actions:
        yield from [action.help] if action.help else []
        if isinstance(action, argparse._SubParsersAction):
            yield from (choice.help for choice in action._choices_actions if choice.help)
            for command in action.choices.values():
                yield from helps(command)


def test_the_command_line_speaks_plainly():
    said = list(helps(__main__._parser))
    assert len(said) > 20
    found = [f"{', '.join(faults(sentence))}: {sentence}" for text in said for sentence in sentences(text) if faults(sentence)]
    assert not found, "\n" + "\n".join(found)
