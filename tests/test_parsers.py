"""Any bytes are parsed, or refused in one sentence: never another exception, never a hang."""

import re

import pytest
from fuzz.targets import TARGETS
from huggingface_hub import constants
from hypothesis import given, settings
from hypothesis import strategies as st

from tracing_utils.core.paths import PROJECT


def files_like(target) -> st.SearchStrategy[bytes]:
    """Bytes of every kind, texts of the words such files are made of, and good files in which a part is another."""
    word = st.sampled_from(target.words) | st.text(max_size=5)
    made = st.lists(word, max_size=25).map(lambda words: "".join(words).encode(errors="surrogatepass"))
    cuts = st.tuples(st.sampled_from(target.seeds), st.integers(0, 400), st.integers(0, 30), st.binary(max_size=8) | made)
    return st.binary(max_size=200) | made | cuts.map(lambda cut: cut[0][: cut[1]] + cut[3] + cut[0][cut[1] + cut[2] :])


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    """A study may name one."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_parsed_or_refused_in_one_sentence(name):
    target = TARGETS[name]

    @settings(max_examples=60, deadline=None)
    @given(files_like(target))
    def run(data):
        target(data)

    run()


@pytest.mark.parametrize("name", TARGETS)
def test_a_good_file_is_parsed_so_the_check_above_does_not_refuse_all(name):
    assert TARGETS[name](TARGETS[name].seeds[0])


def test_make_fuzz_knows_every_parser():
    (named,) = re.findall(r"^PARSERS \?= (.*)$", (PROJECT / "Makefile").read_text(), flags=re.M)
    assert set(named.split()) == set(TARGETS)
