"""Sphinx extension: what it adds to the pages of Jupyter Book, and what it removes from them.

It removes sphinx-thebe, which names a script on another host on every page (twice, so that browsers report an error);
nothing here runs code in the page. It copies the tables that are shown into the built book, so that a chart can link to the
numbers it draws, and the notebooks to download. Every page gets a footer and, for sites that show a preview, a title, a
description and a picture. Terms are linked to the glossary. The book in one page (builder `singlehtml`) becomes
`book.html`, to be printed.
"""

import base64
import html
import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import vl_convert
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError

from .. import results
from . import credits, handouts, terms, toc, vega

__all__ = ["PRINTED", "pictures", "setup"]

PRINTED = "book.html"
"""The book in one page, with a title page, in the folder of the builder `singlehtml`."""

_CHART = re.compile(r'<div class="vega-chart">.*?<script type="application/json">(.*?)</script></div>', flags=re.S)


def _without_thebe(app: Sphinx) -> None:
    """Disconnect sphinx-thebe; it was connected before, since Jupyter Book's own extensions come first."""
    for listeners in list(app.events.listeners.values()):
        for listener in list(listeners):
            if listener.handler.__module__ == "sphinx_thebe":
                app.disconnect(listener.id)
    app.registry.css_files = [entry for entry in app.registry.css_files if entry[0] != "sphinx-thebe.css"]


def _sign(app: Sphinx, config: Config) -> None:
    """Put version, commit and date of the results into the footer."""
    config.html_theme_options["extra_footer"] = credits.footer(Path(app.srcdir))


def _describe(app: Sphinx, page: str, _template: str, context: dict, doctree: object) -> None:
    """Add the tags that other sites make a preview from; a picture needs the book's public address (`html_baseurl`)."""
    tags = {"og:title": context.get("title", page), "og:site_name": app.config.html_title, "og:type": "article"}
    if doctree is not None:
        paragraphs = [node.astext() for node in doctree.findall() if node.tagname == "paragraph"]
        tags["og:description"] = " ".join(paragraphs[0].split()) if paragraphs else ""
    if app.config.html_baseurl:
        tags["og:image"] = f"{app.config.html_baseurl.rstrip('/')}/_static/landing.png"
    escaped = {name: html.escape(str(value), quote=True) for name, value in tags.items() if value}
    lines = (f'\n<meta property="{name}" content="{value}">' for name, value in escaped.items())
    context["metatags"] = context.get("metatags", "") + "".join(lines)


def _mend(_app: Sphinx, _page: str, _template: str, context: dict, _doctree: object) -> None:
    """Remove the list role of a list of citations, which has no items, and let long names in heads of tables break."""
    if "body" in context:
        body = context["body"].replace('<div role="list" class="citation-list">', '<div class="citation-list">')
        context["body"] = _breakable(body)


def _breakable(body: str) -> str:
    """Return a page in which a name of several words in a head of a table may break behind its strokes."""
    return re.sub(r"(?<=>)[^<]*_[^<]*(?=</th>)", lambda name: name[0].replace("_", "_<wbr>"), body)


