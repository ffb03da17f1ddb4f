"""Words of a text that repeat what came before, compiled by numba.

Whether words stand together as they did before is asked of polynomials over their characters (Karp and Rabin 1987):
that of a concatenation is known from those of its parts, so that ("-", "--") equals ("--", "-") as it must, and that of
any n words from two prefixes of the text. There are two. The quick one, modulo 2**64, finds candidates; alone it
could be deceived (two long stretches of the Thue–Morse sequence are equal to it). The exact one, modulo the prime
2**61 - 1, confirms. Different words that are equal in it are to be expected once in 2**61 pairs, in a page of 2,500
words once in 10^11 pages, and then one of its statistics is wrong by these words' characters.

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
QUICK_INVERSES = np.array([pow(BASE, -exponent, 1 << 64) for exponent in range(KNOWN)], np.uint64)
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
def quick_power(powers: Any, exponent: int) -> Any:
    """The same modulo 2**64, of the base or its inverse, whose first powers are given."""
    if exponent < KNOWN:
        return powers[exponent]
    result, square, left = ONE, powers[1], exponent
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
        unit = ONE
        for _ in range(lengths[word]):
            c = np.uint64(codes[i]) + ONE
            h = times(h, POWERS[1]) + c
            h = h - PRIME if h >= PRIME else h
            quick += c * unit
            unit *= QUICK_POWERS[1]
            i += 1
        rows[word, 0], rows[word, 1] = h, quick
        rows[word, 2] = (np.uint64(lengths[word]) << LENGTH) | np.uint64(flags[word])


@compiled
def words_of(values: Any, table: Any) -> Any:
    """The words of chunks: (rows of both polynomials, characters before each word and after the last, flags, the first
    word of each chunk and after the last).
    """
    chunk_first = np.empty(len(values) + 1, np.int64)
    count = 0
    for chunk in range(len(values)):
        chunk_first[chunk] = count
        count += int(values[chunk] & COUNT)
    chunk_first[len(values)] = count
    words, position, flags = (
        np.empty((count, 2), np.uint64),
        np.empty(count + 1, np.int64),
        np.empty(count, np.uint16),
    )
    i = characters = 0
    for value in values:
        row = int(value >> COUNT_BITS)
        for k in range(row, row + int(value & COUNT)):
            words[i, 0], words[i, 1] = table[k, 0], table[k, 1]
            position[i] = characters
            characters += int(table[k, 2] >> LENGTH)
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
def fill(array: Any, number: Any) -> None:
    for i in range(len(array)):
        array[i] = number


@compiled
def place_of(keys: Any, key: Any, shift: Any) -> Any:
    """The place of a key (not 0) in a table that is never full, or the empty place where it belongs."""
    mask = np.uint64(len(keys) - 1)
    place = (key * SPREAD) >> shift
    while keys[place] and keys[place] != key:
        place = (place + ONE) & mask
    return place


@compiled
def number_grams(
    grams: Any, candidates: Any, few: int, numbers: Any, keys: Any, names: Any, shift: Any
) -> Any:
    """Numbers the grams at the first few candidate places by their first occurrence: (where each begins first, how
    often it comes, how many there are).

    What is new is entered without a branch: which gram was seen before cannot be foretold, least of all by a processor.
    """
    fill(keys, ZERO)
    firsts, counts = np.empty(few + 1, np.int64), np.zeros(few + 1, np.int64)
    distinct = 0
    for k in range(few):
        i = candidates[k]
        place = place_of(keys, grams[i], shift)
        new = keys[place] == ZERO
        number = distinct if new else names[place]
        keys[place], names[place] = grams[i], number
        firsts[distinct] = i
        distinct += new
        counts[number] += 1
        numbers[i] = number
    return firsts, counts, distinct


@compiled
def tops(words: Any, position: Any, keys: Any, names: Any, shift: Any, found: Any) -> None:
    """`statistics.top_n_gram` for 2, 3 and 4: characters of the most frequent words and their blanks, times how often.

    Three words come twice only if their first two and their last two do, so few need to be counted; if none comes
    twice, the first three words are the most frequent.
    """
    size = len(words)
    grams, numbers, candidates = np.empty(size, np.uint64), np.empty(size, np.int64), np.empty(size, np.int64)
    few = max(size - 1, 0)
    for i in range(size):
        grams[i], candidates[i] = words[i, 0], i
    for n in range(2, 5):
        found[n - 2] = 0
        if n > size:
            continue
        for i in range(size - n + 1):
            gram = (grams[i] ^ (words[i + n - 1, 0] * SPREAD)) * SPREAD
            gram ^= gram >> HALF
            grams[i] = gram if gram else ONE
        fill(numbers, -1)
        firsts, counts, distinct = number_grams(grams, candidates, few, numbers, keys, names, shift)
        first, count = 0, 1
        for number in range(distinct):
            if counts[number] > count:
                first, count = firsts[number], counts[number]
        found[n - 2] = count * (position[first + n] - position[first] + n - 1)
        fewer = 0
        for k in range(few):
            i = candidates[k]
            after = numbers[i + 1] if i + n < size else -1
            candidates[fewer] = i
            fewer += after >= 0 and counts[numbers[i]] > 1 and counts[after] > 1
        few = fewer


@compiled
def together(words: Any, position: Any, i: int, n: int) -> Any:
    """The exact polynomial of n words."""
    h = ZERO
    for word in range(i, i + n):
        h = times(h, power(position[word + 1] - position[word])) + words[word, 0]
        h = h - PRIME if h >= PRIME else h
    return h


@compiled
def confirmed(words: Any, position: Any, i: int, k: int, n: int) -> bool:
    """Whether the n words at i are the characters of those at k."""
    same = 0
    while same < n and words[i + same, 0] == words[k + same, 0]:
        same += 1
    if same == n:
        return True
    if position[i + n] - position[i] != position[k + n] - position[k]:
        return False
    return together(words, position, i, n) == together(words, position, k, n)


@compiled
def duplicated(words: Any, position: Any, quick: Any, n: int, keys: Any, places: Any, shift: Any) -> int:
    """`statistics.duplicated_n_grams`: characters of those n words that came before, from left to right."""
    prefix, inverse = quick
    size = max(len(words) - n + 1, 0)
    grams = np.empty(size, np.uint64)
    for i in range(size):
        gram = (prefix[i + n] - prefix[i]) * inverse[i]
        grams[i] = gram if gram else ONE
    fill(keys, ZERO)
    mask = np.uint64(len(keys) - 1)
    characters = i = int(position[0])  # a literal 0 has a type of its own, and numba would compile twice
    while i < size:
        place = place_of(keys, grams[i], shift)
        while keys[place] and not confirmed(words, position, i, int(places[place]), n):
            place = (place + ONE) & mask
            while keys[place] and keys[place] != grams[i]:
                place = (place + ONE) & mask
        if keys[place]:
            characters += position[i + n] - position[i]
            i += n
        else:
            keys[place], places[place] = grams[i], i
            i += 1
    return characters


@compiled
def quick_prefixes(words: Any, position: Any) -> Any:
    """(the quick polynomial of the first 0, 1, 2 … words, by which power it is divided to begin at the next word).

    Its lowest coefficient is the first character, so that a difference of two prefixes is that of the words between
    them but for a power of the base, which has an inverse modulo 2**64.
    """
    size = len(words)
    prefix, inverse = np.empty(size + 1, np.uint64), np.empty(size + 1, np.uint64)
    prefix[0], inverse[0] = ZERO, ONE
    unit = ONE
    for i in range(size):
        length = position[i + 1] - position[i]
        prefix[i + 1] = prefix[i] + words[i, 1] * unit
        unit *= quick_power(QUICK_POWERS, length)
        inverse[i + 1] = inverse[i] * quick_power(QUICK_INVERSES, length)
    return prefix, inverse


@compiled
def repetitions(words: Any, position: Any) -> Any:
    """Characters of the most frequent 2, 3 and 4 words, and of 5 to 10 words that came before."""
    bits = 4
    while (1 << bits) < 2 * len(words):
        bits += 1
    shift = np.uint64(64 - bits)
    keys, places = np.empty(1 << bits, np.uint64), np.empty(1 << bits, np.int32)
    found, quick = np.empty(9, np.int64), quick_prefixes(words, position)
    tops(words, position, keys, places, shift, found)
    for n in range(5, 11):
        found[n - 2] = duplicated(words, position, quick, n, keys, places, shift)
    return found
