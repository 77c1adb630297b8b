"""A table of statements is read as it stands, in either format; what is doubtful about it is said in one sentence."""

import csv
import io
import json
import warnings

import pytest

from tracing_utils.statements import user_files

WORDS = ("ash", "birch", "cedar", "elm", "fir", "hazel", "larch", "maple", "oak", "pine", "rowan", "spruce", "willow", "yew")


def rows(n: int = 24) -> list[dict]:
    """Statements that share hardly a word, with two balanced labels."""
    return [{"statement": f"{WORDS[i % 14]} {i} {WORDS[i // 14]}{i} stands.", "label": i % 2} for i in range(n)]


def jsonl(made: list) -> bytes:
    return "\n".join(json.dumps(row) if isinstance(row, dict) else row for row in made).encode()


def as_csv(made: list[dict]) -> bytes:
    return ("statement,label\n" + "\n".join(f"{row['statement']},{row['label']}" for row in made)).encode()


def test_a_jsonl_and_a_csv_with_the_same_rows_are_the_same_table():
    left, right = user_files.read_statements(jsonl(rows()), "a.jsonl"), user_files.read_statements(as_csv(rows()), "a.csv")
    assert left.equals(right)
    assert left["label"].tolist() == [0, 1] * 12


def test_empty_lines_of_a_jsonl_are_no_rows_and_labels_may_be_strings():
    made = jsonl([*rows(20), "", json.dumps({"statement": "A late one.", "label": "1", "group": "g", "category": "k"}), ""])
    read = user_files.read_statements(made, "a.jsonl")
    assert len(read) == 21
    assert read.iloc[-1].tolist() == ["A late one.", 1, "g", "k"]


def warned(data: bytes, file: str = "a.jsonl") -> list[str]:
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        user_files.read_statements(data, file)
    return [str(warning.message) for warning in raised]


def test_a_good_table_raises_no_warning():
    assert warned(jsonl(rows())) == []


def test_a_strong_imbalance_is_warned_about_and_a_weak_one_is_not():
    few, many = ([row | {"label": int(i < ones)} for i, row in enumerate(rows(40))] for ones in (7, 8))
    assert warned(jsonl(many)) == []
    (said,) = warned(jsonl(few))
    assert "only 18% of the statements have the rarer label" in said


def test_near_duplicates_are_warned_about_unless_groups_bind_what_belongs_together():
    twin = {"statement": "The old grey mill by the river has a new wheel.", "label": 1}
    pair = [twin, twin | {"statement": "The old grey mill by the river has a new roof.", "label": 0}]
    (said,) = warned(jsonl([*rows(), *pair]))
    assert said.startswith("a.jsonl: it has no groups, and 1 statements nearly repeat another one")
    assert warned(jsonl([*rows(), *(row | {"group": "mill"} for row in pair)])) == []


