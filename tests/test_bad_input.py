"""Whatever comes in, the command ends with exit code 2 and a sentence or two: what must hold, what came, what to do.

Every case runs through the entry of the command line or of a job, and leaves every file as it was.
"""

import json
import os
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM

from tracing_utils.__main__ import main
from tracing_utils.core.paths import PROJECT
from tracing_utils.run import jobs


class Desk:
    """A folder with a user's files: a study over the tiny suite, statements, checkpoints."""

    def __init__(self, folder: Path, suite: Path):
        self.folder, self.suite = folder, suite

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def study(self, more: str = "", suite: object = "", concepts: object = "pocket", name: str = "mine.yml") -> str:
        return str(self.write(name, f"suite: {suite or self.suite}\nconcepts: {concepts}\n{more}"))

    def copy(self) -> Path:
        shutil.copytree(self.suite, self.folder / "suite")
        return self.folder / "suite"

    def statements(self, content: str | bytes, name: str = "privacy.csv") -> Path:
        return self.write(f"statements/{name}", content).parent


@pytest.fixture
def desk(tmp_path, suite_folder) -> Desk:
    return Desk(tmp_path, suite_folder)


Case = tuple[Callable[[Desk], list[str]], list[str]]


# Studies


def planned(more: str, *said: str) -> Case:
    """A study with these lines more."""
    return lambda desk: ["plan", desk.study(more)], list(said)


def whole(content: str | bytes, *said: str) -> Case:
    """A study of this content."""
    return lambda desk: ["plan", str(desk.write("mine.yml", content))], list(said)


def of_suite(suite: str, *said: str) -> Case:
    return lambda desk: ["plan", desk.study(suite=suite)], list(said)


BOMB = "featured:\n - &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f" - &{later} [{', '.join([f'*{earlier}'] * 9)}]\n" for earlier, later in zip("abcdefgh", "bcdefghi", strict=True)
)
FINITE = "doses must be a list of finite numbers"
ONCE_READ = "must be a YAML file; it could not be read"

