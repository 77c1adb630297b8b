"""Revisions are kept as they are named, ordered by what the name says, and chosen evenly over the logarithm."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracing_utils import suites
from tracing_utils.suites import Checkpoint, load, parse_revision, select


@pytest.mark.parametrize(
    ("name", "stage", "step", "tokens"),
    [
        ("step0", 1, 0, None),  # Pythia
        ("step143000", 1, 143000, None),
        ("ckpt_000", 1, 0, None),  # Amber
        ("ckpt_356", 1, 356, None),
        ("step1000-tokens4B", 1, 1000, 4 * 10**9),  # OLMo
        ("stage1-step1000-tokens3B", 1, 1000, 3 * 10**9),  # OLMo-2
        ("stage2-ingredient1-step500-tokens5B", 2, 500, 5 * 10**9),
        ("step-480k-token-1007B", 1, 480_000, 1007 * 10**9),  # TinyLlama
        ("step-40000", 1, 40_000, None),  # SmolLM2
        ("global_step1000", 1, 1000, None),  # BLOOM
        ("checkpoint-400", 1, 400, None),  # CRFM
        ("iter_0005000", 1, 5000, None),
    ],
)
def test_the_names_of_public_suites_tell_stage_step_and_tokens(name, stage, step, tokens):
    assert parse_revision(name) == (stage, step, tokens)


@pytest.mark.parametrize("name", ["main", "chat", "tokenizer", "step", "step1.part", "my-step10", "step10-final", ""])
def test_a_name_that_tells_no_step_is_no_revision(name):
    assert parse_revision(name) is None


@settings(max_examples=50, deadline=None)
@given(step=st.integers(0, 10**7), billions=st.integers(1, 20_000), stage=st.integers(1, 9))
def test_what_is_written_into_a_name_is_read_out_of_it(step, billions, stage):
    assert parse_revision(f"stage{stage}-step{step}-tokens{billions}B") == (stage, step, billions * 10**9)


def test_a_folder_of_checkpoints_is_read_in_the_order_of_training(suite_folder):
    suite = load(str(suite_folder))
    assert suite.name == "tiny"
    assert [c.revision for c in suite.checkpoints] == ["step0", "step1", "step2", "step8", "step64"]
    assert sorted(["step64", "step8"]) == ["step64", "step8"]  # an order by letters would be another
    assert {c.tokenizer for c in suite.checkpoints} == {suite_folder / "tokenizer"}
    assert suite["step8"].folder == suite_folder / "step8"


def test_steps_are_ordered_as_numbers_and_stages_before_steps(tmp_path):
    names = ["stage2-step5-tokens1B", "stage1-step100-tokens9B", "stage1-step20-tokens2B"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").touch()
    assert [c.revision for c in load(str(tmp_path)).checkpoints] == names[::-1]
    assert sorted(names) != names[::-1]  # an order by letters would be another


def test_the_chat_model_lies_outside_the_run(suite_folder):
    suite = load(str(suite_folder))
    assert (suite.chat.revision, suite.chat.step) == ("chat", -1)
    assert suite["chat"] is suite.chat
    assert suite.chat not in suite.checkpoints


def test_folders_without_a_model_and_unfinished_ones_are_no_checkpoints(suite_folder, tmp_path):
    shutil.copytree(suite_folder, copy := tmp_path / "tiny")
    (copy / "step3").mkdir()
    (copy / "step64").rename(copy / "step64.part")
    shutil.rmtree(copy / "chat")
    suite = load(str(copy))
    assert [c.revision for c in suite.checkpoints] == ["step0", "step1", "step2", "step8"]
    assert suite.chat is None


def test_without_a_tokenizer_folder_the_last_revision_has_the_tokenizer(suite_folder, tmp_path):
    shutil.copytree(suite_folder, copy := tmp_path / "tiny")
    shutil.rmtree(copy / "tokenizer")
    assert load(str(copy))["step0"].tokenizer == copy / "step64"


def test_the_bundled_suite_counts_the_tokens_its_steps_have_seen():
    suite = load("pocket")
    assert suite["step0"].tokens == 0
    assert suite["step512"].tokens == 512 * 32 * 128
    assert "pocket" in suites.known()


def test_a_misspelt_suite_or_revision_is_answered_with_the_nearest(suite_folder):
    with pytest.raises(ValueError, match=r"Unknown suite 'poket'.*Did you mean 'pocket'\?"):
        load("poket")
    with pytest.raises(ValueError, match=r"Unknown revision of suite tiny 'step46'.*Did you mean 'step64'\?"):
        load(str(suite_folder))["step46"]


def test_a_folder_without_checkpoints_is_refused_with_what_it_must_hold(tmp_path):
    with pytest.raises(ValueError, match=r"named like step1000, each with a config\.json; .* holds none\."):
        load(str(tmp_path))


def trajectory(steps) -> list[Checkpoint]:
    return [Checkpoint("s", f"step{step}", step, None, Path(), Path()) for step in sorted(steps)]


@settings(max_examples=100, deadline=None)
@given(steps=st.sets(st.integers(0, 200_000), min_size=2, max_size=60), n=st.integers(2, 30))
def test_a_selection_is_ordered_has_both_ends_and_takes_none_twice(steps, n):
    everything = trajectory(steps)
    chosen = select(everything, n)
    assert 2 <= len(chosen) <= n
    assert (chosen[0], chosen[-1]) == (everything[0], everything[-1])
    at = [c.step for c in chosen]
    assert at == sorted(set(at))


def test_a_selection_is_even_in_the_logarithm_and_not_in_the_step():
    chosen = select(trajectory(2**k - 1 for k in range(13)), 7)
    assert [c.step for c in chosen] == [2**k - 1 for k in range(0, 13, 2)]
    distances = np.diff(np.log1p([c.step for c in chosen]))
    assert distances == pytest.approx(np.full(6, distances[0]))


def test_a_selection_tolerates_holes():
    # Wanted are log(1 + step) of 0, 3.8, 7.7, 11.5, that is steps 0, 45, 2153 and 100,000.
    with_hole = trajectory([0, 1, 2, 4, 50_000, 100_000])
    assert [c.step for c in select(with_hole, 4)] == [0, 4, 50_000, 100_000]
    assert [c.step for c in select(trajectory([0, 1, 100_000]), 4)] == [0, 1, 100_000]


def test_one_checkpoint_is_no_trajectory():
    with pytest.raises(ValueError, match="At least 2 checkpoints make a trajectory; 1 were asked for"):
        select(trajectory([0, 1, 2]), 1)
