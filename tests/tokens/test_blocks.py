import itertools
import sys
import unicodedata

import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from bpe_setup import PROSE, judge, texts
from primer.tokens import BPETokenizer
from primer.tokens import blocks as blocks_module
from primer.tokens.blocks import blocks, is_safe, rejoined
from primer.tokens.patterns import PATTERNS

both_patterns = pytest.mark.parametrize("pattern", list(PATTERNS))


NEW_LETTERS = [
    chr(point)
    for point in range(sys.maxunicode + 1)
    if unicodedata.category(chr(point)) == "Cn" and regex.match(r"\p{L}", chr(point))
]
"""What is a letter to an engine with a newer Unicode than Python's."""


@given(texts())
@example("".join(f"a{letter}1{letter} {letter}!" for letter in NEW_LETTERS[:2]))
@both_patterns
def test_a_safe_place_is_a_border_of_chunks_and_nothing_looks_across(pattern, text):
    whole = regex.findall(PATTERNS[pattern], text)
    for place in range(1, len(text)):
        if is_safe(text[place - 1], text[place]):
            halves = text[:place], text[place:]
            assert [chunk for half in halves for chunk in regex.findall(PATTERNS[pattern], half)] == whole


def test_ordinary_text_has_a_safe_place_every_few_characters():
    for text in (
        "Call me Ishmael.",
        "x = y[0:10]",
        "0.25,0.5\n1,2",
        "我来到北京。你呢？",
        "日本語は、良い",
        "ab12",
    ):
        assert any(is_safe(a, b) for a, b in itertools.pairwise(text)), text


@given(st.text(min_size=0, max_size=300), st.integers(1, 40))
@example("a" * 100, 7)
def test_blocks_are_the_text_and_none_is_longer(text, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks_module, "BLOCK", size)
        found = list(blocks(text, 0, len(text)))
    assert "".join(text[a:b] for a, b in found) == text
    assert all(0 < b - a <= size for a, b in found)


@pytest.mark.parametrize("implementation", ["fast", "readable"])
@both_patterns
def test_a_text_in_blocks_has_the_ids_of_the_whole(pattern, implementation, monkeypatch, real_data):
    text = (real_data / "shakespeare/input.txt").read_text(encoding="utf-8")[:200_000]
    tokenizer = BPETokenizer.train([text], 600, pattern=pattern, implementation=implementation)
    whole = judge(tokenizer).encode_ordinary(text)
    monkeypatch.setattr(blocks_module, "BLOCK", 64)
    assert len(list(blocks(text, 0, len(text)))) > 3000
    assert tokenizer.encode(text).tolist() == whole


@given(st.lists(st.integers(0, 200), max_size=12))
def test_it_does_not_matter_in_which_pieces_a_text_arrives(cuts):
    text = PROSE
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    assert "".join(rejoined(pieces)) == text
    assert (
        BPETokenizer.train(rejoined(pieces), 400).merges == BPETokenizer.train(rejoined([text]), 400).merges
    )
