"""A table of statements is read as it stands, in either format; what is doubtful about it is said in one sentence."""

import json
import warnings

import numpy as np

from tracing_utils.statements import user_files
from tracing_utils.statements.user_files import near_duplicates, same_text

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


def test_texts_are_near_by_the_share_of_their_words_and_not_by_order_case_or_spaces():
    base = "one two three four five six seven eight nine ten"
    texts = [
        base,
        "TEN nine eight  seven six five four three two one",  # the same words
        "one two three four five six seven eight x y",  # 8 of 10: cosine .8
        "one two three four five six seven p q r",  # 7 of 10, and 7 of 10 with the one above
    ]
    assert near_duplicates(texts) == ["text 0", "text 0", "text 0", "text 1"]


def test_near_duplicates_found_in_blocks_are_those_found_at_once():
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcdefgh"), 6, replace=False)) for _ in range(1100)]
    sets = [frozenset(text.split()) for text in texts]
    groups = near_duplicates(texts)
    for i, j in rng.integers(0, 1100, (400, 2)):
        if len(sets[i] & sets[j]) >= 5:  # 5 of 6 words: cosine .83
            assert groups[i] == groups[j]
    assert len(set(near_duplicates([f"{text} {i} {-i}" for i, text in enumerate(sorted(set(texts)))]))) > 1


def test_texts_of_marks_alone_are_compared_too():
    assert near_duplicates(["!!!", "???", "!!!"]) == ["text 0", "text 1", "text 0"]


def test_same_text_ignores_case_and_spaces_alone():
    assert same_text(["A  b\n", "a B", "ab", "a b."]) == ["a b", "a b", "ab", "a b."]
