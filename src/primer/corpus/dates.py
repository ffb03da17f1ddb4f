"""Dates as people write them → ISO 8601: a task for an encoder and a decoder that needs no file.

    the third of March, nineteen ninety-nine → 1999-03-03            3 March 1999 → 1999-03-03

One text has one reading: 03.04.1999 is in April, as in most of Europe, and 3/4/1999 in March, as in the United States;
a year has four digits. Days are those of the Gregorian calendar, carried back to the year 1000.

A year is held out by the sum of its halves, 19 + 99: so every word for either half occurs in training, and the test
asks for combinations that never did. (Whole thousands are training's, since "two thousand" has no halves.) Validation
has years of its own too, since a model is chosen by it.
"""

from __future__ import annotations

import calendar
import datetime
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from primer.assets import sha256_of_lines
from primer.corpus.numerals import ordinal, ordinal_words, words
from primer.corpus.pair import Pair, Rejected

LICENCE = "none needed (made here)"
ADDRESS = "primer.corpus.dates"
VERSION = 2
"""Raised whenever other pairs are made."""

YEARS = range(1000, 3000)
PAIRS = {"train": 40_000, "validation": 1_000, "test": 1_000}
"""How many of each are made; no two in a split have the same source."""

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

STYLES = (
    "the {nth} of {month}, {spoken}",
    "{month} the {nth}, {spoken}",
    "{month} {day_th}, {spoken}",
    "{weekday}, {month} {day}, {spoken}",
    "the {day_th} of {month}, {spoken}",
    "{day} {month}, {spoken}",
    "{spoken}, {month} the {nth}",
    "the {nth} of {month}, {year}",
    "the {nth} day of {month} in the year {year}",
    "the {day_th} day of {month} in the year {year}",
    "the {day_th} of {month} {year}",
    "{year}, {month} the {nth}",
    "{month} {day_th}, {year}",
    "{month} {day}, {year}",
    "{day} {month} {year}",
    "{weekday}, {month} {day}, {year}",
    "{weekday}, {day} {month} {year}",
    "{mon} {day}, {year}",
    "{day} {mon} {year}",
    "{wed}, {day} {mon} {year}",
    "{dd}.{mm}.{year}",
    "{day}.{m}.{year}",
    "{mm}/{dd}/{year}",
    "{m}/{day}/{year}",
)
"""What a date may look like. Of 3 March 1999: day is 3, dd 03, day_th 3rd, nth third; m 3, mm 03, mon Mar; wed Wed."""

Item = TypeVar("Item")


def dates(split: str) -> Iterator[Pair]:
    """`PAIRS[split]` pairs, the same ones every time. Sources have at most 71 characters, targets ten."""
    chance = random.Random(f"dates {VERSION} {split}")
    years = [year for year in YEARS if split_of(year) == split]
    seen: set[str] = set()
    while len(seen) < PAIRS[split]:
        year = _pick(years, chance)
        first = datetime.date(year, 1, 1)
        date = first + datetime.timedelta(_pick(range(365 + calendar.isleap(year)), chance))
        text = _varied(written(date, _pick(STYLES, chance), _pick(spoken(year), chance)), chance)
        if text not in seen:
            seen.add(text)
            yield Pair(text, date.isoformat(), f"dates {split}:{len(seen)}")


def split_of(year: int) -> str:
    """Where a year belongs, by the last digit of the sum of its halves: a tenth for the test, one for validation."""
    if year % 1000 == 0:
        return "train"
    return {0: "test", 5: "validation"}.get(sum(divmod(year, 100)) % 10, "train")


def written(date: datetime.date, style: str, year_in_words: str) -> str:
    """A date in one of `STYLES`."""
    month, weekday = MONTHS[date.month - 1], WEEKDAYS[date.weekday()]
    return style.format(
        day=date.day,
        dd=f"{date.day:02}",
        day_th=ordinal(date.day),
        nth=ordinal_words(date.day),
        m=date.month,
        mm=f"{date.month:02}",
        month=month,
        mon=month[:3],
        weekday=weekday,
        wed=weekday[:3],
        year=date.year,
        spoken=year_in_words,
    )


def spoken(year: int) -> tuple[str, ...]:
    """The ways in which a year is read out: nineteen ninety-nine, seventeen hundred and six, two thousand five …"""
    century, rest = divmod(year, 100)
    whole_thousand = century % 10 == 0  # nobody says twenty hundred
    start = f"{words(century // 10)} thousand" if whole_thousand else f"{words(century)} hundred"
    if rest == 0:
        return (start,)
    halves = f"{words(century)} {'oh ' if rest < 10 else ''}{words(rest)}"
    with_and = f"{start} and {words(rest)}"
    return (halves, with_and, f"{start} {words(rest)}") if whole_thousand else (halves, with_and)


def _varied(text: str, chance: random.Random) -> str:
    """Commas come and go, and so do capital letters."""
    text = _pick((text, text, text.replace(",", "")), chance)
    return _pick((text, text, text[0].upper() + text[1:], text.lower()), chance)


def _pick(options: Sequence[Item], chance: random.Random) -> Item:
    """One of several. (Of all that draws numbers, `random()` alone is promised to stay the same in later Pythons.)"""
    return options[int(chance.random() * len(options))]


@dataclass(frozen=True)
class Made:
    """The pairs of one split, made when they are asked for."""

    split: str

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the name and version of what makes them."""
        return sha256_of_lines(["dates", str(VERSION), self.split, str(PAIRS[self.split])])

    address = ADDRESS

    def pairs(self, rejected: Rejected) -> Iterator[Pair]:
        """None is ever rejected."""
        return dates(self.split)


ORIGINS = {split: Made(split) for split in PAIRS}
