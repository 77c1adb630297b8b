"""Notebooks to hand out: downloads that run on their own, and starters with the exercises but without the solutions.

Rule: nothing is written twice. Both are generated from `notebooks/*.md` and from the teaching pages of the book, in the
Markdown that any notebook program shows, and neither is committed: Binder's machine generates its notebooks when it is set
up (`postBuild`), and Colab opens those of the published book.
"""

import re
from pathlib import Path
from urllib.parse import quote

import jupytext
import nbformat
import pybtex.database
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

__all__ = [
    "SOLUTION", "LAUNCHED", "solutions", "shared", "titles", "starter", "standalone", "write_starters", "write_standalone",
    "repository", "launchers",
]  # fmt: skip

SOLUTION = re.compile(r"\n*:::\{admonition\} Solution\n:class: dropdown\n(.*?)\n:::\n?", flags=re.S)
"""A folded solution on a page or in a notebook."""

LAUNCHED = "_build/notebooks"
"""Folder into which `postBuild` writes the notebooks that Binder opens."""

_ADMONITION = re.compile(r":::\{admonition\} ([^\n]*)\n(?::class: [^\n]*\n)?(.*?)\n:::", flags=re.S)
_CITED = re.compile(r"\{cite\}`([^`]*)`")
_TARGET = re.compile(r"^\([\w-]+\)=\n", flags=re.M)
_FIGURE = re.compile(r"\{numref\}`fig-([\w-]+)`")
_PAGE = re.compile(r"\[([^\]]+)\]\((?:#[\w-]+|[\w./-]+\.md(?:#[\w-]+)?)\)")  # a link to a page, which is not handed out

_KERNEL = {"name": "python3", "language": "python", "display_name": "Python 3"}
_INSTALL = Path(__file__).with_name("install_cell.txt").read_text(encoding="utf-8")


def solutions(text: str) -> list[str]:
    """Return the code of the folded solutions of a page or notebook."""
    return ["\n".join(re.findall(r"```python\n(.*?)```", block, flags=re.S)) for block in SOLUTION.findall(text)]


def shared(text: str) -> str:
    """Return the first code of a page, which its solutions share."""
    return re.search(r"```python\n(.*?)```", text, flags=re.S)[1]


def titles(text: str) -> list[str]:
    """Return the titles of a page's exercises."""
    return re.findall(r"^### (.*)$", text, flags=re.M)


def _references(project: Path) -> dict[str, str]:
    """Return how each work of the bibliography is named in a sentence, by its key."""
    names = {}
    for key, entry in pybtex.database.parse_file(project / "book" / "references.bib").entries.items():
        families = [" ".join(author.last_names).strip("{}") for author in entry.persons["author"]]
        names[key] = f"{' and '.join(families) if len(families) < 3 else families[0] + ' et al.'}, {entry.fields['year']}"
    return names


def _note(match: re.Match[str]) -> str:
    title, body = match[1], match[2].strip()
    if SOLUTION.fullmatch(match[0]):
        return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"
    return "\n".join(f"> {line}".rstrip() for line in [f"**{title}**", "", *body.splitlines()])


def _plain(text: str, works: dict[str, str]) -> str:
    """Return the book's Markdown in that of any notebook program: folds, notes, links, and citations of `works`."""
    cited = _CITED.sub(lambda match: f"({'; '.join(works[key.strip()] for key in match[1].split(','))})", text)
    named = _FIGURE.sub(lambda match: f"the book's figure *{match[1].replace('-', ' ')}*", _TARGET.sub("", cited))
    return _ADMONITION.sub(_note, _PAGE.sub(r"\1", named))


def _open(text: str) -> list[nbformat.NotebookNode]:
    """Return the cells of a text whose exercises get an empty cell each instead of their solutions."""
    cells = []
    *asked, rest = SOLUTION.sub("\0", text).split("\0")
    for question in asked:
        cells += [new_markdown_cell(question.strip()), new_code_cell("# Your answer:\n")]
    return cells + ([new_markdown_cell(rest.strip())] if rest.strip() else [])


