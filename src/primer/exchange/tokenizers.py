"""Byte-level BPE as Hugging Face's programs keep it: tokenizer.json, and GPT-2's vocab.json with merges.txt.

Writing needs none of their libraries. Of reading, everything that changes ids is either understood or refused: a
tokenizer that is nearly the right one is worse than none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from primer.assets import replacing
from primer.errors import DataError
from primer.exchange.files import read_json, read_text
from primer.tokens.bpe import BPETokenizer
from primer.tokens.gpt2 import from_spellings, spelled
from primer.tokens.patterns import PATTERNS, QUICK, PatternName
from primer.tokens.tokenizer import END_OF_TEXT

HEADER = "#version: 0.2"
"""The first line of merges.txt. Behind it we name a pattern other than GPT-2's; other programs skip the line."""


def write_tokenizer(tokenizer: BPETokenizer, folder: Path, context_length: int | None = None) -> None:
    """Write tokenizer.json, tokenizer_config.json, vocab.json and merges.txt into `folder`, which is made if need be.

    vocab.json and merges.txt have no place for a pattern: other programs take it for GPT-2's, and should be given
    tokenizer.json. DataError for a special token that these files could not tell from an ordinary one.
    """
    vocabulary = spelled_vocabulary(tokenizer)
    merges = spelled_merges(tokenizer)
    header = HEADER if tokenizer.pattern == "gpt2" else f"{HEADER} - pattern: {tokenizer.pattern}"
    files = {
        "tokenizer.json": json.dumps(to_tokenizer_json(tokenizer), ensure_ascii=False, indent=1),
        "tokenizer_config.json": json.dumps(
            to_config(tokenizer, context_length), ensure_ascii=False, indent=1
        ),
        "vocab.json": json.dumps(vocabulary, ensure_ascii=False),
        "merges.txt": "".join(f"{line}\n" for line in [header, *merges]),
    }
    for name, text in files.items():
        with replacing(Path(folder) / name) as file:
            file.write(text.encode())


