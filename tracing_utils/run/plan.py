"""What a study will cost, before it runs: download, disk, arithmetic, time.

Rule: a plan asks nothing, changes nothing and downloads no weights; what it has to assume, it says.
"""

import json
import shutil
import time
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from .. import experiments, results
from ..checkpoints import activations, ledger, suites, tokens
from ..checkpoints.types import Checkpoint
from ..core.errors import unknown
from ..core.paths import PROJECT
from ..statements.concepts import ConceptSet
from . import studies
from .studies import Study

__all__ = ["CHARACTERS_A_TOKEN", "GPUS", "UTILISATION", "Needs", "calibrate", "costs", "describe", "needs", "notebook_seconds"]

# Dense bf16 tensor-core rates in TFLOP/s (half of the figure with sparsity). Source: NVIDIA's data sheets of each card.
GPUS = {"h200": 989, "h100": 989, "a100": 312, "l40s": 362, "l4": 121, "a10": 125, "rtx4090": 165, "rtx3090": 71}

UTILISATION = 0.25
"""The share of a GPU's rate that forward passes over short statements are assumed to reach."""

CHARACTERS_A_TOKEN = 4.5
"""Assumed where a suite's tokenizer is not here; the pocket statements have this many under SmolLM2's 49,152 tokens."""

_DOWNLOAD = 100e6  # bytes a second, assumed
_NOTEBOOK = 3  # seconds, a little less than the shortest notebooks of the world's studies took: to start a kernel and draw

# What a job asks a cluster for: bounds, so each is on the slow side.
_SLOW_DOWNLOAD = 20e6  # bytes a second
_CORE = 20e9  # floating-point operations a second of one core
_WITHOUT_GPU = 1800  # seconds that a job may take on a core before it asks for a GPU
_GPU_FASTER = 100  # times a core, at least


def costs(study: Study) -> pd.DataFrame:
    """Return one row a checkpoint, in the order in which they are needed.

    Returns:
        The columns revision, parameters, layers, d_model, statements, tokens (with padding left out), flops (two for
        each parameter a token is multiplied with), download, activations and evidence (bytes), and assumed: which of
        these are not read but estimated.
    """
    sets = [each for name in study.sets for each in study.statement_sets(name)]
    n = sum(map(len, sets))
    entry, counted, rows = suites.entry(study.loaded.name), {}, []
    for checkpoint in _resolved([study.loaded[revision] for revision in study.needed()]):
        size, assumed = _sizes(checkpoint, entry, study.trust_remote_code)
        if (words := tuple(ledger.tokenizer_identity(checkpoint))) not in counted:
            counted[words] = _tokens(checkpoint, sets, study.trust_remote_code)
        width = size["layers"] * size["d_model"]
        rows.append(
            {
                "revision": checkpoint.revision,
                **{key: size[key] for key in ("parameters", "layers", "d_model")},
                "statements": n,
                "tokens": counted[words],
                "flops": 2 * size["multiplied"] * counted[words],
                "download": 0 if checkpoint.folder else size["bytes"],
                "activations": 4 * n * width,
                "evidence": n * (2 * size["d_model"] + 8 * size["layers"]),
                "assumed": ", ".join([*assumed, *([] if checkpoint.tokenizer else ["tokens"])]),
            }
        )
    return pd.DataFrame(rows)


def _resolved(checkpoints: list[Checkpoint]) -> tuple[Checkpoint, ...]:
    """Return the checkpoints with the hub's metadata, as far as the hub can be asked."""
    if all(checkpoint.folder for checkpoint in checkpoints):
        return tuple(checkpoints)
    from ..checkpoints import hub  # noqa: PLC0415 - the hub's client takes a second to import

    try:
        return hub.resolve(checkpoints)
    except hub.HubError:
        return tuple(checkpoints)


