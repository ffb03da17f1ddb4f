import json
import pickle
import random
import string

import numpy as np
import pytest
from datatrove.utils.text import simplify_text
from hypothesis import example, given, settings
from hypothesis import strategies as st

from primer.corpus.text.compiled_contamination import Reader
from primer.corpus.text.contamination import HEAD, MARK, Find, Index, mask
from primer.corpus.text.contamination_grams import BASE, gram_hashes
from primer.corpus.text.contamination_items import passage, read_items
from primer.corpus.text.contamination_words import words
from primer.errors import DataError, UsageError

LONG = "A guardian angel was carved of ivory, and nobody in the old house had ever asked by whom it was"
SHORT = "Why do wolves howl at the full moon?"
TINY = "Because they do."
OUTSIDE = string.punctuation
SPACES = [" ", "\n", "  \t", "\u00a0", " \r\n\r\n", "\u2003"]
MARKS = ["", "", ",", ";", "”", " “", "’", "…", " —", "!?", " •", "‘", "\u200b", " €"]
READER = Reader()


@pytest.fixture
def index(tmp_path):
    file = tmp_path / "quiz.txt"
    file.write_text(f"{LONG}\n\n{SHORT}\n\n{TINY}\n")
    return Index.build([file])


def disguised(text, chance):
    """The same words with other capitals, other white space, and other marks between them."""
    chunks = text.split()
    cases = chance.choices([str.upper, str.lower, str.title, str.swapcase], k=len(chunks))
    marks, spaces = chance.choices(MARKS, k=len(chunks)), chance.choices(SPACES, k=len(chunks))
    apostrophe = chance.choice("’'‘")
    pieces = [
        case(chunk.strip(OUTSIDE)).replace("'", apostrophe) + mark + space
        for chunk, case, mark, space in zip(chunks, cases, marks, spaces, strict=True)
    ]
    pieces[-1] = chunks[-1].strip(OUTSIDE)
    return "".join(pieces)


def prose(chance, count):
    return " ".join("".join(chance.choices("bcdfgklmnprst", k=5)) for _ in range(count))


def right_text(record):
    if "query" in record:
        return f"{record['query'].removeprefix('Question:').strip()} {record['choices'][record['gold']]}"
    if "context_options" in record:
        return f"{record['context_options'][record['gold']]} {record['continuation']}"
    return f"{record['context']} {record['continuation']}"


@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_every_item_of_real_evaluations_is_found_in_disguise(real_data, step):
    """The long suite plants all of them, the quick one each sixth."""
    files = sorted((real_data / "eval").glob("*.jsonl"))
    if not files:
        pytest.skip("PRIMER_DATA has no evaluations")
    index, chance, found = Index.build(files), random.Random(5), 0
    for file in files:
        lines = list(enumerate(file.read_text().splitlines(), 1))[::step]
        for at in range(0, len(lines), 50):
            page, planted = prose(chance, 20), set()
            for number, line in lines[at : at + 50]:
                hidden = disguised(right_text(json.loads(line)), chance)
                said = words(hidden)
                if len(said) >= index.n:
                    start, end = said[0].start, said[-1].end
                    planted.add(Find(f"{file.name}:{number}", len(page) + 2 + start, len(page) + 2 + end))
                page += f". {hidden}\n{prose(chance, 15)}"
            assert planted <= set(index.find(page))
            found += len(planted)
    assert found > 11_000 // step


def test_crawled_pages_have_none_of_them(real_data):
    files = sorted((real_data / "eval").glob("*.jsonl"))
    crawl = real_data / "warc" / "debian-docs-a.warc.gz"
    if not files or not crawl.is_file():
        pytest.skip("PRIMER_DATA has no evaluations, or no crawled pages")
    from fastwarc.warc import ArchiveIterator, WarcRecordType
    from resiliparse.extract.html2text import extract_plain_text

    index = Index.build(files[:1])
    with crawl.open("rb") as stream:
        for number, record in enumerate(ArchiveIterator(stream, record_types=WarcRecordType.response)):
            if number % 30 == 0:
                text = extract_plain_text(record.reader.read().decode("utf-8", "replace"))
                assert index.find(text) == []
                assert len(READER.read(text)) == len(words(text))


