"""gettext's own readers judge: Python's `gettext` for what programs see, `msgfmt` where it is installed."""

import contextlib
import gettext
import gzip
import io
import random
import shutil
import struct
import subprocess
import sys

import polib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primer.corpus import catalogue
from primer.corpus.pair import Pair, Rejected
from primer.corpus.parallel import open_parallel
from primer.errors import DataError, PrimerError, SurroundingsError

HEADER = r"""msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\n"

"""

SAMPLE = (
    HEADER
    + """\
# A comment of the translator, one of the program, a place, the old text.
#. say it briefly
#: menu.c:10 a file with spaces.c:3
#| msgid "Open it"
msgid "Open"
msgstr "Öffnen"

#Comments may begin without a space, although polib does not think so.
#=some-flag
msgctxt "verb"
msgid "Close"
msgstr ""
"Schlie"
"ßen"

msgid "One file\\n"
"is left.\\n"
msgid_plural "%d files\\n"
"are left.\\n"
msgstr[0] "Eine Datei\\n"
"ist übrig.\\n"
msgstr[1] "%d Dateien\\n"
"sind übrig.\\n"

msgid "Not yet"
msgstr ""

#,fuzzy, c-format
msgid "Perhaps"
msgstr "Villeicht"

msgid "Say \\"\\\\n\\" and\\ttab"
msgstr "Sag \\"\\\\n\\" und\\tTab"

#, fuzzy
#~ msgid "Gone"
#~ msgstr "Weg"

#~msgid "Gone too"
#~msgstr "Auch weg"
#,
"""
)

EXPECTED = [
    ("Open", "Öffnen"),
    ("Close", "Schließen"),
    ("One file is left.", "Eine Datei ist übrig."),
    ("%d files are left.", "%d Dateien sind übrig."),
    ('Say "\\n" and\ttab', 'Sag "\\n" und\tTab'),
]


@pytest.fixture
def file(tmp_path):
    def write(content: str | bytes, name: str = "de.po"):
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path / name

    return write


def texts(path, rejected=None, **options):
    return [(pair.source, pair.target) for pair in open_parallel(path, **options).pairs("train", rejected)]


def in_one_line(text: str) -> str:
    return text.strip().replace("\r\n", " ").replace("\n", " ").replace("\r", " ")


def test_messages_become_pairs_and_what_is_not_ready_is_counted(file):
    path, rejected = file(SAMPLE), Rejected()
    assert texts(path, rejected) == EXPECTED
    assert rejected.counts == {"not translated": 1, "fuzzy": 1, "obsolete": 2}
    assert rejected.samples["fuzzy"][1] == "Perhaps"
    assert texts(file(gzip.compress(SAMPLE.encode()), "de.po.gz")) == EXPECTED
    assert texts(path, swap=True) == [(target, source) for source, target in EXPECTED]


def test_a_place_is_the_line_where_a_message_begins(file):
    lines = SAMPLE.split("\n")
    for pair in open_parallel(file(SAMPLE)).pairs("train"):
        name, number = pair.place.split(":")
        assert name == "de.po"
        assert lines[int(number) - 1].startswith("msg")
        assert any(pair.source.split()[0] in line for line in lines[int(number) - 1 : int(number) + 3])


def test_msgfmt_reads_the_same(file, tmp_path):
    """GNU gettext's own compiler and Python's own reader, from the same file."""
    if shutil.which("msgfmt") is None:
        pytest.skip("msgfmt (GNU gettext) is not installed")
    path = file(SAMPLE.replace("#=some-flag\n", ""))
    subprocess.run(["msgfmt", "-o", tmp_path / "de.mo", path], check=True)
    with (tmp_path / "de.mo").open("rb") as stream:
        theirs = gettext.GNUTranslations(stream)
    assert {in_one_line(text) for key, text in theirs._catalog.items() if key} == {b for _, b in EXPECTED}
    assert sorted(texts(tmp_path / "de.mo")) == sorted(texts(path)) == sorted(EXPECTED)


