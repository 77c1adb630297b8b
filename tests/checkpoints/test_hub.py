"""Suites on the hub, through the real client library, against a hub on the loopback interface."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import safetensors.torch
from hub_server import files_of
from huggingface_hub import constants, snapshot_download

from tracing_utils.__main__ import main
from tracing_utils.checkpoints import hub, ledger, models, suites
from tracing_utils.checkpoints.hub import HubError
from tracing_utils.checkpoints.types import TEMPLATES, Checkpoint, tokenizer_names
from tracing_utils.run import jobs, runner, studies, workflow

STEPS = ("step0", "step1", "step2", "step8", "step64", "step1000")


@pytest.fixture
def files(family_checkpoints, tokenizer_folder):
    """Return a builder of a checkpoint's files."""

    def build(family="gpt_neox", seed=0, tokenizer=True, pickled=False):
        return files_of(family_checkpoints[family].folder, tokenizer_folder if tokenizer else None, seed, pickled)

    return build


@pytest.fixture
def pythia(server, files):
    """A suite as Pythia has it: branches by step, `main` the last of them."""
    for seed, name in enumerate(STEPS):
        server.publish("tests/pythia", name, files(seed=seed))
    server.publish("tests/pythia", "main", files(seed=len(STEPS) - 1))
    return suites.load("hub:tests/pythia")


def copied(checkpoint, folder):
    """Return the same files as a local checkpoint."""
    shutil.copytree(checkpoint.folder, folder)
    return Checkpoint("local", checkpoint.revision, checkpoint.step, None, folder, folder)


def test_revisions_come_from_the_hub_in_the_order_of_training_and_no_file_is_asked_for(server, pythia):
    assert [c.revision for c in pythia.checkpoints] == list(STEPS)
    assert sorted(STEPS) != list(STEPS)  # an order by letters would be another
    assert {c.folder for c in pythia.checkpoints} == {None}
    assert pythia.final.revision == "main"
    assert [path for _, path, _ in server.requests] == ["/api/models/tests/pythia/refs"]


def test_a_relative_on_the_hub_is_known_by_its_weights_before_it_is_fetched(server, pythia, suite_folder, own_statements):
    def known(*relatives):
        study = studies.Study("s", str(suite_folder), (str(own_statements),), options={"origins": {"relatives": list(relatives)}})
        return runner.inputs(study, "origins")

    (first,) = hub.resolve(pythia.checkpoints[:1])
    assert known("kin=hub:tests/pythia@step0") == [[[ledger.identity(first), ledger.tokenizer_identity(first)]]]
    assert known("kin=hub:tests/pythia@step0") != known("kin=hub:tests/pythia@step1")
    with pytest.raises(HubError, match="tests/none"):
        known("kin=hub:tests/none")


def test_metadata_give_the_hash_that_the_files_will_have(server, pythia, tmp_path):
    (described,) = hub.resolve([pythia["step8"]])
    told = ledger.weights_sha256(described), ledger.identity(described), ledger.tokenizer_identity(described)
    assert server.downloaded() == []
    local = copied(hub.fetch(described, tmp_path / "step8"), tmp_path / "local")
    assert told == (ledger.weights_sha256(local), ledger.identity(local), ledger.tokenizer_identity(local))
    assert told[0] != ledger.weights_sha256(hub.resolve([pythia["step2"]])[0])


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gpt2", "olmo2", "bloom"])
def test_a_fetched_checkpoint_loads_and_is_the_one_that_was_served(family, server, files, tmp_path, family_checkpoints):
    server.publish("tests/one", "step0", files(family))
    (checkpoint,) = suites.load("hub:tests/one").checkpoints
    fetched = hub.fetch(checkpoint, tmp_path / "w")
    assert ledger.weights_sha256(copied(fetched, tmp_path / "copy")) == ledger.weights_sha256(hub.resolve([checkpoint])[0])
    kept, came = (models.load_model(c, head=True).state_dict() for c in (family_checkpoints[family], fetched))
    assert all((kept[name] == came[name]).all() for name in kept)
    models.load_tokenizer(fetched)