def test_places_are_those_of_the_original(index):
    before, after = "“Naïve — Ça…” 1.234,5\n", "! And so on: x² İ."
    chance = random.Random(1)
    for _ in range(50):
        planted = disguised(LONG, chance)
        text = before + planted + after
        assert index.find(text) == [Find("quiz.txt:1", len(before), len(before) + len(planted))]


def test_thirteen_words_are_found_and_twelve_are_not(index):
    said = LONG.split()
    assert [find.item for find in index.find(" ".join(said[2:15]))] == ["quiz.txt:1"]
    assert index.find(" ".join(said[2:14])) == []
    assert index.find(" ".join([*said[2:14], "other"])) == []
    assert index.find(" ".join([*said[2:8], *said[9:19]])) == []


def test_overlaps_are_one_find_and_others_are_not(index):
    said = LONG.split()
    first, second = " ".join(said[:15]), " ".join(said[3:])
    text = f"{first} | {second}"
    starts = [(find.start, find.end) for find in index.find(text)]
    assert starts == [(0, len(first)), (len(first) + 3, len(text))]


def test_a_shorter_item_is_found_as_a_whole_or_not_at_all(index):
    assert (index.items, index.too_short) == (2, 1)
    assert index.find(f"Tell me: why do WOLVES howl, at the full moon? {TINY}") == [Find("quiz.txt:2", 9, 45)]
    assert index.find("why do wolves howl at the full") == []
    assert index.find("why do wolves howl at the full moons") == []


def test_ten_words_of_which_eight_are_there(tmp_path):
    (tmp_path / "ten.txt").write_text("one1 alpha beta gamma delta epsilon zeta eta theta iota")
    index = Index.build([tmp_path / "ten.txt"])
    assert index.find("one1 alpha beta gamma delta epsilon zeta eta") == []
    assert index.find("one1 alpha beta gamma delta epsilon zeta eta theta kappa") == []
    assert len(index.find("x One2 alpha beta gamma delta epsilon zeta eta theta iota y")) == 1


def test_a_hash_alone_is_no_find(index, monkeypatch):
    """Were all hashes equal, every place would be a candidate, and words would still decide."""
    constant = lambda self, text: np.zeros(len(words(text)), np.uint64)  # noqa: E731
    monkeypatch.setattr(Reader, "read", constant)
    file = index.files[0]
    assert file == "quiz.txt"
    blind = Index(**{**vars(index), "grams": _blind(index.grams), "whole": _blind(index.whole)})
    assert blind.find(prose(random.Random(2), 40)) == []
    assert blind.find(f"x {SHORT} y {prose(random.Random(2), 40)}") == [Find("quiz.txt:2", 2, 37)]


def _blind(grams):
    return type(grams)(grams.size, np.zeros_like(grams.hashes), grams.where)


def test_part_of_a_word_is_no_word(index, monkeypatch):
    monkeypatch.setattr(Reader, "read", lambda self, text: np.zeros(len(words(text)), np.uint64))
    blind = Index(**{**vars(index), "grams": _blind(index.grams), "whole": _blind(index.whole)})
    assert blind.find("why do wolves howl at the full moo") == []
    assert blind.find("hy do wolves howl at the full moon") == []


def test_an_index_holds_the_words_of_each_item_and_none_across_two(tmp_path):
    counts = (13, 15, 12, 8, 7, 40)
    file = tmp_path / "items.txt"
    file.write_text("\n".join(prose(random.Random(count), count) for count in counts))
    index = Index.build([file])
    assert len(index.grams.hashes) == 1 + 3 + 28
    assert len(index.whole.hashes) == 2
    assert (index.items, index.too_short) == (5, 1)
    assert index.grams.hashes.tolist() == sorted(index.grams.hashes.tolist())


