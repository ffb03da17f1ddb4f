"""`statistics.py`, which datatrove judges, is the judge here: every number is the same, to the last bit."""

import os
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primer.corpus.text.characters import PUNCTUATION, TERMINAL
from primer.corpus.text.measure import Reference, measurer
from primer.corpus.text.statistics import COLUMNS, LineRules, measure
from primer.corpus.text.words import SENTENCE_MARKS, split_chunk
from primer.errors import SurroundingsError, UsageError

pytest.importorskip("numba", reason="numba compiles, and is in gpt-primer[corpus]")
from primer.corpus.text.compiled import Measurer
from primer.corpus.text.compiled_c4 import PHRASES
from primer.corpus.text.compiled_table import code_points
from primer.corpus.text.compiled_text import SPACE, kinds_of_characters


def simple(chunk):
    """Words of letters, and every other character by itself."""
    return re.findall(r"\w+|\W", chunk)


def assert_same(found, expected):
    wrong = [
        (name, a, b)
        for name, a, b in zip(COLUMNS, found.values, expected.values, strict=True)
        if not (a == b or (np.isnan(a) and np.isnan(b)))
    ]
    assert wrong == []
    assert found.text == expected.text
    assert (found.all_words, found.words_left) == (expected.all_words, expected.words_left)
    assert found.chunks == expected.chunks


@pytest.fixture(scope="module")
def pages():
    """Texts of crawled pages in many languages, every 20th of an archive, but for the longest."""
    path = Path(os.environ.get("PRIMER_DATA", "")) / "warc" / "debian-docs-a.warc.gz"
    if not path.is_file():
        pytest.skip("PRIMER_DATA has no crawled pages")
    warc = pytest.importorskip("fastwarc.warc", reason="archives are read by fastwarc, in gpt-primer[corpus]")
    extract = pytest.importorskip(
        "resiliparse.extract.html2text", reason="resiliparse is in gpt-primer[corpus]"
    )
    with path.open("rb") as file:
        records = warc.ArchiveIterator(file, record_types=warc.WarcRecordType.response)
        payloads = [record.reader.read() for number, record in enumerate(records) if number % 20 == 7]
    texts = [extract.extract_plain_text(payload.decode("utf-8", "replace")) for payload in payloads]
    return [text for text in texts if len(text) < 20_000]


def test_real_pages_have_the_same_numbers_in_any_order_and_however_much_is_remembered(pages):
    expected = [measure(text, split_chunk) for text in pages]
    large, small = Measurer(split_chunk), Measurer(split_chunk, chunks=50)
    order = [*range(len(pages)), *range(len(pages) - 1, -1, -1)]
    for i in order:
        assert_same(large.measure(pages[i]), expected[i])
    for i in order[::-3]:
        assert_same(small.measure(pages[i]), expected[i])


def test_real_pages_under_the_rule_of_terminal_punctuation(pages):
    rules = LineRules(terminal_punctuation=True, min_words=5, max_word_length=40)
    compiled = Measurer(split_chunk, rules)
    for text in pages[::3]:
        assert_same(compiled.measure(text), measure(text, split_chunk, rules))


PARTS = [
    "the", "be", "to", "of", "and", "that", "have", "with", "a", "cat", "naïve", "2024", "漢字", "x" * 41, "𝒳",
    "-", "--", "---", "•", "#", "##", ".", "..", "...", "....", "…", "!", "?", "。", "॥", '"', "'", "{", "１", "\ud800",
    "\x00", "lorem ipsum", "LOREM IPSUM", "lorem", "ipsum", "JavaScript", "javascrİpt", "java[1]script", "use cookies",
    "uses coo\u212aies", "cookie policy", "Privacy  Policy", "privacy policy", "terms of use", "terms of us",
    "[1]", "[]", "[12", "[edit]", "[Edit]", "[citation needed]", "[citation", "[٣٤]", "[²]", "[[1]]", "[1][2]",
    "cat[3].", "]",
]  # fmt: skip
GAPS = [
    *" " * 5, "", "  ", "\t", "\u00a0", "\u3000", "\n", "\n", "\n\n", "\n\n\n", "\n \n", "\r\n", "\r", "\n\r", "\x0b",
    "\x0c", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\u2028", "\u2029",
]  # fmt: skip
PIECES = st.lists(st.tuples(st.sampled_from(PARTS), st.sampled_from(GAPS)), max_size=12).map(
    lambda pairs: "".join(part + gap for part, gap in pairs)
)
TEXTS = st.builds(
    lambda lead, pieces, order: lead + "".join(pieces[i % len(pieces)] for i in order),
    st.sampled_from(["", "", " ", "\n", "\n\n", "\u2028"]),
    st.lists(PIECES, min_size=1, max_size=3),
    st.lists(st.integers(0, 2), max_size=8),
)
RULES = st.builds(
    LineRules, st.booleans(), st.integers(0, 4), st.sampled_from([2, 10, 40, 1000]), st.booleans()
)
LASTING = {rules: Measurer(simple, rules, chunks=60) for rules in (LineRules(), LineRules(True, 1, 40))}


@given(TEXTS, RULES)
@settings(max_examples=300, deadline=None)
def test_any_text_has_the_same_numbers(text, rules):
    assert_same(Measurer(simple, rules).measure(text), measure(text, simple, rules))


