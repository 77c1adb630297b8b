"""The benchmarks compare what they say, at sizes that take seconds; times are never asserted."""

import json
import shutil
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import yaml

from benchmarks import extraction, goals, gpu, growth, installed, measure, nhsic, probes, profiles, reruns, starting, waiting
from benchmarks.measure import COLUMNS, Timed
from tracing_utils.core.paths import PROJECT
from tracing_utils.experiments.mutual_information import kernels
from tracing_utils.experiments.probing import probes as fits
from tracing_utils.statements import concepts

REAL = PROJECT / "benchmarks" / "results.csv"


def compared(ratios, differ=lambda _a, _b: 0.0, target=3.0) -> measure.Row:
    done = [(Timed(1.0, None), Timed(ratio, None)) for ratio in ratios]
    return measure.row(3, "ours", "theirs", done, differ, target=target, tolerance=0.01, note="")


def test_a_row_is_the_median_of_its_pairs_with_the_least_and_the_greatest():
    row = compared([2.0, 8.0, 5.0])
    assert (row.ratio, row.low, row.high, row.pairs, row.reached) == (5.0, 2.0, 8.0, 3, True)


def test_a_goal_is_missed_by_its_ratio_or_by_its_agreement_and_without_a_target_there_is_none():
    assert compared([2.9, 2.9, 9.0]).reached is False
    assert compared([5.0], differ=lambda _a, _b: 0.02).reached is False
    assert compared([5.0], target=float("nan")).reached is None


def test_each_path_that_a_gpu_would_run_is_timed_and_agrees_with_itself_on_one_device(monkeypatch):
    rows = [*gpu.goal("pocket", device="cpu", pairs=1, statements=24)]
    assert [row.what for row in rows] == [f"{what}, pocket" for what in gpu.PATHS]
    assert all(row.agreement == 0 and row.ours_seconds > 0 for row in rows)
    monkeypatch.setattr(gpu, "PATHS", {"activations": lambda side: np.random.default_rng().normal(size=len(side.ids))})
    assert next(gpu.goal("pocket", device="cpu", pairs=1, statements=24)).agreement > 0.1
    assert gpu._differ(np.array(["a", "b"]), np.array(["a", "c"])) == 0.5


def test_a_row_of_a_gpu_is_written_before_the_next_is_measured(tmp_path, monkeypatch):
    def goal(suite):
        yield compared([2.0])
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu, "OUT", tmp_path / "results.csv")
    monkeypatch.setattr(gpu, "goal", goal)
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: True)
    with pytest.raises(KeyboardInterrupt):
        gpu.main(["pocket"])
    assert pd.read_csv(tmp_path / "results.csv")["ratio"].tolist() == [2.0]


def test_pairs_take_turns_at_going_first():
    order = []
    ways = [lambda part, name=name: order.append((name, part)) or Timed(1.0, name) for name in ("ours", "theirs")]
    done = measure.paired(*ways, 3)
    assert order == [("ours", 0), ("theirs", 0), ("theirs", 1), ("ours", 1), ("ours", 2), ("theirs", 2)]
    assert {(a.result, b.result) for a, b in done} == {("ours", "theirs")}


def test_goals_that_were_not_run_keep_their_rows(tmp_path):
    path = tmp_path / "results.csv"
    measure.write([compared([5.0]), measure.Row(**(vars(compared([2.0])) | {"goal": 1}))], path)
    written = measure.write([compared([7.0])], path)
    assert written[["goal", "ratio"]].to_numpy().tolist() == [[1, 2.0], [3, 7.0]]
    assert pd.read_csv(path).columns.tolist() == list(COLUMNS)
    assert json.loads((tmp_path / "machine.json").read_text())["torch"]
    assert "goal" in measure.table(written)


@pytest.fixture(scope="module")
def extracted() -> list[measure.Row]:
    return extraction.goal(6, 2, small=True, peers=False)


def test_every_way_of_extraction_gives_the_same_activations(extracted):
    assert [row.against for row in extracted] == [
        "one statement a pass, with head", "hidden states, batches of 32", "matrix products alone"
    ]  # fmt: skip
    assert all(row.agreement < 1e-5 and row.pairs == 2 and row.ours_seconds > 0 for row in extracted)


