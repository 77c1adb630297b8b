"""A model hub on the loopback interface: the part of the HTTP interface that `huggingface_hub` speaks when it lists and
downloads, with faults that a test switches on. Large files are redirected to another host name, as the real hub does."""

import io
import json
import threading
import time
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import safetensors.torch
import torch

LARGE = (".safetensors", ".bin")  # kept by their sha256, as with git-lfs


def blob_id(content: bytes) -> str:
    return sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Fault:
    """What happens to the next `times` requests (None: all) whose `METHOD path` holds `match`."""

    match: str
    kind: str | int  # a status, or one of: cut, short, corrupt, drip, loop
    times: int | None = None
    headers: dict = field(default_factory=dict)


class HubServer:
    """Repositories as `{repo: {revision: {path: bytes}}}`; names of `tags` are tags, all other revisions branches."""

    def __init__(self):
        self.repos, self.tags, self.faults, self.requests, self.commits = {}, set(), [], [], {}
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()
        self.port = self.http.server_port
        self.address = f"http://127.0.0.1:{self.port}"

    def close(self):
        self.http.shutdown()
        self.http.server_close()

    def publish(self, repo: str, revision: str, files: dict[str, bytes]) -> str:
        """Put `files` at a revision, which moves if it is there; return the commit. Old commits stay served."""
        named = [[path, sha256(content).hexdigest()] for path, content in sorted(files.items())]
        commit = sha1(json.dumps([repo, revision, named]).encode()).hexdigest()
        self.repos.setdefault(repo, {})[revision] = commit
        self.commits[commit] = dict(files)
        return commit

    def fail(self, match: str, kind: str | int, times: int | None = None, **headers: str):
        self.faults.append(Fault(match, kind, times, headers))

    def fault(self, request: str) -> Fault | None:
        for fault in self.faults:
            if fault.match in request and fault.times != 0:
                fault.times = None if fault.times is None else fault.times - 1
                return fault
        return None

    def downloaded(self) -> list[str]:
        """Return the paths whose content was asked for."""
        return [path for method, path, _ in self.requests if method == "GET" and ("/resolve/" in path or "/cdn/" in path)]


def _metadata(path: str, content: bytes) -> dict:
    made = {"rfilename": path, "size": len(content), "blobId": blob_id(content)}
    if path.endswith(LARGE):
        made["lfs"] = {"size": len(content), "sha256": sha256(content).hexdigest(), "pointerSize": 130}
    return made


def _tree(files: dict[str, bytes], inside: str, recursive: bool) -> list[dict]:
    made, folders = [], set()
    for path, content in files.items():
        if not path.startswith(inside):
            continue
        parent, _, _ = path[len(inside) :].partition("/")
        if "/" in path[len(inside) :]:
            folders.add(inside + parent)
        if recursive or "/" not in path[len(inside) :]:
            entry = {"type": "file", "path": path, "size": len(content), "oid": blob_id(content)}
            if path.endswith(LARGE):
                entry["lfs"] = {"size": len(content), "oid": sha256(content).hexdigest(), "pointerSize": 130}
            made.append(entry)
    return [*made, *({"type": "directory", "path": path, "oid": "0" * 40} for path in sorted(folders))]


