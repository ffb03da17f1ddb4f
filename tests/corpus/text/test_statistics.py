"""datatrove, with spaCy's words, is the judge: the same pages are dropped, and for the same reasons."""

import math
import os
import warnings
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primer.corpus.text import statistics
from primer.corpus.text.rules import RULES, Rule, decide
from primer.corpus.text.spans import spans
from primer.corpus.text.statistics import COLUMNS, LineRules, chunk_words, duplicates, measure
from primer.corpus.text.words import split_chunk

filters = pytest.importorskip(
    "datatrove.pipeline.filters", reason="datatrove, the judge, is in gpt-primer[cluster]"
)
STAGES = ("gopher_repetition", "gopher_quality", "c4", "fineweb")
OFF = {rule.reason: math.inf if rule.above else -math.inf for rule in RULES}
"""Thresholds that drop nothing."""
DEFAULTS = {(rule.stage, rule.reason): rule.threshold for rule in RULES}


def judge(stage, limits, terminal=False):
    """datatrove's filter with these thresholds by reason; what is missing is off."""
    at = {**OFF, **limits}
    if stage == "gopher_repetition":
        names = ("dup_line_frac", "dup_para_frac", "dup_line_char_frac", "dup_para_char_frac")
        return filters.GopherRepetitionFilter(
            **{name: at[name] for name in names},
            top_n_grams=tuple((n, at[f"top_{n}_gram"]) for n in (2, 3, 4)),
            dup_n_grams=tuple((n, at[f"duplicated_{n}_n_grams"]) for n in range(5, 11)),
        )
    if stage == "gopher_quality":
        return filters.GopherQualityFilter(
            min_doc_words=at["gopher_short_doc"],
            max_doc_words=at["gopher_long_doc"],
            min_avg_word_length=at["gopher_below_avg_threshold"],
            max_avg_word_length=at["gopher_above_avg_threshold"],
            max_symbol_word_ratio=at["gopher_too_many_hashes"],
            max_bullet_lines_ratio=at["gopher_too_many_bullets"],
            max_ellipsis_lines_ratio=at["gopher_too_many_end_ellipsis"],
            max_non_alpha_words_ratio=at["gopher_below_alpha_threshold"],
            min_stop_words=at["gopher_enough_stop_words"],
        )
    if stage == "c4":
        return filters.C4QualityFilter(
            filter_no_terminal_punct=terminal,
            min_num_sentences=at["too_few_sentences"],
            filter_lorem_ipsum=at["lorem_ipsum"] == 0,
            filter_curly_bracket=at["curly_bracket"] == 0,
        )
    return filters.FineWebQualityFilter(
        line_punct_thr=at["line_punct_ratio"],
        short_line_thr=at["short_line_ratio"],
        char_duplicates_ratio=at["char_dup_ratio"],
        new_line_ratio=at["list_ratio"],
    )


def judged(text, judges):
    """The reason for which datatrove drops a text, and the text that it leaves."""
    from datatrove.data import Document

    document = Document(text=text, id="page")
    for each in judges:
        verdict = each.filter(document)
        if verdict is not True:
            return verdict[1], None
    return None, document.text


def ours(found, limits):
    """Our reason with these thresholds; those that datatrove cannot turn off stay."""
    at = {**OFF, "empty": 1, **limits}
    if "gopher_too_many_hashes" in limits:
        at["gopher_too_many_ellipsis"] = limits["gopher_too_many_hashes"]
    rule = decide(found.columns, [Rule(r.stage, r.column, r.above, at[r.reason], r.reason) for r in RULES])
    return rule.reason if rule else None


@pytest.fixture(scope="module")
def pages():
    """Texts of crawled pages, every 25th of an archive, but for the longer ones."""
    path = Path(os.environ.get("PRIMER_DATA", "")) / "warc" / "debian-docs-a.warc.gz"
    if not path.is_file():
        pytest.skip("PRIMER_DATA has no crawled pages")
    warc = pytest.importorskip("fastwarc.warc", reason="archives are read by fastwarc, in gpt-primer[corpus]")
    extract = pytest.importorskip(
        "resiliparse.extract.html2text", reason="resiliparse is in gpt-primer[corpus]"
    )
    with path.open("rb") as file:
        records = warc.ArchiveIterator(file, record_types=warc.WarcRecordType.response)
        payloads = [record.reader.read() for number, record in enumerate(records) if number % 25 == 0]
    texts = [
        extract.extract_plain_text(payload.decode("utf-8", "replace"), main_content=True)
        for payload in payloads
    ]
    return [text for text in texts if len(text) < 6_000]


