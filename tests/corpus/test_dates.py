"""Every text is read back by a parser that is written here, by its own tables; those in figures by dateutil too."""

import datetime
import hashlib
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer.corpus.dates import PAIRS, STYLES, YEARS, dates, split_of, spoken, written

SPLITS = ("train", "validation", "test")
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
NUMBERS = [
    "oh", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
    "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
]  # fmt: skip
NTHS = [
    "-", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth",
    "twentieth", "thirtieth",
]  # fmt: skip


def number(word: str, names: list[str]) -> int | None:
    """What a word means: 0 … 20, then in tens; `twenty-seven` is two of them."""
    first, _, last = word.partition("-")
    if last:
        tens, ones = number(first, NUMBERS), number(last, names)
        return None if tens is None or ones is None else tens + ones
    if word not in names:
        return None
    place = names.index(word)
    return place if place <= 20 else (place - 18) * 10


def year_of(said: list[str]) -> int:
    """nineteen ninety-nine, nineteen oh five, nineteen hundred and five, two thousand (and) five."""
    for unit, size in (("thousand", 1000), ("hundred", 100)):
        if unit in said:
            before, after = said[: said.index(unit)], said[said.index(unit) + 1 :]
            return sum(number(w, NUMBERS) for w in before) * size + sum(number(w, NUMBERS) for w in after)
    century, *rest = (number(word, NUMBERS) for word in said)
    return century * 100 + sum(rest)


def parsed(text: str) -> datetime.date:
    """The date that a text says; a weekday in it must be right."""
    if figures := re.fullmatch(r"(\d\d?)([./])(\d\d?)[./](\d{4})", text):
        first, mark, second, year = figures.groups()
        day, month = (first, second) if mark == "." else (second, first)
        return datetime.date(int(year), int(month), int(day))
    day = month = year = weekday = None
    said = []
    for word in re.findall(r"[a-z-]+|\d+(?:st|nd|rd|th)?", text.lower()):
        if word in ("the", "of", "day", "in", "year", "and"):
            continue
        if re.fullmatch(r"\d{4}", word):
            year = int(word)
        elif word[0].isdigit():
            day = int(re.match(r"\d+", word)[0])
        elif word[:3] in MONTHS:
            month = MONTHS.index(word[:3]) + 1
        elif (nth := number(word, NTHS)) is not None:
            day = nth
        elif word in ("hundred", "thousand") or number(word, NUMBERS) is not None:
            said.append(word)
        else:
            assert word[:3] in DAYS, word
            weekday = DAYS.index(word[:3])
    assert bool(said) != bool(year), text
    date = datetime.date(year or year_of(said), month, day)
    assert weekday in (None, date.weekday()), text
    return date


@pytest.fixture(scope="module")
def made():
    return {split: list(dates(split)) for split in SPLITS}


@pytest.mark.parametrize("split", SPLITS)
def test_every_text_says_its_date_to_another_parser(made, split):
    for pair in made[split]:
        assert parsed(pair.source).isoformat() == pair.target, pair
        assert pair.source.isascii()
        assert len(pair.source) <= 71


def test_what_is_in_figures_says_the_same_to_dateutil(made):
    dateutil = pytest.importorskip("dateutil.parser", reason="dateutil is not installed")
    checked = 0
    for pair in made["test"]:
        if re.search(r"\d{4}$", pair.source) and not re.search("[Tt]he [a-z]", pair.source):
            read = dateutil.parse(pair.source, dayfirst="." in pair.source, fuzzy=True)
            assert read.date().isoformat() == pair.target, pair
            checked += 1
    assert checked > 400


@given(st.dates(datetime.date(1000, 1, 1), datetime.date(2999, 12, 31)), st.sampled_from(STYLES), st.data())
def test_every_date_can_be_written_in_every_style(date, style, data):
    year = data.draw(st.sampled_from(spoken(date.year)))
    assert parsed(written(date, style, year)) == date


def test_every_style_says_all_of_the_date():
    """None leaves out the day, the month or the year: what differs between two dates differs between their texts."""
    day = datetime.date(1999, 3, 3)
    others = [day.replace(day=4), day.replace(month=4), day.replace(year=1998), day.replace(year=1899)]
    for style in STYLES:
        texts = {written(each, style, spoken(each.year)[0]) for each in [day, *others]}
        assert len(texts) == 5, style


def test_one_text_has_one_reading_and_comes_once(made):
    for pairs in made.values():
        assert len({pair.source for pair in pairs}) == len(pairs)
    readings: dict[str, set[str]] = {}
    for pair in (pair for pairs in made.values() for pair in pairs):
        readings.setdefault(pair.source.lower().replace(",", ""), set()).add(pair.target)
    assert {len(targets) for targets in readings.values()} == {1}


