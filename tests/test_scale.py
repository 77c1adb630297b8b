"""What large studies take on a cluster: the tables of the pages follow from the costs of the plan."""

from dataclasses import replace

import pandas as pd
import pytest

from benchmarks import scale
from benchmarks.planning import write_study
from tracing_utils.checkpoints import suites
from tracing_utils.core.paths import PROJECT
from tracing_utils.experiments import steering
from tracing_utils.run import plan, studies


def test_the_stages_of_a_study_are_what_it_moves_and_computes_over_what_the_machines_do():
    total = {"download": 6e12, "activations": 1e12, "flops": 3e18, "steering_flops": 1e18, "core_seconds": 7e6}
    machines = scale.Machines(8, "a100", cores=4, network=2e8, disk=5e8)
    assert scale.stages(total, machines) == pytest.approx(
        {"network": 30_000, "disk": (18e12 + 2e12) / 4e9, "GPU": 4e18 / (312e12 * plan.UTILISATION * 8), "cores": 7e6 / 32}
    )
    more = scale.stages(total, replace(machines, gpus=16))
    assert more["network"] == 30_000  # which more machines do not widen
    assert more["GPU"] == pytest.approx(scale.stages(total, machines)["GPU"] / 2)


def test_the_totals_of_a_study_are_the_sums_of_its_costs_and_steering_reads_both_parts_in_every_setting(tmp_path):
    study = studies.read(write_study(tmp_path, 3, 2, bytes_=10**9))
    study = replace(study, experiments=("probing", "mutual_information", "steering"))
    table, total = plan.costs(study), scale.totals(study)
    assert total["checkpoints"] == 4
    assert total["download"] == 4e9 == table["download"].sum()
    assert total["flops"] == table["flops"].sum()
    options = study.options_of("steering")
    nulled = sum(steering.METHODS.values()) * (2 * steering.PAIRS + steering.TEXTS)  # under every direction of the null
    read = 2 * len(study.sets) * len(options["layers"]) * (len(options["doses"]) * options["asked"] + nulled)  # of one dimension
    tokens = table["tokens"][0] / table["statements"][0]
    assert total["steering_flops"] == pytest.approx(4 * 2 * 5e8 * read * tokens, rel=1e-6)
    assert total["disk_1"] == 2e9 + 3 * table["activations"][0] + table["evidence"].sum()
    assert total["disk_8"] == 4e9 + 4 * table["activations"][0] + table["evidence"].sum()


def test_the_published_totals_are_of_the_study_that_the_page_shows():
    published = pd.read_csv(PROJECT / "results" / "scale.csv").set_index("study")
    entry = suites.entry("amber")
    assert published.index.tolist() == ["amber-360"]
    row = published.loc["amber-360"]
    assert row["download"] == pytest.approx(row["checkpoints"] * entry["bytes"], rel=1e-3)
    assert row["flops"] == pytest.approx(row["checkpoints"] * 2 * entry["parameters"] * row["tokens"], rel=1e-3)


def test_the_published_stages_follow_from_the_published_totals():
    published = pd.read_csv(PROJECT / "results" / "stages.csv")
    again = scale.stage_table(pd.read_csv(PROJECT / "results" / "scale.csv"))
    pd.testing.assert_frame_equal(published, again, check_dtype=False, rtol=1e-3)
    assert not published["network"].eq(published["cores"]).any()  # so that a column in the place of another would be seen


def test_the_overview_has_a_row_a_study_with_the_sums_of_its_costs(tmp_path):
    planned = [studies.read(write_study(tmp_path / str(n), n, 1, bytes_=10**9)) for n in (3, 2)]
    table = scale.overview(planned, "l4")
    assert table["study"].tolist() == ["far", "far"]
    assert table["checkpoints"].tolist() == [4, 3]  # the chat model is one of them
    assert table["download"].tolist() == ["4 GB", "3 GB"]
    assert table["TFLOP"].tolist() == pytest.approx([plan.costs(study)["flops"].sum() / 1e12 for study in planned])
    assert table["TFLOP"][1] < table["TFLOP"][0]


def test_of_ten_thousand_jobs_nothing_was_lost_nothing_recorded_ran_again_and_what_was_under_way_did():
    (row,) = pd.read_csv(PROJECT / "results" / "many_jobs.csv").to_dict("records")
    assert row["jobs"] == 10_000
    assert row["lost"] == row["twice"] == row["again"] == 0
    assert row["restarted"] == row["under_way"] > 0
    needed = row["jobs"] + row["failing"] + row["killed"] + row["restarted"]
    assert 0 <= needed - row["starts"] <= row["under_way"] - row["written"]  # jobs that had not begun when all was killed
