"""The command line: what a user mistypes, and what a user reads."""

import pytest

from tracing_utils.__main__ import main

PROBING = ["notebook", "studies/pocket.yml", "pocket", "probing", "step0", "", "runs"]


def study(folder, text):
    path = folder / "mine.yml"
    path.write_text(text)
    return str(path)


MISTAKES = {
    "a study that does not exist": (["run", "--study", "studies/poket.yml"], ["poket", "Did you mean 'studies/pocket.yml'?"]),
    "a suite": ("suite: pockt\nconcepts: pocket\n", ["Unknown suite 'pockt'", "Did you mean 'pocket'?"]),
    "a concept set": ("suite: pocket\nconcepts: pocet\n", ["Unknown concept set 'pocet'", "Did you mean 'pocket'?"]),
    "a dimension": (
        "suite: pocket\nconcepts: pocket\ndimensions: [privcy]\n",
        ["Unknown dimension 'privcy'", "Did you mean 'privacy'?"],
    ),
    "a revision": (
        "suite: pocket\nconcepts: pocket\nfeatured: [stp64]\n",
        ["Unknown revision of suite pocket 'stp64'", "Did you mean 'step64'?"],
    ),
    "an entry of the study": ("suite: pocket\nconcept: pocket\n", ["Unknown entry", "'concept'", "Did you mean 'concepts'?"]),
    "a missing entry": ("suite: pocket\n", ["must name its concepts"]),
    "a wrong type": ("suite: pocket\nconcepts: pocket\nseeds: many\n", ["seeds must be a positive whole number", "'many'"]),
    "an empty file": ("", ["must hold entries", "NoneType"]),
    "not YAML": ("suite: [pocket\n", ["must be a YAML file"]),
    "an experiment": ([*PROBING[:3], "probbing", *PROBING[4:]], ["Unknown experiment 'probbing'", "Did you mean 'probing'?"]),
    "a command": (["prtrain"], ["Unknown command 'prtrain'", "Did you mean 'pretrain'?"]),
    "a folder of statements": (["concepts", "no-such-folder"], ["Unknown concept set 'no-such-folder'"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_sentence_with_what_is_known_and_a_non_zero_exit(mistake, tmp_path, capsys):
    given, expected = MISTAKES[mistake]
    arguments = ["run", "--study", study(tmp_path, given)] if isinstance(given, str) else given
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    for words in expected:
        assert words in said


def test_the_suites_are_listed_with_their_checkpoints(capsys):
    assert main(["suites"]) == 0
    said = capsys.readouterr().out
    assert "16 checkpoints, step0 to step8192; chat model: yes" in said


def test_a_folder_of_statements_is_listed_with_its_floor(own_statements, capsys):
    assert main(["concepts", str(own_statements)]) == 0
    said = capsys.readouterr().out
    assert "privacy" in said
    assert "toxicity" not in said  # a dimension without a file is not listed
