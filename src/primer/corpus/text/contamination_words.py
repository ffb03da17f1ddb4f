"""Words as decontamination compares them: alike whatever the capitals, punctuation, accents and white space.

For ASCII they are those of `duplicates.simplify`. Beyond that, so that a crawl's typography hides nothing, whatever
is no letter, mark or digit parts words (simplify keeps ‘ and ‐ and €), invisible characters (soft hyphens, joiners)
vanish, and letters are case-folded (ß is ss). And numbers in a row are one number: "1,000", "1 000" and "1000" are
the same, and one table of numbers is not taken for another.

Scripts without spaces between words (Chinese, Japanese, Thai) have few words here, and are hardly ever found.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from primer.corpus.duplicates.simplify import simplify

NUMBER = "0"
"""What simplify makes of every number."""
INSIDE_NUMBERS = ".,\u060c\u066b\u2396\u2397\u2398"
"""What may stand between two digits of a number: simplify's, too."""
ZERO_WIDTH_SPACE = "\u200b"

_WORD = re.compile(rf"(?:\d+(?:[{INSIDE_NUMBERS}]\d+)?|[^ {INSIDE_NUMBERS}])+")
_NUMBERS = re.compile(rf"\d+(?:[{INSIDE_NUMBERS}]\d+)*")


class Word(NamedTuple):
    """A word, simplified, and where it stands: text[start:end]."""

    text: str
    start: int
    end: int


def parts(character: str) -> bool:
    """Whether it separates words."""
    category = unicodedata.category(character)
    return category[0] not in "LMN" and (category != "Cf" or character == ZERO_WIDTH_SPACE)


def folded(character: str) -> str:
    """What is compared of a character that parts no words: its letters in lower case without marks, maybe nothing."""
    return "" if unicodedata.category(character) == "Cf" else simplify(character).casefold()


class _Parted(dict[int, int | str]):
    """For `str.translate`: what parts words becomes a space, and every character keeps its place."""

    def __missing__(self, code: int) -> int | str:
        character = chr(code)
        self[code] = " " if parts(character) and character not in INSIDE_NUMBERS else code
        return self[code]


class _Folded(dict[int, int | str]):
    """For `str.translate`: all but numbers folded."""

    def __missing__(self, code: int) -> int | str:
        character = chr(code)
        self[code] = code if character.isdecimal() or character in INSIDE_NUMBERS else folded(character)
        return self[code]


_parted, _folded = _Parted(), _Folded()


def words(text: str) -> list[Word]:
    """The words of a text and their places; numbers in a row are one, from the first digit to the last.

    >>> [tuple(word) for word in words("Zoë’s 1,000 2.5 -mile walks")]
    [('zoe', 0, 3), ('s', 4, 5), ('0', 6, 15), ('mile', 17, 21), ('walks', 22, 27)]
    """
    found: list[Word] = []
    for match in _WORD.finditer(text.translate(_parted)):
        piece = match[0]
        word = piece.lower() if piece.isascii() else piece.translate(_folded)
        if not word.isalpha():
            word = _NUMBERS.sub(NUMBER, word)
        start, end = match.span()
        if word == NUMBER and found and found[-1].text == NUMBER:
            found[-1] = found[-1]._replace(end=end)
        elif word:
            found.append(Word(word, start, end))
    return found
