"""Long texts in blocks, cut where no chunk is cut in two: the tokens are those of the whole.

A chunk (`patterns`) begins with a space or another mark at most, and goes on with characters of one kind. So every
pattern has a border between a letter or a number and a character of another kind, and before a space that follows
anything but white space; and no pattern looks back.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator

BLOCK = 1 << 16
"""Characters of a block at most."""

WINDOW = 1 << 14
"""Characters at the end of a block among which a safe place is looked for. A stretch of that length without one is no
ordinary text (a genome in one line, a million spaces). It is cut all the same: merging a chunk takes more than linear
time, and what the engines' patterns can remember ends somewhere."""


def blocks(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """(start, end) of the blocks of text[start:end], in order."""
    while end - start > BLOCK:
        cut = safe_cut(text, start, start + BLOCK)
        yield start, cut
        start = cut
    if start < end:
        yield start, end


def safe_cut(text: str, start: int, end: int) -> int:
    """The last safe place near `end`, which must lie inside the text; without one, `end` itself."""
    for place in range(end, max(start, end - WINDOW), -1):
        if is_safe(text[place - 1], text[place]):
            return place
    return end


def is_safe(before: str, after: str) -> bool:
    """Whether every pattern has a border between these two characters, whatever else the text holds."""
    if after == " ":
        return not before.isspace()
    kind = unicodedata.category(before)[0]
    if kind not in "LN":
        return False
    other = unicodedata.category(after)[0]
    # A character that this Python's Unicode lacks (C, as controls are) may be a letter to an engine that is newer.
    return other not in (kind, "C") or after in "\t\n\r"


def rejoined(pieces: Iterable[str]) -> Iterator[str]:
    """The pieces that a text arrives in, cut anew at safe places, each into blocks at most."""
    held = ""
    for piece in pieces:
        held += piece
        done = 0
        for start, end in blocks(held, 0, len(held)):
            if end < len(held):  # the last block may go on in the next piece
                yield held[start:end]
                done = end
        held = held[done:]
    if held:
        yield held
