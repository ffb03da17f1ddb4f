"""datatrove is the judge of what is punctuation."""

import pytest

from primer.corpus.text.characters import PUNCTUATION, TERMINAL

judge = pytest.importorskip("datatrove.utils.text", reason="datatrove, the judge, is in gpt-primer[cluster]")


def test_the_sets_are_those_of_datatrove():
    assert judge.PUNCTUATION_SET == PUNCTUATION
    assert judge.TERMINAL_PUNCTUATION == TERMINAL


def test_terminal_marks_are_punctuation_to_unicode():
    regex = pytest.importorskip("regex", reason="Unicode's properties come from regex, in gpt-primer[dev]")
    other = {mark for mark in TERMINAL if not regex.match(r"\p{Sentence_Terminal}", mark)}
    assert other == {"\u17d6", "\u17d9", "\u17da"}  # Khmer, Sentence_Terminal in no version since
