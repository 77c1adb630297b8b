"""The book: built from the published results with no warning, drawn by a real browser, and asking no other host."""

import csv
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock
from urllib.parse import unquote

import nbformat
import pandas as pd
import pytest
import yaml
from axe_playwright_python.base import AXE_SCRIPT
from playwright import sync_api
from sphinx.application import Sphinx

from tests.book.plain import faults, rendered, without_code
from tracing_utils.book import handouts, prose, vega
from tracing_utils.book import pages as pages_extension
from tracing_utils.core.paths import PROJECT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: the built pages are not opened in a browser")


@pytest.fixture(scope="module")
def html(tmp_path_factory, server_of_kernels):
    """The built book, from a copy of the sources; of the executed notebooks, which a run makes, two stand for all."""
    copy = tmp_path_factory.mktemp("book")
    for name in ("book", "results", "studies", "notebooks"):
        shutil.copytree(PROJECT / name, copy / name, ignore=shutil.ignore_patterns("runs", "vega.js"))
    for name in ("_config.yml", "_toc.yml", "CHANGELOG.md", "CITATION.cff"):
        shutil.copy(PROJECT / name, copy)
    vega.write_javascript(copy / "book" / "_static" / "vega.js")
    for revision in ("step512", "step4096"):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"# Probing at {revision}")])
        (copy / "book" / "runs" / "pocket").mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, copy / "book" / "runs" / "pocket" / f"probing-{revision}.ipynb")
    command = [sys.executable, "-m", "tracing_utils.run.jobs", "book", copy]
    done = subprocess.run(command, env=server_of_kernels, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return copy / "_build" / "html"


def pages(html):
    return sorted((html / "book").rglob("*.html"))


@cache
def read(path):
    return Reader(path)


class Reader(HTMLParser):
    """What a page says of itself: its ids, where its links lead, its pictures with their alt texts."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.pictures = [], [], []
        self.feed(path.read_text())
        self.close()

    def handle_starttag(self, tag, attributes):
        has = dict(attributes)
        if has.get("id"):
            self.ids.append(has["id"])
        if tag == "a" and has.get("href"):
            self.links.append(has["href"])
        if tag == "img":
            self.pictures.append((has.get("src", ""), has.get("alt", "")))


def leads_nowhere(page, link):
    """Is this link of a page one to a file or an anchor of the book that is not there?"""
    if re.match(r"[a-z]+:", link):
        return False
    file, _, anchor = link.partition("#")
    target = (page.parent / unquote(file.partition("?")[0])).resolve() if file else page
    if not target.is_file():
        return True
    return bool(anchor) and target.suffix == ".html" and unquote(anchor) not in read(target).ids


def is_no_alt_text(alt):
    return len(alt) < 10 or bool(re.search(r"\.\w{3,4}$|/", alt))


def other_hosts(text):
    """Addresses on other hosts that a page's elements load."""
    loads = re.findall(r"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc=\"(?:https?:)?//[^\"]*", text)
    loads += re.findall(r"<link\b(?=[^>]*rel=\"(?:stylesheet|preload|icon|shortcut)[^>]*)[^>]*href=\"(?:https?:)?//[^\"]*", text)
    return loads + re.findall(r"https?://[^\"'\s]*\.js\b", text)


def other_hosts_of_css(text):
    return re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^\"')]*", re.sub(r"/\*.*?\*/", "", text, flags=re.S))


CONSTANTS = (
    "95 %",  # the level of every interval
    "2.5 % of the variance",  # of nHSIC as released: where a component begins to count
    "3.5 billion tokens",  # the paper's first checkpoint
    "1.1 times the unsteered",  # the default bound on what steering may disturb
    "near .5",  # where a balanced floor lies
)
"""Numbers of the method or of others, in the words around them, which a page may state without computing them."""


def typed_decimals(text):
    """Decimals and percentages in a page's prose that nothing computed.

    Left out: front matter, code and maths, roles, addresses, comments, `CONSTANTS`, and numbers that are names (a
    version, an arXiv number).
    """
    text = without_code(re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.S))
    text = re.sub(r"\$\$.*?\$\$|<!--.*?-->|^%[^\n]*$", "", text, flags=re.S | re.M)
    text = re.sub(r"(?:\{[^}\s]+\})?`[^`]*`|\$[^$\n]+\$|\]\([^)]*\)|<?https?:\S+|arXiv[: ]\S+|Python \S+", "", text)
    for constant in CONSTANTS:
        text = text.replace(constant, "")
    return re.findall(r"(?<![\w.-])\d*\.\d+(?![\w.-]*\w)|(?<![\w.])\d+(?:\.\d+)?\s?%", text)


