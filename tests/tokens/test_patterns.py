import sys
import unicodedata

import pytest
import regex
from hypothesis import given

from bpe_setup import texts
from primer.tokens.patterns import PATTERNS, QUICK, splitter

both_patterns = pytest.mark.parametrize("pattern", list(PATTERNS))


@given(texts(newest=False))
@both_patterns
def test_python_splits_as_the_pattern_says(pattern, text):
    mine = splitter(pattern)(text)
    assert mine == regex.findall(PATTERNS[pattern], text)
    assert mine == regex.findall(QUICK[pattern], text)
    assert "".join(mine) == text


@both_patterns
def test_python_splits_around_every_character_as_the_pattern_says(pattern):
    known = [
        chr(point)
        for point in range(sys.maxunicode + 1)
        if unicodedata.category(chr(point)) not in ("Cn", "Cs")
    ]
    text = "".join(f" {character}a{character}1.{character} {character}\n" for character in known)
    assert splitter(pattern)(text) == regex.findall(PATTERNS[pattern], text)
