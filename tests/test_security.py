"""What comes from outside stays data: no code of it runs, no path of it leaves its folder, no text of it becomes markup."""

import ast
import os
import re
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hub_server import HubServer, files_of
from huggingface_hub import constants
from hypothesis import given, settings
from hypothesis import strategies as st
from papermill.translators import PythonTranslator

from tracing_utils import experiments, results
from tracing_utils.checkpoints import hub, suites
from tracing_utils.checkpoints.types import Remote
from tracing_utils.core import downloads
from tracing_utils.core.errors import file_name
from tracing_utils.core.paths import PROJECT
from tracing_utils.run import provenance, runner, studies

SOURCES = sorted((PROJECT / "tracing_utils").rglob("*.py"))


# Code


def calls(source: str) -> set[str]:
    """What a Python source calls, as `module.name`, `name`, or `.name` of what is not a module."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            function = node.func
            if ast.unparse(function) == "torch.load" and "weights_only=True" in map(ast.unparse, node.keywords):
                continue  # of a pickle, tensors alone
            if isinstance(function, ast.Name):
                found.add(function.id)
            elif isinstance(function, ast.Attribute):
                owner = function.value.id if isinstance(function.value, ast.Name) else ""
                found.add(f"{owner}.{function.attr}")
    return found


RUNS_CODE = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads", "torch.load", "joblib.load",
    "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "pd.read_pickle", "marshal.loads", ".extractall", "archive.extract",
    "shutil.unpack_archive", ".read_pickle", "shelve.open",
}  # fmt: skip


def test_no_module_unpickles_evaluates_unpacks_or_calls_a_shell():
    code = "torch.load('x')\neval('1')\narchive.extract('m')\ntorch.load('x', weights_only=True)"
    assert calls(code) & RUNS_CODE == {"torch.load", "eval", "archive.extract"}
    found = {str(path): calls(path.read_text()) & RUNS_CODE for path in SOURCES}
    assert {name: names for name, names in found.items() if names} == {}
    assert allowed("f(shell=True)\nf(allow_pickle=False, trust_remote_code=word)\nf(trust_remote_code=True)") == [
        "shell=True", "trust_remote_code=True",
    ]  # fmt: skip
    assert {str(path): names for path in SOURCES if (names := allowed(path.read_text()))} == {}


def allowed(source: str) -> list[str]:
    """The arguments that let a shell, a pickle or a model's code run; `trust_remote_code` may pass on the study's own word."""
    arguments = [keyword for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) for keyword in node.keywords]
    risky = [
        a for a in arguments if a.arg in ("shell", "allow_pickle", "trust_remote_code") and isinstance(a.value, ast.Constant)
    ]
    return [ast.unparse(argument) for argument in risky if argument.value.value is not False]


def test_yaml_is_read_by_loaders_that_make_plain_values_only():
    loaders = re.findall(r"yaml\.(\w*load\w*)\(([^)]*)\)", "".join(path.read_text() for path in SOURCES))
    assert {name for name, _ in loaders} == {"safe_load", "load"}
    assert [arguments for name, arguments in loaders if name == "load"] == ["text, _Loader"]
    from tracing_utils.core.strict_yaml import _Loader  # noqa: PLC0415 - of this test alone

    assert not set(_Loader.yaml_constructors) & {"tag:yaml.org,2002:python/object"}
    assert all(not str(tag).startswith("tag:yaml.org,2002:python") for tag in _Loader.yaml_constructors)


def test_a_study_s_word_about_code_stands_in_the_record_of_each_run_and_in_the_provenance(tmp_path, suite_folder):
    for word in ("true", "false"):
        (tmp_path / "mine.yml").write_text(f"suite: {suite_folder}\nconcepts: pocket\ntrust_remote_code: {word}\n")
        study = studies.read(tmp_path / "mine.yml")
        for experiment in experiments.names():
            values = studies.parameters(study, "pocket", experiment, "step8")
            assert values["trust_remote_code"] is (word == "true")
    assert '"trust_remote_code": study.trust_remote_code' in Path(provenance.__file__).read_text()
    assert '"parameters": values' in Path(runner.__file__).read_text()  # the record holds what the notebook was told


HOSTILE = (
    "'''; import os; os.mkdir('sprung'); '''",
    '"""\nimport os\nos.mkdir("sprung")\n"""',
    '\\"; import os; os.mkdir("sprung") #',
    "\\",
    "a\nimport os\nos.mkdir('sprung')",
    "\r\nimport os",
    "{revision}",
    "`touch sprung`",
    "$(touch sprung)",
    "\u2028import os",
)


def assigned(values: dict) -> dict:
    """What the cell that papermill injects assigns, read without running it."""
    tree = ast.parse(PythonTranslator.codify(values))
    assert all(isinstance(node, ast.Assign) for node in tree.body)
    return {node.targets[0].id: ast.literal_eval(node.value) for node in tree.body}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_parameter_of_a_notebook_is_a_string_in_it(text):
    assert assigned({"suite": text, "dimensions": [text, {"a": text}]}) == {"suite": text, "dimensions": [text, {"a": text}]}


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_parameter_of_a_notebook_is_the_string_it_was(text):
    assert assigned({"suite": text, "concept_set": [text]}) == {"suite": text, "concept_set": [text]}


# Paths and shell lines


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=12) | st.text("ab.-_/\\ '\";$`\n\0", max_size=8))
def test_a_name_that_is_accepted_is_one_harmless_word_and_no_path(name):
    try:
        file_name("study", name)
    except ValueError:
        return
    assert Path("a", name).parent == Path("a")
    assert name not in ("", ".", "..")
    assert name[0] not in "-."
    assert not set(name) & set(" \t\n\r\0'\"`$;&|<>(){}[]*?!~#%\\/:=,@^+")


def test_harmless_names_are_accepted():
    for name in ("pocket", "pocket-tracingllm", "olmo-2-1b-early", "v1.0_x", "\u00fcbung"):
        assert file_name("study", name) == name


FIELDS = {
    "PYTHON", "RUNS", "config[study]", "study.name", "input", "output", "input.activations", "output.activations",
    "wildcards.set", "wildcards.experiment", "wildcards.revision", "wildcards.summary",
}  # fmt: skip


def test_every_field_of_a_shell_line_is_quoted_or_made_of_checked_names():
    """Paths there are relative, made of the names of the study, its sets and revisions, all of which `file_name` has seen."""
    text = (PROJECT / "Snakefile").read_text()
    lines = re.findall(r'^    shell: "(.*)"$', text, flags=re.M)
    assert len(lines) > 10
    assert {field for line in lines for field in re.findall(r"\{([^}]*)\}", line)} <= FIELDS
    quoted = dict(re.findall(r"^(PYTHON) = (.*)$", text, flags=re.M))
    names = {"sys": type("sys", (), {"executable": "/a b/py'thon;touch sprung"}), "shlex": shlex, "Path": Path, "str": str}
    for expression in quoted.values():
        program, *module = shlex.split(eval(expression, names))
        assert program == "/a b/py'thon;touch sprung"
        assert module == ["-m", "tracing_utils.run.warm"]
    for path in ("Snakefile", "profiles"):
        assert (PROJECT / path).exists()


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "..", ".hidden", "-rf", "a b", "a\nb", ""])
def test_results_are_published_under_no_path(name, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "PROJECT", tmp_path / "project")
    if name == "":
        assert results.folder("") == tmp_path / "project" / "results"  # of all studies
        return
    with pytest.raises(ValueError, match="The name of a study must be"):
        results.publish(name)
    assert list(tmp_path.rglob("*")) == []


def test_the_label_of_a_folder_that_is_named_by_markup_is_plain(suite_folder, tmp_path):
    (folder := tmp_path / "<b>;$(x)").mkdir()
    for name in ("step0", "step1", "tokenizer"):
        (folder / name).symlink_to(suite_folder / name)
    found = suites.load(str(folder))
    assert found.name == "b-x"
    assert {checkpoint.suite for checkpoint in found.checkpoints} == {"b-x"}


def test_a_source_archive_of_a_package_index_is_not_run(tmp_path, monkeypatch):
    """pip would run its setup.py to learn its name, before the hash could be checked."""
    (folder := tmp_path / "trap-1.0").mkdir()
    (folder / "setup.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'sprung')!r})\n")
    (folder / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: trap\nVersion: 1.0\n")
    (index := tmp_path / "index").mkdir()
    with tarfile.open(index / "trap-1.0.tar.gz", "w:gz") as archive:
        archive.add(folder, "trap-1.0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    with pytest.raises(ValueError, match=r"pip could not download trap==1\.0"):
        downloads.fetch_wheel("trap==1.0", "0" * 64)
    assert not (tmp_path / "sprung").exists()


@pytest.fixture
def server(tmp_path, monkeypatch):
    served = HubServer()
    monkeypatch.setenv("HF_ENDPOINT", served.address)
    monkeypatch.setenv("TRACING_UTILS_CACHE", str(tmp_path / "deep" / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield served
    served.close()


def test_a_hub_whose_commits_are_paths_writes_nothing_elsewhere(
    server, family_checkpoints, tokenizer_folder, tmp_path, monkeypatch
):
    server.publish("tests/evil", "step1", files_of(family_checkpoints["llama"].folder, tokenizer_folder))
    honest = hub.resolve(suites.load("hub:tests/evil").checkpoints)[0]
    assert list((tmp_path / "deep").rglob(f"{honest.remote.commit}.json"))  # what it said is kept
    info = hub._api().model_info("tests/evil", revision="step1", files_metadata=True)
    info.sha = "../../../evil"
    monkeypatch.setattr(hub, "_api", lambda: type("Api", (), {"model_info": lambda *_, **__: info})())
    hub._metadata(Remote("tests/evil", "../../../evil"), "evil")
    assert not list(tmp_path.rglob("evil.json"))


def test_a_file_that_a_hub_names_by_a_path_is_not_asked_for():
    names = ["config.json", "../config.json", "/etc/passwd", "a/../../x.py", "model.safetensors", "..", "x.py", "tokenizer.json"]
    assert hub._needed(names, {}) == ["config.json", "model.safetensors", "tokenizer.json", "x.py"]


# A user's own terminal


def test_the_command_itself_ends_with_code_2_one_line_and_no_traceback(tmp_path):
    (tmp_path / "mine.yml").write_text("suite: pocket\nconcepts: pocket\nfeatured: !!python/object/apply:os.mkdir ['sprung']\n")
    command = [sys.executable, "-m", "tracing_utils", "run", "--study", str(tmp_path / "mine.yml")]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(PROJECT)}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(
        r"error: \S+mine\.yml must be a YAML file; .*tags \(!\) are not read; write a plain value\.\n", done.stderr
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yml"]