def test_only_what_is_needed_is_downloaded(server, files, tmp_path):
    extra = {"flax_model.msgpack": b"x", "pytorch_model.bin": b"x", "optimizer.bin": b"x", "onnx/model.safetensors": b"x"}
    server.publish("tests/one", "step0", files() | extra)
    hub.fetch(suites.load("hub:tests/one")["step0"], tmp_path / "w")
    here = {path.name for path in (tmp_path / "w").rglob("*")}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= here
    assert not here & {*extra, "README.md", "onnx", ".download", ".cache"}
    assert {path.name for path in tmp_path.iterdir()} <= {"w", "hf", "cache"}


def test_a_checkpoint_fetched_before_asks_the_hub_for_nothing(server, pythia, tmp_path):
    (described,) = hub.resolve([pythia["step8"]])
    first = hub.fetch(described, tmp_path / "w")
    before = len(server.requests)
    assert hub.fetch(described, tmp_path / "w") == first
    assert len(server.requests) == before


def test_a_fetched_file_that_was_damaged_is_fetched_again(server, pythia, tmp_path):
    (described,) = hub.resolve([pythia["step8"]])
    weights = hub.fetch(described, tmp_path / "w").folder / "model.safetensors"
    before = weights.read_bytes()
    assert hub.whole(described, tmp_path / "w")
    weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    assert not hub.whole(described, tmp_path / "w")
    hub.fetch(described, tmp_path / "w")
    assert weights.read_bytes() == before


def test_a_revision_that_moves_after_listing_is_still_the_one_that_was_listed(server, files, pythia, tmp_path):
    listed = ledger.weights_sha256(hub.resolve([pythia["step8"]])[0])
    server.publish("tests/pythia", "step8", files(seed=50))
    moved = ledger.weights_sha256(hub.resolve([suites.load("hub:tests/pythia")["step8"]])[0])
    assert moved != listed
    fetched = hub.fetch(pythia["step8"], tmp_path / "w")
    assert ledger.weights_sha256(copied(fetched, tmp_path / "copy")) == listed


def test_tags_stages_and_tokens_are_read(server, files):
    names = [
        "stage1-step0-tokens0B",
        "stage1-step9000-tokens19B",
        "stage1-step10000-tokens21B",
        "stage2-ingredient1-step1000-tokens3B",
    ]
    for name in names:
        server.publish("tests/olmo2", name, files("olmo2"))
    server.tags.add(names[1])
    suite = suites.load("hub:tests/olmo2")
    assert [c.revision for c in suite.checkpoints] == names
    assert suite[names[2]].tokens == 21 * 10**9


def test_checkpoints_in_folders_of_one_revision_are_a_suite(server, files, tmp_path):
    inside = {f"iter_{step:07d}/{name}": content for step in (0, 50, 1000) for name, content in files(seed=step).items()}
    server.publish("tests/folders", "main", inside)
    suite = suites.load("hub:tests/folders")
    assert [c.step for c in suite.checkpoints] == [0, 50, 1000]
    described = hub.resolve(suite.checkpoints)
    assert len({ledger.weights_sha256(c) for c in described}) == 3
    ledger.check(ledger.table(described))
    fetched = hub.fetch(described[1], tmp_path / "w")
    assert {path.name for path in fetched.folder.iterdir()} >= {"config.json", "model.safetensors"}
    models.load_model(fetched, head=False)


def test_a_tokenizer_comes_from_where_the_registry_says(server, files, tmp_path):
    server.publish("tests/bare", "step0", files(tokenizer=False))
    server.publish("tests/words", "main", files(seed=3))
    suite = hub.listed("bare", {"repository": "tests/bare", "tokenizer": "tests/words"})
    described = hub.resolve(suite.checkpoints)
    assert ledger.tokenizer_identity(described[0])
    fetched = hub.fetch(described[0], tmp_path / "w")
    models.load_tokenizer(fetched)
    assert not (fetched.tokenizer / "model.safetensors").exists()  # the other repository's weights stay there


def test_a_revision_without_a_tokenizer_takes_the_main_branch_s_and_one_without_any_is_refused(server, files):
    server.publish("tests/bare", "step0", files(tokenizer=False))
    (lonely,) = hub.resolve(suites.load("hub:tests/bare").checkpoints)
    with pytest.raises(ValueError, match=r"these have not: step0 \(no tokenizer\)"):
        ledger.check(ledger.table([lonely]))
    server.publish("tests/bare", "main", files(seed=1))
    (helped,) = hub.resolve(suites.load("hub:tests/bare").checkpoints)
    assert helped.remote.tokenizer.repo == "tests/bare"
    ledger.check(ledger.table([helped]))


