"""Train both arms of the designed world and measure what each knows, and what can be read from it, against what was told.

Rule: a probe is fitted on told keys alone, on subjects that it is not tested on; late and never-told keys are only tested.
What is asked of the runs is registered before seeds are seen that confirm it (`register`, `conditions`).

Usage: python -m benchmarks.world OUT SEED ...
"""

import argparse
import inspect
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from sklearn.isotonic import IsotonicRegression

from tracing_utils import results
from tracing_utils.checkpoints import activations, models, suites
from tracing_utils.core.paths import PROJECT
from tracing_utils.experiments.mutual_information import estimates
from tracing_utils.experiments.probing import probes
from tracing_utils.experiments.steering import intervention, likelihoods, nulls
from tracing_utils.pocket import world_training
from tracing_utils.run import processes
from tracing_utils.statements import sources
from tracing_utils.statements.concepts import ConceptSet, folds, load
from tracing_utils.statements.world import DIMENSIONS, LATE, NEVER, TOLD, World, concept_rows

ARMS = {1.0: "coherent", 0.0: "scrambled"}
"""The name of each arm, by the coherence of its documents."""

BETWEEN = (0.9, 0.75)
"""Coherence of the runs between the arms."""

KEYS = (TOLD, LATE, NEVER)
"""Kinds of keys, as the categories of the concept set begin."""

REGISTERED = PROJECT / "results" / "world" / "registered.json"
"""When the conditions were written down, by the hash of their code, and which seeds had been seen by then."""


def concept_set(dimension: str, world: World | None = None) -> ConceptSet:
    """Return the concept set `world` of one dimension: told, late and never-told keys; the categories tell which is which."""
    rows = concept_rows(world or World(), dimension)
    statements, groups, categories = (tuple(rows[name]) for name in ("statement", "group", "category"))
    labels = rows["label"].to_numpy()
    return ConceptSet("world", dimension, statements, labels, groups, categories, "generated for this book", "CC0-1.0")


def _kinds(concepts: ConceptSet) -> np.ndarray:
    return np.array([category.split()[0] for category in concepts.categories])


def read_right(
    acts: Float[np.ndarray, "example layer d_model"], concepts: ConceptSet, seeds: Sequence[int]
) -> Float[np.ndarray, "row example"]:
    """Return the share of seeds in which a logistic probe tells each statement right, its group left out of the fit.

    Args:
        acts: activations of every layer.
        concepts: the statements.
        seeds: of the assignment of groups to folds.

    Returns:
        A row a layer, and a last row for the layer that each fold's validation part chose.
    """
    told = _kinds(concepts) == TOLD
    right: Bool[np.ndarray, "seed row example"] = np.empty((len(seeds), acts.shape[1] + 1, len(concepts)), dtype=bool)
    for at, seed in enumerate(seeds):
        for split in folds(concepts, seed):
            train, valid = (part[told[part]] for part in (split.train, split.validation))
            losses, said = [], []
            for features in np.moveaxis(acts, 1, 0).astype(np.float64):
                basis, truth = probes.Basis(features[train]), concepts.labels[:, None]
                ((probe, loss),) = probes.fit_chosen(basis, truth[train], features[valid], truth[valid])
                losses.append(loss)
                said.append(probe.logits(features[split.test]) > 0)
            said.append(said[int(np.argmin(losses))])
            right[at][:, split.test] = np.stack(said) == (concepts.labels[split.test] == 1)
    return right.mean(0)


def preferred(nats: Float[np.ndarray, " example"]) -> Bool[np.ndarray, "pair 2"]:
    """Return, for each crossed quadruple and both of its subjects, whether the statement of the told value is likelier.

    Args:
        nats: log-likelihood of each statement, in the order of `concept_rows`.
    """
    a_told, b_told, a_other, b_other = nats.reshape(-1, 4).T
    return np.stack([a_told > a_other, b_told > b_other], axis=1)


