"""Sentences for callers' mistakes: what must hold, what came, what to do.

Rule: a message stays a sentence or two whatever came; a value is quoted by `brief`, never whole.
"""

import re
import reprlib
from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["brief", "file_name", "unknown"]

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 200


def brief(value: object) -> str:
    """Return a value as Python writes it, without the middle of a long one.

    Example:
        >>> brief(["a", "b"])
        "['a', 'b']"
        >>> len(brief("a" * 10_000))
        200
    """
    try:
        return _short.repr(value)
    except ValueError:  # Python refuses to write numbers of thousands of digits
        return "a number of thousands of digits"


def unknown(kind: str, came: object, known: Iterable[str]) -> ValueError:
    """Return a `ValueError` that lists the known names and suggests the nearest; `kind` says what is named ("suite")."""
    names = [str(name) for name in known]
    written = str(came) if not isinstance(came, int) else brief(came)
    near = get_close_matches(written, names, n=1, cutoff=0.4) if len(written) < 1000 else []
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ValueError(f"Unknown {kind} {brief(written)}; known: {', '.join(names) or 'none'}.{hint}")


def file_name(kind: str, name: str) -> str:
    """Return `name` if files can be named by it everywhere: it leads to no other folder and is one word of a command line.

    Raises:
        ValueError: if it has other signs than letters, digits, `-`, `_` and `.`, or begins with `-` or `.`.
    """
    if not re.fullmatch(r"\w[\w.-]{0,99}", name):
        raise ValueError(
            f"The name of a {kind} must be a letter or digit and then at most 99 letters, digits, '-', '_' or '.'; "
            f"{brief(name)} is not. Rename it."
        )
    return name
