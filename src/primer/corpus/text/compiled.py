"""All statistics of `statistics.py` in one pass over a page, compiled by numba: about a hundred times as fast.

What takes long in Python is to split a page into words and to compare them. Pages repeat their chunks (what stands
between white space), so each different chunk is split once and remembered as numbers; a page is then a row of numbers,
and n-grams and lines are compared by hashes of 64 bits (`compiled_text.py` and `compiled_ngrams.py` say how sure that
is).
The numbers of a page do not depend on the pages before it.
"""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import numpy as np

from primer.corpus.text import statistics
from primer.corpus.text.characters import TERMINAL
from primer.corpus.text.compiled_c4 import (
    CURLY_BRACKET,
    LOREM_IPSUM,
    decimal_digits,
    keep,
    moved,
    sentences,
)
from primer.corpus.text.compiled_ngrams import kinds_of_words, repetitions, words_of
from primer.corpus.text.compiled_table import CHUNKS, WORDS, ChunkTable, code_points
from primer.corpus.text.compiled_text import kinds_of_characters, look_up, marks, read, repeated_lines, shape
from primer.corpus.text.statistics import FINEWEB_LINES, SHORT_LINE, LineRules, Measured, Split, ratio

Chunks = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Starts, ends and hashes."""
Words = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""What `words_of` says."""
ENCODING = ("utf-32-le", "surrogatepass")
TERMINAL_CODES = np.array(sorted(map(ord, TERMINAL)), np.uint32)


class Measurer:
    """Measures one page after the other, and remembers their chunks: up to `chunks` of them with up to `words` words.

    It can be pickled if `split_chunk` can; what it remembers stays behind.
    """

    def __init__(
        self,
        split_chunk: Split,
        rules: LineRules = FINEWEB_LINES,
        *,
        chunks: int = CHUNKS,
        words: int = WORDS,
    ) -> None:
        self._config = split_chunk, rules, chunks, words
        self._table = ChunkTable(split_chunk, chunks, words)
        self._kinds = kinds_of_characters()
        self._digits = decimal_digits()
        self._drop = rules.drop
        self._rules = rules.terminal_punctuation, rules.min_words, rules.max_word_length

    def __reduce__(self) -> tuple[Any, ...]:
        return _measurer, self._config

    def measure(self, text: str) -> Measured:
        """What `statistics.measure` says of the text."""
        self._table.make_room()
        codes = code_points(text)
        chunks, first, (words, position, flags, word) = self._read(codes, text)
        count_of_chunks = len(chunks[0])
        left, begin, finish, kept, fates, seen, foremost, cited = keep(
            codes, chunks, first, self._digits, self._rules
        )
        gopher = (
            *_repetition(codes, chunks, words, position),
            *_quality(codes, chunks, first, position, flags),
        )
        if cited:
            chunks, _, (_, _, flags, word) = self._read(left, left.tobytes().decode(*ENCODING))
            origin = np.arange(len(word) - 1, dtype=np.int64)
        else:
            chunks, origin = moved(chunks, first, begin, kept)
        count, words_left = sentences(left, chunks, origin, begin, finish, flags, word)
        condemned = (foremost & LOREM_IPSUM > 0, seen & CURLY_BRACKET > 0, seen & LOREM_IPSUM > 0)
        if self._drop:
            text_left, fineweb = _fineweb(left, chunks, begin, finish, words_left)
        else:
            text_left, words_left = text, len(words)
            fineweb = astuple(statistics.fineweb(text, range(len(words))))  # which only counts them
        values = (*gopher, *condemned, count, *fineweb, len(first) - 1, *fates.tolist())
        return Measured(np.array(values, np.float64), text_left, len(words), words_left, count_of_chunks)

    def _read(self, codes: np.ndarray, text: str) -> tuple[Chunks, np.ndarray, Words]:
        """The chunks, the first one of each line, and what `words_of` says; chunks that are new are entered."""
        table = self._table
        starts, ends, hashes, first = read(codes, self._kinds)
        values = np.empty(len(hashes), np.uint64)
        if look_up(hashes, values, table.places):
            places = np.flatnonzero(values == 0)
            new, once = np.unique(hashes[places], return_index=True)
            table.add(new, [text[starts[i] : ends[i]] for i in places[once]])
            look_up(hashes, values, table.places)
        return (starts, ends, hashes), first, words_of(values, table.rows)


def _repetition(
    codes: np.ndarray, chunks: Chunks, words: np.ndarray, position: np.ndarray
) -> tuple[float, ...]:
    """The values of `Repetition`."""
    paragraphs, again, characters, lines, line_again, line_characters = repeated_lines(codes, chunks)
    size = len(codes)
    return (
        size,
        ratio(again, paragraphs),
        ratio(characters, size),
        ratio(line_again, lines),
        ratio(line_characters, size),
        *(ratio(part, size) for part in repetitions(words, position).tolist()),
    )


def _quality(
    codes: np.ndarray, chunks: Chunks, first: np.ndarray, position: np.ndarray, flags: np.ndarray
) -> tuple[float, ...]:
    """The values of `Quality`."""
    proper, characters, letters, stops = kinds_of_words(position, flags)
    hashes, ellipses, bullets, dotted = marks(codes, chunks, first)
    words, lines = len(flags), len(first) - 1
    return (
        proper,
        ratio(characters, proper),
        ratio(hashes, words),
        ratio(ellipses, words),
        ratio(bullets, lines),
        ratio(dotted, lines),
        ratio(letters, words),
        stops,
    )


def _fineweb(
    codes: np.ndarray, chunks: Chunks, begin: np.ndarray, finish: np.ndarray, words: int
) -> tuple[str, tuple[float, ...]]:
    """The text of the kept lines, and the values of `FineWeb`."""
    lines, punctuated, short, again, characters, newlines, start, end = shape(
        codes, chunks, begin, finish, TERMINAL_CODES, SHORT_LINE
    )
    values = (
        lines,
        ratio(punctuated, lines),
        ratio(short, lines),
        ratio(again, characters),
        ratio(newlines, words),
    )
    return codes[start:end].tobytes().decode(*ENCODING), values


def _measurer(split_chunk: Split, rules: LineRules, chunks: int, words: int) -> Measurer:
    return Measurer(split_chunk, rules, chunks=chunks, words=words)