def test_another_position_would_not_agree(tmp_path):
    checkpoint = extraction.tiny_llama(tmp_path)
    model, tokenizer = extraction.models.load_model(checkpoint, head=True), extraction.models.load_tokenizer(checkpoint)
    whole, cut = (extraction.one_by_one(model, tokenizer, [text]) for text in ("It was late, and dark.", "It was late, and"))
    assert measure.apart(whole, cut) > 1e-2


def test_the_literal_formula_is_what_we_compute_but_for_its_float32(monkeypatch):
    monkeypatch.setattr(kernels, "MANY", 500)
    small, large = nhsic.goal(((200, 24, 1), (600, 40, 1)))
    assert [row.note.split(";")[0] for row in (small, large)] == ["over Cholesky factors", "over features"]
    assert small.agreement < 1e-9
    assert 1e-9 < large.agreement < 1e-4
    x, t, labels = nhsic.trained_like(200, 24)
    both = [kernels.released_smoother(side) for side in (x, t)]
    expected = [kernels.alignment(*both), kernels.nhsic_labels(both[1], labels)]
    np.testing.assert_allclose(nhsic.literal(x, t, labels), expected, rtol=0.05)
    assert np.abs(nhsic.literal(x, t[::-1].copy(), labels) / expected - 1).max() > 0.2


def test_scikit_learn_s_plain_protocol_has_our_accuracies_and_other_labels_have_not():
    (row,) = probes.goal(1, 1, 200)
    assert row.agreement < 1.5 / 200  # one statement in the only layer, where two penalties tie
    labels = concepts.capped(concepts.load("pocket", probes.DIMENSION), 200).labels
    differ = probes._accuracies_apart(iter([{"logistic": labels}]))
    assert differ({"logistic": labels[None] - 0.5}, {"logistic": 0.5 - labels[None]}) == 1.0


def test_growth_is_the_slope_of_the_logarithms():
    assert growth._exponent([1, 2, 4], [3, 6, 12]) == pytest.approx(1)
    assert growth._exponent([1, 2, 4], [1, 4, 16]) == pytest.approx(2)


def test_a_profile_names_the_function_that_takes_most_and_its_shares_are_the_whole():
    numbers = np.random.default_rng(0).permutation(200_000).tolist()
    table = profiles.of("sorting", lambda: [abs(number) for number in sorted(numbers)])
    assert table.columns.tolist() == list(profiles.COLUMNS)
    assert {"sorted", "abs"} <= set(table["part"])
    assert table["share"].sum() == pytest.approx(1)


def test_the_products_of_a_module_have_a_part_of_their_own_and_give_the_same():
    counted = profiles.with_products(fits)
    rng = np.random.default_rng(0)
    z, labels = rng.standard_normal((60, 4)), rng.integers(0, 2, (60, 1))
    given = z, labels, np.ones((4, 1))
    np.testing.assert_array_equal(counted.fit_logistic(*given)[0], fits.fit_logistic(*given)[0])
    counted.matrix_product = lambda a, b: 2 * profiles.matrix_product(a, b)
    assert not np.array_equal(counted.fit_logistic(*given)[0], fits.fit_logistic(*given)[0])


def test_the_smallest_parts_of_a_profile_are_one_and_other_profiles_stay(tmp_path):
    path = tmp_path / "profiles.csv"
    made = profiles.shares("tests", {"a": 1.0, "b": 6.0, "c": 2.0, "d": 1.0}, shown=2)
    assert made.to_numpy().tolist() == [["tests", "b", 0.6], ["tests", "c", 0.2], ["tests", "2 others", 0.2]]
    profiles.put(made, path)
    profiles.put(profiles.shares("book", {"a": 1.0}), path)
    assert profiles.put(profiles.shares("tests", {"z": 1.0}), path)[["what", "part"]].to_numpy().tolist() == [
        ["book", "a"],
        ["tests", "z"],
    ]


def test_the_stages_of_a_notebook_s_fixed_cost_follow_one_another_and_are_its_whole(monkeypatch):
    monkeypatch.setattr(starting.experiments, "names", lambda: ("geometry",))
    begun = time.monotonic()
    spent = starting.stages(1)
    assert tuple(spent) == starting.STAGES
    assert all(seconds > 0 for seconds in spent.values())
    assert sum(spent.values()) < time.monotonic() - begun


