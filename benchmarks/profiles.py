"""Where the time of ours goes: what a goal that is missed would have to be gained from.

Rule: a profile is of one run of ours, by built-in function; what is written in Python is one part together, and with it the
operators of numpy and torch, which are no functions to Python's profiler.
"""

import cProfile
import pstats
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from sklearn.exceptions import ConvergenceWarning

from tracing_utils.checkpoints import activations, models, suites
from tracing_utils.statements import concepts

from . import extraction, steering_sweep, whole_table

COLUMNS = ("what", "part", "share")
_SHOWN = 5


def _extraction(folder: Path | None = None) -> Callable[[], object]:
    checkpoint = extraction.tiny_llama(folder) if folder else suites.load("smollm2-135m-instruct-wheel").checkpoints[0]
    tokenizer = models.load_tokenizer(checkpoint)
    dtype = models.choose_dtype(models.sizes(checkpoint.folder)["parameters"])
    model = models.load_model(checkpoint, head=False, dtype=dtype)
    (texts,) = extraction.statements(100, 1)
    return lambda: activations.extract(model, activations.encode(model, tokenizer, texts))


def _swap(suite: str) -> Callable[[], object]:
    checkpoint = suites.load(suite).checkpoints[-1]
    model = models.load_model(checkpoint, head=False)
    return lambda: models.swap(model, checkpoint)


def _table() -> Callable[[], object]:
    checkpoint = suites.load("pocket").checkpoints[-1]
    model, tokenizer = models.load_model(checkpoint, head=False), models.load_tokenizer(checkpoint)
    chosen = concepts.load("tracingllm", "robustness")
    return lambda: whole_table.ours(model, tokenizer, chosen)


WAYS: dict[str, Callable[[Path], Callable[[], object]]] = {
    "extraction, SmolLM2-135M": lambda _folder: _extraction(),
    "extraction, tiny llama": _extraction,
    "weight swap, pocket": lambda _folder: _swap("pocket"),
    "weight swap, SmolLM2-135M": lambda _folder: _swap("smollm2-135m-instruct-wheel"),
    "steering sweep, pocket": lambda _folder: steering_sweep.prepared("pocket").swept,
    "the paper's table, robustness, pocket": lambda _folder: _table(),
}
"""What is profiled: given a folder to write into, what runs once."""


def of(what: str, run: Callable[[], object]) -> pd.DataFrame:
    """Return the parts that take most, by the share of the time each takes itself, after one run that is not counted."""
    run()
    profile = cProfile.Profile()
    profile.runcall(run)
    spent: dict[str, float] = {}
    for (file, _line, name), (_calls, _primitive, own, _all, _callers) in pstats.Stats(profile).stats.items():
        part = _named(name) if file == "~" else "Python and operators"
        spent[part] = spent.get(part, 0.0) + own
    shares = pd.Series(spent).sort_values(ascending=False) / sum(spent.values())
    shown = shares.head(_SHOWN)
    rest = pd.Series({"all other calls": 1 - shown.sum()})
    return pd.concat([shown, rest]).rename_axis("part").reset_index(name="share").assign(what=what)[list(COLUMNS)]


def _named(function: str) -> str:
    """Return the bare name of a built-in function or method."""
    words = function.strip("<>").split(" of ")[0].replace("built-in method ", "").replace("method ", "").strip("'")
    return words.rpartition(".")[2]


def write(path: Path) -> pd.DataFrame:
    """Profile all, and write the table."""
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # part of the released protocol
        table = pd.concat([of(what, make(Path(folder))) for what, make in WAYS.items()])
    table.to_csv(path, index=False, float_format="%.3f", lineterminator="\n")
    return table
