"""Statements become the tokens that the model was trained on, end in their own last token, and stay apart."""

import json
import re
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import yaml
from test_hub import files_of
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tracing_utils.__main__ import main
from tracing_utils.checkpoints import activations, hub, ledger, suites, tokens
from tracing_utils.checkpoints.models import load_model, load_tokenizer
from tracing_utils.checkpoints.types import Checkpoint
from tracing_utils.core.paths import PROJECT
from tracing_utils.experiments.steering import behaviour
from tracing_utils.run import plan, studies, workflow

TEXT = "The baker's 1234 lamps  kept near the RIVER, as a naïve café; 中文 \U0001f600!"


@pytest.fixture
def copied(tokenizer_folder, tmp_path):
    """Return a function that copies the tokenizer into a folder and changes what its files hold."""

    def copy(folder: Path = tmp_path / "words", described: dict | None = None, **stored) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, change in (("tokenizer.json", stored), ("tokenizer_config.json", described or {})):
            content = json.loads((tokenizer_folder / name).read_text())
            (folder / name).write_text(json.dumps(content | change))
        return folder

    return copy


def at(folder: Path) -> Checkpoint:
    return Checkpoint("s", "step0", 0, None, folder, folder)


def stored_ids(folder: Path, text: str = TEXT) -> list[int]:
    return Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids


# Whose tokenizer


@pytest.fixture
def own_words(suite_folder, copied, tmp_path):
    """A suite of which step1, step8 and the chat model bring tokenizers of their own."""
    shutil.copytree(suite_folder, folder := tmp_path / "tiny")
    whole = {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}}
    copied(folder / "step1", **whole)
    copied(folder / "step8")
    copied(folder / "chat", described={"chat_template": "{% for m in messages %}[{{ m['content'] }}]{% endfor %}"})
    return folder


def test_each_checkpoint_and_the_chat_model_are_read_with_their_own_tokenizer_where_there_is_one(own_words):
    suite = suites.load(str(own_words))
    assert {c.revision: c.tokenizer.name for c in (*suite.checkpoints, suite.chat)} == {
        "step0": "tokenizer", "step1": "step1", "step2": "tokenizer", "step8": "step8", "step64": "tokenizer", "chat": "chat"
    }  # fmt: skip
    assert stored_ids(own_words / "step1") != stored_ids(own_words / "tokenizer")
    for checkpoint in suite.checkpoints:
        assert load_tokenizer(checkpoint)(TEXT)["input_ids"] == stored_ids(checkpoint.tokenizer)
    asked = behaviour._prompt_ids(load_tokenizer(suite.chat), ["Why?"], chat=True)
    assert load_tokenizer(suite.chat).decode(asked[0]).endswith("[Why?]")


@pytest.mark.parametrize("file", ["chat_template.jinja", "chat_template.json", "tokenizer_config.json"])
def test_a_chat_model_that_brings_a_template_alone_has_the_words_of_its_base_and_its_own_template(own_words, file):
    plain = ledger.tokenizer_identity(suites.load(str(own_words))["step0"])
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (own_words / "chat" / name).unlink()
    (own_words / "chat" / "chat_template.jinja").unlink(missing_ok=True)
    template = "{% for m in messages %}<{{ m['content'] }}>{% endfor %}"
    stored = template if file.endswith(".jinja") else json.dumps({"chat_template": template})
    (own_words / "chat" / file).write_text(stored)
    chat = suites.load(str(own_words)).chat
    assert chat.tokenizer == own_words / "tokenizer"
    read = load_tokenizer(chat)
    assert read.decode(behaviour._prompt_ids(read, ["Why?"], chat=True)[0]).endswith("<Why?>")
    assert set(ledger.tokenizer_identity(chat)) > set(plain)


