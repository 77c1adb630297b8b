"""Questions by letters: asked where a tokenizer knows them, in both orders, and no liking for a letter is an answer."""

import numpy as np
import pytest

from tracing_utils.checkpoints import models, suites
from tracing_utils.core.paths import PROJECT
from tracing_utils.experiments.behaviour import choices


def found(rows, method, metric="choice_right"):
    (value,) = [estimate.value for _, m, k, estimate in rows if (m, k) == (method, metric)]
    return value


def test_a_tokenizer_that_does_not_know_the_letters_is_not_asked(tokenizer):
    assert choices.knows_letters(tokenizer)
    for suite, knows in (("pocket", True), ("world-coherent", False)):
        first = suites.load(str(PROJECT / "checkpoints" / suite)).checkpoints[0]
        assert choices.knows_letters(models.load_tokenizer(first)) == knows


def test_both_orders_hold_the_same_words_and_the_letters_change_their_meaning(make_concepts):
    ((yes_first, no_first),) = choices.prompts(make_concepts([1], ["Snow is white."], dimension="reliability"))
    assert yes_first == "Snow is white.\nIs this statement true?\nA. yes\nB. no\nAnswer:"
    assert no_first == "Snow is white.\nIs this statement true?\nA. no\nB. yes\nAnswer:"


def test_letters_are_scored_as_a_model_gives_them(llama, tokenizer, make_concepts):
    concepts = make_concepts([1, 0, 1], dimension="privacy")
    asked, alone = choices.gains(llama, tokenizer, concepts)
    assert asked.shape == (3, 2, 2)
    text = choices.prompts(concepts)[1][1]
    direct, _ = np.zeros(2), llama.eval()
    for at, letter in enumerate("AB"):
        inputs = tokenizer(f"{text} {letter}", return_tensors="pt")["input_ids"]
        direct[at] = llama(inputs).logits[0, -2].log_softmax(0)[inputs[0, -1]].item()
    assert asked[1, 1] == pytest.approx(direct, abs=1e-4)
    assert alone.shape == (2,)


@pytest.mark.parametrize("liking", [3.0, -3.0])
def test_a_model_that_likes_a_letter_answers_nothing(make_concepts, liking):
    labels = np.tile([1, 0], 20)
    concepts = make_concepts(labels)
    generator, alone = np.random.default_rng(0), np.array([liking, 0])
    asked = alone + 0.01 * generator.standard_normal((40, 2, 2))
    rows = list(choices.rows(asked, alone, concepts, labels))
    assert found(rows, "one order, prior kept", "letter_a") == (liking > 0)
    assert found(rows, "one order, prior kept") == 0.5  # the trap: balanced labels make it look like chance, not like a letter
    assert 0.2 < found(rows, "both orders") < 0.8
    knows = asked + 0.1 * np.where(labels == 1, 1, -1)[:, None, None] * np.array([[1, -1], [-1, 1]])
    rows = list(choices.rows(knows, alone, concepts, labels))
    assert found(rows, "both orders") == 1
    assert found(rows, "one order, prior kept") == 0.5  # what it knows is hidden behind the letter
    assert found(rows, "both orders", "choice_margin") == pytest.approx(0.2, abs=0.01)


def test_a_parser_takes_gibberish_for_a_refusal_and_does_not_count_the_undecided(make_concepts):
    takes = {
        " yes": "yes", "A. yes": "yes", "A": "yes", "B) no\n": "no", "No.": "no", "Neutral": "dropped",
        "A woman knows": "refused", "yes or no": "refused", "works works works": "refused", "": "refused",
    }  # fmt: skip
    assert {answer: choices.parsed(answer) for answer in takes} == takes
    labels = np.tile([1, 0], 20)
    concepts = make_concepts(labels)
    said = ["blorb prt"] * 10 + ["neutral"] * 24 + ["yes", "no"] * 3  # three questions in twenty are answered
    rows = list(choices.parsed_rows(said, concepts, labels))
    assert found(rows, "free answers", "refused") == 0.25  # the trap: nothing was refused
    assert found(rows, "free answers", "dropped") == 0.6
    assert found(rows, "free answers", "parsed_right") == 1  # and the rest looks like all
    assert [metric for _, _, metric, _ in choices.parsed_rows(["prt"] * 40, concepts, labels)] == ["refused", "dropped"]


def test_what_a_model_writes_is_parsed_and_a_random_one_is_said_to_refuse(llama, tokenizer, make_concepts):
    labels = np.tile([1, 0], 30)
    rows = list(choices.written(llama, tokenizer, make_concepts(labels, dimension="privacy"), labels))
    assert found(rows, "free answers", "refused") > 0.9
    assert {estimate.n for *_, estimate in rows} == {choices.WRITTEN}
