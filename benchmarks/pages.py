"""Compute what the book and the README show and no run makes.

Usage: python -m benchmarks.pages power | picture | released-data
"""

import sys

import vl_convert

from tracing_utils import results
from tracing_utils.book import explorables
from tracing_utils.claims import released_data, simulation
from tracing_utils.core.errors import unknown
from tracing_utils.core.paths import PROJECT
from tracing_utils.run import processes

PICTURED = "pocket-tracingllm"
"""The study whose probes the README's picture shows."""


def power() -> None:
    """Write how often each claim's test finds effects of known sizes, for `book/what_stands.md`."""
    results.write_csv(simulation.power(), PROJECT / "results" / "claims_power.csv")


def picture() -> None:
    """Draw the README's picture from published results."""
    table = results.read(PICTURED, "probing")
    chart = explorables.probe_trajectories(table, "accuracy", "The README's picture.")
    (PROJECT / "book" / "landing.png").write_bytes(vl_convert.vegalite_to_png(chart.to_json(), scale=1.5))


def released() -> None:
    """Count what is wrong with the released files, and describe every set, for `book/released_data.md`."""
    folder = PROJECT / "results" / "released_data"
    results.write_csv(released_data.faults(), folder / "faults.csv")
    results.write_csv(released_data.sets(), folder / "concepts.csv")
    results.write_csv(released_data.words(), folder / "words.csv")


PAGES = {"power": power, "picture": picture, "released-data": released}


def main() -> None:
    """Compute those that the command line names."""
    for name in sys.argv[1:]:
        if name not in PAGES:
            raise unknown("page", name, PAGES)
        PAGES[name]()


if __name__ == "__main__":
    sys.exit(processes.exit_code("benchmarks.pages", main))
