"""spaCy is the judge: our words and sentences are its own, in any language and in any jumble of characters."""

import gzip
import itertools
import random
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primer.corpus.text import word_patterns
from primer.corpus.text import words as module
from primer.corpus.text.word_exceptions import special_cases
from primer.corpus.text.words import count_sentences, is_punctuation, sentence_final, split_chunk, words

TEXTS = (
    "“It's 10am,” she said; don't you DON'T me! He’d've gone… wouldn't he? Dr. Who vs. Mr. X, i.e. (nobody).",
    "pip install foo-bar==1.2.3 # see https://ex-ample.org/a?c=d#e, http://10.0.0.1/x-y; me.too+you@my-host.co.uk:80/",
    "US$5m and C$3 or 5€, 100km² at 20°C. 5% of 3.14-2 is 1e-5; 7+8=15, x=y/z, and/or w/o C++ 1--a 9's 5+",
    "Straße, naïve—façade. Привет,мир! ГОСТ.Новый 5км/ч … γειά.Σου ʔa,b ǅx-y ñ.Ñ A.B.C. end.Start I.B.M.",
    "我们在这里。你好，世界！「はい」、カタカナ・ㇰ 한국어는.한국 שלום-עולם سلام، عالم؟ 5كم² हिन्दी। தமிழ்.",
    "😀ok👍🏽! 🥱new🪐 ㈱会社 a©b ™ x™y ☃️☃ 🏳️‍🌈 1️⃣ ۞ :) :-))) x:) a=:) <3 ¯\\(ツ)/¯ (^_^) ಠ_ಠ o.O 8-) ...:( ;D",
    "def f(x: int=3)->None: return {'a':[1,2,*y]}  # snake_case, Camel.method(), a->b, ~/.bashrc, C:\\dir\\file.txt",
    "lots   of \t white\n\n\u00a0\u3000space\u2028 \x1c here  ",
    "im. id. its. cannot. gonna! (y'all) ('s) 'tis 'em' rock-'n'-roll ol' goin'. mother-in-law's o'clock ma'am",
    "……… .. ... .... …… '' `` -- --- —— – ~ + - +1 +x 1+ $ § % = °F. 5°C. a|. b². ‘s ’s",
)  # fmt: skip

FRAGMENTS = [
    *"aZéßЖяΣ漢カ한שسʔǅ09٣²½", "cat", "NASA", "don't", "Dont", "it’s", "id", "10am", "11p.m.", "3.14", "1,000",
    *".,:;!?…'\"`’‘“”«»()[]{}<>_#*&-–—~+=/|@%$€°\\^§·。、！？（）「」〈\u2329",
    "..", "……", "--", "---", "’s", "US$", "km²", "m/s", "%", "KB", "кг", "😀", "🥱", "㈱", "©", "\u0301", "\u200b",
    "http://", "www.", "a-b.com", "b@c.org", "/p-q?x=1", ":80", "8.8.8.8", "192.168.1.1", "user:pw@", "file.tar.gz",
    ":)", ":-))", "x:(", "=)", "^_^", "<3", "o.O", "(-_-", ";D", "Mr.", "e.g.", "a.m.", "Ph.D.", "w/o", "and/or", "C++",
]  # fmt: skip
SPACES = [" ", " ", " ", "  ", "\t", "\u00a0", "\n"]
CHUNKS = st.lists(
    st.one_of(st.sampled_from(FRAGMENTS), st.sampled_from(sorted(special_cases()))), min_size=1, max_size=6
).map("".join)
LINES = st.lists(
    st.one_of(CHUNKS, st.sampled_from([*'.!?。)"', " ", " ", "  ", "\t", "\u00a0", "\n", "x", "Yes"])),
    max_size=9,
).map("".join)


@pytest.fixture(scope="module")
def english():
    spacy = pytest.importorskip("spacy", reason="spaCy, the judge, is in gpt-primer[dev]")
    english = spacy.blank("en")
    english.add_pipe("sentencizer")
    return english


def spacy_words(english, text):
    return [word for word in (token.text.strip() for token in english.tokenizer(text)) if word]


def assert_same_words(english, texts):
    differing = {}
    for text in texts:
        theirs = spacy_words(english, text)
        if words(text) != theirs:
            differing[text] = (theirs, words(text))
    assert not differing


def test_the_special_cases_are_spacys_but_for_those_of_white_space(english):
    theirs = {
        chunk: tuple(token[65] for token in tokens)  # ORTH
        for chunk, tokens in english.tokenizer.rules.items()
        if not chunk.isspace()
    }
    assert special_cases() == theirs
    assert_same_words(english, theirs)


