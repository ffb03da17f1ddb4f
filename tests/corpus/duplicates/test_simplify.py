import unicodedata
from itertools import zip_longest

import pytest
from datatrove.utils import text as datatrove
from hypothesis import example, given, settings
from hypothesis import strategies as st

from primer.corpus.duplicates.simplify import PUNCTUATION, simplify

AWKWARD = st.sampled_from(
    "ÀǅİßΣς٠٫１²½ ़่̀̈\u0345\u037e\u1fef\u2000\u00a0\u1680\t\n\x0b\x1c\x85\u200b,.-_'’‘“”…、。！"
)
TEXT = st.text(st.one_of(st.characters(exclude_categories=("Cs", "Cn")), AWKWARD, st.sampled_from("aZ09 .")))


def test_the_same_characters_become_spaces():
    assert len(PUNCTUATION) == len(set(PUNCTUATION))
    assert set(datatrove.PUNCTUATION) - set(PUNCTUATION) == {"１"}, "which both make a 0 of before"
    assert set(PUNCTUATION) <= set(datatrove.PUNCTUATION)


@pytest.mark.parametrize("around", ["{}", "a {} b", "3{}4"])
def test_every_character(around):
    """Among neighbours; but for those that this Python's Unicode does not know, and planes without letters."""
    known = [c for c in map(chr, range(0x20000)) if unicodedata.category(c) not in ("Cn", "Co", "Cs")]
    singles = [around.format(c) for c in known[:256]]
    rows = ["x".join(map(around.format, row)) for row in zip_longest(*[iter(known)] * 256, fillvalue="")]
    for text in singles + rows:
        assert simplify(text) == datatrove.simplify_text(text)


@settings(max_examples=150)
@given(TEXT)
@example("")
@example("\u0301 a \u0301")
@example("1.5,5 ٣٫٤ 1. .5 1..5 1,a")
def test_texts_become_what_datatrove_makes_of_them(text):
    assert simplify(text) == datatrove.simplify_text(text)


def test_real_pages(pages):
    assert sum(not page.isascii() for page in pages) > 50
    for page in pages:
        assert simplify(page) == datatrove.simplify_text(page)