ALIKE = "dl.py, .genindextable li, li.toc-entry, .vega-stage svg :is(g, path, text, line, image)"
"""What a template writes by the thousand: entries of the reference, of the index and of a page's contents, marks of a chart."""

AXE = """async ([alike, options]) => {
  const names = ["class", "role", "style", "tabindex", "opacity"], met = {}, kept = new Set();
  const kind = (part) => [part.tagName, ...part.getAttributeNames(), ...names.map((name) => part.getAttribute(name))].join(" ");
  document.querySelectorAll(`:is(${alike}), :is(${alike}) *`).forEach((part) => {
    const what = kind(part.parentElement) + " > " + kind(part);
    if ((met[what] = (met[what] || 0) + 1) < 3)
      for (let at = part; at && !kept.has(at); at = at.parentElement) kept.add(at);
  });
  const others = [...document.querySelectorAll(alike)].filter((part) => !kept.has(part));
  const away = others.map((part) => [part, document.createComment("")]);
  away.forEach(([part, place]) => part.replaceWith(place));

  const plain = {"background-color": "rgba(0, 0, 0, 0)", "background-image": "none", "opacity": "1", "filter": "none",
    "mix-blend-mode": "normal", "position": "static", "z-index": "auto"}, looks = new Map(), seen = new Set();
  const behind = (part) => {
    if (part && !looks.has(part)) {
      const style = getComputedStyle(part), own = Object.keys(plain).map((name) => style.getPropertyValue(name));
      looks.set(part, behind(part.parentElement) + (String(own) === String(Object.values(plain)) ? "" : own.join() + "/"));
    }
    return looks.get(part) || "";
  };
  const look = (part) => {
    const style = getComputedStyle(part);
    return ["color", "font-size", "font-weight", "text-shadow"].map((name) => style.getPropertyValue(name)).join() + behind(part);
  };
  const contrast = axe._audit.rules.find((rule) => rule.id === "color-contrast"), matches = contrast.matches;
  contrast.matches = function (part, ...more) {
    const own = look(part);
    return !seen.has(own) && matches.call(this, part, ...more) && !!seen.add(own);
  };
  const mild = axe._audit.rules.filter((rule) => ["minor", "moderate"].includes(rule.impact));
  const rules = Object.fromEntries(mild.map((rule) => [rule.id, { enabled: false }]));
  const { violations } = await axe.run(options.runOnly ? options : { rules, ...options });
  contrast.matches = matches;
  away.forEach(([part, place]) => place.replaceWith(part));
  return violations;
}"""
"""Runs axe where it can find something new, and for the rules whose violations are serious or critical.

Of what is alike it sees two of each kind: the same attributes, and the same class, role and style, below the same kind of
parent. The rest is away meanwhile: of what `exclude` names axe asks each element whether it lies in it. Contrast is asked
once for each look: colour and size of the text, and each background, opacity and place of what it lies in.
"""


@dataclass
class Visit:
    """What a browser found on a page, in both themes."""

    charts: int = 0
    drawn: dict[str, int] = field(default_factory=dict)
    chart_links: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    width: int = 0

    @contextmanager
    def watching(self, page: sync_api.Page):
        heard = {
            "console": lambda message: self.errors.append(message.text) if message.type == "error" else None,
            "pageerror": lambda error: self.errors.append(str(error)),
            "request": lambda request: self.requests.append(request.url) if request.url[:4] == "http" else None,
        }
        for event, hear in heard.items():
            page.on(event, hear)
        try:
            yield
        finally:
            for event, hear in heard.items():
                page.remove_listener(event, hear)

    def look(self, page: sync_api.Page, theme: str):
        """Switch the system's theme, let the charts be drawn in it, and ask axe."""
        page.emulate_media(color_scheme=theme)
        if self.charts:
            drawn = f"document.querySelectorAll('.vega-chart[data-drawn={theme}]').length"
            with suppress(sync_api.TimeoutError):  # how many were drawn is what is kept
                page.wait_for_function(f"{drawn} >= {self.charts}")
            self.drawn[theme] = page.evaluate(drawn)
        # Nothing but colours changes with the theme.
        rules = {} if theme == "light" else {"runOnly": ["color-contrast", "link-in-text-block"]}
        options = rules | {"preload": False, "resultTypes": ["violations"]}
        for rule in page.evaluate(AXE, [ALIKE, options]):
            if rule["impact"] in ("serious", "critical"):
                self.violations.append(f"{theme}: {rule['id']}: {rule['nodes'][0]['html'][:200]}")