# Text as a program's messages may hold it; U+0004 ends a context, and NUL a message.
message = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\4\ufeff"))
ready = message.filter(str.strip)
entries = st.lists(
    st.tuples(ready, ready, st.none() | st.tuples(ready, ready), st.none() | message),
    min_size=1,
    max_size=6,
    unique_by=lambda entry: (entry[0], entry[3] or ""),  # an empty context is none in a compiled one
)


def compiled(written) -> polib.POFile:
    found = polib.POFile()
    found.metadata = {"Content-Type": "text/plain; charset=UTF-8", "Plural-Forms": "nplurals=2; plural=n!=1;"}
    for source, target, plural, context in written:
        entry = polib.POEntry(msgid=source, msgctxt=context)
        if plural:
            entry.msgid_plural, entry.msgstr_plural = plural[0], {0: target, 1: plural[1]}
        else:
            entry.msgstr = target
        found.append(entry)
    return found


def as_pairs(written) -> list[tuple[str, str]]:
    found = []
    for source, target, plural, _ in written:
        found += [(source, target), plural] if plural else [(source, target)]
    return [(in_one_line(source), in_one_line(target)) for source, target in found]


@settings(max_examples=100)
@given(entries)
def test_what_polib_writes_is_read(tmp_path_factory, written):
    path = tmp_path_factory.getbasetemp() / "any.po"
    path.write_text(str(compiled(written)), encoding="utf-8", newline="\n")
    assert texts(path) == as_pairs(written)


@settings(max_examples=100)
@given(entries)
def test_a_compiled_catalogue_says_what_python_hears(tmp_path_factory, written):
    path = tmp_path_factory.getbasetemp() / "any.mo"
    content = compiled(written).to_binary()
    path.write_bytes(content)
    assert sorted(texts(path)) == sorted(as_pairs(written))
    theirs = gettext.GNUTranslations(io.BytesIO(content))
    for source, target, plural, context in written:
        heard = theirs.pgettext(context, source) if context else theirs.gettext(source)
        if plural is None:
            assert heard == target
            assert in_one_line(heard) in [translation for _, translation in texts(path)]


def mo(order: str, *messages: tuple[bytes, bytes], count: int | None = None) -> bytes:
    """A catalogue written by the manual's table: header, two tables of (length, offset), the texts."""
    start = 28 + 16 * len(messages)
    texts, tables = b"", [[], []]
    for side in range(2):
        for pair in messages:
            tables[side] += [len(pair[side]), start + len(texts)]
            texts += pair[side] + b"\0"
    numbers = [0x950412DE, 0, len(messages) if count is None else count, 28, 28 + 8 * len(messages), 0, start]
    return (
        struct.pack(f"{order}{len(numbers)}I", *numbers)
        + struct.pack(f"{order}{4 * len(messages)}I", *tables[0], *tables[1])
        + texts
    )


MESSAGES = (
    (b"", b"Content-Type: text/plain; charset=UTF-8\n"),
    (b"a", "ä".encode()),
    (b"ctx\4b", b"B"),
    (b"c\0cs", b"C\0Cs\0Css"),
    (b"d", b""),
)


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_orders_of_bytes_are_read(file, order):
    rejected = Rejected()
    path = file(mo(order, *MESSAGES), "de.mo")
    assert list(open_parallel(path).pairs("train", rejected)) == [
        Pair("a", "ä", "de.mo:1"),
        Pair("b", "B", "de.mo:2"),
        Pair("c", "C", "de.mo:3"),
        Pair("cs", "Cs", "de.mo:3"),
    ]
    assert rejected.counts == {"not translated": 1}
    assert gettext.GNUTranslations(io.BytesIO(mo(order, *MESSAGES))).gettext("a") == "ä"


@pytest.mark.parametrize("charset", ["iso-8859-2", "koi8-r", "euc-jp", "UTF-8"])
@pytest.mark.parametrize("name", ["x.po", "x.mo"])
def test_the_charset_of_the_header_counts(file, charset, name):
    text = {"iso-8859-2": "žluť", "koi8-r": "Да", "euc-jp": "はい"}.get(charset, "naïve – 😀")
    header = f"Content-Type: text/plain; charset={charset}\n"
    if name == "x.mo":
        content = mo("<", (b"", header.encode()), (b"yes", text.encode(charset)))
    else:
        content = f'msgid ""\nmsgstr "{header.strip()}\\n"\n\nmsgid "yes"\nmsgstr "{text}"\n'.encode(charset)
    path = file(content, name)
    assert texts(path) == [("yes", text)]
    assert texts(path, encoding="cp1252", encoding_errors="replace") != [("yes", text)]


