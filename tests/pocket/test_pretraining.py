"""The recipe and the corpus decide the weights: same seed, killed or not."""

import sys
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
from tracing_utils.pocket.pretraining import MuonRecipe, Recipe, pretrain, tune_chat

RECIPE = MuonRecipe(
    layers=2, d_model=16, heads=2, d_mlp=24, vocabulary=320, context=24, batch=4, learning_rate=1e-2, warmup=10, steps=300
)
SHORT = replace(RECIPE, steps=20)
CHAT = Recipe(  # by AdamW, as the shipped chat model
    layers=2, d_model=16, heads=2, d_mlp=24, vocabulary=320, context=48, batch=4, learning_rate=1e-2, warmup=2, steps=16, seed=1
)


def quiet(_line: str) -> None:
    pass


@pytest.fixture(scope="module", autouse=True)
def eager(tmp_path_factory):
    """No C++ compiler can be found, so the loss is not compiled, which would take a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path_factory.mktemp("nothing")))
        patch.setenv("CXX", "no-such-compiler")
        yield


def passage(i: int) -> str:
    return f"In the year {1900 + i} the mill by the river number {i} was sold to a family from the north, who kept it."


DOCUMENTS = [f"{passage(i)}\nwas mill {i} sold" for i in range(60)]
ASKED = [(f"{passage(i)}\nwho bought mill {i}?", f"a family {i}") for i in range(40)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A whole run of the tiny recipe. Nobody changes it."""
    out = tmp_path_factory.mktemp("trained") / "suite"
    pretrain(out, {"text": DOCUMENTS}, RECIPE, quiet)
    return out


def weights(folder) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in sorted(folder.glob("*/model.safetensors"))}


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"layers": 0}, {"vocabulary": -1}, {"warmup": -5}, {"embedding_share": -1.0}])
def test_a_recipe_that_cannot_be_trained_is_refused_with_the_number_that_came(wrong):
    assert replace(RECIPE) == RECIPE
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"A recipe's {name} must be .*; {value} came"):
        replace(pretraining.BASE_RECIPE, **wrong)


def test_a_corpus_shorter_than_a_window_is_refused_before_anything_is_written(tmp_path):
    for documents in ([], ["a word"]):
        with pytest.raises(ValueError, match=r"longer than a window of 24 tokens"):
            pretrain(tmp_path / "suite", {"text": documents}, SHORT, quiet)
    assert not (tmp_path / "suite").exists()


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


def test_muon_moves_the_matrices_of_the_blocks_and_adamw_embeddings_and_norms_each_parameter_once():
    model = LlamaForCausalLM(RECIPE.config())
    muon, adamw = RECIPE.optimizers(model)
    names = {id(p): name for name, p in model.named_parameters()}
    moved = [{names[id(p)] for group in o.param_groups for p in group["params"]} for o in (muon, adamw)]
    assert moved[0] | moved[1] == set(names.values())
    assert not moved[0] & moved[1]
    assert all(name.startswith("model.layers") and "norm" not in name for name in moved[0])
    assert {name for name in moved[1] if "norm" not in name} == {"model.embed_tokens.weight"}


# Training


def test_a_run_leaves_its_checkpoints_and_nothing_unfinished(trained):
    marks = [step for step in pretraining.CHECKPOINT_STEPS if step < 300] + [300]
    expected = {f"step{step}" for step in marks} | {"tokenizer", "loss.csv", "training.json"}
    assert {path.name for path in trained.iterdir()} == expected
    assert [c.step for c in suites.load(str(trained)).checkpoints] == marks


def test_the_loss_falls_from_that_of_a_guess(trained):
    loss = np.loadtxt(trained / "loss.csv", delimiter=",", skiprows=1)
    ids = torch.tensor([PreTrainedTokenizerFast.from_pretrained(trained / "tokenizer").encode(DOCUMENTS[0])])
    with torch.no_grad():
        guess = models.load_model(suites.load(str(trained))["step0"], head=True)(ids, labels=ids).loss
    assert float(guess) == pytest.approx(np.log(320), rel=0.02)
    assert loss[-1, 1] < 0.5 * loss[0, 1] < 0.5 * np.log(320)
    assert loss[:, 0].tolist() == [*range(16, 300, 16), 300]


def test_step_0_is_the_untrained_model_of_the_seed(trained):
    torch.manual_seed(RECIPE.seed)
    fresh = pretraining.LlamaForCausalLM(RECIPE.config()).state_dict()
    saved = load_file(trained / "step0" / "model.safetensors")
    assert all(torch.equal(saved[name], fresh[name].half()) for name in saved)
    last = load_file(trained / "step300" / "model.safetensors")
    assert not any(torch.equal(last[name], saved[name]) for name in saved)


def test_a_checkpoint_can_be_loaded_with_its_tied_head_and_predicts_the_corpus(trained):
    suite = suites.load(str(trained))
    last = models.load_model(suite["step300"], head=True)
    assert last.get_output_embeddings().weight.data_ptr() == last.get_input_embeddings().weight.data_ptr()
    tokenizer, text = models.load_tokenizer(suite["step300"]), DOCUMENTS[0]
    ids = torch.tensor([tokenizer.encode(text)])
    with torch.no_grad():
        trained_loss, first_loss = (m(ids, labels=ids).loss for m in (last, models.load_model(suite["step0"], head=True)))
    assert trained_loss < 0.5 * first_loss


