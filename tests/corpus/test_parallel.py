import contextlib
import gzip
import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primer.corpus import dates, readers
from primer.corpus.pair import Pair, Rejected
from primer.corpus.parallel import MULTI30K, NAMED, ParallelText, open_parallel
from primer.errors import DataError, PrimerError, SurroundingsError, UsageError

SPLITS = ("train", "validation", "test")


def texts(source: ParallelText, split: str = "train") -> list[tuple[str, str]]:
    return [(pair.source, pair.target) for pair in source.pairs(split)]


@pytest.fixture
def write(tmp_path):
    """Files of these contents, in the order given; in text, or in bytes."""

    def write(**files: str | bytes) -> list[Path]:
        paths = []
        for name, content in files.items():
            paths.append(tmp_path / name.replace("_", "."))
            paths[-1].write_bytes(content.encode() if isinstance(content, str) else content)
        return paths

    return write


@pytest.fixture
def aligned(write):
    return lambda source, target, **options: open_parallel(*write(a_en=source, a_de=target), **options)


# Sentences without what ends a line or is binary; what stands around them is no part of them.
line = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n\t\ufeff")).map(str.strip)
sentence = line.filter(bool)
pairs = st.lists(st.tuples(sentence, sentence), min_size=1, max_size=8)
packing = st.sampled_from(["", ".gz"])


def pack(content: bytes, ending: str) -> bytes:
    return gzip.compress(content) if ending else content