@pytest.mark.parametrize("name", ["x.po", "x.mo"])
@pytest.mark.parametrize("charset", ["CHARSET", "klingon", "hex", "undefined", "punycode", "idna", "utf-7"])
def test_an_odd_charset_is_none_or_refused_in_our_words(file, name, charset):
    header = f"Content-Type: text/plain; charset={charset}\n"
    for text in ("ä", "+2AA-", "xn--99zzzz9999999", "a" * 99):
        content = f'msgid ""\nmsgstr "{header.strip()}\\n"\n\nmsgid "yes"\nmsgstr "{text}"\n'
        if name == "x.mo":
            content = mo("<", (b"", header.encode()), (b"yes", text.encode()))
        found = None
        with contextlib.suppress(DataError):
            found = texts(file(content, name))
        assert found == [("yes", text)] or charset in ("punycode", "idna", "utf-7")


@pytest.mark.parametrize("errors", ["strict", "replace", "ignore"])
@pytest.mark.parametrize("name", ["x.po", "x.mo"])
def test_bytes_that_are_no_text_are_named_replaced_or_dropped(file, name, errors):
    content = b'msgid "a"\nmsgstr "b\xffc"\n' if name == "x.po" else mo("<", (b"a", b"b\xffc"))
    path = file(content, name)
    if errors == "strict":
        with pytest.raises(DataError, match="not utf-8") as caught:
            texts(path)
        assert "--data.encoding-errors=replace" in caught.value.hint
    else:
        assert texts(path, encoding_errors=errors) == [
            ("a", "b\N{REPLACEMENT CHARACTER}c" if errors == "replace" else "bc")
        ]


def test_a_byte_order_mark_is_no_text_and_wins_over_the_header(file):
    for encoding in ("utf-8-sig", "utf-16"):
        assert texts(file(SAMPLE.encode(encoding))) == EXPECTED
        assert texts(file(SAMPLE.replace("UTF-8", "iso-8859-1").encode(encoding))) == EXPECTED


def test_a_file_is_never_taken_for_the_name_of_another(file, tmp_path, monkeypatch):
    """polib opens what it is given where that is a path: the content of one file must not name another."""
    monkeypatch.chdir(tmp_path)
    file('msgid "secret"\nmsgstr "x"\n', "secret.po")
    with pytest.raises(DataError, match="no line of a"):
        texts(file("secret.po", "names.po"))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("a text\nof two lines\n", 1),
        ('msgid "a"\nmsgstr b\n', 2),
        ('msgid "a"\nmsgstr "b\n', 2),
        ('msgid "a"\nmsgstr "b"c"\n', 2),
        ('msgid "a"\nmsgid "b"\nmsgstr "c"\n', 2),
        ('msgid "a"\nmsgstr[12] "c"\n', 2),
        ('msgstr "c"\nmsgid "a"\n', 1),
        ('msgid "a"\n\n# comment\nmsgstr "c"\nmsgfoo "d"\n', 5),
        ('msgid "a"\nmsgstr "\\"\n', 2),
        ('# a comment\n"b"\nmsgid "a"\nmsgstr "b"\n', 2),
        ('msgid "a"\n#, fuzzy\n"b"\nmsgstr "b"\n', 3),
    ],
)
def test_a_broken_line_is_named(file, content, line):
    path = file(content)
    with pytest.raises(DataError) as caught:
        texts(path)
    assert caught.value.where == f"{path}, line {line}"


def test_form_feeds_and_other_odd_characters_stay_in_a_message(file):
    assert texts(file('msgid "a\x0cb\u2028c"\nmsgstr "d\x85e\x1cf"\n')) == [("a\x0cb\u2028c", "d\x85e\x1cf")]


