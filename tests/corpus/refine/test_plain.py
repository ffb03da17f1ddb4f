"""Texts, JSON lines and tables: however a file is cut, each line and row counts once; what may pass is no damage."""

from __future__ import annotations

import errno
import gzip
import json
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from primer.corpus.duplicates.clusters import sizes
from primer.corpus.refine import jobs, near, plain
from primer.corpus.refine.inputs import Input, find, stretches, units
from primer.corpus.refine.pages import Page
from primer.corpus.refine.plan import Plan, make
from primer.corpus.refine.recipe import Records, resolve
from primer.corpus.refine.run import run
from primer.corpus.refine.store import stored
from primer.errors import PrimerError, SurroundingsError

PLAIN = resolve("plain").config
Cuts = list[tuple[int, int | None]]


def given(path: Path) -> Input:
    (each,) = find([path], {}, lambda *_: None)
    return each


def rows(path: Path, cuts: Cuts | None = None, **records: Any) -> list[Page]:
    """All rows of a file, in stretches."""
    wanted = replace(Records(), **records)
    each = given(path)
    return [page for start, stop in cuts or [(0, None)] for page in plain.read(each, start, stop, wanted)]


def said(pages: list[Page]) -> list[tuple[str, int, str | None]]:
    return [(page.id.partition("#")[2], page.bytes, page.record_reason) for page in pages]


# Cuts


@pytest.mark.parametrize("block", [16, 5000])
def test_a_line_counts_once_whatever_goes_through_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(plain, "BLOCK", block)
    path = tmp_path / "a.jsonl"
    texts = ["a b c", "z" * 1100, "", "y" * 40, "x" * 5000, "last"]
    path.write_text("\n\n".join(json.dumps({"text": text}) for text in texts))
    size = path.stat().st_size
    chance = random.Random(3)
    for most in (1024, 2000, 6000):
        whole = said(rows(path, max_bytes=most))
        assert sum(each[1] for each in whole) == size
        assert len(whole) == 2 * len(texts) - 1
        for _ in range(50):
            places = sorted({0, size, *(chance.randrange(size) for _ in range(chance.randrange(1, 12)))})
            assert said(rows(path, list(pairwise(places)), max_bytes=most)) == whole


def test_a_long_line_of_a_cut_file_is_one_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("a b c", "z" * 1_600_000, "end")))
    inputs = find([path], {}, lambda *_: None)
    parts = [part for unit in units(inputs, stretches) for part in unit.parts]
    assert len(parts) == 2
    found = rows(path, [(part.start, part.stop) for part in parts], max_bytes=2000)
    assert [page.record_reason for page in found] == [None, "too_large", None]


def test_a_last_line_that_is_just_short_enough_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    size = path.write_text(json.dumps({"text": "a" * 1100}))
    assert said(rows(path, max_bytes=size)) == [("0", size, None)]
    assert said(rows(path, max_bytes=size - 1)) == [("0", size, "too_large")]


# What may pass


def written(folder: Path, ending: str) -> Path:
    path = folder / f"a{ending}"
    content = {".txt": b"some words\n", ".jsonl": b'{"text": "some words"}\n'}
    if ending == ".parquet":
        pq.write_table(pa.table({"text": ["some words"]}), path)
    elif ending.endswith(".zst"):
        with pa.CompressedOutputStream(str(path), "zstd") as file:
            file.write(content[path.with_suffix("").suffix] * 1000)
    else:
        data = content[path.suffix if path.suffix != ".gz" else path.with_suffix("").suffix]
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


ENDINGS = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_that_is_gone_for_a_moment_is_no_damaged_one(tmp_path: Path, ending: str) -> None:
    path = written(tmp_path, ending)
    each = given(path)
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(SurroundingsError, match="No such file") as error:
        list(plain.read(each, 0, None, Records()))
    assert error.value.where == str(path)
    assert error.value.hint
    (tmp_path / "elsewhere").rename(path)
    assert {page.record_reason for page in plain.read(each, 0, None, Records())} == {None}


