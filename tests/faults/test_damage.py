"""What lies on the disk was damaged: it is found before it is used, named, and made again where the program can."""

import signal
import zipfile
from hashlib import sha256

import pytest
from program import wait_for

from tracing_utils.core import downloads

fault = pytest.mark.fault


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    """Return the content with one bit changed, late, where safetensors have numbers."""
    at = len(content) - 9
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGES = {"cut off": cut, "one bit flipped": flipped}


def damage(path, how) -> None:
    path.write_bytes(DAMAGES[how](path.read_bytes()))


@pytest.fixture
def traced(program, traced_once):
    """A program that has completed its study."""
    program.like(traced_once.folder)
    code, said = program.run()
    assert (code, "nothing to compute" in said) == (0, True), said
    return program


@pytest.mark.long
@fault("damaged", "a run's files", "a notebook's results, evidence, page and record, in turn cut off or with a bit flipped", "")
def test_damaged_files_of_a_run_are_made_again(traced, undisturbed, outcome):
    told = []
    for name, how in (("csv", "cut off"), ("safetensors", "one bit flipped"), ("ipynb", "one bit flipped"), ("json", "cut off")):
        damage(traced.folder / f"runs/small/mine/probing/step64.{name}", how)
        code, said = traced.run()
        assert code == 0, said
        told.append(next(line for line in said.splitlines() if "made again, since it is not as it was written" in line))
        assert traced.tables() == undisturbed
        code, said = traced.run()
        assert "nothing to compute" in said
    assert len(set(told)) == 1
    outcome(f"each time: {told[0]}", expected="found at the next start, named, made again with the same results")


@pytest.mark.long
@fault("damaged", "results", "two tables of a finished run with a bit flipped", "")
def test_damaged_tables_are_named_and_made_again(traced, undisturbed, outcome):
    damage(traced.folder / "runs/small/results/probing.csv", "one bit flipped")
    damage(traced.folder / "runs/small/results/ledger.csv", "one bit flipped")
    code, said = traced.run()
    assert code == 0, said
    assert traced.tables() == undisturbed
    told = [line.rpartition(": ")[2] for line in said.splitlines() if "made again" in line]
    assert sorted(told) == ["runs/small/results/ledger.csv", "runs/small/results/probing.csv"]
    words = (
        "found at the next start and made again as they had been; the book refuses a table that is not the one of its provenance"
    )
    outcome(words, expected="named and made again")


@pytest.mark.long
@fault("damaged", "activations", "activations that a stopped run left, with a bit flipped", "found, named, computed again")
def test_damaged_activations_are_computed_again(program, undisturbed, outcome):
    run = program.start()
    wait_for(program.kernel, run)
    run.send_signal(signal.SIGINT)
    assert run.wait() == 130
    damage(program.folder / "runs/small/activations/step64.safetensors", "one bit flipped")
    code, said = program.run()
    assert code == 0, said
    told = next(line for line in said.splitlines() if "made again, since it is not as it was written" in line)
    assert "activations of step64" in said
    assert program.tables() == undisturbed
    outcome(told)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("cut off", marks=fault("damaged", "weights cut off", "half of a checkpoint's safetensors file", "refused")),
        pytest.param(
            "one bit flipped",
            marks=fault("damaged", "weights with a bit flipped", "one bit of a checkpoint, with a list of hashes", "refused"),
        ),
    ],
)
def test_damaged_weights_are_refused_by_name(how, program, outcome):
    downloads.write_sums(program.folder / "tiny", ["step64/model.safetensors"])
    weights = program.folder / "tiny/step64/model.safetensors"
    damage(weights, how)
    code, said = program.run()
    assert code == 2, said
    assert "step64 (a damaged file: model.safetensors" in said
    assert not list((program.folder / "runs/small").glob("activations/*"))
    outcome(program.sentence())


@fault("damaged", "a GGUF file", "a GGUF file cut off", "refused by name")
def test_a_damaged_gguf_file_is_refused_by_name(program, outcome):
    (program.folder / "chat.gguf").write_bytes(b"GGUF\x03\0\0\0" + b"\1\0\0\0\0\0\0\0" * 2 + b"\7\0\0\0\0\0\0\0general")
    code, said = program.run("ledger", "chat.gguf")
    assert code == 2, said
    assert "chat.gguf must be a GGUF file of a model transformers knows; reading it failed" in said
    assert "Traceback" not in said
    outcome(program.sentence())


@fault("damaged", "a cached wheel", "a wheel in the cache, cut off", "its hash is missed; it is fetched again")
def test_a_damaged_wheel_is_fetched_again(tmp_path, monkeypatch, outcome):
    (index := tmp_path / "index").mkdir()
    with zipfile.ZipFile(wheel := index / "tiny_corpus-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("tiny_corpus/data.txt", "A sentence.")
        archive.writestr("tiny_corpus-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-corpus\nVersion: 1.0\n")
        archive.writestr("tiny_corpus-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("TRACING_UTILS_CACHE", str(tmp_path / "cache"))
    digest = sha256(wheel.read_bytes()).hexdigest()
    kept = downloads.fetch_wheel("tiny-corpus==1.0", digest)
    damage(kept, "cut off")
    assert downloads.fetch_wheel("tiny-corpus==1.0", digest).read_bytes() == wheel.read_bytes()
    damage(wheel, "cut off")
    damage(kept, "cut off")
    with pytest.raises(ValueError, match=r"pip could not download tiny-corpus==1\.0: .*is invalid"):
        downloads.fetch_wheel("tiny-corpus==1.0", digest)
    outcome("fetched again; where the index gives a damaged one too, pip's sentence is handed on and nothing is kept")
