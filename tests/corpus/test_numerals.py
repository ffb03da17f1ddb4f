"""The outsider is a reader of numerals that is written here, from the words to the number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer.corpus.numerals import ordinal, ordinal_words, words

VALUES = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
    "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50,
    "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip


def number(text: str) -> int:
    """What is said, added up from the left."""
    total = group = 0
    for word in text.replace("-", " ").split():
        if word == "thousand":
            total, group = total + group * 1000, 0
        elif word == "hundred":
            group *= 100
        elif word != "and":
            group += VALUES[word]
    return total + group


@given(st.integers(0, 999_999))
def test_words_say_the_number(value):
    assert number(words(value)) == value


def test_the_years_of_a_thousand_have_a_thousand_names():
    assert len({words(value) for value in range(10_000)}) == 10_000


@pytest.mark.parametrize(
    ("value", "cardinal", "nth", "digits"),
    [
        (1, "one", "first", "1st"),
        (2, "two", "second", "2nd"),
        (3, "three", "third", "3rd"),
        (4, "four", "fourth", "4th"),
        (5, "five", "fifth", "5th"),
        (8, "eight", "eighth", "8th"),
        (9, "nine", "ninth", "9th"),
        (11, "eleven", "eleventh", "11th"),
        (12, "twelve", "twelfth", "12th"),
        (13, "thirteen", "thirteenth", "13th"),
        (20, "twenty", "twentieth", "20th"),
        (21, "twenty-one", "twenty-first", "21st"),
        (22, "twenty-two", "twenty-second", "22nd"),
        (30, "thirty", "thirtieth", "30th"),
        (40, "forty", "fortieth", "40th"),
        (99, "ninety-nine", "ninety-ninth", "99th"),
        (100, "one hundred", "one hundredth", "100th"),
        (101, "one hundred and one", "one hundred and first", "101st"),
        (112, "one hundred and twelve", "one hundred and twelfth", "112th"),
        (2005, "two thousand and five", "two thousand and fifth", "2005th"),
        (1999, "one thousand nine hundred and ninety-nine", "one thousand nine hundred and ninety-ninth", "1999th"),
        (200_001, "two hundred thousand and one", "two hundred thousand and first", "200001st"),
    ],
)  # fmt: skip
def test_numbers_as_they_are_written_in_britain(value, cardinal, nth, digits):
    assert (words(value), ordinal_words(value), ordinal(value)) == (cardinal, nth, digits)
