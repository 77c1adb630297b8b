"""Texts as a model reads them: the one place where they become tokens.

Rule: a text ends in its own last token; what a tokenizer cannot tell apart is refused or told before a model reads it.
"""

import json
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import brief
from ..statements.concepts import ConceptSet

__all__ = ["MOST_UNKNOWN", "check", "compare", "count", "framed", "tokenize"]

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_UNKNOWN = 0.02
"""The share of a set's tokens that may be unknown, and of its statements that may be like another, without a warning."""

# Capitals, numbers, signs, spaces of all kinds, accents in both normal forms, other scripts, a word that is written together.
_TRIAL = (
    "The lamp by the window went out.", "Is it SO? \"Yes\", she said: it cost 1,234.50 (or 10%)!", " two  spaces\tand\na line ",
    "caf\u00e9 cafe\u0301 na\u00efve \ufb01n", "\u041f\u043e\u0447\u0435\u043c\u0443? \u6708\u4eae\u3002",
    "don't re-open e-mail2x",
)  # fmt: skip

_MARKER = re.compile(r"[<\[|].*[>\]|]", re.DOTALL)  # a token that stands for no text, such as <pad>; files may differ in these

_NOWHERE = "\U000f1234"  # a character for private use, which no tokenizer learns


def tokenize(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each text, with what the tokenizer puts before every text and without what it puts behind.

    An end of text that is appended would be the last token of every statement, and would end every prompt.

    Raises:
        ValueError: if the tokenizer fails at a text.
    """
    try:
        behind = _behind(partial(_ids, tokenizer), max(texts, key=len, default=""))
        # A tokenizer keeps a hundred bytes and more of each token until it returns: some texts at a time.
        parts = (list(texts[start : start + 1000]) for start in range(0, len(texts), 1000))
        ids = [row[: len(row) - len(behind)] for part in parts for row in tokenizer(part)["input_ids"]]
    except Exception as error:  # the library raises nothing more special, such as where it has no token for the unknown
        raise ValueError(f"A tokenizer must read every text; this one failed: {' '.join(str(error).split())}.") from error
    if behind:
        named = " ".join(tokenizer.convert_ids_to_tokens(behind))
        warnings.warn(
            f"The tokenizer puts {named} behind every text. It is left out here: a text ends in its own last token.",
            stacklevel=1,  # in one place, so that it is said once
        )
    return ids


def count(tokenizer: "PreTrainedTokenizerBase", sets: Iterable[ConceptSet]) -> int:
    """Return how many tokens the statements of some sets have.

    Raises:
        ValueError: as `tokenize` and `check`.
    """
    n = 0
    for concepts in sets:
        ids = tokenize(tokenizer, concepts.statements)
        check(tokenizer, concepts, ids)
        n += sum(map(len, ids))
    return n


def framed(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[str]) -> list[str]:
    """Return each message as a user's inside the chat template, up to where the model is to answer.

    Of several templates it is the one named `default`, as transformers has it.

    Raises:
        ValueError: if there is no template, it fails, or it leaves a message out.
    """
    if tokenizer.chat_template is None:
        raise ValueError("The tokenizer must have a chat template; it has none. Ask with chat=False.")
    asked = [[{"role": "user", "content": message}] for message in messages]
    try:
        texts = [tokenizer.apply_chat_template(each, tokenize=False, add_generation_prompt=True) for each in asked]
        plain = [tokenizer.apply_chat_template(each, tokenize=False, add_generation_prompt=False) for each in asked]
    except Exception as error:  # a template is a program, and raises what it likes
        raise ValueError(
            f"A chat template must take the message of a user alone; this one failed: {brief(' '.join(str(error).split()))}. "
            "Mend it, or leave out the experiments that ask the chat model."
        ) from error
    early = []
    for message, text, without in zip(messages, texts, plain, strict=True):
        if message.strip() not in text:
            raise ValueError(
                f"A chat template must hold the message of a user; of {brief(message)} this one makes {brief(text)}. Mend it, or "
                "leave out the experiments that ask the chat model."
            )
        if not without.startswith(text[: text.index(message.strip()) + len(message.strip())]):
            early.append(f"of {brief(message)} it makes {brief(text)}")
    if early:  # told once, however many are asked
        warnings.warn(
            f"The chat template puts something before a question so that it is answered: {early[0]}. A model goes on at the end. "
            "Mend it if that is not meant.",
            stacklevel=1,
        )
    if (end := tokenizer.eos_token) and any(text.rstrip().endswith(end) for text in texts):
        warnings.warn(f"The chat template ends a question in {end}, behind which a model may have nothing to say.", stacklevel=1)
    return texts


def _ids(tokenizer: "PreTrainedTokenizerBase", text: str, special: bool) -> list[int]:
    """Return the tokens of a text, with those that are put around every text or without."""
    return tokenizer(text, add_special_tokens=special)["input_ids"]


def _behind(read: Callable[[str, bool], list[int]], text: str) -> list[int]:
    """Return the tokens that are put behind a text; `read` gives its tokens with those around it or without."""
    bare, whole = read(text, False), read(text, True)
    begins = [start for start in range(len(whole)) if bare and whole[start : start + len(bare)] == bare]
    return whole[begins[0] + len(bare) :] if begins else []


def compare(tokenizer: "PreTrainedTokenizerBase", file: Path) -> None:
    """Refuse a tokenizer that gives other tokens than the `tokenizer.json` it was read from; what is put around a text aside.

    What lies beside that file, `tokenizer_config.json` above all, may make one token of a word that the model learnt in pieces.
    Where it says otherwise of what is put around a text, that is told.

    Raises:
        ValueError: if they differ on a trial text, with that text, or the file says to split words at random.
    """
    from tokenizers import Tokenizer  # noqa: PLC0415 - few readers of this module load one

    stored = Tokenizer.from_file(str(file))
    if share := getattr(stored.model, "dropout", None):
        raise ValueError(f"{file} must give the same tokens each time; its model has dropout: {share}. Write null for it.")
    stored.no_truncation()
    stored.no_padding()
    added = [token.content for token in stored.get_added_tokens_decoder().values()]  # thousands, in some families
    more = [token for token in tokenizer.get_added_vocab() if token not in added and not _MARKER.fullmatch(token)]
    for text in (*_TRIAL, "a".join(added), *(f"a {token} b" for token in more)):
        wanted = _front(lambda text, special: stored.encode(text, add_special_tokens=special).ids, text)
        if (came := _front(partial(_ids, tokenizer), text)) != wanted:
            raise ValueError(
                f"{file.parent} must hold one tokenizer; of {brief(text)} its tokenizer.json makes the tokens "
                f"{brief(wanted)}, and together with the files beside it {brief(came)}. Mend tokenizer_config.json "
                "(added_tokens_decoder, extra_special_tokens), or save the tokenizer again."
            )
    _warn_of_ends(partial(_ids, tokenizer), file.with_name("tokenizer_config.json"), tokenizer)


def _warn_of_ends(read: Callable[[str, bool], list[int]], described: Path, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Warn if a description asks for a begin or an end of text that is not put there, or the other way round."""
    asked = json.loads(described.read_text(encoding="utf-8")) if described.is_file() else {}
    if not {"add_bos_token", "add_eos_token"} & set(asked):
        return
    try:
        bare, whole = read(_TRIAL[0], False), read(_TRIAL[0], True)
    except Exception:  # `tokenize` says why it cannot read
        return
    ends = _behind(read, _TRIAL[0])
    begins = whole[: len(whole) - len(bare) - len(ends)]
    put = {"add_bos_token": tokenizer.bos_token_id in begins, "add_eos_token": tokenizer.eos_token_id in ends}
    wrong = [f"{key}: {str(asked[key]).lower()}" for key in put if isinstance(asked.get(key), bool) and asked[key] != put[key]]
    if wrong:
        warnings.warn(
            f"tokenizer_config.json must say what its tokenizer.json puts around a text; it says {' and '.join(wrong)}, and "
            "tokenizer.json does otherwise. It is followed, as transformers does. Mend the one that is not as in training.",
            stacklevel=1,  # in one place, so that it is said once
        )


def _front(read: Callable[[str, bool], list[int]], text: str) -> list[int] | None:
    """Return the tokens of a text without those behind it; None where a tokenizer has none for its signs."""
    try:
        return (whole := read(text, True))[: len(whole) - len(_behind(read, text))]
    except Exception:  # the library raises nothing more special
        return None


def check(tokenizer: "PreTrainedTokenizerBase", concepts: ConceptSet, ids: Sequence[Sequence[int]]) -> None:
    """Refuse statements of opposite labels that are one row of tokens, and warn where many words are unknown.

    Raises:
        ValueError: if two different statements of opposite labels have the same tokens.
    """
    name, alike = f"{concepts.name}/{concepts.dimension}", 0
    first: dict[tuple[int, ...], int] = {}
    for i, row in enumerate(ids):
        j = first.setdefault(tuple(row), i)
        if concepts.statements[i] == concepts.statements[j]:
            continue
        if concepts.labels[i] != concepts.labels[j]:
            raise ValueError(
                f"Statements of opposite labels must have different tokens; in {name} the tokenizer gives the same to "
                f"{concepts.statements[j][:60]!r} and {concepts.statements[i][:60]!r}. Take the tokenizer that the model was "
                "trained with, or statements that it tells apart."
            )
        alike += 1
    unknown, n = _unknown(tokenizer), sum(map(len, ids))
    lost = sum(token in unknown for row in ids for token in row)
    if lost > MOST_UNKNOWN * n or alike > MOST_UNKNOWN * len(ids):
        warnings.warn(
            f"The tokenizer does not know all words of {name}: {lost} of {n} tokens ({lost / n:.0%}) stand for something "
            f"unknown, and {alike} of {len(ids)} statements have the tokens of another one.",
            stacklevel=1,
        )
    elif (share := _dropped(tokenizer, concepts.statements, ids)) > MOST_UNKNOWN:
        warnings.warn(f"The tokenizer drops {share:.0%} of the letters of {name}; the model does not see them.", stacklevel=1)


def _dropped(tokenizer: "PreTrainedTokenizerBase", statements: Sequence[str], ids: Sequence[Sequence[int]]) -> float:
    """Return the share of letters and digits that do not come back from the tokens."""
    back = tokenizer.batch_decode(list(ids), skip_special_tokens=True)
    before, after = (sum(sum(map(str.isalnum, text)) for text in texts) for texts in (statements, back))
    return 1 - after / before if before else 0.0


def _unknown(tokenizer: "PreTrainedTokenizerBase") -> set[int]:
    """Return the number of the token that stands for all that a tokenizer does not know; none where it spells in bytes."""
    if not tokenizer.is_fast:
        return {tokenizer.unk_token_id} - {None, tokenizer.bos_token_id}
    try:
        spelt = [token.id for token in tokenizer.backend_tokenizer.model.tokenize(_NOWHERE)]
    except Exception:  # it has no such token: `tokenize` refuses what it does not know
        return set()
    return set(spelt) if len(spelt) == 1 else set()