def test_every_character_is_cut_off_as_spacy_does(english):
    """In front, behind and before a full stop; all of Unicode's symbols and scripts up to 0x3400, and emoji."""
    codes = itertools.chain(range(33, 0x3400), range(0xF900, 0x10000), range(0x1F000, 0x1FB00))
    find_prefix, find_suffix = english.tokenizer.find_prefix, english.tokenizer.find_suffix
    for character in map(chr, codes):
        if unicodedata.category(character) in ("Cn", "Co"):
            continue
        assert word_patterns.prefix_length(character, 0, 1) == find_prefix(character), ascii(character)
        assert word_patterns.suffix_length(character, 0, 1) == find_suffix(character), ascii(character)
        assert word_patterns.suffix_length(character + ".", 0, 2) == find_suffix(character + "."), ascii(
            character
        )


def test_every_character_parts_words_as_spacy_does(english):
    """Between letters; and as a letter before a comma, a capital after a full stop, a small one before it."""
    codes = itertools.chain(range(33, 0x3400), range(0xF900, 0x10000, 3), range(0x1F000, 0x1FB00, 3))
    for character in map(chr, codes):
        if unicodedata.category(character) not in ("Cn", "Co"):
            core = f"a{character}b,{character},b.{character}.A"
            theirs = [mark.span() for mark in english.tokenizer.infix_finditer(core)]
            ours = [mark.span() for mark in word_patterns.INFIX.finditer(word_patterns.shape(core))]
            assert ours == theirs, ascii(character)


@pytest.mark.parametrize("text", TEXTS)
def test_texts_of_many_kinds_have_spacys_words(english, text):
    assert words(text) == spacy_words(english, text)
    assert_same_words(english, text.split())
    assert [split_chunk(chunk) for chunk in text.split()] == [words(chunk) for chunk in text.split()]


@settings(max_examples=100)
@given(chunk=CHUNKS)
def test_any_chunk_has_spacys_words(english, chunk):
    assert words(chunk) == split_chunk(chunk) == spacy_words(english, chunk)
    assert words(chunk.swapcase()) == spacy_words(english, chunk.swapcase())


@settings(max_examples=100)
@given(line=LINES)
def test_any_line_has_spacys_words_and_sentences(english, line):
    assert words(line) == spacy_words(english, line)
    assert count_sentences(line) == len(list(english(line).sents))


def test_jumbles_have_spacys_words(english):
    """As the two above, of more and without their care for small examples."""
    draw = random.Random(20)
    pools = [FRAGMENTS, FRAGMENTS, sorted(special_cases()), SPACES]
    jumbles = [
        "".join(draw.choice(draw.choice(pools)) for _ in range(draw.randrange(1, 12))) for _ in range(4000)
    ]
    assert_same_words(english, jumbles)
    assert_same_words(english, {chunk for jumble in jumbles for chunk in jumble.split()})


@pytest.mark.parametrize(
    "address",
    [
        "a-b.com", "x-y.C.om", "a-b.c", "a-b.co-m", "ftp+x://a-b.org", "f://a-b.c.d", "me-you@a.de",
        "@a-b.de", "a@b@c-d.ee", "u:p-w@a-b.museum:80/x", "a-b.de:8", "a-b.de:80a", "a-b.de:123456",
        "a-b.de?q-r", "a-b.deX-y", "a-b.de..x-y", "-a-b.de", "a-b_.de", "a_-b.de", "é-è.fr", "例-え.例え",
        "a-b.рф", "a-b.РФ", "10.0.0.1/a-b", "8.8.8.8/a-b", "127.0.0.1/a-b", "192.168.0.1/a-b",
        "172.15.1.1/a-b", "172.16.1.1/a-b", "172.32.1.1/a-b", "169.254.1.1/a-b", "224.1.1.1/a-b",
        "223.255.255.254/a-b", "1.2.3.255/a-b", "1.256.3.4/a-b", "1.02.3.4/a-b", "01.2.3.4/a-b",
        "1.2.3/a-b", "1.2.3.4.5/a-b", "a" * 64 + "-b.de", "a" * 62 + "-b.de", "a-b." + "c" * 63,
        "a-b." + "c" * 64, "http://a-b.de/(x-y)", "https://[::1]/a-b",
    ],
)  # fmt: skip
def test_addresses_are_told_from_words_with_marks_as_spacy_does(english, address):
    assert words(address) == spacy_words(english, address)
    assert word_patterns.is_address(address) == bool(english.tokenizer.url_match(address))


