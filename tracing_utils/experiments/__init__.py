"""The experiments, one folder each: found, not listed.

Rule: an experiment is one name in three places, `experiments/<name>/`, `notebooks/<name>.md` and `book/<name>.md`. The folder's
`__init__` may define `EXPERIMENT`, which says what differs from the defaults of `Experiment`; it imports nothing heavy.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path

from ..core.errors import unknown

__all__ = ["Experiment", "Summary", "describer", "get", "names", "owner", "summary"]


@dataclass(frozen=True)
class Summary:
    """A table that is made from all runs of an experiment together.

    Attributes:
        function: `module:function`, inside the experiment's folder; it is called with the study, the folder of the study's
            runs, and the path of the table.
        several: whether it needs more than one checkpoint.
    """

    function: str
    several: bool = False


@dataclass(frozen=True)
class Experiment:
    """What an experiment needs. Its options are the typed parameters of its notebook.

    Attributes:
        pace: seconds on one core, at most: for each number of the activations it reads (statements x layers x d_model), or,
            if it runs the model, for each floating-point operation.
        passes: if it runs the model, how many statements of each dimension its options let the model read.
        target: whether it also needs the chat model, and runs on it as on a checkpoint; without one it is not run.
        target_files: tables that only the chat model's own run writes, each through the parameter `<name>_file`.
        in_depth: options that only featured revisions and the chat model's own run get; the others get an empty list.
        choices: the values that an option may have.
        last: whether it also reads the suite's last checkpoint, where that lies on this machine.
        inputs: options that name a file or a model, or models as `what=suite@revision`, whose content decides results.
        check: refuses options with a `ValueError`; called with the options and the chat model's number of layers, if known.
        summaries: the tables made from all runs, by name.
        describes: `module:function`, of the one experiment that describes sets of statements, a row each, for any study.
    """

    pace: float = 1e-5
    passes: Callable[[dict], int] | None = None
    target: bool = False
    target_files: tuple[str, ...] = ()
    in_depth: tuple[str, ...] = ()
    choices: dict[str, tuple[str, ...]] = field(default_factory=dict)
    last: bool = False
    inputs: tuple[str, ...] = ()
    check: Callable[[dict, int | None], None] | None = None
    summaries: dict[str, Summary] = field(default_factory=dict)
    describes: str = ""


@cache
def names() -> tuple[str, ...]:
    """Return the names of the experiments, in alphabetical order."""
    return tuple(sorted(path.parent.name for path in Path(__file__).parent.glob("*/__init__.py")))


def get(name: str) -> Experiment:
    """Return an experiment.

    Raises:
        ValueError: if there is none of this name.
    """
    if name not in names():
        raise unknown("experiment", name, names())
    return getattr(import_module(f"{__name__}.{name}"), "EXPERIMENT", Experiment())


def owner(summary: str) -> str:
    """Return the experiment that a summary belongs to."""
    return next(name for name in names() if summary in get(name).summaries)


def summary(name: str) -> Callable:
    """Return the function that writes a summary; see `Summary`."""
    return _function(owner(name), get(owner(name)).summaries[name].function)


def describer() -> Callable:
    """Return the function that describes sets of statements; see `Experiment.describes`."""
    return next(_function(name, get(name).describes) for name in names() if get(name).describes)


def _function(experiment: str, place: str) -> Callable:
    module, _, function = place.partition(":")
    return getattr(import_module(f"{__name__}.{experiment}.{module}"), function)
