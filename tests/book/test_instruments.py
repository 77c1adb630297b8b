"""What each instrument's curve says of when a concept is there, on the published study that has them."""

import numpy as np
import pandas as pd
import pytest

from tracing_utils import results
from tracing_utils.book import instruments


@pytest.fixture
def study(tmp_path, monkeypatch) -> str:
    """A study with two instruments: one rises in one dimension, falls in another and falls back in a third; one stays."""
    rows = []
    for step, up, again in zip((0, 8, 64, 512), (0.5, 0.5, 0.9, 0.95), (0.5, 0.9, 0.6, 0.95), strict=True):
        for dimension, value in {"privacy": up, "fairness": 1 - up, "toxicity": again}.items():
            made = {"suite": "s", "revision": f"step{step}", "step": step, "tokens": step, "dimension": dimension, "seed": "0"}
            made |= {"concept_set": "world", "layer": None, "n": 100}
            for method, metric, at in (("likelihood", "preferred", value), ("selected layer", "accuracy", 0.5)):
                rows.append(made | {"method": method, "metric": metric, "value": at, "low": at - 0.03, "high": at + 0.03})
    table = pd.DataFrame(rows)
    for name, method in {"behaviour": "likelihood", "probing": "selected layer"}.items():
        results.write(table[table["method"] == method], tmp_path / "results" / "s" / f"{name}.csv")
    ledger = table[["suite", "revision", "step"]].drop_duplicates().assign(sha256="a")
    results.write_csv(ledger, tmp_path / "results" / "s" / "ledger.csv")
    monkeypatch.setattr(results, "PROJECT", tmp_path)
    return "s"


def test_what_rises_and_what_falls_is_dated_and_what_stays_is_not(study):
    onsets = instruments.onsets(study).set_index(["instrument", "dimension"])
    assert onsets.loc[("likelihood", "privacy"), ["value", "moves"]].tolist() == [64, "rises"]
    assert onsets.loc[("likelihood", "fairness"), ["value", "moves"]].tolist() == [64, "falls"]
    assert onsets.loc[("likelihood", "toxicity"), ["value", "moves"]].tolist() == [8, "rises"]
    assert onsets.index[onsets["back"]].tolist() == [("likelihood", "toxicity")]  # it was not there to stay
    assert np.isnan(onsets.loc[("probe", "privacy"), "value"])
    assert onsets.loc[("probe", "privacy"), "moves"] == ""
    assert {name for name, _ in onsets.index} == {"likelihood", "probe"}  # what a study has not, is left out
