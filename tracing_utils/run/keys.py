"""Keys of results: hashes over all that decides them, so that what has not changed is not computed again.

Rule: the key of a number follows imports wherever modules lie, and leaves `book/` out: a chart decides no number.
"""

import ast
import json
from functools import cache
from hashlib import sha256
from pathlib import Path

from ..core.paths import PROJECT

__all__ = ["PACKAGE", "of", "of_code", "reached"]

PACKAGE = "tracing_utils"
_NO_NUMBERS = (f"{PACKAGE}.book",)  # charts and pages: they show numbers and decide none


def of(content: object) -> str:
    """Return a short hash of what JSON can write."""
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@cache
def of_code(source: str, root: Path = PROJECT, charts: bool = False) -> str:
    """Return a hash of the modules of this package that a source reaches by its imports.

    Args:
        source: Python code outside the package, with absolute imports, such as a notebook's cells.
        root: the folder in which the package lies.
        charts: whether what only draws counts too.
    """
    files = {name: _file(name, root) for name in reached(source, root, charts)}
    return of([[name, files[name].read_text(encoding="utf-8")] for name in sorted(files)])


def reached(source: str, root: Path = PROJECT, charts: bool = False) -> set[str]:
    """Return the dotted names of the modules that a source reaches by its imports; see `of_code`."""
    modules: set[str] = set()
    waiting = _imported(source, "", root)
    while waiting:  # a walk, since imports inside functions may lead back
        name = waiting.pop()
        if name in modules or (not charts and f"{name}.".startswith(tuple(f"{each}." for each in _NO_NUMBERS))):
            continue
        modules.add(name)
        waiting |= _imported_by(name, root)
    return modules


@cache
def _imported_by(module: str, root: Path) -> frozenset[str]:
    file = _file(module, root)
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    return frozenset(_imported(file.read_text(encoding="utf-8"), package, root))


def _imported(source: str, package: str, root: Path) -> set[str]:
    """Return the modules of this package that a source inside `package` imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            # What is imported may be a module or a name that a module defines.
            names |= {inner if _file(inner := f"{base}.{alias.name}", root) else base for alias in node.names}
    return {name for name in names if name.split(".")[0] == PACKAGE and _file(name, root)}


@cache
def _file(module: str, root: Path) -> Path | None:
    """Return the file of a module or package, None where there is none."""
    stem = root.joinpath(*module.split("."))
    return next((file for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.is_file()), None)