def test_pickled_weights_are_fetched_only_where_there_are_no_safetensors(server, files, tmp_path):
    server.publish("tests/old", "ckpt_000", files("llama", pickled=True))
    (described,) = hub.resolve(suites.load("hub:tests/old").checkpoints)
    assert ledger.table([described])["faults"].tolist() == ["only .bin weights"]
    assert (hub.fetch(described, tmp_path / "w").folder / "pytorch_model.bin").is_file()


def test_the_ledger_of_a_whole_suite_needs_no_file(server, files):
    """Duplicates, final weights under an early name, a hole, a missing configuration: from metadata alone."""
    seeds = {0: 0, 1000: 1, 2000: 1, 3000: 3, 4000: 9, 6000: 6, 7000: 7, 8000: 8, 9000: 9}
    for step, seed in seeds.items():
        content = files(seed=seed)
        if step == 8000:
            del content["config.json"]
        server.publish("tests/bad", f"step{step}", content)
    server.publish("tests/bad", "main", files(seed=9))
    suite = hub.resolve_suite(suites.load("hub:tests/bad"))
    made = ledger.table(suite.checkpoints, suite.final).set_index("revision")
    assert server.downloaded() == []
    assert made["duplicate_of"][made["duplicate_of"] != ""].to_dict() == {"step2000": "step1000", "step4000": "main"}
    assert made["faults"][made["faults"] != ""].to_dict() == {
        "step6000": "missing before it: 5000",
        "step8000": "no config.json",
    }
    assert made["commit"].str.fullmatch("[0-9a-f]{40}").all()
    kept = made.reset_index()
    kept = kept[kept["revision"] != "step8000"]
    with pytest.raises(ValueError, match="these are the same: step1000 = step2000; main = step4000"):
        ledger.check(kept)
    ledger.check(kept, allow_duplicates=True)


def test_a_configuration_that_names_no_family_is_seen_before_the_download(server, files):
    server.publish("tests/custom", "step0", files() | {"config.json": b'{"architectures": ["Own"]}'})
    (described,) = hub.resolve(suites.load("hub:tests/custom").checkpoints)
    with pytest.raises(ValueError, match=r"step0 \(no model_type in config\.json\)"):
        ledger.check(ledger.table([described]))


def test_shards_that_only_an_index_names_are_fetched(server, files, tmp_path):
    content = files("llama")
    weights = safetensors.torch.load(content.pop("model.safetensors"))
    for i, names in enumerate((sorted(weights)[:5], sorted(weights)[5:])):
        content[f"part-{i}.safetensors"] = safetensors.torch.save({name: weights[name] for name in names}, {"format": "pt"})
    named = {name: f"part-{int(i >= 5)}.safetensors" for i, name in enumerate(sorted(weights))}
    index = json.dumps({"metadata": {}, "weight_map": named})
    server.publish("tests/parts", "step0", content)
    (without,) = hub.resolve(suites.load("hub:tests/parts").checkpoints)
    assert ledger.weights(without) == []
    content |= {"model.safetensors.index.json": index.encode(), "model-00001-of-00003.safetensors": b"of an older save"}
    server.publish("tests/parts", "step0", content)
    (described,) = hub.resolve(suites.load("hub:tests/parts").checkpoints)
    assert ledger.weights(described) == ["part-0.safetensors", "part-1.safetensors"]
    assert ledger.table([described])["faults"].tolist() == [
        "not named by the index, and not used: model-00001-of-00003.safetensors"
    ]
    fetched = hub.fetch(described, tmp_path / "w")
    assert ledger.weights_sha256(copied(fetched, tmp_path / "copy")) == ledger.weights_sha256(described)
    models.load_model(fetched, head=True)


INDEX = "model.safetensors.index.json"
SHARDS = {  # the names of files, and the fault; an index, where there is one, names the first two
    "": ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", INDEX],
    f"no index that fits: {INDEX} is not there, or cannot be read":
        ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
    "not named by the index, and not used: model-00001-of-00001.safetensors":
        ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model-00001-of-00001.safetensors", INDEX],
    f"no index that fits: {INDEX} names 'part-2-of-2.safetensors', which is not here":
        ["model-00001-of-00002.safetensors", "part-2-of-2.safetensors", INDEX],
}  # fmt: skip


