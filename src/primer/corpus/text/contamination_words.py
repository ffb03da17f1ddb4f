"""Words as decontamination compares them: alike whatever the capitals, punctuation, accents and white space.

They are those of `duplicates.simplify`, which for ASCII are exactly its words, with three additions so that a crawl's
typography hides nothing: whatever is no letter, mark or digit parts words (simplify keeps ‘ and ‐ and €), invisible
characters (soft hyphens, joiners) vanish, and letters are case-folded (ß is ss). And a run of numbers is one number:
"1,000", "1 000" and "1000" are the same, and a table of numbers is not taken for another one.

Scripts without spaces between words (Chinese, Japanese, Thai) have few words here, and are hardly ever found.
"""

from __future__ import annotations

import re
import unicodedata
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from primer.corpus.duplicates.simplify import simplify

NUMBER = "0"
"""What simplify makes of every number."""
CACHED_CHUNKS, CACHED_LENGTH = 1 << 16, 32
"""So many chunks of so many characters at most are remembered, in some 15 MB; then all are forgotten."""
ZERO_WIDTH_SPACE = "\u200b"

_INSIDE_NUMBERS = ".,\u060c\u066b\u2396\u2397\u2398"
"""What may stand between two digits of a number: simplify's, too."""
_WORD = re.compile(rf"(?:\d+(?:[{_INSIDE_NUMBERS}]\d+)?|[^ {_INSIDE_NUMBERS}])+")
_CHUNK = re.compile(r"\S+")


class Word(NamedTuple):
    """A word, simplified, and where it stands: text[start:end]."""

    text: str
    start: int
    end: int


class _Parting(dict[int, int | str]):
    """For `str.translate`: what stands in no word becomes a space, so that every character keeps its place."""

    def __missing__(self, code: int) -> int | str:
        character = chr(code)
        kept = unicodedata.category(character)[0] in "LMN" or character in _INSIDE_NUMBERS or _invisible(code)
        self[code] = code if kept else " "
        return self[code]


class _Vanishing(dict[int, int | None]):
    """For `str.translate`: without invisible characters."""

    def __missing__(self, code: int) -> int | None:
        self[code] = None if _invisible(code) else code
        return self[code]


def _invisible(code: int) -> bool:
    return unicodedata.category(chr(code)) == "Cf" and chr(code) != ZERO_WIDTH_SPACE


_parting, _vanishing = _Parting(), _Vanishing()


def split_chunk(chunk: str, offset: int = 0) -> list[Word]:
    """The words of a text without white space, placed as if `offset` characters were before it.

    >>> [tuple(word) for word in split_chunk("(Zoë’s 1.5)".replace(" ", "/"))]
    [('zoe', 1, 4), ('s', 5, 6), ('0', 7, 10)]
    """
    found = []
    for match in _WORD.finditer(chunk.translate(_parting)):
        start, end = match.span()
        piece = match[0] if chunk.isascii() else match[0].translate(_vanishing)
        words = simplify(piece).casefold().split()
        found += [Word(word, offset + start, offset + end) for word in words]
    return found


def words(text: str) -> list[Word]:
    """The words of a text and their places; a run of numbers is one word, from its first digit to its last.

    >>> [word.text for word in words("In 1,000 2.5 -mile walks")]
    ['in', '0', 'mile', 'walks']
    """
    found: list[Word] = []
    for match in _CHUNK.finditer(text):
        for word in split_chunk(match[0], match.start()):
            if word.text == NUMBER and found and found[-1].text == NUMBER:
                found[-1] = found[-1]._replace(end=word.end)
            else:
                found.append(word)
    return found


def word_hash(word: str) -> bytes:
    """8 bytes of BLAKE2b, the same on every machine."""
    return blake2b(word.encode(), digest_size=8).digest()


class _Remembered(dict[str, bytes]):
    """Of chunks, the hashes of their words one after the other."""

    def __missing__(self, chunk: str) -> bytes:
        hashes = b"".join(word_hash(word.text) for word in split_chunk(chunk))
        if len(chunk) <= CACHED_LENGTH:
            self[chunk] = hashes
        return hashes


_remembered = _Remembered()
_NUMBER_HASH = np.frombuffer(word_hash(NUMBER), "<u8")[0]


def hashes(text: str) -> NDArray[np.uint64]:
    """(W,) the hash of each of `words(text)`: without their places, some ten times as fast for chunks that are known."""
    if len(_remembered) >= CACHED_CHUNKS:
        _remembered.clear()
    found = np.frombuffer(b"".join(map(_remembered.__getitem__, text.split())), "<u8")
    number = found == _NUMBER_HASH
    number[1:] &= number[:-1].copy()
    number[:1] = False
    return found[~number].astype(np.uint64, copy=False)
