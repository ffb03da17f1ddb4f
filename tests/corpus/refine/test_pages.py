"""From files to rows: every record is one, called by where it lies; batches lose none and are never too large."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from crawls import archive, page, prose, record
from primer.corpus.refine import pages
from primer.corpus.refine.inputs import find, stretches, units
from primer.corpus.refine.pages import Page, as_batch, batches, read
from primer.corpus.refine.recipe import resolve

RECIPE = resolve("fineweb").config
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8


def rows(*paths: Path) -> list[Page]:
    """All rows of all units."""
    inputs = find(paths, {}, lambda *_: None)
    return [each for unit in units(inputs, stretches) for each in read(unit, inputs, RECIPE)]


def test_every_record_is_a_row_that_says_why_it_is_no_page(tmp_path: Path) -> None:
    html = page(prose(1))
    records = {
        None: record("http://x.example/page", html, content_type="text/html; charset=iso-8859-1"),
        "record_request": record("http://x.example/", b"GET / HTTP/1.1\r\n\r\n", kind="request"),
        "record_metadata": record("http://x.example/", b"fetchTimeMs: 3", kind="metadata"),
        "empty": record("http://x.example/", b" \r\n\t"),
        "not_html": record("http://x.example/", b"User-agent: *", content_type="text/plain"),
        "binary": record("http://x.example/", PNG),
    }
    found = rows(archive(tmp_path / "a.warc.gz", list(records.values())))
    assert [each.record_reason for each in found] == list(records)
    first, others = found[0], found[1:]
    assert first.payload == html
    assert (first.url, first.http_charset) == ("http://x.example/page", "iso-8859-1")
    assert (first.date, first.text) == ("2024-01-01T00:00:00Z", None)
    assert first.record_id.startswith("<urn:uuid:")
    assert first.bytes == len(html)
    assert all(each.payload is None and each.text is None for each in others), (
        "nothing is carried along in vain"
    )
    assert [each.bytes for each in others] == [0, 14, 4, 13, len(PNG)], "of bodies"


def test_a_page_is_called_by_where_it_lies(tmp_path: Path) -> None:
    """A member begins there, and its record has the page's address; where there is but one, records are counted."""
    made = [record(f"http://x.example/{number}", page(prose(number, 3))) for number in range(5)]
    path = archive(tmp_path / "a.warc.gz", made)
    data = path.read_bytes()
    for each in rows(path):
        name, _, offset = each.id.partition("#")
        assert name == each.source == "a.warc.gz"
        assert f"WARC-Target-URI: {each.url}\r\n".encode() in gzip.decompress(data[int(offset) :])[:400]
    whole = tmp_path / "whole.warc.gz"
    whole.write_bytes(gzip.compress(b"".join(made), mtime=0))
    names = [each.id for each in rows(whole)]
    assert names == ["whole.warc.gz#0", *(f"whole.warc.gz#0.{number}" for number in range(1, 5))]


def test_the_text_of_a_wet_file_is_text(tmp_path: Path) -> None:
    text = "Zwölf Boxkämpfer\nund ein\0Deich, \ufffd"
    path = tmp_path / "a.warc.wet"
    head = record("http://x.example/", text.encode() + b"\xff", kind="conversion", content_type="")
    path.write_bytes(
        head.replace(b"Content-Type: application/http; msgtype=response", b"Content-Type: text/plain")
    )
    (found,) = rows(path)
    assert found.record_reason is None
    assert found.payload is None
    assert found.text == text.replace("\0", "\ufffd") + "\ufffd"


def test_what_was_lost_is_a_row_too(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.warc.gz", [record("http://x.example/", page(prose(n))) for n in range(3)])
    data = bytearray(path.read_bytes())
    start = len(gzip.compress(record("http://x.example/", page(prose(0))), mtime=0))
    data[start + 20 : start + 60] = bytes(40)
    path.write_bytes(data)
    found = rows(path)
    reasons = [each.record_reason for each in found]
    assert [reasons[0], reasons[-1]] == [None, None]
    lost = [each for each in found if each.record_reason]
    assert lost
    assert lost[0].id.startswith(f"a.warc.gz#{start}")
    assert all(each.payload is None and each.bytes > 0 for each in lost)


def test_units_go_on_where_the_one_before_ended(tmp_path: Path) -> None:
    """However a file is cut, the rows are the same, in the same order."""
    made = [record(f"http://x.example/{number}", page(prose(number, 3))) for number in range(20)]
    path = archive(tmp_path / "a.warc.gz", made)
    inputs = find([path], {}, lambda *_: None)
    whole = [each.id for each in rows(path)]
    assert len(whole) == 20
    for size in (1000, 3000, 7000):
        cut = units(inputs, lambda each, goal, size=size: stretches(each, size))  # type: ignore[misc]
        parts = [part for unit in cut for part in unit.parts]
        assert len(parts) > 1
        assert [each.id for unit in cut for each in read(unit, inputs, RECIPE)] == whole


def test_batches_have_all_rows_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    for count in (0, 1, 63, 64, 65, 200):
        found = list(batches(Page(f"a#{number}", "a") for number in range(count)))
        assert [each for batch in found for each in batch["id"].to_pylist()] == [
            f"a#{n}" for n in range(count)
        ]
        assert [batch.num_rows for batch in found] == [
            min(64, count - start) for start in range(0, count, 64)
        ]


@pytest.mark.parametrize("what", ["payload", "text"])
def test_batches_are_full_with_so_many_bytes(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(pages, "BATCH_BYTES", 1000)

    def made(size: int) -> Page:
        each = Page("a#0", "a")
        setattr(each, what, b"x" * size if what == "payload" else "x" * size)
        return each

    found = [batch.num_rows for batch in batches(map(made, [400, 500, 600, 5000, 1, 999, 3]))]
    assert found == [3, 1, 2, 1]


def test_rows_are_columns_that_hold_more_than_two_gigabytes() -> None:
    found = as_batch([Page("a#0", "a", payload=b"\xff\0", bytes=2**40), Page("a#1", "a", text="\0ä")])
    assert found.schema.field("payload").type == pa.large_binary()
    assert found.schema.field("text").type == pa.large_string()
    assert found["bytes"].to_pylist() == [2**40, 0]
    assert found["payload"].to_pylist() == [b"\xff\0", None]
    assert found["text"].to_pylist() == [None, "\0ä"]
    assert found["record_reason"].to_pylist() == [None, None]
    assert found["url"].to_pylist() == ["", ""]


def test_records_and_losses_of_one_member_have_places_of_their_own(tmp_path: Path) -> None:
    """All of them lie where the member begins."""
    large = record("http://x.example/large", page(prose(1)) + b"x" * 60_000)
    small = [record(f"http://x.example/{number}", page(prose(number, 3))) for number in range(3)]
    path = tmp_path / "whole.warc.gz"
    path.write_bytes(gzip.compress(b"".join([large, small[0], large, small[1], large, small[2]]), mtime=0))
    recipe = resolve("fineweb", {"records.max_bytes": 50_000}).config
    inputs = find([path], {}, lambda *_: None)
    found = [each for unit in units(inputs, stretches) for each in read(unit, inputs, recipe)]
    assert [each.record_reason for each in found] == ["too_large", None] * 3
    assert [each.id.partition("#")[2] for each in found] == ["0", "0.0", "0.lost2", "0.1", "0.lost4", "0.2"]