@settings(max_examples=80)
@given(
    pairs,
    packing,
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_two_texts_are_read_back_line_by_line(tmp_path_factory, written, ending, newline, ended, encoding):
    files = []
    for side, name in enumerate(("any.en", "any.de")):
        content = newline.join(pair[side] for pair in written) + newline * ended
        files.append(tmp_path_factory.getbasetemp() / f"{name}{ending}")
        files[-1].write_bytes(pack(content.encode(encoding), ending))
    source = open_parallel(*files)
    assert list(source.pairs("train")) == [
        Pair(*pair, f"any.en{ending}:{number}") for number, pair in enumerate(written, start=1)
    ]
    assert texts(open_parallel(*files, swap=True)) == [(b, a) for a, b in written]
    assert texts(source) == written  # it can be read again


@settings(max_examples=80)
@given(pairs, packing, st.sampled_from(["", "de\tn\ten\n", " en \tde\n", "x\ten\tde\r\n"]), line)
def test_columns_are_read_back(tmp_path_factory, written, ending, header, other):
    """Without a header the first two of any number of columns, else those that are named, wherever they stand."""
    columns = header.strip("\r\n").replace(" ", "").split("\t") if header else ["en", "de", "x"]
    rows = [dict(zip(("en", "de", "x", "n"), (*pair, other, other), strict=True)) for pair in written]
    content = header + "".join("\t".join(row[name] for name in columns) + "\n" for row in rows)
    path = tmp_path_factory.getbasetemp() / f"any.tsv{ending}"
    path.write_bytes(pack(content.encode(), ending))
    fields = {"source_field": "en", "target_field": "de"} if header else {}
    assert texts(open_parallel(path, **fields)) == written


@settings(max_examples=80)
@given(pairs, packing, st.booleans(), st.booleans(), st.booleans())
def test_json_lines_are_read_back(tmp_path_factory, written, ending, nested, named, ascii_only):
    records = [{"de": b, "en": a, "score": 0.5} if named else {"en": a, "id": 7, "de": b} for a, b in written]
    lines = [
        json.dumps({"translation": record} if nested else record, ensure_ascii=ascii_only)
        for record in records
    ]
    path = tmp_path_factory.getbasetemp() / f"any.jsonl{ending}"
    path.write_bytes(pack("\n".join(lines).encode(), ending))
    fields = {"source_field": "en", "target_field": "de"} if named else {}
    assert texts(open_parallel(path, **fields)) == written


@pytest.mark.parametrize("ending", ["en", "tsv", "jsonl", "po"])
def test_packed_by_zstd_is_the_same(write, ending):
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra [corpus]")
    contents = {
        "en": "one\ntwo\n",
        "tsv": "one\tone\ntwo\ttwo\n",
        "jsonl": '{"a": "one", "b": "one"}\n{"a": "two", "b": "two"}\n',
        "po": 'msgid "one"\nmsgstr "one"\n\nmsgid "two"\nmsgstr "two"\n',
    }
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(contents[ending].encode())
    packed, plain = write(
        **{f"a_{ending}_zst": sink.getvalue().to_pybytes(), f"b_{ending}": contents[ending]}
    )
    both = (packed, plain) if ending == "en" else (packed,)
    assert texts(open_parallel(*both)) == [("one", "one"), ("two", "two")]


def test_only_what_ends_a_line_everywhere_ends_a_line_here(aligned):
    """Form feeds, U+2028, U+0085 and the like stay inside a sentence, where `str.splitlines` would cut."""
    source = aligned("one\x0cpage\ntwo\u2028lines\x85here\n", "eine\x0bSeite\nzwei\x1cZeilen\n")
    assert texts(source) == [("one\x0cpage", "eine\x0bSeite"), ("two\u2028lines\x85here", "zwei\x1cZeilen")]


@pytest.mark.parametrize(
    ("source", "target", "counts"),
    [
        ("a\nb\n", "a\nb\nc\n", "2 lines and a.de has 3"),
        ("a\nb\nc", "a\nb\n", "3 lines and a.de has 2"),
        ("", "a", "0 lines and a.de has 1"),
        ("a\n\n", "a\n", "2 lines and a.de has 1"),
    ],
)
def test_texts_of_different_length_are_refused_before_the_first_pair(aligned, source, target, counts):
    with pytest.raises(DataError, match=f"a.en has {counts}") as caught:
        next(aligned(source, target).pairs("train"))
    assert "a.en, " in caught.value.where
    assert caught.value.where.endswith("a.de")


def test_a_text_that_grows_while_it_is_read_is_noticed(aligned, tmp_path):
    source = aligned("a\n" * 9, "b\n" * 9)
    assert len(texts(source)) == 9
    with (tmp_path / "a.de").open("a") as file:
        file.write("more\n")
    with pytest.raises(DataError, match="changed while it was read"):
        texts(source)


def test_what_is_empty_is_left_out_and_counted(aligned):
    rejected = Rejected()
    source = aligned("one\n\n  \nfour\n" + "\n" * 2 + "x" * 100 + "\n", "eins\nzwei\n\t\n \u00a0\n\n\nx\n")
    assert [pair.place for pair in source.pairs("train", rejected)] == ["a.en:1", "a.en:7"]
    assert rejected.counts == {
        "empty on the source side": 1,
        "empty on both sides": 3,
        "empty on the target side": 1,
    }
    assert rejected.samples["empty on the source side"] == ("a.en:2", "zwei")
    assert rejected.samples["empty on the target side"] == ("a.en:4", "four")
    assert rejected.total == 5
    assert str(rejected).startswith("3 empty on both sides (a.en:3), 1 empty on the source side (a.en:2: ")
    assert str(Rejected()) == ""


def test_the_sides_that_are_empty_are_those_of_the_file(aligned):
    rejected = Rejected()
    assert list(aligned("\na", "b\nc", swap=True).pairs("train", rejected)) == [Pair("c", "a", "a.en:2")]
    assert rejected.counts == {"empty on the source side": 1}


def test_a_sample_is_no_longer_than_a_line():
    rejected = Rejected()
    rejected.add("too long", "a:1", "x" * 1000)
    rejected.add("too long", "a:2", "y")
    assert rejected.samples == {"too long": ("a:1", "x" * 60 + "…")}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", ""),
        ("\n\n\n", " (3 empty on both sides)"),
        (" \n\tx\n", " (1 empty on both sides, 1 empty on the target side)"),
    ],
)
def test_a_text_without_a_pair_is_refused(aligned, content, why):
    rejected = Rejected({"empty on both sides": 7}, {"empty on both sides": ("of another text", "")})
    with pytest.raises(DataError) as caught:
        list(aligned(content, content.replace("x", "")).pairs("train", rejected))
    assert caught.value.cause == f"no train pairs{why}"
    assert rejected.total == 7 + content.count("\n")


def test_nothing_is_changed_but_the_ends(aligned):
    """No normalisation of any kind: ligatures, accents that stand alone, double spaces, capitals."""
    odd = "ﬁne  Cafe\u0301\u00a0№ ½ \u200b ＡＢ ß\tx"
    assert texts(aligned(f" {odd}\u3000\n", f"\t{odd} ")) == [(odd, odd)]


def test_one_side_alone_asks_for_the_other(write):
    for path in write(a_en="a\n", a_txt="a\n", a_en_gz=gzip.compress(b"a\n")):
        with pytest.raises(UsageError, match="half a pair") as caught:
            open_parallel(path)
        assert caught.value.hint.endswith("--data.target=FILE")
    tsv, en = write(t_tsv="a\tb\n", a_en="a\n")
    with pytest.raises(UsageError) as caught:
        open_parallel(tsv, validation_source=en)
    assert caught.value.hint.endswith("--data.validation-target=FILE")


