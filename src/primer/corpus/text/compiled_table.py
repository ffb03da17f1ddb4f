"""The chunks that were met, and what the statistics need to know of their words."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from primer.corpus.text.compiled_ngrams import (
    COUNT_BITS,
    FINAL,
    LETTER,
    NONSYMBOL,
    PUNCTUATION,
    STOP,
    describe,
)
from primer.corpus.text.compiled_text import enter
from primer.corpus.text.statistics import STOP_WORDS, Split, has_letter, is_symbol
from primer.corpus.text.words import is_punctuation, sentence_final

CHUNKS = 200_000
WORDS = 1_000_000
"""A table with more chunks or more words is emptied before the next page: 34 MB of numbers at most, and what a single
page adds to them."""

STOP_BITS = {word: 1 << (STOP + number) for number, word in enumerate(STOP_WORDS)}


def code_points(text: str) -> np.ndarray:
    """uint32, one for each character; lone surrogates stay as they are."""
    return np.frombuffer(bytearray(text.encode("utf-32-le", "surrogatepass")), np.uint32)


def word_flags(word: str) -> int:
    """What the rules ask of a word, a bit each."""
    if word.isalpha():  # no letter is a symbol, a punctuation or a sentence's end
        return NONSYMBOL | LETTER | STOP_BITS.get(word, 0)
    return _flags_of_others(word)


@lru_cache(maxsize=1 << 12)
def _flags_of_others(word: str) -> int:
    return (
        NONSYMBOL * (not is_symbol(word))
        | LETTER * has_letter(word)
        | PUNCTUATION * is_punctuation(word)
        | FINAL * sentence_final(word)
        | STOP_BITS.get(word, 0)
    )


class ChunkTable:
    """Words by the hash of their chunk: open addressing in arrays that double, at most half of it in use.

    `places` has a row (hash, value) for a chunk or zeros, `rows` one for each word (`compiled_ngrams.describe`).
    """

    def __init__(self, split_chunk: Split, chunks: int = CHUNKS, words: int = WORDS) -> None:
        self._split = split_chunk
        self._most = chunks, words
        self._empty()

    def _empty(self) -> None:
        self.chunks = self.words = 0
        self.places, self.rows = np.zeros((1 << 14, 2), np.uint64), np.zeros((1 << 14, 3), np.uint64)

    def make_room(self) -> None:
        """Forgets everything if there is too much of it. Values that were handed out mean nothing thereafter."""
        if self.chunks > self._most[0] or self.words > self._most[1]:
            self._empty()

    def add(self, hashes: np.ndarray, chunks: Sequence[str]) -> None:
        """Chunks that the table lacks, each once, with their hashes."""
        split = [self._split(chunk) for chunk in chunks]
        words = [word for part in split for word in part]
        self._grow(len(chunks), len(words))
        lengths = np.fromiter(map(len, words), np.int64, len(words))
        flags = np.fromiter(map(word_flags, words), np.int64, len(words))
        describe(code_points("".join(words)), lengths, flags, self.rows[self.words :])
        counts = np.fromiter(map(len, split), np.uint64, len(split))
        before = np.cumsum(counts) - counts + np.uint64(self.words)
        enter(self.places, hashes, before << COUNT_BITS | counts)
        self.chunks, self.words = self.chunks + len(chunks), self.words + len(words)

    def _grow(self, chunks: int, words: int) -> None:
        rows, places = len(self.rows), len(self.places)
        while rows < self.words + words:
            rows *= 2
        while places < 2 * (self.chunks + chunks):
            places *= 2
        if rows > len(self.rows):
            self.rows = np.concatenate([self.rows, np.zeros((rows - len(self.rows), 3), np.uint64)])
        if places > len(self.places):
            known = self.places[self.places[:, 0] > 0]
            self.places = np.zeros((places, 2), np.uint64)
            enter(self.places, known[:, 0].copy(), known[:, 1].copy())