def test_every_wait_has_a_row_and_a_late_one_a_profile():
    table, known = pd.read_csv(waiting.OUT), set(pd.read_csv(profiles.OUT)["what"])
    late = {".ci/run", *(part for part, *_ in waiting.WAITS[".ci/run"].within)}  # of which this test is a part
    assert {*table["what"]} | late == {*waiting.WAITS} | late
    assert {row.what for row in table.itertuples() if not row.reached} - {"second make book"} - late <= known


@pytest.mark.skipif(not REAL.exists(), reason="benchmarks/results.csv is not there; `make bench` writes it")
def test_what_is_missed_has_a_profile():
    table, known = pd.read_csv(REAL), set(pd.read_csv(profiles.OUT)["what"])
    missed = table["what"][table["reached"].eq(False).fillna(False)]
    assert {what for what in missed if profiles.name(what, known) is None} == set()


@pytest.mark.skipif(not REAL.exists(), reason="benchmarks/results.csv is not there; `make bench` writes it")
def test_the_published_table_has_every_goal_and_no_row_without_agreement():
    table = pd.read_csv(REAL)
    assert table.columns.tolist() == list(COLUMNS)
    assert set(table["goal"]) == set(goals.GOALS)
    assert table["agreement"].notna().all()
    assert (table["pairs"] >= 1).all()
    assert set(table["reached"].dropna()) <= {True, False}


def test_a_wait_is_that_of_a_command_that_succeeds_in_a_fresh_clone_and_changes_no_file_of_it(tmp_path, monkeypatch):
    (project := tmp_path / "project").mkdir()
    monkeypatch.setattr(waiting, "PROJECT", project)
    for words in (
        ["init", "-q"],
        ["-c", "user.name=A", "-c", "user.email=a@b.example", "commit", "-q", "--allow-empty", "-m", "First"],
    ):
        subprocess.run(["git", *words], cwd=project, check=True)
    (project / "not committed").touch()
    python = lambda code: (sys.executable, "-c", code)  # noqa: E731
    halves = lambda ended: dict.fromkeys("ab", (ended.end - ended.begun) / 2)  # noqa: E731
    slow = waiting.Wait(python("import time; time.sleep(.2)"), 0.1, halves, (("b", 60, lambda _: {"c": 1.0}),))
    quick = waiting.Wait(python("import os; assert not os.path.exists('not committed')"), 60)
    table = waiting.waited({"slow": slow, "quick": quick}, tmp_path / "profiles.csv")
    assert table["what"].tolist() == ["slow", "b", "quick"]  # a part that is waited for has a row of its own
    assert table["reached"].tolist() == [False, True, True]
    assert table["seconds"][0] >= 0.2
    made = pd.read_csv(tmp_path / "profiles.csv").to_numpy().tolist()
    assert made == [["slow", "a", 0.5], ["slow", "b", 0.5], ["b", "c", 1.0]]
    for code in ("raise SystemExit(1)", "open('left behind', 'w')"):
        with pytest.raises(RuntimeError, match="must succeed and change no file"):
            waiting.waited({"bad": waiting.Wait(python(code), 60)}, tmp_path / "profiles.csv")


def test_the_time_of_a_book_is_told_by_stage_and_experiment_and_each_job_once(tmp_path):
    run = "python -m jobs notebook runs/a.yml world {} step0 x"
    jobs = (("notebook", run.format("probing"), 0, 3), ("notebook", run.format("probing"), 3, 5), ("book", "jobs book .", 5, 9))
    (folder := tmp_path / ".snakemake" / "metadata" / "@long").mkdir(parents=True)
    for number, (rule, command, begun, end) in enumerate((*jobs, jobs[0])):  # a job with two outputs has two records
        (folder / str(number)).write_text(json.dumps({"rule": rule, "shellcmd": command, "starttime": begun, "endtime": end}))
    assert waiting.by_stage(waiting.Ended(tmp_path, 0.0, 9.0, "")) == {"notebooks: probing": 5, "book": 4}