STUDIES: dict[str, Case] = {
    "a misspelt entry": planned("probing: {seed: 3}", "'seed'", "Did you mean 'seeds'?"),
    "an entry that is a number": planned("1: 2", "Unknown entry", "'1'", "known: suite, concepts"),
    "no suite": whole("concepts: pocket", "must name its suite"),
    "no concepts": whole("suite: pocket", "must name its concepts"),
    "a suite without a name": of_suite('""', "suite must be text, not ''"),
    "a misspelt suite": of_suite("poket", "Unknown suite 'poket'", "Did you mean 'pocket'?"),
    "a suite with NUL in its name": of_suite('"a\\0b"', "Unknown suite 'a\\x00b'"),
    "a suite with a name of 5,000 letters": of_suite("a" * 5000, "Unknown suite 'aaa", "hub:owner/name"),
    "a suite that is a file": of_suite("/etc/hostname", "Unknown suite '/etc/hostname'", "a folder of checkpoints"),
    "a hub without a name": of_suite("'hub:'", "must be named hub:owner/name", "'hub:' is not"),
    "a hub that is a path": of_suite("'hub:../../etc'", "must be named hub:owner/name", "'hub:../../etc' is not"),
    "a revision that is a path": of_suite("'hub:a/b@../../x'", "or hub:owner/name@revision", "@../../x' is not"),
    "a suite that asks for its own code": of_suite("crystal-coder", "runs Python code", "say trust_remote_code: true"),
    "a misspelt set": (
        lambda desk: ["plan", desk.study(concepts="tracinglm")],
        ["Unknown concept set 'tracinglm'", "Did you mean 'tracingllm'?"],
    ),
    "a set without a name": (lambda desk: ["plan", desk.study(concepts='""')], ["concepts must be a list of names, not ''"]),
    "one set twice": (lambda desk: ["plan", desk.study(concepts="[pocket, pocket]")], ["once; 'pocket' stands twice"]),
    "two sets of one name": (
        lambda desk: [
            "plan",
            desk.study(concepts=[str(desk.write(f"{n}/mine/privacy.csv", "").parent) for n in "ab"]),
        ],
        ["must have a name of its own"],
    ),
    "a misspelt dimension": planned("dimensions: [privcy]", "Unknown dimension 'privcy'", "Did you mean 'privacy'?"),
    "one dimension without a list": planned("dimensions: privacy", "dimensions must be a list of names, not 'privacy'"),
    "a dimension twice": planned("dimensions: [privacy, privacy]", "dimensions must name each once; 'privacy' stands twice"),
    "a misspelt experiment": planned("experiments: [probng]", "'probng'", "Did you mean 'probing'?"),
    "a misspelt protocol": planned("probing: {protocols: [realised]}", "'realised'", "Did you mean 'released'?"),
    "a misspelt measure": planned("steering: {measures: [trst]}", "'trst'", "Did you mean 'trust'?"),
    "preferences that are not there": planned("steering: {preferences: absent.csv}", "'absent.csv' is no file"),
    "a misspelt revision": planned("revisions: [step46]", "Unknown revision of suite tiny 'step46'", "Did you mean 'step64'?"),
    "a revision twice": planned("revisions: [step8, step8]", "revisions must name each once; 'step8' stands twice"),
    "a revision with NUL": planned('revisions: ["a\\0b"]', "Unknown revision", "'a\\x00b'"),
    "a date for a revision": planned("revisions: [2026-11-25]", "revisions must be a list of names, not [datetime.date"),
    "a misspelt page": planned("featured: [step46]", "'step46'", "Did you mean 'step64'?"),
    "a page of what is not traced": planned(
        "revisions: [step0, step64]\nfeatured: [step8]", "featured must name revisions that the study traces", "step8 is not"
    ),
    "a number in words": planned("probing: {seeds: five}", "seeds must be a positive whole number", "not 'five'"),
    "a broken number": planned("mutual_information: {examples: 0.5}", "examples must be a positive whole number", "not 0.5"),
    "a truth value for a number": planned("probing: {seeds: true}", "seeds must be a positive whole number", "not True"),
    "a negative number": planned("mutual_information: {examples: -1}", "examples must be a positive whole number", "not -1"),
    "no seed": planned("probing: {seeds: 0}", "seeds must be a positive whole number", "not 0"),
    "no example": planned("mutual_information: {examples: 0}", "examples must be a positive whole number", "not 0"),
    "no statement": planned("statements: 0", "statements must be a positive whole number", "not 0"),
    "a number beyond bounds": planned(f"probing: {{seeds: {10**30}}}", "up to 1,000,000,000, not 1" + "0" * 30),
    "a number of 5,000 digits": planned(f"statements: {'1' * 5000}", ONCE_READ, "digits"),
    "a number of 5,000 digits for nothing": planned(f"statements: 0x{'f' * 5000}", "not a number of thousands of digits"),
    "one checkpoint only": planned("checkpoints: 1", "At least 2 checkpoints", "1 were asked for"),
    "an endless dose": planned("steering: {doses: [.inf]}", "doses must be a list of finite numbers", "not [inf]"),
    "a dose without a value": planned("steering: {doses: [.nan]}", "doses must be a list of finite numbers", "not [nan]"),
    "a dose of 400 digits": planned(f"steering: {{doses: [1{'0' * 400}]}}", FINITE, "..."),
    "an empty list": planned("steering: {doses: []}", "doses must be a list", "not []"),
    "a layer in words": planned("steering: {layers: [last]}", "layers must be a list of whole numbers from 0", "'last'"),
    "a negative layer": planned("steering: {layers: [-1]}", "layers must be a list of whole numbers from 0", "not [-1]"),
    "a layer that the model has not": (
        lambda desk: ["job", "ledger", desk.study("steering: {layers: [1, 3]}"), str(desk.folder / "ledger.csv")],
        ["layers of steering must be 0 to 2", "3 is not", "Change it in the study"],
    ),
    "an option in its old place": planned("seeds: 3", "seeds is an option of probing", "`probing: {seeds: ...}`"),
    "an option under its old name": planned("steering_layers: [1]", "write it under that name: `steering: {layers: ...}`"),
    "an experiment that is no mapping": planned("steering: 3", "steering must hold options (layers,", "not 3"),
    "an option of another experiment": planned(
        "probing: {examples: 3}", "Unknown option of probing", "'examples'", "known: protocols, brief, seeds"
    ),
    "a dtype that is none": planned("dtype: float16", "dtype must be auto, float32 or bfloat16, not 'float16'"),
    "a word for a truth value": planned("allow_duplicates: 'yes'", "allow_duplicates must be true or false, not 'yes'"),
    "preferences with a name of 5,000 letters": planned(
        f"steering: {{preferences: {'a' * 5000}}}", "Preferences must be", "is no file"
    ),
    "an empty file": whole("", "must hold entries such as `suite: pocket`; it holds none"),
    "a list": whole("- suite\n", "must hold entries such as `suite: pocket`; it holds ['suite']"),
    "a word": whole("pocket", "must hold entries such as `suite: pocket`; it holds 'pocket'"),
    "a bracket that is not closed": whole("suite: [pocket\n", ONCE_READ),
    "no text": whole(b"suite: \xff\xfe\n", "must be a YAML file in UTF-8; byte 7 is not", "Save it as UTF-8"),
    "bytes of every value": whole(bytes(range(256)), "must be a YAML file in UTF-8"),
    "a sign that no text has": whole("suite: \1\n", ONCE_READ, "special characters are not allowed"),
    "an entry twice": planned("suite: pocket", ONCE_READ, "in line 3", "'suite' stands twice; leave one out"),
    "a number that is another one in YAML": planned("statements: 0100", ONCE_READ, "in line 3", "'0100' is another number"),
    "a step that is a time in YAML": planned("steps: {1:30: a}", ONCE_READ, "'1:30' is another number in YAML"),
    "a step written in two ways": planned("steps: {16: a, 0x10: b}", ONCE_READ, "are the same number, written in two ways"),
    "two relatives of one name": planned(
        "origins: {relatives: [a=pocket, a=pocket@step0]}", "must be another one; 'a' stands for two models. Name one otherwise"
    ),
    "a relative that is not there": (
        lambda desk: [
            "job",
            "ledger",
            desk.study("experiments: [origins]\norigins: {relatives: [a=poket]}"),
            str(desk.folder / "l.csv"),
        ],
        ["Unknown suite 'poket'", "Did you mean 'pocket'?"],
    ),
    "a list for an entry": planned("? [a, b]\n: 2", ONCE_READ, "unhashable key"),
    "a billion laughs": planned(BOMB, ONCE_READ, "in line 5", "aliases (*) are not read; write the value out"),
    "a tag that runs a command": planned(
        "featured: !!python/object/apply:os.system ['touch sprung']", ONCE_READ, "in line 3", "tags (!) are not read"
    ),
    "a tag on a number": planned("statements: !!int ''", ONCE_READ, "tags (!) are not read; write a plain value"),
    "entries to be merged": planned("<<: {statements: 3}", ONCE_READ, "not merged (<<); write them out"),
    "a day that does not exist": planned("featured: [2026-02-31]", ONCE_READ, "day is out of range"),
    "5,000 brackets": planned(f"featured: {'[' * 5000}{']' * 5000}", ONCE_READ, "too many brackets"),
    "a file of 2 MB": planned("#" * 2_000_000, "must be a YAML file of at most 1,000,000 bytes; it has 2,000,"),
    "no file": (
        lambda desk: ["plan", desk.study().replace("mine.yml", "mne.yml")],
        ["Unknown study", "mne.yml", "Did you mean", "mine.yml'?"],
    ),
    "a folder for a file": (lambda _: ["plan", "studies"], ["Unknown study 'studies'", "pocket.yml"]),
    "a study of the repository, misspelt": (lambda _: ["plan", "studis/pocket.yml"], ["Did you mean 'studies/pocket.yml'?"]),
    "a study whose name is a command": (
        lambda desk: ["plan", desk.study(name="a; touch sprung.yml")],
        ["The name of a study must be", "'a; touch sprung' is not", "Rename it"],
    ),
    "a study whose name is an option": (
        lambda desk: ["plan", desk.study(name="--cores.yml")],
        ["The name of a study must be", "'--cores' is not", "Rename it"],
    ),
}