ONE, OTHER = "<{{ messages[0]['content'] }}>", "({{ messages[0]['content'] }})"
ALL = {"default": ONE, "rag": OTHER}
NAMED = "additional_chat_templates/rag.jinja"
ASKED = {  # files with a chat template, and what is said of them; nothing where it is asked with
    "of several the default": ({"chat_template.jinja": ONE, NAMED: OTHER}, ""),
    "several in one file": (
        {"tokenizer_config.json": {"chat_template": [{"name": name, "template": text} for name, text in ALL.items()]}}, ""
    ),
    "several and no default": ({NAMED: OTHER}, "This model has multiple chat templates with no default"),
    "no end": ({"chat_template.jinja": "{% for m in messages %}"}, "Unexpected end of template"),
    "a system message wanted": ({"chat_template.jinja": "{{ raise_exception('first a system') }}"}, "first a system"),
    "another role": ({"chat_template.jinja": "{{ messages | selectattr('role', 'eq', 'human') | join }}"}, "one makes ''"),
    "no question": ({"chat_template.jinja": "Hello."}, "of 'Is it so?' this one makes 'Hello.'"),
}  # fmt: skip


@pytest.mark.parametrize("case", ASKED)
def test_of_several_chat_templates_the_default_is_asked_with_and_one_that_takes_no_question_stops_the_steering_alone(
    case, own_words, own_statements, tmp_path
):
    held, said = ASKED[case]
    (own_words / "chat" / "tokenizer_config.json").write_text("{}")
    (own_words / "chat" / "additional_chat_templates").mkdir()
    for name, content in held.items():
        (own_words / "chat" / name).write_text(content if isinstance(content, str) else json.dumps(content))

    def check(*names):
        read = studies.Study("s", str(own_words), (str(own_statements),), experiments=names)
        workflow.check_tokenizers(read, tmp_path)

    check("probing")
    if said:
        with pytest.raises(ValueError, match=f"A chat template must .*{re.escape(said)}"):
            check("probing", "steering")
    else:
        check("probing", "steering")
        tokenizer = load_tokenizer(suites.load(str(own_words)).chat)
        assert tokenizer.decode(behaviour._prompt_ids(tokenizer, ["Why?"], chat=True)[0]).endswith("<Why?>")


def test_a_chat_template_that_ends_a_question_in_an_end_of_text_is_told(tokenizer_folder):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    tokenizer.chat_template = "{{ messages[0]['content'] }}{{ eos_token }}{% if add_generation_prompt %}[A]{% endif %}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokens.framed(tokenizer, ["Why?"])
    tokenizer.chat_template = ONE + "{{ eos_token }}\n"
    with pytest.warns(UserWarning, match=r"The chat template ends a question in <\|eos\|>, behind which"):
        tokens.framed(tokenizer, ["Why?"])


def test_a_chat_template_that_puts_the_question_behind_the_place_of_the_answer_is_told(tokenizer_folder):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    for before, after, told in (("", "[A]", False), ("[A]", "", True)):
        prompt = [f"{{% if add_generation_prompt %}}{part}{{% else %}}.{{% endif %}}" if part else "" for part in (before, after)]
        tokenizer.chat_template = ONE.join(prompt)
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("always")
            assert tokens.framed(tokenizer, ["Why?"]) == [f"{before}<Why?>{after}"]
        assert [str(warning.message)[:60] for warning in raised] == told * [
            "The chat template puts something before a question so that i"
        ]


def test_chat_templates_that_have_names_come_from_the_hub_too(server, family_checkpoints, tokenizer_folder, tmp_path):
    held = files_of(family_checkpoints["llama"].folder, tokenizer_folder)
    server.publish("tests/named", "step0", held | {NAMED: OTHER.encode(), "additional_chat_templates/../x.jinja": b"x"})
    (described,) = hub.resolve(suites.load("hub:tests/named").checkpoints)
    for placed in (hub.fetch(described, tmp_path / "whole"), hub.with_tokenizer(described, tmp_path / "words")):
        assert load_tokenizer(placed).chat_template == {"rag": OTHER}
        assert not (tmp_path / "x.jinja").exists()


def test_a_tokenizer_in_a_folder_inside_the_checkpoint_is_its_own(own_words):
    shutil.copytree(own_words / "step1", own_words / "step2" / "tokenizer")
    (own_words / "step2" / "tokenizer" / "model.safetensors").unlink()
    (own_words / "step2" / "tokenizer" / "config.json").unlink()
    assert suites.load(str(own_words))["step2"].tokenizer == own_words / "step2" / "tokenizer"