def test_the_time_of_tests_is_told_by_module(tmp_path):
    case = '<testcase classname="{}" name="n" time="{}"/>'
    cases = ("tests.book.test_a.TestX", 2), ("tests.book.test_a", 3), ("tests.test_b", 1)
    (tmp_path / "junit.xml").write_text(f"<testsuite>{''.join(case.format(*each) for each in cases)}</testsuite>")
    (clone := tmp_path / "clone").mkdir()
    assert waiting.by_module(waiting.Ended(clone, 0.0, 1.0, "")) == {"tests.book.test_a": 5.0, "tests.test_b": 1.0}


def test_the_time_of_ci_is_told_by_step(tmp_path):
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "run").write_text((PROJECT / ".ci" / "run").read_text())
    install = "\tsleep .4\n\tmkdir .venv\n\ttouch $@\n"
    (tmp_path / "Makefile").write_text(f"check: .venv/.ready\n\tsleep .2\ntest:\n\tsleep .1\n.venv/.ready:\n{install}")
    begun = time.time()
    done = subprocess.run(waiting.WAITS[".ci/run"].command, cwd=tmp_path, capture_output=True, text=True, check=True)
    spent = waiting.by_step(waiting.Ended(tmp_path, begun, end := time.time(), done.stderr))
    assert spent["installation"] > 0.4
    assert spent["check of style"] > 0.19
    assert spent["make test"] > 0.1
    assert sum(spent.values()) == pytest.approx(end - begun)


def test_what_is_installed_is_what_the_project_asks_for_with_what_that_brings():
    table = installed.table().set_index("package")
    own, all_of_it = table.iloc[:-1], table.iloc[-1]
    assert {"torch", "pandas", "jupyter-book", "scikit-learn"} <= set(own.index)
    assert (own["MB"] > 0).all()
    assert (own["serves"].str.len() > 4).all()
    assert own["MB"].sum() + own["brings"].sum() < all_of_it["MB"]  # some of what is brought is brought by two


def test_a_closure_follows_requirements_and_leaves_the_packages_of_the_tests_out():
    asked = ["scikit-learn>=1.6"]
    assert {"scikit-learn", "scipy", "numpy", "joblib", "threadpoolctl"} <= installed.closure(asked)
    assert "joblib" not in installed.closure(asked, without="scikit-learn")
    whole = set(installed.table()["package"])
    assert not {"pytest", "playwright", "ruff", "hypothesis"} & whole
    assert len(installed.closure(["pandas"])) < len(installed.closure(["pandas[excel]", "pytest"]))


def test_a_rerun_changes_the_named_thing_and_nothing_else(tmp_path):
    def files(name):
        copy = tmp_path / name.replace(" ", "-")
        for folder in ("studies", "profiles"):
            shutil.copytree(PROJECT / folder, copy / folder)
        words = reruns.prepare(copy, reruns.CHANGES[name])
        settings = {path.relative_to(copy).as_posix(): yaml.safe_load(path.read_text()) for path in copy.rglob("*.y*ml")}
        return [word for word in words if str(copy) not in word], settings

    plain = files("nothing")
    assert files("kernels of another processor (AVX2)") == plain
    words, settings = files("two threads in a job")
    added = settings.pop("profiles/threads/config.yaml")
    assert settings == plain[1]
    assert {name: added[name] for name in plain[1]["profiles/laptop/config.yaml"]} == plain[1]["profiles/laptop/config.yaml"]
    assert set(words) - set(plain[0]) == {"--profile"}
    words, settings = files("dtype bfloat16")
    study = f"studies/{reruns.STUDY}.yml"
    assert settings[study].pop("dtype") == "bfloat16"
    assert (words, settings) == plain


def test_the_published_reruns_are_those_of_each_change_and_without_one_every_cell_is_equal():
    table = pd.read_csv(PROJECT / "results" / "reruns.csv").set_index("changed")
    assert list(table.index) == list(reruns.CHANGES)
    assert table.loc["nothing", "equal"] == table.loc["nothing", "cells"] > 0
    computed = table[["dtype", "threads", "blas"]].astype(str)
    differ = (computed != computed.loc["nothing"]).to_dict("index")
    assert [[name for name in row if row[name]] for row in differ.values()] == [[], ["blas"], ["threads"], ["dtype"]]