def measure(model, tokenizer, seeds: Sequence[int] = (0, 1, 2)) -> Iterator[dict]:
    """Yield rows of `dimension`, `keys`, `measure`, `value` and `n` for one checkpoint.

    `likelihood` is the share of keys whose told value is likelier than that of the other subject of the pair; `probe` the
    accuracy of a linear probe at the layer chosen on the validation part; `nhsic_tx` and `nhsic_ty` are the paper's, of the
    last layer on told keys.
    """
    for dimension in DIMENSIONS:
        known = load("world", dimension.name)
        acts = activations.extract(model, activations.encode(model, tokenizer, known.statements))
        for shared in estimates.released(acts, known):
            row = {"dimension": dimension.name, "keys": TOLD, "measure": shared.metric}
            yield row | {"value": shared.values[-1, 0], "n": shared.n}
        concepts = concept_set(dimension.name)
        ids = activations.encode(model, tokenizer, concepts.statements)
        read = read_right(activations.extract(model, ids), concepts, seeds)[-1]
        likelier = preferred(likelihoods.encoded_log_likelihoods(model, ids, [1] * len(ids)))
        kinds = _kinds(concepts)
        for keys in KEYS:
            which = kinds == keys
            told = likelier[which[::4]]
            yield {"dimension": dimension.name, "keys": keys, "measure": "likelihood", "value": told.mean(), "n": told.size}
            yield {"dimension": dimension.name, "keys": keys, "measure": "probe", "value": read[which].mean(), "n": which.sum()}


def trace(folder: Path) -> pd.DataFrame:
    """Return the measures of every checkpoint of a run, with `seed`, `arm`, `dose` and `step`; its chat model is step -1."""
    facts = json.loads((folder / "training.json").read_text())
    dose = facts["coherence"]
    run = {"seed": facts["recipe"]["seed"], "arm": ARMS.get(dose, f"coherence {dose}"), "dose": dose}
    suite = suites.load(str(folder))
    tokenizer = models.load_tokenizer(suite.checkpoints[0])
    found = []
    for checkpoint in (*suite.checkpoints, suite.chat):
        model = models.load_model(checkpoint, head=True)
        found += [run | {"step": checkpoint.step} | row for row in measure(model, tokenizer)]
    return pd.DataFrame(found)


def steer(folder: Path) -> pd.DataFrame:
    """Return what a run's chat model gains by its own direction, added before a statement, and by random directions.

    The direction is the difference of means after the first block on told keys, a fifth of whose groups is asked. It is added
    at the first token, with the dose of the null: the model then reads the statement as after others of that kind.

    Returns:
        A row a dimension: `seed`, `arm`, `dose` of coherence, `dimension`; `gain` of the preference for the trustworthy
        statement (nats per token); `random_low`, `random_high`: range of the gains of the 99 random directions; `as_good`: how
        many of them gain as much; `p`; `gain_everywhere`: the gain when the direction is added at every token.
    """
    facts = json.loads((folder / "training.json").read_text())
    dose = facts["coherence"]
    chat = suites.load(str(folder)).chat
    model, tokenizer = models.load_model(chat, head=True), models.load_tokenizer(chat)
    found = []
    for name in sources.DIMENSIONS:
        concepts = load("world", name)
        split = folds(concepts, seed=0)[0]
        acts = activations.extract(model, activations.encode(model, tokenizer, concepts.statements))
        pairs, text = likelihoods.held_out_pairs(concepts, split.test), likelihoods.neutral_text(name, "test", "world")
        vector = intervention.directions(acts, acts, concepts, split.train, [0])["vector"][0]
        pairs, gains = pairs[: nulls.PAIRS], {}
        for where in ("first", "all"):
            sweep = intervention.Sweep(model, tokenizer, concepts, pairs, [0], text, where)
            after, _ = sweep(0, np.asarray(nulls.DOSE * vector, dtype=np.float32))
            gains[where] = float((after - sweep.unsteered()[0]).mean())
        gain = gains["first"]
        null = nulls.measured(model, tokenizer, acts, concepts, split.train, pairs, [0], text, "first")
        chance = null.gain["random direction"][:, 0]
        run = {"seed": facts["recipe"]["seed"], "arm": ARMS.get(dose, f"coherence {dose}"), "dose": dose, "dimension": name}
        drawn = {"random_low": chance.min(), "random_high": chance.max(), "as_good": int((chance >= gain).sum())}
        found.append(run | {"gain": gain} | drawn | {"p": nulls.p_values(gain, chance)[0], "gain_everywhere": gains["all"]})
    return pd.DataFrame(found)


