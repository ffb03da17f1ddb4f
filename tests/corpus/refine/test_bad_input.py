"""Whatever the input is: no run dies of it, and nothing of it goes uncounted."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crawls import archive, page, prose, record
from primer.corpus.refine.kept import Corpus
from primer.corpus.refine.plan import make
from primer.corpus.refine.recipe import resolve
from primer.corpus.refine.report import merged
from primer.corpus.refine.run import run
from primer.corpus.refine.store import stored
from primer.errors import DataError, UsageError


def refined(out: Path, inputs: list[Path], recipe: str = "fineweb-fast", **flags: object) -> dict[str, str]:
    """What became of every document, by id; all that came in is in it."""
    config = resolve(recipe, {key.replace("__", "."): value for key, value in flags.items()}).config
    plan = make(config, inputs, out, lambda *_: None)
    run(plan, 1)
    found = {each.id: "kept" for each in Corpus.open(out).documents()}
    for path in sorted(out.glob("dropped/*/*.parquet")):
        for table in stored(path):
            found |= {row["id"]: row["reason"] for row in table.to_pylist()}
    counts = merged(plan)["counts"]
    assert sum(values[0] for reasons in counts.values() for values in reasons.values()) == len(found)
    rows = sum(
        table.num_rows
        for unit in plan.units
        for table in stored(plan.folder("annotate") / f"{unit.name}.parquet", ["id"])
    )
    assert rows == len(found)
    return found


def test_every_real_damaged_file_is_survived_and_counted(real_data: Path, tmp_path: Path) -> None:
    folders = [real_data / "warc-bad", real_data / "warc-samples"]
    found = refined(tmp_path / "out", folders)
    reasons = list(found.values())
    assert len(found) == 135
    assert reasons.count("truncated") == 2
    assert reasons.count("corrupt") == 1
    assert reasons.count("not_an_archive") == 2
    assert reasons.count("binary") == 1


def test_pages_that_break_parsers(tmp_path: Path) -> None:
    deep = b"<html><body>" + b"<div>" * 100_000 + b"text" + b"</div>" * 100_000
    png = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
    good = page(prose(1))
    wrong = "Предложение по-русски, которое стоит здесь. ".encode("koi8-r") * 20
    records = [
        record("http://x.example/deep", deep),
        record("http://x.example/png", png),
        record("http://x.example/nul", b"\0" * 5000),
        record("http://x.example/lies", b"<p>" + wrong, content_type="text/html; charset=utf-8"),
        record("http://x.example/open", b"<table><tr><td><a href='" + b"x" * 100_000),
        record("http://x.example/good", good),
    ]
    found = refined(tmp_path / "out", [archive(tmp_path / "a.warc.gz", records)])
    assert len(found) == 6
    assert list(found.values()).count("kept") == 1


def test_a_bomb_and_a_page_that_is_too_large(tmp_path: Path) -> None:
    bomb = gzip.compress(record("http://x.example/bomb", b"<p>" + bytes(20 << 20)), mtime=0)
    large = record("http://x.example/large", b"<p>" + b"words and more " * 200_000)
    path = archive(tmp_path / "a.warc.gz", [record("http://x.example/1", page(prose(1))), large])
    path.write_bytes(
        path.read_bytes() + bomb + gzip.compress(record("http://x.example/2", page(prose(2))), mtime=0)
    )
    found = refined(tmp_path / "out", [path], records__max_bytes=1 << 20)
    assert sorted(found.values()) == ["kept", "kept", "too_large", "too_large"]


def test_lines_that_are_no_json_and_rows_that_are_no_text(tmp_path: Path) -> None:
    text, other = (" ".join(prose(seed, 4)) for seed in (3, 5))
    lines = [
        json.dumps({"text": text}).encode(),
        b"{ this is not json",
        b"[1, 2, 3]",
        json.dumps({"text": 7}).encode(),
        b"",
        b'{"text": "\xff\xfe"}',
        json.dumps({"content": text}).encode(),
        b'{"text": "' + b"x" * 3000 + b'"}',
        json.dumps({"text": other + "\0 \ud800", "url": "http://x.example/"}).encode(),
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    found = refined(tmp_path / "out", [tmp_path / "a.jsonl"], "plain", records__max_bytes=2048)
    assert list(dict(sorted(found.items(), key=lambda each: int(each[0].partition("#")[2]))).values()) == [
        "kept",
        "not_json",
        "no_text",
        "no_text",
        "empty",
        "undecodable",
        "no_text",
        "too_large",
        "kept",
    ]


def test_tables_with_other_columns_and_broken_ones(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["a text", "another"]}), tmp_path / "other.parquet")
    pq.write_table(pa.table({"text": [" ".join(prose(4)), None, ""]}), tmp_path / "text.parquet")
    whole = (tmp_path / "text.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    found = refined(tmp_path / "out", sorted(tmp_path.glob("*.parquet")), "plain")
    assert sorted(found.values()) == ["corrupt", "empty", "kept", "no_text", "no_text", "no_text"]


def test_texts_in_other_encodings_and_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "utf16.txt").write_bytes("Ein Text mit Umlauten: äöü.\n".encode("utf-16") * 3)
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(b"some text " * 10_000)[:50])
    found = refined(tmp_path / "out", sorted(tmp_path.glob("*.txt*")), "plain")
    assert found == {
        "utf16.txt#0": "kept",
        "binary.txt#0": "undecodable",
        "empty.txt#0": "empty",
        "cut.txt.gz#0": "corrupt",
    }


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_mutated_archives(tmp_path: Path, count: int) -> None:
    """Bits flipped, stretches cut out, doubled, spliced: everything is counted, and nothing is raised."""
    chance = random.Random(7)
    records = [record(f"http://x.example/{number}", page(prose(number, 3))) for number in range(6)]
    original = archive(tmp_path / "original.warc.gz", records).read_bytes()
    folder = tmp_path / "mutated"
    folder.mkdir()
    for number in range(count):
        data = bytearray(original)
        for _ in range(chance.randrange(1, 4)):
            start = chance.randrange(len(data))
            stop = min(len(data), start + chance.randrange(1, 400))
            match chance.randrange(4):
                case 0:
                    data[start] ^= 1 << chance.randrange(8)
                case 1:
                    del data[start:stop]
                case 2:
                    data[start:start] = data[start:stop]
                case 3:
                    data[start:stop] = chance.randbytes(stop - start)
        (folder / f"{number}.warc.gz").write_bytes(data)
    found = refined(tmp_path / "out", [folder])
    assert len(found) > 5 * count


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    recipe = resolve("fineweb-fast").config
    with pytest.raises(DataError, match="nothing to read"):
        make(recipe, [tmp_path], tmp_path / "out", lambda *_: None)
    with pytest.raises(DataError, match="no file or folder"):
        make(recipe, [tmp_path / "missing.warc"], tmp_path / "out", lambda *_: None)


def test_the_same_file_twice_is_refused(tmp_path: Path) -> None:
    one = archive(tmp_path / "one" / "a.warc.gz", [record("http://x.example/", page(prose(1)))])
    two = archive(tmp_path / "two" / "a.warc.gz", [record("http://x.example/", page(prose(1)))])
    with pytest.raises(UsageError, match="named twice"):
        make(resolve("fineweb-fast").config, [one, two], tmp_path / "out", lambda *_: None)
