"""The book on paper: a title page, static charts with their alt text, open answers, folded examples, no buttons."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from playwright import sync_api

from tracing_utils.book import pages, vega
from tracing_utils.core.paths import PROJECT
from tracing_utils.run import runner

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: the book is not printed")

FIRST = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
# First

See [what is below](#below) and [a file](second.md#own). Download <a href="../notebooks/probing.ipynb" download>this</a>.

:::{margin} Beside
A note in the margin.
:::

```{code-cell} python
:tags: [remove-input]
import pandas as pd
from tracing_utils.book import charts, vega

vega.enable()
loss = pd.DataFrame({"step": [0, 1], "loss": [2.0, 1.0], "href": ["second.html", "second.html"]})
charts.loss_curve(loss, "The loss falls from two to one in a single step.")
```

```{code-cell} python
:tags: [remove-input, hide-output]
print("an offensive example")
```

(below)=
## Below

:::{admonition} Solution
:class: dropdown
The solution.
:::

<details><summary>Answer</summary>

The answer.

</details>
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory, server_of_kernels):
    """The folder of a book of two pages, built in one page."""
    copy = tmp_path_factory.mktemp("paper")
    shutil.copytree(PROJECT / "book" / "_static", copy / "book" / "_static", ignore=shutil.ignore_patterns("vega.js"))
    for name in ("_config.yml", "CITATION.cff", "notebooks/probing.md"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, copy / name)
    teach = [f"book/teach/{name}.md" for name in ("watch_trust_appear", "pretrain_your_own", "exercises")]
    for name in ("book/landing.png", "book/references.bib", *teach):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, copy / name)
    (copy / "book" / "_extra").mkdir()
    (copy / "book" / "index.md").write_text(FIRST)
    (copy / "book" / "second.md").write_text("(own)=\n# Second\n\nThe end.\n")
    (copy / "book" / "third.md").write_text("# Third\n\n## Part\n\nMore.\n")
    (copy / "_toc.yml").write_text(
        yaml.safe_dump(
            {
                "format": "jb-book",
                "root": "book/index",
                "parts": [{"caption": "Part", "chapters": [{"file": "book/second"}, {"glob": "book/*"}]}],
            }
        )
    )
    vega.write_javascript(copy / "book" / "_static" / "vega.js")
    program = Path(sys.executable).with_name("jupyter-book")
    command = [program, "build", ".", "--quiet", "--builder", "custom", "--custom-builder", "singlehtml"]
    with runner.named_kernel() as environment:
        done = subprocess.run(command, cwd=copy, env=server_of_kernels | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return copy / "_build" / "singlehtml"


@pytest.fixture(scope="module")
def sheet(printed):
    """The page to print as a browser lays it out for paper."""
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--allow-file-access-from-files"])
        page = chromium.new_page()
        page.emulate_media(media="print")
        page.goto((printed / pages.PRINTED).as_uri())
        yield page
        chromium.close()


def test_what_is_printed_begins_with_a_title_page_and_the_contents(sheet):
    title = sheet.locator(".print-title")
    assert "Tracing trustworthiness" in title.locator("h1").inner_text()
    assert "Version" in title.inner_text()
    contents = sheet.locator("#jb-print-toc").inner_text()
    assert "Second" in contents
    assert "Third" in contents  # a chapter that no entry names


def test_answers_stand_open_and_what_is_folded_is_left_out(sheet):
    assert sheet.get_by_text("The solution.").is_visible()
    assert sheet.get_by_text("The answer.").is_visible()
    assert sheet.get_by_text("A note in the margin.").is_visible()
    assert not sheet.get_by_text("an offensive example").is_visible()
    sheet.emulate_media(media="screen")
    assert not sheet.get_by_text("The solution.").is_visible()  # folded, until it is printed
    sheet.emulate_media(media="print")


def test_nothing_to_press_is_printed(sheet):
    pressed = sheet.locator("button:visible, select:visible, input:visible, nav:visible a.left-prev, .bd-sidebar:visible")
    assert sheet.locator("button").count() > 3
    assert pressed.evaluate_all("found => found.map(element => element.outerHTML)") == []


def test_no_address_of_a_file_is_printed(printed, sheet):
    links = sheet.eval_on_selector_all("main a[href]", "found => found.map(link => link.getAttribute('href'))")
    assert any(link.startswith("#") for link in links)
    assert [link for link in links if not re.match(r"#|https?:", link)] == []


def test_the_pdf_is_tagged_has_an_outline_and_says_what_the_chart_shows(printed, tmp_path):
    rule = re.search(r"\$\(CHROMIUM\) (.*?)--print-to-pdf", (PROJECT / "Makefile").read_text(), flags=re.S)[1]
    arguments = rule.replace("\\\n", " ").split()
    out = tmp_path / "book.pdf"
    subprocess.run(
        [CHROMIUM, *arguments, f"--print-to-pdf={out}", (printed / pages.PRINTED).as_uri()], check=True, capture_output=True
    )
    pdf = out.read_bytes()
    assert b"/StructTreeRoot" in pdf
    assert b"/Outlines" in pdf
    assert b"/Lang (en)" in pdf
    assert b"/Alt (The loss falls from two to one in a single step.)" in pdf
    assert b"file://" not in pdf
