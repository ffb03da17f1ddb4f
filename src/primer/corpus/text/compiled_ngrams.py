"""Words of a text that repeat what came before, compiled by numba.

Whether words stand together as they did before is asked of polynomials over their characters (Karp and Rabin 1987), which
are known of a concatenation from those of its parts, so that ("-", "--") equals ("--", "-") as it must, and of any n words
from two prefixes of the text. There are two of them. The quick one, modulo 2**64, finds candidates; alone it could be
deceived (any two long stretches of the Thue–Morse sequence are equal to it). The other one, modulo the prime 2**61 - 1,
confirms: different words that are equal in both are to be expected once in 2**61 pairs at the very most, that is in a page
of 2,500 words once in 10^11 pages, and then one of its statistics is wrong by these words' characters.

numba keeps compiled code on disk by the file of the function that is called: kernels call no kernel of another file.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from primer.corpus.text.compiled_text import compiled

MODULUS = (1 << 61) - 1
BASE = 0x0C6A4A7935BD1E99
NONSYMBOL, LETTER, PUNCTUATION, FINAL = 1, 2, 4, 8
STOP = 8
"""The lowest bit of a word's flags that names a stop word."""

PRIME, LOW_31, LOW_30 = np.uint64(MODULUS), np.uint64((1 << 31) - 1), np.uint64((1 << 30) - 1)
ZERO, ONE, SPREAD = np.uint64(0), np.uint64(1), np.uint64(0x9E3779B97F4A7C15)
HALF, HALF_LESS, WHOLE = np.uint64(31), np.uint64(30), np.uint64(61)
KNOWN = 1024
"""Words that are longer in sum have their powers computed."""
POWERS = np.array([pow(BASE, exponent, MODULUS) for exponent in range(KNOWN)], np.uint64)
QUICK_POWERS = np.array([pow(BASE, exponent, 1 << 64) for exponent in range(KNOWN)], np.uint64)
COUNT_BITS = np.uint64(32)
COUNT = np.uint64((1 << 32) - 1)
"""A chunk's value in the table: the row of its first word, and in the low bits how many words it has."""
LENGTH = np.uint64(16)
FLAGS = np.uint64((1 << 16) - 1)
"""The third number of a word: its length, and in the low bits its flags."""


@compiled
def times(a: Any, b: Any) -> Any:
    """a · b modulo the prime, both below it: four products of halves, none of which overflows."""
    a_high, a_low = a >> HALF, a & LOW_31
    b_high, b_low = b >> HALF, b & LOW_31
    middle = a_low * b_high + a_high * b_low
    total = ((a_high * b_high) << ONE) + (middle >> HALF_LESS) + ((middle & LOW_30) << HALF) + a_low * b_low
    total = (total & PRIME) + (total >> WHOLE)
    return total - PRIME if total >= PRIME else total


@compiled
def power(exponent: int) -> Any:
    """The base to the number of characters by which a prefix moves."""
    if exponent < KNOWN:
        return POWERS[exponent]
    result, square, left = ONE, POWERS[1], exponent
    while left:
        if left & 1:
            result = times(result, square)
        square = times(square, square)
        left >>= 1
    return result


@compiled
def quick_power(exponent: int) -> Any:
    """The same modulo 2**64."""
    if exponent < KNOWN:
        return QUICK_POWERS[exponent]
    result, square, left = ONE, QUICK_POWERS[1], exponent
    while left:
        if left & 1:
            result *= square
        square *= square
        left >>= 1
    return result


@compiled
def describe(codes: Any, lengths: Any, flags: Any, rows: Any) -> None:
    """Fills in the rows of words that stand in `codes` one after the other: both polynomials, length and flags."""
    i = 0
    for word in range(len(lengths)):
        h = quick = ZERO
        for _ in range(lengths[word]):
            c = np.uint64(codes[i]) + ONE
            h = times(h, POWERS[1]) + c
            h = h - PRIME if h >= PRIME else h
            quick = quick * QUICK_POWERS[1] + c
            i += 1
        rows[word, 0], rows[word, 1] = h, quick
        rows[word, 2] = (np.uint64(lengths[word]) << LENGTH) | np.uint64(flags[word])


@compiled
def words_of(values: Any, table: Any) -> Any:
    """The words of chunks: (rows of both polynomials, characters before each word and after the last, flags, the first
    word of each chunk and after the last).
    """
    chunk_first = np.empty(len(values) + 1, np.int32)
    count = 0
    for chunk in range(len(values)):
        chunk_first[chunk] = count
        count += np.int64(values[chunk] & COUNT)
    chunk_first[len(values)] = count
    words, position, flags = np.empty((count, 2), np.uint64), np.empty(count + 1, np.int32), np.empty(count, np.uint16)
    i = characters = 0
    for value in values:
        row = np.int64(value >> COUNT_BITS)
        for k in range(row, row + np.int64(value & COUNT)):
            words[i, 0], words[i, 1] = table[k, 0], table[k, 1]
            position[i] = characters
            characters += np.int64(table[k, 2] >> LENGTH)
            flags[i] = table[k, 2] & FLAGS
            i += 1
    position[count] = characters
    return words, position, flags, chunk_first


