# weights -> activations -> notebooks -> results -> book. `python -m tracing_utils run` checks the ledger before it starts this.
#
# A job runs when its output is missing or its `key` has changed: a hash of the code, parameters, weights and
# statements it depends on. File times play no part (see profiles/), so a fresh clone or a touched file computes
# nothing again. Every rule body is one stable line that calls the package.
import shlex
import sys
from pathlib import Path

from tracing_utils import runner, studies

study = studies.read(config["study"])
PYTHON = shlex.quote(sys.executable)
BOOK = shlex.quote(str(Path(sys.executable).with_name("jupyter-book")))
RUNS = f"runs/{study.name}"
RESULTS = f"{RUNS}/results"
SETS = list(study.sets)
TRACED = {experiment: study.traced(experiment) for experiment in study.runs()}
ON_HUB = study.on_hub()
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


def two_before(wildcards):
    """One checkpoint is fetched while the one before it is computed; no third one lies on the disk."""
    order = [revision for revision in ON_HUB if revision in TRACED["probing"]]
    place = order.index(wildcards.revision) if wildcards.revision in order else 0
    return [f"{RUNS}/extracted/{order[place - 2]}"] if place >= 2 else []


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


localrules:
    trace,
    collect,
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
    params: key=runner.suite_key(study)
    shell: "{PYTHON} -m tracing_utils study-ledger {config[study]} {output}"


rule describe:
    message: "statements: sizes and lexical floors"
    output: f"{RESULTS}/concepts.csv"
    params: key=runner.concepts_key(study)
    shell: "{PYTHON} -m tracing_utils describe {config[study]} {output}"


rule weights:
    message: "weights of {wildcards.revision}"
    input: two_before
    output: temp(directory(RUNS + "/weights/{revision}"))
    shell: "{PYTHON} -m tracing_utils weights {config[study]} {wildcards.revision} {output}"


rule activations:
    message: "activations of {wildcards.revision}"
    input: lambda wildcards: [f"{RUNS}/weights/{wildcards.revision}"] if wildcards.revision in ON_HUB else []
    output:
        activations=temp(RUNS + "/activations/{revision}.safetensors"),
        extracted=touch(RUNS + "/extracted/{revision}"),
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
    params: key=runner.summary_key(study, "dynamics")
    shell: "{PYTHON} -m tracing_utils dynamics {config[study]} {RUNS} {output}"


rule reweighting:
    message: "control: an invertible reweighting of random features"
    output: f"{RESULTS}/reweighting.csv"
    params: key=runner.summary_key(study, "reweighting")
    shell: "{PYTHON} -m tracing_utils reweighting {output}"


rule claims:
    message: "verdicts on the paper's claims"
    input: [ends(experiment, "safetensors") for experiment in TRACED]
    output: f"{RESULTS}/claims.csv"
    params: key=runner.summary_key(study, "claims")
    shell: "{PYTHON} -m tracing_utils claims {config[study]} {RUNS} {output}"


rule answers:
    message: "answers before and after steering"
    input: lambda wildcards: [f"{RUNS}/{name}/steering/{study.loaded.chat.revision}.json" for name in SETS]
    output: f"{RESULTS}/answers.csv"
    params: key=runner.summary_key(study, "answers")
    shell: "{PYTHON} -m tracing_utils answers {output} {input}"


rule provenance:
    message: "provenance"
    input: [path for path in PUBLISHED if not path.endswith("provenance.json")]
    output: f"{RESULTS}/provenance.json"
    params: key=runner.study_key(study)
    shell: "{PYTHON} -m tracing_utils provenance {config[study]} {RUNS} {output}"


# results/ is written when everything is there: the results of a broken run never mix with published ones.
rule publish:
    message: f"results/{study.name}"
    input: PUBLISHED
    output: touch(f"{RUNS}/published")
    params: key=runner.study_key(study)
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
    params: key=runner.library_key()
    shell: "{PYTHON} -m tracing_utils javascript {output}"


rule book:
    message: "the book"
    input:
        rules.trace.input,
        "book/_static/vega.js",
    output: "_build/html/index.html"
    params: key=runner.book_key(study)
    shell: "{BOOK} build . --all --quiet -W -n --keep-going"