class Failing:
    """A file of a disk that fails."""

    def __init__(self, code: int) -> None:
        self.error = OSError(code, os.strerror(code))

    def _fail(self, *_: Any) -> bytes:
        raise self.error

    read = read1 = readinto = readline = seek = _fail

    def peek(self, _: int) -> bytes:
        return b"\x1f"

    closed = False
    readable = seekable = lambda _: True
    tell = lambda _: 0  # noqa: E731
    flush = close = lambda _: None

    def __enter__(self) -> Failing:
        return self

    def __exit__(self, *_: object) -> None: ...


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EACCES])
@pytest.mark.parametrize("ending", ENDINGS[:-1])
def test_a_disk_that_fails_while_it_is_read_is_no_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, code: int
) -> None:
    each = given(written(tmp_path, ending))
    monkeypatch.setattr(Path, "open", lambda *_: Failing(code))
    with pytest.raises(SurroundingsError):
        list(plain.read(each, 0, None, Records()))


def test_a_disk_that_fails_below_a_table_is_no_damaged_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, ".parquet")
    each = given(path)

    def fail(*_: Any, **__: Any) -> Iterator[Any]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", fail)
    with pytest.raises(SurroundingsError, match="Input/output"):
        list(plain.read(each, 0, None, Records()))
    monkeypatch.setattr(pq, "ParquetFile", fail)
    with pytest.raises(SurroundingsError, match="Input/output"):
        plain.row_groups(path, 1)


def test_a_corpus_heals_when_a_file_is_there_again(tmp_path: Path) -> None:
    path = written(tmp_path, ".txt")
    hidden = tmp_path / "hidden"

    def planned() -> Plan:
        return make(PLAIN, [path], tmp_path / "out", lambda *_: None)

    plan = planned()
    path.rename(hidden)
    with pytest.raises(SurroundingsError, match="No such file"):
        run(plan, 1)
    hidden.rename(path)
    run(planned(), 1)
    assert len(list((tmp_path / "out").glob("kept/*.parquet"))) == 1
    assert not list((tmp_path / "out").glob("dropped/records/*.parquet"))


@pytest.mark.parametrize("ending", [".txt.gz", ".jsonl.gz", ".jsonl.zst", ".parquet"])
def test_damage_is_a_row_and_never_raises(tmp_path: Path, ending: str) -> None:
    original = written(tmp_path, ending).read_bytes()
    path = tmp_path / f"damaged{ending}"
    chance = random.Random(5)
    reasons = set()
    for _ in range(300):
        data = bytearray(original)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data[: chance.choice([len(data), chance.randrange(len(data))])])
        each = given(path)
        reasons |= {page.record_reason for start, stop in stretches(each, 1 << 20)
                    for page in plain.read(each, start, stop, Records())}  # fmt: skip
    assert "corrupt" in reasons


# Tables


