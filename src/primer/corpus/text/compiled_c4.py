"""C4's rules for lines and the count of sentences on those that are kept, compiled by numba.

Phrases are looked for without regard to capitals. Of all characters outside ASCII only two have an ASCII letter in
their lower case: the Kelvin sign (U+212A) is a k, as in "cooKies". The dotted capital I (U+0130) becomes an i and a
combining dot (U+0307), which no phrase has, and none ends in i: so it can be passed over.

numba keeps compiled code on disk by the file of the function that is called: kernels call no kernel of another file.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from typing import Any

import numpy as np

from primer.corpus.text.compiled_ngrams import FINAL, PUNCTUATION
from primer.corpus.text.compiled_text import compiled
from primer.corpus.text.statistics import POLICY

PHRASES = ("lorem ipsum", "javascript", "{", *POLICY)
LOREM_IPSUM, JAVASCRIPT, CURLY_BRACKET, FIRST_POLICY = 1, 2, 4, 8
TOO_LONG, NO_PUNCTUATION, TOO_FEW, WITH_JAVASCRIPT, WITH_POLICY, KEPT = range(6)
"""What becomes of a line, in the order of `statistics.Lines`."""

KELVIN, OPENING, CLOSING, LINE_DOT, NEW_LINE, BLANK = (ord(character) for character in "\u212a[].\n ")
UPPER_A, UPPER_Z, LOWER_A, LOWER_K, DIGIT_0, DIGIT_9 = (ord(character) for character in "AZak09")
ASCII = 128
NEITHER = ASCII - 1
"""The control character DEL, which no phrase has, stands for all beyond ASCII."""
FINALS = np.array(sorted(map(ord, ".?!\"'")), np.uint32)
CITATION_WORDS = ("edit]", "citation needed]")


def _rows(texts: tuple[str, ...]) -> np.ndarray:
    """Code points of several texts, a row each, with zeros after the shorter ones."""
    table = np.zeros((len(texts), max(map(len, texts)) + 1), np.uint32)
    for row, text in zip(table, texts, strict=True):
        row[: len(text)] = [ord(character) for character in text]
    return table


PHRASE_ROWS, CITATION_ROWS = _rows(PHRASES), _rows(CITATION_WORDS)


def _phrases_with(place: int) -> np.ndarray:
    """By ASCII character, the phrases that have it there, a bit each; those that are shorter have any."""
    masks = np.zeros(ASCII, np.uint16)
    for bit, phrase in enumerate(PHRASES):
        possible = {phrase[place], phrase[place].upper()} if place < len(phrase) else map(chr, range(ASCII))
        for character in possible:
            masks[ord(character)] |= 1 << bit
    return masks


BEGINS, GOES_ON = _phrases_with(0), _phrases_with(1)


@cache
def decimal_digits() -> np.ndarray:
    """All code points that `\\d` takes, ascending."""
    everything = np.arange(sys.maxunicode + 1, dtype=np.uint32).tobytes().decode("utf-32-le", "surrogatepass")
    return np.array([ord(digit) for digit in re.findall(r"\d", everything)], np.uint32)


@compiled
def lower(c: int) -> int:
    if UPPER_A <= c <= UPPER_Z:
        return c + (LOWER_A - UPPER_A)
    return LOWER_K if c == KELVIN else c


@compiled
def stands_at(codes: Any, i: int, end: int, phrase: int) -> bool:
    """Whether a phrase stands there, whatever the capitals."""
    k = 0
    while PHRASE_ROWS[phrase, k]:
        if i + k >= end or lower(codes[i + k]) != PHRASE_ROWS[phrase, k]:
            return False
        k += 1
    return True


@compiled
def phrases(codes: Any, start: int, end: int) -> int:
    """The phrases between start and end, a bit each."""
    found = 0
    for i in range(start, end):
        after = codes[i + 1] if i + 1 < end else 0
        possible = BEGINS[min(codes[i], NEITHER)] & GOES_ON[min(after, NEITHER)]
        if possible:
            for bit in range(len(PHRASES)):
                if possible >> bit & 1 and stands_at(codes, i, end, bit):
                    found |= 1 << bit
    return found


@compiled
def is_digit(c: int, digits: Any) -> bool:
    if c < ASCII:
        return DIGIT_0 <= c <= DIGIT_9
    low, high = 0, len(digits)
    while low < high:
        middle = (low + high) // 2
        if digits[middle] < c:
            low = middle + 1
        else:
            high = middle
    return low < len(digits) and digits[low] == c


@compiled
def citation(codes: Any, i: int, end: int, digits: Any) -> int:
    """Where the citation ends that begins at i, or i if there is none: [], [12], [edit], [citation needed]."""
    k = i + 1
    while k < end and is_digit(codes[k], digits):
        k += 1
    if k < end and codes[k] == CLOSING:
        return k + 1
    for row in range(len(CITATION_ROWS)):
        k = 0
        while CITATION_ROWS[row, k] and i + 1 + k < end and codes[i + 1 + k] == CITATION_ROWS[row, k]:
            k += 1
        if not CITATION_ROWS[row, k]:
            return i + 1 + k
    return i


@compiled
def copy(codes: Any, start: int, end: int, to: Any, at: int, digits: Any) -> int:
    """Copies a line without its citations to the place `at`; where it ends there."""
    i = start
    while i < end:
        part = i
        while i < end and codes[i] != OPENING:
            i += 1
        for k in range(i - part):
            to[at + k] = codes[part + k]
        at += i - part
        if i < end:
            after = citation(codes, i, end, digits)
            if after == i:
                to[at] = OPENING
                at += 1
            i = max(after, i + 1)
    return at


@compiled
def ends_well(codes: Any, start: int, end: int) -> bool:
    """Whether a line ends in terminal punctuation of C4, and not in an ellipsis."""
    if start == end:
        return False
    last = codes[end - 1]
    if last == LINE_DOT and end - start > 2 and codes[end - 2] == LINE_DOT and codes[end - 3] == LINE_DOT:
        return False
    ends = False
    for c in FINALS:
        ends |= c == last
    return ends


@compiled
def keep(codes: Any, chunks: Any, first: Any, digits: Any, rules: Any) -> Any:
    """C4's rules for every line; rules: (terminal punctuation, least words, longest word).

    (text of the kept lines, start and end of each there, number of each, fates, bits of phrases that condemn a page,
    those on the first line that has one, whether citations went).
    """
    terminal, least, longest = rules
    starts, ends, _ = chunks
    size = len(first) - 1
    to, at = np.empty(len(codes) + 1, np.uint32), np.int64(0)
    begin, finish, kept = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.int64)
    fates = np.zeros(KEPT + 1, np.int64)
    seen = foremost = 0
    cited = False
    for line in range(size):
        a, b = first[line], first[line + 1]
        too_long = False
        for chunk in range(a, b):
            too_long |= ends[chunk] - starts[chunk] > longest
        if too_long:
            fates[TOO_LONG] += 1
            continue
        start, end = (starts[a], ends[b - 1]) if a < b else (0, 0)
        stop = copy(codes, start, end, to, at, digits)
        if terminal and not ends_well(to, at, stop):
            fates[NO_PUNCTUATION] += 1
            continue
        if b - a < least:
            fates[TOO_FEW] += 1
            continue
        found = phrases(to, at, stop)
        asked = LOREM_IPSUM if found & JAVASCRIPT else LOREM_IPSUM | CURLY_BRACKET
        foremost = foremost if foremost else found & asked
        seen |= found & asked
        if found & JAVASCRIPT or found >= FIRST_POLICY:
            fates[WITH_JAVASCRIPT if found & JAVASCRIPT else WITH_POLICY] += 1
            continue
        cited |= stop - at < end - start
        number = fates[KEPT]
        begin[number], finish[number], kept[number] = at, stop, line
        fates[KEPT] += 1
        to[stop] = NEW_LINE
        at = stop + 1
    lines = fates[KEPT]
    return to[: max(at - 1, 0)], begin[:lines], finish[:lines], kept[:lines], fates, seen, foremost, cited


@compiled
def moved(chunks: Any, first: Any, begin: Any, kept: Any) -> Any:
    """The chunks of the kept lines where they stand now, if no citation went, and which chunks they are."""
    starts, ends, hashes = chunks
    count = 0
    for line in kept:
        count += first[line + 1] - first[line]
    there, until, same = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, np.uint64)
    origin = np.empty(count, np.int64)
    i = 0
    for number in range(len(kept)):
        line = kept[number]
        for chunk in range(first[line], first[line + 1]):
            shift = begin[number] - starts[first[line]]
            there[i], until[i], same[i] = starts[chunk] + shift, ends[chunk] + shift, hashes[chunk]
            origin[i] = chunk
            i += 1
    return (there, until, same), origin


@compiled
def sentences(codes: Any, chunks: Any, origin: Any, begin: Any, finish: Any, flags: Any, word: Any) -> Any:
    """`statistics.count_sentences` of all lines together, and their words; the flags of chunk i's words begin at
    word[origin[i]].
    """
    starts, ends, _ = chunks
    total = words = chunk = 0
    for line in range(len(begin)):
        total += 1
        ended = False
        at = begin[line]
        while chunk < len(starts) and starts[chunk] < finish[line]:
            gap = starts[chunk] - at
            if ended and gap and (gap > 1 or codes[at] != BLANK):
                total += 1
                ended = False
            for k in range(word[origin[chunk]], word[origin[chunk] + 1]):
                words += 1
                if flags[k] & FINAL:
                    ended = True
                elif ended and not flags[k] & PUNCTUATION:
                    total += 1
                    ended = False
            at = ends[chunk]
            chunk += 1
        gap = finish[line] - at
        total += ended and (gap > 1 or (gap == 1 and codes[at] != BLANK))
    return total, words
