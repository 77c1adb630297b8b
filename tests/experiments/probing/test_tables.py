"""The table of a notebook: whole, or brief for studies of many sets."""

import numpy as np
from safetensors.numpy import load_file

from tracing_utils.checkpoints import suites
from tracing_utils.experiments.probing import tables
from tracing_utils.experiments.tables import Table
from tracing_utils.statements import concepts


def test_a_brief_table_has_the_probe_s_accuracy_and_what_it_must_beat_and_its_numbers_are_the_whole_one_s(tmp_path):
    chosen = concepts.load("world", "privacy")
    acts = {"privacy": np.random.default_rng(0).standard_normal((len(chosen), 2, 8)).astype(np.float32)}
    traced = {"privacy": tables.probed(acts["privacy"], chosen, seeds=1)}
    made = {brief: Table(suites.load("world-coherent")["step0"]) for brief in (False, True)}
    for brief, table in made.items():
        tables.fill(table, acts, {"privacy": chosen}, traced, ["corrected"], ("world", 0, lambda third: third), brief)
        tables.save_evidence(traced, acts, str(tmp_path / f"{brief}.safetensors"), brief)
    keys = ["layer", "method", "metric"]
    whole, brief = (table.frame for table in made.values())
    assert set(brief["metric"]) == {"accuracy"}
    assert set(brief["method"]) == {"logistic", "selected layer", "shuffled labels", "floor", "lexical floor"}
    assert {"ridge", "control task"} <= set(whole["method"])
    both = brief.merge(whole, on=keys, suffixes=("", "_whole"))
    assert len(both) == len(brief)
    assert (both["value"] == both["value_whole"]).all()
    left = set(load_file(tmp_path / "False.safetensors")) - set(load_file(tmp_path / "True.safetensors"))
    assert left == {"privacy/middle"}
