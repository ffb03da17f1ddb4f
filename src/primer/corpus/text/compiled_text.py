"""Chunks, lines and paragraphs of a text given as code points, and which of them came before: compiled by numba.

Equal means equal in a 64-bit hash of the content: of chunks their characters (the rounds and the mixing of xxHash, two
code points a round), of lines their chunks and the white space between. In pages of 1,000 lines one pair in 10^13 pages
is wrongly taken for equal; in a table of 200,000 chunks, one new chunk in 10^14. Hashes depend on the text alone, so
that a page has the same numbers wherever and whenever it is measured.

numba keeps compiled code on disk by the file of the function that is called: kernels call no kernel of another file.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit

SPACE, BREAK = 1, 2
"""Kinds of a character: white space as `str.split` sees it, and that which ends a line for `str.splitlines`."""
LAST_SPACE = 0x3000
NEWLINE, RETURN, BLANK, HASH, DOT, MINUS, BULLET, ELLIPSIS = (ord(character) for character in "\n\r #.-•…")

ONE, TURN, REST, WORD, PRIME_1, PRIME_2, PRIME_3 = (
    np.uint64(number)
    for number in (1, 31, 33, 32, 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)
)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled when it is first called, and kept on disk where there is a place for it."""
    try:
        return njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # neither this folder nor the user's cache can be written
        return njit(nogil=True, error_model="numpy")(function)


@cache
def kinds_of_characters() -> np.ndarray:
    """uint8 by code point up to the last white space there is."""
    kinds = np.zeros(LAST_SPACE + 1, np.uint8)
    for code in range(LAST_SPACE + 1):
        character = chr(code)
        breaks = len(f"a{character}a".splitlines()) == 2
        kinds[code] = SPACE * character.isspace() + BREAK * breaks
    return kinds


@compiled
def is_space(c: int, kinds: Any) -> bool:
    return c <= LAST_SPACE and kinds[c] != 0


@compiled
def holds(ascending: Any, c: int) -> bool:
    """Whether a sorted table has the code point."""
    low, high = 0, len(ascending)
    while low < high:
        middle = (low + high) // 2
        if ascending[middle] < c:
            low = middle + 1
        else:
            high = middle
    return low < len(ascending) and ascending[low] == c


@compiled
def digest(codes: Any, start: int, end: int) -> Any:
    """64 bits of what stands from start to end; never 0, which marks an empty place in a table."""
    h = PRIME_3 * np.uint64(end - start + 1)
    i = start
    while i < end:
        pair = np.uint64(codes[i])
        if i + 1 < end:
            pair |= np.uint64(codes[i + 1]) << WORD
        h += pair * PRIME_2
        h = ((h << TURN) | (h >> REST)) * PRIME_1
        i += 2
    h = (h ^ (h >> REST)) * PRIME_2
    h = (h ^ (h >> np.uint64(29))) * PRIME_3
    h ^= h >> WORD
    return h if h else ONE


@compiled
def find(table: Any, key: Any) -> int:
    """The place of a key in a table that is never full and has a power of two of places (key, value), or the empty
    place where it belongs."""
    mask = np.uint64(len(table) - 1)
    place = key & mask
    while table[place, 0] and table[place, 0] != key:
        place = (place + ONE) & mask
    return int(place)


@compiled
def enter(table: Any, keys: Any, values: Any) -> None:
    """Keys that the table lacks, and their values."""
    for i in range(len(keys)):
        place = find(table, keys[i])
        table[place, 0], table[place, 1] = keys[i], values[i]


@compiled
def look_up(hashes: Any, values: Any, table: Any) -> int:
    """Fills in what the table has for the chunks; how many it does not know, which get 0.

    Apart from the reading, so that many chunks wait for memory at the same time.
    """
    unknown = 0
    for i in range(len(hashes)):
        place = find(table, hashes[i])
        values[i] = table[place, 1]
        unknown += table[place, 0] == 0
    return unknown


@compiled
def read(codes: Any, kinds: Any) -> Any:
    """The chunks of a text and its lines: (starts, ends, hashes, the first chunk of every line and after the last)."""
    size = len(codes)
    room = size // 2 + 1
    starts, ends, hashes = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.uint64)
    first = np.empty(size + 2, np.int64)
    first[0] = 0
    chunks = lines = i = line = 0
    while i < size:
        c = codes[i]
        if not is_space(c, kinds):
            start = i
            while i < size and not is_space(codes[i], kinds):
                i += 1
            starts[chunks], ends[chunks], hashes[chunks] = start, i, digest(codes, start, i)
            chunks += 1
            continue
        i += 1
        if kinds[c] & BREAK:
            if c == RETURN and i < size and codes[i] == NEWLINE:
                i += 1
            lines += 1
            first[lines] = chunks
            line = i
    if line < size:
        lines += 1
        first[lines] = chunks
    return starts[:chunks], ends[:chunks], hashes[:chunks], first[: lines + 1]


@compiled
def span_hash(codes: Any, chunks: Any, a: int, b: int, start: int, end: int) -> Any:
    """64 bits, not 0, of what stands from start to end with the chunks a to b in it, and white space other than single
    blanks between them."""
    starts, ends, hashes = chunks
    h = PRIME_3
    at = start
    for chunk in range(a, b):
        if starts[chunk] > at and (chunk == a or starts[chunk] - at > 1 or codes[at] != BLANK):
            h = (h ^ digest(codes, at, starts[chunk])) * PRIME_1
            h ^= h >> WORD
        h = (h ^ hashes[chunk]) * PRIME_2
        h ^= h >> WORD
        at = ends[chunk]
    if at < end:
        h = (h ^ digest(codes, at, end)) * PRIME_1
        h ^= h >> WORD
    return h if h else ONE