@compiled
def kinds_of_words(position: Any, flags: Any) -> Any:
    """(words that are no symbols, their characters, words with a letter, different stop words)."""
    proper = characters = letters = seen = stops = 0
    for i in range(len(flags)):
        if flags[i] & NONSYMBOL:
            proper += 1
            characters += position[i + 1] - position[i]
        letters += (flags[i] & LETTER) // LETTER
        seen |= flags[i] >> STOP
    while seen:
        stops += seen & 1
        seen >>= 1
    return proper, characters, letters, stops


@compiled
def place_of(keys: Any, key: Any, shift: Any) -> Any:
    """The place of a key (not 0) in a table that is never full, or the empty place where it belongs."""
    mask = np.uint64(len(keys) - 1)
    place = (key * SPREAD) >> shift
    while keys[place] and keys[place] != key:
        place = (place + ONE) & mask
    return place


@compiled
def count_grams(words: Any, n: int, keys: Any, counts: Any, shift: Any, often: Any) -> Any:
    """(first place of the most frequent n words, how often they come). `often` says of every n - 1 words whether they
    come more than once, and then of every n words: those whose parts do not need not be counted.
    """
    keys[:] = ZERO
    size = len(words) - n + 1
    places = np.empty(size, np.int32)
    best, best_first = 1, 0
    for i in range(size):
        places[i] = -1
        if not (often[i] and often[i + 1]):
            continue
        key = ZERO
        for word in range(i, i + n):
            key = (key ^ words[word, 0]) * SPREAD
            key ^= key >> HALF
        key = key if key else ONE
        place = place_of(keys, key, shift)
        if not keys[place]:
            keys[place] = key
            counts[place, 0], counts[place, 1] = 0, i
        counts[place, 0] += 1
        places[i] = place
        count, first = counts[place, 0], counts[place, 1]
        if count > best or (count == best and first < best_first):
            best, best_first = count, first
    for i in range(size):
        often[i] = places[i] >= 0 and counts[places[i], 0] > 1
    return best_first, best


@compiled
def tops(words: Any, position: Any, keys: Any, shift: Any, found: Any) -> None:
    """`statistics.top_n_gram` for 2, 3 and 4: characters of the most frequent words and their blanks, times how often."""
    counts = np.empty((len(keys), 2), np.int32)
    often = np.ones(len(words), np.bool_)
    for n in range(2, 5):
        found[n - 2] = 0
        if n <= len(words):
            first, count = count_grams(words, n, keys, counts, shift, often)
            found[n - 2] = count * (position[first + n] - position[first] + n - 1)


@compiled
def confirmed(prefix: Any, position: Any, i: int, k: int, n: int) -> bool:
    """Whether the n words at i are the characters of those at k."""
    length = position[i + n] - position[i]
    if length != position[k + n] - position[k]:
        return False
    base = power(length)
    here, there = times(prefix[i, 0], base), times(prefix[k, 0], base)
    return (prefix[i + n, 0] + PRIME - here) % PRIME == (prefix[k + n, 0] + PRIME - there) % PRIME


@compiled
def duplicated(prefix: Any, position: Any, n: int, keys: Any, places: Any, shift: Any) -> int:
    """`statistics.duplicated_n_grams`: characters of those n words that came before, from left to right."""
    keys[:] = ZERO
    mask = np.uint64(len(keys) - 1)
    characters = i = 0
    while i < len(prefix) - n:
        length = position[i + n] - position[i]
        key = prefix[i + n, 1] - prefix[i, 1] * quick_power(length)
        key = key if key else ONE
        place = (key * SPREAD) >> shift
        while keys[place] and not (keys[place] == key and confirmed(prefix, position, i, places[place], n)):
            place = (place + ONE) & mask
        if keys[place]:
            characters += length
            i += n
        else:
            keys[place], places[place] = key, i
            i += 1
    return characters


@compiled
def repetitions(words: Any, position: Any) -> Any:
    """Characters of the most frequent 2, 3 and 4 words, and of 5 to 10 words that came before."""
    bits = 4
    while (1 << bits) < 2 * len(words):
        bits += 1
    shift = np.uint64(64 - bits)
    keys, places = np.empty(1 << bits, np.uint64), np.empty(1 << bits, np.int32)
    prefix = np.empty((len(words) + 1, 2), np.uint64)
    prefix[0, 0] = prefix[0, 1] = ZERO
    for i in range(len(words)):
        length = position[i + 1] - position[i]
        h = times(prefix[i, 0], power(length)) + words[i, 0]
        prefix[i + 1, 0] = h - PRIME if h >= PRIME else h
        prefix[i + 1, 1] = prefix[i, 1] * quick_power(length) + words[i, 1]
    found = np.empty(9, np.int64)
    tops(words, position, keys, shift, found)
    for n in range(5, 11):
        found[n - 2] = duplicated(prefix, position, n, keys, places, shift)
    return found