def test_absurd_tables_are_refused_before_they_are_followed(file):
    good = mo("<", *MESSAGES)
    size = len(good)
    count, ids, translations, length, offset = 8, 12, 16, 28, 32  # where they stand
    for place, value in (
        (count, 2**32 - 1),
        (count, 10**6),
        (ids, size),
        (ids, 2**32 - 8),
        (translations, size - 8),
        (length, size),
        (length, 2**31),
        (offset, 2**32 - 1),
    ):
        bad = bytearray(good)
        struct.pack_into("<I", bad, place, value)
        with pytest.raises(DataError, match="leads out of it"):
            texts(file(bytes(bad), "bad.mo"))
    for bad in (b"", good[:19], b"\xde\x12\x04\x96" + good[4:], b"\x7fELF" + good[4:]):
        with pytest.raises(DataError, match="does not begin as one does"):
            texts(file(bad, "bad.mo"))


def test_messages_that_share_their_bytes_cannot_fill_the_memory(file):
    """A hundred messages of a megabyte each, in a file of one (and as well a million of them, in one of 17)."""
    count = 100
    table = struct.pack("<2I", 1 << 20, 0) * count
    header = struct.pack("<7I", 0x950412DE, 0, count, 28, 28 + 8 * count, 0, 0)
    with pytest.raises(DataError, match="a message leads out of it"):
        texts(file(header + table * 2 + bytes(1 << 20), "bad.mo"))


def test_a_message_of_very_many_lines_is_read_in_one_go(file):
    """200,000 lines; copied with each of them they would be 40 GB."""
    content = 'msgid "a"\nmsgstr ""\n' + '"b\\n"\n# a comment\n' * 200_000
    assert texts(file(content)) == [("a", "b " * 199_999 + "b")]


@pytest.mark.parametrize("name", ["big.po", "big.mo"])
def test_the_size_is_bounded(file, monkeypatch, name):
    monkeypatch.setattr(catalogue, "MAX_CATALOGUE", 1 << 20)
    content = mo("<", (b"a", b"b" * (1 << 20))) if name == "big.mo" else 'msgid "a"\n' + '"b"\n' * (1 << 18)
    with pytest.raises(DataError, match="a catalogue of more than 1 MiB"):
        texts(file(content, name))


@pytest.mark.parametrize("name", ["any.po", "any.mo"])
@settings(max_examples=300)
@given(st.data())
def test_damage_is_read_or_refused_in_our_words(tmp_path_factory, name, data):
    """Changed bytes and numbers, foreign bytes put in, cuts: never another exception, never a reader without end."""
    content = bytearray(SAMPLE.encode() if name == "any.po" else compiled_sample())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(0, min(len(content), 400) - 1)))
        change = data.draw(st.sampled_from(["byte", "insert", "cut", "number"]))
        if change == "byte":
            content[place : place + 1] = bytes([data.draw(st.integers(0, 255))])
        elif change == "insert":
            content[place:place] = data.draw(
                st.binary(max_size=6) | st.sampled_from([b'"', b"\\", b"\n", b"#~ ", b"msgid"])
            )
        elif change == "cut":
            del content[place : place + data.draw(st.sampled_from([1, 5, 10**9]))]
        else:
            content[place : place + 4] = struct.pack(
                "<I", data.draw(st.sampled_from([0, 1, 2**31, 2**32 - 1]))
            )
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    with contextlib.suppress(PrimerError):
        for pair in open_parallel(path).pairs("train"):
            f"{pair.source}{pair.target}".encode()


def compiled_sample() -> bytes:
    return compiled([(a, b, None, None) for a, b in EXPECTED]).to_binary()


def test_every_flipped_bit_of_a_compiled_catalogues_tables_is_survived(file):
    good = compiled_sample()
    chance = random.Random(1)
    for place in range(28 + 16 * 6):
        bad = bytearray(good)
        bad[place] ^= 1 << chance.randrange(8)
        with contextlib.suppress(DataError):
            texts(file(bytes(bad), "bad.mo"))


def test_without_polib_the_command_is_named(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "polib", None)
    for name in ("de.po", "de.mo"):
        with pytest.raises(SurroundingsError, match="polib is not installed") as caught:
            texts(file(SAMPLE, name))
        assert 'pip install "gpt-primer[corpus]"' in caught.value.hint
