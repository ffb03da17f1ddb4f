"""English words for numbers."""

from __future__ import annotations

_BELOW_TWENTY = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_IRREGULAR = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}


def words(number: int) -> str:
    """A number from 0 to 999,999 as it is read out in Britain: `words(121) == "one hundred and twenty-one"`."""
    assert 0 <= number < 1_000_000
    if number < 20:
        return _BELOW_TWENTY[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens] + (f"-{words(ones)}" if ones else "")
    size, name = (1000, "thousand") if number >= 1000 else (100, "hundred")
    count, rest = divmod(number, size)
    between = " and " if rest < 100 else " "
    return f"{words(count)} {name}" + (between + words(rest) if rest else "")


def ordinal_words(number: int) -> str:
    """A number's place in a row: `ordinal_words(21) == "twenty-first"`."""
    cardinal = words(number)
    start = max(cardinal.rfind(" "), cardinal.rfind("-")) + 1
    last = cardinal[start:]
    if last in _IRREGULAR:
        return cardinal[:start] + _IRREGULAR[last]
    return cardinal[:-1] + "ieth" if last.endswith("y") else cardinal + "th"


def ordinal(number: int) -> str:
    """The same in digits: `ordinal(21) == "21st"`, `ordinal(112) == "112th"`."""
    teens = number % 100 in (11, 12, 13)
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
