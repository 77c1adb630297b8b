"""Revisions are kept as they are named, ordered by what the name says, and chosen evenly over the logarithm."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracing_utils.__main__ import main
from tracing_utils.checkpoints import ledger, suites, timeline
from tracing_utils.checkpoints.suites import load, select
from tracing_utils.checkpoints.types import (
    Checkpoint,
    CheckpointSuite,
    parse_revision,
    tokenizer_names,
    tokens_seen,
    weight_names,
)
from tracing_utils.core.paths import PROJECT


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
        ("iter_0005000", 1, 5000, None),  # OpenEuroLLM
        ("stage2-step1000", 2, 1000, None),  # Olmo-3
        ("stage1-step-40000", 1, 40_000, None),  # SmolLM3
        ("step1194000-tokens5014B", 1, 1_194_000, 5014 * 10**9),  # Apertus
        ("CrystalCoder_phase1_checkpoint_055500", 1, 55_500, None),
        ("CrystalCoder_phase2_checkpoint_214387", 2, 214_387, None),
        ("checkpoint_0047684", 1, 47_684, None),  # HPLT
        ("train_02420B", 1, 2420, 2420 * 10**9),  # Baichuan 2
        ("step0753851", 1, 753_851, None),  # Lucie
        ("extension_step0001220", 2, 1220, None),
        ("pretrain_iter_0373000", 1, 373_000, None),  # OpenCoder
        ("anneal_iter_0010000", 2, 10_000, None),
        ("step-001000-2BT", 1, 1000, 2 * 10**9),  # FineWeb
        ("step1250-seed-default", 1, 1250, None),  # DataDecide
        ("step-024000_tokens-0100B-phase1", 1, 24_000, 100 * 10**9),  # Gaperon
        ("step_1000", 1, 1000, None),  # what people write themselves
        ("step=1000", 1, 1000, None),
        ("global_step_1000", 1, 1000, None),
        ("checkpoint-step-1000", 1, 1000, None),
        ("ckpt-1000", 1, 1000, None),
        ("checkpoint1000", 1, 1000, None),
        ("iter-0001000", 1, 1000, None),
        ("001000", 1, 1000, None),
        ("epoch=3-step=1000.ckpt", 1, 1000, None),  # Lightning
        ("epoch=3-step=1000", 1, 1000, None),
        ("epoch=03-step=1000-val_loss=1.25.ckpt", 1, 1000, None),
        ("epoch=3-step=1000-v1.ckpt", 1, 1000, None),
        ("epoch_3_step_1000", 1, 1000, None),
        ("epoch=3-val_loss=0.25-step=1000.ckpt", 1, 1000, None),
        ("Step_1000", 1, 1000, None),
        ("Checkpoint-1000", 1, 1000, None),
        ("train_step_1000", 1, 1000, None),
    ],
)
def test_the_names_of_public_suites_tell_stage_step_and_tokens(name, stage, step, tokens):
    assert parse_revision(name) == (stage, step, tokens)


@pytest.mark.parametrize(
    "name",
    [
        "main", "chat", "tokenizer", "step", "step1.part", "my-step10", "step10-final", "lc-40000", "",
        "epoch=3.ckpt", "epoch3", "last.ckpt", "1.5", "v2", "10k", "step-1e3", "run2-1000",
    ],
)  # fmt: skip
def test_a_name_that_tells_no_step_is_no_revision(name):
    assert parse_revision(name) is None


@settings(max_examples=50, deadline=None)
@given(step=st.integers(0, 10**7), billions=st.integers(1, 20_000), stage=st.integers(1, 9))
def test_what_is_written_into_a_name_is_read_out_of_it(step, billions, stage):
    assert parse_revision(f"stage{stage}-step{step}-tokens{billions}B") == (stage, step, billions * 10**9)


# Revisions as their repositories name them, in the order of training, and one that the suite leaves out.
REVISIONS = {
    "amber": (["ckpt_000", "ckpt_005", "ckpt_358"], "main"),
    "crystal-coder": (["CrystalCoder_phase1_checkpoint_055500", "CrystalCoder_phase2_checkpoint_214387"], "main"),
    "pythia-70m": (["step0", "step1", "step512", "step143000"], "main"),
    "pythia-410m-seed9": (["step0", "step1000"], "main"),
    "olmo-1b": (["step20000-tokens84B"], "main"),
    "olmo-7b-0724": (["step556000-tokens2460B"], "main"),
    "olmo-2-1b": (["stage1-step10000-tokens21B", "stage1-step1907359-tokens4001B"], "stage2-ingredient1-step23852-tokens51B"),
    "olmo-2-1b-early": (["stage1-step0-tokens0B", "stage1-step1000-tokens3B"], "main"),
    "olmo-3-7b": (["stage1-step0", "stage1-step1413814"], "stage2-step1000"),
    "smollm2-135m": (["step-240000", "step-480000"], "main"),
    "smollm3": (["stage1-step-40000", "stage2-step-40000"], "it-SFT"),
    "apertus-8b": (["step50000-tokens210B", "step1800000-tokens8072B"], "main"),
    "gpt2-small-x21": (["checkpoint-0", "checkpoint-400000"], "main"),
    "bloom-560m": (["global_step1000", "global_step600000"], "main"),
    "tinyllama": (["step-480k-token-1007B", "step-720k-token-1510B"], "main"),
    "baichuan-2-7b": (["train_00220B", "train_02420B"], "main"),
    "lucie-7b": (["step0050000", "step0753851"], "extension_step0001220"),
    "opencoder-1.5b": (["pretrain_iter_0373000"], "anneal_iter_0010000"),
    "fineweb-edu": (["step-001000-2BT"], "main"),
}


@pytest.mark.parametrize("name", REVISIONS)
def test_a_registered_suite_knows_its_revisions_by_name_and_leaves_others_out(name):
    names, other = REVISIONS[name]
    wanted = re.compile(suites.entry(name).get("revisions", ".*"))
    assert all(wanted.fullmatch(revision) for revision in names)
    assert [parse_revision(revision)[:2] for revision in names] == sorted(parse_revision(revision)[:2] for revision in names)
    assert not wanted.fullmatch(other) or parse_revision(other) is None


DOCUMENTED = set(re.findall(r"^#   ([a-z_]+) {2,}", (PROJECT / "tracing_utils/checkpoints/suites.yml").read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", suites.known())
def test_an_entry_of_the_registry_has_documented_fields_and_one_place(name):
    entry = suites.entry(name)
    assert set(entry) <= DOCUMENTED
    assert {"licence", "about"} <= set(entry)
    assert len(set(entry) & {"folder", "repository", "wheel"}) == 1
    assert all(isinstance(entry.get(number, 0), int | float) for number in ("parameters", "bytes", "tokens_per_step"))
    assert all(
        re.fullmatch(r"[\w.-]+/[\w.-]+", entry[key]) for key in ("repository", "chat") if "repository" in entry and entry.get(key)
    )
    assert "{" not in "".join(value for value in entry.values() if isinstance(value, str))


WRONG_ENTRIES = {
    "a misspelt field": ("folder: f\n  licences: x", "Unknown entry of 'a' in suites.yml 'licences'", "Did you mean 'licence'?"),
    "a word for a number": (
        "folder: f\n  parameters: many",
        "suites.yml: parameters of 'a' must be a number above 0, not 'many'.",
    ),
    "a number for text": ("folder: 3", "suites.yml: folder of 'a' must be text, not 3."),
    "a word for a switch": ("folder: f\n  remote_code: 'yes'", "remote_code of 'a' must be true or false, not 'yes'."),
    "no place": ("faults: none", "suites.yml: 'a' must have one of folder, repository, wheel; it has 0."),
    "two places": ("folder: f\n  repository: o/r", "it has 2."),
    "half a wheel": ("wheel: {member: m}", "wheel of 'a' must be requirement, digest and member, not {'member': 'm'}."),
    "no regular expression": ("folder: f\n  revisions: '['", "suites.yml: revisions of 'a' must be a regular expression: "),
    "variables without values": (
        "folder: f\n  for: [n]",
        "suites.yml: for of 'a' must hold variables with their values, not ['n'].",
    ),
    "a variable without values": (
        "folder: f\n  for: {n: {}}",
        "suites.yml: n of 'a' must hold its values, each with fields or none.",
    ),
    "an unknown variable": ("folder: '{m}'\n  for: {n: {x: {}}}", "Unknown variable of suites.yml 'm'; known: n."),
    "a field of one value": ("folder: f\n  for: {n: {x: {chats: c}}}", "Unknown entry of 'a' in suites.yml 'chats'", "'chat'?"),
}


@pytest.mark.parametrize("case", WRONG_ENTRIES)
def test_a_wrong_entry_of_the_registry_is_one_sentence(case):
    written, *said = WRONG_ENTRIES[case]
    assert suites.registry("a:\n  licence: none\n  about: a suite\n  folder: f\n")
    with pytest.raises(ValueError) as error:
        suites.registry(f"a:\n  licence: none\n  about: a suite\n  {written}\n")
    assert all(part in str(error.value) for part in said), error.value


def test_an_entry_without_a_licence_is_refused():
    with pytest.raises(ValueError, match=r"suites\.yml must name its licence of 'a'; the entry is missing\."):
        suites.registry("a:\n  about: a suite\n  folder: f\n")


def test_one_entry_stands_for_every_combination_of_its_variables():
    entry = suites.entry("pythia-1.4b-deduped")
    assert entry["repository"] == "EleutherAI/pythia-1.4b-deduped"
    assert entry["parameters"] == 1.41e9
    assert {"pythia-14m-seed9", "pythia-410m-seed1", "pythia-160m-weight-seed3", "gpt2-small-x777"} <= set(suites.known())
    written = suites.families()
    assert "pythia-{14m,31m}" in written
    assert [name for family in written.values() for name in family] == list(suites.known())


def test_tokens_are_those_of_the_name_or_counted_from_the_step():
    amber = suites.entry("amber")
    assert tokens_seen(amber, 0, None) == 1_706_976 * 2048  # the first checkpoint has seen a share of the data
    assert tokens_seen(amber, 358, None) == 359 * 1_706_976 * 2048
    assert tokens_seen(suites.entry("olmo-2-1b"), 10_000, 21 * 10**9) == 21 * 10**9
    assert tokens_seen(suites.entry("pythia-70m"), 143_000, None) == 143_000 * 2_097_152
    assert tokens_seen({}, 5, None) is None


def test_a_folder_with_one_model_is_a_suite_of_one_and_its_own_chat_model(family_checkpoints):
    suite = load(str(family_checkpoints["llama"].folder))
    assert [(c.revision, c.step) for c in suite.checkpoints] == [("model", -1)]
    assert suite["chat"] is suite["model"] is suite.chat
    assert suite.name == "llama"


def test_a_suite_that_is_saved_is_read_back_as_it_was(suite_folder, tmp_path):
    suite = load(str(suite_folder))
    suites.save(suite, tmp_path / "runs" / "suite.json")
    assert suites.read_saved(tmp_path / "runs" / "suite.json") == suite
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["suite.json"]


@pytest.mark.parametrize(
    ("names", "weights"),
    [
        (["model.safetensors", "pytorch_model.bin", "optimizer.bin"], ["model.safetensors"]),
        (["model-2-of-2.safetensors", "model-1-of-2.safetensors"], ["model-1-of-2.safetensors", "model-2-of-2.safetensors"]),
        (["pytorch_model-00001-of-00003.bin", "training_args.bin"], ["pytorch_model-00001-of-00003.bin"]),
        (["consolidated.safetensors", "adapter_model.safetensors", "config.json"], []),
    ],
)
def test_weights_are_what_transformers_reads_safetensors_first(names, weights):
    assert weight_names(names) == weights


def test_a_tokenizer_needs_a_vocabulary():
    assert tokenizer_names(["tokenizer_config.json", "special_tokens_map.json"]) == []
    assert tokenizer_names(["vocab.json", "merges.txt", "README.md"]) == ["merges.txt", "vocab.json"]


def test_a_folder_of_checkpoints_is_read_in_the_order_of_training(suite_folder):
    suite = load(str(suite_folder))
    assert suite.name == "tiny"
    assert [c.revision for c in suite.checkpoints] == ["step0", "step1", "step2", "step8", "step64"]
    assert sorted(["step64", "step8"]) == ["step64", "step8"]  # an order by letters would be another
    assert {c.tokenizer for c in suite.checkpoints} == {suite_folder / "tokenizer"}
    assert suite["step8"].folder == suite_folder / "step8"


def made(folder: Path, *names: str) -> CheckpointSuite:
    """The suite of a folder with checkpoints of these names, which hold no weights."""
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text("{}")
    return load(str(folder))


def times(suite: CheckpointSuite) -> list[tuple[str, int, int | None]]:
    return [(c.revision, c.step, c.tokens and c.tokens // 10**9) for c in suite.checkpoints]


def test_steps_are_ordered_as_numbers_and_stages_before_steps(tmp_path):
    names = ["stage2-step5-tokens1B", "stage1-step100-tokens9B", "stage1-step20-tokens2B"]
    assert [c.revision for c in made(tmp_path, *names).checkpoints] == names[::-1]
    assert sorted(names) != names[::-1]  # an order by letters would be another


# Folders, time as it must be read, and what must be said.
TIMES = {
    "a stage that counts anew is counted on": (
        ("stage1-step1000-tokens3B", "stage1-step9000-tokens27B", "stage2-step500-tokens2B", "stage3-step100-tokens1B"),
        [(1000, 3), (9000, 27), (9500, 29), (9600, 30)],
        "steps counted on from stage1-step9000-tokens27B, since stage2-step500-tokens2B begins to count anew",
    ),
    "a stage that goes on stays as it is": (
        ("stage1-step-40000", "stage1-step-80000", "stage2-step-120000", "stage3-step-160000"),
        [(40_000, None), (80_000, None), (120_000, None), (160_000, None)],
        "stage2-step-120000 follows stage1-step-80000: another stage, whose steps go on; stage3-step-160000 follows stage2-",
    ),
    "a stage whose tokens go on too": (
        ("stage1-step100-tokens2B", "stage2-step200-tokens4B"),
        [(100, 2), (200, 4)],
        "stage2-step200-tokens4B follows stage1-step100-tokens2B",
    ),
    "tokens that become fewer within a stage are no time": (
        ("stage1-step1000-tokens3B", "stage1-step2000-tokens2B", "stage1-step3000-tokens9B", "stage2-step5-tokens1B"),
        [(1000, None), (2000, None), (3000, None), (3005, None)],
        "tokens in the names are not used, since stage1-step2000-tokens2B tells fewer than stage1-step1000-tokens3B before it",
    ),
    "tokens that are rounded to the same are no step back": (
        ("step100-tokens0B", "step200-tokens0B", "step300-tokens1B"), [(100, 0), (200, 0), (300, 1)], "",
    ),
    "steps of another stage may be larger and count anew all the same, by their tokens": (
        ("stage1-step100-tokens9B", "stage2-step200-tokens2B"),
        [(100, 9), (300, 11)],
        "steps counted on from stage1-step100-tokens9B",
    ),
    "phases and words for a second stage too": (
        ("pretrain_iter_0373000", "anneal_iter_0010000"),
        [(373_000, None), (383_000, None)],
        "since anneal_iter_0010000 begins to count anew",
    ),
    "a stage alone keeps its own steps": (("stage2-step500-tokens2B", "stage2-step900-tokens4B"), [(500, 2), (900, 4)], ""),
    "of ingredients the first is kept": (
        ("stage1-step9-tokens9B", "stage2-ingredient2-step5-tokens2B", "stage2-ingredient1-step5-tokens2B",
         "stage2-ingredient10-step5-tokens2B"),
        [(9, 9), (14, 11)],
        "left out (an alternative to ingredient1): stage2-ingredient2-step5-tokens2B",
    ),
    "of seeds too": (
        ("step0-seed-default", "step1250-seed-default", "step0-seed-large-aux-2", "step1250-seed-large-aux-2"),
        [(0, None), (1250, None)],
        "left out (an alternative to seed-default): step0-seed-large-aux-2, step1250-seed-large-aux-2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TIMES)
def test_time_never_goes_back_and_no_two_checkpoints_lie_at_one_time(case, tmp_path):
    names, expected, said = TIMES[case]
    suite = made(tmp_path, *names)
    assert [(step, tokens) for _, step, tokens in times(suite)] == expected
    assert said in "; ".join(suite.notes)
    assert bool(said) == bool(suite.notes)
    assert [c.step for c in select(suite.checkpoints, 2)] == [expected[0][0], expected[-1][0]]


def test_steps_that_begin_anew_with_an_epoch_are_refused_and_those_that_count_on_are_not():
    counted, _ = timeline.told(["epoch=0-step=100.ckpt", "epoch=1-step=150.ckpt"], {})
    assert [step for step, _ in counted.values()] == [100, 150]
    with pytest.raises(ValueError, match=r"epoch=1-step=50\.ckpt says step 50 after epoch=0-step=100\.ckpt"):
        timeline.told(["epoch=0-step=100.ckpt", "epoch=1-step=50.ckpt"], {})


def test_the_start_of_a_stage_that_counts_anew_is_the_end_of_the_one_before():
    times, notes = timeline.told(["stage1-step500", "stage1-step1000", "stage2-step0", "stage2-step100"], {})
    assert [(name, step) for name, (step, _) in times.items()] == [
        ("stage1-step500", 500), ("stage1-step1000", 1000), ("stage2-step100", 1100)
    ]  # fmt: skip
    assert "left out (the end of the stage before): stage2-step0" in notes


@pytest.mark.parametrize(
    "names",
    [
        ("step1000", "step_1000"),
        ("checkpoint-5", "step5", "step6"),
        ("7", "007"),
        ("epoch=1-step=9.ckpt", "epoch=1-step=9-v1.ckpt"),
    ],
)
def test_two_folders_of_one_step_are_refused_by_name(names, tmp_path):
    with pytest.raises(ValueError, match=r"Each step must be one checkpoint; .* both say step \d+\. .* `steps:` in the study"):
        made(tmp_path, *names)


def test_names_that_tell_steps_and_names_that_tell_tokens_alone_are_no_one_run():
    """Step 1000 would lie behind 220 billion tokens, which are counted as 220."""
    assert list(timeline.told(["train_00220B", "train_00440B"], {})[0]) == ["train_00220B", "train_00440B"]
    timeline.told(["step1000-tokens3B", "step2000"], {})
    with pytest.raises(ValueError, match=r"counted alike; train_00220B tells tokens and step1000 steps\. .* `steps:`"):
        timeline.told(["train_00220B", "step1000", "step2000"], {})


def test_what_a_folder_holds_besides_its_checkpoints_is_named_with_the_reason(suite_folder, tmp_path, capsys):
    shutil.copytree(suite_folder, copy := tmp_path / "tiny")
    assert load(str(copy)).notes == ()
    (copy / "step1" / "config.json").unlink()
    shutil.move(copy / "step2", copy / "final")
    for name in ("config.json", "model.safetensors"):
        (copy / "step64" / name).unlink()
        (copy / "step64" / name).symlink_to(f"../../blobs/{name}")
    (copy / "latest").symlink_to("step9999")
    (copy / "lora").mkdir()
    (copy / "lora" / "adapter_config.json").write_text("{}")
    (copy / "chat" / "config.json").unlink()
    for name in ("loss.csv", "README.md", "step3000.safetensors", ".hidden"):
        (copy / name).write_text("")
    said = (
        "left out (no config.json): chat, step1",
        "left out (the name tells no step): final",
        "left out (a link to nothing): latest",
        "left out (an adapter, which would not be used: adapter_config.json, merge it into its base first",
        "left out (a file, no folder with a config.json): step3000.safetensors",
        "left out (its config.json is a link to nothing): step64",
    )
    notes = load(str(copy)).notes
    assert len(notes) == len(said)
    assert all(any(note.startswith(begin) for note in notes) for begin in said)
    assert main(["ledger", str(copy)]) == 0
    assert all(note in capsys.readouterr().out for note in notes[:1])


def test_weights_that_are_links_to_nothing_are_called_that(suite_folder, tmp_path):
    shutil.copytree(suite_folder, copy := tmp_path / "tiny")
    (copy / "step8" / "model.safetensors").unlink()
    (copy / "step8" / "model.safetensors").symlink_to("../../blobs/model")
    made = ledger.table(load(str(copy)).checkpoints)
    assert made["faults"].tolist()[3] == "a link to nothing in place of model.safetensors: copy what it leads to"
    with pytest.raises(ValueError, match=r"step8 \(a link to nothing"):
        ledger.check(made)


def test_a_folder_of_adapters_alone_is_told_to_merge_them(tmp_path):
    for folder in (tmp_path / "run" / "step1", tmp_path / "one"):
        folder.mkdir(parents=True)
        (folder / "adapter_config.json").write_text("{}")
    for folder in ("run", "one"):
        with pytest.raises(
            ValueError, match=r"holds none\. .*an adapter, which would not be used: .* merge it into its base first"
        ):
            load(str(tmp_path / folder))


def test_checkpoints_inside_the_folder_of_one_model_are_named(suite_folder, tmp_path):
    shutil.copytree(suite_folder / "step64", tmp_path / "run")  # as the Trainer of transformers leaves it
    assert load(str(tmp_path / "run")).notes == ()
    shutil.copytree(suite_folder / "step8", tmp_path / "run" / "checkpoint-8")
    suite = load(str(tmp_path / "run"))
    assert suite.notes == ("left out (inside the folder of one model; a study can list them under `steps:`): checkpoint-8",)
    listed = load(str(tmp_path / "run"), {64: ".", 8: "checkpoint-8"})
    assert [(c.revision, c.step, c.folder) for c in listed.checkpoints] == [
        ("step8", 8, tmp_path / "run" / "checkpoint-8"), ("step64", 64, tmp_path / "run"),
    ]  # fmt: skip


def test_a_table_of_steps_reads_folders_whose_names_tell_none(suite_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(suite_folder, tmp_path / "tiny")
    for old, new in (("step0", "begin"), ("step8", "some_run"), ("step64", "final")):
        (tmp_path / "tiny" / old).rename(tmp_path / "tiny" / new)
    shutil.move(tmp_path / "tiny" / "some_run", tmp_path / "elsewhere")
    suite = load("~/tiny", {900: "final", 0: "begin", 100: "~/elsewhere"})
    assert [(c.revision, c.step, c.folder.name) for c in suite.checkpoints] == [
        ("step0", 0, "begin"), ("step100", 100, "elsewhere"), ("step900", 900, "final"),
    ]  # fmt: skip
    assert suite.notes == ("left out (not under `steps:`): step1, step2",)
    assert suite.name == "tiny"
    assert suite.chat.folder.name == "chat"
    with pytest.raises(ValueError, match=r"`steps:` must name folders with a config\.json; that of step7, .*nothing, has none"):
        load(str(tmp_path / "tiny"), {7: "nothing"})
    with pytest.raises(ValueError, match=r"`steps:` must go with a suite that is a folder; 'pocket' is none"):
        load("pocket", {7: "nothing"})


def test_a_path_may_begin_at_home_or_with_a_variable(suite_folder, monkeypatch):
    monkeypatch.setenv("HOME", str(suite_folder.parent))
    assert load("~/tiny") == load("$HOME/tiny") == load(str(suite_folder))
    for name in ("~/other", "~nobody/tiny", "$NOWHERE/tiny"):
        with pytest.raises(ValueError, match="Unknown suite"):
            load(name)


def test_one_model_is_all_there_is_to_choose(suite_folder):
    model = load(str(suite_folder / "step8")).checkpoints
    assert select(model, 3) == model


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
    with pytest.raises(ValueError, match=r"named like step1000, each with a config\.json; .* holds none\. .* under `steps:`"):
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
