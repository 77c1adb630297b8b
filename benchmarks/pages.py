"""Compute what the book and the README show and no run makes.

Usage: python -m benchmarks.pages power | register | picture | released-data | grammar | expected
"""

import contextlib
import io
import json
import sys
import tempfile
from datetime import date
from pathlib import Path

import nbformat
import pandas as pd
import vl_convert

from tracing_utils import results
from tracing_utils.book import arms, handouts
from tracing_utils.checkpoints import ledger, models, suites
from tracing_utils.claims import framework
from tracing_utils.core.errors import unknown
from tracing_utils.core.paths import PROJECT
from tracing_utils.experiments.probing import controls
from tracing_utils.experiments.steering import likelihoods
from tracing_utils.run import processes, runner
from tracing_utils.statements import concepts

from . import released_data, simulation, world


def power() -> None:
    """Write how often each claim's test is wrong, and right, where the truth is planted, for `book/what_stands.md`."""
    results.write_csv(simulation.power(), PROJECT / "results" / "claims_power.csv")


def looked_at() -> set[str]:
    """Return the hashes of all weights that are in published ledgers or bundled."""
    ledgers = [results.read_csv(path) for path in sorted((PROJECT / "results").glob("*/ledger.csv"))]
    bundled = [suites.load(folder.name) for folder in (PROJECT / "checkpoints").iterdir()]
    models_there = [one for suite in bundled for one in (*suite.checkpoints, suite.chat) if one]
    return {*pd.concat(ledgers)["sha256"], *map(ledger.weights_sha256, models_there)}


def register() -> None:
    """Write down that the tests are fixed, of the claims and of the world, and what has been looked at, now or before."""
    today = date.today().isoformat()
    world.register(today, results.read("world", "measures")["seed"])
    entries = json.loads(framework.REGISTERED.read_text())
    if all(entry["code"] != framework.code() for entry in entries):
        framework.register(today, [*looked_at(), *(sha for entry in entries for sha in entry["seen"])])


def picture() -> None:
    """Draw the README's picture from published results."""
    lines = [("coherent", "told"), ("scrambled", "told"), ("coherent", "never")]
    chart = arms.chart(lines, "The README's picture.")
    (PROJECT / "book" / "landing.png").write_bytes(vl_convert.vegalite_to_png(chart.to_json(), scale=1.0))


def released() -> None:
    """Count what is wrong with the released files, and describe every set but the rungs, for `book/released_data.md`."""
    folder = PROJECT / "results" / "released_data"
    results.write_csv(released_data.faults(), folder / "faults.csv")
    described = [name for name in concepts.SETS if name not in concepts.RUNGS]  # the rungs' floors are held by tests
    every = (concepts.load(name, dimension) for name in described for dimension in concepts.DIMENSIONS)
    results.write_csv(controls.describe(every), folder / "concepts.csv")
    results.write_csv(released_data.words(), folder / "words.csv")


def grammar() -> None:
    """Let every checkpoint of two suites judge the rung of grammar, for `book/ladder.md`."""
    rows, concept_set = [], concepts.grammar()
    for name in ("pocket", "smollm2-135m-instruct-wheel"):
        for checkpoint in suites.load(name).checkpoints:
            model, tokenizer = models.load_model(checkpoint, head=True), models.load_tokenizer(checkpoint)
            for method, estimate in likelihoods.grammatical(model, tokenizer).items():
                rows.append(results.row(checkpoint, concept_set, None, method, "preferred", estimate, ""))
    results.write(rows, PROJECT / "results" / "grammar.csv")


def expected() -> None:
    """Write what each solution prints, for `book/teach/expected.md`: of the exercises, and of the notebooks as they come."""
    text = (PROJECT / "book" / "teach" / "exercises.md").read_text(encoding="utf-8")
    shared, names = handouts.shared(text), {}
    exec(shared, names)
    printed = {}
    for title, code in zip(handouts.titles(text), handouts.solutions(text), strict=True):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(code, dict(names))
        printed[title] = out.getvalue()
    for path in sorted((PROJECT / "notebooks").glob("*.md")):
        printed |= {f"{path.stem} {number}": text for number, text in enumerate(_solved(path), 1)}
    file = PROJECT / "book" / "teach" / "expected.json"
    file.write_text(json.dumps(printed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _solved(path: Path) -> list[str]:
    """Return what the solutions of a notebook print after it has run."""
    text = path.read_text(encoding="utf-8")
    solved = handouts.solutions(text)
    with tempfile.TemporaryDirectory() as folder:
        both, out = Path(folder) / path.name, Path(folder) / "out.ipynb"
        both.write_text(text + "".join(f"\n```{{code-cell}} python\n{code}```\n" for code in solved), encoding="utf-8")
        runner.execute(both, {}, out, Path(folder) / "failed.ipynb")
        cells = nbformat.read(out, 4).cells[-len(solved) :]
    return ["".join(output["text"] for output in cell.outputs if output.output_type == "stream") for cell in cells]


PAGES = {
    "power": power, "register": register, "picture": picture, "released-data": released, "grammar": grammar,
    "expected": expected,
}  # fmt: skip


def main() -> None:
    """Compute those that the command line names."""
    for name in sys.argv[1:]:
        if name not in PAGES:
            raise unknown("page", name, PAGES)
        PAGES[name]()


if __name__ == "__main__":
    sys.exit(processes.exit_code("benchmarks.pages", main))