@pytest.mark.parametrize("said", SHARDS)
def test_the_index_on_the_hub_is_asked_only_where_names_leave_open_which_shards_are_read(server, files, said):
    first, second, *_ = SHARDS[said]
    held = {name: b"x" for name in SHARDS[said] if not name.startswith("part")}
    if INDEX in held:
        held[INDEX] = json.dumps({"metadata": {}, "weight_map": {"a": first, "b": second}}).encode()
    content = files("llama")
    del content["model.safetensors"]
    server.publish("tests/shards", "step0", content | held)
    (described,) = hub.resolve(suites.load("hub:tests/shards").checkpoints)
    assert ledger.table([described])["faults"].tolist() == [said]
    assert bool(server.downloaded()) == (INDEX in held and said != "")


def test_shards_in_a_folder_inside_that_an_index_names_are_fetched_there_and_no_path_leads_out(server, files, tmp_path):
    content = files("llama")
    whole = content.pop("model.safetensors")
    named = dict.fromkeys(safetensors.torch.load(whole), "shards/part.safetensors")

    def index(named):
        return {"model.safetensors.index.json": json.dumps({"metadata": {}, "weight_map": named}).encode()}

    server.publish("tests/deep", "step0", content | {"shards/part.safetensors": whole, "other/x.bin": b"x"} | index(named))
    server.publish(
        "tests/deep", "step1", content | {"../part.safetensors": whole} | index(dict.fromkeys(named, "../part.safetensors"))
    )
    within, outside = hub.resolve(suites.load("hub:tests/deep").checkpoints)
    assert ledger.weights(outside) == []
    assert ledger.weights(within) == ["shards/part.safetensors"]
    fetched = hub.fetch(within, tmp_path / "w")
    assert not (fetched.folder / "other").exists()
    assert hub.whole(within, fetched.folder)
    assert ledger.weights_sha256(copied(fetched, tmp_path / "copy")) == ledger.weights_sha256(within)
    models.load_model(fetched, head=True)


BESIDE = {
    "not used, since there are safetensors: pytorch_model.bin": {"pytorch_model.bin": b"x"},
    "not used, since transformers reads model.safetensors: consolidated.00.pth": {"consolidated.00.pth": b"x"},
    "two saves of weights, model.safetensors and model-00001-of-00002.safetensors: delete the one that is not this checkpoint's":
        {"model-00001-of-00002.safetensors": b"x"},
    "a quantisation without a method: quantization_config in config.json must be a mapping with a quant_method, and is 'int8'. "
    "Write the method, or take the weights from before":
        {"config.json": b'{"model_type": "llama", "quantization_config": "int8"}'},
    "": {"optimizer.bin": b"x", "onnx/model.onnx": b"x", "other/pytorch_model.bin": b"x"},
}  # fmt: skip