CUT = """() => {
  document.querySelectorAll(".toggle-hidden").forEach((box) => box.classList.remove("toggle-hidden"));
  const wider = (code) => code.scrollWidth > code.clientWidth + 1;
  return [...document.querySelectorAll("div.highlight pre")].filter(wider).map((code) => code.textContent.slice(0, 80));
}"""
"""Finds the code, solutions included, that scrolls sideways."""


def visit(page: sync_api.Page, path: Path) -> Visit:
    """Open a page; look at it in both themes, and once as narrow as a small phone."""
    seen = Visit(charts=path.read_text().count('class="vega-chart"'))
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(color_scheme="light")
    with seen.watching(page):
        page.goto(path.as_uri())
        page.add_style_tag(content="* { transition: none !important }")  # axe must not see a colour on its way to another
        page.evaluate(AXE_SCRIPT)
        for theme in ("light", "dark"):
            seen.look(page, theme)
        seen.chart_links = page.eval_on_selector_all(".chart-tools a", "links => links.map(link => link.href)")
        seen.cut = page.evaluate(CUT)
        page.set_viewport_size({"width": 320, "height": 700})
        seen.width = page.evaluate("document.documentElement.scrollWidth")
    page.goto("about:blank")  # else the charts would be drawn anew for the next page's size and theme
    return seen


@pytest.fixture(scope="module")
def browser():
    """One Chromium for all pages, with every host out of reach."""
    with sync_api.sync_playwright() as playwright:
        arguments = ["--host-resolver-rules=MAP * ~NOTFOUND", "--allow-file-access-from-files"]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def tab(browser):
    """One page of the browser, in which the book is read: a new one is a new process, which compiles the libraries again."""
    page = browser.new_page()
    yield page
    page.close()


@pytest.fixture
def page(tab):
    """The tab, empty, light and as large as a new one."""
    tab.goto("about:blank")
    tab.set_viewport_size({"width": 1280, "height": 720})
    tab.emulate_media(color_scheme="light")
    return tab


@pytest.fixture(scope="module")
def visits(html, tab):
    """Every page of the book as a browser saw it."""
    return {path: visit(tab, path) for path in [*pages(html), html / "search.html", html / "genindex.html"]}


GUILTY = """<!doctype html><html lang="en"><head><title>Guilty</title></head><body>
<dl class="py"></dl><dl class="py"></dl><dl class="py"><dd><button></button></dd></dl>
<dl class="py"></dl><dl class="py"><dd><div style="width: 500px">wide, and alike</div>
<div class="highlight"><pre style="width: 9ch; overflow: auto">a long line</pre></div></dd></dl>
<div style="background: #222"><p style="color: #ccc">not pale</p></div>
<div style="background: #fff"><p style="color: #ccc">pale</p></div>
<img src="http://pictures.example/one.png"><img src="landing.png" alt="landing.png">
<a id="twice" href="nowhere.html">a</a><a id="twice" href="#gone">b</a><a href="guilty.html#twice">c</a>
<div class="vega-chart"></div><script>throw new Error("guilty")</script></body></html>"""


@pytest.fixture(scope="module")
def guilty(tmp_path_factory):
    """A page with each of the faults that the checks look for."""
    path = tmp_path_factory.mktemp("guilty") / "guilty.html"
    path.write_text(GUILTY)
    return path


@pytest.fixture(scope="module")
def guilty_visit(guilty, tab):
    tab.set_default_timeout(2000)  # its chart is never drawn
    seen = visit(tab, guilty)
    tab.set_default_timeout(30_000)
    return seen


def test_every_module_of_the_package_is_on_the_page_about_it(html):
    files = [path.relative_to(PROJECT).with_suffix("") for path in (PROJECT / "tracing_utils").rglob("*.py")]
    modules = {".".join(file.parts).removesuffix(".__init__") for file in files}
    assert len(modules) > 50
    assert not {f"module-{name}" for name in modules} - set(read(html / "book" / "api.html").ids)


def test_what_we_ship_for_the_pages_names_no_other_host():
    for path in (PROJECT / "book" / "_static").glob("*.*"):
        if path.name != "vega.js":
            named = re.sub(r"^\s*//.*$|/\*.*?\*/|xmlns=\"[^\"]*\"", "", path.read_text(), flags=re.M | re.S)
            assert "//" not in named, path


def test_no_page_loads_anything_from_another_host(html, guilty):
    assert other_hosts(guilty.read_text())
    found = {page.name: other_hosts(page.read_text()) for page in [*pages(html), *html.glob("*.html")]}
    assert not {name: loads for name, loads in found.items() if loads}


