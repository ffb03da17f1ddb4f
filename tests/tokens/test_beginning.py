"""What stands before a text, for each kind of tokenizer."""

from merging import MergingTokenizer
from primer.tokens.beginning import beginning
from primer.tokens.char import ByteTokenizer, CharTokenizer


def test_a_text_begins_after_the_end_of_another_or_a_new_line() -> None:
    assert beginning(MergingTokenizer()).tolist() == [MergingTokenizer().vocab_size - 1]
    assert beginning(ByteTokenizer()).tolist() == [10]
    assert beginning(CharTokenizer("ab\n")).tolist() == [2]
    assert beginning(CharTokenizer("ab")).tolist() == [0]
    assert beginning(CharTokenizer("ab", "skip")).tolist() == [0]
