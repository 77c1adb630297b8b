"""Plain language: each sentence of the book, the README and the command line can be read once, also in a second language.

A sentence is flagged when it is long, when three or more commas come before its verb, or when it holds one of the
constructions that used to recur here. Whoever meets a flag writes the sentence anew, or names it below with the reason.
"""

import argparse
import re

import pytest

from tests.book.test_book import without_code
from tracing_utils import __main__
from tracing_utils.core.paths import PROJECT

MOST_WORDS = 32
MOST_COMMAS = 2

PLAINER = {
    r"\b(?:stands?|lies?|lay) (?:beside|next to)\b|\bbeside (?:it|them|each|that) (?:stands?|lies?)\b": "is shown with",
    r"\b(?:holds?|held) [\w ]{0,30}?against\b": "compare with",
    r"\b(?:gives?|gave|given) away\b|\bgive [\w ]{1,20} away\b": "reveal",
    r"\b(?:is|are|was|were|be|been) (?:then )?told\b(?! apart)|; told\b": "is reported",
    r"\bis to be\b|\bare to be\b|\bis to say\b|\bto be had\b": "must, can, will",
    r"\bnothing but\b": "only",
    r"\bone (?:\w+ )?in (?:ten|twenty|forty|a hundred)\b|thirty-nine times in forty": "1 time in 40",
    r"\bpa(?:ys|id) for\b": "corrects for",
    r"\bturned? to one side\b|\bturns the second kind\b": "is reversed, so that 1 always means trustworthy",
    r"\bflatters?\b": "gives too high a number",
    r"\bwhom\b|\bwhose\b[^.]{0,40}\bwhose\b": "say who does what",
    r"\bwhich is why\b|\bthereof\b|\bhereby\b|\bherein\b|\bin truth\b": "two sentences",
    r"\ball the same\b": "nevertheless, or: even so",
    r"\bof one's own\b": "your own",
    r"\bcomes? to tell\b": "learns to tell",
    r"\bthat is so\b|\bwhat is so\b": "true",
    r"\bso many\b|\bsuch as (?:change|grow|differ)\b": "this many, those that",
    r"\bno more than\b": "at most, or: only",
    r"\bmake it,? that\b|\bgoes by\b|\bspeaks? of\b|\blies? there\b": "an exact verb",
    r"\bby heart\b": "word for word, or: memorise",
    r"\bmay not be\b[^.]{0,20}\bunless\b": "must ... first",
    r"\bon the way\b|\bthan that no\b": "a shorter sentence",
    r"\ba reader who\b": "a program that",
}
"""Constructions that recurred, as patterns, and what to write instead."""

VERBS = (
    "is are was were be been has have had do does did can could may might must will would should shows? showed says? said "
    "asks? asked finds? found gives? gave takes? took makes? made lies? stands? needs? keeps? kept uses? means? rises? rose "
    "falls? fell comes? came goes? went reads? tells? told sets? compares? measures? reports? counts? holds? adds? names? "
    "writes? wrote runs? follows? begins? began ends? reach(?:es)? differs? learns? learnt knows? knew trains? tests? "
    "draws? drew lacks? stays? becomes? became gets? got changes? changed press choose drag opens? looks? sees? prints? "
    "builds? built leaves? left works? costs? rests? appears? starts? fits? covers? puts? turns? lets? tr(?:y|ies) belongs? "
    "checks? moves? judges? speaks? depends? happens? helps? loses? gains? fails?"
).replace(" ", "|")
"""Finite verbs of the book, as a pattern. A sentence without any of them is a fragment, whose commas are not counted."""

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


def sentences(text):
    """The sentences of a page's prose: without front matter, code, maths, comments and headings.

    A link is its words, a role or a piece of code one word. A list's entry and a table's cell end a sentence.
    """
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.S)
    captions = re.findall(r"^    caption: \|\n((?:      .*\n)+)", text, flags=re.M)
    text = without_code(re.sub(r"^(?=\s*(?:`{3,}|~{3,}))", "\n", text, flags=re.M)) + "".join(
        f"\n\n{caption}\n" for caption in captions
    )
    text = re.sub(r"\$\$.*?\$\$|<!--.*?-->|<[^>]+>|^%[^\n]*$|\(eq-[\w-]+\)", " ", text, flags=re.S | re.M)
    text = re.sub(r"\|", "\n\n", text)
    text = re.sub(r"^(?:#|`{3,}|:{3,}|\(|:\w+:).*$", "", text, flags=re.M)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"\{cite\}`[^`]*`|\[\^[^\]]*\]", "", text)
    text = re.sub(r"(?:\{[^}\s]+\})?`[^`]*`|\$[^$\n]+\$", "X", text)
    text = re.sub(r"[*_]{1,2}(?=\S)|(?<=\S)[*_]{1,2}", "", text)
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.)\s)|\n(?=  [A-Z1])", text):
        block = " ".join(re.sub(r"^\s*(?:[-*]|\d+\.)\s", "", block).split())
        yield from (part.strip() for part in re.split(r"(?<=[.!?])\s+(?=[A-Z\d\"“])", block) if re.search(r"\w\s+\w", part))


def faults(sentence):
    """What is hard to read in a sentence."""
    words = re.findall(r"[\w'.,/-]*\w[\w'/-]*", sentence)
    found = [f"{len(words)} words"] if len(words) > MOST_WORDS else []
    verb = re.search(rf"\b(?:{VERBS})\b", sentence, flags=re.I)
    commas = sentence[: verb.start()].count(",") if verb else 0
    found += [f"{commas} commas before the verb"] if commas > MOST_COMMAS else []
    return found + [
        f"{match[0]!r}: {plain}" for form, plain in PLAINER.items() if (match := re.search(form, sentence, flags=re.I))
    ]


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
