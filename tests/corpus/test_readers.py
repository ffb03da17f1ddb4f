import builtins
import codecs
import contextlib
import json
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primer.corpus import readers
from primer.corpus.readers import (
    Decoding,
    count_lines,
    read_jsonl,
    read_lines,
    read_parquet,
    read_text,
    require_regular,
)
from primer.errors import DataError, PrimerError, SurroundingsError, UsageError

STRICT = Decoding()


def text_of(path: Path, decoding: Decoding = STRICT) -> str:
    return "".join(document.text for document in read_text(path, path.name, decoding))


@pytest.fixture
def file(tmp_path):
    def write(content: bytes, name: str = "text.txt") -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


@settings(max_examples=50)
@given(
    text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), block=st.integers(4, 9)
)
def test_text_is_what_python_reads_however_it_is_cut(tmp_path_factory, text, block):
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "BLOCK", block)
        assert text_of(path) == path.read_text(encoding="utf-8-sig")


def test_a_long_line_streams_in_pieces(file):
    path = file(b"x" * (5 << 20))
    parts = [(document.part, len(document.text)) for document in read_text(path, "one", STRICT)]
    assert [part for part, _ in parts] == [0, 1, 2, 3, 4]
    assert max(size for _, size in parts) <= 1 << 20


def test_every_newline_becomes_the_same_one(file, monkeypatch):
    monkeypatch.setattr(readers, "BLOCK", 3)  # cuts between \r and \n
    assert text_of(file(b"ab\r\ncd\re\n\r\n")) == "ab\ncd\ne\n\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_byte_order_mark_chooses_the_encoding_and_is_dropped(file, encoding):
    marks = {name: mark for mark, name in readers._BOMS}
    assert text_of(file(marks[encoding] + "naïve – 😀\n".encode(encoding))) == "naïve – 😀\n"


def test_an_encoding_that_is_asked_for_is_used(file):
    assert text_of(file(b"na\xefve"), Decoding("latin-1")) == "naïve"
    assert text_of(file("naïve".encode("utf-16")), Decoding("utf-16")) == "naïve"
    assert text_of(file(codecs.BOM_UTF16_LE), Decoding("latin-1")) == "ÿþ"


@pytest.mark.parametrize("before", [0, 1, 7, 8, 9, 1000])
def test_invalid_utf_8_is_named_with_its_offset(file, monkeypatch, before):
    monkeypatch.setattr(readers, "BLOCK", 8)
    path = file("é".encode() * before + b"\xff rest")
    with pytest.raises(DataError, match=rf"0xff at offset {2 * before} is not utf-8") as caught:
        text_of(path)
    assert caught.value.where == str(path)
    assert caught.value.hint.endswith("--data.encoding-errors=replace")


def test_a_character_cut_off_at_the_end_is_named_with_its_offset(file):
    with pytest.raises(DataError, match="0xe2 at offset 3 "):
        text_of(file(b"abc\xe2\x82"))


def test_the_offset_counts_the_byte_order_mark(file):
    with pytest.raises(DataError, match="offset 5 "):
        text_of(file(codecs.BOM_UTF8 + b"ab\xff"))


def test_bytes_that_are_no_text_can_be_replaced_or_dropped(file):
    path = file(b"a\xffb")
    assert text_of(path, Decoding(errors="replace")) == "a\N{REPLACEMENT CHARACTER}b"
    assert text_of(path, Decoding(errors="ignore")) == "ab"


@pytest.mark.parametrize("errors", ["strict", "replace", "ignore"])
def test_a_binary_is_refused_with_the_offset_of_its_first_nul(file, monkeypatch, errors):
    monkeypatch.setattr(readers, "BLOCK", 16)
    with pytest.raises(DataError, match="binary, not text: a NUL at byte 40"):
        text_of(file(b"a" * 40 + b"\0\x01\x02"), Decoding(errors=errors))


def test_a_nul_in_utf_16_is_refused_too(file):
    with pytest.raises(DataError, match="binary"):
        text_of(file("a\0b".encode("utf-16")))


@pytest.mark.parametrize("encoding", ["klingon", "hex", "rot13", "undefined"])
def test_an_encoding_that_is_none_is_refused(encoding):
    with pytest.raises(UsageError, match="unknown encoding"):
        Decoding(encoding)


def test_a_way_with_errors_that_smuggles_bytes_is_refused():
    with pytest.raises(UsageError, match="strict, replace or ignore"):
        Decoding(errors="surrogateescape")