def peeled(core):
    """The words of a chunk that is no special case, before some are joined, by the rules as they can be read: what is
    left is cut anew at every mark, which takes time by the square of the length."""
    front, back = [], []
    while core and core not in module.SPECIAL_CASES:
        head = prefix_of(core)
        if head and core[head:] in module.SPECIAL_CASES:
            front.append(core[:head])
            core = core[head:]
            break
        tail = suffix_of(core[head:])
        if not head and not tail:
            return [*front, *module._cut_inside(core), *reversed(back)]
        stop = len(core) - tail
        if tail:
            back.append(core[stop:])
            if core[:stop] in module.SPECIAL_CASES:
                core = core[:stop]
                break
        if head:
            front.append(core[:head])
        core = core[head:stop]
    return [*front, *module.SPECIAL_CASES.get(core, ()), *reversed(back)]


def prefix_of(text):
    first = text[0]
    if first in word_patterns.OPENING:
        return 1
    if first.isascii():
        if first == ".":
            dots = len(text) - len(text.lstrip("."))
            return dots if dots > 1 else 0
        if first == "+":
            return int(text[1:2] not in word_patterns.DIGITS)
        return next((len(sign) for sign in word_patterns.DOLLARS if text.startswith(sign)), 0)
    return int(word_patterns.shape(first) in (word_patterns.SYMBOL, word_patterns.UNCASED_SYMBOL))


def suffix_of(text):
    last = text[-1:]
    if last == ".":
        dots = len(text) - len(text.rstrip("."))
        return dots if dots > 1 else int(word_patterns._ends_sentence(text[:-1]))
    number = text.rstrip(word_patterns.UNIT_CHARACTERS)
    if number[-1:] in word_patterns.DIGITS and text[len(number) :] in word_patterns.UNITS:
        return len(text) - len(number)
    if last in "sS" and text[-2:-1] in ("'", "’"):
        return 2
    if last in word_patterns.CLOSING:
        return 2 if text[-2:] == "……" else 1
    if last == "+":
        return int(text[-2:-1] in word_patterns.DIGITS)
    return int(word_patterns.shape(last) in (word_patterns.SYMBOL, word_patterns.UNCASED_SYMBOL))


@settings(max_examples=300, deadline=None)
@given(start=CHUNKS, part=CHUNKS, times=st.integers(0, 30), end=CHUNKS)
def test_marks_come_off_a_long_chunk_as_they_do_by_the_rules(start, part, times, end):
    for chunk in (start, part * times, start + part[-2:] * times + end, start[:1] + part * times + end[-2:]):
        if chunk and chunk not in module.SPECIAL_CASES:
            assert module._first_pass(chunk, module.SPECIAL_CASES) == peeled(chunk)


def test_marks_come_off_real_chunks_as_they_do_by_the_rules(real_data):
    with gzip.open(real_data / "multi30k" / "train.en.gz", "rt", encoding="utf-8") as file:
        chunks = {chunk for line in itertools.islice(file, 5000) for chunk in line.split()}
    chunks.update((real_data / "shakespeare" / "input.txt").read_text("utf-8").split())
    for chunk in chunks - module.SPECIAL_CASES.keys():
        assert module._first_pass(chunk, module.SPECIAL_CASES) == peeled(chunk)