def test_no_style_sheet_loads_anything_from_another_host(html):
    assert other_hosts_of_css("@import '//fonts.example/a.css'; p { background: url(http://a.example/b.png) }")
    sheets = list((html / "_static").rglob("*.css"))
    assert len(sheets) >= 5
    assert not [sheet for sheet in sheets if other_hosts_of_css(sheet.read_text())]


def test_every_link_inside_the_book_leads_somewhere(html, guilty):
    assert [leads_nowhere(guilty, link) for link in read(guilty).links] == [True, True, False]
    built = [*pages(html), html / "search.html", html / "genindex.html"]
    assert not [(page.name, link) for page in built for link in set(read(page).links) if leads_nowhere(page, link)]


def test_buttons_to_launch_are_offered_only_where_the_repository_has_a_public_address(html):
    written = (html / "book" / "teach" / "launch.html").read_text()
    assert "mybinder" not in written
    page = {"body": written}
    for notebook, service, link in handouts.launchers(PROJECT, "https://github.com/someone/tracing"):
        if service == "Colab":
            assert link.endswith(f"someone/tracing/blob/gh-pages/notebooks/{notebook}.ipynb")
            assert (html / "notebooks" / f"{notebook}.ipynb").is_file()  # what is published there is the built book
    app = Mock(spec=Sphinx, config=SimpleNamespace(tracing_repository="https://code.example/a/tracing"), srcdir=PROJECT)
    pages_extension._launch(app, "book/teach/launch", "", page, None)
    assert page["body"].count("/v2/git/https%3A%2F%2Fcode.example%2Fa%2Ftracing/HEAD?urlpath=lab/tree/_build/notebooks/") >= 4


def test_an_id_names_one_place_of_a_page(html, guilty):
    def repeated(page):
        ids = read(page).ids
        return sorted({name for name in ids if ids.count(name) > 1})

    assert repeated(guilty) == ["twice"]
    assert not {page.name: repeated(page) for page in pages(html) if repeated(page)}


def test_every_picture_has_an_alt_text_that_is_not_a_file_name(html, guilty):
    assert [is_no_alt_text(alt) for _, alt in read(guilty).pictures] == [True, True]
    assert not [(page.name, *picture) for page in pages(html) for picture in read(page).pictures if is_no_alt_text(picture[1])]


def test_every_chart_has_an_alt_text_that_is_a_sentence(html):
    chart = re.compile(r'class="vega-stage" role="img" aria-label="([^"]*)"')
    labels = [label for page in pages(html) for label in chart.findall(page.read_text())]
    assert len(labels) >= 8
    assert all(len(label) > 40 and label.endswith(".") for label in labels), labels


PROSE = """---
value: 0.12
---
% 0.9 is said in a comment
The interval is 95 %, the floor near .5; see [it](a-0.1.md), `0.2`, $x = 0.3$, arXiv 2402.19465 and CC0-1.0.

```python
0.4
```

{glue:text}`a:.2f`
"""


def test_no_number_in_the_prose_was_typed():
    assert typed_decimals(PROSE) == []
    typed = "It reaches 0.73, not .5.\n\n```{note}\nor 12 % of 3.5.\n```\n"
    assert typed_decimals(PROSE + typed) == ["0.73", ".5", "12 %", "3.5"]
    found = {page.name: typed_decimals(page.read_text()) for page in (PROJECT / "book").rglob("*.md")}
    assert not {name: numbers for name, numbers in found.items() if numbers}


def test_pages_of_the_further_instruments_call_a_suite_by_the_name_for_readers(html):
    for page in ("geometry", "behaviour", "components"):
        text = (html / "book" / f"{page}.html").read_text(encoding="utf-8")
        assert prose.NAMES["smollm2-135m-instruct-wheel"] in text
        assert "smollm2-135m-instruct-wheel" not in text


def test_no_sentence_holds_a_table_as_pandas_prints_it(html):
    printed = r"dtype: \w+</span>"
    assert re.search(printed, f"<p>It is <span>{pd.Series(['4'], ['pocket'])}</span>.</p>")
    assert not [page.name for page in pages(html) if re.search(printed, page.read_text())]


def test_no_sentence_counts_nothing_of_nothing(html):
    """A selection that finds no row says so; the page on costs alone may have none, since no GPU was lent."""
    empty = r"\b0 of 0\b"
    assert re.search(empty, "<p>it holds in <span>0 of 0</span></p>")
    assert not [page.name for page in pages(html) if page.stem != "costs" and re.search(empty, page.read_text())]


