"""Texts from outside stay texts on a page: in a chart, its table, its tooltip and the table of answers."""

import ast
import json
import re
import shutil
from pathlib import Path

import altair as alt
import pandas as pd
import pytest
from playwright import sync_api

from tracing_utils import results
from tracing_utils.book import charts, encodings, prose, vega
from tracing_utils.core.paths import PROJECT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: hostile pages are not opened in a browser")

SCRIPT = '</script><script>window.sprung = "script"</script>'
IMAGE = "<img src=x onerror=\"window.sprung = 'image'\">"
TEXTS = (
    SCRIPT,
    IMAGE,
    "<!--<script>",
    '"><svg onload="window.sprung = \'svg\'">',
    "{{7*7}}",
    "[a](javascript:window.sprung=1)",
    "</td></table>",
)


def cells_of(page: str, needle: str) -> str:
    """The code cell of a page that holds `needle`."""
    cells = re.findall(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", (PROJECT / "book" / page).read_text(), flags=re.S | re.M)
    return next(cell for cell in cells if needle in cell)


def hostile_chart() -> dict:
    table = pd.DataFrame({"step": range(len(TEXTS)), "value": range(len(TEXTS)), "word": TEXTS})
    tips = [alt.Tooltip("word:N", title=IMAGE), "step:Q"]
    drawn = alt.Chart(table, title=SCRIPT).mark_point(size=400, filled=True)
    drawn = drawn.encode(x="step:Q", y=alt.Y("value:Q", title=IMAGE), color=alt.Color("word:N", title=SCRIPT), tooltip=tips)
    return drawn.properties(description=f"A chart of {SCRIPT} {IMAGE}.").to_dict()


def chart_html(spec: dict) -> str:
    output = type("Output", (), {"mime_type": vega.MIME, "content": spec})
    (node,) = vega.VegaPlugin.handle_mime(None, output, inline=False)
    return node.astext()


def answers_html(monkeypatch, tmp_path) -> str:
    """The table of answers as the book's page makes it, from a published file that holds hostile texts."""
    monkeypatch.setattr(results, "PROJECT", tmp_path)
    published = pd.read_csv(next((PROJECT / "results").glob("*/answers.csv")), keep_default_na=False)
    (tmp_path / "results" / "mine").mkdir(parents=True)
    rows = published.iloc[: len(TEXTS)].copy()
    for column in rows.columns[rows.dtypes == published.dtypes[published.columns[0]]]:
        rows[column] = TEXTS[: len(rows)]
    rows.to_csv(tmp_path / "results" / "mine" / "answers.csv", index=False)
    code = cells_of("steering.md", "spoken[columns]")
    tree = ast.parse(re.sub(r"\A---\n.*?^---\n", "", code, flags=re.S | re.M))
    names = {"pd": pd, "results": results, "charts": charts, "encodings": encodings, "prose": prose}
    exec(compile(ast.Module(tree.body[:-1], []), "page", "exec"), names)
    return eval(compile(ast.Expression(tree.body[-1].value), "page", "eval"), names).to_html()


def opened(folder: Path, body: str) -> tuple[object, list[str], int, str]:
    """What a browser finds on a page with this body: whether a script of it ran, errors, charts drawn, text of a tooltip."""
    (folder / "_static").mkdir()
    shutil.copy(PROJECT / "book" / "_static" / "charts.js", folder / "_static")
    vega.write_javascript(folder / "_static" / "vega.js")
    head = '<!doctype html><html data-theme="light"><head><meta charset="utf-8"><title>t</title></head><body><main>'
    (folder / "page.html").write_text(f'{head}{body}</main><script src="_static/charts.js"></script></body></html>')
    errors: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--host-resolver-rules=MAP * ~NOTFOUND"])
        page = browser.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(dialog.message))
        page.goto((folder / "page.html").as_uri())
        tip = ""
        if 'class="vega-chart"' in body:
            page.wait_for_selector(".vega-chart[data-drawn]")
            page.locator(".chart-data summary").press("Enter")
            page.wait_for_selector(".chart-table")
            page.locator(".vega-stage svg .mark-symbol path").first.hover(force=True)
            page.wait_for_selector(".vg-tooltip.visible", timeout=10_000)
            tip = page.locator(".vg-tooltip").inner_text()
        page.wait_for_timeout(200)
        found = page.evaluate("window.sprung"), errors, page.locator(".vega-chart[data-drawn]").count(), tip
        browser.close()
    return found


@needs_chromium
def test_hostile_texts_in_a_chart_its_table_its_tooltip_and_the_answers_stay_texts(tmp_path, monkeypatch):
    bare = "".join(f"<p>{text}</p>" for text in (IMAGE, SCRIPT))
    (tmp_path / "bare").mkdir()
    assert opened(tmp_path / "bare", bare)[0] in ("script", "image")  # as they are, they do run
    (tmp_path / "made").mkdir()
    spec = hostile_chart()
    body = chart_html(spec) + answers_html(monkeypatch, tmp_path / "made") + pd.DataFrame({"statement": TEXTS})._repr_html_()
    assert "sprung" in body
    sprung, errors, drawn, tip = opened(tmp_path / "made", body)
    assert sprung is None
    assert errors == []
    assert drawn == 1
    assert "</script>" in tip or "<img" in tip or "svg" in tip  # shown as it is written


def test_json_in_a_page_cannot_end_its_element():
    page = chart_html(hostile_chart())
    inside = re.search(r'<script type="application/json">(.*?)</script>', page, flags=re.S)[1]
    assert json.loads(inside)["title"] == SCRIPT
    assert "<" not in inside
    assert page.count("<script") == 1
