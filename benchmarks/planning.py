"""Time what Snakemake takes to plan a study of 5,400 notebooks over 360 checkpoints of a hub, without any weights.

Usage: python -m benchmarks.planning
"""

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from hashlib import sha1, sha256
from pathlib import Path

from tracing_utils.checkpoints import suites
from tracing_utils.checkpoints.types import Checkpoint, CheckpointSuite, Remote, RemoteFile
from tracing_utils.core.paths import PROJECT

WHOM = ("neighbour", "doctor")


def write_study(folder: Path, checkpoints: int, sets: int, bytes_: int = 27 * 10**9) -> Path:
    """Write a study of a made-up suite on a hub, resolved as `run` leaves it, and of made-up statements; return its file."""
    folder.mkdir(parents=True, exist_ok=True)

    def checkpoint(revision: str, step: int) -> Checkpoint:
        sizes = {"config.json": 500, "model.safetensors": bytes_, "tokenizer.json": 10**6}
        files = tuple(RemoteFile(name, size, sha256(f"{revision} {name}".encode()).hexdigest()) for name, size in sizes.items())
        remote = Remote("made/up", sha1(revision.encode()).hexdigest(), files=files, model_type="llama")
        return Checkpoint("made-up", revision, step, None, None, None, remote)

    run = tuple(checkpoint(f"ckpt_{step:03}", step) for step in range(checkpoints))
    suites.save(CheckpointSuite("made-up", run, checkpoint("chat", -1)), folder / "suite.json")
    for number in range(sets):
        sentences = (
            f"The clerk of office {number} told {whom} {i}.,{label},{i}" for i in range(30) for label, whom in enumerate(WHOM)
        )
        (folder / f"set{number}").mkdir(exist_ok=True)
        (folder / f"set{number}" / "privacy.csv").write_text("\n".join(["statement,label,group", *sentences]) + "\n")
    named = ", ".join(str(folder / f"set{number}") for number in range(sets))
    (file := folder / "far.yml").write_text(f"suite: {folder / 'suite.json'}\nconcepts: [{named}]\nsteering: {{layers: [8]}}\n")
    return file


def main() -> None:
    """Print how many notebooks were planned, and in what time."""
    with tempfile.TemporaryDirectory() as temporary:
        study = write_study(Path(temporary), 360, 5)
        command = [sys.executable, "-m", "snakemake", "trace", "-n", "--workflow-profile", "profiles/laptop"]
        begun = time.monotonic()
        done = subprocess.run(
            [*command, "--config", f"study={study}"], cwd=PROJECT, env=os.environ | {"PYTHONPATH": str(PROJECT)}, check=True,
            capture_output=True, text=True,
        )  # fmt: skip
        seconds = time.monotonic() - begun
    jobs = dict(re.findall(r"^(notebook|total) +(\d+)$", done.stdout, flags=re.MULTILINE))
    processor = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    print(f"{jobs['notebook']} notebooks, {jobs['total']} jobs: planned in {seconds:.1f} s ({processor:.1f} s of a processor)")


if __name__ == "__main__":
    main()
