"""What is done to the program, and the table of what came of it (written where `$FAULTS_TABLE` says)."""

import csv
import os
import signal
import subprocess
import sys
import time
from datetime import date

import pytest
from filelock import FileLock
from program import Program

from tracing_utils.core.paths import PROJECT

sys.path.append(str(PROJECT / "tests" / "checkpoints"))  # whose `test_hub` has the failures of a hub

# A shell starts what runs in the background with Ctrl-C ignored, and what is started from there inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

COLUMNS = ("part", "case", "done", "expected", "outcome", "held", "seconds", "date", "commit")


@pytest.fixture
def outcome(request, record_property):
    """Return a function that takes what came, in words, for the table; the case is told by the test's `fault` mark."""

    def tell(words: str, **named: str) -> None:
        told = dict(zip(COLUMNS, request.node.get_closest_marker("fault").args, strict=False)) | named
        record_property("fault", told | {"outcome": words})

    return tell


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    mark = item.get_closest_marker("fault")
    if mark and report.when == "call" and report.failed and not any(key == "fault" for key, _ in item.user_properties):
        report.user_properties.append(("fault", dict(zip(COLUMNS, mark.args, strict=False)) | {"outcome": "not as expected"}))
    return report


def pytest_runtest_logreport(report):
    """Write a row as soon as it is known, so that a broken session loses none. With workers, the one they report to does it."""
    told, table = dict(report.user_properties).get("fault"), os.environ.get("FAULTS_TABLE")
    if not (told and table and report.when == "call") or "PYTEST_XDIST_WORKER" in os.environ:
        return
    path, git = PROJECT / table, ["git", "rev-parse", "--short=8", "HEAD"]
    commit = subprocess.run(git, cwd=PROJECT, capture_output=True, text=True).stdout.strip()
    rows = {row["case"]: row for row in csv.DictReader(path.read_text().splitlines())} if path.exists() else {}
    held = {"held": "yes" if report.passed else "no", "seconds": f"{report.duration:.0f}"}
    rows[told["case"]] = told | held | {"date": date.today().isoformat(), "commit": commit}
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows.values(), key=lambda row: (row["part"], row["case"])))
    os.replace(part, path)


@pytest.fixture
def make_program(tmp_path, suite_folder, own_statements):
    """Return a builder of a program with one checkpoint, or with more revisions."""
    made = []

    def build(*revisions: str) -> Program:
        made.append(Program(tmp_path / f"program{len(made)}", suite_folder, own_statements, revisions or ("step64",)))
        return made[-1]

    yield build
    for program in made:  # a test that failed half way leaves nothing running
        for process in program.processes():
            process.kill()


@pytest.fixture
def program(make_program):
    """A program with one checkpoint and a study that probes it."""
    made = make_program()
    made.study(experiments=["probing"])
    return made


@pytest.fixture(scope="session")
def traced_once(tmp_path_factory, suite_folder, own_statements) -> Program:
    """A program whose study has been completed, and which nobody changes; made once, whatever number of workers tests."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if os.environ.get("PYTEST_XDIST_WORKER") else root
    with FileLock(root / "traced.lock"):
        made = Program(root / "traced", suite_folder, own_statements, ("step64",))
        made.study(experiments=["probing"])
        if not (root / "traced.done").exists():
            begun = time.monotonic()
            code, said = made.run()
            assert code == 0, said
            (root / "traced.done").write_text(str(time.monotonic() - begun))
    made.seconds = float((root / "traced.done").read_text())
    return made


@pytest.fixture
def undisturbed(traced_once) -> dict[str, bytes]:
    """What the study of `program` publishes when nothing is done to it."""
    return traced_once.tables()