def _handler(hub: HubServer):
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            self.answer()

        def do_HEAD(self):
            self.answer()

        def answer(self):
            url = urlsplit(self.path)
            hub.requests.append((self.command, url.path, self.headers.get("Range")))
            fault = hub.fault(f"{self.command} {url.path}")
            if fault and isinstance(fault.kind, int):
                return self.send(fault.kind, b'{"error": "as the test wants"}', fault.headers)
            if fault and fault.kind == "loop":
                return self.send(302, b"", {"Location": url.path})
            parts = [unquote(part) for part in url.path.strip("/").split("/")]
            if parts[0] == "cdn":
                return self.send_file(next(f for c in hub.commits.values() for f in c.values() if _is(f, parts[1])), {}, fault)
            if parts[:2] == ["api", "models"]:
                return self.send_api("/".join(parts[2:4]), parts[4:], parse_qs(url.query))
            if parts[2:3] != ["resolve"]:  # what the client asks on its own account
                return self.send(404, b"{}")
            return self.send_resolved("/".join(parts[:2]), parts[3], "/".join(parts[4:]), fault)

        def commit(self, repo: str, revision: str) -> str | None:
            return revision if revision in hub.commits else hub.repos.get(repo, {}).get(revision)

        def send_api(self, repo: str, rest: list[str], query: dict):
            if repo not in hub.repos:
                return self.send(401, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})
            if rest == ["refs"]:
                refs = {"branches": [], "tags": [], "converts": []}
                for name, commit in hub.repos[repo].items():
                    kind = "tags" if name in hub.tags else "branches"
                    refs[kind].append({"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit})
                return self.send(200, json.dumps(refs).encode())
            commit = self.commit(repo, rest[1])
            if commit is None:
                return self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            files = hub.commits[commit]
            if rest[0] == "tree":
                inside = "/".join(rest[2:]) + "/" if rest[2:] else ""
                return self.send(200, json.dumps(_tree(files, inside, query.get("recursive") == ["true"])).encode())
            configuration = json.loads(files["config.json"]) if "config.json" in files else {}
            made = {"id": repo, "sha": commit, "siblings": [_metadata(*item) for item in files.items()]}
            made["config"] = {
                key: configuration[key] for key in ("architectures", "model_type", "quantization_config") if key in configuration
            }
            return self.send(200, json.dumps(made).encode())

        def send_resolved(self, repo: str, revision: str, path: str, fault: Fault | None):
            commit = self.commit(repo, revision)
            if commit is None or path not in hub.commits[commit]:
                return self.send(404, b"", {"X-Error-Code": "EntryNotFound"})
            content = hub.commits[commit][path]
            headers = {"X-Repo-Commit": commit, "ETag": f'"{blob_id(content)}"'}
            if not path.endswith(LARGE):
                return self.send_file(content, headers, fault)
            digest = sha256(content).hexdigest()
            linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
            return self.send(302, b"", headers | linked | {"Location": f"http://localhost:{hub.port}/cdn/{digest}"})

        def send_file(self, content: bytes, headers: dict, fault: Fault | None):
            kind = fault.kind if fault else None
            begin = int(self.headers["Range"].removeprefix("bytes=").split("-")[0]) if self.headers.get("Range") else 0
            whole, content = len(content), content[begin:]
            if begin:
                headers = headers | {"Content-Range": f"bytes {begin}-{whole - 1}/{whole}"}
            if kind == "short":
                content = content[: len(content) // 2]
            if kind == "corrupt":
                content = bytes([content[0] ^ 1]) + content[1:]
            self.send(206 if begin else 200, content, headers, cut=kind == "cut", drip=kind == "drip")

        def send(self, status: int, content: bytes, headers: dict | None = None, *, cut: bool = False, drip: bool = False):
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(content))} | (headers or {})).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            content = content[: len(content) // 2] if cut else content
            step = -(-len(content) // 8) if drip else len(content)
            for begin in range(0, len(content), step or 1):
                self.wfile.write(content[begin : begin + step])
                self.wfile.flush()
                time.sleep(0.02 if drip else 0)

    return Handler


def _is(content: bytes, digest: str) -> bool:
    return sha256(content).hexdigest() == digest


def files_of(folder: Path, tokenizer: Path | None = None, seed: int = 0, pickled: bool = False) -> dict[str, bytes]:
    """Return the files of a saved model as a hub holds them, its weights scaled so that each seed has its own."""
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    weights = {name: tensor * (1 + seed / 64) for name, tensor in weights.items()}
    made = {"config.json": (folder / "config.json").read_bytes(), "README.md": b"a card that nobody needs"}
    if pickled:
        torch.save(weights, kept := io.BytesIO())
        made["pytorch_model.bin"] = kept.getvalue()
    else:
        made["model.safetensors"] = safetensors.torch.save(weights, {"format": "pt"})
    for path in tokenizer.iterdir() if tokenizer else ():
        made[path.name] = path.read_bytes()
    return made
