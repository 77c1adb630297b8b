"""The book's version and commit, the date of its results, how to cite it, and the third-party files it includes.

Rule: everything is computed when the book is built, from `CITATION.cff`, the `provenance.json` of the results that are shown
and the installed packages.
"""

import html
import json
import re
import subprocess
from hashlib import sha256
from importlib.metadata import distribution, version
from pathlib import Path

import pandas as pd
import vl_convert
import yaml

from .. import __version__, results
from ..core import downloads
from . import vega

__all__ = ["CARRIED", "footer", "carried", "citations", "dataset", "bibtex", "reference"]

CARRIED = pd.read_csv(Path(__file__).with_name("carried.csv"), keep_default_na=False)
"""Third-party files in the built pages: name, package, end of a file's path, expression for its own version, licence."""


def _git(root: Path, *arguments: str) -> str:
    """Return the output of git, or nothing outside a repository."""
    return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True).stdout.strip()


def footer(root: Path) -> str:
    """Return the footer of every page as HTML: version and commit; of each study's results, here or published, commit and date.

    Outside git, commit and dates are left out.
    """
    commit = _git(root, "rev-parse", "--short=10", "HEAD")
    lines = [f"Version {__version__}" + (f", commit {commit}" if commit else "") + "."]
    sources: dict[str, list[str]] = {}
    for study in results.studies("ledger"):
        path = results.shown(study) / "provenance.json"
        own = json.loads(path.read_text())["commit"].split(" ")[0]
        date = _git(root, "show", "--no-patch", "--format=%cs", own) if own else ""
        here = "run on this machine" if results.shown(study) == results.own(study) else ""
        sources.setdefault(", ".join(filter(None, [here, date, own and f"commit {own[:10]}"])), []).append(study)
    lines += [f"Results of {', '.join(names)}: {of or 'no commit named'}." for of, names in sources.items()]
    return "<p>" + "<br>".join(html.escape(line) for line in lines) + "</p>"


def carried() -> pd.DataFrame:
    """Return the third-party files in the pages: version, licence, the package they come from, sha256 of the main file."""
    script = vl_convert.javascript_bundle(vl_version=vega.VEGA_LITE)
    versions = f"{vl_convert.get_vega_version()}, {vega.VEGA_LITE}, {vl_convert.get_vega_embed_version()}"
    package = f"vl-convert-python {version('vl-convert-python')}"
    rows = [("Vega, Vega-Lite, Vega-Embed", versions, "BSD-3-Clause", package, sha256(script.encode()).hexdigest())]
    for name, package, ending, pattern, licence in CARRIED.itertuples(index=False):
        installed = distribution(package)
        file = Path(next(installed.locate_file(file) for file in installed.files if str(file).endswith(ending)))
        own = re.search(pattern, _banner(file))[1] if pattern else installed.version
        rows.append((name, own, licence, f"{package} {installed.version}", downloads.sha256(file)))
    return pd.DataFrame(rows, columns=["what", "version", "licence", "package", "sha256"])


def _banner(script: Path) -> str:
    """Return a script with its notice, which bundlers put into a separate file."""
    notice = script.with_name(script.name + ".LICENSE.txt")
    return (notice if notice.exists() else script).read_text(encoding="utf-8")


def citations(root: Path) -> list[dict]:
    """Return this book and the works `CITATION.cff` refers to, each with `authors`, `title`, `year`, `where` and `url`."""
    book = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    entries = []
    for entry in [book, *book["references"]]:
        where = entry.get("conference", {}).get("name") or f"version {entry['version']}"
        year = str(entry.get("year") or entry["date-released"])[:4]
        authors = [author.get("name") or f"{author['family-names']}, {author['given-names']}" for author in entry["authors"]]
        known = {"title": entry["title"], "year": year, "where": where, "url": entry.get("url", "")}
        entries.append({"authors": authors} | known)
    return entries


def dataset(root: Path, study: str) -> dict:
    """Return the published results of a study as an entry of `citations`."""
    book = citations(root)[0]
    commit = json.loads((results.folder(study) / "provenance.json").read_text(encoding="utf-8"))["commit"][:10]
    where = f"Data set in {book['title']}, {book['where']}, commit {commit}, results/{study}"
    return book | {"title": f"Results of the study {study}", "where": where}


def reference(entry: dict) -> str:
    """Return an entry of `citations` in one line, in the style in which Crossref gives references (APA)."""
    names = [re.sub(r"(?<=, )(\w)\w*", r"\1.", name) for name in entry["authors"]]
    authors = ", & ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return " ".join([f"{authors} ({entry['year']}). {entry['title']}. {entry['where']}.", entry["url"]]).strip()


def bibtex(entry: dict, key: str) -> str:
    """Return an entry of `citations` as BibTeX."""
    authors = " and ".join(f"{{{name}}}" if "," not in name else name for name in entry["authors"])
    fields = {"author": authors, "title": f"{{{entry['title']}}}", "year": entry["year"], "note": entry["where"]}
    fields["url"] = entry["url"]
    return f"@misc{{{key},\n" + "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items() if value) + "}"
