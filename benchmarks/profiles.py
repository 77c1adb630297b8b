"""Where the time of ours goes: what a goal that is missed would have to be gained from.

Rule: a profile is of ours alone. A built-in function is a part, and so is a function written in Python that takes much
itself; the rest of Python is one part, and with it the operators of numpy and torch, which are no functions to the profiler.
"""

import ast
import cProfile
import inspect
import pstats
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning

from tracing_utils.checkpoints import activations, models, suites
from tracing_utils.experiments.mutual_information import kernels
from tracing_utils.experiments.probing import controls
from tracing_utils.experiments.probing import probes as probing
from tracing_utils.statements import concepts

from . import extraction, nhsic, probes, starting, steering_sweep, whole_table

COLUMNS = ("what", "part", "share")
OUT = Path(__file__).parent / "profiles.csv"
_SHOWN = 6
_MUCH = 0.05
"""Of all time: a function written in Python that takes so much itself is named."""


def _extraction(folder: Path | None = None) -> Callable[[], object]:
    checkpoint = extraction.tiny_llama(folder) if folder else suites.load("smollm2-135m-instruct-wheel").checkpoints[0]
    tokenizer = models.load_tokenizer(checkpoint)
    dtype = models.choose_dtype(models.sizes(checkpoint.folder)["parameters"])
    model = models.load_model(checkpoint, head=False, dtype=dtype)
    (texts,) = extraction.statements(100, 1)
    return lambda: activations.extract(model, activations.encode(model, tokenizer, texts))


def _nhsic() -> Callable[[], object]:
    x, t, labels = nhsic.trained_like(5000, 576)
    counted = with_products(kernels)
    prepared = counted.released_smoother(x)

    def layer() -> tuple[float, float]:
        smoother = counted.released_smoother(t)
        return counted.alignment(prepared, smoother), counted.nhsic_labels(smoother, labels)

    return layer


def _probes() -> Callable[[], object]:
    concept_set = concepts.load("pocket", probes.DIMENSION)
    acts = activations.of(suites.load("pocket").checkpoints[-1], concept_set)
    others = np.stack([controls.shuffled_labels(concept_set, 0), controls.control_task(concept_set, 0)])
    held_out = with_products(probing).held_out

    def run() -> list:
        concepts.folds.cache_clear()
        return [held_out(acts[:, layer], concept_set, 0, others) for layer in range(acts.shape[1])]

    return run


def _table() -> Callable[[], object]:
    checkpoint = suites.load("pocket").checkpoints[-1]
    model, tokenizer = models.load_model(checkpoint, head=False), models.load_tokenizer(checkpoint)
    concept_set = concepts.load("tracingllm", "robustness")
    return lambda: whole_table.ours(model, tokenizer, concept_set)


LARGE = "smollm2-135m-instruct-wheel"
WAYS: dict[str, Callable[[Path], Callable[[], object]]] = {
    "SmolLM2-135M": lambda _folder: _extraction(),
    "tiny llama": _extraction,
    "nHSIC, n = 5000, d = 576": lambda _folder: _nhsic(),
    "probes": lambda _folder: _probes(),
    "steering sweep, pocket": lambda _folder: steering_sweep.prepared("pocket").swept,
    f"steering sweep, {LARGE}": lambda _folder: steering_sweep.prepared(LARGE, 40, steering_sweep.MULTIPLIERS[:1]).swept,
    "the paper's table": lambda _folder: _table(),
}
"""What is profiled, named as the rows of goals begin: given a folder to write into, what runs once."""


def matrix_product(a, b):
    """Return `a @ b`; a function, so that it has a part of its own."""
    return a @ b


class _Products(ast.NodeTransformer):
    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.op, ast.MatMult):
            return node
        return ast.Call(ast.Name(matrix_product.__name__, ast.Load()), [node.left, node.right], [])


def with_products(module: ModuleType) -> ModuleType:
    """Return a copy of a module in which each `@` is a call of `matrix_product`."""
    tree = _Products().visit(ast.parse(inspect.getsource(module)))
    copy = ModuleType(module.__name__)
    vars(copy).update(__package__=module.__package__, __file__=module.__file__, matrix_product=matrix_product)
    exec(compile(ast.fix_missing_locations(tree), module.__file__, "exec"), vars(copy))
    return copy


def of(what: str, run: Callable[[], object]) -> pd.DataFrame:
    """Return the parts that take most, by the share of the time each takes itself: of runs of a second, after one not counted."""
    run()
    profile, begun = cProfile.Profile(), time.monotonic()
    while time.monotonic() < begun + 1:
        profile.runcall(run)
    stats = pstats.Stats(profile).stats
    whole, spent = sum(own for _, _, own, *_ in stats.values()), {}
    for (file, _line, name), (_calls, _primitive, own, *_) in stats.items():
        if file == __file__ and name == matrix_product.__name__:
            part = "matrix product"
        elif file == "~":
            part = _named(name)
        else:
            part = f"{Path(file).stem}.{name}".lstrip("_") if own >= _MUCH * whole else "other Python and operators"
        spent[part] = spent.get(part, 0.0) + own
    return shares(what, spent)


def shares(what: str, spent: Mapping[str, float], shown: int = _SHOWN) -> pd.DataFrame:
    """Return the rows of parts that took so many seconds: the largest ones, and all others as one."""
    whole = pd.Series(spent).sort_values(ascending=False) / sum(spent.values())
    if len(whole) > shown + 1:
        whole = pd.concat([whole.head(shown), pd.Series({f"{len(whole) - shown} others": whole.iloc[shown:].sum()})])
    return whole.rename_axis("part").reset_index(name="share").assign(what=what)[list(COLUMNS)]


def _named(function: str) -> str:
    """Return the bare name of a built-in function or method."""
    words = function.strip("<>").split(" of ")[0].replace("built-in method ", "").replace("method ", "").strip("'")
    return words.rpartition(".")[2]


def name(row: str, known: Iterable[str]) -> str | None:
    """Return which of the known profiles is of what a row of results names: its name begins with the profile's."""
    return next((each for each in known if row.startswith(each)), None)


def put(table: pd.DataFrame, path: Path = OUT) -> pd.DataFrame:
    """Write the profiles of a table; others that are in the file stay."""
    if path.exists():
        old = pd.read_csv(path)
        table = pd.concat([old[~old["what"].isin(table["what"])], table])
    table.to_csv(path, index=False, float_format="%.3f", lineterminator="\n")
    return table


def write(path: Path = OUT) -> pd.DataFrame:
    """Profile all but what `waiting` does, and write the table."""
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # part of the released protocol
        tables = [of(what, make(Path(folder))) for what, make in WAYS.items()]
    return put(pd.concat([*tables, shares("fixed cost of a notebook", starting.stages(), len(starting.STAGES))]), path)


if __name__ == "__main__":
    print(write().to_string(index=False))
