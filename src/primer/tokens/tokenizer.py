"""What every tokenizer promises: text to ids, ids to text, itself to JSON (it travels with a model)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from operator import index
from typing import Any, Literal, Protocol, SupportsIndex, runtime_checkable

import numpy as np
import numpy.typing as npt

from primer.errors import DataError, UsageError

Ids = npt.NDArray[np.integer[Any]]
"""Token ids in one dimension."""

Special = Literal["refuse", "allow", "text"]
"""What `encode` does where a text spells a special token: refuse it (the text may be anyone's), take it for the
token, or encode it as the characters that it is."""

END_OF_TEXT = "<|endoftext|>"
"""The special token that stands before every document (GPT-2's only one)."""


@runtime_checkable
class Tokenizer(Protocol):
    """A mapping between text and ids below `vocab_size`; it holds no state but its vocabulary."""

    @property
    def name(self) -> str:
        """Its kind: char, byte, …"""

    @property
    def vocab_size(self) -> int:
        """V: ids are 0 … V − 1."""

    @property
    def byte_lengths(self) -> Ids:
        """(V,) UTF-8 bytes that each token stands for: what bits per byte divides by. A special token: 0."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest unsigned type that holds every id."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of `to_json()`, in hexadecimal."""

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Tokens that stand for no text, by name; most tokenizers have none."""

    def encode(self, text: str, special: Special = "refuse") -> Ids:
        """Text to ids. Raises DataError that names a character it has never seen, or a special token."""

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """Ids to text. Raises DataError for an id that is not below `vocab_size`."""

    def token_bytes(self, token: SupportsIndex) -> bytes:
        """The UTF-8 bytes of one token, which need not be a whole character."""

    def to_json(self) -> str:
        """Everything there is to know, as canonical JSON (`tokens.from_json` reads it)."""


def dtype_for(size: int) -> np.dtype[Any]:
    """The smallest unsigned type that holds `size` different ids."""
    for kind in (np.uint8, np.uint16, np.uint32):
        if size <= int(np.iinfo(kind).max) + 1:
            return np.dtype(kind)
    raise UsageError(f"a vocabulary of {size} is too large: 2^32 ids at most")


def fingerprint_of(tokenizer_json: str) -> str:
    """What a tokenizer is recognised by, wherever its JSON lies."""
    return hashlib.sha256(tokenizer_json.encode()).hexdigest()


def check_ids(ids: Iterable[SupportsIndex], vocab_size: int) -> Ids:
    """`ids` as an array, all of them below `vocab_size`, or DataError that names the first that is not."""
    array = ids if isinstance(ids, np.ndarray) else np.fromiter(map(index, ids), dtype=np.int64)
    wrong = (array < 0) | (array >= vocab_size)
    if wrong.any():
        raise DataError(f"token id {int(array[wrong][0])} is outside the vocabulary of {vocab_size}")
    return array
