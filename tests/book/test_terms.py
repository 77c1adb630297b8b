"""The first use of a glossary term on a page is a link to the glossary, and nothing else is."""

import re

import pytest
from docutils import nodes
from docutils.frontend import get_default_settings
from docutils.utils import new_document
from sphinx import addnodes

from tracing_utils.book import terms
from tracing_utils.core.paths import PROJECT

GLOSSARY = PROJECT / "book" / "glossary.md"


@pytest.fixture
def page():
    """A function that makes a page of paragraphs, links the terms in it, and returns what it links: words and term."""

    def make(*paragraphs, known=("control", "control task", "probe", "study", "group")):
        tree = new_document("page", get_default_settings())
        tree += [part if isinstance(part, nodes.Node) else nodes.paragraph("", part) for part in paragraphs]
        before = tree.astext()
        terms.link(tree, known, "page")
        assert tree.astext() == before  # not a letter is changed
        return [(node.astext(), node["reftarget"]) for node in tree.findall(addnodes.pending_xref)]

    return make


def test_the_first_use_alone_is_linked_whatever_its_case_or_number(page):
    assert page("A reader.") == []
    assert page("Probes read; a probe reads.", "The probe.") == [("Probes", "probe")]
    assert page("Two studies. One study.") == [("studies", "study")]


def test_a_longer_term_is_not_taken_for_a_shorter_one(page):
    assert page("The control task.", "A control.") == [("control task", "control task"), ("control", "control")]
    assert page("A probe-like thing, a subprobe.") == []


def test_a_term_is_found_where_a_line_ends_inside_it(page):
    assert page("The control\ntask.", "A control task, a control.") == [("control\ntask", "control task"), ("control", "control")]


def test_code_headings_captions_folded_titles_and_links_stay_as_they_are(page):
    code = nodes.paragraph("", "", nodes.literal("", "probe"))
    link = nodes.paragraph("", "", nodes.reference("", "the probe", refuri="a.html"))
    heading = nodes.section("", nodes.title("", "Probes"), nodes.paragraph("", "A probe."))
    figure = nodes.figure("", nodes.caption("", "A probe."))
    folded = nodes.container("", nodes.rubric("", "The probe"))  # a link in a title that unfolds cannot be reached by keys
    assert page(code, link, figure, folded, heading) == [("probe", "probe")]
    assert heading[1].next_node(addnodes.pending_xref) is not None


def test_what_a_page_marks_itself_is_the_first_use(page):
    marked = addnodes.pending_xref("", nodes.inline("", "readers"), reftype="term", reftarget="probe")
    assert page(nodes.paragraph("", "", marked), "A probe.") == [("readers", "probe")]


def test_a_link_to_a_term_shows_its_definition_and_another_link_shows_none():
    tree = new_document("page", get_default_settings())
    for words, classes in (("Probes", ["std-term"]), ("a page", [])):
        tree += nodes.paragraph("", "", nodes.reference("", "", nodes.inline(words, words, classes=classes), refuri="a.html"))
    tree += nodes.paragraph("", "", nodes.reference("", "a link of plain text", refuri="b.html"))
    terms.define(tree, {"probe": "A linear classifier.", "page": "Not this one."})
    assert [node.get("reftitle") for node in tree.findall(nodes.reference)] == ["A linear classifier.", None, None]


def test_a_word_in_another_sense_is_no_use(page):
    assert page("Groups of people.", "A group.") == [("group", "group")]


def test_the_glossary_is_in_order_has_no_term_twice_and_explains_each():
    text = GLOSSARY.read_text()
    found = list(terms.of(text))
    assert len(found) > 40
    assert found == sorted(found, key=str.lower)
    assert len({term.lower() for term in found}) == len(found)
    assert not terms.EVERYDAY - set(found)
    for term in found:
        assert re.search(rf"^{re.escape(term)}\n  [A-Z1].*[.?]$", text, flags=re.M), term


def test_every_term_is_used_somewhere_in_the_book():
    pages = "\n".join(
        path.read_text()
        for path in [*(PROJECT / "book").rglob("*.md"), *(PROJECT / "notebooks").glob("*.md")]
        if path != GLOSSARY
    )
    assert not [term for term in terms.of(GLOSSARY.read_text()) if not terms.pattern([term]).search(" ".join(pages.split()))]
