"""Compute what the book and the README show and no run makes.

Usage: python -m benchmarks.pages power | register | picture | released-data | grammar
"""

import sys
from datetime import date

import pandas as pd
import vl_convert

from tracing_utils import results
from tracing_utils.book import arms
from tracing_utils.checkpoints import models, suites
from tracing_utils.claims import framework, released_data, simulation
from tracing_utils.core.errors import unknown
from tracing_utils.core.paths import PROJECT
from tracing_utils.experiments.probing import controls
from tracing_utils.experiments.steering import likelihoods
from tracing_utils.run import processes
from tracing_utils.statements import concepts


def power() -> None:
    """Write how often each claim's test is wrong, and right, where the truth is planted, for `book/what_stands.md`."""
    results.write_csv(simulation.power(), PROJECT / "results" / "claims_power.csv")


def register() -> None:
    """Write down that the claims' tests are fixed, and which weights have been looked at: those in published ledgers."""
    ledgers = [results.read_csv(path) for path in sorted((PROJECT / "results").glob("*/ledger.csv"))]
    framework.register(date.today().isoformat(), pd.concat(ledgers)["sha256"])


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
    rows, chosen = [], concepts.grammar()
    for name in ("pocket", "smollm2-135m-instruct-wheel"):
        for checkpoint in suites.load(name).checkpoints:
            model, tokenizer = models.load_model(checkpoint, head=True), models.load_tokenizer(checkpoint)
            for method, estimate in likelihoods.grammatical(model, tokenizer).items():
                rows.append(results.row(checkpoint, chosen, None, method, "preferred", estimate, ""))
    results.write(rows, PROJECT / "results" / "grammar.csv")


PAGES = {"power": power, "register": register, "picture": picture, "released-data": released, "grammar": grammar}


def main() -> None:
    """Compute those that the command line names."""
    for name in sys.argv[1:]:
        if name not in PAGES:
            raise unknown("page", name, PAGES)
        PAGES[name]()


if __name__ == "__main__":
    sys.exit(processes.exit_code("benchmarks.pages", main))
