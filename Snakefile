# weights -> activations -> notebooks -> results -> book. `python -m tracing_utils run` checks the ledger before it starts this.
#
# A job runs when its output is missing or its `key` has changed: a hash of the code, parameters, weights and
# statements it depends on. File times play no part (see profiles/), so a fresh clone or a touched file computes
# nothing again. Every rule body is one stable line that calls the package.
import shlex
import sys
from pathlib import Path

from tracing_utils import experiments
from tracing_utils.run import gpus, plan, processes, runner, studies

processes.end_with_run()
study = studies.read(config["study"])
PYTHON = f"{shlex.quote(sys.executable)} -m tracing_utils.run.warm"  # on one machine, forked from a process with its libraries
RUNS = f"runs/{study.name}"
RESULTS = f"{RUNS}/results"
SETS = list(study.sets)
TRACED = {experiment: study.traced(experiment) for experiment in study.runs()}
ON_HUB = set(study.on_hub())
QUEUE = [revision for revision in study.traced() if revision in ON_HUB]
PLACES = {revision: place for place, revision in enumerate(QUEUE)}
TABLES = [f"{RESULTS}/{name}.csv" for name in ("ledger", "concepts", *TRACED, *study.summaries(), "claims")]
PAGES = [
    f"book/runs/{study.name}/{experiment}-{revision}.ipynb"
    for experiment, revisions in TRACED.items()
    for revision in study.featured
    if revision in revisions
]


def records(experiment, ending="json"):
    """The records that the runs of an experiment leave, over all sets and revisions, or the files beside them."""
    return [str(path.with_suffix(f".{ending}")) for path in runner.records(study, Path(RUNS), experiment)]


# On one machine, one checkpoint is fetched while those before it are computed, one a GPU; no more lie on the disk.
AHEAD = 1 + max(1, len(gpus.visible()))


def here():
    """Whether jobs run on this machine, as its own; known only when they are asked about."""
    return workflow.local_exec and not workflow.remote_exec


def before(wildcards):
    """What must be done before a checkpoint is fetched; on a cluster nothing, where its weights go with their job."""
    place = PLACES.get(wildcards.revision, 0)
    return [f"{RUNS}/extracted/{QUEUE[place - AHEAD]}"] if here() and place >= AHEAD else []


def asks(need, job=None):
    """Return how much a job asks a cluster for: what the plan says, and as much again with every further attempt."""
    return lambda wildcards, attempt: attempt * getattr(plan.needs(study)[job or wildcards.experiment], need)


def gpu(wildcards):
    """Return how many GPUs a job that runs the model asks for; on one machine, where it takes a slot, one."""
    return 1 if here() else plan.needs(study)[wildcards.get("experiment", "activations")].gpu


def target(experiment):
    """What an experiment needs of the chat model: its activations and, where it comes from the hub, its weights."""
    described = experiments.get(experiment)
    if not described.target:
        return []
    chat = study.loaded.chat.revision
    return [f"{RUNS}/activations/{chat}.safetensors"] + ([f"{RUNS}/weights/{chat}"] if described.passes and chat in ON_HUB else [])


def own(experiment, revision):
    """The weights of a checkpoint from the hub, for an experiment that runs that checkpoint's model."""
    described = experiments.get(experiment)
    return [f"{RUNS}/weights/{revision}"] if described.passes and not described.target and revision in ON_HUB else []


def needed(wildcards, files):
    """These inputs of a notebook, none if its run is done: activations made for one experiment do not run the others again."""
    done = runner.is_done(study, wildcards.set, wildcards.experiment, wildcards.revision, Path(RUNS))
    return [] if done else files


wildcard_constraints:
    experiment="|".join(experiments.names()),
    summary="|".join(study.summaries()) or "-",
    revision="[^/]+",
    set="[^/]+",


# On a cluster these run where the command was given, the others as jobs.
localrules:
    trace,
    ledger,
    collect,
    provenance,
    javascript,
    page,


rule trace:
    input:
        PAGES,
        TABLES,
        f"{RESULTS}/provenance.json",


rule ledger:
    message: "the ledger's table"
    output: f"{RESULTS}/ledger.csv"
    params: key=lambda _: runner.suite_key(study)
    shell: "{PYTHON} -m tracing_utils.run.jobs ledger {config[study]} {output}"


rule describe:
    message: "statements: sizes and lexical floors"
    output: f"{RESULTS}/concepts.csv"
    params: key=lambda _: runner.concepts_key(study)
    resources: mem_mb=asks("mem_mb", "summary"), runtime=asks("runtime", "summary")
    shell: "{PYTHON} -m tracing_utils.run.jobs describe {config[study]} {output}"


rule weights:
    message: "weights of {wildcards.revision}"
    input: before
    output: temp(directory(RUNS + "/weights/{revision}"))
    group: "checkpoint-{revision}"  # one job of a cluster, so that as many weights lie on the disk as such jobs run
    resources: mem_mb=asks("mem_mb", "weights"), runtime=asks("runtime", "weights")
    shell: "{PYTHON} -m tracing_utils.run.jobs weights {config[study]} {wildcards.revision} {output}"