# Statements


WORDS = [f"Crew{i} sang air{i} to moon{i}." for i in range(24)]


def csv_of(statements: list[str] = WORDS, labels: str = "01", more: str = "") -> str:
    return "statement,label\n" + "".join(f"{s},{labels[i % len(labels)]}\n" for i, s in enumerate(statements)) + more


def jsonl_of(third: object) -> str:
    """Good lines but for the third."""
    rows = [json.dumps({"statement": statement, "label": i % 2}) for i, statement in enumerate(WORDS)]
    rows[2] = third if isinstance(third, str) else json.dumps(third)
    return "\n".join(rows)


def table(content: str | bytes, *said: str) -> Case:
    return lambda desk: ["concepts", str(desk.statements(content))], ["privacy.csv", *said]


def lines(third: object, *said: str) -> Case:
    return lambda desk: ["concepts", str(desk.statements(jsonl_of(third), "privacy.jsonl"))], ["privacy.jsonl, row 3", *said]


STATEMENTS: dict[str, Case] = {
    "no column of labels": table(csv_of().replace("label", "lable", 1), "label is missing (found: lable, statement)"),
    "semicolons": table(
        csv_of().replace(",", ";"), "must have commas between its columns; it has semicolons. Save it with commas"
    ),
    "semicolons and quotes": table(
        '"statement";"label"\n"Yes, one.";0\n', "must have commas between its columns; it has semicolons"
    ),
    "tabs in a CSV": table(csv_of().replace(",", "\t"), "must have commas between its columns; it has tabs", "with tabs as .tsv"),
    "commas in a TSV": (
        lambda desk: ["concepts", str(desk.statements(csv_of(), "privacy.tsv"))],
        ["privacy.tsv must have tabs between its columns; it has commas"],
    ),
    "empty rows before a fault": table(csv_of(more=",,\n\nOne.,2\n"), "row 28: a label must be 0 or 1"),
    "no content": table("", "must have the columns statement and label", "found: none"),
    "a header alone": table("statement,label\n", "must hold at least 20 statements; it holds 0"),
    "too few statements": table(csv_of(WORDS[:19]), "must hold at least 20 statements; it holds 19"),
    "a column twice": table(csv_of().replace("label", "label,label", 1), "each column once; 'label' stands twice. Leave one out"),
    "an empty statement": table(csv_of(more="  ,1\n"), "row 26: a statement must hold text; it is empty"),
    "a statement of invisible signs": table(csv_of(more="\u200b,1\n"), "row 26: a statement must hold text; it is empty"),
    "an error of a spreadsheet": table(csv_of(more="#NAME?,1\n"), "row 26: a statement must hold text; it is #NAME?, by which"),
    "a statement without words": table(csv_of(["!" * (i + 1) for i in range(24)]), "statements of words; 24 of 24 have none"),
    "a statement with NUL": table(csv_of(more="a\0b c,1\n"), "row 26: a statement must hold text; it holds NUL"),
    "a statement of 120,000 characters": table(csv_of(more="word " * 24_000 + ",1\n"), "row 26", "100,000", "120,000"),
    "a statement of 1,000,000 characters": table(csv_of(more="word " * 200_000 + ",1\n"), "fields of at most 131,072"),
    "a label of 2": table(csv_of(more="One.,2\n"), "row 26: a label must be 0 or 1 (1 = trustworthy); it is '2'"),
    "a label in words": table(csv_of(more="One.,yes\n"), "row 26: a label must be 0 or 1", "it is 'yes'"),
    "no label": table(csv_of(more="One.\n"), "row 26: a label must be 0 or 1", "it is None"),
    "one class only": table(csv_of(labels="1"), "must hold both labels; every row is 1"),
    "one statement with both labels": table(csv_of(more=f"{WORDS[0]},1\n"), "row 26: a statement must have one label"),
    "one group": table(
        csv_of().replace("label", "label,group", 1).replace(",0\n", ",0,g\n").replace(",1\n", ",1,g\n"),
        "must hold at least 5 groups",
        "it holds 1. Add others",
    ),
    "two texts twelve times": table(csv_of(["Same text.", "Other text."] * 12), "must hold at least 5 groups", "it holds 2"),
    "a comma outside quotes": table(csv_of(more="One, two,1\n"), "row 26: it has more fields than the header", "in quotes"),
    "a quote that is not closed": table(csv_of(more='"one,1\n'), "must be a CSV table"),
    "Latin 1": table(csv_of(more="caf\xe9 ole,1\n").encode("latin-1"), "must be UTF-8; byte", "Save it as UTF-8"),
    "a pointer": table(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "it is a pointer of git-lfs in its place"),
    "UTF-16": table(csv_of().encode("utf-16"), "must be UTF-8; byte 0 is not. Save it as UTF-8"),
    "UTF-16 without a mark": table(csv_of().encode("utf-16-be"), "it is UTF-16, without a mark", "Save it as UTF-8"),
    "a spreadsheet under that name": table(b"PK\3\4\x14\0\6\0", "it is a spreadsheet or archive under that name", "as CSV"),
    "an archive under that name": table(b"\x1f\x8b\x08\0", "it is a spreadsheet or archive under that name"),
    "two encodings": table(csv_of().encode() + "ol\xe9 caf\xe9,1\n".encode("cp1252"), "must be UTF-8; byte"),
    "no text": table(b"\x00\x01\x02\n\x03", "must have the columns statement and label"),
    "a line that is no JSON": lines("{statement: one}", "it must be JSON"),
    "a line that is a list": lines('["one", 1]', "it must be a JSON object"),
    "a line without a label": lines({"statement": "One."}, "label is missing"),
    "a line without a statement": lines({"text": "One.", "label": 1}, "statement is missing"),
    "a name twice in a line": lines('{"statement": "One.", "label": 0, "label": 1}', "'label' stands twice"),
    "a label of 0.5": lines({"statement": "One.", "label": 0.5}, "a label must be 0 or 1 (1 = trustworthy); it is 0.5"),
    "a label of nan": lines({"statement": "One.", "label": float("nan")}, "a label must be 0 or 1", "it is nan"),
    "a label that is a list": lines({"statement": "One.", "label": [1]}, "a label must be 0 or 1", "it is [1]"),
    "a label of 5,000 digits": lines(f'{{"statement": "One.", "label": {"1" * 5000}}}', "must be JSON", "a number is too long"),
    "a statement of null": lines({"statement": None, "label": 1}, "a statement must hold text; it is empty"),
    "a statement that is a number": lines({"statement": 7, "label": 1}, "a statement must hold text; it is 7"),
    "half a character": lines('{"statement": "One \\ud800.", "label": 1}', "half a character. Save the file as UTF-8"),
    "100,000 brackets": lines("[" * 100_000, "must be JSON", "too many brackets"),
    "a folder without statements": (lambda desk: ["concepts", str(desk.folder)], ["must hold one or more of reliability.csv"]),
    "a folder for a file of statements": (
        lambda desk: ["concepts", str(desk.write("mine/privacy.csv/x", "").parent.parent)],
        ["must hold one or more of reliability.csv", "holds none"],
    ),
    "two files for a dimension": (
        lambda desk: ["concepts", str(desk.statements("", "privacy.CSV") and desk.statements("", "privacy.jsonl"))],
        ["one file a dimension", "two for privacy"],
    ),
    "a file that names no dimension": (
        lambda desk: ["concepts", str(desk.write("mine.csv", csv_of()))],
        ["must be named after its dimension", "mine.csv is not. Rename it"],
    ),
    "a folder that does not exist": (lambda _: ["concepts", "no-such-folder"], ["Unknown concept set 'no-such-folder'"]),
    "a name of 3,000 letters": (lambda _: ["concepts", "a" * 3000], ["Unknown concept set 'aaa"]),
    "a folder that takes a known name": (
        lambda desk: ["concepts", str(desk.write("pocket/privacy.csv", csv_of()).parent)],
        ["must have a name of their own", "Rename it"],
    ),
    "a folder named by markup": (
        lambda desk: ["concepts", str(desk.write("<img src=x onerror=alert(1)>/privacy.csv", csv_of()).parent)],
        ["The name of a concept set must be", "onerror", "Rename it"],
    ),
    "a study of dimensions that the statements lack": (
        lambda desk: ["plan", desk.study("dimensions: [toxicity]", concepts=desk.statements(csv_of()))],
        ["must have a dimension of the study; it has none of toxicity"],
    ),
    "fewer statements than folds": (
        lambda desk: ["job", "describe", desk.study("statements: 3\ndimensions: [privacy]"), str(desk.folder / "concepts.csv")],
        ["5 folds need at least 5 groups; pocket/privacy has"],
    ),
    "statements to fetch, misspelt": (lambda _: ["fetch", "tracinglm"], ["thing to fetch", "Did you mean 'tracingllm'?"]),
    "statements to fetch from nowhere": (
        lambda desk: ["fetch", "tracingllm", "--from", str(desk.folder / "none")],
        ["--from must name a folder", "is none"],
    ),
    "statements to fetch from an empty folder": (
        lambda desk: ["fetch", "tracingllm", "--from", str(desk.folder)],
        ["must hold files of tracingllm", "holds none of them"],
    ),
}