TOLD_OF_GROUPS = {
    "cells that a spreadsheet merged": (
        lambda i: {"group": i // 2 if i % 2 == 0 else ""},
        "12 of 24 rows have no group, the first",
    ),
    "a group for the few that need one": (lambda i: {"group": "mill" if i < 2 else ""}, ""),
    "a column of nearly that name": (lambda i: {"Group ID": i // 2}, "the column 'Group ID' is not read"),
    "that column beside the right one": (lambda i: {"groups": i, "group": i // 2}, ""),
    "another column": (lambda i: {"source": "mine"}, ""),
}


@pytest.mark.parametrize("case", TOLD_OF_GROUPS)
def test_groups_that_bind_less_than_was_meant_are_told(case):
    more, said = TOLD_OF_GROUPS[case]
    told = warned(jsonl([row | more(i) for i, row in enumerate(rows())]))
    assert said in "".join(told) and len(told) == bool(said)


def test_a_copy_in_another_group_is_told_and_so_are_near_ones_where_each_row_is_a_group():
    apart = [row | {"group": i // 2} for i, row in enumerate([*rows(), rows()[3]])]
    (said,) = warned(jsonl(apart))
    assert "1 statements stand in more than one group" in said
    assert warned(jsonl([*apart[:-1], apart[3]])) == []
    near = [{"statement": f"The old grey mill by the river has {i} wheels.", "label": i % 2, "group": i} for i in range(24)]
    (said,) = warned(jsonl(near))
    assert "its groups bind nothing, and 23 statements nearly repeat" in said


def grouped(*groups: object) -> list[str]:
    """The groups that come of these, on the first rows of a JSONL."""
    made = rows()
    for row, group in zip(made, groups, strict=False):
        row["group"] = group
    return user_files.read_statements(jsonl(made), "a.jsonl")["group"].tolist()[: len(groups)]


def test_a_false_value_is_a_group_and_what_is_missing_is_none():
    assert grouped(0, 0, 0.0, False, "0") == ["0", "0", "0", "False", "0"]
    assert len(set(grouped(None, float("nan"), float("nan"), "", " "))) == 5  # each text is its own
    assert grouped("NA", "NA", "nan", "null", "None") == ["NA", "NA", "nan", "null", "None"]
    assert grouped("caf\u00e9", "cafe\u0301 ", "cafe") == ["caf\u00e9", "caf\u00e9", "cafe"]


@pytest.mark.parametrize(
    "zero, one",
    [("0", "1"), ("0.0", "1.0"), ("False", "True"), ("FALSE", "TRUE"), ("false ", " true"), ("0.", "1.00"), ("0,0", "1,00")],
)
def test_labels_may_be_written_as_other_programs_write_them(zero, one):
    written = as_csv([row | {"label": '"' + (zero, one)[row["label"]] + '"'} for row in rows()])
    assert user_files.read_statements(written, "a.csv")["label"].tolist() == [0, 1] * 12
    numbers = jsonl([row | {"label": (float, bool)[i % 3 == 0](row["label"])} for i, row in enumerate(rows())])
    assert user_files.read_statements(numbers, "a.jsonl")["label"].tolist() == [0, 1] * 12


@pytest.mark.parametrize("file, separator", [("a.tsv", "\t"), ("A.TSV", "\t"), ("A.CSV", ",")])
def test_tabs_part_the_columns_of_a_tsv_and_capitals_of_the_suffix_do_not_matter(file, separator):
    texts = [row["statement"].replace(" stands", ("," if separator == "\t" else ";") + " stands") for row in rows()]
    written = "".join(f"{text}{separator}{i % 2}\n" for i, text in enumerate(texts))
    read = user_files.read_statements(f"statement{separator}label\n{written}".encode(), file)
    assert read["statement"].tolist() == texts


@pytest.mark.parametrize(
    "header", ["Statement,LABEL", " statement , label ", '"Statement "," Label"', "\ufeffstatement,\u00a0label"]
)
def test_columns_may_be_named_in_capitals_and_with_spaces_around(header):
    made = [row | {"group": i // 2} for i, row in enumerate(rows())]
    plain = as_csv(rows()).decode().partition("\n")[2]
    assert user_files.read_statements(f"{header}\n{plain}".encode(), "a.csv")["label"].tolist() == [0, 1] * 12
    named = jsonl([{name.title(): value for name, value in row.items()} for row in made])
    assert user_files.read_statements(named, "a.jsonl").equals(user_files.read_statements(jsonl(made), "a.jsonl"))
    for double in ("Statement,statement,label", "statement,label,Label "):
        with pytest.raises(ValueError, match=r"must have each column once; '(statement|label)' stands twice"):
            user_files.read_statements(f"{double}\n".encode(), "a.csv")
    kept = user_files.read_statements(f"{header},ID,id\n{plain}".encode(), "a.csv")  # which nobody reads
    assert len(kept) == 24


@pytest.mark.parametrize("first", ["sep=;\n", "SEP=;\r\n", '"sep=;"\n', "sep=;;\n", "\ufeffsep=;\n"])
def test_the_first_line_of_a_spreadsheet_says_what_parts_its_columns_and_is_no_row(first):
    table = "\n".join(["statement;label", *(f"{row['statement']};{row['label']}" for row in rows())])
    read = user_files.read_statements((first + table).encode(), "a.csv")
    assert read.equals(user_files.read_statements(as_csv(rows()), "a.csv"))
    with pytest.raises(ValueError, match=r"row 26: a label must be 0 or 1"):
        user_files.read_statements(f"{first}{table}\nA late one.;7\n".encode(), "a.csv")
    with pytest.raises(ValueError, match=r"row 26: it has more fields .* put a statement with semicolons in quotes"):
        user_files.read_statements(f"{first}{table}\nOne; two.;1\n".encode(), "a.csv")
    with pytest.raises(ValueError, match=r"must have commas between its columns; it has semicolons"):
        user_files.read_statements(table.encode(), "a.csv")  # where nothing tells


QUOTED = {
    "a quote at the begin": ['"Yes," he said.', 'She said "no" to him.'],
    "a quote that a later row closes": ['"Yes, he said', 'no"'],
    "one that is never closed": ['"Yes, he said.', "No."],
}


@pytest.mark.parametrize("case", QUOTED)
def test_quotes_in_a_table_with_tabs_may_be_signs_of_the_text(case):
    made = [*({"statement": text, "label": i} for i, text in enumerate(QUOTED[case])), *rows()]
    written = "statement\tlabel\n" + "".join(f"{row['statement']}\t{row['label']}\n" for row in made)
    assert user_files.read_statements(written.encode(), "a.tsv")["statement"].tolist() == [row["statement"] for row in made]


def test_quotes_in_a_table_with_tabs_that_a_spreadsheet_wrote_are_no_text():
    texts = ['He said "no", and left.', "Two\nlines stand here.", "Here\tis a tab."]
    written = io.StringIO(newline="")
    table = csv.writer(written, delimiter="\t")
    table.writerows(
        [("statement", "label"), *((text, 1) for text in texts), *((row["statement"], row["label"]) for row in rows())]
    )
    assert '"He said ""no""' in written.getvalue()
    assert user_files.read_statements(written.getvalue().encode(), "a.tsv")["statement"].tolist()[:3] == texts


def test_a_row_with_quotes_that_no_table_has_is_named():
    bad = as_csv(rows()).decode() + '\n"Yes," he said.,1\n'
    with pytest.raises(ValueError, match=r"a\.csv must be a CSV table .* row 26 could not be read: .* those inside it doubled\."):
        user_files.read_statements(bad.encode(), "a.csv")


def test_empty_rows_are_none_and_count_where_a_spreadsheet_counts_them():
    good = as_csv(rows()).decode()
    spread = "\n" + good.replace("label\n", "label,\n\n,,\n") + "\n,\n,,,\n"
    assert user_files.read_statements(spread.encode(), "a.csv").equals(user_files.read_statements(good.encode(), "a.csv"))
    for content, row in ((good, 26), (spread, 31), (good.replace("ash 0 ash0 stands.", '"Two\nlines."'), 26)):
        with pytest.raises(ValueError, match=rf"a\.csv, row {row}: a label must be 0 or 1"):
            user_files.read_statements((content.rstrip("\n") + "\nA late one.,7\n").encode(), "a.csv")


@pytest.mark.parametrize("sign", ["\n", " ", "\u00a0", "\u3000", "\u200b", "\ufeff"])
@pytest.mark.parametrize("first", [False, True])
def test_a_sign_at_an_end_that_nobody_sees_is_told_with_the_labels_it_stands_at(sign, first):
    made = [
        row | {"statement": sign * (first * row["label"]) + row["statement"] + sign * (row["label"] > first)} for row in rows()
    ]
    (said,) = warned(jsonl(made))
    assert "12 statements begin or end with white space or a sign that is not seen (0 of 12 with label 0, 12 of 12 with" in said
    assert warned(jsonl([row | {"statement": row["statement"].replace(" ", sign)} for row in rows()])) == []  # inside


COMPATIBLE = {"full width": ("\uff21\uff22\uff23 is here.", "ABC is here."), "a joined sign": ("A \ufb01ne day.", "A fine day.")}
COMPATIBLE |= {
    f"a sign not seen, {ord(sign):x}": (f"A fi{sign}ne day.", "A fine day.") for sign in "\u200b\u00ad\u200f\u2060\ufe0f"
}


@pytest.mark.parametrize("case", COMPATIBLE)
def test_twins_that_differ_in_how_signs_are_written_are_told_where_labels_differ_and_one_group_where_not(case):
    one, other = COMPATIBLE[case]
    opposite = [{"statement": one, "label": 1}, {"statement": other, "label": 0}]
    grouped = [row | {"group": f"g{i // 2}"} for i, row in enumerate([*rows(), *opposite])]
    (said,) = warned(jsonl(grouped))
    assert "1 statements differ from one with the other label in the way their signs are written alone" in said
    assert repr(one) in said and repr(other) in said
    with pytest.warns(UserWarning, match="1 statements nearly repeat another one"):
        alike = user_files.read_statements(jsonl([*rows(), opposite[0], opposite[1] | {"label": 1}]), "a.jsonl")
    assert alike["group"].nunique() == 25
    assert warned(jsonl([*grouped[:-1], {"statement": "Another end.", "label": 0, "group": "g"}])) == []


def test_signs_that_mean_something_else_may_have_the_other_label():
    """5\u00b2 is 25, and 52 is not: such twins are told and not refused."""
    made = [{"statement": "5\u00b2 is 25.", "label": 1}, {"statement": "52 is 25.", "label": 0}]
    assert any("signs are written alone" in said for said in warned(jsonl([*rows(), *made])))


def test_one_text_in_two_normal_forms_has_one_label():
    twins = [{"statement": "The caf\u00e9 is open.", "label": 1}, {"statement": "The cafe\u0301 is open.", "label": 0}]
    with pytest.raises(ValueError, match=r"row 26: a statement must have one label"):
        user_files.read_statements(jsonl([*rows(), *twins]), "a.jsonl")
    user_files.read_statements(jsonl([*rows(), twins[0], {"statement": "A cafe was closed.", "label": 0}]), "a.jsonl")
    with pytest.warns(UserWarning, match="1 statements nearly repeat another one"):
        same = user_files.read_statements(jsonl([*rows(), twins[0], twins[1] | {"label": 1}]), "a.jsonl")
    assert same["group"].nunique() == 25
