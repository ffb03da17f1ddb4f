"""Where a text is split before byte pairs are merged: no token reaches across such a border.

Without the split, the commonest endings of words would fuse with whatever mark follows them: a vocabulary full
of "dog.", "dog!" and "dog?" (Radford et al. 2019, §2.2).
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from typing import Literal

from primer.errors import UsageError

PatternName = Literal["gpt2", "gpt4"]

PATTERNS: dict[PatternName, str] = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "gpt4": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
"""As they were published: GPT-2's in `src/encoder.py` of openai/gpt-2 (2019), GPT-4's (cl100k_base) in
`tiktoken_ext/openai_public.py` of openai/tiktoken (2023). The later keeps numbers to three digits, sees 'S as 's,
and lets a mark stand before a word as a space does."""

QUICK: dict[PatternName, str] = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s+(?!\S)|\s+",
    "gpt4": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s*[\r\n]+|\s+(?!\S)|\s+",
}
"""The same matches, with the steps back left out that can lead nowhere."""

WHITE_SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""Unicode's White_Space, as the inside of a character class. Python's own `\\s` has U+001C to U+001F as well."""


def check_pattern(name: PatternName) -> PatternName:
    """`name`, if there is such a pattern; else UsageError."""
    if name not in PATTERNS:
        raise UsageError(f"unknown pattern {name!r}", hint=" or ".join(PATTERNS))
    return name


@cache
def splitter(name: PatternName) -> Callable[[str], list[str]]:
    """A function that splits a text into chunks with Python's `re`: they are the text again when joined.

    `re` knows neither `\\p{L}` nor `\\p{N}`; they are written out from `unicodedata`. So this differs from the
    engines of other programs in one thing: a character that is newer than this Python's Unicode is no letter here.
    """
    return re.compile(written_out(QUICK[name])).findall


def written_out(pattern: str) -> str:
    """A pattern whose `\\p{L}`, `\\p{N}`, `\\s` and `\\S` are character classes that `re` understands."""
    inside = {r"\p{L}": category("L"), r"\p{N}": category("N"), r"\s": WHITE_SPACE}
    alone = {name: f"[{members}]" for name, members in inside.items()} | {r"\S": f"[^{WHITE_SPACE}]"}

    def replace(match: re.Match[str]) -> str:
        text = match.group()
        if not text.startswith("["):
            return alone[text]
        for name, members in inside.items():
            text = text.replace(name, members)
        return text

    return re.sub(r"\[[^\]]*\]|\\p\{[LN]\}|\\[sS]", replace, pattern)


@cache
def category(letter: str) -> str:
    """All characters of a general category (L letters, N numbers), as the inside of a character class."""
    return "".join(
        re.escape(chr(first)) + (f"-{re.escape(chr(last))}" if last > first else "")
        for first, last in _runs(letter)
    )


def _runs(letter: str) -> Iterator[tuple[int, int]]:
    """(first, last) of every unbroken run of code points in a category."""
    first = None
    for point in range(sys.maxunicode + 2):
        member = point <= sys.maxunicode and unicodedata.category(chr(point))[0] == letter
        if member and first is None:
            first = point
        elif not member and first is not None:
            yield first, point - 1
            first = None
