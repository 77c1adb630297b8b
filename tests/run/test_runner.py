"""One notebook through papermill: refused, failed, killed, or whole."""

import dataclasses
import json
import os
import shutil
import sys
import sysconfig
import tempfile
import venv

import jupytext
import nbformat
import pytest
from jupyter_client.kernelspec import get_kernel_spec

from tracing_utils.core.paths import PROJECT
from tracing_utils.experiments import notebook
from tracing_utils.run import kernels, keys, runner, studies

HEADER = """---
kernelspec: {name: python3, language: python, display_name: Python 3}
---

# A title

```{code-cell} python
:tags: [parameters]

revision: str = "default"  # which
output: str = ""  # where to
```

"""


def written(folder, *cells):
    """Write a notebook with the given code cells and return its path."""
    path = folder / "small.md"
    path.write_text(HEADER + "\n\n".join(f"```{{code-cell}} python\n{cell}\n```" for cell in cells) + "\n")
    return path


def execute(folder, source, **values):
    return runner.execute(source, values, folder / "out.ipynb", folder / "failed" / "out.ipynb")


def test_a_notebook_runs_with_the_parameters_it_was_given(tmp_path):
    source = written(tmp_path, "print('at', revision)")
    execute(tmp_path, source, revision="step3")
    executed = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == "at step3\n"


def test_a_misspelt_parameter_is_refused_and_the_nearest_is_named(tmp_path):
    source = written(tmp_path, "pass")
    with pytest.raises(ValueError, match=r"Unknown parameter of small\.md 'revison'.*Did you mean 'revision'\?"):
        execute(tmp_path, source, revison="step3")
    assert not (tmp_path / "out.ipynb").exists()


def test_a_failed_notebook_is_kept_with_its_error_and_nothing_looks_finished(tmp_path):
    source = written(tmp_path, "1 / 0")
    with pytest.raises(runner.NotebookError, match=r"small \(step3\) failed: ZeroDivisionError: division by zero"):
        execute(tmp_path, source, revision="step3")
    kept = nbformat.read(tmp_path / "failed" / "out.ipynb", as_version=4)
    assert "ZeroDivisionError" in json.dumps(kept)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["failed", "small.md"]


def test_a_killed_kernel_is_a_failure_though_papermill_leaves_a_file(tmp_path):
    source = written(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(runner.NotebookError, match="died"):
        execute(tmp_path, source)
    assert not (tmp_path / "out.ipynb").exists()


def test_a_kernel_that_ends_before_it_answers_is_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_KERNEL", [sys.executable, "-c", "raise SystemExit"])
    with pytest.raises(runner.NotebookError, match="its kernel died"):
        execute(tmp_path, written(tmp_path, "pass"))
    assert not (tmp_path / "out.ipynb").exists()


def test_a_kernel_that_has_answered_is_not_listened_to_for_more(tmp_path, monkeypatch):
    asked = []
    listen = kernels.QuickClient.wait_for_ready

    async def wait(client, timeout=None):
        get = client.iopub_channel.get_msg
        monkeypatch.setattr(client.iopub_channel, "get_msg", lambda **words: asked.append(words) or get(**words))
        await listen(client, timeout)
        monkeypatch.undo()

    monkeypatch.setattr(kernels.QuickClient, "wait_for_ready", wait)
    execute(tmp_path, written(tmp_path, "print(6 * 7)"))
    assert asked == [{"timeout": 0.2}]
    assert nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-1].outputs[0].text == "42\n"