# Checkpoints


def computed(change: Callable[[Path], object], *said: str, more: str = "", statements: str = csv_of()) -> Case:
    """The activations of `step8` in a copy of the tiny suite, changed."""

    def build(desk: Desk) -> list[str]:
        change((suite := desk.copy()) / "step8")
        study = desk.study(f"revisions: [step8]\nexperiments: [probing]\n{more}", suite, desk.statements(statements))
        return ["job", "activations", study, "step8", str(desk.folder / "made" / "step8.safetensors")]

    return build, list(said)


def audited(change: Callable[[Path], object], *said: str) -> Case:
    """The ledger of a study over a copy of the tiny suite, changed."""

    def build(desk: Desk) -> list[str]:
        change((suite := desk.copy()) / "step8")
        return [
            "job",
            "ledger",
            desk.study("experiments: [probing]\nrevisions: [step1, step8]", suite),
            str(desk.folder / "ledger.csv"),
        ]

    return build, list(said)


def configured(**changes) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps(content))

    return change


def weighed(change: Callable[[dict], object]) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})

    return write


class Trap:
    """What a pickle with code in it unpickles to: a call."""

    def __reduce__(self):
        return os.mkdir, ("sprung",)


def pickled(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights | {"trap": Trap()}, folder / "pytorch_model.bin")


