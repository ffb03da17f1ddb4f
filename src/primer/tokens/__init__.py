"""Strings and ids."""

from __future__ import annotations

from primer.assets import unseal
from primer.errors import DataError
from primer.tokens.char import ByteTokenizer, CharTokenizer, UnknownCharacterError
from primer.tokens.tokenizer import Tokenizer

__all__ = ["ByteTokenizer", "CharTokenizer", "Tokenizer", "UnknownCharacterError", "from_json"]


def from_json(text: str, where: str = "tokenizer.json") -> Tokenizer:
    """The tokenizer that wrote `text`. Raises DataError for a damaged or newer one; `where` is its file."""
    fields = unseal(text, where)
    match fields:
        case {"kind": "char", "version": 1, "characters": str(characters)}:
            return CharTokenizer(characters)
        case {"kind": "byte", "version": 1}:
            return ByteTokenizer()
    kind, version = fields.get("kind"), fields.get("version")
    raise DataError(
        f"no tokenizer of kind {kind!r}, version {version!r} is known", where, hint="upgrade gpt-primer"
    )