def test_a_sentence_stays_short_and_plain_once_its_numbers_are_filled_in(html):
    assert long_sentences("index", f"<article><p>It is <span>{'so ' * 31}</span>.</p></article>")
    unchecked = {"changelog", "api", "bibliography"}  # entries in note form, docstrings, titles
    found = [each for page in pages(html) if page.stem not in unchecked for each in long_sentences(page.stem, page.read_text())]
    assert not found, "\n".join(found)


def long_sentences(name, text):
    """The sentences of a built page that are long, or have many commas before the verb."""
    faulty = ((sentence, [fault for fault in faults(sentence) if fault[0].isdigit()]) for sentence in rendered(name, text))
    return [f"{name}: {', '.join(what)}: {sentence}" for sentence, what in faulty if what]


def test_no_computed_number_is_missing_from_the_prose(html):
    for page in pages(html):
        assert "glue:text" not in page.read_text()
        assert not re.search(r">\s*nan\s*<", page.read_text()), page


@needs_chromium
def test_every_chart_is_drawn_in_both_themes(visits, guilty_visit):
    assert guilty_visit.charts == 1
    assert guilty_visit.drawn == {"light": 0, "dark": 0}
    assert not {page.name: seen.drawn for page, seen in visits.items() if set(seen.drawn.values()) - {seen.charts}}
    assert sum(seen.charts for seen in visits.values()) >= 8


@needs_chromium
def test_no_page_complains_on_the_console(visits, guilty_visit):
    assert any("guilty" in error for error in guilty_visit.errors)
    assert not {page.name: seen.errors for page, seen in visits.items() if seen.errors}


@needs_chromium
def test_no_page_asks_another_host(visits, guilty_visit):
    assert guilty_visit.requests == ["http://pictures.example/one.png"]
    assert not {page.name: seen.requests for page, seen in visits.items() if seen.requests}


@needs_chromium
def test_axe_finds_no_serious_violation_in_either_theme(visits, guilty_visit):
    assert {violation.split(": ")[1] for violation in guilty_visit.violations} >= {"color-contrast", "image-alt", "button-name"}
    assert not {page.name: seen.violations for page, seen in visits.items() if seen.violations}


def test_a_long_name_in_a_head_of_a_table_may_break_and_nothing_else_is_changed():
    before = '<th rowspan="3">word_transfer</th><td>a_b</td><p>a_b</p><th>no</th>'
    assert pages_extension._breakable(before) == before.replace("word_transfer", "word_<wbr>transfer")


@needs_chromium
@pytest.mark.parametrize("width", [360, 1280])
def test_a_heading_is_smaller_than_the_one_it_stands_below(html, page, width):
    page.set_viewport_size({"width": width, "height": 740})
    page.goto((html / "book" / "steering.html").as_uri())
    sizes = [
        page.evaluate(f"parseFloat(getComputedStyle(document.querySelector('main h{level}')).fontSize)") for level in (1, 2, 3)
    ]
    assert sizes[0] > sizes[1] > sizes[2] >= 16


@needs_chromium
def test_no_page_scrolls_sideways_on_a_small_phone(visits, guilty_visit):
    assert guilty_visit.width > 320
    assert not {page.name: seen.width for page, seen in visits.items() if seen.width > 320}


@needs_chromium
def test_no_line_of_code_is_cut_where_a_window_is_1280_pixels_wide(visits, guilty_visit):
    assert guilty_visit.cut == ["a long line"]
    assert not {page.name: seen.cut for page, seen in visits.items() if seen.cut}


@needs_chromium
def test_every_chart_names_its_code_and_links_to_it(visits):
    links = {(page, link) for page, seen in visits.items() for link in seen.chart_links}
    assert sum("api.html#tracing_utils.book.charts." in link for _, link in links) >= 4
    assert sum(link.endswith(".csv") for _, link in links) >= 4
    dead = [link for page, link in links if leads_nowhere(page, os.path.relpath(unquote(link)[7:], page.parent))]
    assert not dead


def test_the_slides_carry_reveal_alone_and_each_chart_as_a_picture_with_its_alt_text(html, guilty):
    deck = html / "slides" / "index.html"
    assert other_hosts(guilty.read_text())
    assert not other_hosts(deck.read_text())
    assert {path.suffix for path in (html / "slides" / "_static" / "revealjs").rglob("*.*")} == {".js", ".css"}
    pictures = read(deck).pictures
    assert len(pictures) >= 4
    assert not [alt for _, alt in pictures if is_no_alt_text(alt)]
    assert "vega-chart" not in deck.read_text()
    assert "glue:text" not in deck.read_text()


