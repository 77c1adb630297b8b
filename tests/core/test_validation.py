"""A wrong value in a YAML file is one sentence: what must hold, what came, and the nearest name."""

from typing import Annotated

import pytest
from pydantic import AfterValidator, Field

from tracing_utils.core.validation import Count, Counts, Names, Numbers, Switch, Text, Validated, validate


def _even(number: int) -> int:
    if number % 2:
        raise ValueError("must be even; it is odd.")
    return number


class Order(Validated):
    suite: Text
    seeds: Count = 5
    statements: Count | None = None
    layers: Counts = (2, 4)
    multipliers: Numbers = (-4.0, 2.0)
    dimensions: Names = ("privacy",)
    trust: Switch = False
    pairs: Annotated[int, AfterValidator(_even)] = 2
    variables: Annotated[dict, Field(alias="for", description="a mapping")] = {}  # noqa: RUF012 - pydantic copies it


def test_what_is_right_comes_back_in_the_types_of_the_model():
    order = validate(Order, {"suite": "pocket", "multipliers": [2, 0.5], "layers": [0, 4], "for": {"a": 1}}, "mine.yml")
    assert (order.suite, order.seeds, order.multipliers, order.layers) == ("pocket", 5, (2.0, 0.5), (0, 4))
    assert order.variables == {"a": 1}
    with pytest.raises(ValueError, match="frozen"):
        order.seeds = 6


WRONG = {
    "a misspelt key": ({"seed": 3}, "Unknown entry of mine.yml 'seed'; known: suite, seeds", "Did you mean 'seeds'?"),
    "a key that is a number": ({1: 2}, "Unknown entry of mine.yml '1'"),
    "a field's Python name": ({"variables": {}}, "Unknown entry of mine.yml 'variables'", "for."),
    "a missing key, before a wrong value": ({"suite": None, "seeds": "x"}, "mine.yml must name its suite; the entry is missing."),
    "blank text": ({"suite": " "}, "mine.yml: suite must be text, not ' '."),
    "a number for text": ({"suite": 3}, "mine.yml: suite must be text, not 3."),
    "a truth value for a count": ({"seeds": True}, "seeds must be a positive whole number up to 1,000,000,000, not True."),
    "zero for a count": ({"seeds": 0}, "not 0."),
    "a fraction for a count": ({"seeds": 0.5}, "not 0.5."),
    "a count that may be absent": ({"statements": 0}, "statements must be a positive whole number up to 1,000,000,000, not 0."),
    "a number of thousands of digits": ({"seeds": 16**5000}, "not a number of thousands of digits."),
    "no list": ({"layers": 3}, "layers must be a list of whole numbers from 0 to 1,000,000,000, not 3."),
    "an empty list": ({"layers": []}, "not []."),
    "one wrong value in a list": ({"layers": [1, -1]}, "layers must be a list of whole numbers", "not [1, -1]."),
    "no finite number": ({"multipliers": [float("inf")]}, "must be a list of finite numbers up to 1,000,000,000, not [inf]."),
    "a number that no float holds": ({"multipliers": [10**400]}, "must be a list of finite numbers", "..."),
    "text for a list": ({"dimensions": "privacy"}, "dimensions must be a list of names, not 'privacy'."),
    "a name without a letter": ({"dimensions": [" "]}, "dimensions must be a list of names, not [' ']."),
    "a name twice": ({"dimensions": ["a", "a"]}, "mine.yml: dimensions must name each once; 'a' stands twice."),
    "a word for a switch": ({"trust": "yes"}, "trust must be true or false, not 'yes'."),
    "a rule of the model's own": ({"pairs": 3}, "mine.yml: pairs must be even; it is odd."),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_first_mistake_is_one_sentence(case):
    written, *said = WRONG[case]
    values = {key: value for key, value in ({"suite": "pocket"} | written).items() if value is not None}
    with pytest.raises(ValueError) as error:
        validate(Order, values, "mine.yml")
    sentence = str(error.value)
    assert type(error.value) is ValueError
    assert all(part in sentence for part in said), sentence
    assert sentence.endswith((".", "?")) and "\n" not in sentence and len(sentence) < 400


def test_the_owner_of_the_keys_is_named_where_a_file_has_several():
    with pytest.raises(ValueError, match=r"Unknown entry of 'a' in suites.yml 'seed'; known: suite"):
        validate(Order, {"seed": 1}, "suites.yml", "'a'")
    with pytest.raises(ValueError, match=r"suites\.yml: seeds of 'a' must be a positive whole number up to .*, not 'x'"):
        validate(Order, {"suite": "s", "seeds": "x"}, "suites.yml", "'a'")
    with pytest.raises(ValueError, match=r"suites\.yml must name its suite of 'a'; the entry is missing"):
        validate(Order, {}, "suites.yml", "'a'")