def test_no_byte_of_a_damaged_table_counts_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = [f"words and more words {number} " * 20 for number in range(400)]
    pq.write_table(
        pa.table({"text": texts}), path, row_group_size=100, compression="none", use_dictionary=False
    )
    data = bytearray(path.read_bytes())
    for place in range(4, len(data) * 3 // 4, 997):
        data[place : place + 60] = b"\xff" * 60
    path.write_bytes(data)
    cuts = plain.row_groups(path, 1)
    assert len(cuts) == 4
    lost = [page for page in rows(path, cuts) if page.record_reason == "corrupt"]
    assert len(lost) > 1
    assert 0 < sum(page.bytes for page in lost) <= len(data)
    assert len({page.id for page in lost}) == len(lost)
    path.write_bytes(data[:-20])
    assert said(rows(path)) == [("0+", len(data) - 20, "corrupt")]
    assert sum(page.bytes for page in rows(path, cuts)) == len(data) - 20
    assert len({page.id for page in rows(path, cuts)}) == 4


def test_rows_are_the_same_however_a_table_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    columns = {
        "text": [None, "", " \n", "x" * 5000, *(f"text {number}\r\n\0" for number in range(300))],
        "url": [f"http://x.example/{number}" for number in range(304)],
    }
    pq.write_table(pa.table(columns), path, row_group_size=70)
    whole = rows(path, max_bytes=4096)
    assert said(whole)[:5] == [
        ("0", 0, "no_text"), ("1", 0, "empty"), ("2", 2, "empty"), ("3", 5000, "too_large"), ("4", 9, None)
    ]  # fmt: skip
    assert (whole[4].text, whole[4].url, whole[4].date) == ("text 0\n\ufffd", "http://x.example/4", "")
    assert len(whole) == 304
    cuts = plain.row_groups(path, 1)
    assert len(cuts) == 5
    assert rows(path, cuts, max_bytes=4096) == whole


@pytest.mark.parametrize("kind", ["large_string", "string_view", "dictionary"])
def test_texts_of_every_kind_of_string(tmp_path: Path, kind: str) -> None:
    plain_texts = pa.array(["eins", None, "zwei", "zwei"])
    made = plain_texts.dictionary_encode() if kind == "dictionary" else plain_texts.cast(getattr(pa, kind)())
    pq.write_table(pa.table({"text": made, "url": made}), tmp_path / "a.parquet")
    found = rows(tmp_path / "a.parquet")
    assert [(page.text, page.url) for page in found] == [
        ("eins", "eins"), (None, ""), ("zwei", "zwei"), ("zwei", "zwei")
    ]  # fmt: skip


def test_a_row_that_is_no_utf8_costs_itself(tmp_path: Path) -> None:
    bad = pa.Array.from_buffers(
        pa.string(),
        3,
        [None, pa.py_buffer(b"\0\0\0\0\3\0\0\0\5\0\0\0\7\0\0\0"), pa.py_buffer(b"one\xff\xfeto")],
    )
    pq.write_table(pa.table({"text": bad, "url": bad}), tmp_path / "a.parquet")
    found = rows(tmp_path / "a.parquet")
    assert [(page.text, page.record_reason) for page in found] == [
        ("one", None), (None, "undecodable"), ("to", None)
    ]  # fmt: skip


@pytest.mark.parametrize("how", ["pages", "dictionary", "typed"])
def test_memory_is_that_of_a_row_and_of_what_the_file_has_in_one_piece(tmp_path: Path, how: str) -> None:
    """64 rows of a table were read at once, and a small file took gigabytes."""
    size, path = 1 << 20, tmp_path / "a.parquet"
    texts = pa.array([f"{number % (100 if how == 'pages' else 3):03d}" + "x" * size for number in range(100)])
    pq.write_table(
        pa.table({"text": texts.dictionary_encode() if how == "typed" else texts}),
        path,
        compression="zstd",
        write_batch_size=1,
        use_dictionary=how != "pages",
        dictionary_pagesize_limit=8 * size,
    )
    del texts
    assert path.stat().st_size < size
    each, before = given(path), pa.default_memory_pool()
    counted = pa.proxy_memory_pool(before)
    pa.set_memory_pool(counted)
    try:
        assert sum(page.record_reason is None for page in plain.read(each, 0, None, Records())) == 100
    finally:
        pa.set_memory_pool(before)
    assert 0 < (counted.max_memory() or 0) < 16 * size


# Copies


def test_sizes_of_clusters_are_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for each unit, which took time in proportion to their number squared."""
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text("the same words in each of them\n")
    monkeypatch.setattr("primer.corpus.refine.inputs.UNIT_LEAST", 1)
    plan = make(PLAIN, sorted(tmp_path.glob("*.txt")), tmp_path / "out", lambda *_: None)
    assert len(plan.units) == 3
    calls = []

    def counted(labels: Any) -> Any:
        calls.append(len(labels))
        return sizes(labels)

    monkeypatch.setattr(near, "sizes", counted)
    for job in jobs.JOBS[: jobs.JOBS.index("cluster") + 1]:
        for task in jobs.tasks(plan, job):
            jobs.perform(plan, job, task)
    assert calls == [3]
    tables = [
        table for unit in plan.units for table in stored(plan.folder("cluster") / f"{unit.name}.parquet")
    ]
    assert [size for table in tables for size in table["size"].to_pylist()] == [3, 3, 3]


def test_what_is_raised_is_one_of_ours(tmp_path: Path) -> None:
    each = given(written(tmp_path, ".txt"))
    gone = replace(each, path=str(tmp_path / "a.txt" / "b.txt"))
    with pytest.raises(PrimerError, match="Not a directory"):
        list(plain.read(gone, 0, None, Records()))