HALF_WAY = 0.75
"""Share at which something counts as known, or as readable: half way from chance to all."""

FITTED = (512, 2048)
"""Steps between which nHSIC(T;X) is asked to rise."""


def onsets(table: pd.DataFrame) -> pd.DataFrame:
    """Return when each dimension of each run is known (`likelihood`) and when it can be read (`probe`).

    Args:
        table: rows as of `trace`, of any number of runs.

    Returns:
        `onset`: the step at which a non-decreasing curve fitted to the shares (isotonic regression) passes `HALF_WAY`,
        between checkpoints on a straight line; not a number where it does not. One row for each `seed`, `arm`, `dose`,
        `dimension`, `keys` and `measure`.
    """
    wanted = table[table["measure"].isin(("likelihood", "probe")) & (table["step"] >= 0)]
    by = ["seed", "arm", "dose", "dimension", "keys", "measure"]
    return wanted.groupby(by, sort=False).apply(_onset, include_groups=False).rename("onset").reset_index()


def _onset(rows: pd.DataFrame) -> float:
    rows = rows.sort_values("step")
    steps = rows["step"].to_numpy(dtype=float)
    risen = IsotonicRegression().fit_transform(steps, rows["value"])
    above = risen >= HALF_WAY
    if not above.any() or above[0]:
        return float("nan")
    last = int(above.argmax())
    return float(np.interp(HALF_WAY, risen[[last - 1, last]], steps[[last - 1, last]]))


def acceptance(table: pd.DataFrame, late_from: int, steered: pd.DataFrame) -> pd.DataFrame:
    """Return whether what was asked of the world before its confirming runs holds: a row a condition.

    Args:
        table: rows as of `trace`, of the coherent and the scrambled arm, the same seeds in both, and of doses between.
        late_from: first step in which late keys are told.
        steered: rows as of `steer`, of the same runs.

    Returns:
        `condition`, `low` and `high`: what values it asks for; `least` and `most`: what came; `holds`.
    """
    runs = table[table["arm"].isin(("coherent", "scrambled")) & (table["step"] >= 0)]
    last = runs[runs["step"] == runs["step"].max()]
    means = last.groupby(["arm", "keys", "measure", "dimension"])["value"].mean()
    told = means["coherent", TOLD, "probe"].sort_values()
    late = runs[runs["keys"] == LATE]
    pooled = late.groupby(["arm", "measure", "seed", "step"])["value"].mean()  # dimensions have the same number of keys
    steps = pooled.index.get_level_values("step")
    before, after = pooled[steps <= late_from], pooled[steps == runs["step"].max()].droplevel("step")
    rise = after - before.groupby(["arm", "measure", "seed"]).mean()
    asked = [
        ("told, coherent: read in four dimensions", told.iloc[1:], 0.95, 1),
        ("told, coherent: read in the fifth", told.iloc[:1], 0.70, 1),
        ("told, scrambled: not read", means["scrambled", TOLD, "probe"], 0.45, 0.55),
        *((f"never told, {arm}: not read", means[arm, NEVER, "probe"], 0.45, 0.55) for arm in ("coherent", "scrambled")),
        *((f"told, {arm}: known", means[arm, TOLD, "likelihood"], 0.95, 1) for arm in ("coherent", "scrambled")),
    ]
    for arm in ("coherent", "scrambled"):
        for name in ("likelihood", "probe"):
            asked.append((f"late, {arm}: {name} at chance before it is told, each seed and step", before[arm, name], 0.35, 0.65))
            mean = before[arm, name].groupby("step").mean().mean()
            asked.append((f"late, {arm}: {name} at chance before it is told, mean", pd.Series([mean]), 0.45, 0.55))
        asked.append((f"late, {arm}: likelihood rises in each seed", rise[arm, "likelihood"], 0.2, 1))
    asked.append(("late, coherent: probe rises in each seed", rise["coherent", "probe"], 0.2, 1))
    asked.append(("late, scrambled: not read in the end", pd.Series([after["scrambled", "probe"].mean()]), 0.45, 0.55))
    asked += [*_by_steering(steered), *_by_dose(table), *_by_onset(runs, late_from), *_by_information(runs)]
    made = [{"condition": c, "low": low, "high": high, "least": v.min(), "most": v.max()} for c, v, low, high in asked]
    found = pd.DataFrame(made)
    return found.assign(holds=(found["least"] >= found["low"]) & (found["most"] <= found["high"]))


