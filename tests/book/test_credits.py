"""What the book says of itself is what the repository and the installed packages say."""

import json
import shutil
import subprocess
from datetime import date
from hashlib import sha256

import pandas as pd
import pytest
import yaml

from tracing_utils import __version__, results
from tracing_utils.book import credits, vega
from tracing_utils.core.paths import PROJECT


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with one commit of a known date, and results made from it."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    date = {"GIT_COMMITTER_DATE": "2026-02-03T04:05:06Z", "GIT_AUTHOR_DATE": "2026-02-03T04:05:06Z", "PATH": "/usr/bin:/bin"}
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "first"], check=True, env=date)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    monkeypatch.setattr(results, "PROJECT", tmp_path)
    for study in ("one", "two"):
        (tmp_path / "results" / study).mkdir(parents=True)
        (tmp_path / "results" / study / "provenance.json").write_text(json.dumps({"commit": f"{commit} (with changes)"}))
        (tmp_path / "results" / study / "ledger.csv").write_text("revision\n")
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


def test_the_footer_says_which_results_were_made_on_this_machine(repository, monkeypatch):
    root, commit = repository
    shutil.copytree(root / "results" / "two", root / "runs" / "two" / "results")
    monkeypatch.delenv("TRACING_UTILS_RESULTS")
    text = credits.footer(root)
    assert f"Results of one: 2026-02-03, commit {commit[:10]}." in text
    assert f"Results of two: run on this machine, 2026-02-03, commit {commit[:10]}." in text


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
    assert credits.reference(paper).startswith("Qian, C., Zhang, J., Yao, W.,")
    assert ", & Shao, J. (2024). Towards Tracing Trustworthiness Dynamics: " in credits.reference(paper)
    assert credits.reference(paper).endswith(". https://arxiv.org/abs/2402.19465")
    assert credits.reference(book) == f"The authors of this book (2026). {book['title']}. version {__version__}."
    assert "author = {{The authors of this book}}" in credits.bibtex(book, "tracing")  # one name, not first and last


@pytest.mark.parametrize("study", ["pocket", "smollm2-steering"])
def test_a_published_study_is_cited_by_its_commit_and_its_folder(study):
    commit = json.loads((PROJECT / "results" / study / "provenance.json").read_text())["commit"]
    cited = credits.reference(credits.dataset(PROJECT, study))
    assert cited.startswith(f"The authors of this book (2026). Results of the study {study}. Data set in ")
    assert cited.endswith(f"version {__version__}, commit {commit[:10]}, results/{study}.")


FIELDS = {"cff-version", "message", "title", "type", "version", "date-released", "license", "authors", "references"}
PERSON, ENTITY = {"family-names", "given-names"}, {"name"}


def faults_of_cff(content: dict) -> list[str]:
    """Return what the Citation File Format 1.2.0 forbids in these contents, of the fields that are used here."""
    found = [f"field {name}" for name in {*content} - FIELDS]
    found += [f"no {name}" for name in ("cff-version", "message", "title", "authors") if not content.get(name)]
    found += ["cff-version"] if content.get("cff-version") != "1.2.0" else []
    found += ["type"] if content.get("type") not in ("software", "dataset") else []
    found += ["version"] if not isinstance(content.get("version"), str) else []
    found += ["date"] if not isinstance(content.get("date-released"), date) else []
    for entry in (content, *content.get("references", [])):
        found += ["person"] if any({*author} not in (PERSON, ENTITY) for author in entry.get("authors", [{}])) else []
    for entry in content.get("references", []):
        found += [f"no {name} of a reference" for name in ("type", "title", "authors") if not entry.get(name)]
        found += ["conference"] if "conference" in entry and {*entry["conference"]} != ENTITY else []
    return found


def test_citation_cff_is_valid_and_of_this_version():
    content = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    assert faults_of_cff(content) == []
    assert content["version"] == __version__
    assert f"## {__version__} - {content['date-released']}\n" in (PROJECT / "CHANGELOG.md").read_text()
    wrong = content | {
        "type": "book",
        "authors": [{"family-name": "A"}],
        "journal": "J",
        "references": [{"title": "t", "conference": "c"}],
    }
    assert len(faults_of_cff(wrong)) == 7
