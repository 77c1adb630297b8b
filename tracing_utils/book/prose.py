"""Words for computed findings, so that a page's sentence changes with its numbers."""

from collections.abc import Iterable

from ..statements.concepts import DIMENSIONS

__all__ = ["listed", "dimensions"]


def listed(words: Iterable[str]) -> str:
    """Return words as a list inside a sentence; "none" where there are none.

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    words = list(words)
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words) or "none"


def dimensions(names: Iterable[str]) -> str:
    """Return the dimensions among `names`, in their own order, as a list inside a sentence."""
    present = set(names)
    return listed(name for name in DIMENSIONS if name in present)