@compiled
def duplicates(codes: Any, chunks: Any, spans: Any, count: int) -> Any:
    """(how many spans came before, their characters); spans: (starts, ends, first chunks and the end)."""
    starts, ends, first = spans
    places = 16
    while places < 2 * count:
        places *= 2
    table = np.zeros((places, 1), np.uint64)
    again = characters = 0
    for i in range(count):
        key = span_hash(codes, chunks, first[i], first[i + 1], starts[i], ends[i])
        place = find(table, key)
        if table[place, 0]:
            again += 1
            characters += ends[i] - starts[i]
        table[place, 0] = key
    return again, characters


@compiled
def cut(codes: Any, chunks: Any, start: int, end: int, newlines: int) -> Any:
    """What so many newlines or more separate from start to end, empty ones at the margins included: (spans, count)."""
    chunk_starts, chunk_ends, _ = chunks
    number = len(chunk_starts)
    room = end - start - number + 2
    starts, ends, first = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room + 1, np.int64)
    count = 0
    starts[0], first[0] = start, 0
    for chunk in range(number + 1):
        i = chunk_ends[chunk - 1] if chunk else start
        gap_end = chunk_starts[chunk] if chunk < number else end
        while i < gap_end:
            run = i
            while i < gap_end and codes[i] == NEWLINE:
                i += 1
            if i - run >= newlines:
                ends[count] = run
                count += 1
                starts[count], first[count] = i, chunk
            elif i == run:
                i += 1
    ends[count], first[count + 1] = end, number
    return (starts, ends, first), count + 1


@compiled
def repeated_lines(codes: Any, chunks: Any) -> Any:
    """(paragraphs, those that came before, their characters, lines, those that came before, their characters)."""
    starts, ends, _ = chunks
    margins = (starts[0], ends[-1]) if len(starts) else (0, 0)
    spans, paragraphs = cut(codes, chunks, margins[0], margins[1], np.int64(2))
    again, characters = duplicates(codes, chunks, spans, paragraphs)
    spans, lines = cut(codes, chunks, np.int64(0), len(codes), np.int64(1))
    line_again, line_characters = duplicates(codes, chunks, spans, lines)
    return paragraphs, again, characters, lines, line_again, line_characters


@compiled
def marks(codes: Any, chunks: Any, first: Any) -> Any:
    """(hashes, ellipses, lines that begin with a bullet, lines that end in an ellipsis)."""
    starts, ends, _ = chunks
    hashes = ellipses = dots = bullets = final = 0
    for c in codes:
        hashes += c == HASH
        dots = dots + 1 if c == DOT else 0
        ellipses += c == ELLIPSIS or dots == 3
        dots = 0 if dots == 3 else dots
    for line in range(len(first) - 1):
        if first[line] < first[line + 1]:
            head = codes[starts[first[line]]]
            bullets += head in (BULLET, MINUS)
            i = ends[first[line + 1] - 1]
            dotted = i > 2 and codes[i - 1] == DOT and codes[i - 2] == DOT and codes[i - 3] == DOT
            final += codes[i - 1] == ELLIPSIS or dotted
    return hashes, ellipses, bullets, final


@compiled
def inhabited(chunks: Any, line_starts: Any, line_ends: Any) -> Any:
    """The lines that are not blank, the first without white space before it and the last without any after it:
    (spans, count, newlines from the first to the last, characters from the first to the last but for the newlines).
    """
    chunk_starts, chunk_ends, _ = chunks
    size, number = len(line_starts), len(chunk_starts)
    starts, ends, first = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size + 1, np.int64)
    count = newlines = characters = chunk = last = 0
    for line in range(size):
        before = chunk
        while chunk < number and chunk_starts[chunk] < line_ends[line]:
            chunk += 1
        if chunk > before:
            starts[count] = line_starts[line] if count else chunk_starts[0]
            ends[count] = line_ends[line] if chunk < number else chunk_ends[number - 1]
            first[count] = before
            if count:
                newlines += line - last
                characters += starts[count] - ends[count - 1] - (line - last)
            characters += ends[count] - starts[count]
            last = line
            count += 1
    first[count] = number
    return (starts, ends, first), count, newlines, characters


@compiled
def shape(codes: Any, chunks: Any, line_starts: Any, line_ends: Any, terminal: Any, short: int) -> Any:
    """Of the lines that are not blank: (how many, with terminal punctuation, short, characters of those that came
    before, characters of all, newlines between them), and where the first begins and the last ends.
    """
    spans, count, newlines, characters = inhabited(chunks, line_starts, line_ends)
    starts, ends, _ = spans
    punctuated = brief = 0
    for line in range(count):
        brief += ends[line] - starts[line] <= short
        punctuated += holds(terminal, codes[ends[line] - 1])
    again = duplicates(codes, chunks, spans, count)[1]
    begin, end = (starts[0], ends[count - 1]) if count else (0, 0)
    return count, punctuated, brief, again, characters, newlines, begin, end
