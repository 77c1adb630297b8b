"""The parsers of what people write and bring, each as a function of bytes that may raise nothing but one sentence.

`test_parsers.py` gives them hypothesis's bytes, `fuzz.py` those of a fuzzer that watches which lines run.
"""

import json
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tracing_utils import results
from tracing_utils.checkpoints import suites
from tracing_utils.checkpoints.types import parse_revision
from tracing_utils.run import studies
from tracing_utils.statements import user_files

DESK = Path(tempfile.mkdtemp(prefix="parsers-"))
"""Where files lie that a parser reads by name."""


def _file(name: str, data: bytes) -> Path:
    (DESK / name).write_bytes(data)
    return DESK / name


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8", errors="surrogatepass")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _revision(data: bytes) -> None:
    found = parse_revision(_text(data))
    assert found is None or all(type(part) is int and part >= 0 for part in found if part is not None)


def _study(data: bytes) -> None:
    study = studies.read(_file("mine.yml", data))
    assert study.needed()


def _statements(suffix: str) -> Callable[[bytes], None]:
    def parse(data: bytes) -> None:
        table = user_files.read_statements(data, f"privacy{suffix}")
        assert set(table["label"]) == {0, 1}
        table.to_csv(index=False).encode()

    return parse


def _preferences(suffix: str) -> Callable[[bytes], None]:
    def parse(data: bytes) -> None:
        assert all(chosen.strip() and rejected.strip() for _, (chosen, rejected) in user_files.read_pairs(data, f"pairs{suffix}"))

    return parse


def _results(data: bytes) -> None:
    results.collect([_file("old.csv", data)], DESK / "new.csv")


def _registry(data: bytes) -> None:
    for template, entry in suites.registry(_text(data)).items():
        list(suites._expanded(template, entry))


def _saved_suite(data: bytes) -> None:
    suites.read_saved(_file("suite.json", data))


@dataclass(frozen=True)
class Target:
    """A parser, files that it reads, and words such files are made of."""

    parse: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    words: tuple[str, ...]

    def __call__(self, data: bytes) -> bool:
        """Parse; return whether `data` was accepted. Whatever is raised but one sentence goes through."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.parse(data)
        except ValueError as error:
            # Subclasses (of Unicode, of JSON) are raised by libraries, and say nothing to a user.
            assert type(error) is ValueError or type(error).__module__.startswith("tracing_utils"), repr(error)
            said = str(error)
            assert said.endswith((".", "?")) and len(said) < 1200 and said.isprintable(), said
            return False
        return True


ROWS = [f"Crew{i} sang air{i} to moon{i}." for i in range(24)]
TABLE = "".join(f"{row},{i % 2}\n" for i, row in enumerate(ROWS))
LINES = "\n".join(json.dumps({"statement": row, "label": i % 2, "group": i, "category": None}) for i, row in enumerate(ROWS))
SAVED = json.dumps(
    {
        "name": "s", "checkpoints": [
            {"suite": "s", "revision": "step0", "step": 0, "tokens": None, "folder": "a", "tokenizer": None, "remote": None},
            {"suite": "s", "revision": "step8", "step": 8, "tokens": 9, "folder": None, "tokenizer": None, "remote": {
                "repo": "a/b", "commit": "c", "subfolder": "", "files": [{"name": "f", "size": 1, "digest": "d"}],
                "tokenizer": None, "model_type": None}},
        ], "chat": None, "licence": "none", "about": "", "final": None,
    }
)  # fmt: skip
STUDY = (
    "suite: pocket\nconcepts: [pocket, tracingllm]\ncheckpoints: 4\nprobing: {seeds: 2, protocols: [released]}\n"
    "steering: {layers: [0, 4], doses: [-4, .5]}\n"
    "experiments: [probing]\ndimensions: [privacy]\nfeatured: [step0]\nallow_duplicates: true\n"
)
REGISTRY = (
    "a:\n  folder: f\n  licence: none\n  about: a suite\nb-{n}{m}:\n  for:\n    n: {1b: {parameters: 1.0e+9}, 7b: {}}\n"
    "    m: {'': {}, -x: {chat: null}}\n  repository: o/b-{n}\n  revisions: 'step\\d+'\n  licence: none\n  about: it\n"
)
HEADER = "suite,revision,step,tokens,layer,dimension,concept_set,method,metric,value,low,high,n,seed\n"

TARGETS = {
    "revision": Target(
        _revision,
        (b"stage1-step1000-tokens3B", b"step-480k-token-1007B", b"ckpt_356", b"anneal_iter_0010000", b"train_00220B"),
        ("step", "stage", "ckpt_", "-tokens", "B", "0", "9", "global_step", "_phase", "checkpoint", "iter_", "-seed-a", "\u0663"),
    ),
    "study": Target(
        _study,
        (STUDY.encode(), b"suite: hub:a/b@main\nconcepts: pocket\n", b"suite: pocket\nconcepts: pocket\nstatements: 0x10\n"),
        ("suite", "concepts", ": ", "pocket", "\n", "[", "]", "{", "}", ", ", "seeds", "0x", "1e9", ".nan", "null", "&a", "*a",
         "!!int", "<<", "? ", "- ", "'", '"', "\\ud800", "#", "|", ">", "2026-02-30", "step0", "featured", "hub:", "yes",
         "%", "@", "`", "\t"),
    ),
    "statements-csv": Target(
        _statements(".csv"),
        (f"statement,label\n{TABLE}".encode(), b"statement,label,group,category\n" + b'"a b",1,g,c\n' * 30),
        ("statement", "label", "group", "category", ",", "\n", "\r\n", '"', "0", "1", TABLE, "\0", "\ufeff", "a b", " "),
    ),
    "statements-jsonl": Target(
        _statements(".jsonl"),
        (LINES.encode(),),
        ('{"statement": ', '"label": ', "}", "{", "[", "]", "\n", "0", "1", '"a b"', '"\\ud800"', "null", "NaN", "1e999", ", ",
         '"group": '),
    ),
    "preferences-jsonl": Target(
        _preferences(".jsonl"),
        (b'{"chosen": "Good, kind.", "rejected": "Bad.", "prompt": null}\n',),
        ('{"chosen": ', '"rejected": ', "}", "{", "[", "]", "\n", "0", '"a b"', '"\\ud800"', "null", ", "),
    ),
    "preferences-csv": Target(
        _preferences(".csv"),
        (b'prompt,chosen,rejected\nq,"Good, kind.",Bad.\n',),
        ("chosen", "rejected", ",", "\n", '"', "a", " ", "\0", "\r"),
    ),
    "results": Target(
        _results,
        (f"{HEADER}s,step0,0,,1,privacy,pocket,logistic,accuracy,.5,.4,.6,9,0-4\n".encode(), f"{HEADER[:-1]},to_step\n".encode()),
        (HEADER, HEADER[:-1], ",", "\n", "0", "1.5", "nan", '"', "last", "9" * 30, "-", "\0", "step0"),
    ),
    "registry": Target(
        _registry,
        (REGISTRY.encode(),),
        ("a", ":", " ", "\n", "for", "{", "}", "{n}", "folder: ",
         "repository: ", "wheel: ", "licence: ", "about: ", "revisions: ",
         "'('", "null", "[", "]", "  ", "!!str", "*a", "parameters: "),
    ),
    "saved-suite": Target(
        _saved_suite,
        (SAVED.encode(), b"{}", b"[]"),
        ('"checkpoints": ', '"revision": ', "[", "]", "{", "}", ",", "null", '"../x"', "0", '"remote": ', '"chat": ', SAVED),
    ),
}  # fmt: skip
