"""The real pipeline, on a copy of the project with a tiny suite: done once, never twice, and continued after a failure."""

import json
import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from tracing_utils.book import vega
from tracing_utils.core.paths import PROJECT

PLANTED = "from pathlib import Path\n\nassert revision != 'step1' or not Path('broken').exists(), 'planted'\nvega.enable()"
"""A failure of one notebook, from the moment that a file is there."""

PUBLISHED = "what was published before\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory, suite_folder, own_statements):
    """A copy of what a run needs, with a study of two checkpoints, one dimension and two experiments."""
    copy = tmp_path_factory.mktemp("project")
    for name in ("tracing_utils", "notebooks", "profiles"):
        shutil.copytree(PROJECT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "Snakefile", copy)
    shutil.copytree(suite_folder, copy / "tiny", ignore=shutil.ignore_patterns("chat", "step2", "step8", "step64"))
    shutil.copytree(own_statements, copy / "mine")
    notebook = copy / "notebooks" / "mutual_information.md"
    notebook.write_text(notebook.read_text().replace("vega.enable()", PLANTED))
    (copy / "results/tiny").mkdir(parents=True)
    (copy / "results/tiny/probing.csv").write_text(PUBLISHED)
    (copy / "tiny.yml").write_text(
        "suite: tiny\nconcepts: mine\nexperiments: [probing, mutual_information]\nprobing: {seeds: 1}\n"
        "mutual_information: {examples: 40}\nfeatured: [step1]\n"
    )
    return copy


def start(project, *words):
    environment = os.environ | {"PYTHONPATH": str(project), vega.DRAWN: "1"}  # no pictures: `test_notebooks` asks for them
    command = [sys.executable, "-m", "tracing_utils", *words]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def run(project, *more):
    return start(project, "run", "--study", "tiny.yml", *more)


def held(project) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (project / "results").rglob("*") if path.is_file()}


def test_a_run_makes_everything_once_and_leaves_results_untouched_until_it_is_published_and_compares_as_reproduced(project):
    code, said = run(project)
    assert code == 0, said
    assert "probing of step0" in said
    assert "mutual_information of step1" in said
    assert (project / "runs/tiny/results/probing.csv").read_bytes().count(b"\n") > 10
    made = {"ledger", "concepts", "claims", "probing", "dynamics", "mutual_information", "reweighting"}
    assert {path.stem for path in (project / "runs/tiny/results").glob("*.csv")} == made
    provenance = json.loads((project / "runs/tiny/results/provenance.json").read_text())
    assert set(provenance["weights"]) == {"step0", "step1"}
    assert not (project / "runs/tiny/activations").exists()  # temporary
    assert (project / "book/runs/tiny/probing-step1.ipynb").exists()

    assert held(project) == {"probing.csv": PUBLISHED.encode()}
    code, said = start(project, "compare", "tiny")
    assert (code, "Unknown published study 'tiny'" in said) == (2, True), said
    for path in (project / "tiny").rglob("*"):
        os.utime(path)
    code, said = run(project, "--publish")
    assert (code, "nothing to compute" in said) == (0, True), said
    made = {path.name: path.read_bytes() for path in (project / "runs/tiny/results").iterdir()}
    assert held(project) == made
    computed = json.loads(made["provenance.json"])["computed"]
    assert computed["dtype"] == ["float32"]
    assert computed["threads"] == [1]
    assert len(computed["blas"]) == 1
    code, said = start(project, "compare", "tiny")
    assert (code, "Yes, tiny was reproduced" in said) == (0, True), said


def test_a_study_of_one_experiment_on_two_checkpoints_has_its_tables_and_verdicts_that_say_what_was_not_looked_at(project):
    (project / "only.yml").write_text(
        "suite: tiny\nconcepts: mine\nexperiments: [mutual_information]\nmutual_information: {examples: 40}\n"
    )
    code, said = start(project, "run", "--study", "only.yml")
    assert code == 0, said
    made = project / "runs/only/results"
    assert {path.stem for path in made.glob("*.csv")} == {"ledger", "concepts", "claims", "mutual_information", "reweighting"}
    assert pd.read_csv(made / "mutual_information.csv")["revision"].unique().tolist() == ["step0", "step1"]
    claims = pd.read_csv(made / "claims.csv")
    tested = claims.loc[claims["verdict"] != "not testable here", "claim"]
    assert set(tested) == {"ty_keeps_rising", "near_zero_at_start", "middle_layers_hold_ty"}
    assert claims["note"].notna().all()  # which says of the others why not


