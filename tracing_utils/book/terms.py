"""The first use of each glossary term on a page becomes a link to the glossary.

Rule: the glossary page decides what is a term. A new term is linked on every page that uses it. A page need not mark its
words; a word that it marks (the role `term`) counts as that term's first use. Code, headings, folded titles, captions, links and
computed words are not linked, and neither are the glossary and the API. A link shows the definition when the pointer rests on it.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

__all__ = ["GLOSSARY", "EVERYDAY", "of", "pattern", "link", "define", "on_read", "on_resolved"]

GLOSSARY = "book/glossary"
"""The page that lists the terms."""

EVERYDAY = {"gain", "run", "transfer"}
"""Terms that are words of everyday English too: linked only where a page marks them."""

# Where a word has its everyday sense.
_EVERYDAY_SENSE = re.compile(
    r"\bgroups? of (?:people|statements)|\bsecond group\b|\bin the direction of the\b|\bas a label\b", flags=re.I
)

# Nodes that are not searched: they are not prose, or they are links already.
_CLOSED = (
    nodes.literal, nodes.literal_block, nodes.reference, addnodes.pending_xref, nodes.math, nodes.raw, nodes.caption,
    nodes.title, nodes.rubric, nodes.citation, nodes.footnote, nodes.comment, addnodes.desc,
)  # fmt: skip


def of(glossary: str) -> dict[str, str]:
    """Return the terms of a glossary page's text, in its order, with their definitions.

    Example:
        >>> of(Path("book/glossary.md").read_text())["label"]
        '1 = the trustworthy side, in every set.'
    """
    entries = re.search(r"^```\{glossary\}\n(.*?)^```", glossary, flags=re.S | re.M)[1].strip().split("\n\n")
    parts = (entry.partition("\n") for entry in entries)
    return {term.strip(): re.sub(r"[*`]", "", " ".join(words.split())) for term, _, words in parts}


def pattern(terms: Iterable[str]) -> re.Pattern[str]:
    """Return an expression that finds any of the terms, also in the plural; `control` does not match `control task`."""
    longest = sorted(terms, key=len, reverse=True)
    return re.compile(rf"(?<![\w-])({'|'.join(map(_plural, longest))})(?![\w-])", flags=re.I)


def _plural(term: str) -> str:
    """Return an expression for a term and its plural, also where a line ends inside it."""
    plural = re.escape(term[:-1]) + "(?:y|ies)" if term.endswith("y") else re.escape(term) + "(?:e?s)?"
    return plural.replace(r"\ ", r"\s+")


def _prose(node: nodes.Node) -> Iterable[nodes.Node]:
    """Yield the texts of a tree that are prose, and the references to terms, in reading order."""
    if isinstance(node, nodes.Text) or (isinstance(node, addnodes.pending_xref) and node.get("reftype") == "term"):
        yield node
    elif not isinstance(node, _CLOSED) and not (isinstance(node, nodes.container) and node.get("nb_element")):
        for child in list(node.children):
            yield from _prose(child)


def _reference(term: str, words: str, page: str) -> addnodes.pending_xref:
    inner = nodes.inline(words, words, classes=["xref", "std", "std-term"])
    to = {"refdomain": "std", "reftype": "term", "reftarget": term, "refexplicit": True, "refwarn": True, "refdoc": page}
    return addnodes.pending_xref("", inner, **to)


def link(tree: nodes.document, terms: Iterable[str], page: str) -> None:
    """Make the first use of each term in the tree of a page a reference to it; the tree is changed."""
    waiting = {term.lower(): pattern([term]) for term in terms}
    any_term = pattern(waiting)
    for node in list(_prose(tree)):
        if isinstance(node, addnodes.pending_xref):
            waiting.pop(node["reftarget"].lower(), None)
            continue
        text, end, pieces = node.astext(), 0, []
        other_sense = [match.span() for match in _EVERYDAY_SENSE.finditer(text)]
        for match in any_term.finditer(text):
            term = next((term for term, form in waiting.items() if form.fullmatch(match[0])), None)
            if term and not any(begin <= match.start() < stop for begin, stop in other_sense):
                del waiting[term]
                pieces += [nodes.Text(text[end : match.start()]), _reference(term, match[0], page)]
                end = match.end()
        if pieces:
            node.parent.replace(node, [piece for piece in [*pieces, nodes.Text(text[end:])] if piece.astext()])


def define(tree: nodes.document, terms: dict[str, str]) -> None:
    """Give each link to a term its definition as a title."""
    forms = [(pattern([term]), words) for term, words in terms.items()]
    for node in tree.findall(nodes.reference):
        if any("std-term" in inner["classes"] for inner in node.findall(nodes.inline)):
            node["reftitle"] = next((words for form, words in forms if form.fullmatch(node.astext())), "")


def _known(app: Sphinx) -> dict[str, str]:
    """Return the terms of a book and their definitions; none where it has no glossary."""
    glossary = Path(app.srcdir) / f"{GLOSSARY}.md"
    return of(glossary.read_text(encoding="utf-8")) if glossary.is_file() else {}


def on_read(app: Sphinx, tree: nodes.document) -> None:
    """Link a page's terms once it was read."""
    page, known = app.env.docname, _known(app)
    if page != GLOSSARY and known:
        app.env.note_dependency(str(Path(app.srcdir) / f"{GLOSSARY}.md"))
        link(tree, [term for term in known if term not in EVERYDAY], page)


def on_resolved(app: Sphinx, tree: nodes.document, _page: str) -> None:
    """Define a page's terms once its links lead somewhere."""
    define(tree, _known(app))
