"""The book: built from the published results with no warning, drawn by a real browser, and asking no other host."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tracing_utils import studies, vega
from tracing_utils.suites import PROJECT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: the built pages are not opened in a browser")


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """The built book, from a copy of the sources; the executed notebooks, which a run makes, are left out."""
    copy = tmp_path_factory.mktemp("book")
    for name in ("book", "results", "studies"):
        shutil.copytree(PROJECT / name, copy / name, ignore=shutil.ignore_patterns("runs", "vega.js"))
    for name in ("_config.yml", "CHANGELOG.md"):
        shutil.copy(PROJECT / name, copy)
    toc = yaml.safe_load((PROJECT / "_toc.yml").read_text())
    toc["parts"] = [part for part in toc["parts"] if part["caption"] != "Executed notebooks"]
    (copy / "_toc.yml").write_text(yaml.safe_dump(toc))
    vega.write_javascript(copy / "book" / "_static" / "vega.js")
    command = [Path(sys.executable).with_name("jupyter-book"), "build", ".", "--quiet", "-W", "-n", "--keep-going"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return copy / "_build" / "html"


def pages(html):
    return sorted((html / "book").glob("*.html"))


def browse(page, profile, *flags):
    """Open a page in headless Chromium with every host out of reach; return its DOM and what the console said."""
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
        "--disable-component-update", "--disable-sync", "--disable-features=NetworkTimeServiceQuerying",
        "--allow-file-access-from-files", "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}",
        "--virtual-time-budget=15000", "--enable-logging=stderr", f"--log-net-log={profile}/net.json", "--dump-dom",
        *flags, page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


def test_every_page_of_the_contents_exists_and_every_page_is_in_the_contents():
    toc = (PROJECT / "_toc.yml").read_text()
    named = set(re.findall(r"(?:file|root): (book/\S+)", toc))
    study = studies.read(PROJECT / "studies" / "pocket.yml")
    runs = {f"book/runs/pocket/{experiment}-{revision}" for experiment in study.experiments() for revision in study.featured}
    assert named == {f"book/{path.stem}" for path in (PROJECT / "book").glob("*.md")} | runs


def test_what_we_ship_for_the_pages_names_no_other_host():
    for path in (PROJECT / "book" / "_static").glob("*.*"):
        if path.name != "vega.js":
            assert "//" not in re.sub(r"^\s*//.*$|/\*.*?\*/", "", path.read_text(), flags=re.M | re.S), path


def test_no_page_loads_anything_from_another_host(html):
    found = {}
    for page in [*pages(html), html / "index.html"]:
        text = page.read_text()
        loads = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"(?:https?:)?//[^\"]*", text)
        loads += re.findall(r"<link\b(?=[^>]*rel=\"(?:stylesheet|preload|icon)[^>]*)[^>]*href=\"(?:https?:)?//[^\"]*", text)
        loads += re.findall(r"https?://[^\"']*\.js\b", text)
        if loads:
            found[page.name] = loads
    assert not found


def test_every_chart_has_an_alt_text_that_is_a_sentence(html):
    chart = re.compile(r'class="vega-chart" role="img" aria-label="([^"]*)"')
    labels = [label for page in pages(html) for label in chart.findall(page.read_text())]
    assert len(labels) >= 8
    assert all(len(label) > 40 and label.endswith(".") for label in labels), labels


def test_no_computed_number_is_missing_from_the_prose(html):
    for page in pages(html):
        assert "glue:text" not in page.read_text()
        assert not re.search(r">\s*nan\s*<", page.read_text()), page


@needs_chromium
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_chart_is_drawn_offline_without_a_console_error(html, tmp_path, theme):
    drawn = 0
    scheme = [] if theme == "light" else ["--blink-settings=preferredColorScheme=0"]
    for page in pages(html):
        charts = page.read_text().count('class="vega-chart"')
        if not charts:
            continue
        dom, console = browse(page, tmp_path / page.stem, *scheme)
        assert f'data-theme="{theme}"' in dom
        assert dom.count('data-drawn="true"') == charts, (page.name, console)
        assert dom.count("<svg") >= charts
        errors = [line for line in console if "Uncaught" in line or "Error" in line]
        assert not errors, (page.name, errors)
        drawn += charts
    assert drawn >= 8


def asked_hosts(page, profile):
    """Return the web addresses that opening a page asked for; what the browser asks on its own account has no origin."""
    browse(page, profile)
    requests = [event.get("params", {}) for event in json.loads((profile / "net.json").read_text())["events"]]
    pages_own = [request for request in requests if request.get("initiator", "not an origin") != "not an origin"]
    return {request["url"] for request in pages_own if request["url"].startswith(("http:", "https:"))}


@needs_chromium
def test_opening_the_landing_page_asks_no_other_host(html, tmp_path):
    guilty = tmp_path / "guilty.html"
    guilty.write_text('<img src="http://pictures.example/one.png">')
    assert asked_hosts(guilty, tmp_path / "first") == {"http://pictures.example/one.png"}
    assert asked_hosts(html / "book" / "index.html", tmp_path / "second") == set()


def test_the_environment_for_conda_pins_nothing_of_its_own():
    content = yaml.safe_load((PROJECT / "environment.yml").read_text())
    assert "--constraint constraints.txt" in content["dependencies"][-1]["pip"]
    assert not [entry for entry in content["dependencies"][1:-1] if "=" in entry]


def test_the_readme_shows_the_two_commands_and_its_tree_is_true():
    readme = (PROJECT / "README.md").read_text()
    assert "make book" in readme
    assert "make test" in readme
    tree = re.search(r"## What is here\n\n```\n(.*?)```", readme, flags=re.S)[1]
    for line in tree.splitlines():
        for name in line.split() if line.startswith("_") else line.split()[:1]:
            assert (PROJECT / name).exists(), name
    assert os.access(PROJECT / ".ci" / "run", os.R_OK)
