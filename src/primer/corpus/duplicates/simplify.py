"""What two texts that say the same have in common: no capitals, digits, punctuation or accents.

Follows datatrove's `utils/text.py`, `simplify_text`, with its default `TextNormConfig`, on which its MinHash works:
the same characters are blanked and the steps come in the same order, because some undo what an earlier one did (an
accent of its own leaves two spaces behind, which stay).
"""

from __future__ import annotations

import re
import unicodedata

CONTROLS = "".join(map(chr, (*range(9), *range(11, 32), *range(127, 160))))
"""C0 without tab and line feed, DEL, and C1."""
ASCII = r"""!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~"""
QUOTES = "’“”„´«»"
DASHES_AND_DOTS = "–—…"
IDEOGRAPHIC = "、。〈〉《》「」【】"
FULL_WIDTH = "！％（），．：；？～"
SYMBOLS = "∶━►"
"""Ratio, a heavy line, a triangle: what crawled lists are decorated with."""
PUNCTUATION = CONTROLS + ASCII + QUOTES + DASHES_AND_DOTS + IDEOGRAPHIC + FULL_WIDTH + SYMBOLS
"""What becomes a space. datatrove's has a full-width 1 too, which never gets there: it became 0 before."""

_BLANKED = str.maketrans(dict.fromkeys(PUNCTUATION, " "))
_GAP = re.compile(rf"[{re.escape(PUNCTUATION)}\s]+")
_NUMBER = re.compile(r"\d+(?:[.,،٫⎖⎗⎘]\d+)?")
"""`\\d` is Unicode's Nd; a separator counts where a digit follows."""


def simplify(text: str) -> str:
    """`text` in lower case, numbers as 0, punctuation and white space as single spaces, and letters without marks.

    Characters younger than the interpreter's `unicodedata` have no case, marks or digits here.

    >>> simplify("Ça coûte 1.234,50 €, Zoë!")
    'ca coute 0 0 € zoe'
    """
    text = _NUMBER.sub("0", text.lower())
    if text.isascii():  # here a table and a split are three times as fast as a pattern
        return " ".join(text.translate(_BLANKED).split())
    return _without_marks(_GAP.sub(" ", text).strip()).strip()


def _without_marks(text: str) -> str:
    """Letters taken apart from their accents, and those dropped: NFD without category Mn."""
    text = unicodedata.normalize("NFD", text)
    for letter in set(text):  # few are distinct, and to drop one is a matter of searching for it
        if unicodedata.category(letter) == "Mn":
            text = text.replace(letter, "")
    return text
