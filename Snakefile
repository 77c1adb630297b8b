# weights -> activations -> notebooks -> results -> book. `python -m tracing_utils run` checks the ledger before it starts this.
#
# A job runs when its output is missing or its `key` has changed: a hash of the code, parameters, weights and
# statements it depends on. File times play no part (see profiles/), so a fresh clone or a touched file computes
# nothing again. Every rule body is one stable line that calls the package.
import shlex
import sys
from pathlib import Path

from tracing_utils.run import gpus, plan, processes, runner, studies

processes.end_with_run()
study = studies.read(config["study"])
PYTHON = shlex.quote(sys.executable)
BOOK = shlex.quote(str(Path(sys.executable).with_name("jupyter-book")))
RUNS = f"runs/{study.name}"
RESULTS = f"{RUNS}/results"
SETS = list(study.sets)
TRACED = {experiment: study.traced(experiment) for experiment in study.runs()}
ON_HUB = set(study.on_hub())
QUEUE = [revision for revision in study.traced() if revision in ON_HUB]
PLACES = {revision: place for place, revision in enumerate(QUEUE)}
PUBLISHED = [
    f"{RESULTS}/{name}.csv" for name in ("ledger", "concepts", *TRACED, *study.summaries())
] + [f"{RESULTS}/provenance.json"]
PAGES = [
    f"book/runs/{study.name}/{experiment}-{revision}.ipynb"
    for experiment, revisions in TRACED.items()
    for revision in study.featured
    if revision in revisions
]


def ends(experiment, ending):
    """The files with this ending that the runs of an experiment leave, over all sets and revisions."""
    return [f"{RUNS}/{name}/{experiment}/{revision}.{ending}" for name in SETS for revision in TRACED.get(experiment, [])]


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
    """What steering needs of the chat model: its activations and, where it comes from the hub, its weights."""
    if experiment != "steering":
        return []
    chat = study.loaded.chat.revision
    return [f"{RUNS}/activations/{chat}.safetensors"] + ([f"{RUNS}/weights/{chat}"] if chat in ON_HUB else [])


wildcard_constraints:
    experiment="|".join(studies.EXPERIMENTS),
    revision="[^/]+",
    set="[^/]+",


# On a cluster these run where the command was given, the others as jobs.
localrules:
    trace,
    ledger,
    collect,
    answers,
    provenance,
    javascript,
    page,
    publish,


rule trace:
    input:
        PAGES,
        f"{RUNS}/published",


rule ledger:
    message: "the ledger's table"
    output: f"{RESULTS}/ledger.csv"
    params: key=lambda _: runner.suite_key(study)
    shell: "{PYTHON} -m tracing_utils study-ledger {config[study]} {output}"


rule describe:
    message: "statements: sizes and lexical floors"
    output: f"{RESULTS}/concepts.csv"
    params: key=lambda _: runner.concepts_key(study)
    resources: mem_mb=asks("mem_mb", "summary"), runtime=asks("runtime", "summary")
    shell: "{PYTHON} -m tracing_utils describe {config[study]} {output}"


rule weights:
    message: "weights of {wildcards.revision}"
    input: before
    output: temp(directory(RUNS + "/weights/{revision}"))
    group: "checkpoint-{revision}"  # one job of a cluster, so that as many weights lie on the disk as such jobs run
    resources: mem_mb=asks("mem_mb", "weights"), runtime=asks("runtime", "weights")
    shell: "{PYTHON} -m tracing_utils weights {config[study]} {wildcards.revision} {output}"


rule activations:
    message: "activations of {wildcards.revision}"
    input: lambda wildcards: [f"{RUNS}/weights/{wildcards.revision}"] if wildcards.revision in ON_HUB else []
    output:
        activations=temp(RUNS + "/activations/{revision}.safetensors"),
        extracted=touch(RUNS + "/extracted/{revision}"),
    group: "checkpoint-{revision}"
    resources: mem_mb=asks("mem_mb", "activations"), runtime=asks("runtime", "activations"), gpu=gpu
    shell: "{PYTHON} -m tracing_utils activations {config[study]} {wildcards.revision} {output.activations}"


