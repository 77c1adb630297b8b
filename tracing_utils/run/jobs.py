"""The jobs of a run: `python -m tracing_utils.run.jobs JOB WORD ...`, as the Snakefile starts them.

A job is a function: its name is the job's, and its parameters are the words behind it. Each imports what it needs, so that
none waits for the libraries of another.
"""

import inspect
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from .. import results
from ..core.errors import unknown
from . import gpus, processes, studies, workflow
from .studies import Study

__all__ = ["JOBS", "main"]

# ruff: noqa: PLC0415 - see above


def ledger(study: Study, out: Path) -> None:
    """Write the hashes of a study's checkpoints, or refuse the checkpoints."""
    results.write_csv(workflow.checked_ledger(study), out)


def weights(study: Study, revision: str, out: Path) -> None:
    """Fetch one checkpoint from the hub."""
    from ..checkpoints import hub

    hub.fetch(study.loaded[revision], out)


def describe(study: Study, out: Path) -> None:
    """Write sizes, balance and lexical floors of a study's statements."""
    from .. import experiments

    results.write_csv(experiments.describer()(study.concept_set(*each) for each in _sets_and_dimensions(study)), out)


def activations(study: Study, revision: str, out: Path) -> None:
    """Write the activations of one checkpoint over all statements of a study."""
    from ..checkpoints import activations

    sets = [statements for name in study.sets for statements in study.statement_sets(name)]
    with gpus.reserved():
        options = {"trust_remote_code": study.trust_remote_code, "dtype": study.dtype}
        activations.save(study.loaded[revision], sets, out.parent, **options)


def notebook(study: Study, concept_set: str, experiment: str, revision: str, activations: str, folder: Path) -> None:
    """Execute one experiment's notebook for one checkpoint and set of statements."""
    from .. import experiments
    from . import runner

    # Progress bars say into the notebook where they are installed, and that widgets are not; there are no bars to see.
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"
    with gpus.reserved() if experiments.get(experiment).passes else nullcontext():  # the others read activations alone
        runner.run(study, concept_set, experiment, revision, activations, folder)


def collect(out: Path, *tables: Path) -> None:
    """Join the tables of one experiment's runs."""
    results.collect(list(tables), out)


def summary(study: Study, name: str, folder: Path, out: Path) -> None:
    """Write one of the tables that an experiment makes from all its runs."""
    from .. import experiments

    experiments.summary(name)(study, folder, out)


def claims(study: Study, folder: Path, out: Path) -> None:
    """Write the verdicts on the paper's claims, for each set of statements and dimension."""
    from ..checkpoints.ledger import weights_sha256
    from ..claims import framework, paper_claims

    checkpoints = [study.loaded[revision] for revision in study.traced()]
    tokens = tuple(checkpoint.tokens for checkpoint in checkpoints)
    series = framework.Series(
        suite=study.suite,
        revisions=tuple(study.traced()),
        steps=tuple(checkpoint.step for checkpoint in checkpoints),
        tokens=None if None in tokens else tokens,
        tuned=study.loaded.chat.revision if study.loaded.chat else None,
        weights=weights_sha256(checkpoints[-1]),
    )
    every = [(*each, len(study.concept_set(*each))) for each in _sets_and_dimensions(study)]
    results.write_csv(paper_claims.judge(framework.Evidence.read(series, folder, *each) for each in every), out)


def provenance(study: Study, folder: Path, out: Path) -> None:
    """Write what a study's results were made from."""
    from . import provenance

    provenance.write(study, folder, out)


def page(notebook: Path, out: Path) -> None:
    """Write an executed notebook as a page of the book."""
    from . import runner

    runner.page(notebook, out)


def javascript(out: Path) -> None:
    """Write the chart libraries that the book's pages load."""
    from ..book import vega

    vega.write_javascript(out)


def book(source: Path) -> None:
    """Build the book from its sources, with every warning an error."""
    import subprocess

    from . import runner

    program = Path(sys.executable).with_name("jupyter-book")
    with runner.named_kernel() as environment:
        command = [program, "build", ".", "--all", "--quiet", "-W", "-n", "--keep-going"]
        if code := subprocess.run(command, cwd=source, env=environment).returncode:
            sys.exit(code)  # it has said why


def _sets_and_dimensions(study: Study) -> list[tuple[str, str]]:
    return [(name, dimension) for name in study.sets for dimension in study.dimensions_of(name)]


_WORDS = {str: str, Path: Path, Study: studies.read}  # how a word becomes what a parameter asks for
_FUNCTIONS = (ledger, weights, describe, activations, notebook, collect, summary, claims, provenance, page, javascript, book)
JOBS = {function.__name__: function for function in _FUNCTIONS}


def _start(name: str, *words: str) -> None:
    if name not in JOBS:
        raise unknown("job of a run", name, JOBS)
    parameters = list(inspect.signature(JOBS[name]).parameters.values())
    if parameters[-1].kind is inspect.Parameter.VAR_POSITIONAL:
        parameters += parameters[-1:] * (len(words) - len(parameters))
    if len(words) != len(parameters):
        names = " ".join(parameter.name for parameter in parameters)
        raise ValueError(f"The job {name} takes {len(parameters)} words, {names}; {len(words)} came.")
    JOBS[name](*(_WORDS[parameter.annotation](word) for parameter, word in zip(parameters, words, strict=True)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job; return its exit code, as `processes.exit_code` says."""
    words = list(sys.argv[1:] if arguments is None else arguments) or [""]
    return processes.exit_code(words[0], lambda: _start(*words))


if __name__ == "__main__":
    sys.exit(main())
