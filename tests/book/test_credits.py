"""What the book says of itself is what the repository and the installed packages say."""

import json
import shutil
import subprocess
from hashlib import sha256

import pandas as pd
import pytest

from tracing_utils import __version__
from tracing_utils.book import credits, vega
from tracing_utils.core.paths import PROJECT


@pytest.fixture
def repository(tmp_path):
    """A repository with one commit of a known date, and results made from it."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    date = {"GIT_COMMITTER_DATE": "2026-02-03T04:05:06Z", "GIT_AUTHOR_DATE": "2026-02-03T04:05:06Z", "PATH": "/usr/bin:/bin"}
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "first"], check=True, env=date)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    for study in ("one", "two"):
        (tmp_path / "results" / study).mkdir(parents=True)
        (tmp_path / "results" / study / "provenance.json").write_text(json.dumps({"commit": f"{commit} (with changes)"}))
    return tmp_path, commit


def test_the_footer_names_version_commit_and_date_of_the_results(repository):
    root, commit = repository
    text = credits.footer(root)
    assert f"Version {__version__}, commit {commit[:10]}." in text
    assert f"Results of one, two: 2026-02-03, commit {commit[:10]}." in text


def test_outside_git_the_footer_says_less(repository):
    root, commit = repository
    shutil.rmtree(root / ".git")
    text = credits.footer(root)
    assert f"Version {__version__}." in text
    assert f"Results of one, two: commit {commit[:10]}." in text


def test_what_is_carried_has_a_version_a_licence_and_the_hash_of_its_file(tmp_path):
    table = credits.carried().set_index("what")
    assert len(table) == len(credits.CARRIED) + 1
    assert table["version"].str.fullmatch(r"\d+(\.\d+)+(, \d+(\.\d+)+)*").all()
    assert table["sha256"].is_unique
    assert table.loc["MathJax", "version"].startswith("3.")  # the version that Sphinx 7 writes for
    vega.write_javascript(tmp_path / "vega.js")
    inner = (tmp_path / "vega.js").read_text().removeprefix("(() => {").removesuffix("})();\n")
    assert table.iloc[0]["sha256"] == sha256(inner.encode()).hexdigest()  # of what the page loads


def test_a_file_that_a_package_does_not_bring_is_no_silent_gap(monkeypatch):
    monkeypatch.setattr(credits, "CARRIED", pd.DataFrame([("Ghost", "pydata-sphinx-theme", "ghost.js", "", "MIT")]))
    with pytest.raises(StopIteration):
        credits.carried()


def test_the_book_and_the_paper_are_cited_as_citation_cff_says():
    book, paper = credits.citations(PROJECT)
    assert __version__ in book["where"]
    assert paper["authors"][0] == "Qian, Chen"
    assert "Qian, Chen and Zhang, Jie" in credits.bibtex(paper, "qian")
    assert "author = {{The authors of this book}}" in credits.bibtex(book, "tracing")  # one name, not first and last