@pytest.mark.parametrize("terminal", [False, True])
def test_real_pages_are_dropped_for_datatroves_reasons(pages, terminal):
    judges = [judge(stage, _defaults(stage), terminal) for stage in STAGES]
    reasons = set()
    for text in pages[terminal :: 1 + terminal]:
        found = measure(text, split_chunk, LineRules(terminal_punctuation=terminal))
        reason, left = judged(text, judges)
        rule = decide(found.columns)
        assert (rule.reason if rule else None) == reason
        assert reason is not None or left == found.text
        reasons.add(reason)
    assert len(reasons) > 5


def _defaults(stage):
    return {reason: threshold for (at, reason), threshold in DEFAULTS.items() if at == stage}


def test_each_rule_turns_at_the_number_that_datatrove_compares(pages):
    """A threshold at the page's own value spares it, the next one drops it: the values are equal to the last bit."""
    fired = Counter()
    for text in pages[::4]:
        found = measure(text, split_chunk)
        # C4 last: its many lines make datatrove forget the words of the page
        for rule in sorted(RULES, key=lambda rule: rule.stage == "c4"):
            value = found.columns[rule.column]
            beyond = math.nextafter(value, -math.inf if rule.above else math.inf)
            yes_or_no = rule.stage == "c4" and rule.above
            for threshold in (0,) if yes_or_no else (value, beyond):
                if rule.reason == "empty" or (threshold <= 0 and not yes_or_no):
                    continue  # datatrove takes 0 for off
                name = "gopher_too_many_hashes" if rule.column == "ellipsis_ratio" else rule.reason
                filtered = judge(rule.stage, {name: threshold})
                reason, _ = judged(found.text if rule.stage == "fineweb" else text, [filtered])
                assert reason == ours(found, {name: threshold})
                fired[reason] += 1
    assert len(fired) > 24


WORDS = [
    *statistics.STOP_WORDS, "a", "cat", "sat", "2024", "naïve", "I'm", "e-mail", "10,000", "漢字",
    "JavaScript", "cooKie",
]  # fmt: skip
PARTS = [
    *WORDS, *WORDS, "...", "…", "....", "#", "##", "•", "-", "--", "{", "}", ".", "!", "?", "。",
    '"', "İ", "\u0301", "１", "Lorem ipsum", "privacy policy", "terms of use", "[1]", "[edit]", "[citation needed]",
    "[٣]", "[x]", "word[2].", "_", "x" * 1001,
]  # fmt: skip
ENDS = [".", "...", "…", "?", '"', "", "", " ", ". [3]"]
BREAKS = [
    "\n", "\n", "\n\n", "\n \n", "\n\n\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", " ", "\t",
    "  ", "\u00a0",
]  # fmt: skip
LINES = st.builds(
    lambda parts, gap, end: gap.join(parts) + end,
    st.lists(st.sampled_from(PARTS), max_size=9),
    st.sampled_from([" ", " ", " ", "", "  ", "\t"]),
    st.sampled_from(ENDS),
)
TEXTS = st.builds(
    lambda lines, order, breaks: "".join(
        (lines[i % len(lines)] if lines else "") + mark for i, mark in zip(order, breaks, strict=False)
    ),
    st.lists(LINES, max_size=5),
    st.lists(st.integers(0, 4), min_size=10, max_size=10),
    st.lists(st.sampled_from(BREAKS), max_size=10),
)
SHARES = [
    rule.reason for rule in RULES if rule.stage in ("gopher_repetition", "fineweb") and rule.reason != "empty"
]
THRESHOLDS = st.fixed_dictionaries({}, optional={
    **{reason: st.sampled_from([0.05, 0.2, 0.5, 0.9]) for reason in SHARES},
    "gopher_short_doc": st.integers(1, 9), "gopher_long_doc": st.integers(5, 30),
    "gopher_below_avg_threshold": st.sampled_from([1.5, 3, 4]), "gopher_above_avg_threshold": st.sampled_from([4, 6]),
    "gopher_too_many_hashes": st.sampled_from([0.05, 0.2]), "gopher_too_many_bullets": st.sampled_from([0.2, 0.6]),
    "gopher_too_many_end_ellipsis": st.sampled_from([0.2, 0.6]), "gopher_enough_stop_words": st.integers(1, 3),
    "gopher_below_alpha_threshold": st.sampled_from([0.3, 0.8]), "lorem_ipsum": st.just(0), "curly_bracket": st.just(0),
    "too_few_sentences": st.integers(1, 6),
})  # fmt: skip