def test_what_does_not_go_together_is_refused(write, tmp_path):
    en, de, tsv, po = write(a_en="a\n", a_de="b\n", t_tsv="a\tb\n", c_po="")
    for arguments, options, complaint in (
        ((en, en), {}, "named twice"),
        ((tsv, de), {}, "t.tsv holds both sides"),
        ((en, tsv), {}, "t.tsv holds both sides"),
        ((en, de), {"source_field": "en", "target_field": "de"}, "have no names"),
        ((po,), {"source_field": "en", "target_field": "de"}, "have no names"),
        ((tsv,), {"source_field": "en"}, "one side has a name"),
        ((tsv,), {"target_field": "de"}, "one side has a name"),
        (("dates", de), {}, "dates is complete"),
        (("multi30k",), {"source_field": "de", "target_field": "en"}, "multi30k is complete"),
        (("dates",), {"validation_source": tsv}, "dates is complete"),
        ((tsv,), {"encoding": "klingon"}, "unknown encoding"),
        ((tsv,), {"encoding_errors": "guess"}, "encoding errors"),
    ):
        with pytest.raises(UsageError, match=complaint):
            open_parallel(*arguments, **options)
    with pytest.raises(DataError, match="empty word"):
        open_parallel(tsv, validation_target=de)
    with pytest.raises(UsageError, match="no test pairs") as caught:
        open_parallel(en, de).pairs("test")
    assert caught.value.hint == "one of: train"


def test_validation_pairs_may_have_files_of_their_own(write):
    en, de, tsv = write(a_en="a\n", a_de="b\n", v_tsv="c\td\n")
    assert open_parallel(en, de).splits() == ("train",)
    for validation in ((tsv,), (de, en)):
        named = dict(zip(("validation_source", "validation_target"), validation, strict=False))
        source = open_parallel(en, de, **named)
        assert source.splits() == ("train", "validation")
        assert texts(source) == [("a", "b")]
        assert texts(source, "validation") == [("c", "d") if tsv in validation else ("b", "a")]
        assert source.fingerprint != open_parallel(en, de).fingerprint


EN_DE = {"source_field": "en", "target_field": "de"}
EN_FR = {"source_field": "en", "target_field": "fr"}
BY_FLAGS = "--data.source-field=en --data.target-field=de"
BY_HAND = "write lines like"


@pytest.mark.parametrize(
    ("content", "options", "complaint"),
    [
        ("a\tb\nno tab\n", {}, "1 column, and there should be at least 2"),
        ("en\tx\tde\na\tb\n", EN_DE, "2 columns, and there should be at least 3"),
        ("a\tb\n\nde\ten", EN_DE, "no column \"en\" in the first line: 'a', 'b'"),
        ("", EN_DE, "no column"),
    ],
)  # fmt: skip
def test_a_line_without_its_columns_is_named(write, content, options, complaint):
    (path,) = write(t_tsv=content)
    with pytest.raises(DataError, match=complaint) as caught:
        texts(open_parallel(path, **options))
    assert caught.value.where == f"{path}, line {2 if 'should' in complaint else 1}"


def test_blank_lines_between_columns_are_counted_and_not_refused(write):
    rejected = Rejected()
    (path,) = write(t_tsv="a\tb\n\n  \t \nc\t\n\td\n")
    assert [pair.place for pair in open_parallel(path).pairs("train", rejected)] == ["t.tsv:1"]
    assert rejected.counts == {
        "empty on both sides": 2,
        "empty on the target side": 1,
        "empty on the source side": 1,
    }