def test_hashes_of_grams_are_polynomials():
    chance = random.Random(3)
    hashes = [chance.getrandbits(64) for _ in range(40)]
    found = gram_hashes(np.array(hashes, np.uint64), 5).tolist()
    assert found == [sum(h * BASE**k for k, h in enumerate(hashes[i : i + 5])) % 2**64 for i in range(36)]
    assert gram_hashes(np.array(hashes[:4], np.uint64), 5).tolist() == []


def numbers_joined(simple):
    """What is ours beyond datatrove: numbers in a row are one."""
    return [word for i, word in enumerate(simple) if not (word == "0" and simple[i - 1 : i] == ["0"])]


@settings(max_examples=200)
@given(st.text(st.sampled_from("aZ09.,-_'\"/ \n\t\x00\x1c$!x5"), max_size=40))
@example("1.5.6 7,8 a1.5b 1.a 1..5 .5")
def test_words_of_ascii_are_datatroves(text):
    assert [word.text for word in words(text)] == numbers_joined(simplify_text(text).split())


ANY = st.text(
    st.one_of(
        st.characters(), st.sampled_from("aZ09 .,İßΣς٣٫٤１²½\u0301\u0345\u00ad\u200b\u200d’ﬁ각語\ud800")
    ),
    max_size=30,
)


@settings(max_examples=300)
@given(ANY)
@example("1.5a6.5b 1.5.6a 1.5a.6")
@example("1\u00ad2 1.5\u00ad6.5 1\u03015 ٣٫٤٫٥ \u0301 a\u0301 \u00ad.5 9")
def test_compiled_words_are_the_readable_ones(text):
    """As many, and with equal hashes where they are equal."""
    said, hashes = [word.text for word in words(text)], READER.read(text).tolist()
    assert len(said) == len(hashes)
    assert len(set(zip(said, hashes, strict=True))) == len(set(said)) == len(set(hashes))
    for word, (_, start, end) in zip(said, words(text), strict=True):
        assert [each.text for each in words(text[start:end])] == [word]
        assert READER.read(word).tolist() == READER.read(text[start:end]).tolist()


@settings(max_examples=100)
@given(st.text(st.characters(max_codepoint=0x24F, categories=("Ll", "Lu", "Nd")), max_size=10))
def test_case_and_form_do_not_matter(word):
    import unicodedata

    expected = [each.text for each in words(word)]
    for form in ("NFC", "NFD"):
        assert [each.text for each in words(unicodedata.normalize(form, word))] == expected
    if "ı" not in word:  # whose capital is I, whose small letter is i
        assert [each.text for each in words(word.upper())] == expected


def test_a_crawls_typography_hides_nothing():
    assert [word.text for word in words("‘Co\u00adoperate’ costs 1 000€—STRASSE’s")] == [
        "cooperate",
        "costs",
        "0",
        "strasse",
        "s",
    ]
    assert [word.text for word in words("full\u200bmoon")] == ["full", "moon"]
    assert [word.text for word in words("straße 1,000 | 2 | 3")] == ["strasse", "0"]


def test_words_of_many_items_are_named_by_some_of_them(tmp_path):
    prompt = "Here follows a question with four answers of which exactly one is right choose it now please"
    lines = [f"{prompt} {prose(random.Random(i), 20)}" for i in range(30)]
    (tmp_path / "many.txt").write_text("\n".join(lines))
    index = Index.build([tmp_path / "many.txt"])
    assert len({find.item for find in index.find(prompt)}) == 8
    assert {find.item for find in index.find(lines[29])} > {"many.txt:30"}