@given(TEXTS, THRESHOLDS, st.booleans())
@settings(max_examples=250, deadline=None)
def test_any_text_is_dropped_for_datatroves_reason_whatever_the_thresholds(text, limits, terminal):
    if not text.strip():
        limits = {"gopher_short_doc": 1, **limits}  # else datatrove divides by the words that are not there
    found = measure(text, split_chunk, LineRules(terminal_punctuation=terminal))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice|invalid value", RuntimeWarning)
        reason, left = judged(text, [judge(stage, limits, terminal) for stage in STAGES])
    assert ours(found, limits) == reason
    assert left in (None, found.text)


@given(TEXTS, st.booleans())
@settings(max_examples=80, deadline=None)
def test_lines_are_counted_as_datatrove_counts_them(text, terminal):
    c4 = judge("c4", {}, terminal)
    judged(text, [c4])
    theirs = {name: stat.total for name, stat in c4.stats.stats.items()}
    page = statistics.c4(text, split_chunk, LineRules(terminal_punctuation=terminal))
    names = [name for name in COLUMNS if name.startswith("lines_")]
    for name in names:
        said = name.replace("lines_", "line-" if name in ("lines_total", "lines_kept") else "line-filter-")
        assert getattr(page.lines, name) == theirs.get(said, 0)
    assert page.lines.lines_total == sum(getattr(page.lines, name) for name in names[1:])


@pytest.mark.parametrize(
    "line",
    ["", "  ", "One. ", "One.  ", "One.\t", "One. Two", "One. ! Two", "One.\t! Two", "One.  ! Two", "One.\u00a0? Two",
     "One.) Two.", "One... two", "  One. Two!? Three", ". One", "One。 Two"],
)  # fmt: skip
def test_sentences_are_counted_as_datatrove_counts_them(line):
    from datatrove.utils.text import split_into_sentences

    assert statistics.count_sentences(line, split_chunk) == len(split_into_sentences(line))


@pytest.mark.parametrize(
    ("text", "reason", "without_brackets"),
    [
        ("This is lorem ipsum text.\nHere is { a brace.", "lorem_ipsum", "lorem_ipsum"),
        ("Here is { a brace.\nThis is lorem ipsum text.", "curly_bracket", "lorem_ipsum"),
        ("Here is { LOREM Ipsum text.", "lorem_ipsum", "lorem_ipsum"),
        ("A javascript line { here.\nToo short{\n" + "One two three. " * 5, None, None),
        ("No javascript or lorem ipsum here.\n" + "One two three. " * 5, "lorem_ipsum", "lorem_ipsum"),
    ],
)
def test_what_condemns_a_page_first_is_named(text, reason, without_brackets):
    found = measure(text, split_chunk)
    both = {"lorem_ipsum": 0, "curly_bracket": 0}
    assert ours(found, both) == reason == judged(text, [judge("c4", both)])[0]
    one = {"lorem_ipsum": 0}
    assert ours(found, one) == without_brackets == judged(text, [judge("c4", one)])[0]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of datatrove, for the mean of nothing
@pytest.mark.parametrize("text", ["", " ", "\n", "\n\n \n", "\u2028", "\t\r\n"])
def test_a_text_without_words_is_dropped_and_where_datatrove_would_divide_by_nothing_there_is_nan(text):
    found = measure(text, split_chunk)
    reason = decide(found.columns).reason
    assert reason == judged(text, [judge(stage, _defaults(stage)) for stage in STAGES])[0]
    assert reason == ("gopher_short_doc" if text and not _repeats(text) else reason)
    for column in (
        "hash_ratio",
        "ellipsis_ratio",
        "alpha_words",
        "mean_word_length",
        "line_punct_ratio",
        "list_ratio",
    ):
        assert math.isnan(found.columns[column])
    if text:
        filtered = judge("gopher_quality", {"gopher_short_doc": None})
        with pytest.raises(ZeroDivisionError):
            judged(text, [filtered])


def _repeats(text):
    return duplicates(statistics.lines(text))[0] > 0


