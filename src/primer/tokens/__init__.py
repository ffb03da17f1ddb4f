"""Strings and ids."""

from __future__ import annotations

from pathlib import Path

from primer.assets import reading, unseal
from primer.errors import DataError, UsageError
from primer.tokens.bpe import BPETokenizer
from primer.tokens.char import ByteTokenizer, CharTokenizer, UnknownCharacterError
from primer.tokens.gpt2 import gpt2
from primer.tokens.special import SpecialTokenError
from primer.tokens.tokenizer import Tokenizer

__all__ = [
    "BPETokenizer",
    "ByteTokenizer",
    "CharTokenizer",
    "SpecialTokenError",
    "Tokenizer",
    "UnknownCharacterError",
    "from_json",
    "open_tokenizer",
]

NAMED = ("byte", "gpt2")
"""Tokenizers that have a name."""

LARGEST_FILE = 1 << 28
"""Bytes of a tokenizer's JSON that are read at most."""


def open_tokenizer(spec: str | Path) -> Tokenizer:
    """The tokenizer that exists under a name (byte, gpt2), or in a file that one was saved in.

    GPT-2's is downloaded where it is not here. Raises UsageError where there is neither name nor file, DataError for
    a damaged file.
    """
    if spec == "byte":
        return ByteTokenizer()
    if spec == "gpt2":
        return gpt2()
    path = Path(spec)
    if path.is_dir():  # of shards, or of a run
        path = path / "tokenizer.json"
    if not path.is_file():
        raise UsageError(
            f"unknown tokenizer {str(spec)!r}",
            hint=f"{', '.join(NAMED)}, or a file that `primer tokenizer train` wrote",
        )
    with reading(path) as file:
        content = file.read(LARGEST_FILE)
    try:
        return from_json(content.decode(), where=str(path))
    except UnicodeDecodeError as error:
        raise DataError("this file is no tokenizer: it is no UTF-8", str(path), "another file") from error


def from_json(text: str, where: str = "tokenizer.json") -> Tokenizer:
    """The tokenizer that wrote `text`. Raises DataError for a damaged or newer one; `where` is its file."""
    try:
        fields = unseal(text, where)
    except DataError as error:
        if not text.lstrip().startswith("{"):
            raise DataError(
                "this file is no tokenizer",
                where,
                f"{', '.join(NAMED)}, or a file of `primer tokenizer train`",
            ) from error
        if '"pre_tokenizer"' in text:
            raise DataError(
                "this is the tokenizer.json of another program",
                where,
                "primer import FOLDER, with its weights",
            ) from error
        raise
    match fields:
        case {"kind": "char", "version": 1, "characters": str(characters)}:
            return CharTokenizer(characters)
        case {"kind": "byte", "version": 1}:
            return ByteTokenizer()
        case {"kind": "bpe", "version": 1}:
            return BPETokenizer.from_fields(fields, where)
    kind, version = fields.get("kind"), fields.get("version")
    raise DataError(
        f"no tokenizer of kind {kind!r}, version {version!r} is known", where, hint="upgrade gpt-primer"
    )