@needs_chromium
def test_the_slides_turn_and_none_is_taller_than_the_screen(html, browser):
    page, asked = browser.new_page(viewport={"width": 1280, "height": 720}), []
    page.on("request", lambda request: asked.append(request.url) if request.url[:4] == "http" else None)
    page.goto((html / "slides" / "index.html").as_uri())
    page.wait_for_function("window.Reveal && Reveal.isReady()")
    heights = []
    for _ in range(page.evaluate("Reveal.getTotalSlides()")):
        heights.append(page.evaluate("Reveal.getCurrentSlide().scrollHeight"))
        page.evaluate("Reveal.next()")
    assert page.evaluate("Reveal.isLastSlide()")
    assert len(heights) >= 10
    assert max(heights) <= 720
    assert asked == []
    page.close()


@needs_chromium
def test_the_prediction_sheet_prints_on_one_page_and_each_summary_on_its_own(html, page):
    count = {}
    for name in ("sheet", "summaries", "guide"):
        page.goto((html / "book" / "teach" / f"{name}.html").as_uri())
        count[name] = len(re.findall(rb"/Type\s*/Page\b", page.pdf(prefer_css_page_size=True)))
    summaries = (PROJECT / "book" / "teach" / "summaries.md").read_text().count("\n## ")
    assert count["guide"] > 2  # what is longer than a page is counted so
    assert (count["sheet"], count["summaries"]) == (1, summaries)


@needs_chromium
def test_a_chart_gives_its_data_as_a_table_and_a_csv_and_its_picture(html, page):
    page.goto((html / "book" / "suite.html").as_uri())
    page.wait_for_selector(".vega-chart[data-drawn]")
    loss = list(csv.reader((PROJECT / "checkpoints" / "pocket" / "loss.csv").read_text().splitlines()))
    saved = {}
    for kind in ("CSV", "SVG", "PNG"):
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Download fig-loss as {kind}").press("Enter")
        saved[kind] = Path(download.value.path()).read_bytes()
        assert download.value.suggested_filename == f"fig-loss.{kind.lower()}"
    drawn = list(csv.reader(saved["CSV"].decode().splitlines()))
    assert drawn[0] == loss[0]
    assert [[float(x) for x in row] for row in drawn[1:]] == [[float(x) for x in row] for row in loss[1:]]
    assert saved["SVG"].startswith(b"<svg")
    assert saved["PNG"].startswith(b"\x89PNG")
    assert page.locator(".chart-table").count() == 0  # made when it is asked for
    page.locator(".chart-data summary").press("Enter")
    page.wait_for_selector(".chart-table")
    cells = page.locator(".chart-table tbody tr").first.locator("td").all_inner_texts()
    assert [float(cell) for cell in cells] == pytest.approx([float(x) for x in loss[1]], rel=1e-3)  # four digits are shown
    shown = page.locator(".chart-table tbody tr").count()
    assert f"The first {shown} of {len(loss) - 1} rows; the CSV has all." in page.locator(".chart-data p").inner_text()


@needs_chromium
def test_a_chart_keeps_the_reader_s_choice_in_another_theme(html, page):
    page.goto((html / "book" / "index.html").as_uri())
    choice = page.locator(".vega-chart[data-drawn=light] .chart-controls select:visible").first
    options = choice.locator("option").all_inner_texts()
    other = next(option for option in options if option != choice.input_value())
    choice.select_option(other)
    page.emulate_media(color_scheme="dark")
    redrawn = page.locator(".vega-chart[data-drawn=dark] .chart-controls select:visible").first
    redrawn.wait_for()
    assert redrawn.input_value() == other


@pytest.fixture
def opened(html, page):
    """Open a page of the book with its charts drawn, and give the chart of a figure."""

    def chart(name, figure):
        page.goto((html / "book" / name).as_uri())
        page.wait_for_selector(f"#{figure} .vega-chart[data-drawn]")
        return page.locator(f"#{figure} .vega-chart")

    return chart


def drawing(chart):
    """The paths, lines and words that a chart shows once it is at rest; their order is Vega's."""
    chart.evaluate("chart => chart.chartView.runAsync().then(() => null)")
    return sorted(re.findall(r'(?<= d=")[^"]+|(?<=<line )[^>]+|[^<>]+(?=</text>)', chart.locator("svg").inner_html()))


EXPLORABLES = {"index.html": ["fig-landing"], "probing.html": ["fig-gain"], "mutual_information.html": ["fig-plane"]}