@pytest.mark.parametrize(
    ("start", "part", "end"),
    [("", "=", ""), ("", "_", ""), ("", "{", ""), ("", "([", ""), ("", "'", ""), ("", "😀", ""), ("", "a😀", "!"),
     ("", "'s", ""), ("", "…", ""), ("", ".", "'"), ("", "..'", ""), ("", "(m", ")m"), ("", "a@", "-b.de"),
     ("", "@a.BC/", "x-y"), ("", "a.", "b-c"), ("x-y", "a.a@", ""), ("", "x:( ", ""), ("", "=:)", "")],
)  # fmt: skip
def test_the_time_grows_with_the_length_and_not_with_its_square(start, part, end):
    def seconds(length):
        text = start + part * (length // len(part)) + end
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            words(text)
            best = min(best, time.process_time() - began)
        return best

    assert seconds(80_000) < 8 * max(seconds(20_000), 1e-3)


@pytest.mark.parametrize(("mark", "rest"), [("(", "m"), ("(", "A."), ("'", "x" * 9 + "."), ("=", "a+")])
def test_neither_marks_before_a_long_core_nor_after_it_take_longer(mark, rest):
    def seconds(count):
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            split_chunk(mark * count + rest * count)
            best = min(best, time.process_time() - began)
        return best

    assert seconds(32_000) < 8 * max(seconds(8_000), 1e-3)


def test_a_longer_special_case_over_two_chunks_is_in_the_way_of_a_shorter_one(english):
    assert split_chunk("x:(") == ["x", ":("]
    assert words("x:( (") == ["x", ":", "(", "("]
    assert words("x:(  (") == ["x", ":(", "("]  # not past a word of white space
    assert_same_words(
        english, ["x:( (", "x:( (y", "x:(  (", "x:(\n(", "(x:( )", "a=:) ) )", "x:( x:( (", "x-o . O"]
    )


def test_the_words_do_not_depend_on_what_is_remembered(monkeypatch):
    text = " ".join(TEXTS) + " x:( ( " + "=:)" * 40 + " " + " ".join(map(str, range(300)))
    expected = words(text), count_sentences(text)
    monkeypatch.setattr(module, "CACHED_CHUNKS", 50)
    for _ in range(3):
        for part in text.split("."):
            words(part)
            assert len(module._remembered) <= 50 + len(part.split())
        assert (words(text), count_sentences(text)) == expected
    words("")
    words("")
    assert not module._remembered
    assert not module._before_joining


@pytest.mark.parametrize("name", ["shakespeare/input.txt", "multi30k/val.de.gz", "multi30k/train.en.gz"])
def test_real_texts_have_spacys_words(english, real_data, name):
    file = real_data / name
    content = file.read_bytes()
    lines = (gzip.decompress(content) if name.endswith("gz") else content).decode("utf-8").splitlines()
    sample = lines[:: len(lines) // 500]
    assert_same_words(english, sample)
    assert_same_words(english, ["\n".join(lines[:400])])
    assert [count_sentences(line) for line in sample] == [len(list(english(line).sents)) for line in sample]


def test_raw_pages_of_many_languages_have_spacys_words(english, real_data):
    """Chunks of HTML itself, which has more marks, addresses and code than any text taken from it."""
    warc = pytest.importorskip("fastwarc.warc", reason="fastwarc is in gpt-primer[corpus]")
    with open(real_data / "warc" / "debian-docs-a.warc.gz", "rb") as stream:
        records = warc.ArchiveIterator(stream, record_types=warc.WarcRecordType.response)
        pages = [record.reader.read().decode("utf-8", "replace") for record in itertools.islice(records, 60)]
    chunks = sorted({chunk for page in pages for chunk in page.split() if len(chunk) < 200})
    assert_same_words(english, chunks[:: max(1, len(chunks) // 4000)])
    assert_same_words(english, [page[:3000] for page in pages[::3]])


def test_sentences_end_with_spacys_marks():
    spacy_pipeline = pytest.importorskip("spacy.pipeline", reason="spaCy, the judge, is in gpt-primer[dev]")
    assert set(spacy_pipeline.Sentencizer.default_punct_chars) == module.SENTENCE_MARKS
    assert sentence_final("?")
    assert not sentence_final("...")
    assert not sentence_final("?!")


def test_punctuation_is_what_spacy_takes_for_it(english):
    candidates = ["a", "$", "+", "—", "...", "?!", "(x)", "…", "_", "^", "«", "。", "©", "'s", "-1", "・"]
    assert [is_punctuation(word) for word in candidates] == [
        english.vocab[word].is_punct for word in candidates
    ]


@pytest.mark.parametrize(
    ("line", "sentences"),
    [
        ("", 0), (" ", 1), ("One", 1), ("One. Two", 2), ("One.  ", 2), ("One. ", 1), ('He said "No." Then', 2),
        ("Wait... what? Yes!", 2), ("Mr. X etc.) (and so on", 2), ("!!! a", 2), ("$. $", 2),
        ("一。二。", 1), ("一。 二。", 2),
    ],
)  # fmt: skip
def test_sentences_are_counted_as_spacy_counts_them(english, line, sentences):
    assert count_sentences(line) == len(list(english(line).sents)) == sentences


def test_datatrove_counts_the_same_words_and_sentences():
    tokenizers = pytest.importorskip("datatrove.utils.word_tokenizers", reason="datatrove is in [cluster]")
    pytest.importorskip("spacy", reason="spaCy, the judge, is in gpt-primer[dev]")
    judge = tokenizers.load_word_tokenizer("eng_Latn")
    for text in TEXTS:
        assert words(text) == judge.word_tokenize(text)
        assert count_sentences(text) == len(judge.span_tokenize(text))