@pytest.mark.parametrize(
    "text",
    [
        "the third of March, nineteen ninety-nine",
        "March 3rd, 1999",
        "3 March 1999",
        "Wednesday, March 3, 1999",
        "03.03.1999",
        "3/3/1999",
        "1999, March the third",
        "the 3rd day of March in the year 1999",
        "Wed, 3 Mar 1999",
    ],
)
def test_the_third_of_march_is_written_in_these_ways(text):
    assert text in {written(datetime.date(1999, 3, 3), style, spoken(1999)[0]) for style in STYLES}


@pytest.mark.parametrize(
    ("year", "ways"),
    [
        (1000, ("one thousand",)),
        (1005, ("ten oh five", "one thousand and five", "one thousand five")),
        (1066, ("ten sixty-six", "one thousand and sixty-six", "one thousand sixty-six")),
        (1100, ("eleven hundred",)),
        (1706, ("seventeen oh six", "seventeen hundred and six")),
        (1900, ("nineteen hundred",)),
        (1999, ("nineteen ninety-nine", "nineteen hundred and ninety-nine")),
        (2000, ("two thousand",)),
        (2005, ("twenty oh five", "two thousand and five", "two thousand five")),
        (2024, ("twenty twenty-four", "two thousand and twenty-four", "two thousand twenty-four")),
        (2999, ("twenty-nine ninety-nine", "twenty-nine hundred and ninety-nine")),
    ],
)
def test_years_are_read_out_in_their_usual_ways(year, ways):
    assert spoken(year) == ways


def test_no_two_years_sound_alike():
    ways = [way for year in YEARS for way in spoken(year)]
    assert len(set(ways)) == len(ways)
    assert all(
        year_of([w for w in way.split() if w != "and"]) == year for year in YEARS for way in spoken(year)
    )


def test_dots_put_the_day_first_and_slashes_the_month():
    texts = {written(datetime.date(1999, 4, 3), style, "") for style in STYLES}
    assert {"03.04.1999", "3.4.1999", "04/03/1999", "4/3/1999"} <= texts
    assert not {"04.03.1999", "4.3.1999", "03/04/1999", "3/4/1999"} & texts


def test_the_years_of_one_split_are_in_no_other(made):
    years = {split: {int(pair.target[:4]) for pair in pairs} for split, pairs in made.items()}
    assert not years["train"] & years["test"]
    assert not years["train"] & years["validation"]
    assert not years["validation"] & years["test"]
    assert Counter(split_of(year) for year in YEARS) == {"train": 1602, "validation": 200, "test": 198}
    assert len(years["train"]) == 1602
    assert {1000, 2000} <= years["train"]  # which have no halves
    assert split_of(1999) == "train"


@pytest.mark.parametrize("split", ["validation", "test"])
def test_every_part_of_what_is_asked_was_taught(made, split):
    """Figures at their places, halves of years, words and shapes: it is only together that they are new."""
    taught, asked = made["train"], made[split]
    for place in range(10):
        assert {pair.target[place] for pair in asked} <= {pair.target[place] for pair in taught}
    for half in (slice(0, 2), slice(2, 4)):
        assert {pair.target[half] for pair in asked} <= {pair.target[half] for pair in taught}
    known = {word for pair in taught for word in re.findall(r"[A-Za-z]+|\d\d?", pair.source)}
    assert {word for pair in asked for word in re.findall(r"[A-Za-z]+|\d\d?", pair.source)} <= known
    forms = {re.sub(r"\w+", "w", pair.source) for pair in taught}
    assert {re.sub(r"\w+", "w", pair.source) for pair in asked} <= forms


def test_all_styles_capitals_and_commas_occur(made):
    texts = [pair.source for pair in made["train"]]
    for style in STYLES:
        as_written = re.sub(r"\\{\w+\\}", r"[\\w -]+", re.escape(style).replace(r"\ ", " "))
        assert sum(bool(re.fullmatch(as_written, text)) for text in texts) > 400, style
    for ways in ("The ", "the ", "march", "March", "Wed,", "wed,", "nineteen", "Nineteen"):
        assert sum(ways in text for text in texts) > 20, ways
    assert 0.1 < sum("," not in text and " " in text for text in texts) / len(texts) < 0.7


def test_they_are_the_same_in_every_python():
    """The hash was computed once. A change of the pairs needs a new VERSION, which the fingerprint holds."""
    assert PAIRS == {"train": 40_000, "validation": 1_000, "test": 1_000}
    digest = hashlib.sha256()
    for split in SPLITS:
        for pair in dates(split):
            digest.update(f"{pair.source}\t{pair.target}\n".encode())
    assert digest.hexdigest() == "a7798ed19704b0e7b7823d3e97471b2f75bd041da6450ce7f6dc585d1b91e19a"
