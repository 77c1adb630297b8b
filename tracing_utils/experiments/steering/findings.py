"""Findings read off the published steering tables, for the page that tells them.

Rule: a study that lacks some rows gives fewer findings, never an error.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from ... import results
from ..intervals import fisher
from . import nulls

__all__ = [
    "TRUST", "chosen", "correlations", "costs", "gain_and_cost", "null", "probe_and_effect", "summarise", "summary", "swept",
]  # fmt: skip

TRUST = ("gain", "preferred", "answer_accuracy", "answer_margin", "answer_neither", "mc1", "mc2", "civility")
"""Measures of trust; what else a chosen setting is measured on is its cost: perplexity, and tasks of general ability."""

_SETTING = ["suite", "revision", "step", "layer", "dimension", "concept_set", "method", "dose"]
_PROBES = ("logistic", "probe")


def swept(table: pd.DataFrame, metric: str = "gain") -> pd.DataFrame:
    """Return the vectors' rows with one metric; `own` marks the vectors of the steered model itself.

    Args:
        table: of steering.
        metric: `gain`, `preferred` or `perplexity`, at every dose; or, at the null's: `gain_over_random_direction` and
            `gain_over_shuffled_labels`, with the chances of such a gain (`p`) and loss (`p_loss`); `gain_over_own`, over the
            target's own vector, paired; `side_effect`, of the vector of one dimension (`vector_of`) on another.
    """
    rows = table[(table["metric"] == metric) & (table["method"] == "vector")].astype({"layer": int})
    return rows.assign(own=rows["revision"].isin(["chat", "model"]))


def null(table: pd.DataFrame) -> pd.DataFrame:
    """Return the gains of null directions: one row each, and rows `null range` with the 95 % range of the random ones."""
    drawn = table[(table["metric"] == "gain") & table["method"].isin(nulls.METHODS)].astype({"layer": int})
    at = ["suite", "revision", "step", "layer", "dimension", "concept_set", "dose"]
    values = drawn[drawn["method"] == "random direction"].groupby(at)["value"]
    ranges = values.agg(value="mean", low=lambda x: x.quantile(0.025), high=lambda x: x.quantile(0.975), n="size").reset_index()
    return pd.concat([drawn, ranges.assign(method="null range", metric="gain")], ignore_index=True)


def gain_and_cost(table: pd.DataFrame) -> pd.DataFrame:
    """Return the sweep's gains with the further column `cost`: perplexity as a multiple of the unsteered model's."""
    gain, cost = swept(table), swept(table, "perplexity")
    at = ["suite", "revision", "dimension", "concept_set"]
    plain = table[(table["metric"] == "perplexity") & (table["method"] == "unsteered")].set_index(at)["value"]
    plain = plain[~plain.index.duplicated()].rename("plain")
    cost = cost.join(plain, on=at).assign(cost=lambda rows: rows["value"] / rows["plain"])
    return gain.merge(cost[[*_SETTING, "cost"]], on=_SETTING)


def chosen(table: pd.DataFrame) -> pd.DataFrame:
    """Return what the settings chosen on validation did: one row a source, set, dimension and metric.

    Returns:
        The common columns with `layer`, `dose`, `before` (unsteered), `after`, `control` (a random direction at the
        same setting), and, where the metric is compared example by example, `change`, `change_low`, `change_high`, `p`.
    """
    at = ["suite", "revision", "step", "concept_set", "dimension", "metric"]
    methods = {"unsteered": "before", "chosen": "after", "chosen, random direction": "control"}
    rows = table[table["method"].isin(methods) & ~table["metric"].str.endswith("_change")]
    wide = rows.assign(method=rows["method"].map(methods)).pivot_table(index=at, columns="method", values="value")
    wide = wide.reindex(columns=list(methods.values())).dropna(subset="after").reset_index()
    done = table[table["method"] == "chosen"]
    setting = done[[*at[:-1], "layer", "dose"]].drop_duplicates(at[:-1])
    changes = done[done["metric"].str.endswith("_change")].assign(metric=lambda rows: rows["metric"].str.removesuffix("_change"))
    changes = changes.rename(columns={"value": "change", "low": "change_low", "high": "change_high"})
    if "p" not in changes:
        changes = changes.assign(p=np.nan)
    changes = changes[[*at, "change", "change_low", "change_high", "p", "n"]]
    return wide.merge(setting, on=at[:-1]).merge(changes, on=at, how="left")


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return, by suite and measure, in how many cases the chosen setting and its control clearly raised and lowered it."""
    methods = {"chosen": "vector", "chosen, random direction": "random"}
    changed = (table["metric"] == "gain") | table["metric"].str.endswith("_change")
    rows = table[changed & table["method"].isin(methods)]
    rows = rows.assign(
        measure=rows["metric"].str.removesuffix("_change"),
        by=rows["method"].map(methods),
        raised=rows["low"] > 0,
        lowered=rows["high"] < 0,
        cases=True,
    )
    counts = rows.groupby(["suite", "measure", "by"])[["cases", "raised", "lowered"]].sum().unstack("by", fill_value=0)
    order = [("cases", "vector"), *((what, by) for by in methods.values() for what in ("raised", "lowered"))]
    counts = counts.reindex(columns=pd.MultiIndex.from_tuples(order), fill_value=0)
    counts.columns = ["cases", *(f"{by}: clearly {what}" for what, by in order[1:])]
    return counts.reset_index()