@pytest.mark.parametrize("said", BESIDE)
def test_what_lies_beside_the_weights_on_the_hub_is_told_as_it_is_of_a_folder(server, files, tmp_path, said):
    server.publish("tests/beside", "step0", content := files("llama") | BESIDE[said])
    (described,) = hub.resolve(suites.load("hub:tests/beside").checkpoints)
    assert ledger.table([described])["faults"].tolist() == [said]
    for name, data in content.items():
        (path := tmp_path / "step0" / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert ledger.table(suites.load(str(tmp_path)).checkpoints)["faults"].tolist() == [said]


@pytest.mark.parametrize("name", ["chat_template.jinja", "chat_template.json"])
@pytest.mark.parametrize("words", [True, False])
def test_a_template_of_the_hub_is_fetched_and_counts_in_whatever_file_it_lies(server, files, tmp_path, name, words):
    template = "{% for m in messages %}<{{ m['content'] }}>{% endfor %}"
    stored = (template if name.endswith("jinja") else json.dumps({"chat_template": template})).encode()
    server.publish("tests/told", "main", files("llama"))
    server.publish("tests/told", "step0", plain := files("llama", 1, tokenizer=words))
    server.publish("tests/told", "step1", plain | {name: stored})
    before, described = hub.resolve(suites.load("hub:tests/told").checkpoints)
    assert set(ledger.tokenizer_identity(described)) > set(ledger.tokenizer_identity(before))
    fetched = hub.fetch(described, tmp_path / "w")
    assert models.load_tokenizer(fetched).chat_template == template


def test_adapters_and_quantised_weights_of_the_hub_are_told_from_its_metadata(server, files, tmp_path):
    config = json.dumps({"model_type": "llama", "quantization_config": {"quant_method": "awq", "bits": 4}}).encode()
    server.publish("tests/more", "step0", files() | {"adapter_config.json": b"{}"})
    server.publish("tests/more", "step1", files(seed=1) | {"config.json": config})
    server.publish("tests/more", "first-try", files(seed=2))
    suite = suites.load("hub:tests/more")
    assert suite.notes == ("left out (the name tells no step): first-try",)
    told = ledger.table(hub.resolve(suite.checkpoints))
    assert told["faults"].tolist()[0].startswith("an adapter, which would not be used: adapter_config.json")
    assert told["faults"].tolist()[1] == ""
    assert told["quantised"].tolist() == ["", "awq, 4 bits"]


def test_a_second_stage_on_the_hub_is_counted_on(server, files):
    for seed, name in enumerate(
        ("stage1-step9-tokens2B", "stage2-ingredient1-step5-tokens1B", "stage2-ingredient2-step5-tokens1B")
    ):
        server.publish("tests/stages", name, files(seed=seed))
    suite = suites.load("hub:tests/stages")
    assert [(c.step, c.tokens) for c in suite.checkpoints] == [(9, 2 * 10**9), (14, 3 * 10**9)]
    assert any("stage2-ingredient2-step5-tokens1B" in note for note in suite.notes)


def test_revisions_that_share_a_commit_are_resolved_side_by_side(server, files):
    content = files()
    for step in range(40):
        server.publish("tests/same", f"step{step}", content)
    one = next(iter(server.repos["tests/same"].values()))
    server.repos["tests/same"] = dict.fromkeys(server.repos["tests/same"], one)
    described = hub.resolve(suites.load("hub:tests/same").checkpoints)
    assert {c.remote.commit for c in described} == {one}


def test_the_ledger_of_a_registered_suite_asks_for_no_chat_model(server, pythia, monkeypatch, capsys):
    entry = {"repository": "tests/pythia", "chat": "tests/gated", "licence": "none", "about": "for this test"}
    monkeypatch.setattr(suites, "_registry", lambda: {"neox": entry})
    with pytest.raises(HubError, match="refused tests/gated at chat with status 401"):
        hub.resolve_suite(suites.load("neox"))
    assert main(["ledger", "neox"]) == 0
    assert "6 checkpoints; 0 repeat the weights of another" in capsys.readouterr().out


def test_a_suite_is_resolved_once_and_read_back_without_the_hub(server, pythia, tmp_path):
    resolved = hub.resolve_suite(pythia, ["step0", "step64"])
    suites.save(resolved, tmp_path / "suite.json")
    server.close()
    assert suites.read_saved(tmp_path / "suite.json") == resolved
    assert [c.revision for c in resolved.checkpoints] == ["step0", "step64"]
    assert resolved.final.remote.files


def test_a_listing_that_meets_the_hub_s_limit_goes_on_where_it_was(server, pythia):
    hub.resolve([pythia["step0"], pythia["step1"]])
    server.requests.clear()
    hub.resolve(pythia.checkpoints)
    assert len(server.requests) == len(STEPS) - 2


def test_one_revision_of_a_repository_is_a_suite_of_one_model(server, files, tmp_path):
    server.publish("tests/chat", "main", files("llama"))
    suite = suites.load("hub:tests/chat@main")
    assert suite["model"] is suite["chat"]
    models.load_model(hub.fetch(suite.chat, tmp_path / "w"), head=True)


def test_a_run_asks_the_hub_once_and_its_jobs_work_from_what_it_said(server, pythia, tmp_path):
    (tmp_path / "neox.yml").write_text("suite: hub:tests/pythia\nconcepts: pocket\ncheckpoints: 3\n")
    resolved = str(workflow.write_resolved(studies.read(tmp_path / "neox.yml"), tmp_path / "runs"))
    assert server.downloaded() == []
    assert jobs.main(["ledger", resolved, str(tmp_path / "ledger.csv")]) == 0
    table = pd.read_csv(tmp_path / "ledger.csv", keep_default_na=False)
    assert table["revision"].tolist() == ["step0", "step64", "step1000"]
    assert table["commit"].tolist() == [server.repos["tests/pythia"][name] for name in table["revision"]]
    assert set(table["duplicate_of"]) == {""}  # the last one holds what main holds, and may
    assert server.downloaded() == []
    workflow.check_tokenizers(studies.read(resolved), tmp_path)
    fetched = {Path(path).name for path in server.downloaded()}  # the statements are read, with one tokenizer for all
    assert "tokenizer.json" in fetched <= {*tokenizer_names(["tokenizer.json", *TEMPLATES])}

    assert jobs.main(["weights", resolved, "step64", str(tmp_path / "runs/weights/step64")]) == 0
    study = studies.read(resolved)
    models.load_model(study.loaded["step64"], head=False)
    models.load_tokenizer(study.loaded["step64"])
    assert study.loaded["step0"].folder is None
    assert study.loaded["step64"].suite == "hub:tests/pythia"


# What goes wrong, and what is said.


def test_a_connection_cut_in_the_middle_goes_on_from_where_it_was_cut(server, pythia, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1024)  # the client keeps whole chunks; its own are 10 MB
    server.fail("GET /cdn/", "cut", times=1)
    fetched = hub.fetch(pythia["step8"], tmp_path / "w")
    asked = [range_ for method, path, range_ in server.requests if method == "GET" and "/cdn/" in path]
    size = (fetched.folder / "model.safetensors").stat().st_size
    assert asked == [None, f"bytes={size // 2 // 1024 * 1024}-"]


def test_a_slow_connection_is_waited_for(server, pythia, tmp_path):
    server.fail("GET /cdn/", "drip")
    hub.fetch(pythia["step8"], tmp_path / "w")


# When every attempt fails: the fault, where, and what the sentence must say.
FAILURES = {
    "cut for good": ("GET /cdn/", "cut", r"did not arrive whole .* Whole files are kept in w\.part and not downloaded again\."),
    "short": ("GET /cdn/", "short", r"did not arrive whole .*should be of size.* Run the same command again\."),
    "corrupt": ("GET /cdn/", "corrupt", r"must have \d+ bytes and hash [0-9a-f]{64}; \d+ bytes with hash .* It was deleted"),
    "small file corrupt": ("/config.json", "corrupt", r"config\.json of .* must have \d+ bytes and hash [0-9a-f]{40};"),
    "401": ("HEAD ", 401, r"status 401\. .* log in with `hf auth login` \(or set HF_TOKEN\)"),
    "403": ("HEAD ", 403, r"status 403\. .* accept its terms"),
    "404": ("HEAD ", 404, r"status 404\. .*Check the spelling"),
    "429": ("HEAD ", 429, r"status 429\. .* limits requests: wait 7 seconds"),
    "500": ("HEAD ", 500, r"status 500\. .*The fault is the hub's: wait"),
    "a loop": ("HEAD ", "loop", r"redirects without end .* Check HF_ENDPOINT and the proxy"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_each_failure_gets_one_sentence_and_the_same_command_goes_on_afterwards(name, server, pythia, tmp_path):
    match, kind, said = FAILURES[name]
    (described,) = hub.resolve([pythia["step8"]])
    server.fail(match, kind, **({"Retry-After": "7"} if kind == 429 else {}))
    with pytest.raises(HubError, match=said) as raised:
        hub.fetch(described, tmp_path / "w")
    assert "\n" not in str(raised.value)
    assert "tests/pythia at step8" in str(raised.value)
    assert not (tmp_path / "w").exists()  # nothing has the final name before it is checked
    server.faults.clear()
    fetched = hub.fetch(described, tmp_path / "w")
    assert ledger.weights_sha256(copied(fetched, tmp_path / "copy")) == ledger.weights_sha256(described)


def test_files_that_are_whole_are_not_downloaded_again(server, pythia, tmp_path):
    server.fail("GET /cdn/", "corrupt")
    with pytest.raises(HubError):
        hub.fetch(pythia["step8"], tmp_path / "w")
    server.faults.clear()
    server.requests.clear()
    hub.fetch(pythia["step8"], tmp_path / "w")
    assert [path.split("/")[1] for path in server.downloaded()] == ["cdn"]


def test_what_is_left_of_another_commit_is_not_taken_for_this_one(server, files, pythia, tmp_path):
    server.fail("GET /cdn/", "cut")
    server.publish("tests/moving", "step0", files() | {"config.json": b'{"model_type": "old"}'})
    with pytest.raises(HubError):
        hub.fetch(suites.load("hub:tests/moving")["step0"], tmp_path / "w")
    (tmp_path / "w.part" / "config.json").write_text("of another commit")
    server.faults.clear()
    server.publish("tests/moving", "step0", files())
    (moved,) = hub.resolve(suites.load("hub:tests/moving").checkpoints)
    local = copied(hub.fetch(moved, tmp_path / "w"), tmp_path / "copy")
    assert ledger.identity(local) == ledger.identity(moved)


def test_a_server_that_is_no_hub_is_named(server, monkeypatch):
    server.fail("/refs", 200)
    with pytest.raises(HubError, match="did not answer as a hub for the revisions of tests/x"):
        suites.load("hub:tests/x")


LISTING = {401: "hf auth login", 403: "hf auth login", 404: "Check the spelling", 429: "limits requests", 500: "the hub's: wait"}


@pytest.mark.parametrize("status", LISTING)
@pytest.mark.parametrize("place", ["refs", "revision"])
def test_a_listing_that_fails_says_so_too(place, status, server, files):
    server.publish("tests/one", "step0", files())
    server.fail(f"/{place}", status)
    with pytest.raises(HubError, match=rf"The hub refused .*tests/one.* with status {status}\. .*{LISTING[status]}"):
        hub.resolve(suites.load("hub:tests/one").checkpoints)


def test_a_hub_that_cannot_be_reached_leaves_the_cache_or_a_folder(server, pythia, tmp_path, monkeypatch):
    (described,) = hub.resolve([pythia["step8"]])
    server.close()
    for ask in (lambda: suites.load("hub:tests/pythia"), lambda: hub.fetch(described, tmp_path / "w")):
        with pytest.raises(HubError, match=r"could not be reached for .*set HF_HUB_OFFLINE=1 .* or name a local folder"):
            ask()


def test_a_repository_that_is_not_there_or_holds_no_steps_is_refused_with_what_it_holds(server, files):
    with pytest.raises(HubError, match="The hub refused the revisions of tests/none with status 401"):
        suites.load("hub:tests/none")
    server.publish("tests/chat", "main", files())
    with pytest.raises(HubError, match=r"named like step1000; found were main\. For one of them alone write hub:tests/chat@main"):
        suites.load("hub:tests/chat")


def test_a_disk_that_is_too_small_is_seen_before_anything_is_downloaded(server, pythia, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(HubError, match=r"needs .* GB of disk; 0\.0 GB are free where it goes, and nothing was downloaded"):
        hub.fetch(pythia["step8"], tmp_path / "w")
    assert server.downloaded() == []


# The user's own Hugging Face cache.


def test_what_the_user_s_cache_holds_is_used_and_stays_there(server, pythia, tmp_path):
    kept = snapshot_download("tests/pythia", revision="step8", endpoint=server.address)
    server.requests.clear()
    fetched = hub.fetch(pythia["step8"], tmp_path / "w")
    assert server.downloaded() == []
    models.load_model(fetched, head=False)
    shutil.rmtree(fetched.folder)
    assert (Path(kept) / "model.safetensors").stat().st_size > 0


def test_offline_the_cache_alone_is_listed_resolved_and_used(server, pythia, tmp_path, monkeypatch):
    online = hub.resolve([pythia["step8"]])[0]
    for name in ("step8", "step64"):
        snapshot_download("tests/pythia", revision=name, endpoint=server.address)
    server.close()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    suite = suites.load("hub:tests/pythia")
    assert [c.revision for c in suite.checkpoints] == ["step8", "step64"]
    with pytest.raises(HubError, match=r"HF_HUB_OFFLINE is set .* does not hold any checkpoint of tests/other"):
        suites.load("hub:tests/other")
    (offline,) = hub.resolve([suite["step8"]])
    assert replace(offline.remote, model_type=None) == replace(online.remote, model_type=None)
    models.load_model(hub.fetch(offline, tmp_path / "w"), head=False)
    with pytest.raises(HubError, match=r"HF_HUB_OFFLINE is set and your Hugging Face cache does not hold .*step2\. .*Unset it"):
        hub.fetch(pythia["step2"], tmp_path / "v")