rule activations:
    message: "activations of {wildcards.revision}"
    input: lambda wildcards: [f"{RUNS}/weights/{wildcards.revision}"] if wildcards.revision in ON_HUB else []
    output:
        activations=temp(RUNS + "/activations/{revision}.safetensors"),
        extracted=touch(RUNS + "/extracted/{revision}"),
    group: "checkpoint-{revision}"
    params: dtype=study.dtype  # a file that a killed run left is made again where the study asks for another
    resources: mem_mb=asks("mem_mb", "activations"), runtime=asks("runtime", "activations"), gpu=gpu
    shell: "{PYTHON} -m tracing_utils.run.jobs activations {config[study]} {wildcards.revision} {output.activations}"


rule notebook:
    message: "{wildcards.experiment} of {wildcards.revision} on {wildcards.set}"
    input:
        activations=lambda wildcards: needed(wildcards, [f"{RUNS}/activations/{wildcards.revision}.safetensors"]),
        target=lambda wildcards: needed(wildcards, target(wildcards.experiment)),
        own=lambda wildcards: needed(wildcards, own(wildcards.experiment, wildcards.revision)),
        floors=lambda wildcards: needed(wildcards, [f"{RESULTS}/concepts.csv"]),  # the floors are computed once, there
    output:
        table=RUNS + "/{set}/{experiment}/{revision}.csv",
        notebook=RUNS + "/{set}/{experiment}/{revision}.ipynb",
        record=RUNS + "/{set}/{experiment}/{revision}.json",
    params:
        key=lambda wildcards: runner.key(study, wildcards.set, wildcards.experiment, wildcards.revision),
        page=lambda wildcards: runner.page_key(study, wildcards.set, wildcards.experiment, wildcards.revision),
    priority: 1  # before the next checkpoint, so that activations do not pile up
    resources: mem_mb=asks("mem_mb"), runtime=asks("runtime"), gpu=lambda wildcards: gpu(wildcards) if experiments.get(wildcards.experiment).passes else 0
    shell: "{PYTHON} -m tracing_utils.run.jobs notebook {config[study]} {wildcards.set} {wildcards.experiment} {wildcards.revision} {input.activations} {RUNS}"


rule collect:
    message: "results of {wildcards.experiment}"
    input: lambda wildcards: records(wildcards.experiment, "csv")
    output: RESULTS + "/{experiment}.csv"
    params: key=lambda wildcards: runner.experiment_key(study, wildcards.experiment)
    shell: "{PYTHON} -m tracing_utils.run.jobs collect {output} {input}"


rule summary:
    message: "{wildcards.summary} of all runs"
    input: lambda wildcards: records(experiments.owner(wildcards.summary))
    output: RESULTS + "/{summary}.csv"
    params: key=lambda wildcards: runner.summary_key(study, wildcards.summary)
    resources: mem_mb=asks("mem_mb", "summary"), runtime=asks("runtime", "summary")
    shell: "{PYTHON} -m tracing_utils.run.jobs summary {config[study]} {wildcards.summary} {RUNS} {output}"


rule claims:
    message: "verdicts on the paper's claims"
    input: [records(experiment) for experiment in TRACED]
    output: f"{RESULTS}/claims.csv"
    params: key=lambda _: runner.claims_key(study)
    resources: mem_mb=asks("mem_mb", "summary"), runtime=asks("runtime", "summary")
    shell: "{PYTHON} -m tracing_utils.run.jobs claims {config[study]} {RUNS} {output}"


# Written last: where it lies, the results are whole. `results/` is not written by a run, but by `run --publish`.
rule provenance:
    message: "provenance"
    input: TABLES
    output: f"{RESULTS}/provenance.json"
    params: key=lambda _: runner.study_key(study)
    shell: "{PYTHON} -m tracing_utils.run.jobs provenance {config[study]} {RUNS} {output}"


rule page:
    message: "page of {wildcards.experiment} at {wildcards.revision}"
    input: f"{RUNS}/{SETS[0]}/" + "{experiment}/{revision}.ipynb"
    output: f"book/runs/{study.name}/" + "{experiment}-{revision}.ipynb"
    params: key=lambda wildcards: runner.page_key(study, SETS[0], wildcards.experiment, wildcards.revision)
    shell: "{PYTHON} -m tracing_utils.run.jobs page {input} {output}"


rule javascript:
    message: "chart libraries"
    output: "book/_static/vega.js"
    params: key=lambda _: runner.library_key()
    shell: "{PYTHON} -m tracing_utils.run.jobs javascript {output}"


rule book:
    message: "the book"
    input:
        rules.trace.input,
        "book/_static/vega.js",
    output: "_build/html/index.html"
    params: key=lambda _: runner.book_key(study)
    resources: mem_mb=asks("mem_mb", "summary"), runtime=asks("runtime", "summary")
    shell: "{PYTHON} -m tracing_utils.run.jobs book ."