def test_a_kernel_of_the_user_s_that_is_called_python3_runs_neither_notebook_nor_page(tmp_path, monkeypatch):
    (folder := tmp_path / "jupyter" / "kernels" / "python3").mkdir(parents=True)
    (folder / "kernel.json").write_text(
        json.dumps({"argv": ["/of/another/python"], "display_name": "Mine", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    assert get_kernel_spec("python3").argv == ["/of/another/python"]
    execute(tmp_path, written(tmp_path, "import sys\nprint(sys.executable)"))
    assert nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-1].outputs[0].text == f"{sys.executable}\n"
    with runner.named_kernel() as environment:
        monkeypatch.setenv("JUPYTER_PATH", environment["JUPYTER_PATH"])
        assert get_kernel_spec("python3").argv[:3] == [sys.executable, "-m", "tracing_utils.run.warm"]


def test_what_the_user_has_ipython_do_at_each_start_is_left_out(tmp_path, monkeypatch):
    (profile := tmp_path / "ipython" / "profile_default" / "startup").mkdir(parents=True)
    mark = "import builtins; builtins.marks = [*getattr(builtins, 'marks', []), {!r}]"
    (profile / "00.py").write_text(mark.format("a file"))
    (profile.parent / "ipython_config.py").write_text(f"c.InteractiveShellApp.exec_lines = [{mark.format('a line')!r}]")
    (tmp_path / "start.py").write_text(mark.format("PYTHONSTARTUP"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "start.py"))
    source = written(tmp_path, "import builtins; print(sorted(getattr(builtins, 'marks', [])))")

    def found():
        execute(tmp_path, source)
        return nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-1].outputs[0].text

    assert found() == "[]\n"
    monkeypatch.setattr(runner, "_KERNEL", [word for word in runner._KERNEL if not word.startswith("--")])
    assert found() == "['PYTHONSTARTUP', 'a file', 'a line']\n"


def test_a_cell_that_takes_too_long_is_a_failure_that_names_the_limit(tmp_path):
    source = written(tmp_path, "import time\ntime.sleep(60)")
    with pytest.raises(runner.NotebookError, match=r"a cell must end within 2 seconds \(`cell_timeout` of the study\)"):
        runner.execute(source, {}, tmp_path / "out.ipynb", tmp_path / "failed" / "out.ipynb", timeout=2)
    assert not (tmp_path / "out.ipynb").exists()


@pytest.mark.filterwarnings("ignore:IPython parent .* is not a writable location")  # it takes a temporary one
def test_a_kernel_of_another_environment_is_refused_from_within(tmp_path, monkeypatch):
    source = written(tmp_path, "import sys; print('at', sys.prefix)")
    execute(tmp_path, source)
    executed = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == f"at {sys.prefix}\n"
    assert [cell.execution_count for cell in executed.cells if cell.cell_type == "code"] == [1, 2]  # the check has left no trace
    assert "RuntimeError" not in json.dumps(executed)
    venv.create(tmp_path / "other", symlinks=True)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PROJECT), sysconfig.get_path("purelib")]))
    monkeypatch.setattr(runner, "_KERNEL", [str(tmp_path / "other" / "bin" / "python"), *runner._KERNEL[1:]])
    with pytest.raises(
        runner.NotebookError, match=r"the kernel must be the interpreter of the command, .*; it is .*/other/bin/pyth"
    ):
        execute(tmp_path, source)


