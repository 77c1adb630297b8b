"""The key of a result follows imports wherever modules lie, and leaves out what decides no number."""

import shutil

import pytest

from tracing_utils import experiments
from tracing_utils.core.paths import PROJECT
from tracing_utils.experiments import notebook
from tracing_utils.run import keys


def copied(folder):
    """Copy the package into a folder."""
    shutil.copytree(PROJECT / "tracing_utils", folder / "tracing_utils", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def hashes(folder, charts) -> dict[str, str]:
    """The hash of each experiment's code, by the package in a folder."""
    cells = {
        name: [cell.source for cell in notebook.source(name).cells if cell.cell_type == "code"] for name in experiments.names()
    }
    return {name: keys.of_code("\n".join(sources), folder, charts=charts) for name, sources in cells.items()}


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory):
    """The hashes by a copy that nobody changes, with charts and without."""
    folder = copied(tmp_path_factory.mktemp("before"))
    return {charts: hashes(folder, charts) for charts in (True, False)}


@pytest.fixture
def changed(tmp_path, unchanged):
    """Return a function that says which experiments' code has another hash once some lines are added to a file."""

    def compare(file: str, lines: str = "\nCHANGED = 1\n", charts: bool = False) -> set[str]:
        path = copied(tmp_path / "after") / "tracing_utils" / file
        path.parent.mkdir(exist_ok=True)
        path.write_text((path.read_text() if path.exists() else "") + lines)
        after = hashes(tmp_path / "after", charts)
        return {name for name in after if unchanged[charts][name] != after[name]}

    return compare


ALL = set(experiments.names())


def test_two_equal_copies_have_equal_keys(changed):
    assert changed("core/errors.py", "") == set()


@pytest.mark.parametrize("file", ["core/evaluation.py", "statements/user_files.py", "checkpoints/ledger.py", "results.py"])
def test_a_change_two_folders_away_changes_the_key_of_every_experiment_that_reaches_it(changed, file):
    assert changed(file) == ALL


def test_a_change_inside_one_experiment_changes_those_that_import_it(changed):
    assert changed("experiments/mutual_information/kernels.py") == {"mutual_information"}


def test_a_module_behind_an_import_inside_a_function_counts(changed):
    """`activations` imports `models` inside functions only."""
    assert changed("checkpoints/models.py") == ALL


@pytest.mark.parametrize(
    "file", ["book/charts.py", "book/vega.py", "claims/framework.py", "run/plan.py", "run/runner.py", "__main__.py"]
)
def test_charts_claims_and_the_runner_change_no_key(changed, file):
    assert changed(file) == set()


def test_an_axis_title_changes_the_hash_of_pages_alone(changed):
    assert changed("book/charts.py", charts=True) == ALL


def test_a_new_experiment_changes_no_key(changed):
    assert changed("experiments/toy/__init__.py", '"""A toy."""\n') == set()


def test_relative_imports_of_any_depth_and_absolute_ones_are_followed(tmp_path):
    for name, source in {
        "__init__": "", "top": "", "a/__init__": "", "a/near": "", "a/b/__init__": "", "a/b/deep": "", "far": "",
        "a/b/module": "from . import deep\nfrom .. import near\nfrom ...top import x\nimport tracing_utils.far\n",
    }.items():  # fmt: skip
        path = tmp_path / "tracing_utils" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    reached = keys.reached("from tracing_utils.a.b import module", tmp_path)
    assert reached == {f"tracing_utils.{name}" for name in ("a.b.module", "a.b.deep", "a.near", "top", "far")}
