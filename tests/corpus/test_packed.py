"""Packed files are what their unpacked ones are, and damaged ones are refused in our words."""

import gzip
import random
import sys

import pyarrow
import pytest

from primer.corpus import open_source
from primer.corpus.readers import Decoding, read_jsonl, read_text
from primer.errors import DataError, SurroundingsError

TEXT = "Grüße – 😀\nfrom a packed file\n" * 999
LINES = "".join(f'{{"text": "row {n} of many"}}\n' for n in range(3000))


def packed(kind: str, content: bytes) -> bytes:
    if kind == ".gz":
        return gzip.compress(content)
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


KINDS = pytest.mark.parametrize("kind", [".gz", ".zst"])


@KINDS
def test_a_folder_of_packed_files_is_that_of_unpacked_ones(kind, tmp_path):
    for folder, pack in (
        ("plain", lambda content: content),
        ("packed", lambda content: packed(kind, content)),
    ):
        (tmp_path / folder).mkdir()
        ending = kind if folder == "packed" else ""
        (tmp_path / folder / f"a.txt{ending}").write_bytes(pack(TEXT.encode()))
        (tmp_path / folder / f"b.jsonl{ending}").write_bytes(pack(LINES.encode()))
    plain, unpacked = (open_source(tmp_path / folder) for folder in ("plain", "packed"))
    assert "".join(unpacked.text()) == "".join(plain.text())
    assert len(list(unpacked.documents())) == 3001
    assert unpacked.readers() == plain.readers() == ["read_jsonl", "read_text"]


@KINDS
def test_several_packed_streams_in_one_file_are_read_to_the_end(kind, tmp_path):
    """As `cat a.gz b.gz` makes them, and parallel packers."""
    path = tmp_path / f"two.txt{kind}"
    path.write_bytes(packed(kind, b"one\n") + packed(kind, b"two\n"))
    assert "".join(document.text for document in read_text(path, "two", Decoding())) == "one\ntwo\n"


@KINDS
@pytest.mark.parametrize("read", [read_text, read_jsonl])
def test_every_damage_is_refused_or_harmless(kind, read, tmp_path):
    """What is read is what was written, or nothing is. (zstd's checksum is optional, and this writer leaves it out.)"""
    path = tmp_path / f"x{kind}"
    content = TEXT if read is read_text else LINES
    good = packed(kind, content.encode())
    expected = _written(read, path, good)
    chance = random.Random(1)
    for _ in range(60):
        bad = bytearray(good)
        place = chance.randrange(len(bad)) if chance.random() < 0.9 else 0
        if kind == ".zst" or chance.random() < 0.5:
            del bad[place:]
        else:
            bad[place] ^= 1 << chance.randrange(8)
        found, error = outcome(read, path, bytes(bad))
        assert found == expected or (error and str(path) in str(error.where)), place


def outcome(read, path, content):
    try:
        return _written(read, path, content), None
    except DataError as error:
        return None, error


def _written(read, path, content):
    path.write_bytes(content)
    return [document.text for document in read(path, "x", Decoding())]


@KINDS
def test_what_is_not_packed_at_all_is_said(kind, tmp_path):
    (tmp_path / f"x.txt{kind}").write_bytes(b"plain text, not packed")
    with pytest.raises(DataError, match=f"not a readable {kind} file"):
        list(read_text(tmp_path / f"x.txt{kind}", "x", Decoding()))


def test_zst_needs_the_extra(tmp_path, monkeypatch):
    (tmp_path / "x.txt.zst").write_bytes(packed(".zst", b"text"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SurroundingsError, match="pyarrow is not installed") as caught:
        list(read_text(tmp_path / "x.txt.zst", "x", Decoding()))
    assert "gpt-primer[corpus]" in str(caught.value.hint)