def _by_steering(steered: pd.DataFrame) -> Iterator[tuple[str, pd.Series, float, float]]:
    """Yield what is asked of steering: condition, values, least and most."""
    outside = (steered["as_good"] == 0).groupby([steered["arm"], steered["seed"]]).sum()
    most = "dimensions that gain more than by any random direction"
    yield f"steering, coherent: {most}, median seed", pd.Series([outside["coherent"].median()]), 3, 5
    yield f"steering, scrambled: {most}, each seed", outside["scrambled"], 0, 1


def _by_dose(runs: pd.DataFrame) -> Iterator[tuple[str, pd.Series, float, float]]:
    """Yield what is asked of the doses of coherence, over the seeds that have them all; nothing where none has."""
    told = runs[(runs["keys"] == TOLD) & (runs["measure"] == "probe") & (runs["step"] == runs["step"].max())]
    read = told.groupby(["seed", "dose"])["value"].mean().unstack().dropna().mean()
    if len(read) > len(ARMS):
        yield "dose: told keys are read better with each dose, mean", read.sort_index().diff().dropna(), -0.02, 1
        yield "dose: the highest below 1 is read better than 0, mean", pd.Series([read[BETWEEN[0]] - read[0]]), 0.1, 1


def _by_onset(runs: pd.DataFrame, late_from: int) -> Iterator[tuple[str, pd.Series, float, float]]:
    """Yield what is asked of when something is known and when it can be read; what does not come, comes last."""
    at = onsets(runs).set_index(["arm", "keys", "measure", "seed", "dimension"])["onset"].fillna(np.inf).sort_index()
    told, late = at["coherent", TOLD], at.xs(LATE, level="keys") - late_from
    first = (told["likelihood"] < told["probe"]).groupby("seed").mean()
    yield "told, coherent: share of dimensions that are known before they are read, each seed", first, 0.8, 1
    for arm in ("coherent", "scrambled"):
        yield f"late, {arm}: steps from being told to being known, each seed and dimension", late[arm, "likelihood"], 0, 256
    read = late["coherent", "probe"].groupby("seed").median()
    yield "late, coherent: steps from being told to being read, median seed", pd.Series([read.median()]), 0, 1024


def _by_information(runs: pd.DataFrame) -> Iterator[tuple[str, pd.Series, float, float]]:
    """Yield what is asked of nHSIC at the last layer, where it was computed at the steps it is asked of."""
    found = runs[(runs["keys"] == TOLD) & (runs["measure"].str.startswith("nhsic"))]
    if not set(FITTED) <= set(found["step"]):
        return
    end = found[found["step"] == found["step"].max()].groupby(["measure", "arm", "dimension"])["value"].mean()
    curves = found.groupby(["measure", "arm", "seed", "step"])["value"].mean()["nhsic_tx"].unstack()
    for arm, least, most in (("coherent", 0.3, 1), ("scrambled", 0, 0.1)):
        yield f"nHSIC(T;Y), {arm}: at the end, each dimension, mean", end["nhsic_ty", arm], least, most
    for arm, least, most in (("coherent", 0.2, 10), ("scrambled", 0, 0.15)):
        later = curves.loc[arm, FITTED[0] :]
        rise, fall = later[FITTED[1]] - later[FITTED[0]], later.max(axis=1) - later.iloc[:, -1]
        yield f"nHSIC(T;X), {arm}: rises from step {FITTED[0]} to {FITTED[1]}, each seed", rise, 0.3, 10
        yield f"nHSIC(T;X), {arm}: falls from its height to the end, each seed", fall, least, most


def code() -> str:
    """Return a hash of the code that judges; not of what trains and measures."""
    parts = (onsets, _onset, acceptance, _by_steering, _by_dose, _by_onset, _by_information)
    values = (HALF_WAY, BETWEEN, FITTED)
    return sha256("\n".join([*map(inspect.getsource, parts), repr(values)]).encode()).hexdigest()[:16]