TOY = {
    "tracing_utils/experiments/toy/__init__.py": '"""How long the activations of a statement are."""\n',
    "tracing_utils/experiments/toy/norms.py": """import numpy as np

from ...core.evaluation import bootstrap_weights, mean


def mean_norm(activations, concepts):
    return mean(np.linalg.norm(activations[:, -1], axis=-1), bootstrap_weights(concepts.groups, seed=0))
""",
    "notebooks/toy.md": """# Measure a length

```{code-cell} python
:tags: [parameters]

suite: str = "pocket"  # a suite
revision: str = "step0"  # which checkpoint
concept_set: str = "pocket"  # a concept set
dimensions: list[str] = ["privacy"]  # which
power: int = 1  # of the length
activations_file: str = ""  # activations computed before
output: str = ""  # where the results go
```

```{code-cell} python
from tracing_utils import results
from tracing_utils.checkpoints import activations, suites
from tracing_utils.experiments.toy import norms
from tracing_utils.statements import concepts

checkpoint, rows = suites.load(suite)[revision], []
for name in dimensions:
    statements = concepts.load(concept_set, name)
    acts = activations.of(checkpoint, statements, activations_file)
    rows.append(results.row(checkpoint, statements, None, "norm", f"power {power}", norms.mean_norm(acts, statements), ""))
results.write(rows, output)
```
""",
    "book/toy.md": "# Lengths\n\nA page about lengths.\n",
}
"""A toy experiment, by the words of CONTRIBUTING."""


def test_an_experiment_of_four_new_files_runs_into_results_and_a_page_and_changes_no_other_key(project):
    def keys() -> dict[str, str]:
        records = [
            path for name in ("probing", "mutual_information") for path in (project / "runs/tiny/mine" / name).glob("*.json")
        ]
        return {f"{path.parent.name} {path.stem}": json.loads(path.read_text())["key"] for path in records}

    def tables() -> set[str]:
        return {path.stem for path in (project / "runs/tiny/results").glob("*.csv")}

    before, others, study = keys(), tables(), project / "tiny.yml"
    assert len(before) == 4
    for name, content in TOY.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        assert not (project / name).exists()
        (project / name).write_text(content)
    written = study.read_text()
    study.write_text(written.replace("mutual_information]", "mutual_information, toy]") + "toy: {power: 2}\n")
    code, said = run(project)
    assert code == 0, said
    table = pd.read_csv(project / "runs/tiny/results/toy.csv")
    assert table["revision"].tolist() == ["step0", "step1"]
    assert set(table["metric"]) == {"power 2"}
    assert (table["value"] > 0).all()
    assert tables() == others | {"toy"}
    assert (project / "book/runs/tiny/toy-step1.ipynb").exists()
    assert keys() == before
    assert "toy of step0" in said
    assert "probing of" not in said
    shutil.rmtree(project / "tracing_utils/experiments/toy")
    (project / "notebooks/toy.md").unlink()
    study.write_text(written)


def test_a_failed_notebook_is_named_and_kept_and_the_same_command_continues_with_only_what_changed(project):
    """And what is made from all runs is made again, though one of them was done in the command that failed.

    What changed is an option of one experiment, and one checkpoint.
    """
    study, table = project / "tiny.yml", project / "runs/tiny/results/mutual_information.csv"
    probing, before = (project / "runs/tiny/results/probing.csv").read_bytes(), table.read_text()
    study.write_text(study.read_text().replace("examples: 40", "examples: 30"))
    config = project / "tiny/step1/config.json"
    config.write_text(config.read_text() + "\n")
    (project / "broken").touch()
    code, said = run(project)
    assert code == 2
    assert "runs/tiny/failed/mine-mutual_information-step1.ipynb" in said
    assert "AssertionError: planted" in said
    assert (project / "runs/tiny/mine/mutual_information/step0.json").exists()
    assert table.read_text() == before

    (project / "broken").unlink()
    code, more = run(project)
    assert code == 0, more
    assert "probing of step1" in said + more
    assert "probing of step0" not in said + more
    assert "provenance" in more
    assert (project / "runs/tiny/results/probing.csv").read_bytes() == probing
    assert "mutual_information of step0" not in more
    assert not (project / "runs/tiny/failed").exists()
    assert table.read_text() != before


def test_duplicated_checkpoints_are_refused_before_anything_is_computed(project):
    shutil.copytree(project / "tiny/step0", project / "tiny/step2")
    code, said = run(project)
    assert code == 2
    assert "these are the same: step0 = step2" in said
    shutil.rmtree(project / "tiny/step2")


def test_a_second_run_of_the_same_study_waits_for_nobody_and_says_so(project):
    from filelock import FileLock  # noqa: PLC0415

    with FileLock(project / "runs/tiny/.lock"):
        code, said = run(project)
    assert code == 2
    assert "another run of tiny is under way" in said
