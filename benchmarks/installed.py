"""What is installed for the book and how much of the disk it takes, read from `pyproject.toml` and from the environment."""

import re
from importlib.metadata import PackageNotFoundError, distribution, distributions

import pandas as pd

from tracing_utils.core.paths import PROJECT


def _megabytes(files) -> float:
    places = {file.locate() for file in files or ()}
    return sum(place.stat().st_size for place in places if place.is_file()) / 1e6


def table() -> pd.DataFrame:
    """Return the packages that the project asks for, largest first, and a last row of all that is installed here.

    Columns: `package`, `version`, `MB` (its own files, as installed), `serves` (the reason beside it in `pyproject.toml`).
    """
    listed = re.search(r"^dependencies = \[\n(.*?)^\]", (PROJECT / "pyproject.toml").read_text(), flags=re.M | re.S)[1]
    rows = []
    for name, reason in re.findall(r'^  "([\w.-]+)[^"]*",\s*(?:# (.*))?$', listed, flags=re.M):
        try:
            found = distribution(name)
        except PackageNotFoundError:  # a clone that runs in another environment
            continue
        rows.append((name, found.version, _megabytes(found.files), reason))
    own = pd.DataFrame(rows, columns=["package", "version", "MB", "serves"]).sort_values("MB", ascending=False)
    everything = sum(_megabytes(each.files) for each in distributions())
    return pd.concat([own, pd.DataFrame({"package": ["all that is installed"], "version": "", "MB": everything, "serves": ""})])