@given(TEXTS, st.sampled_from(list(LASTING)))
@settings(max_examples=300, deadline=None)
def test_what_was_measured_before_changes_nothing(text, rules):
    assert_same(LASTING[rules].measure(text), measure(text, simple, rules))


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_characters_have_the_same_numbers(text):
    assert_same(LASTING[LineRules()].measure(text), measure(text, simple))


@given(st.lists(st.sampled_from(["-", "--", "ab", "a", "b", "ba"]), max_size=60), st.integers(2, 30))
@settings(max_examples=200, deadline=None)
def test_words_are_compared_as_one_where_datatrove_joins_them(words, period):
    text = " ".join(words[i % period] for i in range(len(words)) if words and i % period < len(words))
    assert_same(Measurer(whole).measure(text), measure(text, whole))


def whole(chunk):
    return [chunk]


def test_stretches_of_the_thue_morse_sequence_differ():
    """A polynomial modulo 2**64 is the same for both, whatever its base."""
    one = "".join("ab"[i.bit_count() % 2] for i in range(1 << 12))
    other = one.translate(str.maketrans("ab", "ba"))
    for first in (one, "a"):
        text = f"{first} c d e f g h i j k\n{other} c d e f g h i j k"
        expected = measure(text, whole)
        assert_same(Measurer(whole).measure(text), expected)
        assert expected.columns["duplicated_10_n_grams"] == 0 < expected.columns["duplicated_9_n_grams"]


def test_words_longer_than_all_known_powers():
    long = ["x" * length for length in (1023, 1024, 1025, 5000)]
    text = " ".join([*long, "a", "b", *long, "a", "b", *long])
    assert_same(Measurer(whole).measure(text), measure(text, whole))


def shouted(chunk):
    """Words that are not what stands in the text, and none for some chunks."""
    return [piece.upper() + "!" for piece in simple(chunk) if piece != "a"]


@given(TEXTS)
@settings(max_examples=60, deadline=None)
def test_a_splitter_may_change_what_it_splits(text):
    assert_same(Measurer(shouted).measure(text), measure(text, shouted))


def test_memory_is_bounded_and_each_chunk_is_split_once():
    asked = []

    def split(chunk):
        asked.append(chunk)
        return [chunk]

    compiled = Measurer(split, chunks=1000)
    for page in range(40):
        compiled.measure(" ".join(f"w{page * 50 + i}" for i in range(100)))
    assert (
        len(asked) == len(set(asked)) + 50
    )  # once the table was emptied between two pages that share 50 chunks
    assert compiled._table.chunks <= 1000 + 100
    assert compiled._table.places.nbytes <= 2 * 2 * (1 << 14) * 8


def test_a_measurer_can_be_sent_to_another_process():
    rules = LineRules(terminal_punctuation=True)
    compiled = Measurer(split_chunk, rules)
    text = "The cat sat here. Yes\nThe cat [1] sat there."
    sent = pickle.loads(pickle.dumps(compiled))
    assert_same(sent.measure(text), compiled.measure(text))
    assert sent.measure(text).text == "The cat  sat there."


def test_no_other_character_can_stand_for_a_letter_of_a_phrase():
    """What the kernel knows of capitals: beyond ASCII, only the Kelvin sign has a lower case that matters."""
    code = range(sys.maxunicode + 1)
    odd = {chr(c) for c in code if c > 127 and any(ord(part) < 128 for part in chr(c).lower())}
    assert odd == {"\u212a", "\u0130"}
    assert "\u212a".lower() == "k"
    assert "\u0130".lower() == "i\u0307"
    assert not any(phrase.endswith("i") for phrase in PHRASES)


def test_white_space_is_what_str_takes_for_it():
    kinds = kinds_of_characters()
    spaces = {c for c in range(sys.maxunicode + 1) if chr(c).isspace()}
    assert spaces == set(np.flatnonzero(kinds & SPACE).tolist())


def test_no_letter_is_a_symbol_or_ends_a_sentence():
    assert not [char for char in (*PUNCTUATION, *TERMINAL, *SENTENCE_MARKS) if char.isalpha()]


def test_code_points_are_those_of_the_text():
    text = "aé漢𝒳\ud800\x00"
    assert code_points(text).tolist() == [ord(character) for character in text]


def test_the_implementation_is_chosen_by_name_and_by_what_is_installed(monkeypatch):
    assert isinstance(measurer(split_chunk), Measurer)
    assert isinstance(measurer(split_chunk, implementation="reference"), Reference)
    for name in [name for name in sys.modules if name.startswith("primer.corpus.text.compiled")]:
        monkeypatch.delitem(sys.modules, name)
    import primer.corpus.text

    monkeypatch.delattr(primer.corpus.text, "compiled")
    monkeypatch.setitem(sys.modules, "numba", None)
    fallback = measurer(split_chunk)
    assert isinstance(fallback, Reference)
    assert fallback.measure("A text.").columns["n_words"] == 2
    with pytest.raises(SurroundingsError, match="numba"):
        measurer(split_chunk, implementation="compiled")
    with pytest.raises(UsageError, match="fast"):
        measurer(split_chunk, implementation="fast")
