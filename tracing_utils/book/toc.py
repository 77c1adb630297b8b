"""The table of contents: chapters and executed notebooks that the book finds by itself, and modules for the API page.

Rule: an experiment, a notebook or a module appears in the book because its file exists, not because a list names it. An
executed notebook lies below the page of its experiment, and "Next" leads from one page of the top level to another.
"""

import math
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import jupytext
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.matching import Matcher, patfilter, patmatch
from sphinx_external_toc.api import Document, FileItem, GlobItem, SiteMap, TocTree

import tracing_utils

__all__ = ["API", "RUNS", "fill", "neighbours", "sections", "on_config", "on_outdated", "on_page", "on_source"]

API = "book/api"
"""The page that describes the modules; they replace its comment `<!-- modules -->`."""

RUNS = "book/runs/*/*"
"""The executed notebooks; the contents name this pattern, or they would not be built."""


def _order(root: Path, page: str) -> tuple:
    """Return the key by which pages are sorted: `chapter` in the page's front matter if it has one, then names and numbers."""
    source = root / f"{page}.md"
    front = jupytext.read(source).metadata if source.is_file() else {}
    return front.get("chapter", math.inf), [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", page)]


def fill(contents: SiteMap, pages: set[str], root: Path) -> None:
    """Replace each pattern in the contents by those of `pages` that match it and that no entry names; drop empty parts.

    Executed notebooks, `book/runs/<study>/<experiment>-<revision>`, go below `book/<experiment>`, and into no part.
    """
    notebooks = {page for page in pages if patmatch(page, RUNS)}
    for document in list(contents.values()):
        for part in document.subtrees:
            items = []
            for item in part.items:
                free = pages - notebooks - set(contents) if isinstance(item, GlobItem) else set()
                matches = patfilter(free, item)
                contents.update({page: Document(page) for page in matches})
                items += [FileItem(page) for page in sorted(matches, key=lambda page: _order(root, page))]
                items += [] if isinstance(item, GlobItem) else [item]
            part.items = items
        document.subtrees = [part for part in document.subtrees if part.items]
    for chapter in list(contents):
        below = patfilter(notebooks, f"{RUNS[:-1]}{chapter.removeprefix('book/')}-*")
        if below := sorted(below, key=lambda page: _order(root, page)):
            contents.update({page: Document(page) for page in below})
            contents[chapter].subtrees.append(TocTree([FileItem(page) for page in below]))


def neighbours(contents: SiteMap, page: str) -> tuple[str | None, str | None]:
    """Return the pages before and after a page; one that is folded below another has that one before it, and none after."""
    line = [None, contents.root.docname, *(str(item) for part in contents.root.subtrees for item in part.items), None]
    if page in line:
        place = line.index(page)
        return line[place - 1], line[place + 1]
    above = (name for name, document in contents.items() for part in document.subtrees if page in map(str, part.items))
    return next(above, None), None


def on_config(app: Sphinx, config: Config) -> None:
    """Fill the contents once sphinx-external-toc has read them."""
    root, excluded = Path(app.srcdir), Matcher(config.exclude_patterns)
    files = [path.relative_to(root).as_posix() for ending in (".md", ".ipynb") for path in (root / "book").rglob(f"*{ending}")]
    fill(config.external_site_map, {file.rpartition(".")[0] for file in files if not excluded(file)}, root)


def sections(package: ModuleType = tracing_utils) -> str:
    """Return the API page's Markdown: a section a folder with its docstring, in it a section a module with its members."""
    modules = list(pkgutil.walk_packages(package.__path__, f"{package.__name__}."))
    folders = [package.__name__, *(module.name for module in modules if module.ispkg)]
    inside = {folder: [m.name for m in modules if not m.ispkg and m.name.rpartition(".")[0] == folder] for folder in folders}
    return "\n".join(
        f"{'#' * level} `{name}`\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```\n"
        for folder in folders
        for level, name in [(2, folder), *((3, name) for name in inside[folder])]
    )


def on_outdated(app: Sphinx, *_pages: object) -> set[str]:
    """Read the API page again in every build, since a module may be new."""
    return {API} & app.env.found_docs


def on_source(_app: Sphinx, page: str, text: list[str]) -> None:
    """Write the modules into the API page."""
    if page == API:
        text[0] = text[0].replace("<!-- modules -->", sections())


def on_page(app: Sphinx, page: str, _template: str, context: dict, _doctree: object) -> None:
    """Lead from a page to its neighbours."""
    for name, target in zip(("prev", "next"), neighbours(app.config.external_site_map, page), strict=True):
        known = target in app.env.titles
        context[name] = known and {"link": app.builder.get_relative_uri(page, target), "title": app.env.titles[target].astext()}
