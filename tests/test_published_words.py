"""Every word of the published tables is one that the committed code writes: its strings, filled in, and a study's options."""

import ast
import json
import re
from functools import cache

import jupytext
import pandas as pd
import pytest

from tracing_utils import experiments
from tracing_utils.core.paths import PROJECT
from tracing_utils.experiments import notebook
from tracing_utils.experiments.probing.floors import READERS
from tracing_utils.run import keys

TEXTS = ("method", "metric", "note", "side", "verdict", "data")
STUDIES = sorted(path.parent for path in (PROJECT / "results").glob("*/claims.csv"))
_NUMBER = r"[-+]?\d[\d.,]*(?:e[-+]?\d+)?%?"
_BETWEEN = re.compile("[;,] | and ")


def _source(table: str) -> str:
    """The code that writes a table of results, in so far as it lies outside the package: a notebook's cells, or imports."""
    if table == "claims":
        return "import tracing_utils.claims.paper_claims"
    name = next(n for n in experiments.names() if table in (n, *experiments.get(n).summaries, *experiments.get(n).target_files))
    cells = [cell.source for cell in jupytext.read(notebook.path(name)).cells if cell.cell_type == "code"]
    modules = [each.function.partition(":")[0] for each in experiments.get(name).summaries.values()]
    return "\n".join([*cells, *(f"import {experiments.__name__}.{name}.{module}" for module in modules)])


@cache
def strings(table: str) -> tuple[set[str], list[re.Pattern]]:
    """The plain strings and keywords of the code that writes a table, and its f-strings as patterns, piece by piece."""
    plain, patterns, own = set(), [], _source(table)
    files = [PROJECT.joinpath(*name.split(".")) for name in keys.reached(own)]
    texts = [(path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text() for path in files]
    for node in (node for text in (own, *texts) for node in ast.walk(ast.parse(text))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            plain.add(node.value.strip())
        elif isinstance(node, ast.keyword) and node.arg:
            plain.add(node.arg)
        elif isinstance(node, ast.JoinedStr):
            whole = "".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
            pieces = [piece for piece in {whole, *_BETWEEN.split(whole)} if re.search("[a-z]", piece)]
            patterns += [re.compile("(.+?)".join(map(re.escape, piece.split("\0")))) for piece in pieces]
    return plain, patterns


def written(text: str, plain: set[str], patterns: list[re.Pattern]) -> bool:
    """Whether a text is a string of the code, one filled in with such or with numbers, or several of them."""
    text = text.strip()
    if text in plain or re.fullmatch(_NUMBER, text):
        return True
    parts = [list(match.groups()) for pattern in patterns if (match := pattern.fullmatch(text))]
    parts += [each] if len(each := _BETWEEN.split(text)) > 1 else []
    parts += [[match[1]]] if (match := re.fullmatch(f"(.+) {_NUMBER}", text)) else []
    parts += [[f"{first}_", rest] for first, _, rest in [text.partition("_")] if rest and f"{first}_" in plain]
    return any(all(written(each, plain, patterns) for each in some) for some in parts)


def _options(folder) -> set[str]:
    """What a study's options call things: `same start = world@step0` names a method."""
    options = json.loads((folder / "provenance.json").read_text())["options"].values()
    values = [value for each in options for value in each.values() if isinstance(value, list)]
    return {part.strip() for each in values for text in each if isinstance(text, str) for part in text.split("=")}


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_every_word_of_a_published_table_is_one_that_the_committed_code_writes(folder):
    of_study = _options(folder)
    for path in sorted(folder.glob("*.csv")):
        table = pd.read_csv(path, keep_default_na=False, na_values=[""])
        for column in (column for column in TEXTS if column in table):
            plain, patterns = strings(path.stem)
            known = plain | of_study | ({*READERS} if path.stem == "claims" else set())
            assert {text for text in table[column].dropna().unique() if not written(str(text), known, patterns)} == set(), column


@pytest.mark.parametrize("table", ["claims", "probing", "mutual_information", "steering", "origins"])
def test_words_that_no_code_writes_are_found(table):
    for text in (
        "lexical flor",
        "logistc",
        "nHSIC_tz",
        "accuracies",
        "chosen vectors",
        "gain_over_nobody",
        "weakest party: gain",
    ):
        assert not written(text, *strings(table))