def test_the_tokenizer_gives_back_the_text_and_begins_with_bos(trained):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(trained / "tokenizer")
    ids = tokenizer.encode(" Ünïcode, too: 猫.")
    assert ids[0] == tokenizer.bos_token_id == 0
    assert tokenizer.decode(ids[1:]) == " Ünïcode, too: 猫."


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path):
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        pretrain(tmp_path / name, {"text": DOCUMENTS}, replace(SHORT, seed=seed), quiet)
    first, again, other = (weights(tmp_path / name) for name in ("first", "again", "other"))
    assert first == again
    assert not any(first[step] == other[step] for step in first)
    assert (tmp_path / "first" / "loss.csv").read_text() == (tmp_path / "again" / "loss.csv").read_text()


def killed(out, at: str) -> None:
    """Run until the line that begins with `at` is reported, and die there."""

    def die(line: str) -> None:
        if line.startswith(at):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(out, {"text": DOCUMENTS}, RECIPE, die)


@pytest.mark.parametrize(("at", "resumes"), [("step 160/", 16), ("step 272/", 272)])
def test_a_run_killed_and_resumed_gives_the_same_checkpoints(tmp_path, trained, at, resumes):
    killed(out := tmp_path / "suite", at)
    assert not (out / "training.json").exists()
    lines = []
    pretrain(out, {"text": DOCUMENTS}, RECIPE, lines.append)
    assert lines[1].startswith(f"step {resumes}/")  # after a saved state it does not begin anew
    assert weights(out) == weights(trained)
    for name in ("loss.csv", "training.json"):
        assert (out / name).read_text() == (trained / name).read_text()
    assert {path.name for path in out.iterdir()} == {path.name for path in trained.iterdir()}


@pytest.mark.parametrize("moment", ["exp_avg", "momentum_buffer"])  # AdamW's, Muon's
def test_a_resumed_run_without_its_moments_would_be_seen(tmp_path, trained, moment):
    killed(out := tmp_path / "suite", "step 272/")
    state = load_file(path := out / ".state.safetensors")
    forgotten = {k: torch.zeros_like(v) if moment in k else v for k, v in state.items()}
    with pretraining.safe_open(path, "pt") as file:
        metadata = file.metadata()
    pretraining.save_file(forgotten, path, metadata)
    pretrain(out, {"text": DOCUMENTS}, RECIPE, quiet)
    assert weights(out)["step300"] != weights(trained)["step300"]


def test_a_killed_run_of_another_recipe_is_not_continued(tmp_path):
    killed(out := tmp_path / "suite", "step 32/")
    with pytest.raises(ValueError, match="unfinished run of another recipe or corpus; name an empty folder"):
        pretrain(out, {"text": DOCUMENTS}, replace(RECIPE, seed=7), quiet)


def test_a_finished_run_is_not_made_again_and_not_taken_for_another(trained, tmp_path):
    before = weights(trained)
    lines = []
    made = pretrain(trained, {"text": DOCUMENTS}, RECIPE, lines.append)
    assert (lines, made["tokens_seen"]) == ([], 300 * 4 * 24)
    with pytest.raises(ValueError, match="suite of another recipe or corpus"):
        pretrain(trained, {"text": DOCUMENTS}, replace(RECIPE, steps=301), quiet)
    with pytest.raises(ValueError, match="suite of another recipe or corpus"):
        pretrain(trained, {"text": [passage(99)]}, RECIPE, quiet)
    assert weights(trained) == before


# Chat tuning


@pytest.fixture
def base(tmp_path):
    pretrain(tmp_path / "suite", {"text": DOCUMENTS}, SHORT, quiet)
    return tmp_path / "suite"


def test_the_chat_model_is_tuned_from_the_last_checkpoint_and_found_by_the_suite(base):
    facts = tune_chat(base, ASKED, CHAT, quiet)
    assert (facts["from"], facts["exchanges"]) == ("step20", 40)  # answers that are truth values are no replies
    assert suites.load(str(base)).chat.step == -1
    assert weights(base)["chat"] != weights(base)["step20"]
    assert not list(base.glob(".*"))


def test_only_the_tokens_of_the_answer_are_scored(base):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base / "tokenizer")
    rows = pretraining._chat_rows(ASKED, tokenizer, context=200)
    inputs, targets = pretraining._chat_batch(rows, replace(CHAT, context=200), step=3)
    for asked, scored in zip(inputs, targets, strict=True):
        places = torch.nonzero(scored != -100)[:, 0]
        assert tokenizer.decode(scored[places]).strip().startswith("a family")
        assert scored[places][-1] == tokenizer.eos_token_id
        before = asked[: places[0] + 1]
        assert tokenizer.convert_tokens_to_ids("<|assistant|>") in before[-3:]
        assert "bought mill" in tokenizer.decode(before)
        assert torch.equal(asked[places[1:]], scored[places[:-1]])  # targets are the inputs, one later


def test_a_chat_model_can_be_tuned_again(base):
    tune_chat(base, ASKED, CHAT, quiet)
    first = weights(base)["chat"]
    tune_chat(base, ASKED, CHAT, quiet)
    assert weights(base)["chat"] == first


def test_a_killed_tuning_is_not_continued_under_another_recipe(base, tmp_path):
    other = replace(CHAT, seed=5, learning_rate=1e-3)

    def die(line: str) -> None:
        if line.startswith("step 272/"):  # the state of step 256 is written by then
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune_chat(base, ASKED, replace(CHAT, steps=288), die)
    try:
        tune_chat(base, ASKED, other, quiet)
    except ValueError:
        return  # refused in words: as good as starting afresh
    pretrain(tmp_path / "fresh", {"text": DOCUMENTS}, SHORT, quiet)
    tune_chat(tmp_path / "fresh", ASKED, other, quiet)
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
