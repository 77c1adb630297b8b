"""A chapter, an executed notebook and a module appear in the book because their file exists."""

import importlib
import sys

import pytest
from sphinx_external_toc.api import GlobItem
from sphinx_external_toc.parsing import parse_toc_yaml

from tracing_utils.book import toc
from tracing_utils.core.paths import PROJECT

PAGES = {
    str(path.relative_to(PROJECT).with_suffix("")) for path in (PROJECT / "book").rglob("*.md") if path.parent.name != "slides"
}


def parts(pages, root=PROJECT):
    """The pages of each part of the real contents, filled from these pages."""
    site = filled(pages, root)
    return {part.caption: [str(item) for item in part.items] for part in site.root.subtrees}


def filled(pages, root=PROJECT):
    site = parse_toc_yaml(PROJECT / "_toc.yml")
    toc.fill(site, pages, root)
    return site


def below(site, page):
    """The pages that are folded below a page."""
    return [str(item) for part in site[page].subtrees for item in part.items]


def test_every_page_is_in_the_contents_once_and_every_page_of_the_contents_exists():
    site = filled(PAGES)
    assert sorted(["book/index", *(item for page in site for item in below(site, page))]) == sorted(PAGES) == sorted(site)


def test_a_reader_sees_about_two_dozen_pages_and_finds_the_rest_folded_below_them():
    seen = ["book/index", *(page for part in parts(PAGES).values() for page in part)]
    assert 20 <= len(seen) <= 28
    assert {"book/datasheet", "book/costs", "book/faults", "book/api"} <= set(below(filled(PAGES), "book/appendix")) - set(seen)


def test_next_leads_from_a_finding_to_the_next_finding_and_never_into_an_executed_notebook():
    runs = {f"book/runs/pocket/{name}-step{step}" for name in ("probing", "steering") for step in (0, 64)}
    site = filled(PAGES | runs)
    assert below(site, "book/probing") == ["book/runs/pocket/probing-step0", "book/runs/pocket/probing-step64"]
    assert toc.neighbours(site, "book/probing") == ("book/suite", "book/mutual_information")
    assert toc.neighbours(site, "book/index") == (None, "book/world")
    assert toc.neighbours(site, "book/runs/pocket/probing-step0") == ("book/probing", None)
    seen, page = [], "book/index"
    while page:
        seen.append(page)
        page = toc.neighbours(site, page)[1]
    assert seen == ["book/index", *(page for part in parts(PAGES).values() for page in part)]


def test_chapters_stand_in_the_order_of_their_front_matter_between_the_pages_that_the_contents_name():
    read = parts(PAGES)["Read"]
    first = read.index("book/probing")
    assert read[first : first + 3] == ["book/probing", "book/mutual_information", "book/steering"]
    assert read[-2:] == ["book/what_stands", "book/deviations"]


def test_a_chapter_without_a_place_comes_last_and_no_other_part_changes():
    before, after = parts(PAGES), parts(PAGES | {"book/a_toy", "book/teach/not_a_chapter"})
    read = after.pop("Read")
    assert read == [*before.pop("Read")[:-2], "book/a_toy", "book/what_stands", "book/deviations"]
    assert after == before


def test_executed_notebooks_of_any_experiment_and_study_lie_below_its_page_by_name_and_number():
    runs = {f"book/runs/pocket/toy-step{step}" for step in (64, 8, 512)} | {"book/runs/mine/toy-step0"}
    site = filled(PAGES | runs | {"book/toy", "book/toy_box"})
    assert below(site, "book/toy") == ["book/runs/mine/toy-step0", *(f"book/runs/pocket/toy-step{step}" for step in (8, 64, 512))]
    assert below(site, "book/toy_box") == []
    assert toc.RUNS in [item for part in parse_toc_yaml(PROJECT / "_toc.yml").root.subtrees for item in part.items]


def test_a_part_without_pages_is_left_out_so_that_a_book_without_chapters_builds():
    site = parse_toc_yaml(PROJECT / "_toc.yml")
    assert any(isinstance(item, GlobItem) for part in site.root.subtrees for item in part.items)
    site.root.subtrees[0].items = [item for item in site.root.subtrees[0].items if isinstance(item, GlobItem)]
    toc.fill(site, set(), PROJECT)
    assert "Read" not in [part.caption for part in site.root.subtrees]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with a folder and a module, which can be imported."""
    (tmp_path / "toys" / "wheels").mkdir(parents=True)
    for name in ("__init__", "cars", "wheels/__init__", "wheels/round"):
        (tmp_path / "toys" / f"{name}.py").write_text(f'"""About {name}."""\n')
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("toys")
    for name in [name for name in sys.modules if name.split(".")[0] == "toys"]:
        del sys.modules[name]


def headings(package):
    return [line for line in toc.sections(package).splitlines() if line.startswith("#")]


def test_the_page_of_modules_has_a_section_a_folder_and_a_new_module_appears_in_it(package, tmp_path):
    assert headings(package) == ["## `toys`", "### `toys.cars`", "## `toys.wheels`", "### `toys.wheels.round`"]
    (tmp_path / "toys" / "boats.py").write_text("")
    assert headings(package)[1:3] == ["### `toys.boats`", "### `toys.cars`"]
    assert ".. automodule:: toys.boats" in toc.sections(package)
