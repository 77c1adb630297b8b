"""Sentences for callers' mistakes: what must hold, what came, what to do.

Public names: `unknown`.
"""

from collections.abc import Iterable
from difflib import get_close_matches


def unknown(kind: str, came: object, known: Iterable[str]) -> ValueError:
    """Return a `ValueError` that lists the known names and suggests the nearest.

    Args:
        kind: what is named, in words ("suite", "dimension").
        came: what the caller wrote.
        known: the names that exist.
    """
    names = [str(name) for name in known]
    near = get_close_matches(str(came), names, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ValueError(f"Unknown {kind} {str(came)!r}; known: {', '.join(names) or 'none'}.{hint}")
