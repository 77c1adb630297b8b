# ledger -> activations -> notebooks -> results -> book.
#
# A job runs when its output is missing or its `key` has changed: a hash of the code, parameters, weights and
# statements it depends on. File times play no part (see profiles/), so a fresh clone or a touched file computes
# nothing again. Every rule body is one stable line that calls the package.
import sys
from pathlib import Path

from tracing_utils import runner, studies

study = studies.read(config["study"])
PYTHON = sys.executable
BOOK = str(Path(sys.executable).with_name("jupyter-book"))
RUNS = f"runs/{study.name}"
RESULTS = f"{RUNS}/results"
TABLES = expand(RESULTS + "/{experiment}.csv", experiment=study.experiments())
PAGES = [
    f"book/runs/{study.name}/{experiment}-{revision}.ipynb"
    for experiment in study.experiments()
    for revision in study.featured
    if revision in study.revisions(experiment)
]


wildcard_constraints:
    experiment="|".join(studies.EXPERIMENTS),
    revision="[^/]+",


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
    message: "ledger: is each checkpoint what its name says?"
    output: f"{RESULTS}/ledger.csv"
    params: key=runner.suite_key(study)
    shell: "{PYTHON} -m tracing_utils ledger {config[study]} {output}"


rule describe:
    message: "statements: sizes and lexical floors"
    output: f"{RESULTS}/concepts.csv"
    params: key=runner.concepts_key(study)
    shell: "{PYTHON} -m tracing_utils describe {config[study]} {output}"


rule activations:
    message: "activations of {wildcards.revision}"
    input: f"{RESULTS}/ledger.csv"
    output: temp(RUNS + "/activations/{revision}.safetensors")
    shell: "{PYTHON} -m tracing_utils activations {config[study]} {wildcards.revision} {output}"


rule notebook:
    message: "{wildcards.experiment} of {wildcards.revision}"
    input:
        activations=RUNS + "/activations/{revision}.safetensors",
        target=lambda wildcards: f"{RUNS}/activations/chat.safetensors" if wildcards.experiment == "steering" else [],
        floors=f"{RESULTS}/concepts.csv",  # the floors are computed once, there
    output:
        table=RUNS + "/{experiment}/{revision}.csv",
        notebook=RUNS + "/{experiment}/{revision}.ipynb",
        record=RUNS + "/{experiment}/{revision}.json",
    params: key=lambda wildcards: runner.key(study, wildcards.experiment, wildcards.revision)
    shell: "{PYTHON} -m tracing_utils notebook {config[study]} {wildcards.experiment} {wildcards.revision} {input.activations} {RUNS}"


rule collect:
    message: "results of {wildcards.experiment}"
    input: lambda wildcards: [f"{RUNS}/{wildcards.experiment}/{r}.csv" for r in study.revisions(wildcards.experiment)]
    output: RESULTS + "/{experiment}.csv"
    shell: "{PYTHON} -m tracing_utils collect {output} {input}"


rule provenance:
    message: "provenance"
    input:
        f"{RESULTS}/ledger.csv",
        f"{RESULTS}/concepts.csv",
        TABLES,
    output: f"{RESULTS}/provenance.json"
    shell: "{PYTHON} -m tracing_utils provenance {config[study]} {RUNS} {output}"


# results/ is written when everything is there: the results of a broken run never mix with published ones.
rule publish:
    message: "results/{study.name}"
    input:
        f"{RESULTS}/ledger.csv",
        f"{RESULTS}/concepts.csv",
        f"{RESULTS}/provenance.json",
        TABLES,
    output: touch(f"{RUNS}/published")
    shell: "{PYTHON} -m tracing_utils publish {study.name} {input}"


rule page:
    message: "page of {wildcards.experiment} at {wildcards.revision}"
    input: RUNS + "/{experiment}/{revision}.ipynb"
    output: f"book/runs/{study.name}/" + "{experiment}-{revision}.ipynb"
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