def _entries(file: Path) -> list[dict]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []


def register(date: str, seen: Iterable[int], file: Path = REGISTERED) -> None:
    """Write down that the conditions are fixed as they are now, and which seeds have been seen by now; once for each code.

    Args:
        date: of today.
        seen: seeds.
        file: to which the entry is added.
    """
    entries = _entries(file)
    if all(entry["code"] != code() for entry in entries):
        entries.append({"date": date, "code": code(), "seen": sorted(map(int, set(seen)))})
        file.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def conditions(table: pd.DataFrame, late_from: int, steered: pd.DataFrame, file: Path = REGISTERED) -> pd.DataFrame:
    """Return `acceptance` apart for the seeds that were seen when the conditions were registered, and for those seen after.

    Returns:
        The columns of `acceptance`; `seeds`, which; `data`, `confirmed` for those seen after and else `exploratory`.
    """
    entries = [entry for entry in _entries(file) if entry["code"] == code()]
    seen = {seed for entry in entries for seed in entry["seen"]} if entries else set(table["seed"])
    parts = []
    for data, old in (("exploratory", True), ("confirmed", False)):
        here, there = (rows[rows["seed"].isin(seen) == old] for rows in (table, steered))
        if len(here):
            judged = acceptance(here, late_from, there)
            parts.append(judged.assign(seeds=[_seeds(here, condition) for condition in judged["condition"]], data=data))
    return pd.concat(parts, ignore_index=True)


def _seeds(table: pd.DataFrame, condition: str) -> str:
    """Return which seeds have what a condition is about."""
    if condition.startswith("dose"):
        table = table[table["dose"].isin(BETWEEN)]
    elif condition.startswith("nHSIC"):
        table = table[table["measure"].str.startswith("nhsic")]
    return ", ".join(map(str, sorted(table["seed"].unique())))


def main(
    out: Path, seeds: Sequence[int], dosed: Sequence[int] = (), forgetting: Sequence[int] = (), train=world_training.train
) -> None:
    """Train both arms of each seed into `out`, and write there, as CSV, what was measured; a finished run is not trained again.

    `measures.csv` holds the rows of `trace`, `onsets.csv`, `steered.csv` and `conditions.csv` those of `onsets`, `steer` and
    `conditions`.

    Args:
        out: a folder; gets a folder a seed with a suite an arm, and the tables.
        seeds: of the runs.
        dosed: those of the seeds that are trained at the doses of coherence between the arms too.
        forgetting: seeds of coherent runs in which a third of the keys is told no more once late keys are told; they are
            trained into the folder of their seed, and measured by the experiment on origins alone.
        train: as `world_training.train`.
    """
    runs = [(out / f"seed-{seed}" / f"world-{arm}", dose, seed) for seed in seeds for dose, arm in ARMS.items()]
    runs += [(out / f"seed-{seed}" / f"world-coherence-{dose}", dose, seed) for seed in dosed for dose in BETWEEN]
    facts = [train(*run) for run in runs]
    for seed in forgetting:
        train(out / f"seed-{seed}" / "world-forgetting", 1.0, seed, drop_from=world_training.LATE_FROM)
    folders = [folder for folder, _, _ in runs]
    table, steered = (pd.concat(map(made, folders)) for made in (trace, steer))
    judged = conditions(table, facts[0]["late_from"], steered)
    made = {"measures": table, "onsets": onsets(table), "steered": steered, "conditions": judged}
    for name, rows in made.items():
        results.write_csv(rows, out / f"{name}.csv")
    print(made["conditions"].to_string(index=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="benchmarks.world")
    parser.add_argument("out", type=Path, help="a folder for the suites and the tables")
    parser.add_argument("seeds", type=int, nargs="+", help="of the runs; the world stays the same")
    parser.add_argument("--dosed", type=int, nargs="*", default=[], help="seeds trained at doses of coherence between, too")
    parser.add_argument("--forgetting", type=int, nargs="*", default=[], help="seeds trained once more, told less from a step on")
    given = parser.parse_args()
    sys.exit(processes.exit_code(parser.prog, lambda: main(given.out, given.seeds, given.dosed, given.forgetting)))