@needs_chromium
@pytest.mark.parametrize(("name", "figure"), [(name, figure) for name, figures in EXPLORABLES.items() for figure in figures])
def test_a_slider_moves_by_keyboard_says_its_step_and_redraws_the_chart(opened, name, figure):
    chart = opened(name, figure)
    slider = chart.get_by_role("slider", name="training step")
    before, last = drawing(chart), slider.get_attribute("aria-valuetext")
    chart.locator("summary").focus()  # something else of this chart
    assert drawing(chart) == before
    slider.press("ArrowLeft")
    sync_api.expect(slider).not_to_have_attribute("aria-valuetext", last)
    assert int(slider.get_attribute("aria-valuetext")) < int(last) == 4096
    assert chart.locator(".chart-step").inner_text() == slider.get_attribute("aria-valuetext")
    assert drawing(chart) != before


@needs_chromium
def test_training_can_be_played_and_stops_at_its_end(opened):
    chart = opened("index.html", "fig-landing")
    slider, button = chart.get_by_role("slider"), chart.get_by_role("button", name="Play")
    slider.press("Home")
    sync_api.expect(slider).to_have_attribute("aria-valuetext", "0")
    length = "chart => chart.querySelector('.mark-line.role-mark path').getTotalLength()"
    before = chart.evaluate(length)
    button.press("Enter")
    sync_api.expect(slider).to_have_attribute("aria-valuetext", "16")
    sync_api.expect(chart.get_by_role("button", name="Pause")).to_be_visible()
    slider.press("End")
    sync_api.expect(chart.get_by_role("button", name="Play")).to_be_visible()
    sync_api.expect(slider).to_have_attribute("aria-valuetext", "4096")
    assert chart.evaluate(length) > before  # the line is drawn up to the slider


@needs_chromium
def test_buttons_add_the_floor_and_balance_the_words(opened):
    chart = opened("index.html", "fig-landing")
    paper, floor, words = chart.locator(".chart-scene").all()
    sync_api.expect(paper).to_have_attribute("aria-pressed", "true")
    bare = drawing(chart)
    floor.press("Enter")
    sync_api.expect(floor).to_have_attribute("aria-pressed", "true")
    sync_api.expect(paper).to_have_attribute("aria-pressed", "false")
    assert len(drawing(chart)) > len(bare)
    words.press("Enter")
    sync_api.expect(chart.locator("select[name=statements]")).to_have_value("pocket")
    paper.press("Enter")
    assert drawing(chart) == bare


@needs_chromium
def test_one_choice_of_statements_holds_for_all_figures_of_a_page_and_is_kept_in_another_theme(opened):
    page = opened("probing.html", "fig-gain").page
    drawn = "[...document.querySelectorAll('.vega-chart')].every(chart => chart.dataset.drawn === '{}')"
    shown = (
        "[...document.querySelectorAll('.vega-chart')].filter(chart => chart.querySelector('select[name=statements]'))"
        ".map(chart => chart.chartView.signal('statements'))"
    )
    page.wait_for_function(drawn.format("light"))
    assert set(page.evaluate(shown)) == {"tracingllm"}
    page.locator("select[name=all-statements]").select_option("pocket")
    page.wait_for_function(f"{shown}.every(name => name === 'pocket')")
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(drawn.format("dark"))
    assert set(page.evaluate(shown)) == {"pocket"}
    assert len(page.evaluate(shown)) > 2


@needs_chromium
def test_a_drag_along_training_moves_the_slider_and_a_checkpoint_with_a_notebook_opens_it(opened, html):
    chart = opened("index.html", "fig-landing")
    slider, link = chart.get_by_role("slider"), chart.locator(".chart-page")
    chart.locator("select[name=statements]").select_option("pocket")
    sync_api.expect(link).to_have_attribute("href", "runs/pocket/probing-step4096.html")
    strips = chart.locator(".mark-rect.role-mark path")
    strips.nth(6).scroll_into_view_if_needed()
    chart.page.mouse.move(*middle(strips.nth(6)))
    chart.page.mouse.down()
    chart.page.mouse.move(*middle(strips.nth(5), down=5))
    sync_api.expect(slider).to_have_attribute("aria-valuetext", "512")
    sync_api.expect(link).to_have_attribute("href", "runs/pocket/probing-step512.html")
    assert not leads_nowhere(html / "book" / "index.html", "runs/pocket/probing-step512.html")
    chart.page.mouse.move(*middle(strips.nth(4), down=5))
    chart.page.mouse.up()
    sync_api.expect(slider).to_have_attribute("aria-valuetext", "256")
    sync_api.expect(link).to_be_hidden()  # no page of the book shows this checkpoint


def middle(mark, down=0):
    box = mark.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 4 + down