def test_a_missing_file_is_bad_data(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        text_of(tmp_path / "absent.txt")


def test_no_permission_is_the_surroundings_fault(file, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    path = file(b"secret")
    monkeypatch.setattr(Path, "open", refuse)  # the superuser, who runs some test suites, may read everything
    with pytest.raises(SurroundingsError, match="no permission") as caught:
        text_of(path)
    assert caught.value.where == str(path)


def test_a_fifo_is_refused_before_it_blocks(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(DataError, match="a FIFO"):
        require_regular(tmp_path / "pipe.txt")


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_is_refused(device):
    with pytest.raises(DataError, match="a device"):
        require_regular(Path(device))


def test_a_socket_a_folder_and_a_broken_link_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        with pytest.raises(DataError, match="a socket"):
            require_regular(Path("s"))
    with pytest.raises(DataError, match="a folder"):
        require_regular(tmp_path)
    (tmp_path / "link.txt").symlink_to("nowhere")
    with pytest.raises(DataError, match="no such file"):
        require_regular(tmp_path / "link.txt")


def jsonl(path: Path, decoding: Decoding = STRICT) -> list[tuple[str, str]]:
    return [(document.id, document.text) for document in read_jsonl(path, "docs.jsonl", decoding)]


def test_json_lines_give_a_document_each(file):
    path = file(b'\xef\xbb\xbf{"text": "one\\r\\ntwo"}\n\n  \n{"text": "\\u00e9", "id": "e", "other": [1]}')
    assert jsonl(path) == [("docs.jsonl#1", "one\ntwo"), ("e", "é")]


plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"))


@given(st.lists(plain), st.booleans())
def test_what_is_written_as_json_lines_is_read(tmp_path_factory, texts, ascii_only):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    lines = [json.dumps({"text": text}, ensure_ascii=ascii_only) for text in texts]
    path.write_bytes("\n".join(lines).encode())
    assert [text for _, text in jsonl(path)] == texts


@given(
    st.binary(),
    st.sampled_from([read_text, read_jsonl, read_parquet]),
    st.sampled_from(["strict", "replace"]),
)
def test_no_bytes_make_a_reader_fail_otherwise_than_in_our_words(tmp_path_factory, content, reader, errors):
    path = tmp_path_factory.getbasetemp() / "any.bin"
    path.write_bytes(content)
    with contextlib.suppress(PrimerError):
        for document in reader(path, "any", Decoding(errors=errors)):
            document.text.encode()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b'{"text": "cut', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'["text"]', "no JSON object"),
        (b'{"body": "x"}', 'key "text"'),
        (b'{"text": 3}', 'key "text"'),
        (b'{"text": "a\xff"}', "byte 11 of the line is not utf-8"),
        (b'{"text": "a\\u0000"}', "NUL"),
        (b'{"text": "a\\ud800"}', "half a surrogate pair at character 1"),
    ],
)
def test_a_broken_line_is_named_by_its_number(file, line, complaint):
    path = file(b'{"text": "fine"}\n\n' + line + b"\n", "docs.jsonl")
    with pytest.raises(DataError, match=complaint) as caught:
        jsonl(path)
    assert caught.value.where == f"{path}, line 3"


def test_broken_characters_in_json_can_be_replaced(file):
    path = file(b'{"text": "a\xff\\ud800b"}')
    assert set(jsonl(path, Decoding(errors="replace"))[0][1]) == {"a", "b", "\N{REPLACEMENT CHARACTER}"}


def test_a_record_without_end_is_refused(file, monkeypatch):
    monkeypatch.setattr(readers, "MAX_LINE", 1 << 20)
    path = file(json.dumps({"text": "x" * (1 << 20)}).encode())
    with pytest.raises(DataError, match="more than 1 MiB"):
        jsonl(path)


def test_parquet_without_pyarrow_names_the_command(file, monkeypatch):
    ordinary = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return ordinary(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SurroundingsError) as caught:
        list(read_parquet(file(b"PAR1"), "t", STRICT))
    assert 'pip install "gpt-primer[corpus]"' in caught.value.hint


def test_parquet_gives_a_document_a_row(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra [corpus]")
    pytest.importorskip("pyarrow.parquet", reason="needs the extra [corpus]")
    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(
        pyarrow.table({"text": [f"row {i}" for i in range(1000)], "n": [0] * 1000}), path
    )
    assert [d.text for d in read_parquet(path, "t", STRICT)] == [f"row {i}" for i in range(1000)]
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", None]}), path)
    with pytest.raises(DataError, match="no text") as caught:
        list(read_parquet(path, "t", STRICT))
    assert caught.value.where == f"{path}, row 2"
    pyarrow.parquet.write_table(pyarrow.table({"body": ["a"]}), path)
    with pytest.raises(DataError, match='no column "text"'):
        list(read_parquet(path, "t", STRICT))


def test_what_is_no_parquet_is_refused(file):
    pytest.importorskip("pyarrow", reason="needs the extra [corpus]")
    with pytest.raises(DataError, match="Parquet"):
        list(read_parquet(file(b"PAR1 or so PAR1"), "t", STRICT))


def test_a_record_may_keep_its_text_under_another_name(file):
    path = file(b'{"id": "7", "content": "here"}\n', "docs.jsonl")
    with pytest.raises(DataError, match='key "text"') as caught:
        jsonl(path)
    assert caught.value.hint == "--data.field=content"
    documents = read_jsonl(path, "docs.jsonl", Decoding(field="content"))
    assert [document.text for document in documents] == ["here"]


@settings(max_examples=200)
@given(
    text=st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff")
        | st.sampled_from("\r\n\f\x85\u2028")
    ),
    block=st.integers(4, 9),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_lines_are_those_of_python_however_they_are_cut(tmp_path_factory, text, block, encoding):
    """The outsider is `open`, which knows three line ends and no others."""
    path = tmp_path_factory.getbasetemp() / "lines.txt"
    path.write_bytes(text.encode(encoding))
    with path.open(encoding=encoding) as file:
        expected = [line.removesuffix("\n") for line in file]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "BLOCK", block)
        assert list(read_lines(path, STRICT)) == expected
        assert count_lines(path, STRICT) == len(expected)


def test_a_line_without_end_is_refused_by_its_number(file, monkeypatch):
    monkeypatch.setattr(readers, "MAX_LINE", 1 << 20)
    path = file(b"short\n" + b"x" * (1 << 20) + b"\n")
    assert [len(line) for line in read_lines(path, STRICT)] == [5, 1 << 20]
    with pytest.raises(DataError, match="more than 1,048,576 characters") as caught:
        list(read_lines(file(b"short\n" + b"x" * (5 << 20)), STRICT))
    assert caught.value.where.endswith("text.txt, line 2")
