"""Options that cannot be followed are refused before a run, in a sentence."""

import pytest

from tracing_utils import experiments
from tracing_utils.experiments import notebook

DEFAULTS = {name: option.default for name, option in notebook.options("components").items()}
BAD = {
    "rounds": (0, 6), "draws": (0, 1), "asked": (0,), "weighed": (0,), "outputs": (0,), "share": (0.0, 0.5, -1.0),
    "pair": ([], ["fairness"], ["fairness", "honesty"], ["fairness", "fairness"], ["privacy", "fairness", "toxicity"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_option_is_refused_by_name_and_the_defaults_are_not(name):
    check = experiments.get("components").check
    check(DEFAULTS, None)
    for value in BAD[name]:
        with pytest.raises(ValueError, match=rf"^{name} of components must .*Change it in the study\.$"):
            check(DEFAULTS | {name: value}, None)


def test_more_draws_and_more_statements_cost_more():
    passes = experiments.get("components").passes
    assert passes(DEFAULTS | {"draws": 8}) > passes(DEFAULTS) > passes(DEFAULTS | {"asked": 200}) > 0
