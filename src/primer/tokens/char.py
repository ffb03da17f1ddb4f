"""The two tokenizers that need no training worth the name: one id a character, one id a UTF-8 byte."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal, SupportsIndex

import numpy as np
import numpy.typing as npt

from primer.assets import seal
from primer.errors import DataError
from primer.tokens.tokenizer import Ids, Special, check_ids, dtype_for, fingerprint_of

_BLOCK = 1 << 16  # characters looked up at once: what lies between text and ids stays in the cache


class UnknownCharacterError(DataError):
    """A character that the vocabulary lacks; `position` counts characters from the start of the text."""

    def __init__(self, character: str, position: int, where: str | None = None) -> None:
        name = unicodedata.name(character, "no name")
        super().__init__(
            f"unknown character {character!r} (U+{ord(character):04X}, {name}) at position {position}",
            where=where,
            hint="--data.unknown=skip",
        )
        self.character = character
        self.position = position


class CharTokenizer:
    """One id a character: the id is its place in `characters`.

    `unknown` says what `encode` does with any other character: "error" names it, "skip" drops it
    (`len(text) - len(ids)` of them). It is a habit, not part of the vocabulary: the fingerprint ignores it.

    >>> CharTokenizer.train(["hello"]).encode("hole").tolist()
    [1, 3, 2, 0]
    """

    name = "char"
    special_tokens: Mapping[str, int] = MappingProxyType({})

    def __init__(self, characters: str, unknown: Literal["error", "skip"] = "error") -> None:
        points = _code_points(characters).astype("<u4")
        if not characters or len(set(characters)) != len(characters):
            raise DataError("a character vocabulary needs at least one character, and none of them twice")
        if ((points >= 0xD800) & (points < 0xE000)).any():
            raise DataError("half a surrogate pair is no character")
        self.characters = characters
        self.unknown = unknown
        self.vocab_size = len(characters)
        self.dtype = dtype_for(self.vocab_size)
        self._points = points
        # Everything that is not in the vocabulary, and everything beyond the table's end, reads as V.
        self._table = np.full(int(points.max()) + 2, self.vocab_size, dtype=dtype_for(self.vocab_size + 1))
        self._table[points] = np.arange(self.vocab_size)

    @classmethod
    def train(cls, texts: Iterable[str], unknown: Literal["error", "skip"] = "error") -> CharTokenizer:
        """The vocabulary of `texts`: every character that occurs, in the order of Unicode."""
        return cls("".join(sorted(alphabet(texts))), unknown)

    @cached_property
    def byte_lengths(self) -> Ids:
        return 1 + np.searchsorted([0x80, 0x800, 0x10000], self._points, side="right").astype(np.int64)

    def encode(self, text: str, special: Special = "refuse") -> Ids:
        ids = np.empty(len(text), dtype=self._table.dtype)
        for start in range(0, len(text), _BLOCK):
            codes = _code_points(text[start : start + _BLOCK])
            np.take(self._table, codes, mode="clip", out=ids[start : start + _BLOCK])
        known = ids != self.vocab_size
        if not known.all():
            if self.unknown == "error":
                position = int(known.argmin())
                raise UnknownCharacterError(text[position], position)
            ids = ids[known]
        return ids.astype(self.dtype, copy=False)

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        return self._points[check_ids(ids, self.vocab_size)].tobytes().decode("utf-32-le")

    def token_bytes(self, token: SupportsIndex) -> bytes:
        return self.decode([token]).encode()

    def to_json(self) -> str:
        return seal({"kind": self.name, "version": 1, "characters": self.characters})

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of(self.to_json())


class ByteTokenizer:
    """One id a UTF-8 byte: nothing is ever unknown, and a character beyond ASCII costs two to four ids."""

    name = "byte"
    special_tokens: Mapping[str, int] = MappingProxyType({})
    vocab_size = 256
    dtype: np.dtype[Any] = np.dtype(np.uint8)

    @cached_property
    def byte_lengths(self) -> Ids:
        return np.ones(256, dtype=np.int64)

    def encode(self, text: str, special: Special = "refuse") -> Ids:
        try:
            return np.frombuffer(text.encode(), dtype=np.uint8)
        except UnicodeEncodeError as error:
            raise UnknownCharacterError(text[error.start], error.start) from error

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """Bytes that are no UTF-8 (a model may write such) become U+FFFD."""
        return check_ids(ids, 256).astype(np.uint8).tobytes().decode(errors="replace")

    def token_bytes(self, token: SupportsIndex) -> bytes:
        return bytes(check_ids([token], 256).astype(np.uint8))

    def to_json(self) -> str:
        return seal({"kind": self.name, "version": 1})

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of(self.to_json())


def alphabet(texts: Iterable[str]) -> set[str]:
    """Every character that occurs in `texts`."""
    seen = np.zeros(0x110000, dtype=bool)
    for text in texts:
        for start in range(0, len(text), _BLOCK):
            seen[_code_points(text[start : start + _BLOCK])] = True
    return {chr(point) for point in np.flatnonzero(seen)}


def _code_points(text: str) -> npt.NDArray[Any]:
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), dtype=np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
