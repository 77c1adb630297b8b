"""What the project installs and how much disk it takes: what `pyproject.toml` asks for, extras aside, and what that brings."""

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pandas as pd
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tracing_utils.core.paths import PROJECT


def _megabytes(names: Iterable[str]) -> float:
    files = {file.locate() for name in names for file in distribution(name).files or ()}
    return sum(file.stat().st_size for file in map(Path, files) if file.is_file()) / 1e6


def closure(asked: Iterable[str], without: str = "") -> set[str]:
    """Return the packages that requirements install here, with all that those require in turn; one may be gone `without`.

    What is not installed here is left out: it is needed on other machines, or this is a clone that runs in another environment.
    """
    wanted: set[tuple[str, str]] = set()
    waiting = [Requirement(text) for text in asked]
    while waiting:
        asked_for = waiting.pop()
        if (name := canonicalize_name(asked_for.name)) == without:
            continue
        try:
            brought = [Requirement(text) for text in distribution(name).requires or ()]
        except PackageNotFoundError:
            continue
        for extra in ("", *asked_for.extras):
            if (name, extra) not in wanted:
                wanted.add((name, extra))
                waiting += [each for each in brought if each.marker is None or each.marker.evaluate({"extra": extra})]
    return {name for name, _ in wanted}


def table() -> pd.DataFrame:
    """Return the packages that the project asks for, largest first, and a last row of all that they install.

    Columns: `package`, `version`, `MB` (its own files, as installed), `brings` (MB of packages that only it needs), `serves`
    (the reason beside it in `pyproject.toml`).
    """
    listed = re.search(r"^dependencies = \[\n(.*?)^\]", (PROJECT / "pyproject.toml").read_text(), flags=re.M | re.S)[1]
    reasons = dict(re.findall(r'^  "([^"]*)",\s*(?:# (.*))?$', listed, flags=re.M))
    everything, rows = closure(reasons), []
    for text, reason in reasons.items():
        if (name := canonicalize_name(Requirement(text).name)) not in everything:
            continue
        alone = everything - closure(reasons, without=name) - {name}
        rows.append((name, distribution(name).version, _megabytes([name]), _megabytes(alone), reason))
    own = pd.DataFrame(rows, columns=["package", "version", "MB", "brings", "serves"]).sort_values("MB", ascending=False)
    last = pd.DataFrame(
        {"package": [f"all {len(everything)} packages"], "version": "", "MB": _megabytes(everything), "serves": ""}
    )
    return pd.concat([own, last])


if __name__ == "__main__":
    print(table().to_string(index=False))