def with_code(folder: Path) -> None:
    configured(model_type="own", auto_map={"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"})(folder)
    (folder / "own.py").write_text("import os\nos.mkdir('sprung')\n")


def smaller(folder: Path) -> None:
    """A model that knows 100 of the tokenizer's tokens."""
    configured(vocab_size=100)(folder)
    names = ("model.embed_tokens.weight", "lm_head.weight")
    weighed(lambda weights: weights.update({name: weights[name][:100].clone() for name in names}))(folder)


def elsewhere(folder: Path) -> None:
    """An index whose weights are another checkpoint's, which no ledger would see."""
    names = dict.fromkeys(load_file(folder / "model.safetensors"), "../step1/model.safetensors")
    (folder / "model.safetensors").rename(folder / "model-1-of-1.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


def encoder(folder: Path) -> None:
    shutil.rmtree(folder)
    small = {"vocab_size": 320, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 8}
    BertForMaskedLM(BertConfig(**small)).save_pretrained(folder)


OUTSIDE = {"suite": "s", "revision": "../x", "step": 0, "tokens": None, "folder": None, "tokenizer": None, "remote": None}
SAVED_SUITE = {"name": "s", "checkpoints": [OUTSIDE], "chat": None, "licence": "none", "about": "", "final": None}

CHECKPOINTS: dict[str, Case] = {
    "a folder without checkpoints": (
        lambda desk: ["ledger", str(desk.folder)], ["must hold checkpoints named like step1000", "holds none"],
    ),
    "a suite that does not exist": (lambda _: ["ledger", "poket"], ["Unknown suite 'poket'", "Did you mean 'pocket'?"]),
    "a file that is no GGUF": (
        lambda desk: ["ledger", str(desk.write("model.gguf", "not one"))], ["must be a GGUF file", "GGUF magic"],
    ),
    "a file that is no saved suite": (
        lambda desk: ["ledger", str(desk.write("suite.json", "{}"))], ["must be the suite.json of a run", "Name a folder"],
    ),
    "a saved suite whose revision is a path": (
        lambda desk: [
            "ledger",
            str(desk.write("suite.json", json.dumps(SAVED_SUITE))),
        ],
        ["The name of a revision must be", "'../x' is not"],
    ),
    "no weights": audited(
        lambda folder: (folder / "model.safetensors").unlink(),
        "a configuration and a tokenizer; these have not", "step8 (no weights)", "Leave them out with `revisions:`",
    ),
    "a configuration that is no JSON": audited(
        lambda folder: (folder / "config.json").write_text("model_type: llama"), "step8 (config.json is no JSON object)",
    ),
    "a configuration that is a list": audited(
        lambda folder: (folder / "config.json").write_text("[]"), "step8 (config.json is no JSON object)",
    ),
    "a configuration without a family": audited(
        lambda folder: (folder / "config.json").write_text('{"model_type": null}'), "step8 (no model_type in config.json)",
    ),
    "no configuration": audited(
        lambda folder: (folder / "config.json").unlink(), "Unknown revision of suite suite 'step8'", "known: step0",
    ),
    "no tokenizer": audited(lambda folder: shutil.rmtree(folder.parent / "tokenizer"), "step8 (no tokenizer)"),
    "the weights of another revision": audited(
        lambda folder: shutil.copytree(folder.parent / "step1", folder, dirs_exist_ok=True),
        "must have weights of its own", "step1 = step8", "allow_duplicates: true",
    ),
    "an unknown family": computed(configured(model_type="lama"), "must hold a model", "`lama`"),
    "an encoder": computed(encoder, "must hold a decoder, which reads from left to right; it holds bert"),
    "weights that are not numbers": computed(
        weighed(lambda weights: weights["model.norm.weight"].fill_(float("nan"))),
        "must hold finite weights; norm.weight has NaN", "Leave this checkpoint out",
    ),
    "weights that are all zero": computed(
        weighed(lambda weights: [weight.zero_() for weight in weights.values()]),
        "Activations must not be zero; those of LlamaModel are", "Leave this checkpoint out",
    ),
    "a layer without weights": computed(configured(num_hidden_layers=4), "must hold all weights; 9 are missing", "layers.3."),
    "weights of another shape": computed(
        configured(intermediate_size=32), "of the shapes its config.json tells; 9 have others", "[16, 24] instead of [16, 32]",
    ),
    "weights that were cut off": computed(
        lambda folder: os.truncate(folder / "model.safetensors", 5000), "it holds a damaged file: model.safetensors",
    ),
    "weights without content": computed(
        lambda folder: os.truncate(folder / "model.safetensors", 0), "it holds a damaged file: model.safetensors",
    ),
    "a file of no weights": computed(weighed(dict.clear), "must hold all weights"),
    "weights with code in a pickle": computed(pickled, "must hold tensors and nothing else", "none was run"),
    "an index that leads outside": computed(elsewhere, "model.safetensors.index.json names '../step1/"),
    "code of its own": computed(with_code, "brings Python code of its own; say trust_remote_code: true in the study"),
    "a tokenizer of another model": computed(
        smaller, "A tokenizer must belong to its model, which knows 100 tokens; this one gave number",
    ),
    "a tokenizer that is damaged": computed(
        lambda folder: (folder.parent / "tokenizer" / "tokenizer.json").write_text("{"), "must hold a tokenizer",
    ),
    "a statement longer than the context": computed(
        lambda _: None, "A statement must have 1 to 256 tokens for this model", "'a b a b", "has 302",
        statements=csv_of(more="a b " * 150 + ",1\n"),
    ),
    "a statement of 100,000 tokens": computed(
        lambda _: None, "A statement must have 1 to 256 tokens for this model", "has 100002",
        statements=csv_of(more="\u4e00" * 33_333 + "a,1\n"),
    ),
}  # fmt: skip


# Commands, notebooks, results


HEADER = "suite,revision,step,tokens,layer,dimension,concept_set,method,metric,value,low,high,n,seed\n"
NOTEBOOK = ["job", "notebook", "studies/pocket.yml", "pocket", "probing", "step0", "", "runs"]

COMMANDS: dict[str, Case] = {
    "a misspelt job": (lambda _: ["job", "notbook"], ["Unknown job of a run 'notbook'", "Did you mean 'notebook'?"]),
    "a job with a word too few": (
        lambda _: ["job", "weights", "studies/pocket.yml", "step0"], ["takes 3 words, study revision out; 2 came"],
    ),
    "cores where a profile says how many": (
        lambda desk: [
            "run", "--study", desk.study(name="pocket-not-run.yml"), "--profile", "profiles/laptop", "--cores", "2",
        ],
        ["--cores must be left out", "profiles/laptop", "it is 2"],
    ),
    "a misspelt command": (lambda _: ["prtrain"], ["Unknown command 'prtrain'", "Did you mean 'pretrain'?"]),
    "a misspelt experiment": (
        lambda _: [*NOTEBOOK[:4], "probbing", *NOTEBOOK[5:]], ["Unknown experiment 'probbing'", "Did you mean 'probing'?"],
    ),
    "a misspelt set": (
        lambda _: [*NOTEBOOK[:3], "poket", *NOTEBOOK[4:]], ["Unknown concept set of study pocket 'poket'"],
    ),
    "a misspelt revision": (
        lambda _: [*NOTEBOOK[:5], "stp0", *NOTEBOOK[6:]], ["Unknown revision of suite pocket 'stp0'", "Did you mean 'step0'?"],
    ),
    "a revision that is a path": (
        lambda _: [*NOTEBOOK[:5], "../../step0", *NOTEBOOK[6:]], ["Unknown revision of suite pocket '../../step0'"],
    ),
    "a misspelt GPU": (lambda desk: ["plan", desk.study(), "--gpu", "h1000"], ["Unknown GPU 'h1000'", "Did you mean 'h100'?"]),
    "a study to compare whose name is a path": (
        lambda _: ["compare", "../../evil"], ["The name of a study must be", "'../../evil' is not", "Rename it"],
    ),
    "a study to compare that is misspelt": (lambda _: ["compare", "poket"], ["Unknown published study 'poket'", "'pocket'?"]),
    "results to compare that are not there": (
        lambda desk: ["compare", "pocket", "--with", str(desk.folder / "none.zip")], ["must be a folder or a zip", "none.zip"],
    ),
    "results to compare that are no zip": (
        lambda desk: ["compare", "pocket", "--with", str(desk.write("a.zip", "text"))], ["must be a folder or a zip", "a.zip"],
    ),
    "a table without columns of this version": (
        lambda desk: [
            "job", "collect", str(desk.folder / "out.csv"), str(desk.write("old.csv", HEADER.replace("concept_set", "dataset"))),
        ],
        ["old.csv must have the columns", "concept_set is missing", "Another version wrote it", "run the study again"],
    ),
    "a table with a word for a layer": (
        lambda desk: [
            "job", "collect", str(desk.folder / "out.csv"), str(desk.write("t.csv", HEADER + "s,r,0,0,last,d,c,m,m,1,1,1,1,0\n")),
        ],
        ["t.csv must be a table of results", "Delete it and run the study again"],
    ),
    "a table that is no text": (
        lambda desk: ["job", "collect", str(desk.folder / "out.csv"), str(desk.write("t.csv", b"\xff\xfe\0"))],
        ["t.csv must be a table of results", "Delete it"],
    ),
    "a table that is not there": (
        lambda desk: ["job", "collect", str(desk.folder / "out.csv"), str(desk.folder / "t.csv")],
        ["must exist", "t.csv does not"],
    ),
    "a record that is not there": (
        lambda desk: ["job", "provenance", desk.study(suite="pocket"), str(desk.folder), str(desk.folder / "provenance.json")],
        ["step0.json", "No such file"],
    ),
    "evidence that is not there": (
        lambda desk: ["job", "summary", desk.study(suite="pocket"), "dynamics", str(desk.folder), str(desk.folder / "new.csv")],
        ["need the evidence of every checkpoint; that of step0 is missing", "Run probing"],
    ),
    "no step to train": (
        lambda desk: ["pretrain", "--out", str(desk.folder / "new"), "--steps", "0"],
        ["steps must be a whole number from 1 up; 0 came"],
    ),
    "a file where a folder goes": (
        lambda desk: ["notebooks", str(desk.write("out", ""))], ["out", "File exists"],
    ),
}  # fmt: skip

CASES = {
    f"{kind}: {name}": case
    for kind, cases in (
        ("a study", STUDIES),
        ("statements", STATEMENTS),
        ("a checkpoint", CHECKPOINTS),
        ("a command", COMMANDS),
    )
    for name, case in cases.items()
}


def seen(*folders: Path) -> dict[Path, bytes]:
    """Every file in these folders with its content."""
    return {path: path.read_bytes() for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()}


def start(arguments: list[str]) -> int:
    """Run a command, or behind `job` a job of a run; return its exit code."""
    return jobs.main(arguments[1:]) if arguments[0] == "job" else main(arguments)


def judged(said: str) -> list[str]:
    """What is wrong with an error: more than one line or two sentences, a traceback, no end."""
    faults = ["Traceback"] if "Traceback" in said else []
    faults += ["lines"] if said.count("\n") != 1 else []
    faults += ["beginning or end"] if not re.fullmatch(r"error: .*[.?]\n", said, flags=re.S) else []
    faults += ["length"] if len(said) > 900 else []
    return faults


def test_an_error_that_is_no_sentence_is_seen():
    assert judged("error: A study must have a suite; it has none.\n") == []
    assert judged("Traceback (most recent call last):\n ...\nKeyError: 'suite'\n") == ["Traceback", "lines", "beginning or end"]
    assert judged(f"error: {'x' * 1000}.\n") == ["length"]


@pytest.mark.parametrize("case", CASES)
def test_bad_input_ends_with_code_2_and_a_sentence_and_loses_nothing(case, desk, capsys, monkeypatch):
    monkeypatch.setenv("TRACING_UTILS_CACHE", str(desk.folder.parent / "cache"))  # nothing has been fetched
    build, expected = CASES[case]
    arguments = build(desk)
    published = [PROJECT / "results", PROJECT / "studies"]
    before, runs = seen(desk.folder, *published), sorted((PROJECT / "runs").glob("*"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert start(arguments) == 2
    said = capsys.readouterr().err.removeprefix("[transformers] ")
    assert judged(said) == [], said
    for words in expected:
        assert words in said
    assert seen(desk.folder, *published) == before
    assert sorted((PROJECT / "runs").glob("*")) == runs
    assert not Path("sprung").exists()
