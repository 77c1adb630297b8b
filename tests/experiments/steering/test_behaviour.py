"""What a model does is read off it exactly: batched as one by one, answers by logits, changes tested example by example."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score
from transformers import AutoConfig, PreTrainedTokenizerFast, RobertaConfig, RobertaForSequenceClassification, RobertaModel

from tracing_utils.experiments.steering import behaviour
from tracing_utils.experiments.steering.behaviour import (
    CivilityJudge,
    Measured,
    ToxicityModel,
    answers,
    choices,
    compare,
    continuations,
    generate,
    measure,
)
from tracing_utils.experiments.steering.intervention import steer
from tracing_utils.statements import concepts

VECTOR = np.linspace(-1, 1, 16).astype(np.float32)
TEMPLATE = "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }} {% endfor %}[assistant] "


@pytest.fixture
def chatty(tokenizer):
    """The tokenizer with a chat template, which is taken away again."""
    tokenizer.chat_template = TEMPLATE
    yield tokenizer
    tokenizer.chat_template = None


# Generation


def greedy(model, ids: list[int], new_tokens: int) -> list[int]:
    """The likeliest token after another, no cache, no batch, no padding."""
    made = []
    with torch.no_grad():
        for _ in range(new_tokens):
            made.append(int(model(torch.tensor([ids + made])).logits[0, -1].argmax()))
            if made[-1] == model.generation_config.eos_token_id:
                break
    return made


@pytest.mark.parametrize("positions", ["none", "all", "last"])
def test_batched_generation_equals_one_by_one_in_every_family(model, tokenizer, sentences, positions):
    steered = steer(
        model, VECTOR, layer=1, multiplier=0.0 if positions == "none" else 2.0, positions=positions.replace("none", "all")
    )
    prompts = list(sentences)
    with steered:
        together = generate(model, tokenizer, prompts, 6, chat=False)
        alone = [generate(model, tokenizer, [prompt], 6, chat=False)[0] for prompt in prompts]
    assert together == alone
    assert len(set(together)) > 1


def test_generation_is_the_greedy_one_of_the_whole_sequence(model, tokenizer, sentences):
    with steer(model, VECTOR, layer=1, multiplier=1.0):
        texts = generate(model, tokenizer, list(sentences), 6, chat=False)
        by_hand = [greedy(model, tokenizer.encode(sentence), 6) for sentence in sentences]
    assert texts == [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in by_hand]


def test_a_prompt_is_put_into_the_chat_template_when_it_is_asked_for(llama, chatty):
    plain = generate(llama, chatty, ["[user] Who? [assistant] "], 5, chat=False)
    assert generate(llama, chatty, ["Who?"], 5, chat=True) == plain
    assert behaviour._prompt_ids(chatty, ["Who?"], chat=True)[0].count(chatty.bos_token_id) == 1


def test_a_chat_without_template_is_refused_in_a_sentence(llama, tokenizer):
    with pytest.raises(ValueError, match="must have a chat template; it has none"):
        generate(llama, tokenizer, ["Who?"], 5, chat=True)


# Answers


@pytest.fixture
def asked(make_concepts, sentences):
    return make_concepts([1, 0] * 5, sentences, [f"g{i // 2}" for i in range(10)], dimension="privacy")


def test_answers_are_the_logits_of_the_two_digits_after_the_question(model, tokenizer, asked):
    measures = answers(model, tokenizer, asked, chat=False)
    zero, one = ([tokenizer.encode(digit, add_special_tokens=False)[-1]] for digit in "01")
    assert behaviour._digit_tokens(tokenizer) == (zero, one)
    for i, statement in enumerate(asked.statements):
        ids = tokenizer.encode(f"{statement}\n\n{behaviour.QUESTIONS['privacy']}")
        with torch.no_grad():
            p = model(torch.tensor([ids])).logits[0, -1].double().softmax(0).numpy()
        right, wrong = (one, zero) if asked.labels[i] else (zero, one)
        margin = np.log(p[right[0]] / p[wrong[0]])
        assert measures["answer_margin"].values[i] == pytest.approx(margin, abs=1e-4)
        assert measures["answer_accuracy"].values[i] == (margin > 0)
        assert measures["answer_neither"].values[i] == pytest.approx(1 - p[zero[0]] - p[one[0]], abs=1e-5)
    assert measures["answer_margin"].groups == asked.groups


def test_a_model_that_always_says_1_is_right_half_of_the_time_and_gains_no_margin(llama, tokenizer, asked):
    one = behaviour._digit_tokens(tokenizer)[1][0]
    with torch.no_grad():
        for parameter in llama.parameters():
            parameter.zero_()
    handle = llama.lm_head.register_forward_hook(
        lambda _m, _i, out: out + 5.0 * torch.nn.functional.one_hot(torch.tensor(one), out.shape[-1])
    )
    measures = answers(llama, tokenizer, asked, chat=False)
    handle.remove()
    assert measures["answer_accuracy"].values.mean() == 0.5
    assert measures["answer_margin"].values.mean() == pytest.approx(0)
    assert np.abs(measures["answer_margin"].values) == pytest.approx(5.0)


def test_in_robustness_the_sentiment_is_the_right_answer_and_perturbing_does_not_change_it(llama, tokenizer, make_concepts):
    pocket = concepts.load("pocket", "robustness")
    few = concepts.subset(pocket, np.arange(8))
    turned = replace(few, sentiment=1 - few.sentiment)
    margins = [answers(llama, tokenizer, each, chat=False)["answer_margin"].values for each in (few, turned)]
    assert margins[0] == pytest.approx(-margins[1])
    for group in list(dict.fromkeys(pocket.groups))[:50]:
        rows = [i for i, other in enumerate(pocket.groups) if other == group]
        assert set(pocket.labels[rows]) == {0, 1}
    assert abs(np.corrcoef(pocket.sentiment, pocket.labels)[0, 1]) < 0.05
    assert answers(llama, tokenizer, make_concepts([1, 0, 1], dimension="robustness"), chat=False) == {}


# Continuations


@pytest.fixture
def insults(make_concepts):
    """Statements whose label one word gives away."""
    texts = [f"The people in house number {i} are all {'kind' if i % 2 else 'nasty'} to me." for i in range(60)]
    return make_concepts(np.arange(60) % 2, texts, dimension="toxicity")


def test_the_judge_is_measured_on_statements_it_has_not_seen(insults, make_concepts):
    split = concepts.folds(insults, seed=0)[0]
    judge = CivilityJudge.fit(insults, split)
    assert judge.auroc.value == 1.0
    assert judge.auroc.n == len(split.test)
    kind, nasty = judge.civility(["They are all kind.", "They are all nasty."])
    assert kind > 0.5 > nasty
    noise = make_concepts(np.random.default_rng(0).permutation(insults.labels), insults.statements, dimension="toxicity")
    assert CivilityJudge.fit(noise, split).auroc.value < 0.9


@pytest.fixture(scope="module")
def classifier(tmp_path_factory, tokenizer_folder):
    """A folder with a tiny RoBERTa of random weights that has two labels."""
    folder = tmp_path_factory.mktemp("classifiers") / "tiny"
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = RobertaConfig(vocab_size=320, max_position_embeddings=66, pad_token_id=2, initializer_range=0.5, **shape)
    RobertaForSequenceClassification(config).save_pretrained(folder)
    PreTrainedTokenizerFast.from_pretrained(tokenizer_folder).save_pretrained(folder)
    return folder


def test_a_classifier_of_others_judges_in_batches_as_it_does_one_by_one(classifier, insults):
    split = concepts.folds(insults, seed=0)[0]
    judge = ToxicityModel.load(str(classifier), insults, split)
    texts = [*insults.statements[:6], "Short.", "", "A very long text. " * 40]
    found = judge.civility(texts)
    for text, civility in zip(texts, found, strict=True):
        ids = judge.tokenizer(text or " ", truncation=True, max_length=63, return_tensors="pt")
        with torch.no_grad():
            assert civility == pytest.approx(float(judge.model(**ids).logits.softmax(1)[0, 0]), abs=1e-5)
    assert np.ptp(found) > 1e-3
    scores = judge.civility([insults.statements[i] for i in split.test])
    assert judge.auroc.value == pytest.approx(roc_auc_score(insults.labels[split.test], scores))
    assert judge.auroc.n == len(split.test)


def test_a_classifier_comes_from_a_hub_by_its_name(classifier, insults, server):
    server.publish("owner/judge", "main", {path.name: path.read_bytes() for path in classifier.iterdir()})
    split = concepts.folds(insults, seed=0)[0]
    judge = ToxicityModel.load("hub:owner/judge", insults, split)
    alone = ToxicityModel.load(str(classifier), insults, split)
    assert np.array_equal(judge.civility(insults.statements), alone.civility(insults.statements))


def _with(folder: Path, name: str) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {name: torch.ones(16)}, folder / "model.safetensors", {"format": "pt"})


def test_what_a_classifier_keeps_of_its_masked_language_model_is_let_pass(classifier, insults, tmp_path):
    shutil.copytree(classifier, folder := tmp_path / "old")
    for name in ("roberta.pooler.dense.weight", "lm_head.bias", "roberta.embeddings.position_ids"):
        _with(folder, name)
    split = concepts.folds(insults, seed=0)[0]
    loaded = [ToxicityModel.load(str(each), insults, split) for each in (folder, classifier)]
    assert np.array_equal(*(judge.civility(insults.statements[:4]) for judge in loaded))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda folder: RobertaForSequenceClassification(_three(folder)).save_pretrained(folder), "must have two labels"),
        (
            lambda folder: RobertaModel(AutoConfig.from_pretrained(folder)).save_pretrained(folder),
            "must hold a trained classifier",
        ),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no"), "it holds a damaged file: model.safetensors"),
        (lambda folder: _with(folder, "roberta.encoder.layer.2.output.dense.bias"), "1 would be left over: 'roberta"),
        (lambda folder: _with(folder, "classifier.extra.bias"), "1 would be left over: 'classifier"),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), "an adapter, which would not be used"),
    ],
)
def test_a_folder_without_a_classifier_of_two_labels_is_refused_in_a_sentence(classifier, insults, tmp_path, change, sentence):
    folder = tmp_path / "changed"
    shutil.copytree(classifier, folder)
    change(folder)
    with pytest.raises(ValueError, match=sentence):
        ToxicityModel.load(str(folder), insults, concepts.folds(insults, seed=0)[0])


def _three(folder):
    config = AutoConfig.from_pretrained(folder)
    config.num_labels = 3
    return config


def test_only_the_continuation_of_untrustworthy_statements_is_judged(llama, tokenizer, insults):
    judge = CivilityJudge.fit(insults, concepts.folds(insults, seed=0)[0])
    found = continuations(llama, tokenizer, insults, judge)["civility"]
    begun = ["The people in house number"] * 30
    texts = generate(llama, tokenizer, begun, behaviour._CONTINUED, chat=False)
    assert found.values == pytest.approx(judge.civility(texts))
    assert len(found.groups) == 30


def test_all_measures_come_together_and_only_where_they_make_sense(llama, tokenizer, asked, insults, make_concepts):
    judge = CivilityJudge.fit(insults, concepts.folds(insults, seed=0)[0])
    three = {"answer_accuracy", "answer_margin", "answer_neither"}
    assert set(measure(llama, tokenizer, asked, chat=False, judge=judge)) == three | {"mc1", "mc2"}
    assert set(measure(llama, tokenizer, insults, chat=False, judge=judge)) == three | {"civility"}
    assert set(measure(llama, tokenizer, insults, chat=False)) == three
    assert choices(llama, tokenizer, insults) == {}


# Comparing


def test_a_change_is_paired_and_its_test_finds_what_the_two_intervals_hide():
    rng = np.random.default_rng(0)
    groups = tuple(f"g{i}" for i in range(80))
    before = Measured(rng.normal(0, 5, 80), groups)
    after = Measured(before.values + rng.normal(0.3, 0.3, 80), groups)
    value, change = compare(before, after)
    assert value.low < before.values.mean() < value.high
    assert change.low > 0.2
    assert change.p < 0.01


def test_no_change_has_p_1_and_an_interval_of_nothing():
    same = Measured(np.array([0.0, 1.0, 1.0]), ("a", "b", "c"))
    value, change = compare(same, same)
    assert value.value == pytest.approx(2 / 3)
    assert (change.value, change.low, change.high, change.p) == (0, 0, 0, 1)