def test_the_thresholds_are_datatroves_defaults():
    made = [each() for each in (filters.GopherRepetitionFilter, filters.GopherQualityFilter)]
    c4, fineweb = filters.C4QualityFilter(), filters.FineWebQualityFilter()
    rep, qual = made
    names = ("dup_para_frac", "dup_para_char_frac", "dup_line_frac", "dup_line_char_frac")
    assert _defaults("gopher_repetition") == {
        "empty": 1,
        **{name: getattr(rep, name) for name in names},
        **{f"top_{n}_gram": threshold for n, threshold in rep.top_n_grams},
        **{f"duplicated_{n}_n_grams": threshold for n, threshold in rep.dup_n_grams},
    }
    assert list(_defaults("gopher_quality").values()) == [
        qual.min_doc_words, qual.max_doc_words, qual.min_avg_word_length, qual.max_avg_word_length,
        qual.max_symbol_word_ratio, qual.max_symbol_word_ratio, qual.max_bullet_lines_ratio,
        qual.max_ellipsis_lines_ratio, qual.max_non_alpha_words_ratio, qual.min_stop_words,
    ]  # fmt: skip
    assert _defaults("c4")["too_few_sentences"] == c4.min_num_sentences
    lines = LineRules()
    assert (lines.min_words, lines.max_word_length) == (c4.min_words_per_line, c4.max_word_length)
    assert list(_defaults("fineweb").values()) == [
        1, fineweb.line_punct_thr, fineweb.short_line_threshold, fineweb.char_duplicates_ratio, fineweb.new_line_ratio,
    ]  # fmt: skip
    assert fineweb.short_line_length == statistics.SHORT_LINE


@given(TEXTS)
@settings(max_examples=80, deadline=None)
def test_the_places_of_an_offence_add_up_to_its_number(text):
    found = measure(text, split_chunk)
    values = found.columns

    def characters(reason, of=text):
        return [of[a:b] for a, b in spans(of, chunk_words(of, split_chunk), reason)]

    def share(parts, whole):
        return len("".join(parts)) / whole if whole else math.nan

    def same(a, b):
        return a == b or (math.isnan(a) and math.isnan(b))

    size, words = len(text), chunk_words(text, split_chunk)
    assert same(share(characters("dup_line_frac"), size), values["dup_line_char_frac"])
    assert same(share(characters("dup_para_frac"), size), values["dup_para_char_frac"])
    assert same(
        share(characters("char_dup_ratio", found.text), len(found.text.replace("\n", ""))),
        values["char_dup_ratio"],
    )
    for n in range(5, 11):
        parts = characters(f"duplicated_{n}_n_grams")
        assert same(share("".join("".join(parts).split()), size), values[f"duplicated_{n}_n_grams"])
    tops = [" ".join(chunk_words(part, split_chunk)) for part in characters("top_2_gram")]
    assert len(words) < 2 or same(share(tops, size), values["top_2_gram"])
    lines = text.splitlines()
    for reason, column in [
        ("gopher_too_many_bullets", "bullet_lines"),
        ("gopher_too_many_end_ellipsis", "ellipsis_lines"),
    ]:
        assert not lines or len(characters(reason)) / len(lines) == values[column]
    ellipses, hashes = characters("gopher_too_many_ellipsis"), characters("gopher_too_many_hashes")
    assert not words or len(ellipses) / len(words) == values["ellipsis_ratio"]
    assert not words or len(hashes) / len(words) == values["hash_ratio"]
    assert not words or 1 - len(characters("gopher_below_alpha_threshold")) / len(words) == pytest.approx(
        values["alpha_words"]
    )
    short, endless = (characters(reason, found.text) for reason in ("short_line_ratio", "line_punct_ratio"))
    assert len(short) == round(values["short_line_ratio"] * values["nonblank_lines"] if found.text else 0)
    kept = values["nonblank_lines"] - len(endless)
    assert kept == round(values["line_punct_ratio"] * values["nonblank_lines"] if found.text else 0)
    assert len(characters("list_ratio", found.text)) == found.text.count("\n")


def test_the_lines_that_c4_drops_and_what_condemns_a_page_are_shown():
    text = "Two words\r\nThese are three words\n\nSee the privacy policy here\n{ Lorem Ipsum {"
    show = {
        reason: [text[a:b] for a, b in spans(text, (), reason)]
        for reason in ("too_few_sentences", "lorem_ipsum", "curly_bracket")
    }
    assert show == {
        "too_few_sentences": ["Two words", "See the privacy policy here"],
        "lorem_ipsum": ["Lorem Ipsum"],
        "curly_bracket": ["{", "{"],
    }
    assert spans(text, (), "gopher_short_doc") == []


def test_every_rule_has_its_column():
    assert {rule.column for rule in RULES} <= set(COLUMNS)
    assert len(set(COLUMNS)) == len(COLUMNS) == len(measure("A text.", split_chunk).values)
