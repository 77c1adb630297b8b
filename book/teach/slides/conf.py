"""The slides, by the Sphinx builder `revealjs`: `make slides`. Charts become pictures; nothing is loaded from elsewhere."""

import shutil
from pathlib import Path

from tracing_utils.book import pages

project, copyright, html_copy_source = "Slides", "", False
extensions = ["myst_nb", "sphinx_revealjs"]
myst_enable_extensions = ["attrs_inline", "colon_fence", "dollarmath"]
nb_execution_mode, nb_execution_timeout, nb_execution_raise_on_error = "force", 300, True
nb_mime_priority_overrides = [
    ("revealjs", "application/vnd.vegalite.v6+json", 1),
    ("revealjs", "text/html", 2),
    ("revealjs", "text/plain", 3),
]
revealjs_style_theme, revealjs_static_path = "slides.css", ["static"]
revealjs_script_files = ["revealjs/dist/reveal.js"]
revealjs_script_conf = {"hash": True, "slideNumber": "c/t", "transition": "none", "width": 1280, "height": 720}

_KEPT = {"reveal.js", "reveal.css", "LICENSE"}  # of what sphinx-revealjs brings: the rest (themes, plug-ins) is not used


def _draw(_app, _page, _template, context, _doctree):
    context["body"] = pages.pictures(context.get("body", ""), slides=True)


def _drop(app, _error):
    for file in [*Path(app.outdir, "_static", "revealjs").rglob("*")]:
        if file.is_file() and file.name not in _KEPT:
            file.unlink()
    for folder in ("_sources", ".doctrees", "jupyter_execute"):
        shutil.rmtree(Path(app.outdir, folder), ignore_errors=True)


def setup(app):
    """Register what is done to the deck once it is written."""
    app.connect("html-page-context", _draw)
    app.connect("build-finished", _drop)