@pytest.mark.parametrize(
    ("lines", "options", "complaint", "hint"),
    [
        (['{"id": "7", "en": "a", "de": "b"}'], {}, "3 texts in this line, not two: 'id', 'en', 'de'", BY_FLAGS),
        (['{"en": "a", "n": 1}'], {}, "1 text in this line, not two: 'en'", BY_HAND),
        (["{}"], {}, "0 texts in this line, not two: there are none", BY_HAND),
        (['{"translation": {"en": "a", "de": "b", "fr": "c"}}'], {}, "3 texts in this line", "--data.source-field=de"),
        (['{"en": "a", "de": "b"}'], EN_FR, "no text under the key 'fr': 'en', 'de'", BY_FLAGS),
        (['{"en": "a", "de": "b"}', '{"en": "a", "de": null}'], {}, "no text under the key 'de'", BY_HAND),
        (['{"en": "a", "de": "b"}', "[1]"], {}, "no JSON object", "one JSON object a line"),
        (['{"en": "a", "de": "b"}', '{"en": "a'], {}, "not JSON", "one JSON object a line"),
        (['{"en": "a", "de": "b\\u0000"}'], {}, "NUL", "drop it"),
        (['{"en": "a", "de": "\\ud800"}'], {}, "half a surrogate pair", "--data.encoding-errors=replace"),
        (['{"en": "a", "\\ud800": "b"}'], {}, "1 text in this line", BY_HAND),
    ],
)  # fmt: skip
def test_a_record_that_is_no_pair_is_named(write, lines, options, complaint, hint):
    (path,) = write(t_jsonl="\n".join(lines))
    with pytest.raises(DataError, match=complaint) as caught:
        texts(open_parallel(path, **options))
    assert caught.value.where == f"{path}, line {len(lines)}"
    assert caught.value.hint.startswith(hint)
    str(caught.value).encode()


def test_the_keys_of_the_first_record_are_those_of_all(write):
    (path,) = write(t_jsonl='{"en": "a", "n": 1, "de": "b"}\n\n{"de": "d", "x": "?", "en": "c"}\n')
    assert list(open_parallel(path).pairs("train")) == [
        Pair("a", "b", "t.jsonl:1"),
        Pair("c", "d", "t.jsonl:3"),
    ]


# What everything that is read has in common.

ENDINGS = ("en", "tsv", "jsonl", "po", "mo")


def opened(path: Path, **options: str) -> ParallelText:
    """Any file, beside a good one where one is not enough."""
    if path.suffix != ".en":
        return open_parallel(path, **options)
    other = path.with_suffix(".de")
    other.write_text("one\ntwo\n")
    return open_parallel(path, other, **options)


