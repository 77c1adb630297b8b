"""A chapter, an executed notebook and a module appear in the book because their file exists."""

import importlib
import sys

import pytest
from sphinx_external_toc.api import GlobItem
from sphinx_external_toc.parsing import parse_toc_yaml

from tracing_utils.book import contents
from tracing_utils.core.paths import PROJECT

PAGES = {str(path.relative_to(PROJECT).with_suffix("")) for path in (PROJECT / "book").rglob("*.md")}


def parts(pages, root=PROJECT):
    """The pages of each part of the real contents, filled from these pages."""
    toc = parse_toc_yaml(PROJECT / "_toc.yml")
    contents.fill(toc, pages, root)
    assert set(toc) == {toc.root.docname, *(item for part in toc.root.subtrees for item in part.items)}
    return {part.caption: [str(item) for item in part.items] for part in toc.root.subtrees}


def test_every_page_is_in_the_contents_once_and_every_page_of_the_contents_exists():
    pages = [page for part in parts(PAGES).values() for page in part]
    assert sorted([*pages, "book/index"]) == sorted(PAGES)


def test_chapters_stand_in_the_order_of_their_front_matter_between_the_pages_that_the_contents_name():
    read = parts(PAGES)["Read"]
    first = read.index("book/probing")
    assert read[first : first + 3] == ["book/probing", "book/mutual_information", "book/steering"]
    assert read[-1] == "book/what_stands"


def test_a_chapter_without_a_place_comes_last_and_no_other_part_changes():
    before, after = parts(PAGES), parts(PAGES | {"book/a_toy", "book/teach/not_a_chapter"})
    read = after.pop("Read")
    assert read == [*before.pop("Read")[:-1], "book/a_toy", "book/what_stands"]
    assert after == before


def test_executed_notebooks_of_any_experiment_and_study_are_listed_by_name_and_number():
    runs = {f"book/runs/pocket/toy-step{step}" for step in (64, 8, 512)} | {"book/runs/mine/probing-step0"}
    notebooks = ["book/runs/mine/probing-step0", *(f"book/runs/pocket/toy-step{step}" for step in (8, 64, 512))]
    assert parts(PAGES | runs)["Executed notebooks"] == notebooks


def test_a_part_without_pages_is_left_out_so_that_a_book_without_runs_builds():
    toc = parse_toc_yaml(PROJECT / "_toc.yml")
    assert any(isinstance(item, GlobItem) for part in toc.root.subtrees for item in part.items)
    assert "Executed notebooks" in [part.caption for part in toc.root.subtrees]
    assert "Executed notebooks" not in parts(PAGES)


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
    return [line for line in contents.sections(package).splitlines() if line.startswith("#")]


def test_the_page_of_modules_has_a_section_a_folder_and_a_new_module_appears_in_it(package, tmp_path):
    assert headings(package) == ["## `toys`", "### `toys.cars`", "## `toys.wheels`", "### `toys.wheels.round`"]
    (tmp_path / "toys" / "boats.py").write_text("")
    assert headings(package)[1:3] == ["### `toys.boats`", "### `toys.cars`"]
    assert ".. automodule:: toys.boats" in contents.sections(package)