def test_the_right_answer_belongs_to_the_question(tmp_path):
    records = {
        "to be or not": {"query": "Question: to be", "choices": ["never", "or not"], "gold": 1},
        "the wolf howled": {"context_options": ["the dog", "the wolf"], "continuation": "howled", "gold": 1},
        "a b c": {"context": "a b", "continuation": "c"},
        "he runs away": {"ctx": "he runs", "endings": ["home", "away"], "label": "1", "ind": 3},
        "what else": {"question": "Q: what", "choices": ["this", "else"], "answer": 1, "subject": "law"},
        "what this else": {"question": "what", "choices": ["this", "else"], "answer": 7},
        "x y z": {"stem": "x", "more": [{"text": "y"}, 5, None, ["z"]]},
    }
    for expected, record in records.items():
        assert passage(record).split() == expected.split()
    file = tmp_path / "all.jsonl"
    file.write_text("\n\n".join(map(json.dumps, records.values())))
    assert [number for number, _ in read_items(file)] == [1, 3, 5, 7, 9, 11, 13]
    (tmp_path / "all.json").write_text(json.dumps({"version": [1], "data": list(records.values())}))
    assert [text.split() for _, text in read_items(tmp_path / "all.json")] == [key.split() for key in records]


def test_it_is_the_same_from_a_file_and_in_another_process(index, tmp_path):
    index.save(tmp_path / "index")
    opened = Index.open(tmp_path / "index")
    again = pickle.loads(pickle.dumps(opened))
    text = f"{LONG} and {SHORT}"
    for each in (opened, again, pickle.loads(pickle.dumps(index))):
        assert each.find(text) == index.find(text) != []
        assert (each.items, each.too_short, each.fingerprint) == (2, 1, index.fingerprint)
    assert isinstance(again.grams.hashes, np.memmap)
    assert len(pickle.dumps(opened)) < 1000
    with pytest.raises(UsageError):
        index.save(tmp_path / "index")


def test_damage_is_noticed(index, tmp_path):
    index.save(tmp_path / "index")
    part = tmp_path / "index" / "grams.npy"
    raw = bytearray(part.read_bytes())
    raw[-1] ^= 1
    part.write_bytes(raw)
    with pytest.raises(DataError, match="damaged"):
        Index.open(tmp_path / "index")
    (tmp_path / "index" / HEAD).write_text("{}")
    with pytest.raises(DataError):
        Index.open(tmp_path / "index")


def test_the_fingerprint_is_that_of_the_content(tmp_path):
    def fingerprint(folder, text, n=13):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "quiz.txt").write_text(text)
        return Index.build([tmp_path / folder / "quiz.txt"], n).fingerprint

    assert fingerprint("a", LONG) == fingerprint("b", LONG)
    assert len({fingerprint("a", LONG), fingerprint("a", LONG, 12), fingerprint("a", f"{LONG} I")}) == 3


def test_files_of_one_name_are_told_apart(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "test.txt").write_text(LONG if folder == "b" else SHORT)
    index = Index.build([tmp_path / "a" / "test.txt", tmp_path / "b" / "test.txt"])
    assert [find.item for find in index.find(LONG)] == [f"{(tmp_path / 'b' / 'test.txt').as_posix()}:1"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", "x"), ("a.json", "{"), ("a.jsonl", "[1]"), ("a.txt", TINY), ("a.txt", ""), ("a.json", "[]")],
)
def test_what_is_no_evaluation_is_refused(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError):
        Index.build([tmp_path / name])


def test_there_must_be_something_to_look_for(tmp_path):
    with pytest.raises(UsageError):
        Index.build([])
    with pytest.raises(UsageError):
        Index.build([tmp_path / "x.txt"], n=0)


def test_masks():
    finds = [Find("a:1", 3, 6), Find("b:1", 5, 8), Find("b:2", 8, 9)]
    assert mask("0123456789", finds) == f"012{MARK}{MARK}9"
    assert mask("0123456789", finds, "") == "0129"
    assert mask("0123456789", []) == "0123456789"


@given(
    st.text(max_size=20), st.lists(st.tuples(st.integers(0, 20), st.integers(1, 5)), max_size=5), st.just("#")
)
def test_a_mask_leaves_the_rest(text, spans, mark):
    finds = [Find("x", start, start + size) for start, size in spans if start + size <= len(text)]
    covered = {place for find in finds for place in range(find.start, find.end)}
    assert mask(text, finds, "") == "".join(c for i, c in enumerate(text) if i not in covered)