def test_letters_that_a_tokenizer_drops_are_counted(make_concepts):
    """Without a token for the unknown, pairs of letters it never saw leave nothing behind."""
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.train_from_iterator(["the lamp and the coin " * 9], trainers.BpeTrainer(vocab_size=60))
    read = PreTrainedTokenizerFast(tokenizer_object=words)
    for texts, told in ((["the lamp", "the coin"], False), (["лампа the", "монета and"], True)):
        made = make_concepts(np.array([0, 1]), statements=texts)
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("always")
            tokens.check(read, made, tokens.tokenize(read, texts))
        assert any("drops" in str(each.message) for each in raised) == told


def test_without_a_shared_tokenizer_the_last_one_serves_those_without(own_words):
    shutil.rmtree(own_words / "tokenizer")
    (own_words / "step8" / "tokenizer.json").unlink()  # what is left only describes one
    (own_words / "chat" / "tokenizer.json").unlink()
    (own_words / "chat" / "tokenizer.json").symlink_to("nowhere")
    suite = suites.load(str(own_words))
    assert {c.tokenizer.name for c in (*suite.checkpoints, suite.chat)} == {"step1"}


def test_a_tokenizer_that_the_registry_names_comes_before_those_of_the_checkpoints(own_words, copied):
    copied(own_words / "words")
    named = suites._read_folder("tiny", own_words, {"tokenizer": "words"})
    assert {c.tokenizer.name for c in named.checkpoints} == {"words"}
    assert named.chat.tokenizer.name == "chat"
    absent = suites._read_folder("tiny", own_words, {"tokenizer": "absent"})
    assert absent["step1"].tokenizer.name == "step1"


def test_the_ledger_says_whose_tokenizer_each_has_and_where_it_changes(own_words, capsys):
    suite = suites.load(str(own_words))
    made = ledger.table([*suite.checkpoints, suite.chat]).set_index("revision")
    assert made["faults"].to_dict() == {
        "step0": "", "step1": "another tokenizer than step0", "step2": "another tokenizer than step1",
        "step8": "another tokenizer than step2", "step64": "another tokenizer than step8", "chat": "",
    }  # fmt: skip
    assert made["tokenizer"]["step0"] == made["tokenizer"]["step64"]
    assert made["tokenizer"].nunique() == 4
    ledger.check(made.reset_index())  # told, and not refused
    assert main(["ledger", str(own_words)]) == 0
    said = capsys.readouterr().out
    assert re.search(rf"chat .* {made['tokenizer']['chat'][:12]}", said)
    assert "Different tokenizers, that of the chat model included: 4." in said


def test_a_chat_model_that_the_hub_does_not_give_leaves_the_ledger_of_the_rest(
    server, family_checkpoints, tokenizer_folder, capsys, monkeypatch
):
    content = files_of(family_checkpoints["llama"].folder, tokenizer_folder)
    server.publish("tests/run", "step0", content)
    entry = {"repository": "tests/run", "chat": "tests/gone"}
    monkeypatch.setattr(suites, "load", lambda _: hub.listed("run", entry))
    assert main(["ledger", "run"]) == 0
    said = capsys.readouterr().out
    assert "The chat model is not shown. The hub refused tests/gone" in said
    assert "1 checkpoints; 0 repeat" in said
    server.publish("tests/gone", "main", content)
    assert main(["ledger", "run"]) == 0
    assert re.search(r"^ *chat .* step0 ", capsys.readouterr().out, re.MULTILINE)  # it has the weights of step0


# How it splits

CLASSES = (
    "GPT2Tokenizer",
    "GPTNeoXTokenizer",
    "Qwen2Tokenizer",
    "LlamaTokenizer",
    "GemmaTokenizer",
    "BertTokenizer",
    "T5Tokenizer",
)
DIGITS = {"type": "Sequence", "pretokenizers": [
    {"type": "Digits", "individual_digits": True},
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": False},
]}  # fmt: skip


