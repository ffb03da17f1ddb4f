"""What a corpus is said to take, beside what it then takes."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crawls import GERMAN, archive, page, prose, record, records
from primer.corpus.crawl.archive import read_archive
from primer.corpus.refine.estimate import PAGES, Estimate, estimate, is_on
from primer.corpus.refine.kept import Corpus
from primer.corpus.refine.plan import make
from primer.corpus.refine.recipe import resolve, shipped
from primer.corpus.refine.report import merged
from primer.corpus.refine.run import run
from primer.corpus.refine.select import STAGES
from primer.errors import DataError, UsageError


def said(*inputs: Path, recipe: str = "fineweb-fast", processes: int = 1, **flags: object) -> Estimate:
    config = resolve(recipe, {key.replace("__", "."): value for key, value in flags.items()}).config
    return estimate(config, inputs, processes)


def crawl(path: Path, pages: int, start: int = 0) -> Path:
    """An archive of so many pages, of which every third is German."""
    texts = [[GERMAN] * 4 if number % 3 == 2 else prose(number) for number in range(start, start + pages)]
    made = [record(f"http://x.example/{start + n}", page(text)) for n, text in enumerate(texts)]
    return archive(path, made)


def lines(path: Path, texts: Sequence[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    return path


def test_what_is_said_is_about_what_comes_out(tmp_path: Path) -> None:
    """Pages within a tenth, the share of those that are kept within a tenth of all, bytes within a half."""
    path = crawl(tmp_path / "a.warc.gz", 300)
    found = said(path)
    plan = make(resolve("fineweb-fast").config, [path], tmp_path / "out", lambda *_: None)
    run(plan, 1)
    counts = merged(plan)["counts"]
    pages = sum(values[0] for reasons in counts.values() for values in reasons.values())
    disk = sum(file.stat().st_size for file in plan.out.rglob("*") if file.is_file())
    assert pages == 300
    assert (found.files, found.bytes, found.units) == (1, path.stat().st_size, len(plan.units))
    assert found.sampled == PAGES
    assert found.pages == pytest.approx(pages, rel=0.1)
    assert found.kept_of_sampled / found.sampled == pytest.approx(Corpus.open(plan.out).size / pages, abs=0.1)
    assert disk / 1.5 < found.disk < disk * 1.5


def test_a_crawl_that_is_sampled_whole_is_counted_exactly(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.warc.gz", records(0, 5))
    found = said(path)
    plan = make(resolve("fineweb-fast").config, [path], tmp_path / "out", lambda *_: None)
    run(plan, 1)
    counts = merged(plan)["counts"]
    copies = sum(values[0] for values in counts["dedup"].values())
    assert (found.sampled, found.pages) == (15, 15)
    assert found.kept_of_sampled == Corpus.open(plan.out).size + copies == 8, "copies are not looked for"


def test_the_pages_of_a_real_crawl(real_data: Path) -> None:
    """Of 13 units the first is looked at: half as many or twice as many are promised at most."""
    path = real_data / "warc" / "debian-docs-a.warc.gz"
    pages = sum(1 for _ in read_archive(path, 0, None, max_bytes=16 << 20))
    assert pages == 1500
    assert pages / 2 < said(path).pages < pages * 2


def test_twice_as_much_input_is_said_to_be_twice_as_much(tmp_path: Path) -> None:
    sizes = (120, 240, 480)
    found = [said(crawl(tmp_path / f"{size}" / "a.warc.gz", size)) for size in sizes]
    for one, other in pairwise(found):
        assert other.sampled == one.sampled == PAGES
        assert other.pages / one.pages == pytest.approx(2, rel=0.1)
        assert other.disk / one.disk == pytest.approx(2, rel=0.1)
        assert other.bytes > one.bytes
    assert [each.pages for each in found] == [pytest.approx(size, rel=0.1) for size in sizes]


def test_texts_and_lines_and_archives_that_are_not_packed(tmp_path: Path) -> None:
    texts = ["\n".join(prose(number)) for number in range(250)]
    folder = tmp_path / "texts"
    folder.mkdir()
    for number, text in enumerate(texts):
        (folder / f"{number:03}.txt").write_text(text, "utf-8")
    plain = tmp_path / "a.warc"
    plain.write_bytes(
        b"".join(gzip.decompress(part) for part in [crawl(tmp_path / "a.gz", 250).read_bytes()])
    )
    for inputs in (folder, lines(tmp_path / "a.jsonl", texts), plain):
        found = said(inputs)
        assert found.sampled == PAGES
        assert found.pages == pytest.approx(250, rel=0.1)


def test_two_processes_take_half_as_long_and_twice_the_memory(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.warc.gz", records(0, 5))
    one, two = said(path), said(path, processes=2)
    assert two.memory == 2 * one.memory > 0
    assert one.seconds_a_page > 0
    assert one.seconds(1) == pytest.approx(one.pages * one.seconds_a_page)
    assert one.seconds(2) == pytest.approx(one.seconds(1) / 2)


def test_thresholds_decide_how_much_of_the_sample_is_kept(tmp_path: Path) -> None:
    path = crawl(tmp_path / "a.warc.gz", 90)
    assert said(path).kept_of_sampled == 60
    assert said(path, language__keep=("de", "en"), recipe="plain").kept_of_sampled == 90
    assert said(path, quality__min_words=10_000).kept_of_sampled == 0


def test_nothing_to_read_is_said_as_when_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to read"):
        said(tmp_path)
    with pytest.raises(DataError, match="no file or folder"):
        said(tmp_path / "missing.warc")
    path = archive(tmp_path / "a.warc.gz", records(0, 1))
    with pytest.raises(UsageError, match="named twice"):
        said(path, archive(tmp_path / "again" / "a.warc.gz", records(0, 1)))


def test_files_without_a_page_take_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"")
    found = said(tmp_path / "a.jsonl")
    assert (found.files, found.bytes, found.sampled, found.pages, found.disk) == (1, 0, 0, 0, 0)
    assert math.isnan(found.seconds_a_page)


def test_nothing_is_written(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.warc.gz", records(0, 3))
    before = path.read_bytes()
    said(path)
    assert list(tmp_path.rglob("*")) == [path]
    assert path.read_bytes() == before


def test_stages_that_can_drop_something_are_named(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.warc.gz", records(0, 1))
    fast = said(path).stages
    assert fast == (
        "records", "extract", "language", "repetition", "quality", "c4", "fineweb", "dedup",
    )  # fmt: skip
    assert said(path, c4__on=False, fineweb__on=False).stages == tuple(
        each for each in fast if each not in ("c4", "fineweb")
    )
    assert said(path, dedup__exact=False).stages == fast
    assert said(path, dedup__exact=False, dedup__minhash=False).stages == fast[:-1]
    assert "language" not in said(path, language__keep=(), language__threshold=0.0).stages
    everything = resolve(
        "fineweb", {"classifier.model": "m.bin", "decontaminate.files": ("e.jsonl",), "urls.lists": "folder"}
    )
    assert [stage for stage in STAGES if is_on(everything.config, stage)] == list(STAGES)
    for name in shipped():
        assert is_on(resolve(name).config, "records")


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz", "a.txt"])
def test_an_empty_file_is_one_page(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    found = said(tmp_path / name)
    assert (found.bytes, found.sampled, found.pages, found.kept_of_sampled) == (0, 1, 1, 0)


def test_small_archives_that_are_one_unit(tmp_path: Path) -> None:
    paths = [crawl(tmp_path / f"{number}.warc.gz", 30, 30 * number) for number in range(10)]
    found = said(*paths)
    assert (found.units, found.sampled) == (1, PAGES)
    assert found.pages == pytest.approx(300, rel=0.1)


@pytest.mark.parametrize(("kind", "rows"), [("jsonl.gz", 400), ("parquet", 60), ("parquet", 400)])
def test_lines_and_rows_that_are_packed(tmp_path: Path, kind: str, rows: int) -> None:
    texts = [" ".join(prose(number)) for number in range(rows)]
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"text": texts}), path)
    else:
        path.write_bytes(gzip.compress(lines(tmp_path / "a.jsonl", texts).read_bytes()))
    assert said(path).pages == pytest.approx(rows, rel=0.25)


def test_an_archive_that_is_packed_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "whole.warc.gz"
    path.write_bytes(gzip.compress(gzip.decompress(crawl(tmp_path / "a.warc.gz", 300).read_bytes())))
    assert said(path).pages == pytest.approx(300, rel=0.25)
