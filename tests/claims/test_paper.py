"""The paper's numbers are those of its tables and curves, and their tests are the textbook's."""

import math
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tracing_utils.claims import paper
from tracing_utils.core.paths import PROJECT
from tracing_utils.statements.concepts import DIMENSIONS

SHARED = PROJECT.parent / "shared"
needs_shared = pytest.mark.skipif(
    not (SHARED / "paper").is_dir(), reason="no ../shared/paper here: the full curves are not compared"
)


def found(table, measure, method, against="AmberChat"):
    rows = paper.significance().set_index(["table", "measure", "method", "against"])
    return rows.loc[(table, measure, method, against)]


def test_every_share_that_is_compared_is_a_whole_number_of_its_items():
    samples = paper.read("samples").set_index("measure")["n"]
    shares = paper.read("steering").query("table != 4 and method not in ('fine-tuned', 'LoRA')")
    for row in shares[shares["measure"].isin(samples.index)].itertuples():
        items = row.value * samples[row.measure]
        assert abs(items - round(items)) <= 0.00005 * samples[row.measure] + 1e-9, row


@needs_shared
def test_the_shipped_curves_are_rows_of_the_digitised_ones():
    whole = pd.read_csv(SHARED / "paper" / "probe_curves.csv")
    mine = paper.read("probing").drop(columns="share")
    assert len(mine.merge(whole)) == len(mine) < len(whole)
    whole = pd.read_csv(SHARED / "paper" / "mi_curves.csv").replace({"I(T;X)": "nhsic_tx", "I(T;Y)": "nhsic_ty"})
    mine = paper.read("mutual_information")
    assert len(mine.merge(whole)) == len(mine) < len(whole)


def test_the_curves_cover_the_five_dimensions_and_all_of_training():
    curves = paper.read("probing")
    assert set(curves["dimension"]) == set(paper.read("mutual_information")["dimension"]) == set(DIMENSIONS)
    assert curves["accuracy"].between(0.5, 1).all()
    assert 0 < curves["share"].min() < 0.01
    assert 0.95 < curves["share"].max() <= 1


def test_the_two_proportion_test_is_the_chi_square_of_the_two_by_two_table():
    z, p = paper.two_proportions(160 / 407, 298 / 407, 407)
    chi = stats.chi2_contingency([[160, 247], [298, 109]], correction=False)
    assert z**2 == pytest.approx(chi.statistic)
    assert p == pytest.approx(chi.pvalue)
    assert z < 0


def test_two_proportions_of_one_share_err_in_5_of_100_draws():
    rng = np.random.default_rng(0)
    draws = rng.binomial(400, 0.4, (2, 2000)) / 400
    rate = np.mean([paper.two_proportions(float(a), float(b), 400)[1] < 0.05 for a, b in draws.T])
    assert 0.035 < rate < 0.065


def test_what_the_paper_s_tables_bear_and_what_they_do_not():
    assert found(1, "Truth", "vector of ckpt_179").z == pytest.approx(9.8, abs=0.05)
    assert found(1, "Truth", "vector of ckpt_179", "vector of AmberChat").p == pytest.approx(0.28, abs=0.005)
    assert found(2, "StereoSet", "vector of ckpt_179").p == pytest.approx(0.062, abs=0.001)
    assert found(1, "MMLU", "vector of ckpt_179").p < 1e-6  # the cost is real
    assert not found(1, "MMLU", "vector of ckpt_179").better
    assert found(1, "ToxiGen", "vector of ckpt_179").better  # fewer toxic answers


def test_fisher_s_interval_is_scipy_s_and_covers():
    rng = np.random.default_rng(1)
    x, y = rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], 17).T
    known = stats.pearsonr(x, y)
    assert paper.fisher_interval(float(known.statistic), 17) == pytest.approx(tuple(known.confidence_interval(0.95)))
    low, high = paper.correlations().set_index("dataset").loc["TruthfulQA", ["low", "high"]]
    assert (round(low, 2), round(high, 2)) == (0.36, 0.89)
    assert math.atanh(high) - math.atanh(low) == pytest.approx(2 * 1.959964 / math.sqrt(14), abs=1e-6)


def test_an_unknown_table_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"Unknown table of the paper 'probes'.*Did you mean 'probing'"):
        paper.read("probes")


def test_the_readme_names_the_source_and_every_table():
    readme = (PROJECT / "tracing_utils" / "claims" / "data" / "README.md").read_text()
    assert "2402.19465" in readme
    assert set(re.findall(r"`(\w+)\.csv` \|", readme)) == set(paper.TABLES)