def _sizes(checkpoint: Checkpoint, entry: dict, trust_remote_code: bool) -> tuple[dict, list[str]]:
    """Return the sizes of a checkpoint, and which of them are estimates."""
    if checkpoint.folder:
        from ..checkpoints import models  # noqa: PLC0415 - torch and transformers take four seconds to import

        return models.sizes(checkpoint.folder, trust_remote_code=trust_remote_code) | {"bytes": 0}, []
    weights = ledger.weights(checkpoint)
    bytes_ = sum(file.size for file in checkpoint.remote.files if file.name in weights) or entry.get("bytes")
    parameters = entry.get("parameters") or (bytes_ or 0) / 2
    if not parameters:
        raise ValueError(
            f"The size of {checkpoint.remote.repo} must be known to plan; neither the hub nor suites.yml tells it. "
            "Check the connection, or add parameters and bytes to its entry."
        )
    shape = dict(zip(("layers", "d_model"), _usual_shape(parameters), strict=True))
    sizes = {"parameters": round(parameters), "multiplied": round(parameters), "bytes": round(bytes_ or 2 * parameters)} | shape
    return sizes, ["layers", "d_model", *([] if weights else ["download"])]


def _usual_shape(parameters: int | float) -> tuple[int, int]:
    """Return layers and d_model of the common shape, with 12 L d^2 parameters and a width of 128 a layer."""
    layers = max(1, round((parameters / (12 * 128**2)) ** (1 / 3)))
    return layers, 128 * layers


def _tokens(checkpoint: Checkpoint, sets: list[ConceptSet], trust_remote_code: bool) -> int:
    """Return how many tokens the statements have; refuse those that the tokenizer cannot tell apart."""
    if checkpoint.tokenizer is None:
        return round(sum(len(statement) / CHARACTERS_A_TOKEN + 1 for concepts in sets for statement in concepts.statements))
    from ..checkpoints import models  # noqa: PLC0415

    return tokens.count(models.load_tokenizer(checkpoint, trust_remote_code=trust_remote_code), sets)


