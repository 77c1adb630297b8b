"""Sphinx extension: what the pages carry beyond what Jupyter Book puts in, and what is taken out of them.

Jupyter Book loads sphinx-thebe, which names a script on another host on every page (twice, so that browsers
report an error). Nothing here runs code in the page, so it is disconnected. The published tables are copied beside the
pages, so that a chart can link to the numbers it was drawn from.

Public names: `setup`.
"""

import shutil
from pathlib import Path

from sphinx.application import Sphinx


def _without_thebe(app: Sphinx) -> None:
    """Disconnect sphinx-thebe; it was connected before, since Jupyter Book's own extensions come first."""
    for listeners in list(app.events.listeners.values()):
        for listener in list(listeners):
            if listener.handler.__module__ == "sphinx_thebe":
                app.disconnect(listener.id)
    app.registry.css_files = [entry for entry in app.registry.css_files if entry[0] != "sphinx-thebe.css"]


def _mend_roles(_app: Sphinx, _page: str, _template: str, context: dict, _doctree: object) -> None:
    """Take away the list role that docutils gives a list of citations, whose entries have no role of list items."""
    if "body" in context:
        context["body"] = context["body"].replace('<div role="list" class="citation-list">', '<div class="citation-list">')


def _copy_results(app: Sphinx, error: Exception | None) -> None:
    """Copy the published tables of all studies into the built book."""
    if error or app.builder.format != "html":
        return
    for table in sorted((Path(app.srcdir) / "results").glob("*/*.csv")):
        target = Path(app.outdir) / "results" / table.parent.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(table, target / table.name)


def setup(app: Sphinx) -> dict:
    """Register this extension's listeners."""
    _without_thebe(app)
    app.connect("html-page-context", _mend_roles)
    app.connect("build-finished", _copy_results)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