@needs_chromium
def test_a_click_on_a_map_chooses_layer_and_step_of_its_sections(opened):
    chart = opened("probing.html", "fig-gain")
    layer = chart.locator("select[name=layer]")
    assert layer.input_value() == "1"
    cells = chart.locator(".mark-rect.role-mark path")
    cells.first.scroll_into_view_if_needed()
    chart.page.mouse.click(*middle(cells.first))
    sync_api.expect(layer).to_have_value("0")
    sync_api.expect(chart.get_by_role("slider")).to_have_attribute("aria-valuetext", "0")
    sync_api.expect(chart.locator("svg")).to_contain_text("of layer 0")


@needs_chromium
def test_a_control_can_be_taken_away_and_brought_back(opened):
    chart = opened("probing.html", "fig-probing")
    before = drawing(chart)
    for name in ("floor", "lexical floor", "shuffled labels", "control task", "untrained", "the paper"):
        switch = chart.get_by_role("checkbox", name=name, exact=True)
        switch.press("Space")
        assert drawing(chart) != before, name
        switch.press("Space")
        assert drawing(chart) == before, name


@needs_chromium
@pytest.mark.parametrize(("name", "figure"), [("index.html", "fig-landing"), ("probing.html", "fig-probing")])
def test_a_chart_fills_the_page_at_every_width_and_is_never_wider(opened, name, figure):
    chart = opened(name, figure)
    for width in (1300, 320, 768):
        chart.page.set_viewport_size({"width": width, "height": 800})
        chart.page.wait_for_function(
            f"(stage => +stage.parentNode.dataset.room === stage.clientWidth)(document.querySelector('#{figure} .vega-stage'))"
        )
        room, drawn = (chart.locator(part).bounding_box()["width"] for part in (".vega-stage", "svg"))
        assert 0.9 * room < drawn <= room, width


@needs_chromium
def test_the_search_finds_a_page_without_a_server(html, page):
    page.goto((html / "search.html").as_uri() + "?q=nothingofthesort")
    page.wait_for_function("document.querySelector('#search-results p')?.innerText.includes('did not match')")
    page.goto((html / "search.html").as_uri() + "?q=lexical+floor")
    page.wait_for_selector("#search-results li a")
    assert any("glossary" in link.get_attribute("href") for link in page.locator("#search-results li a").all())


def test_the_environment_for_conda_and_binder_pins_nothing_of_its_own():
    content = yaml.safe_load((PROJECT / "environment.yml").read_text())
    assert [entry for entry in content["dependencies"] if "=" in entry] == ["python=3.11"]
    after = PROJECT / "postBuild"  # Binder runs it, if it may
    assert os.access(after, os.X_OK)
    assert after.read_text().startswith("#!")
    assert "--constraint constraints.txt" in after.read_text()
    assert (PROJECT / "constraints.txt").is_file()


def test_the_readme_shows_the_two_commands_and_its_tree_is_true():
    readme = (PROJECT / "README.md").read_text()
    assert "make book" in readme
    assert "make test" in readme
    tree = re.search(r"## What is here\n\n```\n(.*?)```", readme, flags=re.S)[1]
    for line in tree.splitlines():
        folder = PROJECT / "tracing_utils" if line.startswith(" ") else PROJECT  # the package's own folders are indented
        for name in line.split() if line.startswith("_") else line.split()[:1]:
            assert (folder / name).exists(), name
    assert os.access(PROJECT / ".ci" / "run", os.R_OK)


OUTSIDE = """(chart) => {
  const svg = chart.querySelector("svg").getBoundingClientRect();
  const inside = (box) => box.left >= svg.left - 1 && box.right <= svg.right + 1;
  const texts = [...chart.querySelectorAll("svg text")].filter((text) => text.textContent.trim());
  return texts.filter((text) => !inside(text.getBoundingClientRect())).map((text) => text.textContent);
}"""
"""Finds the words of a chart that its picture cuts off at the left or right."""


@needs_chromium
def test_a_choice_that_brings_longer_numbers_cuts_none_of_them_off(html, page):
    page.goto((html / "book" / "steering.html").as_uri())
    chart = page.locator("#fig-steering-world .vega-chart")
    page.wait_for_function("chart => chart.dataset.drawn", arg=chart.element_handle())
    silently = "chart => {{ await chart.chartView.signal('suite', '{}').runAsync(); }}"
    assert chart.evaluate(OUTSIDE) == []
    chart.evaluate(f"async {silently.format('scrambled arm')}")  # as a choice did once: the picture keeps its size
    assert chart.evaluate(OUTSIDE) != []
    chart.evaluate(f"async {silently.format('coherent arm')}")
    chart.locator("select[name=suite]").select_option("scrambled arm")
    page.wait_for_timeout(500)
    assert chart.evaluate(OUTSIDE) == []
    assert chart.evaluate("chart => chart.querySelector('svg').getBoundingClientRect().width <= chart.clientWidth")