def calibrate(parameters: int, d_model: int, seconds: float = 10.0, dtype: str = "auto") -> float:
    """Return the floating-point operations a second that extraction reaches on this machine, by doing some.

    A random llama of four blocks, as wide as the model in question (1,024 at most), is run over statements of mixed
    length, in the `dtype` of a study: by auto, in the one that a model of `parameters` would have here.
    """
    import torch  # noqa: PLC0415 - see _sizes
    from transformers import LlamaConfig, LlamaModel  # noqa: PLC0415

    from ..checkpoints import models  # noqa: PLC0415

    width = min(1024, -(-d_model // 64) * 64)
    shape = {"hidden_size": width, "intermediate_size": 3 * width, "num_attention_heads": width // 64}
    model = LlamaModel(LlamaConfig(vocab_size=512, num_hidden_layers=4, **shape)).eval()
    computed_in = models.choose_dtype(parameters) if dtype == "auto" else getattr(torch, dtype)
    model = model.to("cuda" if torch.cuda.is_available() else "cpu", computed_in)
    lengths = np.random.default_rng(0).integers(5, 40, 64 * (100 if model.device.type == "cuda" else 1))
    ids = [[7] * length for length in lengths]
    activations.extract(model, ids)  # the first pass allocates
    start, passes = time.perf_counter(), 0
    while passes == 0 or time.perf_counter() - start < seconds:
        activations.extract(model, ids)
        passes += 1
    multiplied = sum(weight.numel() for weight in models.blocks(model).parameters() if weight.dim() > 1)
    return 2 * multiplied * int(lengths.sum()) * passes / (time.perf_counter() - start)


def notebook_seconds(study: Study, table: pd.DataFrame) -> dict[str, float]:
    """Return the seconds the notebooks of each experiment will take, from what a finished run took, here or published.

    That run is the study's own if there is one, else that of the model nearest in size. Each notebook takes some seconds
    however little it reads. What it takes beyond them grows with statements x layers x d_model; that of an experiment which
    runs the model, with parameters x the statements it reads.
    """
    traced = _traced()
    if not traced:
        return {}
    size = np.log(table["parameters"].max())
    nearest = min(traced, key=lambda run: (run[0].name != study.name, abs(np.log(run[1]["parameters"].max()) - size)))
    before, costs_before, took = nearest
    ratio = _read_by_notebooks(table) / _read_by_notebooks(costs_before)
    seconds = {}
    for name in study.runs():
        if name in took:
            operations = model_operations(study, table, name)
            grown = operations / model_operations(before, costs_before, name) if operations else ratio
            count, count_before = (len(each.sets) * len(each.traced(name)) for each in (study, before))
            fixed = min(_NOTEBOOK, took[name] / count_before)
            seconds[name] = count * fixed + (took[name] - count_before * fixed) * grown
    return seconds


@cache
def _traced() -> list[tuple[Study, pd.DataFrame, dict[str, float]]]:
    """Return the studies with results, their costs, and the seconds their notebooks took."""
    runs = []
    for name in results.studies("ledger"):
        record = results.shown(name) / "provenance.json"
        took = json.loads(record.read_text(encoding="utf-8")).get("notebook_seconds")
        try:
            other = studies.read(PROJECT / "studies" / f"{name}.yml")
            if took:
                runs.append((other, costs(other), took))
        except ValueError:  # its suite or its statements are not on this machine
            continue
    return runs


def model_operations(study: Study, table: pd.DataFrame, experiment: str) -> float:
    """Return what the time of an experiment that runs the model grows with: operations a token x statements read."""
    passes = experiments.get(experiment).passes
    if not passes:
        return 0.0
    dimensions = sum(len(study.dimensions_of(name)) for name in study.sets)
    return float((table["flops"] / table["tokens"]).sum() * passes(study.options_of(experiment)) * dimensions)


def _read_by_notebooks(table: pd.DataFrame) -> float:
    return float(table["activations"].sum())


@dataclass(frozen=True)
class Needs:
    """What one job asks a cluster for: megabytes of memory, minutes, and how many GPUs."""

    mem_mb: int
    runtime: int
    gpu: int = 0


@cache
def needs(study: Study) -> dict[str, Needs]:
    """Return what the jobs of a study need at most: `weights`, `activations`, a notebook of each experiment, `summary`.

    It is asked for by every job of a cluster, so it reads sizes of files and lengths of statements, and loads no tokenizer.
    A job that fails asks for twice as much the second time, for three times as much the third (see the Snakefile).
    """
    weights = max(_weight_bytes(study.loaded[revision]) for revision in study.needed())
    parameters = int(suites.entry(study.loaded.name).get("parameters") or weights / 2)
    layers, d_model = _usual_shape(parameters)
    sets = {name: [each.statements for each in study.statement_sets(name)] for name in study.sets}
    largest = 4 * layers * d_model * max(len(statements) for texts in sets.values() for statements in texts)
    characters = sum(len(statement) for texts in sets.values() for statements in texts for statement in statements)
    read = max(sum(map(len, texts)) for texts in sets.values()) * layers * d_model
    dimensions = max(len(study.dimensions_of(name)) for name in study.sets)
    model = max(weights, 4 * parameters)
    jobs = {
        "weights": _needs(0, weights / _SLOW_DOWNLOAD),
        "activations": _needs(model + 2 * largest, 2 * parameters * characters / CHARACTERS_A_TOKEN / _CORE, runs_model=True),
    }
    for name in study.runs():
        experiment = experiments.get(name)
        if experiment.passes:
            operations = 2 * parameters * dimensions * experiment.passes(study.options_of(name))
            jobs[name] = _needs(model + 4 * largest, experiment.pace * operations, runs_model=True)
        else:
            jobs[name] = _needs(4 * largest, experiment.pace * read)
    # A table that is made from all checkpoints reads what each has left of one set and dimension, and takes seconds of it.
    evidence = len(study.needed()) * (largest / (4 * layers * d_model)) * (2 * d_model + 8 * layers)
    return jobs | {"summary": _needs(2 * evidence, 600 + 10 * len(study.needed()))}


def _needs(bytes_: int | float, seconds: int | float, runs_model: bool = False) -> Needs:
    """Return needs with room: 2 GB for libraries, thrice the seconds, ten minutes to start; a GPU where a core takes long."""
    gpu = int(runs_model and seconds > _WITHOUT_GPU)
    return Needs(round(2000 + bytes_ / 1e6), round(10 + 3 * (seconds / _GPU_FASTER if gpu else seconds) / 60), gpu)


def _weight_bytes(checkpoint: Checkpoint) -> int:
    """Return the bytes of a checkpoint's weights; its folder may be gone by then, so the hub's metadata come first."""
    sizes = ledger.sizes(checkpoint)
    return sum(sizes[name] for name in ledger.weights(checkpoint))


def describe(study: Study, gpu: str | None = None, seconds: float = 10.0) -> str:
    """Return the plan of a study as text, with the time on a GPU of `GPUS` if one is named, after some `seconds` of calibration.

    Raises:
        ValueError: if the GPU is unknown, or a checkpoint's size.
    """
    if gpu is not None and gpu not in GPUS:
        raise unknown("GPU", gpu, GPUS)
    table = costs(study)
    rate = calibrate(int(table["parameters"].max()), int(table["d_model"].max()), seconds, study.dtype)
    shown = pd.DataFrame(
        {
            "revision": table["revision"],
            "parameters": table["parameters"].map("{:.3g}".format),
            "download": table["download"].astype(float).map(_size),
            "activations": table["activations"].astype(float).map(_size),
            "TFLOP": (table["flops"] / 1e12).map("{:.3g}".format),
            "here": (table["flops"] / rate).map(_duration),
        }
    )
    if gpu:
        shown[gpu] = (table["flops"] / (GPUS[gpu] * 1e12 * UTILISATION)).map(_duration)
    return "\n".join([shown.to_string(index=False), "", *_summary(study, table, rate, gpu)])


def _summary(study: Study, table: pd.DataFrame, rate: float, gpu: str | None) -> list[str]:
    flops, download = float(table["flops"].sum()), float(table["download"].sum())
    peak = _peak(table)
    free = float(shutil.disk_usage(PROJECT).free)
    notebooks = notebook_seconds(study, table)
    lines = [
        f"{len(table)} checkpoints; {table['statements'].iloc[0]:,} statements with {table['tokens'].iloc[0]:,} tokens in all.",
        f"Download: {_size(download)}" + (f", {_duration(download / _DOWNLOAD)} at 100 MB a second." if download else "."),
        f"Disk at the peak (two checkpoints, three files of activations, evidence): {_size(peak)}; {_size(free)} are free.",
        f"Activations: {flops / 1e12:.3g} TFLOP; {_duration(flops / rate)} here, at the {rate / 1e9:.3g} GFLOP/s just measured.",
    ]
    if gpu:
        seconds = flops / (GPUS[gpu] * UTILISATION * 1e12)
        lines.append(f"On one {gpu}: {_duration(seconds)}, if it reaches {UTILISATION:.0%} of its {GPUS[gpu]} TFLOP/s.")
    if notebooks:
        words = ", ".join(f"{experiment} {_duration(s)}" for experiment, s in notebooks.items())
        lines.append(f"Notebooks, one after the other, by what a finished run took: {words}.")
    if assumed := sorted({name for names in table["assumed"] for name in names.split(", ") if name}):
        lines.append(f"Estimated, not read: {', '.join(assumed)} (tokens by {CHARACTERS_A_TOKEN} characters each).")
    return lines


def _peak(table: pd.DataFrame, gpus: int = 1) -> float:
    """Return the bytes on disk at most: a checkpoint a GPU and one that arrives, one more of activations, all evidence."""
    weights, activations_ = table["download"].nlargest(gpus + 1), table["activations"].nlargest(gpus + 2)
    return float(weights.sum() + activations_.sum() + table["evidence"].sum())


def _size(number: float) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return f"{number:.0f} B"


def _duration(seconds: float) -> str:
    for unit, scale in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds:.2g} s" if seconds >= 1 else "under 1 s"
