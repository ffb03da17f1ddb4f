"""`contamination_words.words` in one pass over a text's code points, compiled by numba: some forty times as fast.

Of a word there is a hash of 64 bits instead of its letters, which depends on them alone: who finds equal ones looks at
the words themselves.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from primer.corpus.text.compiled_table import code_points
from primer.corpus.text.compiled_text import compiled
from primer.corpus.text.contamination_words import INSIDE_NUMBERS, folded, parts

UNKNOWN, PART, INSIDE, DIGIT, LETTER = range(5)
"""Kinds of a character; INSIDE parts words, too, unless it stands between digits. What vanishes is a LETTER of none."""

ZERO, START, PRIME, HALF = (
    np.uint64(number) for number in (ord("0"), 0x165667B19E3779F9, 0x9E3779B185EBCA87, 32)
)


@compiled
def read(codes: Any, kinds: Any, first: Any, letters: Any) -> Any:
    """The hash of each word; letters[first[c] : first[c] + letters[first[c] - 1]] is what the character c folds to."""
    size = len(codes)
    hashes = np.empty(size // 2 + 1, np.uint64)
    count = i = 0
    after_number = False
    while i < size:
        kind = kinds[codes[i]]
        if kind in (PART, INSIDE):
            i += 1
            continue
        start, h = i, START
        emitted, in_number, joined = 0, False, False
        while i < size:
            c = codes[i]
            kind = kinds[c]
            if kind == DIGIT:
                if not in_number:
                    h = (h ^ ZERO) * PRIME
                    h ^= h >> HALF
                    emitted += 1
                in_number = True
            elif kind == INSIDE:
                between = i + 1 < size and kinds[codes[i - 1]] == DIGIT and kinds[codes[i + 1]] == DIGIT
                if joined or i == start or not between:
                    break
                joined = True
            elif kind == LETTER:
                joined = False
                at = first[c]
                for k in range(at, at + np.int64(letters[at - 1])):
                    h = (h ^ np.uint64(letters[k])) * PRIME
                    h ^= h >> HALF
                    emitted += 1
                    in_number = False
            else:
                break
            i += 1
        number = in_number and emitted == 1
        if emitted and not (number and after_number):
            hashes[count] = h
            count += 1
            after_number = number
    return hashes[:count]


class Reader:
    """Reads texts, and learns what characters fold to when it first meets them: 5.6 MB."""

    def __init__(self) -> None:
        self._kinds = np.zeros(0x110000, np.uint8)
        self._first = np.zeros(0x110000, np.int32)
        self._letters = np.zeros(0, np.uint32)

    def read(self, text: str) -> np.ndarray:
        """uint64: a hash of each of `contamination_words.words(text)`."""
        codes = code_points(text)
        unknown = codes[self._kinds[codes] == UNKNOWN]
        if len(unknown):
            self._learn(np.unique(unknown).tolist())
        return read(codes, self._kinds, self._first, self._letters)

    def _learn(self, codes: list[int]) -> None:
        letters = self._letters.tolist()
        for code in codes:
            character = chr(code)
            self._kinds[code] = _kind(character)
            if self._kinds[code] == LETTER:
                alike = folded(character)
                letters += [len(alike), *map(ord, alike)]
                self._first[code] = len(letters) - len(alike)
        self._letters = np.array(letters, np.uint32)


def _kind(character: str) -> int:
    if character in INSIDE_NUMBERS:
        return INSIDE
    if parts(character):
        return PART
    return DIGIT if character.isdecimal() else LETTER