def costs(table: pd.DataFrame) -> pd.DataFrame:
    """Return, by suite and measure, what the chosen settings and a random direction cost: perplexity, and each task.

    Returns:
        Means over the cases (sources, sets and dimensions) of the unsteered model, of the one steered by the chosen
        setting, and of the one pushed as far in a random direction; for tasks also in how many cases the paired
        change is clearly a loss, and the largest loss with its interval. `n`: items a task, or texts.
    """
    done = chosen(table)
    rows = []
    for (suite, measure), part in done[~done["metric"].isin(TRUST)].groupby(["suite", "metric"], sort=False):
        counted = table[(table["suite"] == suite) & (table["metric"] == measure) & (table["method"] == "chosen")]
        row = {"suite": suite, "measure": measure, "n": int(counted["n"].max()), "cases": len(part)}
        row |= {"unsteered": part["before"].mean(), "chosen": part["after"].mean(), "random direction": part["control"].mean()}
        if not (tested := part[part["change"].notna()]).empty:
            worst = tested.loc[tested["change"].idxmin()]
            row |= {"clear losses": int((tested["change_high"] < 0).sum()), "largest loss": worst["change"]}
            row |= {"low": worst["change_low"], "high": worst["change_high"]}
        rows.append(row)
    columns = ["suite", "measure", "n", "cases", "unsteered", "chosen", "random direction", "clear losses", "largest loss"]
    return pd.DataFrame(rows, columns=[*columns, "low", "high"]).astype({"clear losses": "Int64"})


def probe_and_effect(probing: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return, for each source checkpoint, probe accuracy and gain at the null's dose, averaged over the steered layers."""
    gain = swept(table)[lambda rows: (rows["dose"] == nulls.DOSE) & ~rows["own"]]
    accuracy = probing[(probing["metric"] == "accuracy") & probing["method"].isin(_PROBES) & probing["layer"].notna()]
    at = ["suite", "concept_set", "dimension", "revision", "step", "layer"]
    both = gain[[*at, "value"]].rename(columns={"value": "gain"})
    both = both.merge(accuracy[[*at, "value"]].rename(columns={"value": "accuracy"}).astype({"layer": int}), on=at)
    return both.groupby(at[:-1], as_index=False)[["accuracy", "gain"]].mean()


def correlations(points: pd.DataFrame) -> pd.DataFrame:
    """Return Pearson's r of accuracy and gain over the checkpoints of each suite, set and dimension, with its interval.

    The interval is Fisher's, which takes checkpoints for independent; neighbours are not, so it is too narrow.
    """
    rows, at = [], ["suite", "concept_set", "dimension"]
    for names, part in points.groupby(at):
        n = len(part)
        if n < 5 or part["accuracy"].std() == 0 or part["gain"].std() == 0:
            continue
        r = fisher(float(np.corrcoef(part["accuracy"], part["gain"])[0, 1]), n)
        rows.append((*names, r.value, r.low, r.high, n))
    return pd.DataFrame(rows, columns=[*at, "r", "low", "high", "n"])


def summarise(study, folder: Path, out: Path) -> None:  # a `run.studies.Study`, which nothing here may import
    """Write the answers before and after steering of all of a study's sets as one table."""
    answers = [results.read_csv(folder / name / "steering" / "answers.csv") for name in study.sets]
    results.write_csv(pd.concat(answers), out)
