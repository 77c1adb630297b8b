"""Time this package beside others and beside plain code; write the tables of `benchmarks/`: all goals, or those asked for.

Usage: python -m benchmarks [GOAL ...]
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch read it: processor time of one thread is what is compared

import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from tracing_utils import results

from . import goals, installed, measure, profiles

OUT = Path(__file__).parent


def main(asked: list[str]) -> None:
    """Run the goals asked for, or all and then what else is measured, but for `waiting`."""
    numbers = [int(number) for number in asked] or [*goals.GOALS]
    alone = [number for number in numbers if number in goals.ALONE]
    measured([number for number in numbers if number not in alone], min(2, measure.cores()))
    measured(alone, 1)
    if not asked:
        print(profiles.write().to_string(index=False))
        results.write_csv(installed.table(), OUT / "installed.csv")


def measured(numbers: list[int], at_once: int) -> None:
    """Run goals, so many at a time, and write and print the rows of each as soon as it ends."""
    with ProcessPoolExecutor(at_once, get_context("spawn"), max_tasks_per_child=1) as pool:
        running = {pool.submit(goals.run, number): number for number in numbers}
        for done in as_completed(running):
            rows, taken = done.result()
            written = measure.write(rows, OUT / "results.csv")
            print(measure.table(written[written["goal"] == running[done]]), f"\n({taken:.0f} s)\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