def _plain_signs(_app: Sphinx, _what: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Escape the signs of formulas and code in docstrings, which would be read as markup."""
    sign = re.compile(r"(?<![\w\\|])\|(?=\w)|\*\*(?=\w)")
    lines[:] = [sign.sub(lambda match: "".join("\\" + c for c in match[0]), line) for line in lines]


def _without_fields(_app: Sphinx, _what: str, _name: str, member: object, _skip: bool, _options: object) -> bool | None:
    """Leave out the fields of a named tuple, which its docstring lists."""
    return True if type(member).__name__ == "_tuplegetter" else None


def _launch(app: Sphinx, page: str, _template: str, context: dict, _doctree: object) -> None:
    """Add the buttons of Colab and Binder to the launch page, once the repository has a public address."""
    address = app.config.tracing_repository
    if page == "book/teach/launch" and address:
        rows: dict[str, str] = {}
        for notebook, service, link in handouts.launchers(Path(app.srcdir), address):
            label = f'{service}<span class="visually-hidden">: {notebook}</span>'
            row = rows.get(notebook, f'<tr><th scope="row">{notebook.replace("_", " ")}</th><td>')
            rows[notebook] = f'{row} <a class="sd-btn sd-btn-primary" href="{html.escape(link)}">{label}</a>'
        body = "".join(f"{row}</td></tr>" for row in rows.values())
        context["body"] = context["body"].replace("<!-- launchers -->", f"<table><tbody>{body}</tbody></table>")


def _copy(app: Sphinx, error: Exception | None) -> None:
    """Put the tables of all studies, the preview picture and the notebooks to download into the built book."""
    if error or app.builder.format != "html":
        return
    source = Path(app.srcdir)
    shutil.copyfile(source / "book" / "landing.png", Path(app.outdir) / "_static" / "landing.png")
    notebooks = Path(app.outdir) / "notebooks"
    handouts.write_standalone(notebooks, source, app.config.tracing_repository)
    handouts.write_starters(notebooks / "starters", source, app.config.tracing_repository)
    for study in results.studies():
        (target := Path(app.outdir) / "results" / study).mkdir(parents=True, exist_ok=True)
        for table in results.shown(study).glob("*.csv"):
            shutil.copyfile(table, target / table.name)


def _slides(app: Sphinx, error: Exception | None) -> None:
    """Build the slides beside the book, as `make slides` does."""
    source, out = Path(app.srcdir) / "book" / "teach" / "slides", Path(app.outdir) / "slides"
    if error or app.builder.name != "html" or not source.is_dir():
        return
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "revealjs", "-d", str(out) + ".doctrees", str(source), str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    shutil.rmtree(str(out) + ".doctrees", ignore_errors=True)
    if done.returncode:
        raise ExtensionError(f"The slides must build as the book does; they did not: {done.stderr[-2000:]}")
    deck = (out / "index.html").read_text(encoding="utf-8")
    (out / "index.html").write_text(re.sub(r"// .*https://.*\n", "\n", deck), encoding="utf-8")  # a comment of the theme's


def _on_wall(spec: dict) -> dict:
    """Return a chart of panels that can be read from the last row: its panels fill the slide, its letters are large."""
    letters = {"labelFontSize": 17, "titleFontSize": 17}
    spec["config"] = spec.get("config", {}) | {"axis": letters, "legend": letters}
    spec["facet"]["header"]["labelFontSize"] = 19
    spec["spec"]["width"] = 300
    return spec


def _picture(spec: dict) -> str:
    """Return a chart as a picture that paper can hold: sharp at any size, with the chart's alt text."""
    source = base64.b64encode(vl_convert.vegalite_to_svg(spec, vl_version=vega.VEGA_LITE).encode()).decode()
    alt = html.escape(spec["description"], quote=True)
    return f'<img class="print-chart" alt="{alt}" src="data:image/svg+xml;base64,{source}">'


def pictures(page: str, slides: bool = False) -> str:
    """Return a page whose charts are pictures, as they open: for paper, or for slides with larger letters."""
    return _CHART.sub(lambda match: _picture((_on_wall if slides else dict)(json.loads(match[1]))), page)


def _on_paper(page: str, root: Path) -> str:
    """Return the book in one page, as Sphinx wrote it, with a title page, and without links to files, which paper cannot open."""
    book = credits.citations(root)[0]
    lines = [
        "; ".join(book["authors"]),
        f"{book['where'].capitalize()}, printed {datetime.now(UTC):%Y-%m-%d}",
        credits.footer(root),
        "<p>Each chart is shown as it opens. The web pages have its other choices and what is folded here.</p>",
    ]
    body = "".join(f"<div>{line}</div>" for line in lines)
    title = f'<div class="print-title"><h1>{html.escape(book["title"])}</h1>{body}</div>'
    heading = re.compile(r'(id="jb-print-docs-body" class="onlyprint">)\s*<h1>.*?</h1>', flags=re.S)
    page = heading.sub(lambda match: match[1] + title, page, count=1)
    page = re.sub(r'(<a\b[^>]*?)\shref="(?!#|[a-z]+:)[^"]*"', r"\1", page)
    return pictures(page)


def _print(app: Sphinx, error: Exception | None) -> None:
    """Write the page to print, once the book was built in one page."""
    if not error and app.builder.name == "singlehtml":
        page = (Path(app.outdir) / f"{app.config.root_doc}.html").read_text(encoding="utf-8")
        (Path(app.outdir) / PRINTED).write_text(_on_paper(page, Path(app.srcdir)), encoding="utf-8")


def setup(app: Sphinx) -> dict:
    """Register this extension's listeners."""
    _without_thebe(app)
    os.environ[vega.DRAWN] = "1"  # the kernels of pages have our environment
    app.add_config_value("tracing_repository", "", "html")
    app.connect("config-inited", _sign)
    app.connect("config-inited", toc.on_config, priority=901)  # sphinx-external-toc reads the contents at 900
    app.connect("env-get-outdated", toc.on_outdated)
    app.connect("source-read", toc.on_source)
    app.connect("autodoc-process-docstring", _plain_signs)
    app.connect("autodoc-skip-member", _without_fields)
    app.connect("doctree-read", terms.on_read)
    app.connect("doctree-resolved", terms.on_resolved)
    app.connect("html-page-context", toc.on_page)
    app.connect("html-page-context", _describe)
    app.connect("html-page-context", _launch)
    app.connect("html-page-context", _mend)
    app.connect("build-finished", _copy)
    app.connect("build-finished", _slides)
    app.connect("build-finished", _print)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
