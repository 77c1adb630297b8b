"""A throw-away environment for other people's packages.

Rule: peers use the torch and transformers that we use, so that a ratio compares their code with ours; nothing is installed
into the project's own environment.
"""

import subprocess
import sys
import sysconfig
import tempfile
import venv
from hashlib import sha256
from pathlib import Path

PEERS = ("nnterp==1.3.0", "nnsight==0.7.0", "transformer-lens==4.3.0")
"""nnterp 1.3.0 imports what nnsight 0.8 no longer has."""


def python() -> Path | None:
    """Return the interpreter of the peers' environment, made in the temporary folder on first use; None if it cannot be made."""
    pins = sha256(" ".join([*PEERS, sys.prefix]).encode()).hexdigest()[:8]
    folder = Path(tempfile.gettempdir()) / f"tracing-utils-peers-{pins}"
    binary, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists():
        venv.create(folder, with_pip=True, clear=True)
        inside = next((folder / "lib").glob("python*/site-packages"))
        (inside / "base.pth").write_text(sysconfig.get_path("purelib") + "\n")
        command = [str(binary), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEERS]
        if subprocess.run(command, check=False).returncode:
            return None
        ready.touch()
    return binary
