"""A wheel or file is kept if its hash is right, and not otherwise; real servers answer on the loopback interface."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
import zipfile
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tracing_utils.core import downloads

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


def test_a_home_that_takes_no_writing_is_named_with_what_to_set(tmp_path, monkeypatch):
    monkeypatch.delenv("TRACING_UTILS_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert downloads.cache_folder() == tmp_path / "home/.cache/tracing_utils"
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"file/\.cache/tracing_utils does not \(Not a directory\)\. Set TRACING_UTILS_CACHE"):
        downloads.cache_folder()


def test_a_wheel_with_the_right_hash_is_kept_and_not_fetched_twice(index, tmp_path):
    digest = sha256(index.read_bytes()).hexdigest()
    path = downloads.fetch_wheel("tiny-corpus==1.0", digest)
    assert path.read_bytes() == index.read_bytes()
    assert kept(tmp_path) == [path]
    index.unlink()  # the index has lost it
    assert downloads.fetch_wheel("tiny-corpus==1.0", digest) == path


def test_a_wheel_with_a_wrong_hash_is_refused_and_nothing_is_kept(index, tmp_path):
    found = sha256(index.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=rf"tiny-corpus==1\.0 must have sha256 0{{64}}, .* has {found}; nothing was kept\."):
        downloads.fetch_wheel("tiny-corpus==1.0", "0" * 64)
    assert kept(tmp_path) == []
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_kept_wheel_that_was_damaged_is_fetched_again(index, tmp_path):
    digest = sha256(index.read_bytes()).hexdigest()
    path = downloads.fetch_wheel("tiny-corpus==1.0", digest)
    path.write_bytes(b"damaged")
    assert downloads.fetch_wheel("tiny-corpus==1.0", digest).read_bytes() == index.read_bytes()


def test_a_package_that_the_index_does_not_have_is_named_in_one_line(index, tmp_path):
    with pytest.raises(ValueError, match=r"pip could not download no-such-thing==1\.0: .* Check the connection") as refused:
        downloads.fetch_wheel("no-such-thing==1.0", "0" * 64)
    assert "\n" not in str(refused.value)
    assert kept(tmp_path) == []


@pytest.fixture
def registry(tmp_path, serve, monkeypatch):
    """An npm registry that holds one package; returns the path of its tarball on the server."""
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    (served := tmp_path / "served").mkdir()
    address, tarball = serve(served), served / "tiny-words-1.0.0.tgz"
    manifest = {"name": "tiny-words", "version": "1.0.0", "scripts": {"prepare": f"touch {tmp_path / 'was-run'}"}}
    with tarfile.open(tarball, "w:gz") as archive:
        for name, content in {"package.json": json.dumps(manifest), "words.txt": "a,b"}.items():
            (member := tarfile.TarInfo(f"package/{name}")).size = len(content)
            archive.addfile(member, io.BytesIO(content.encode()))
    told = {"shasum": hashlib.sha1(tarball.read_bytes()).hexdigest(), "tarball": address + tarball.name}
    versions = {"1.0.0": manifest | {"dist": told}}
    (served / "tiny-words").write_text(json.dumps({"name": "tiny-words", "dist-tags": {}, "versions": versions}))
    settings = {"registry": address, "userconfig": os.devnull, "cache": str(tmp_path / "npm"), "fetch_retries": "0"}
    for name, value in settings.items():
        monkeypatch.setenv(f"npm_config_{name}", value)
    monkeypatch.setenv("TRACING_UTILS_CACHE", str(tmp_path / "cache"))
    return tarball


def test_a_package_of_npm_is_checked_and_kept_as_a_wheel_is_and_runs_nothing(registry, tmp_path):
    digest = sha256(registry.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=r"tiny-words@1\.0\.0 must have sha256 0{64}, .*; nothing was kept\."):
        downloads.fetch_tarball("tiny-words@1.0.0", "0" * 64)
    assert kept(tmp_path) == []
    path = downloads.fetch_tarball("tiny-words@1.0.0", digest)
    assert path.read_bytes() == registry.read_bytes()
    registry.unlink()
    assert downloads.fetch_tarball("tiny-words@1.0.0", digest) == path
    assert not (tmp_path / "was-run").exists()


def test_npm_that_is_not_installed_or_finds_nothing_is_told_in_one_line(registry, tmp_path, monkeypatch):
    with pytest.raises(
        ValueError, match=r"npm could not download no-such-thing@1\.0\.0: npm.* 404 .* Check the connection"
    ) as refused:
        downloads.fetch_tarball("no-such-thing@1.0.0", "0" * 64)
    assert "\n" not in str(refused.value)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match=r"tiny-words@1\.0\.0 is fetched by npm, which must be installed; it was not found"):
        downloads.fetch_tarball("tiny-words@1.0.0", "0" * 64)


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


# Files


@pytest.fixture
def half_server():
    """A server that promises a thousand bytes, sends three and hangs up; returns its address."""

    class Half(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"abc")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Half)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_a_file_with_the_right_hash_is_kept_whole(tmp_path, serve):
    (served := tmp_path / "served").mkdir()
    (served / "x.csv").write_bytes(b"abc")
    downloads.fetch_file(serve(served) + "x.csv", sha256(b"abc").hexdigest(), tmp_path / "cache" / "set" / "x.csv")
    assert kept(tmp_path) == [tmp_path / "cache" / "set" / "x.csv"]
    assert kept(tmp_path)[0].read_bytes() == b"abc"


def test_a_file_with_a_wrong_hash_is_refused_and_nothing_is_kept(tmp_path, serve):
    (served := tmp_path / "served").mkdir()
    (served / "x.csv").write_bytes(b"abd")
    with pytest.raises(ValueError, match=rf"x\.csv must have sha256 {sha256(b'abc').hexdigest()}, .*; nothing was kept\."):
        downloads.fetch_file(serve(served) + "x.csv", sha256(b"abc").hexdigest(), tmp_path / "cache" / "x.csv")
    assert kept(tmp_path) == []


def test_a_download_that_breaks_off_is_refused_and_leaves_no_half_file(tmp_path, half_server):
    # The three bytes that arrive have the hash that is asked for: it is the length that is missed.
    with pytest.raises(ValueError, match=r"x\.csv could not be downloaded \(.*997 more expected"):
        downloads.fetch_file(half_server + "x.csv", sha256(b"abc").hexdigest(), tmp_path / "cache" / "x.csv")
    assert kept(tmp_path) == []


def test_a_file_that_the_server_does_not_have_is_refused(tmp_path, serve):
    with pytest.raises(ValueError, match=r"x\.csv could not be downloaded \(.*404"):
        downloads.fetch_file(serve(tmp_path) + "x.csv", "0" * 64, tmp_path / "cache" / "x.csv")
    assert kept(tmp_path) == []


def test_a_refused_connection_is_an_error_in_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"x\.csv could not be downloaded \(.*refused") as refused:
        downloads.fetch_file("http://127.0.0.1:9/x.csv", "0" * 64, tmp_path / "cache" / "x.csv")
    assert "\n" not in str(refused.value)
    assert kept(tmp_path) == []


def test_an_older_file_survives_a_failed_download(tmp_path, half_server):
    (there := tmp_path / "cache" / "x.csv").parent.mkdir()
    there.write_bytes(b"older")
    with pytest.raises(ValueError, match="could not be downloaded"):
        downloads.fetch_file(half_server + "x.csv", "0" * 64, there)
    assert there.read_bytes() == b"older"


# Lists of hashes


def test_a_list_of_hashes_is_one_that_sha256sum_reads_and_names_what_was_damaged_since(tmp_path):
    for name in ("a/x", "a/y", "b/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    assert downloads.damaged(tmp_path) == []  # no list
    downloads.write_sums(tmp_path, ["b/x", "a/y", "a/x"])
    assert subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path).returncode == 0
    assert downloads.damaged(tmp_path) == []
    (tmp_path / "a/x").write_bytes(b"b/x")
    (tmp_path / "b/x").unlink()
    assert downloads.damaged(tmp_path) == ["a/x", "b/x"]
    assert downloads.damaged(tmp_path, "b/") == ["b/x"]


def test_the_id_of_a_small_file_is_git_s_own(tmp_path):
    (tmp_path / "file").write_bytes(b"what git hashes\n")
    git = subprocess.run(["git", "hash-object", tmp_path / "file"], capture_output=True, text=True, check=True)
    assert downloads.blob_id(tmp_path / "file") == git.stdout.strip()