def read_tokenizer(folder: Path) -> BPETokenizer:
    """The tokenizer of a folder: of its tokenizer.json, else of vocab.json and merges.txt.

    DataError where there is none, where a file is damaged, and where one says what byte-level BPE with a pattern of
    ours cannot do (which part, and what it says).
    """
    folder = Path(folder)
    whole, vocabulary, merges = (folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt"))
    if whole.is_file():
        return from_tokenizer_json(read_json(whole), where=str(whole))
    if not (vocabulary.is_file() and merges.is_file()):
        raise DataError(
            "there is no tokenizer here: neither tokenizer.json nor vocab.json with merges.txt",
            str(folder),
            "--tokenizer=gpt2, or whichever its words are; or its tokenizer's files beside the weights",
        )
    header, *lines = read_text(merges).removesuffix("\n").split("\n")
    if not header.startswith("#version"):  # which is a comment, and may be missing
        header, lines = "", [header, *lines]
    named = re.search("pattern: ([a-z0-9]+)$", header)
    pattern = named.group(1) if named else "gpt2"
    if pattern not in PATTERNS:
        raise DataError(f"no pattern {pattern!r} is known", str(merges), "upgrade gpt-primer")
    known = read_json(vocabulary)
    added = folder / "added_tokens.json"
    special = _beyond(known, 256 + len(lines)) | (read_json(added) if added.is_file() else {})
    return _made(
        known, [line.split(" ") for line in lines], cast(PatternName, pattern), special, str(vocabulary)
    )


def to_tokenizer_json(tokenizer: BPETokenizer) -> dict[str, Any]:
    """What tokenizer.json says, as the `tokenizers` library reads it."""
    added = [
        {
            "id": number,
            "content": name,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for name, number in tokenizer.special_tokens.items()
    ]
    split = {
        "type": "Split",
        "pattern": {"Regex": PATTERNS[tokenizer.pattern]},
        "behavior": "Isolated",
        "invert": False,
    }
    before = _byte_level(use_regex=True)  # whose regex is GPT-2's
    if tokenizer.pattern != "gpt2":
        before = {"type": "Sequence", "pretokenizers": [split, _byte_level(use_regex=False)]}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": before,
        "post_processor": None,
        "decoder": _byte_level(use_regex=True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": spelled_vocabulary(tokenizer),
            "merges": spelled_merges(tokenizer),
        },
    }


def _byte_level(*, use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def to_config(tokenizer: BPETokenizer, context_length: int | None = None) -> dict[str, Any]:
    """What tokenizer_config.json says: which class `transformers` makes, and what its special tokens are for."""
    config: dict[str, Any] = {
        "tokenizer_class": "GPT2Tokenizer" if tokenizer.pattern == "gpt2" else "PreTrainedTokenizerFast",
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
    }
    if context_length:
        config["model_max_length"] = context_length
    if END_OF_TEXT in tokenizer.special_tokens:
        config |= {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "unk_token": END_OF_TEXT}
    return config


def spelled_vocabulary(tokenizer: BPETokenizer) -> dict[str, int]:
    """Token → id, in the order of ids, special tokens last."""
    vocabulary = {spelled(token): number for number, token in enumerate(tokenizer.tokens)}
    for name, number in tokenizer.special_tokens.items():
        if name in vocabulary:
            raise DataError(
                f"the special token {name!r} is written like the ordinary token {vocabulary[name]}",
                hint="a name such as <|name|>, which no text has as one token",
            )
        vocabulary[name] = number
    return vocabulary


def spelled_merges(tokenizer: BPETokenizer) -> list[str]:
    """The two halves of each merge with a space between them."""
    tokens = [spelled(token) for token in tokenizer.tokens]
    return [f"{tokens[left]} {tokens[right]}" for left, right in tokenizer.merges]


def from_tokenizer_json(fields: Mapping[str, Any], where: str = "tokenizer.json") -> BPETokenizer:
    """The tokenizer that a tokenizer.json describes. DataError names the part that we cannot do."""
    model = fields.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        kind = model.get("type") if isinstance(model, dict) else None
        raise _foreign("model", f"{kind!r} is not BPE", where)
    for part in ("normalizer", "truncation", "padding"):
        if fields.get(part) is not None:
            raise _foreign(part, _kind(fields[part]), where)
    for part in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(part):
            raise _foreign(f"model.{part}", repr(model[part]), where)
    if not _adds_nothing(fields.get("post_processor")):
        raise _foreign("post_processor", f"{_kind(fields['post_processor'])} adds tokens to texts", where)
    pattern = _pattern(fields.get("pre_tokenizer"), where)
    vocabulary, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocabulary, dict) or not isinstance(merges, list):
        raise _foreign("model", "no vocab with merges", where)
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    special = _special(fields.get("added_tokens") or [], where)
    return _made(vocabulary, pairs, pattern, special, where)


def _made(
    vocabulary: Mapping[str, Any],
    pairs: list[Any],
    pattern: PatternName,
    special: Mapping[str, Any],
    where: str,
) -> BPETokenizer:
    """What `from_spellings` makes of values of any kind."""
    if not all(type(number) is int for number in [*vocabulary.values(), *special.values()]):
        raise DataError("a token's id must be a whole number", where, "another file")
    if not all(isinstance(pair, list) and all(isinstance(half, str) for half in pair) for pair in pairs):
        raise DataError("a merge must be two tokens", where, "another file")
    try:
        return from_spellings(vocabulary, pairs, pattern=pattern, special=special)
    except DataError as error:
        raise DataError(error.cause, where, error.hint or "another tokenizer") from error


def _pattern(part: Any, where: str) -> PatternName:
    """The name of the pattern that a pre-tokenizer splits with."""
    steps = part.get("pretokenizers") if _is(part, "Sequence") else [part]
    if not (isinstance(steps, list) and steps and _is(steps[-1], "ByteLevel")):
        raise _foreign("pre_tokenizer", f"{_kind(part)} does not end in ByteLevel", where)
    *splits, last = steps
    if last.get("add_prefix_space", True):
        raise _foreign("pre_tokenizer", "add_prefix_space, which puts a space before every text", where)
    if last.get("use_regex", True):
        if not splits:
            return "gpt2"
        raise _foreign("pre_tokenizer", "ByteLevel splits what was split before", where)
    if len(splits) == 1 and _is(splits[0], "Split"):
        regex = splits[0].get("pattern")
        wanted = regex.get("Regex") if isinstance(regex, dict) else None
        manner = splits[0].get("behavior"), splits[0].get("invert", False)
        for name in PATTERNS:
            if wanted in (PATTERNS[name], QUICK[name]) and manner in _KEEPS_ALL:
                return name
        raise _foreign("pre_tokenizer", f"splits by {wanted!r}, {manner[0]}", where)
    raise _foreign("pre_tokenizer", "no Split before ByteLevel, or more than one", where)


_KEEPS_ALL = (("Isolated", False), ("Removed", True))
"""Two ways to say that every match is a chunk; what lies between matches, which the second drops, is nothing here."""


def _special(added: Any, where: str) -> dict[str, Any]:
    """name → id of the added tokens, which must be special and found as they are."""
    special: dict[str, Any] = {}
    for token in added if isinstance(added, list) else [added]:
        if not (isinstance(token, dict) and isinstance(token.get("content"), str)):
            raise _foreign("added_tokens", "no content", where)
        name = token["content"]
        for habit in ("single_word", "lstrip", "rstrip"):
            if token.get(habit):
                raise _foreign("added_tokens", f"{name!r} is {habit}", where)
        if not token.get("special"):
            raise _foreign("added_tokens", f"{name!r} stands for text, and is no merge", where)
        special[name] = token.get("id")
    return special


def _beyond(vocabulary: Mapping[str, Any], first: int) -> dict[str, Any]:
    """Of a vocabulary, what has an id from `first` on."""
    return {
        name: number for name, number in vocabulary.items() if isinstance(number, int) and number >= first
    }


def _adds_nothing(part: Any) -> bool:
    """Whether a post-processor leaves the ids as they are."""
    if part is None or _is(part, "ByteLevel"):  # which moves offsets
        return True
    if _is(part, "Sequence"):
        steps = part.get("processors")
        return isinstance(steps, list) and all(map(_adds_nothing, steps))
    if _is(part, "TemplateProcessing"):
        single = part.get("single")
        if not (isinstance(single, list) and len(single) == 1 and isinstance(single[0], dict)):
            return False
        return "Sequence" in single[0]
    return False


def _is(part: Any, kind: str) -> bool:
    return isinstance(part, dict) and part.get("type") == kind


def _kind(part: Any) -> str:
    return str(part.get("type")) if isinstance(part, dict) and "type" in part else repr(part)[:60]


def _foreign(part: str, what: str, where: str) -> DataError:
    return DataError(
        f"this tokenizer is of another kind than byte-level BPE of GPT-2 or GPT-4: {part}: {what}",
        where,
        "a tokenizer such as GPT-2's",
    )
