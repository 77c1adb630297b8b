"""A disk is full or takes no writing: a sentence, what was published stays whole, and the same command completes."""

import shutil
import subprocess

import pytest
import yaml
from hub_server import HubServer, files_of
from program import PROBING, PROJECT, disk

from tracing_utils import results

fault = pytest.mark.fault
pytestmark = pytest.mark.long


PUBLISH = ("run", "--study", "small.yml", "--cores", "2", "--publish")
FULL = ("The disk is full", "No space left on device")  # as the program says, and as a notebook's cell or another program does


def refused(program, words: tuple[str, ...], *arguments: str) -> str:
    """Run the command, which must fail with one of these in one of its lines; return that line."""
    code, said = program.run(*arguments)
    assert code == 2, said
    assert "Traceback" not in said
    told = next((line for line in said.splitlines() if any(each in line for each in words)), None)
    assert told, said
    return told.replace(f"{program.folder}/", "").replace(str(program.folder), ".").strip()


def completes(program, undisturbed, *arguments: str) -> None:
    code, said = program.run(*arguments)
    assert code == 0, said
    assert program.tables() == undisturbed


@pytest.mark.parametrize(
    ("place", "size"),
    [
        pytest.param("activations", "8k", marks=fault("disk", "full: activations", "8 kB are free where activations go", "")),
        pytest.param("mine", "40k", marks=fault("disk", "full: a notebook's results", "40 kB are free where its results go", "")),
    ],
)
def test_a_full_disk_is_told_and_the_run_completes_when_there_is_room(place, size, program, undisturbed, outcome):
    with disk(program.folder / "runs" / "small" / place, size) as change:
        (program.folder / "runs" / "small" / place / "kept").touch()  # Snakemake takes an empty folder away
        told = refused(program, FULL)
        assert not program.finished()
        change("size=100m")
        completes(program, undisturbed)
    outcome(f"{told} With room, the same command completed.", expected="a sentence; the rerun completes")


@fault("disk", "full: the whole run", "the disk of the run has 60 kB", "a sentence; the rerun completes")
def test_a_disk_that_is_full_from_the_beginning(program, undisturbed, outcome):
    with disk(program.folder / "runs", "60k") as change:
        told = refused(program, FULL)
        change("size=100m")
        completes(program, undisturbed)
    outcome(f"{told} With room, the same command completed.")


@fault("disk", "full: published results", "nothing is free where results are published", "a sentence; earlier results stay whole")
def test_a_full_disk_leaves_the_earlier_results_whole(program, undisturbed, outcome):
    with disk(program.folder / "results", "100m") as change:
        completes(program, undisturbed, *PUBLISH)
        table = program.folder / "results" / "small" / "probing.csv"
        assert table.read_bytes() == undisturbed["probing.csv"]
        program.study(experiments=["probing"], probing=PROBING | {"seeds": 2})
        change(f"size={shutil.disk_usage(program.folder / 'results').used}")
        told = refused(program, FULL, *PUBLISH)
        assert results.whole(table.parent)
        assert table.read_bytes() == undisturbed["probing.csv"]
        change("size=100m")
        code, said = program.run(*PUBLISH)
        assert code == 0, said
        assert table.read_bytes() != undisturbed["probing.csv"]
    outcome(f"{told} The results of the run before were as they had been.")


@fault("disk", "read-only results", "results are on a disk that takes no writing", "a sentence; the rerun completes")
def test_results_that_cannot_be_written_are_told(program, undisturbed, outcome):
    with disk(program.folder / "results", "100m", "ro") as change:
        told = refused(program, ("Read-only file system",), *PUBLISH)
        change("rw")
        completes(program, undisturbed, *PUBLISH)
    outcome(f"{told} When writing was allowed, the same command completed.")


@fault(
    "disk", "full: a downloaded checkpoint", "the disk fills while weights arrive from a hub", "a sentence; no half checkpoint"
)
def test_a_disk_that_fills_during_a_download_leaves_no_half_checkpoint(
    make_program, family_checkpoints, tokenizer_folder, outcome, tmp_path
):
    server, program = HubServer(), make_program()
    content = files_of(family_checkpoints["gpt_neox"].folder, tokenizer_folder)
    server.publish("tests/one", "step0", content)
    environment = {"HF_ENDPOINT": server.address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hf")}
    (program.folder / "hub.yml").write_text("suite: hub:tests/one\nconcepts: mine\n")
    command = ["job", "weights", "hub.yml", "step0", "there/step0"]
    need = sum(-(-len(file) // 4096) for name, file in content.items() if name != "README.md")
    try:
        with disk(
            program.folder / "there", f"{4 * need}k"
        ) as change:  # enough by the count of bytes, not for what is beside them
            code, said = program.run(*command, **environment)
            assert code == 2, said
            assert "No space left on device" in said
            assert "Traceback" not in said
            assert not (program.folder / "there/step0").exists()
            told = program.sentence()
            change("size=100m")
            code, said = program.run(*command, **environment)
            assert code == 0, said
            assert (program.folder / "there/step0/model.safetensors").read_bytes() == content["model.safetensors"]
    finally:
        server.close()
    outcome(f"{told} With room, the same command completed.")


@fault("disk", "full: the book", "1 MB is free where the book is built", "a sentence; the rerun completes")
def test_a_full_disk_while_the_book_is_built(program, outcome):
    copy = program.folder
    shutil.copytree(PROJECT / "book", copy / "book", ignore=shutil.ignore_patterns("runs", "vega.js"))
    for name in ("_config.yml", "CHANGELOG.md", "CITATION.cff"):
        shutil.copy(PROJECT / name, copy / name)
    (copy / "book/index.md").write_text("# A book\n\n{cite}`qian2024tracing`\n")
    (copy / "book/teach/slides/index.md").write_text("# Slides\n")  # ours draw results, of which there are none here
    toc = {"format": "jb-book", "root": "book/index", "chapters": [{"file": "book/bibliography"}]}
    (copy / "_toc.yml").write_text(yaml.safe_dump(toc))
    code, said = program.run()
    assert code == 0, said
    with disk(copy / "_build", "1m") as change:
        told = refused(program, FULL, "run", "--study", "small.yml", "--book")
        change("size=200m")
        code, said = program.run("run", "--study", "small.yml", "--book")
        assert code == 0, said
        assert subprocess.run(["grep", "-q", "A book", copy / "_build/html/book/index.html"]).returncode == 0
    outcome(f"{told.partition(': /')[0]} ... With room, the same command completed.")
