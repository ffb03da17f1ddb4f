"""What the report's page writes: harmless text, readable numbers, and thresholds in words."""

from primer.corpus.refine.page_copies import differing
from primer.corpus.refine.page_text import clean, count, marked, number, plain, share, size
from primer.corpus.refine.page_words import PHRASES, condition
from primer.corpus.text.rules import RULES

UNSEEN = "a\x00b\x1b[31mc\x7fd\x85e\u202ef\u2066g\u200bh\ud800i\udfffj\ufffek\rl"


def test_what_acts_unseen_is_shown() -> None:
    shown = clean(UNSEEN)
    assert shown == "a␀b␛[31mc␡d[U+0085]e[U+202E]f[U+2066]g[U+200B]h\ufffdi\ufffdj\ufffdk␍l"
    assert clean("می\u200cخواهم") == "می\u200cخواهم"  # a joiner that Persian is written with


def test_numbers_are_written_for_people() -> None:
    assert [plain(count(each)) for each in (None, 0, 9_999_999, 10_000_000, 999_950_000, 15 * 10**12, 3e15)] == [
        "–", "0", "9,999,999", "10 million", "1 billion", "15 trillion", "3,000 trillion",
    ]  # fmt: skip
    assert [plain(size(each)) for each in (0, 999, 1000, 64_461_571, 10**15)] == [
        "0 B",
        "999 B",
        "1 kB",
        "64.5 MB",
        "1 PB",
    ]
    shares = [(0, 9), (1, 1), (1, 3), (99_999, 100_000), (1, 10**9), (5, 0), (643, 1497), (1, 40_000)]
    assert [plain(share(part, whole)) for part, whole in shares] == [
        "0 %", "100 %", "33.3 %", "over 99.9 %", "under 0.001 %", "–", "43 %", "0.0025 %",
    ]  # fmt: skip
    values = (0.01, 0.314159, 100_000.0, 50, float("nan"), float("inf"), 1234.56)
    assert [number(each) for each in values] == [
        "0.01",
        "0.314",
        "100,000",
        "50",
        "not a number",
        "∞",
        "1,234.6",
    ]


def test_spans_may_overlap_or_reach_beyond_the_text() -> None:
    assert (
        marked("abcdef", [[4, 99], [1, 3], [2, 3], [-5, 1], [3, 3], [9, 12]])
        == "<mark>abc</mark>d<mark>ef</mark>"
    )
    assert marked("<>", [[0, 1]]) == "<mark>&lt;</mark>&gt;"
    assert marked("a", []) == "a"


def test_every_rule_has_words() -> None:
    """A rule that is new to the recipe must get its sentence here."""
    assert {rule.column for rule in RULES} <= set(PHRASES)
    assert (
        plain(condition({"column": "n_words", "threshold": 50.0, "above": False}))
        == "it has fewer than 50 words"
    )
    assert plain(condition({"column": "alpha_words", "threshold": 0.8, "above": False})) == (
        "less than 80 % of its words have a letter in them"
    )
    assert condition({"column": "new<", "threshold": 2, "above": True}) == "<code>new&lt;</code> is above 2"


def test_words_that_differ_are_found() -> None:
    kept, other = "The cat sat on the mat.", "The cat lay down on  the mat. Indeed."
    assert [other[start:end] for start, end in differing(kept, other)] == ["lay down", "Indeed."]
    assert differing(kept, kept) == []
    assert differing("a " * 5000, "a " * 5000) == []