rule notebook:
    message: "{wildcards.experiment} of {wildcards.revision} on {wildcards.set}"
    input:
        activations=RUNS + "/activations/{revision}.safetensors",
        target=lambda wildcards: target(wildcards.experiment),
        floors=f"{RESULTS}/concepts.csv",  # the floors are computed once, there
    output:
        table=RUNS + "/{set}/{experiment}/{revision}.csv",
        evidence=RUNS + "/{set}/{experiment}/{revision}.safetensors",
        notebook=RUNS + "/{set}/{experiment}/{revision}.ipynb",
        record=RUNS + "/{set}/{experiment}/{revision}.json",
    params: key=lambda wildcards: runner.key(study, wildcards.set, wildcards.experiment, wildcards.revision)
    priority: 1  # before the next checkpoint, so that activations do not pile up
    resources: mem_mb=asks("mem_mb"), runtime=asks("runtime"), gpu=lambda wildcards: gpu(wildcards) if wildcards.experiment == "steering" else 0
    shell: "{PYTHON} -m tracing_utils notebook {config[study]} {wildcards.set} {wildcards.experiment} {wildcards.revision} {input.activations} {RUNS}"


rule collect:
    message: "results of {wildcards.experiment}"
    input: lambda wildcards: ends(wildcards.experiment, "csv")
    output: RESULTS + "/{experiment}.csv"
    params: key=lambda wildcards: runner.experiment_key(study, wildcards.experiment)
    shell: "{PYTHON} -m tracing_utils collect {output} {input}"


rule dynamics:
    message: "dynamics: onset, agreement of directions, transfer"
    input: ends("probing", "safetensors")
    output: f"{RESULTS}/dynamics.csv"
    params: key=lambda _: runner.summary_key(study, "dynamics")
    resources: mem_mb=asks("mem_mb", "summary"), runtime=asks("runtime", "summary")
    shell: "{PYTHON} -m tracing_utils dynamics {config[study]} {RUNS} {output}"


rule reweighting:
    message: "control: an invertible reweighting of random features"
    output: f"{RESULTS}/reweighting.csv"
    params: key=lambda _: runner.summary_key(study, "reweighting")
    resources: mem_mb=asks("mem_mb", "summary"), runtime=asks("runtime", "summary")
    shell: "{PYTHON} -m tracing_utils reweighting {output}"


rule claims:
    message: "verdicts on the paper's claims"
    input: [ends(experiment, "safetensors") for experiment in TRACED]
    output: f"{RESULTS}/claims.csv"
    params: key=lambda _: runner.summary_key(study, "claims")
    resources: mem_mb=asks("mem_mb", "summary"), runtime=asks("runtime", "summary")
    shell: "{PYTHON} -m tracing_utils claims {config[study]} {RUNS} {output}"


rule answers:
    message: "answers before and after steering"
    input: lambda wildcards: [f"{RUNS}/{name}/steering/{study.loaded.chat.revision}.json" for name in SETS]
    output: f"{RESULTS}/answers.csv"
    params: key=lambda _: runner.summary_key(study, "answers")
    shell: "{PYTHON} -m tracing_utils answers {output} {input}"


rule provenance:
    message: "provenance"
    input: [path for path in PUBLISHED if not path.endswith("provenance.json")]
    output: f"{RESULTS}/provenance.json"
    params: key=lambda _: runner.study_key(study)
    shell: "{PYTHON} -m tracing_utils provenance {config[study]} {RUNS} {output}"


# results/ is written when everything is there: the results of a broken run never mix with published ones.
rule publish:
    message: f"results/{study.name}"
    input: PUBLISHED
    output: touch(f"{RUNS}/published")
    params: key=lambda _: runner.study_key(study)
    shell: "{PYTHON} -m tracing_utils publish {study.name} {input}"


rule page:
    message: "page of {wildcards.experiment} at {wildcards.revision}"
    input: f"{RUNS}/{SETS[0]}/" + "{experiment}/{revision}.ipynb"
    output: f"book/runs/{study.name}/" + "{experiment}-{revision}.ipynb"
    params: key=lambda wildcards: runner.key(study, SETS[0], wildcards.experiment, wildcards.revision)
    shell: "{PYTHON} -m tracing_utils page {input} {output}"


rule javascript:
    message: "chart libraries"
    output: "book/_static/vega.js"
    params: key=lambda _: runner.library_key()
    shell: "{PYTHON} -m tracing_utils javascript {output}"


rule book:
    message: "the book"
    input:
        rules.trace.input,
        "book/_static/vega.js",
    output: "_build/html/index.html"
    params: key=lambda _: runner.book_key(study)
    resources: mem_mb=asks("mem_mb", "summary"), runtime=asks("runtime", "summary")
    shell: "{BOOK} build . --all --quiet -W -n --keep-going"