def _cells(code: str) -> list[nbformat.NotebookNode]:
    """Return code as cells, one a part between two empty lines: what a learner sees at a glance."""
    return [new_code_cell(part.strip("\n")) for part in code.split("\n\n\n")]


def starter(path: Path, project: Path, source: str = "") -> nbformat.NotebookNode:
    """Return the notebook of a jupytext source or a teaching page, without its solutions, and with `standalone`'s first cells.

    The code of a page that is not a notebook (its shared first lines) becomes cells.
    """
    text = path.read_text(encoding="utf-8")
    if text.startswith("---"):
        cells = []
        for cell in jupytext.read(path).cells:
            cells += _open(cell.source) if cell.cell_type == "markdown" and SOLUTION.search(cell.source) else [cell]
    else:
        before, shared, after = re.split(r"```python\n(.*?)```", text, maxsplit=1, flags=re.S)
        cells = [new_markdown_cell(before.strip()), *_cells(shared.rstrip()), *_open(after)]
    return _notebook(cells, project, source)


def standalone(path: Path, project: Path, source: str = "") -> nbformat.NotebookNode:
    """Return the notebook of a jupytext source with first cells that install the package where it is missing.

    They have `source`, the folder or address of the project; where it is empty, the reader writes it there.
    """
    return _notebook(jupytext.read(path).cells, project, source)


def _notebook(cells: list[nbformat.NotebookNode], project: Path, source: str) -> nbformat.NotebookNode:
    """Return a notebook that begins with the cells that install; its bytes depend on its cells alone."""
    works, cells = _references(project), [*_cells(_INSTALL.format(source=source)), *cells]
    for index, cell in enumerate(cells):
        cell.id = f"cell-{index}"
        if cell.cell_type == "markdown":
            cell.source = _plain(cell.source, works)
    return new_notebook(cells=cells, metadata={"kernelspec": _KERNEL})


def _sources(project: Path) -> list[Path]:
    teach = project / "book" / "teach"
    return [*sorted((project / "notebooks").glob("*.md")), teach / "watch_trust_appear.md", teach / "pretrain_your_own.md"]


def write_starters(out: Path, project: Path, source: str = "") -> list[Path]:
    """Write one starter notebook a source into `out`: the experiments, the exercises, those that train."""
    sources = [*_sources(project), project / "book" / "teach" / "exercises.md"]
    return _write(out, {path.stem: starter(path, project, source) for path in sources})


def write_standalone(out: Path, project: Path, source: str = "") -> list[Path]:
    """Write one notebook a source into `out` that runs on its own, with solutions."""
    return _write(out, {path.stem: standalone(path, project, source) for path in _sources(project)})


def _write(out: Path, notebooks: dict[str, nbformat.NotebookNode]) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    for name, notebook in notebooks.items():
        nbformat.write(notebook, out / f"{name}.ipynb")
    return [out / f"{name}.ipynb" for name in notebooks]


def repository(project: Path) -> str:
    """Return the public address of the repository as `_config.yml` has it; empty while it has none."""
    return yaml.safe_load((project / "_config.yml").read_text(encoding="utf-8"))["sphinx"]["config"]["tracing_repository"]


def launchers(project: Path, address: str) -> list[tuple[str, str, str]]:
    """Return notebook, service and address of each button that opens a notebook of the repository at `address` elsewhere.

    Binder clones any repository; Colab opens files of GitHub alone, here those of the book in the branch `gh-pages`.
    """
    hub = re.fullmatch(r"https://github\.com/([^/]+/[^/]+?)(?:\.git)?/?", address)
    binder = f"https://mybinder.org/v2/git/{quote(address, safe='')}/HEAD?urlpath=lab/tree/{LAUNCHED}"
    buttons = []
    for name in (path.stem for path in _sources(project)):
        if hub:
            colab = f"https://colab.research.google.com/github/{hub[1]}/blob/gh-pages/notebooks/{name}.ipynb"
            buttons.append((name, "Colab", colab))
        buttons.append((name, "Binder", f"{binder}/{name}.ipynb"))
    return buttons
