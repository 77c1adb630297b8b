"""Concept sets mean what they say: polarity, groups, splits; how bad tables are refused is in `test_bad_input`."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from tracing_utils.statements.concepts import DIMENSIONS, SETS, Split, available, draw, folds, load, set_name, subset, topical
from tracing_utils.statements.texts import same_text


def torn_groups(split: Split, groups: tuple[str, ...]) -> set[str]:
    """Groups that have members in more than one part."""
    parts = [{groups[i] for i in part} for part in (split.train, split.validation, split.test)]
    return (parts[0] & parts[1]) | (parts[0] & parts[2]) | (parts[1] & parts[2])


def table(rows: int = 24, **columns) -> pd.DataFrame:
    """A good table of two balanced labels."""
    made = {"statement": [f"Crew{i} sang air{i} to moon{i}." for i in range(rows)], "label": [i % 2 for i in range(rows)]}
    return pd.DataFrame(made | columns)


def saved(folder, content: pd.DataFrame | bytes, name: str = "privacy.csv"):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.to_csv(index=False).encode())
    return folder


# Splits


grouped_rows = st.lists(st.tuples(st.integers(0, 14), st.integers(0, 1)), min_size=30, max_size=80).filter(
    lambda rows: len({group for group, _ in rows}) >= 5 and len({label for _, label in rows}) == 2
)


@settings(max_examples=60, deadline=None)
@given(rows=grouped_rows, seed=st.integers(0, 1000))
def test_no_group_is_ever_on_two_sides_of_a_split(make_concepts, rows, seed):
    made = make_concepts([label for _, label in rows], groups=[f"g{group}" for group, _ in rows])
    for split in folds(made, seed):
        assert not torn_groups(split, made.groups)


def unevenness(tested: list[np.ndarray], labels: np.ndarray) -> int:
    """How many statements of a label the fullest part holds more than the emptiest."""
    counts = np.array([np.bincount(labels[part], minlength=2) for part in tested])
    return int((counts.max(0) - counts.min(0)).max())


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_parts_hold_equally_many_of_each_label_up_to_one_group(dimension):
    concepts = load("pocket", dimension)
    largest = max(Counter(concepts.groups).values())
    assert unevenness([split.test for split in folds(concepts, seed=0)], concepts.labels) <= largest
    blocks = np.array_split(np.argsort(concepts.labels, kind="stable"), 5)  # parts of a file sorted by label are not even
    assert unevenness(blocks, concepts.labels) > largest


def test_a_split_by_rows_does_tear_groups_so_the_check_above_can_fail(make_concepts):
    made = make_concepts([0, 1] * 20, groups=[f"g{i // 4}" for i in range(40)])
    train, test = next(iter(KFold(5, shuffle=True, random_state=0).split(made.labels)))
    assert torn_groups(Split(train[8:], train[:8], test), made.groups)


@settings(max_examples=30, deadline=None)
@given(rows=grouped_rows, seed=st.integers(0, 1000))
def test_every_statement_is_tested_once_and_is_in_one_part_of_each_split(make_concepts, rows, seed):
    made = make_concepts([label for _, label in rows], groups=[f"g{group}" for group, _ in rows])
    splits = folds(made, seed)
    assert sorted(np.concatenate([split.test for split in splits])) == list(range(len(made)))
    for split in splits:
        whole = np.concatenate([split.train, split.validation, split.test])
        assert sorted(whole) == list(range(len(made)))


def test_the_same_seed_gives_the_same_folds_and_another_seed_others(make_concepts):
    made = make_concepts([0, 1] * 30, groups=[f"g{i // 2}" for i in range(60)])
    first, again, other = ([s.test.tolist() for s in folds(made, seed)] for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_pairs_keep_every_part_balanced(make_concepts):
    made = make_concepts([0, 1] * 50, groups=[f"g{i // 2}" for i in range(100)])
    for split in folds(made, seed=0):
        assert {made.labels[part].mean() for part in (split.train, split.validation, split.test)} == {0.5}


def test_too_few_groups_for_the_folds_are_refused_with_their_number(make_concepts):
    made = make_concepts([0, 1] * 10, groups=[f"g{i // 5}" for i in range(20)])
    with pytest.raises(ValueError, match=r"5 folds need at least 5 groups; made-up/reliability has 4\."):
        folds(made, seed=0)


def test_too_few_statements_for_the_folds_are_refused_with_their_number(make_concepts):
    assert len(folds(make_concepts([0] * 5 + [1], groups=[*"abcdef"]), seed=0)) == 5
    with pytest.raises(ValueError, match=r"5 folds need 5 statements of a label; made-up/reliability has 4 at most\."):
        folds(make_concepts([0, 1] * 4, groups=[*"abcdefgh"]), seed=0)


# Drawing


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 5), min_size=3, max_size=20), n=st.integers(1, 40), seed=st.integers(0, 99))
def test_a_draw_takes_whole_groups_but_for_the_last(make_concepts, sizes, n, seed):
    groups = [f"g{g}" for g, size in enumerate(sizes) for _ in range(size)]
    made = make_concepts([i % 2 for i in range(len(groups))], groups=groups)
    rows = draw(made, n, seed)
    assert len(rows) == len(set(rows.tolist())) == min(n, len(made))
    taken = [made.groups[i] for i in rows]
    broken = [group for group in set(taken) if taken.count(group) < groups.count(group)]
    assert len(broken) <= 1


def test_a_draw_is_decided_by_its_seed_and_does_not_favour_the_beginning(make_concepts):
    made = make_concepts([0, 1] * 100)
    assert np.array_equal(draw(made, 20, seed=1), draw(made, 20, seed=1))
    assert not np.array_equal(draw(made, 20, seed=1), draw(made, 20, seed=2))
    means = [draw(made, 20, seed).mean() for seed in range(40)]
    assert abs(np.mean(means) - 99.5) < 10  # the first 20 rows have a mean of 9.5


def test_a_subset_keeps_statement_label_and_group_together(make_concepts):
    made = make_concepts([0, 1, 1, 0, 1], groups=["a", "b", "c", "d", "e"])
    part = subset(made, np.array([4, 1, 0]))
    assert part.statements == ("Statement number 4.", "Statement number 1.", "Statement number 0.")
    assert part.labels.tolist() == [1, 1, 0]
    assert part.groups == ("e", "b", "a")


@pytest.mark.parametrize("change", ["statements", "labels", "groups"])
def test_the_hash_changes_with_whatever_changes_results(make_concepts, change):
    content = {"labels": [0, 1, 0, 1], "statements": list("abcd"), "groups": list("wxyz")}
    other = content | {change: [1, 0, 0, 1] if change == "labels" else ["q", *content[change][1:]]}
    assert make_concepts(**content).sha256 == make_concepts(**content).sha256
    assert make_concepts(**content).sha256 != make_concepts(**other).sha256


# Tables of one's own


def test_a_table_of_ones_own_is_read_as_it_stands(tmp_path):
    folder = saved(tmp_path / "mine", table(group=[f"g{i // 2}" for i in range(24)], category=["k"] * 24))
    read = load(str(folder), "privacy")
    assert (read.name, read.dimension, len(read)) == ("mine", "privacy", 24)
    assert read.labels.tolist() == [0, 1] * 12
    assert read.groups[:3] == ("g0", "g0", "g1")
    assert set(read.categories) == {"k"}


def test_without_a_group_column_each_row_is_a_group(tmp_path):
    assert len(set(load(str(saved(tmp_path / "mine", table())), "privacy").groups)) == 24


def test_a_byte_order_mark_of_a_spreadsheet_is_not_part_of_a_column_name(tmp_path):
    data = b"\xef\xbb\xbf" + table().to_csv(index=False).encode()
    assert len(load(str(saved(tmp_path / "mine", data)), "privacy")) == 24


def test_a_statement_may_hold_commas_quotes_line_ends_and_the_word_na(tmp_path):
    texts = ['She said, "no".', "Two\nlines.", "NA", "nan", *(f"Text {i}." for i in range(20))]
    read = load(str(saved(tmp_path / "mine", table(statement=texts))), "privacy")
    assert read.statements == tuple(texts)


def test_the_smallest_table_is_not_refused(tmp_path):
    assert len(load(str(saved(tmp_path / "mine", table(rows=20))), "privacy")) == 20


def test_a_misspelt_dimension_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'fairness'"):
        load("pocket", "fairnes")


def test_a_missing_file_is_answered_with_those_that_are_there(tmp_path):
    with pytest.raises(ValueError, match=r"toxicity\.csv.*privacy\.csv"):
        load(str(saved(tmp_path / "mine", table())), "toxicity")


def test_a_folder_or_file_is_filed_under_its_own_name_and_never_under_that_of_a_known_set(tmp_path):
    assert set_name(str(saved(tmp_path / "mine", table()))) == "mine"
    assert set_name(str(saved(tmp_path / "more", table(), "hospital-privacy.csv") / "hospital-privacy.csv")) == "hospital-privacy"
    assert set_name("corrected") == "corrected"
    for name in SETS:
        with pytest.raises(ValueError, match=rf"must have a name of their own; .* would be filed as {name}\. Rename it\."):
            set_name(str(saved(tmp_path / name, table())))


@pytest.mark.parametrize("name", ["privacy.csv", "hospital-privacy.csv", "hospital_privacy.csv"])
def test_a_single_file_is_a_set_of_the_dimension_it_is_named_after(tmp_path, name):
    file = str(saved(tmp_path / "mine", table(), name) / name)
    assert available(file) == ("privacy",)
    assert len(load(file, "privacy")) == 24
    with pytest.raises(ValueError, match=rf"toxicity\.csv.*{name}"):
        load(file, "toxicity")


def test_a_file_whose_name_tells_no_dimension_is_refused_with_what_to_do(tmp_path):
    file = saved(tmp_path / "mine", table(), "statements.csv") / "statements.csv"
    with pytest.raises(ValueError, match=r"must be named after its dimension .*; statements\.csv is not\. Rename it\."):
        available(str(file))
    with pytest.raises(ValueError, match="Unknown concept set"):
        available(str(saved(tmp_path / "mine", table(), "privacy.txt") / "privacy.txt"))


def test_the_dimensions_of_a_folder_are_those_it_has_files_for_in_the_paper_s_order(tmp_path):
    folder = saved(saved(tmp_path / "mine", table(), "robustness.csv"), table(), "privacy.csv")
    assert available(str(folder)) == ("privacy", "robustness")
    assert available("pocket") == DIMENSIONS
    (tmp_path / "bare").mkdir()
    with pytest.raises(ValueError, match=r"must hold one or more of reliability\.csv.*bare holds none\."):
        available(str(tmp_path / "bare"))


@pytest.mark.parametrize("name", ["toxcity.csv", "mine-toxicity.csv", "Toxicity.xlsx"])
def test_a_file_that_is_named_nearly_as_a_dimension_is_told(tmp_path, name):
    folder = saved(saved(tmp_path / "mine", table(), "privacy.csv"), table(), "notes.csv")
    (folder / "privacy.md").write_text("What it is about.")
    assert available(str(folder)) == ("privacy",)
    saved(folder, table(), name)
    with pytest.warns(UserWarning, match=rf"{name} is not read\. If it holds statements, call it toxicity\.csv"):
        assert available(str(folder)) == ("privacy",)


@pytest.mark.parametrize("name", ["privacy.CSV", "privacy.tsv", "Privacy.TSV", "mine_PRIVACY.csv"])
def test_a_table_is_found_by_its_name_in_capitals_too_and_below_a_home(tmp_path, monkeypatch, name):
    written = table().to_csv(index=False, sep="\t" if name.lower().endswith("tsv") else ",").encode()
    saved(tmp_path / "mine", written, name)
    monkeypatch.setenv("HOME", str(tmp_path))
    for source in ("~/mine" if name.lower().startswith("privacy") else f"~/mine/{name}", f"$HOME/mine/{name}"):
        assert available(source) == ("privacy",)
        assert len(load(source, "privacy")) == 24
    with pytest.raises(ValueError, match="Unknown concept set '~nobody-here/mine'"):
        set_name("~nobody-here/mine")


# Known sets


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_every_known_set_tells_where_it_comes_from_and_under_what_licence(corrected, tracingllm, dimension):
    having = [name for name in SETS if dimension in available(name)]
    read = [load(name, dimension) for name in having]
    assert [one.name for one in read] == having
    assert len({one.source for one in read}) == 4
    assert all(one.licence and len(one.groups) == len(one.categories) == len(one.labels) == len(one) for one in read)
    assert {int(label) for one in read for label in one.labels} == {0, 1}


@pytest.mark.parametrize(("name", "dimension"), [(name, dimension) for name in SETS for dimension in available(name)])
def test_no_split_of_a_known_set_tears_a_group_or_parts_equal_texts(corrected, name, dimension):
    read = load(name, dimension)
    texts = tuple(same_text(read.statements))
    for split in folds(read, seed=0):
        assert not torn_groups(split, read.groups)
        assert not torn_groups(split, texts)
        assert all(len(set(read.labels[part].tolist())) == 2 for part in (split.train, split.validation, split.test))


@pytest.mark.parametrize("source", ["pocket", "corrected"])
def test_the_unrelated_sentences_stand_in_the_groups_of_the_pairs_they_belong_to(corrected, source):
    fairness, asked = load(source, "fairness"), topical(source)
    categories = np.array(asked.categories)
    assert np.array_equal(asked.labels, (categories != "unrelated").astype(int))
    assert set(asked.groups) == set(fairness.groups)
    sides = dict(zip(fairness.statements, fairness.labels.tolist(), strict=True))
    for kind, label in (("stereotype", 0), ("anti-stereotype", 1)):
        assert {sides[asked.statements[i]] for i in np.flatnonzero(categories == kind)} == {label}
    assert not {asked.statements[i] for i in np.flatnonzero(categories == "unrelated")} & set(fairness.statements)


def test_a_set_without_unrelated_sentences_says_which_have_them():
    with pytest.raises(ValueError, match="Unknown set with unrelated sentences 'tracingllm'; known: pocket, corrected"):
        topical("tracingllm")


@pytest.mark.parametrize("source", ["pocket", "corrected"])
def test_a_robustness_set_knows_the_sentiment_of_its_sentences_and_a_subset_keeps_it(corrected, source):
    read = load(source, "robustness")
    part = subset(read, np.array([5, 0]))
    assert part.sentiment.tolist() == [read.sentiment[5], read.sentiment[0]]
    assert 0.4 < read.sentiment.mean() < 0.6
    other = replace(read, sentiment=1 - read.sentiment)
    assert other.sha256 != read.sha256
    assert load(source, "privacy").sentiment is None
