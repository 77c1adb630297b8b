"""Sphinx extension: take out of the pages what Jupyter Book always puts in and this book does not use.

Jupyter Book loads sphinx-thebe, which names a script on another host on every page (twice, so that browsers
report an error). Nothing here runs code in the page.

Public names: `setup`.
"""

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict:
    """Disconnect sphinx-thebe; it was connected before, since Jupyter Book's own extensions come first."""
    for listeners in list(app.events.listeners.values()):
        for listener in list(listeners):
            if listener.handler.__module__ == "sphinx_thebe":
                app.disconnect(listener.id)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
