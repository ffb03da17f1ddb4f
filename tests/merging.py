"""A small tokenizer with merges across word borders and an end-of-text token: a stand-in for byte-level BPE."""

from collections.abc import Iterable, Mapping
from typing import Any, SupportsIndex

import numpy as np

from primer.errors import DataError
from primer.tokens.tokenizer import END_OF_TEXT, Ids, Special, check_ids, dtype_for, fingerprint_of

PIECES = (
    " the",
    "the",
    " a",
    "an",
    "ing",
    " is",
    "two",
    " times",
    "er",
    "e ",
    ". ",
    ":\n",
    "\n\n",
    "e t",
    "€",
)


class MergingTokenizer:
    """Bytes, then some longer pieces (the longest that fits is taken), then the end-of-text token."""

    name = "merging"

    def __init__(self, pieces: Iterable[str] = PIECES) -> None:
        self.pieces = [bytes([n]) for n in range(256)] + [piece.encode() for piece in pieces]
        self.ids = {piece: n for n, piece in enumerate(self.pieces)}
        self.special_tokens: Mapping[str, int] = {END_OF_TEXT: len(self.pieces)}
        self.vocab_size = len(self.pieces) + 1
        self.byte_lengths = np.array([*(len(piece) for piece in self.pieces), 0])
        self.dtype: np.dtype[Any] = dtype_for(self.vocab_size)

    def encode(self, text: str, special: Special = "refuse") -> Ids:
        if special == "text" or END_OF_TEXT not in text:
            return np.array(self._plain(text.encode()), dtype=self.dtype)
        if special == "refuse":
            raise DataError(f"the special token {END_OF_TEXT} at position {text.index(END_OF_TEXT)}")
        before, _, after = text.partition(END_OF_TEXT)
        end = [self.special_tokens[END_OF_TEXT]]
        rest = self.encode(after, "allow").tolist()
        return np.array(self._plain(before.encode()) + end + rest, dtype=self.dtype)

    def _plain(self, raw: bytes) -> list[int]:
        found = []
        while raw:
            size = next(n for n in range(6, 0, -1) if raw[:n] in self.ids)
            found.append(self.ids[raw[:size]])
            raw = raw[size:]
        return found

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        return b"".join(map(self.token_bytes, check_ids(ids, self.vocab_size))).decode(errors="replace")

    def token_bytes(self, token: SupportsIndex) -> bytes:
        number = int(token)
        return END_OF_TEXT.encode() if number == len(self.pieces) else self.pieces[number]

    def to_json(self) -> str:
        return repr(self.pieces)

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self.to_json())