BAD = {
    "nothing": b"",
    "one character": b"x",
    "only line ends": b"\n\n",
    "a binary": b"\x7fELF\x02\x01\x01\0\0\0" * 9,
    "NULs": b"a\0b\tc\nd\te\n",
    "no UTF-8": b'{"a": "\xff", "b": "\xfe"}\n',
    "UTF-16": "en de\n".encode("utf-16"),
    "one long line": b"x" * 300_000,
    "brackets": b"[" * 100_000,
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("content", BAD)
def test_bad_input_is_refused_in_our_words(write, monkeypatch, ending, content):
    monkeypatch.setattr(readers, "MAX_LINE", 200_000)
    (path,) = write(**{f"bad_{ending}": BAD[content]})
    with pytest.raises(DataError) as caught:
        texts(opened(path))
    assert f"bad.{ending}" in f"{caught.value.where} {caught.value.cause}"
    assert caught.value.hint


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_no_file_is_refused_before_it_blocks(tmp_path, ending):
    pipe, folder, absent = (tmp_path / f"{name}.{ending}" for name in ("pipe", "folder", "absent"))
    os.mkfifo(pipe)
    for path, complaint in ((pipe, "a FIFO"), (absent, "no file or folder"), ("", "an empty word")):
        with pytest.raises(DataError, match=complaint):
            open_parallel(path)
    folder.mkdir()
    (tmp_path / "good.en").write_text("a\n")
    for bad, complaint in (
        (folder, "a folder"),
        (pipe, "a FIFO"),
        (absent, "no file or folder"),
        ("a\0b", "no file or folder"),
        ("/dev/zero", "a device"),
    ):
        with pytest.raises(DataError, match=complaint):
            open_parallel(tmp_path / "good.en", bad)


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_permission_is_the_surroundings_fault(write, monkeypatch, ending):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    (path,) = write(**{f"a_{ending}": b"a\tb\n"})
    source = opened(path)
    monkeypatch.setattr(Path, "open", refuse)  # the superuser, who runs some test suites, may read everything
    with pytest.raises(SurroundingsError, match="no permission"):
        texts(source)


@settings(max_examples=150)
@given(
    st.binary(max_size=60),
    st.sampled_from(ENDINGS),
    packing,
    st.sampled_from(["strict", "replace", "ignore"]),
)
def test_no_bytes_make_a_reader_fail_otherwise_than_in_our_words(
    tmp_path_factory, content, ending, packed, errors
):
    path = tmp_path_factory.getbasetemp() / f"any.{ending}{packed}"
    path.write_bytes(content)
    other = path.with_name("other.txt")
    other.write_bytes(b"\n" * content.count(b"\n"))
    with contextlib.suppress(PrimerError):
        for pair in open_parallel(path, other if ending == "en" else "", encoding_errors=errors).pairs(
            "train"
        ):
            f"{pair.source}{pair.target}".encode()


def test_an_encoding_that_is_asked_for_is_used(write):
    en, de, tsv = write(
        a_en="é".encode("latin-1"), a_de="ß".encode("latin-1"), t_tsv="é\tß".encode("latin-1")
    )
    for files in ((en, de), (tsv,)):
        with pytest.raises(DataError, match="is not utf-8"):
            texts(open_parallel(*files))
        assert texts(open_parallel(*files, encoding="latin-1")) == [("é", "ß")]
        assert "\N{REPLACEMENT CHARACTER}" in texts(open_parallel(*files, encoding_errors="replace"))[0][0]


def test_the_fingerprint_follows_everything_that_decides_the_pairs(write, tmp_path):
    en, de, tsv = write(a_en="a\n", a_de="b\n", t_tsv="a\tb\n")
    sources = [
        open_parallel(en, de),
        open_parallel(de, en),
        open_parallel(en, de, swap=True),
        open_parallel(en, de, encoding="latin-1"),
        open_parallel(en, de, encoding_errors="replace"),
        open_parallel(tsv),
        open_parallel(tsv, source_field="a", target_field="b"),
        open_parallel(tsv, source_field="b", target_field="a"),
        open_parallel(tsv, validation_source=tsv),
        open_parallel("dates"),
        open_parallel("dates", swap=True),
    ]
    assert len({source.fingerprint for source in sources}) == len(sources)
    moved = [path.rename(path.with_stem("moved")) for path in (en, de)]
    assert open_parallel(*moved).fingerprint == sources[0].fingerprint
    moved[1].write_text("c\n")
    assert open_parallel(*moved).fingerprint != sources[0].fingerprint


def test_dates_are_opened_by_name():
    source = open_parallel("dates")
    assert source.splits() == SPLITS
    assert {split: list(source.pairs(split)) for split in SPLITS} == {
        split: list(dates.dates(split)) for split in SPLITS
    }
    turned = open_parallel("dates", swap=True)
    assert texts(turned, "test") == [(target, text) for text, target in texts(source, "test")]


def test_dates_of_another_version_have_another_fingerprint(monkeypatch):
    before = open_parallel("dates").fingerprint
    monkeypatch.setattr(dates, "VERSION", dates.VERSION + 1)
    assert open_parallel("dates").fingerprint != before


def test_a_file_of_a_sources_name_is_reached_by_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("dates", "other"):
        Path(name).write_text("mine\n")
    assert open_parallel("dates").licence == dates.LICENCE
    assert (
        texts(open_parallel("./dates", "other"))
        == texts(open_parallel(Path("dates"), "other"))
        == [("mine", "mine")]
    )
    with pytest.raises(DataError, match="no file or folder") as caught:
        open_parallel("multi30")
    assert caught.value.hint == "did you mean multi30k?"
    assert NAMED == ("dates", "multi30k")


def test_multi30k_is_the_published_one(real_data):
    """The outsiders are zcat and wc; the README of the dataset has the same counts."""
    source = open_parallel("multi30k")
    assert source.splits() == SPLITS
    for split, count in (("train", 29_000), ("validation", 1_014), ("test", 1_000)):
        rejected = Rejected()
        found = texts(source, split)
        assert len(found) == count
        assert rejected.total == 0
        for side, asset in enumerate(MULTI30K[split]):
            text = subprocess.run(["zcat", real_data / asset.path], capture_output=True, check=True).stdout
            assert text.count(b"\n") == count
            assert (
                hashlib.sha256("".join(f"{pair[side]}\n" for pair in found).encode()).digest()
                == hashlib.sha256(b"".join(line.strip() + b"\n" for line in text.split(b"\n")[:-1])).digest()
            )
    assert texts(source)[0] == (
        "Two young, White males are outside near many bushes.",
        "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche.",
    )
    assert (
        texts(open_parallel("multi30k", swap=True), "test")[0][1]
        == "A man in an orange hat starring at something."
    )
    assert "research" in source.licence


def test_a_damaged_multi30k_is_refused(tmp_path, monkeypatch):
    (tmp_path / "multi30k").mkdir()
    (tmp_path / "multi30k/train.en.gz").write_bytes(gzip.compress(b"another\n"))
    monkeypatch.setenv("PRIMER_DATA", str(tmp_path))
    with pytest.raises(DataError, match="this is not Multi30k's train"):
        open_parallel("multi30k")