def as_transformers_reads(folder: Path) -> list[int] | None:
    try:
        return AutoTokenizer.from_pretrained(folder)(TEXT)["input_ids"]
    except Exception:
        return None


@pytest.mark.parametrize("name", [*CLASSES, "NobodysTokenizer", None])
def test_a_class_of_transformers_does_not_replace_the_splitting_that_is_stored(copied, name):
    folder = copied(described={"tokenizer_class": name} if name else {}, pre_tokenizer=DIGITS, normalizer={"type": "Lowercase"})
    if name in CLASSES and name != "LlamaTokenizer":  # which makes way for what spells in bytes
        assert as_transformers_reads(folder) != stored_ids(folder)
    assert load_tokenizer(at(folder))(TEXT)["input_ids"] == stored_ids(folder)
    (folder / "tokenizer_config.json").unlink()
    assert load_tokenizer(at(folder))(TEXT)["input_ids"] == stored_ids(folder)


def test_a_tokenizer_of_another_branch_of_the_hub_splits_as_it_says(server, family_checkpoints, copied, tmp_path):
    words = copied(described={"tokenizer_class": "GPTNeoXTokenizer"}, pre_tokenizer=DIGITS)
    server.publish("tests/bare", "step0", files_of(family_checkpoints["gpt_neox"].folder, None))
    server.publish("tests/bare", "main", files_of(family_checkpoints["gpt_neox"].folder, words, seed=1))
    (there,) = hub.resolve(suites.load("hub:tests/bare").checkpoints)
    fetched = hub.fetch(there, tmp_path / "w")
    assert fetched.tokenizer == tmp_path / "w" / "tokenizer"
    assert as_transformers_reads(fetched.tokenizer) != stored_ids(words)
    assert load_tokenizer(fetched)(TEXT)["input_ids"] == stored_ids(words)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n",
            "it holds a pointer of git-lfs in place of tokenizer.json: run `git lfs pull`",
        ),
        ("[]", "reading it failed: "),
        ('{"model": 3}', "reading it failed: "),
    ],
)
def test_a_tokenizer_that_cannot_be_read_is_one_sentence(copied, content, said):
    (folder := copied()).joinpath("tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match=re.escape(said)):
        load_tokenizer(at(folder))


def test_the_ledger_refuses_a_pointer_in_the_place_of_a_tokenizer(own_words):
    (own_words / "step8" / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match=r"step8 \(a pointer of git-lfs in place of tokenizer\.json: run `git lfs pull`\)"):
        ledger.check(ledger.table(suites.load(str(own_words)).checkpoints))


def a_token(number: int, content: str, **more) -> dict:
    return {"added_tokens_decoder": {str(number): _token(content, **more)}}


def _token(content: str, **more) -> dict:
    usual = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": False}
    return {"content": content} | usual | more


OTHERWISE = {
    "a word that is one token by tokenizer_config.json alone": (a_token(320, "window"), {}),
    "a special token that is a word": ({"extra_special_tokens": ["lamp"]}, {}),
    "an end of text that is a word": ({"eos_token": "it"}, {}),
}
ALIKE = {
    "nothing": ({}, {}),
    "another number for a token that both have, of which the stored one counts": (
        a_token(321, "<|q|>", special=True),
        {"added_tokens": [{"id": 320} | _token("<|q|>", special=True)]},
    ),
    "tokens more that stand for no text": (a_token(320, "<|q|>", special=True) | {"extra_special_tokens": ["[A]"]}, {}),
    "a length to cut off at": (
        {}, {"truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}},
    ),
}  # fmt: skip


def test_a_tokenizer_that_splits_words_at_random_is_refused(copied, tokenizer_folder):
    """What its training left in the file makes other tokens at each reading."""
    model = json.loads((tokenizer_folder / "tokenizer.json").read_text())["model"]
    load_tokenizer(at(copied(model=model | {"dropout": None})))
    folder = copied(model=model | {"dropout": 0.5})
    read = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert len({tuple(read.encode(TEXT).ids) for _ in range(20)}) > 1
    with pytest.raises(ValueError, match=r"must give the same tokens each time; its model has dropout: 0\.5\. Write null"):
        load_tokenizer(at(folder))


@pytest.mark.parametrize("case", [*OTHERWISE, *ALIKE])
def test_files_that_make_another_tokenizer_of_the_stored_one_are_refused_before_a_run(copied, case):
    described, stored = (OTHERWISE | ALIKE)[case]
    folder = copied(described=described, **stored)
    if case in ALIKE:
        load_tokenizer(at(folder))
        return
    with pytest.raises(ValueError, match=r"must hold one tokenizer; of '.*' its tokenizer\.json makes the tokens \[") as refused:
        load_tokenizer(at(folder))
    assert "\n" not in str(refused.value)


AROUND = {"nothing": "$A", "a begin": "<|bos|> $A", "both": "<|bos|> $A <|eos|>"}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize(
    "asked", [{}, {"add_bos_token": None}, *({f"add_{end}_token": told} for end in ("bos", "eos") for told in (True, False))]
)
def test_a_begin_or_end_of_text_that_is_asked_for_and_not_put_is_told_before_a_text_is_read(copied, around, asked):
    special = [token for token in SPECIAL if token[0] in AROUND[around]]
    template = processors.TemplateProcessing(single=AROUND[around], special_tokens=special)
    folder = copied(described=asked, post_processor=json.loads(template.__getstate__()))
    put = {"add_bos_token": around != "nothing", "add_eos_token": around == "both"}
    differs = [f"{key}: {str(told).lower()}" for key, told in asked.items() if told is not None and told != put[key]]
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        read = load_tokenizer(at(folder))
    assert read("The lamp")["input_ids"] == stored_ids(folder, "The lamp")  # which transformers follows
    said = [str(warning.message) for warning in raised]
    assert [each.partition("it says ")[2].partition(", and")[0] for each in said] == differs


BUNDLED = {"pocket": 10, "world-coherent": 17, "world-scrambled": 17, "world-forgetting": 6, "world-other-seed": 1}
"""How many models each has, its chat model among them."""


@pytest.mark.parametrize("suite", BUNDLED)
def test_a_checkpoint_folder_of_a_bundled_suite_opens_as_transformers_opens_any(suite):
    folder = PROJECT / "checkpoints" / suite
    expected = load_tokenizer(at(folder / "tokenizer"))
    models_here = sorted(path.parent for path in folder.glob("*/config.json"))
    assert len(models_here) == BUNDLED[suite]
    for path in models_here:
        assert {file.name: file.read_bytes() for file in (folder / "tokenizer").iterdir()}.items() <= {
            file.name: file.read_bytes() for file in path.iterdir()
        }.items()
    assert AutoTokenizer.from_pretrained(path)("The lamp is red.")["input_ids"] == expected("The lamp is red.")["input_ids"]


# Where a text ends

ENDS = {"one token": "<|bos|> $A <|eos|>", "two tokens": "<|bos|> $A <|pad|> <|eos|>", "nothing before": "$A <|eos|>"}
SPECIAL = [("<|bos|>", 0), ("<|eos|>", 1), ("<|pad|>", 2)]


@pytest.mark.parametrize("case", ENDS)
def test_what_a_tokenizer_puts_behind_every_text_is_left_out_and_that_is_said_once(
    copied, family_checkpoints, tokenizer, sentences, case
):
    template = processors.TemplateProcessing(single=ENDS[case], special_tokens=SPECIAL)
    ending = load_tokenizer(at(copied(described={"eos_token": None}, post_processor=json.loads(template.__getstate__()))))
    assert {row[-1] for row in ending(list(sentences))["input_ids"]} == {1}
    model = load_model(family_checkpoints["llama"], head=False)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        ids = [activations.encode(model, ending, sentences) for _ in range(2)]
        asked = behaviour._prompt_ids(ending, sentences, chat=False)
        ending.chat_template = "{% for m in messages %}[U]{{ m['content'] }}{% endfor %}[A]"
        within = behaviour._prompt_ids(ending, sentences, chat=True)
        ending.chat_template = "<|bos|>" + ending.chat_template
        begun = behaviour._prompt_ids(ending, sentences, chat=True)
    assert ids == [[row["<|bos|>" not in ENDS[case] :] for row in tokenizer(list(sentences))["input_ids"]]] * 2
    assert asked == ids[0]
    assert [ending.decode(row[-3:]) for row in within] == ["[A]"] * len(sentences)
    assert [row[-1] for row in begun] == [row[-1] for row in within]
    assert {row.count(0) for row in begun} == {1}
    (warning,) = said
    assert re.search(r"puts (<\|pad\|> )?<\|eos\|> behind every text", str(warning.message))


def test_a_text_that_ends_in_an_end_of_text_of_its_own_keeps_it(tokenizer):
    ids = tokens.tokenize(tokenizer, ["One.<|eos|>", "One. And two."])
    assert ids == tokenizer(["One.<|eos|>", "One. And two."])["input_ids"]
    assert ids[0][-1] == 1
    assert tokens.tokenize(tokenizer, []) == []


# What it does not know


def word_level(known: list[str], **special) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words."""
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["[UNK]", *known])}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, **special)


def characters(**model) -> PreTrainedTokenizerFast:
    """A tokenizer of single letters that drops, or calls unknown, what is none of a to z."""
    letters = Tokenizer(models.BPE({letter: i for i, letter in enumerate("?abcdefghijklmnopqrstuvwxyz")}, [], **model))
    letters.normalizer = normalizers.Lowercase()
    return PreTrainedTokenizerFast(tokenizer_object=letters)


PAIRS = [f"The clerk told {whom} {i} about it." for i in range(10) for whom in ("neighbour", "doctor")]
UNABLE = {
    "knows no word": word_level([]),
    "knows no word, and names what it does not know": word_level([], unk_token="[UNK]"),
    "knows all words but two": word_level(sorted({w for t in PAIRS for w in re.findall(r"\w+|\.", t)} - {"neighbour", "doctor"})),
    "drops what it does not know": PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({"l": 0, "k": 1}, []))),
    "has one token for a whole text": PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.Unigram([("<unk>", 0.0), ("T", -1.0)], 0))
    ),
}


@pytest.mark.parametrize("case", UNABLE)
def test_statements_of_opposite_labels_that_become_one_row_are_refused(make_concepts, case):
    chosen = make_concepts([0, 1] * 10, PAIRS)
    ids = tokens.tokenize(UNABLE[case], PAIRS)
    assert len({tuple(row) for row in ids}) < len(ids)
    with pytest.raises(ValueError, match=r"in made-up/reliability the tokenizer gives the same to 'The clerk told .*' and 'The"):
        tokens.check(UNABLE[case], chosen, ids)


def test_statements_that_are_the_same_text_are_not_the_tokenizer_s_doing(make_concepts, tokenizer):
    chosen = make_concepts([0, 1, 1], ["One.", "One.", "Two."])
    tokens.check(tokenizer, chosen, tokens.tokenize(tokenizer, chosen.statements))


@pytest.mark.parametrize(("known", "told"), [(49, None), (48, None), (47, "4 of 100 tokens (4%)")])
def test_unknown_words_are_counted_and_told_above_a_share(make_concepts, known, told):
    words = [f"w{i}" for i in range(49)]
    texts = [" ".join([*words, end]) for end in ("a", "b")]
    able, chosen = word_level(["a", "b", *words[:known]]), make_concepts([1, 0], texts)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        tokens.check(able, chosen, tokens.tokenize(able, texts))
    assert [str(w.message).partition(": ")[2].partition(" stand")[0] for w in said] == ([told] if told else [])


def test_statements_of_one_label_that_become_alike_are_told(make_concepts):
    texts = ["number 7", "number 8", "letter 9"]
    with pytest.warns(UserWarning, match="and 1 of 3 statements have the tokens of another one"):
        tokens.check(characters(), make_concepts([1, 1, 0], texts), tokens.tokenize(characters(), texts))


def test_a_tokenizer_that_spells_in_bytes_knows_everything_and_one_that_has_no_word_for_the_unknown_is_refused(tokenizer):
    assert tokens._unknown(tokenizer) == set()
    assert tokens._unknown(characters()) == set()
    assert tokens._unknown(characters(unk_token="?")) == {0}
    assert tokens._unknown(UNABLE["has one token for a whole text"]) == {0}
    lost = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"one": 0}, unk_token="[UNK]")))
    assert tokens._unknown(lost) == set()
    with pytest.raises(ValueError, match=r"A tokenizer must read every text; this one failed: .*Missing \[UNK\]"):
        tokens.tokenize(lost, ["two"])


def test_where_nothing_changed_a_run_loads_no_library_of_models_to_find_that_out(
    suite_folder, own_statements, tmp_path, monkeypatch
):
    """It took seconds of a second `make book`, which computes nothing."""
    shutil.copytree(suite_folder, folder := tmp_path / "tiny")
    (path := tmp_path / "study.yml").write_text(yaml.safe_dump({"suite": str(folder), "concepts": str(own_statements)}))
    workflow.check_tokenizers(studies.read(path), tmp_path)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "tracing_utils.checkpoints.models", None)
        without.delattr("tracing_utils.checkpoints.models")
        workflow.check_tokenizers(studies.read(path), tmp_path)
        (tmp_path / "tokenizers").unlink()
        with pytest.raises(ImportError):
            workflow.check_tokenizers(studies.read(path), tmp_path)


def test_before_a_run_each_tokenizer_reads_the_statements_and_the_chat_model_s_where_it_is_used(
    suite_folder, own_statements, tmp_path, monkeypatch, capsys
):
    """The run is stopped by it before anything is computed, and not by the chat model of a study that does not use it."""
    monkeypatch.setattr(workflow, "PROJECT", tmp_path)  # where runs lie
    shutil.copytree(suite_folder, folder := tmp_path / "tiny")
    shutil.copytree(folder / "tokenizer", folder / "chat", dirs_exist_ok=True)
    written = {"suite": str(folder), "concepts": str(own_statements), "experiments": ["probing"]}
    (alone := tmp_path / "alone.yml").write_text(yaml.safe_dump(written))
    (tuned := tmp_path / "tuned.yml").write_text(
        yaml.safe_dump(written | {"experiments": ["probing", "steering"], "steering": {"layers": [1]}})
    )

    def check(path):
        workflow.check_tokenizers(studies.read(path), tmp_path)

    def stopped(path, said):
        assert main(["run", "--study", str(path)]) == 2
        told = capsys.readouterr().err
        assert re.fullmatch(rf"error: [^\n]*{said}[^\n]*\.\n", told), told
        assert {file.name for file in (tmp_path / "runs" / path.stem).iterdir()} == {path.name, ".lock"}

    check(tuned)
    described = json.loads((folder / "chat" / "tokenizer_config.json").read_text())
    (folder / "chat" / "tokenizer_config.json").write_text(json.dumps(described | a_token(320, "window")))
    for _ in range(2):  # what was refused is not taken for read
        with pytest.raises(ValueError, match="chat must hold one tokenizer; of "):
            check(tuned)
    stopped(tuned, "chat must hold one tokenizer; of ")
    check(alone)
    word_level(["The", "clerk", "told"]).save_pretrained(folder / "step8")
    stopped(alone, "Statements of opposite labels must have different tokens; in mine")


def test_the_plan_and_the_activations_refuse_what_the_tokenizer_cannot_tell_apart(suite_folder, own_statements, tmp_path):
    shutil.copytree(suite_folder, folder := tmp_path / "tiny")
    study = tmp_path / "mine.yml"
    study.write_text(yaml.safe_dump({"suite": str(folder), "concepts": str(own_statements), "experiments": ["probing"]}))
    assert (plan.costs(studies.read(study))["tokens"] > 0).all()
    word_level(["The", "clerk", "told"]).save_pretrained(folder / "tokenizer")
    read = studies.read(study)
    with pytest.raises(ValueError, match="Statements of opposite labels must have different tokens; in mine"):
        plan.costs(read)
    with pytest.raises(ValueError, match="Statements of opposite labels must have different tokens; in mine"):
        activations.save(read.loaded["step1"], read.statement_sets(next(iter(read.sets))), tmp_path / "out")