def test_a_long_temporary_folder_and_a_home_that_takes_no_writing_stop_no_kernel(tmp_path, monkeypatch):
    long, home = tmp_path / ("t" * 100), tmp_path / "file"
    long.mkdir()
    home.touch()  # a folder in it cannot be made, even by root
    for name, value in {"TMPDIR": long, "HOME": home / "home"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(tempfile, "tempdir", None)  # which remembers
    assert tempfile.gettempdir() == str(long)
    execute(tmp_path, written(tmp_path, "print('at', revision)"), revision="step3")
    assert "at step3" in (tmp_path / "out.ipynb").read_text()
    assert runner._folder_of_sockets() == "/tmp"
    monkeypatch.setattr("os.access", lambda *_: False)
    assert runner._folder_of_sockets() is None  # then over TCP
    execute(tmp_path, written(tmp_path, "print('at', revision)"), revision="step4")
    assert "at step4" in (tmp_path / "out.ipynb").read_text()


def test_two_equal_runs_give_the_same_bytes(tmp_path):
    source = written(tmp_path, "print(2 + 2)")
    execute(tmp_path, source, revision="a")
    first = (tmp_path / "out.ipynb").read_bytes()
    execute(tmp_path, source, revision="a")
    assert (tmp_path / "out.ipynb").read_bytes() == first
    execute(tmp_path, source, revision="b")
    assert (tmp_path / "out.ipynb").read_bytes() != first


def test_the_injected_parameters_are_hidden_from_the_page_and_the_title_tells_the_checkpoint(tmp_path):
    source = written(tmp_path, "pass")
    execute(tmp_path, source, revision="step3")
    runner.page(tmp_path / "out.ipynb", tmp_path / "page.ipynb")
    page = nbformat.read(tmp_path / "page.ipynb", as_version=4)
    assert page.cells[0].source.splitlines()[0].endswith(" at out")
    assert "*A title; study " in page.cells[0].source
    hidden = [cell for cell in page.cells if "remove-cell" in cell.metadata.get("tags", [])]
    assert len(hidden) == 1
    assert "step3" in hidden[0].source


def test_the_key_changes_with_weights_statements_parameters_and_dtype_and_with_nothing_else(
    suite_folder, own_statements, tmp_path
):
    def study(**changes):
        return studies.Study(
            "s", str(suite_folder), (str(own_statements),), dimensions=("privacy",), options={"probing": changes}
        )

    def key(**changes):
        return runner.key(study(**changes), own_statements.name, "probing", "step1")

    first = key()
    assert key() == first
    assert key(seeds=4) != first
    assert runner.key(study(), own_statements.name, "probing", "step0") != first
    assert runner.key(study(), own_statements.name, "mutual_information", "step1") != first
    elsewhere = tmp_path / "moved"
    elsewhere.mkdir()
    (elsewhere / "privacy.csv").write_text((own_statements / "privacy.csv").read_text())
    moved = studies.Study("s", str(suite_folder), (str(elsewhere),), dimensions=("privacy",))
    assert runner.key(moved, "moved", "probing", "step1") == first
    assert runner.key(dataclasses.replace(moved, dtype="bfloat16"), "moved", "probing", "step1") != first
    assert runner.experiment_key(study(), "probing") == runner.experiment_key(moved, "probing")
    assert runner.experiment_key(study(), "probing") != runner.experiment_key(study(seeds=4), "probing")
    (elsewhere / "toxicity.csv").write_text((own_statements / "privacy.csv").read_text().replace("neighbour", "teacher"))
    other = studies.Study("s", str(suite_folder), (str(elsewhere),), dimensions=("toxicity",))
    assert runner.key(other, "moved", "probing", "step1") != first


def test_the_key_of_steering_changes_with_the_weights_of_a_judge_that_lies_in_a_folder(suite_folder, own_statements, tmp_path):
    judge = shutil.copytree(suite_folder / "step0", tmp_path / "judge")
    study = studies.Study(
        "s",
        str(suite_folder),
        (str(own_statements),),
        dimensions=("privacy",),
        options={"steering": {"toxicity_judge": str(judge)}},
    )

    def keys():
        runner.key.cache_clear()  # of another process
        return [runner.key(study, own_statements.name, experiment, "step1") for experiment in ("steering", "probing")]

    before = keys()
    assert keys() == before
    shutil.copy(suite_folder / "step1" / "model.safetensors", judge)
    after = keys()
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_the_key_of_origins_changes_with_the_weights_of_its_relatives_and_of_the_last_checkpoint(
    suite_folder, own_statements, tmp_path
):
    traced, other = (shutil.copytree(suite_folder, tmp_path / name) for name in ("traced", "other"))
    relatives = {"relatives": [f"other={other}@step0", f"same={traced}"]}

    def keys():
        runner.key.cache_clear()  # of another process
        study = studies.Study("s", str(traced), (str(own_statements),), dimensions=("privacy",), options={"origins": relatives})
        return [runner.key(study, own_statements.name, experiment, "step0") for experiment in ("origins", "probing")]

    before = keys()
    shutil.copy(suite_folder / "step0" / "model.safetensors", other / "step1")  # of a revision that is not compared
    assert keys() == before
    shutil.copy(suite_folder / "step1" / "model.safetensors", other / "step0")
    between = keys()
    relatives["relatives"].pop()
    alone = keys()
    shutil.copy(suite_folder / "step0" / "model.safetensors", traced / "step64")
    after = keys()
    assert before[0] != between[0]
    assert alone[0] != after[0]
    assert before[1] == between[1] == alone[1] == after[1]


def test_the_key_of_an_experiment_covers_the_modules_its_notebook_reaches():
    cells = [cell.source for cell in jupytext.read(notebook.path("mutual_information")).cells if cell.cell_type == "code"]
    modules = {name.removeprefix("tracing_utils.") for name in keys.reached("\n".join(cells))}
    own = {f"experiments.mutual_information.{name}" for name in ("estimates", "kernels", "bits")}
    assert own | {"experiments.probing.probes", "statements.concepts", "core.evaluation", "results"} <= modules
    assert not [name for name in modules if name.startswith(("experiments.steering", "book", "claims"))]


def test_every_notebook_is_jupytext_without_outputs():
    for path in (runner.PROJECT / "notebooks").iterdir():
        assert path.suffix == ".md"
        assert all(not cell.get("outputs") for cell in jupytext.read(path).cells)
