"""Character and byte tokenizers as Hugging Face's tokenizer.json, with the same ids, and back.

A character is a word of its own (WordLevel behind a Split at every character), and one that the vocabulary lacks is an
error there as here. A byte is a token of a BPE that merges nothing, spelt as GPT-2 spells bytes.
"""

from __future__ import annotations

from typing import Any

from primer.errors import DataError
from primer.tokens.char import ByteTokenizer, CharTokenizer
from primer.tokens.gpt2 import spelling


def tokenizer_json(tokenizer: CharTokenizer | ByteTokenizer) -> dict[str, Any]:
    """What the `tokenizers` library reads as the same tokenizer."""
    if isinstance(tokenizer, CharTokenizer):
        vocabulary = {character: number for number, character in enumerate(tokenizer.characters)}
        model: dict[str, Any] = {"type": "WordLevel", "vocab": vocabulary, "unk_token": ""}
        every = {"Regex": r"[\s\S]"}
        before: dict[str, Any] = {
            "type": "Split",
            "pattern": every,
            "behavior": "Isolated",
            "invert": False,
        }
        after: dict[str, Any] = {"type": "Fuse"}
    else:
        model = {
            "type": "BPE",
            "vocab": {spelt: byte for byte, spelt in sorted(spelling().items())},
            "merges": [],
        }
        model |= {"dropout": None, "unk_token": None, "fuse_unk": False, "byte_fallback": False}
        model |= {"continuing_subword_prefix": None, "end_of_word_suffix": None, "ignore_merges": False}
        before = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        after = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": before,
        "post_processor": None,
        "decoder": after,
        "model": model,
    }


def from_tokenizer_json(values: dict[str, Any]) -> CharTokenizer | ByteTokenizer | None:
    """The tokenizer that `tokenizer_json` gives these values for; None where they are of another kind."""
    model = values.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        return None
    candidates: list[CharTokenizer | ByteTokenizer] = [ByteTokenizer()]
    try:
        by_id = {number: character for character, number in model["vocab"].items()}
        candidates.append(CharTokenizer("".join(by_id[number] for number in range(len(by_id)))))
    except (KeyError, TypeError, DataError):
        pass
    same = (each for each in candidates if _essence(tokenizer_json(each)) == _essence(values))
    return next(same, None)


def _essence(values: dict[str, Any]) -> list[Any]:
    """What decides the ids."""
    model = values["model"]
    inner = [model.get(key) for key in ("type", "vocab", "merges", "unk_token", "dropout")]
    return [*inner, *(values.get(key) for key in ("added_tokens", "normalizer", "pre_tokenizer"))]
