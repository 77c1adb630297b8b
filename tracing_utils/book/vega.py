"""Draw Altair charts in the book without any other host: a renderer for notebooks, a plug-in for the page.

Rule: every chart has a description; it becomes the alt text, and a chart without one is refused.

In a notebook a chart becomes a Vega-Lite specification, a PNG and its alt text; in the kernel of a page there is no PNG,
since no page shows it. On a page the specification is put into a `<div class="vega-chart">` and drawn by
`book/_static/charts.js` with the Vega libraries that `vl-convert` carries; the script also offers the data, and links to
where they come from: the chart's `usermeta`, which the renderer fills with the chart function of the cell and the results
the page has read.
"""

import base64
import html
import json
import os
import re
from pathlib import Path

import altair as alt
import vl_convert
from docutils import nodes
from IPython import get_ipython

from .. import results

__all__ = ["DRAWN", "MIME", "VEGA_LITE", "VegaPlugin", "enable", "write_javascript"]

MIME = "application/vnd.vegalite.v6+json"
DRAWN = "TRACING_UTILS_DRAWN"  # set where a page of the book draws the charts itself
VEGA_LITE = "6.4"  # the version Altair 6 writes; vl-convert carries its libraries


def _origin() -> dict:
    """Return where a chart comes from: the last chart function its cell names, and the results read in this session."""
    shell = get_ipython()
    cell = shell.user_ns.get("In", [""])[-1] if shell else ""
    named = re.findall(r"\b((?:charts|explorables|arms)\.[a-z]\w*|ladder\.chart)\(", cell)
    origin = {"code": f"{__package__}.{named[-1]}" if named else "", "results": results.read_so_far()}
    return {name: value for name, value in origin.items() if value}


def _render(spec: dict, **_options) -> dict:
    """Return the mime bundle of one chart; one without a description is refused."""
    alt_text = spec.get("description", "")
    if not alt_text:
        raise ValueError("A chart must have a description, which becomes its alt text; set .properties(description=...).")
    spec = {**spec, "usermeta": _origin() | spec.get("usermeta", {})}
    bundle = {MIME: spec, "text/plain": alt_text}
    if DRAWN in os.environ:
        return bundle
    png = vl_convert.vegalite_to_png(spec, vl_version=VEGA_LITE, scale=2)
    return bundle | {"image/png": base64.b64encode(png).decode()}


def enable() -> None:
    """Let charts of this session be drawn by the book."""
    alt.renderers.register("book", _render)
    alt.renderers.enable("book")


def write_javascript(path: Path) -> None:
    """Write the Vega libraries as one script that sets `window.vegaEmbed`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The bundle declares short names at its top level; inside a function they cannot meet the theme's.
    path.write_text(f"(() => {{{vl_convert.javascript_bundle(vl_version=VEGA_LITE)}}})();\n", encoding="utf-8")


class VegaPlugin:
    """MyST-NB plug-in that puts a chart's specification into the page (entry point `myst_nb.mime_renderers`)."""

    mime_priority_overrides = (("html", MIME, 1), ("singlehtml", MIME, 1))

    @staticmethod
    def handle_mime(_renderer, data, inline: bool) -> list[nodes.Element] | None:
        """Return the HTML of a chart, or None for other outputs."""
        if inline or data.mime_type != MIME:
            return None
        label = html.escape(data.content.get("description", ""), quote=True)
        # `<` could end the script element, or open a comment in it, from inside a string.
        spec = json.dumps(data.content, separators=(",", ":")).replace("<", "\\u003c")
        page = (
            f'<div class="vega-chart"><div class="vega-stage" role="img" aria-label="{label}"></div>'
            f'<script type="application/json">{spec}</script></div>'
        )
        return [nodes.raw("", page, format="html", classes=["output"])]
