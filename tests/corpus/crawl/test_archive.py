import gzip
import io
import random
import zlib

import pytest
from fastwarc.warc import ArchiveIterator as FastIterator
from warcio.archiveiterator import ArchiveIterator

from primer.corpus.crawl.archive import Record, is_html, looks_binary, parse, read_archive
from primer.corpus.crawl.blocks import Block, Lost

PAGE = b"<!doctype html><title>A</title><p>b"


def warc_record(content, *fields, kind="response", media="application/http; msgtype=response"):
    lines = [
        "WARC/1.0",
        f"WARC-Type: {kind}",
        *fields,
        f"Content-Type: {media}",
        f"Content-Length: {len(content)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content + b"\r\n\r\n"


def http(body, *fields, status="200 OK", end=b"\r\n"):
    return end.join([f"HTTP/1.1 {status}".encode(), *(f.encode() for f in fields), b"", b""]) + body


def parsed(data, max_bytes=1 << 20):
    return parse(Block(0, 0, len(data), data), max_bytes)


def with_warcio(data):
    """(payload, url, date) of each record, by warcio, from data that are not packed."""
    for record in ArchiveIterator(io.BytesIO(data), arc2warc=True):
        told = record.rec_headers
        payload = record.content_stream().read()
        yield payload, told.get_header("WARC-Target-URI", ""), told.get_header("WARC-Date", "")


def inflated(data):
    """All members of a gzip file, one after the other."""
    pieces = []
    while data:
        engine = zlib.decompressobj(31)
        pieces.append(engine.decompress(data))
        data = engine.unused_data
    return b"".join(pieces)


HEALTHY = [
    "example.warc", "example.warc.gz", "example-iana.org-chunked.warc", "example-resource.warc.gz", "post-test.warc.gz",
    "example-space-in-target-uri.warc.gz", "example-wget-bad-target-uri.warc.gz", "example-digest.warc",
    "example.arc", "example.arc.gz", "example-wrong-chunks.warc.gz", "example-bad-non-chunked.warc.gz",
    "example-bad.warc.gz.bad",
]  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_samples_are_read_as_warcio_reads_them(real_data, name):
    file = real_data / "warc-samples" / name
    data = file.read_bytes()
    expected = list(with_warcio(inflated(data) if data.startswith(b"\x1f\x8b") else data))
    records = list(read_archive(file))
    if ".arc" in name:  # of the record about the file warcio makes fields and no content
        assert records.pop(0).kind == "warcinfo"
        expected.pop(0)
    assert [(record.payload, record.url, record.date) for record in records] == expected
    assert expected


def test_the_real_crawl_is_read_as_fastwarc_reads_it(real_data):
    file = real_data / "warc" / "debian-docs-a.warc.gz"
    records = read_archive(file)
    count = 0
    with file.open("rb") as opened:
        for ours, theirs in zip(records, FastIterator(opened), strict=True):
            assert ours.payload == theirs.reader.read()
            assert ours.url == theirs.headers.get("WARC-Target-URI")
            assert ours.record_id == theirs.headers.get("WARC-Record-ID")
            assert ours.offset == theirs.stream_pos
            assert ours.status == theirs.http_headers.status_code
            assert ours.content_type == theirs.http_content_type
            assert is_html(ours)
            count += 1
    assert count == 1500


def test_damaged_samples_say_what_was_lost(real_data):
    folder = real_data / "warc-samples"
    lost = {
        name: [(unit.offset, unit.why) for unit in read_archive(folder / name) if isinstance(unit, Lost)]
        for name in ("example-trunc.warc", "example-space-in-url.arc", "bad.arc")
    }
    assert lost == {
        "example-trunc.warc": [(1197, "malformed")],
        "example-space-in-url.arc": [(151, "truncated")],
        "bad.arc": [(0, "malformed"), (134, "malformed"), (262, "malformed")],
    }


def test_fields_of_a_response():
    record = parsed(
        warc_record(
            http(PAGE, 'content-type: Text/HTML; Charset="Shift_JIS"', status="404 Not Found"),
            "WARC-Target-URI: <http://a.test/ b>",
            "WARC-Date: 2026-01-01T00:00:00Z",
            "WARC-Record-ID: <urn:uuid:1>",
            "WARC-Identified-Payload-Type: text/html",
        )
    )
    assert record == Record(
        0, 0, "response", "http://a.test/%20b", "2026-01-01T00:00:00Z", "<urn:uuid:1>", "text/html",
        "text/html", "Shift_JIS", 404, PAGE,
    )  # fmt: skip


def test_what_the_archive_does_not_tell_is_empty():
    record = parsed(b"WARC/1.0\r\nContent-Length: 3\r\n\r\nabc\r\n\r\n")
    assert record == Record(0, 0, "", "", "", "", "", "", "", 0, b"abc")


@pytest.mark.parametrize(
    "content",
    [
        http(PAGE, "Content-Type: text/html"),
        http(PAGE, "Content-Type: text/html", end=b"\n"),
        http(PAGE, "Content-Type: text/html", status="abc"),
        http(PAGE),
        http(PAGE, "Transfer-Encoding: chunked"),
        http(b"%x\r\n" % len(PAGE) + PAGE + b"\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
        http(gzip.compress(PAGE, mtime=0), "Content-Encoding: gzip"),
        PAGE,
    ],
)
def test_no_body_disappears(content):
    """FastWARC 2.0.1 gives b"" for the second, the fourth and the last, and says nothing."""
    assert parsed(warc_record(content)).payload == PAGE


def test_an_inner_bomb_and_a_body_that_cannot_be_unpacked_are_lost(tmp_path):
    bomb = warc_record(http(gzip.compress(bytes(9 << 20), mtime=0), "Content-Encoding: gzip"))
    garbage = warc_record(http(b"no brotli at all", "Content-Encoding: br"))
    (tmp_path / "file").write_bytes(bomb + garbage + warc_record(http(PAGE)))
    first, second, third = read_archive(tmp_path / "file", max_bytes=1 << 20)
    assert first == Lost(0, len(bomb), "too_large")
    assert second == Lost(len(bomb), len(garbage), "malformed")
    assert third.payload == PAGE


def test_two_lengths_in_one_header_are_no_record():
    data = b"WARC/1.0\r\nContent-Length : 2\r\nContent-Length: 3\r\n\r\nabc\r\n\r\n"
    assert parsed(data) == "malformed"
    assert parsed(b"WARC/1.0\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nabc") == "malformed"


@pytest.mark.parametrize("tail", ["text/html 200 checksum - 1234 file.arc", "text/html"])
def test_an_arc_record_of_either_version_and_an_address_with_spaces(tail):
    content = http(PAGE, "Content-Type: text/html; charset=utf-8")
    line = f"http://a.test/x y z 1.2.3.4 20140216050221 {tail} {len(content)}\n"
    record = parsed(line.encode() + content + b"\n")
    assert record == Record(
        0,
        0,
        "response",
        "http://a.test/x%20y%20z",
        "2014-02-16T05:02:21Z",
        "",
        "",
        "text/html",
        "utf-8",
        200,
        PAGE,
    )


def test_text_that_was_extracted_already_is_a_conversion():
    record = parsed(warc_record("héllo".encode(), kind="conversion", media="text/plain"))
    assert (record.kind, record.content_type, record.payload) == (
        "conversion",
        "text/plain",
        "héllo".encode(),
    )
    assert is_html(record)


def page(kind="response", identified="", content_type="", payload=PAGE):
    return Record(0, 0, kind, "", "", "", identified, content_type, "", 200, payload)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (page(identified="text/html", content_type="image/png"), True),
        (page(identified="application/xhtml+xml"), True),
        (page(identified="application/pdf", content_type="text/html"), False),
        (page(identified="text/plain"), False),
        (page("conversion", identified="text/plain"), True),
        (page("request", identified="text/html"), False),
        (page("resource", content_type="text/html"), False),
        (page(content_type="text/html"), True),
        (page(content_type="application/json"), False),
        (page(), True),
        (page(payload=b"\xef\xbb\xbf\n <HTML lang=en>"), True),
        (page(payload=b'<?xml version="1.0"?>\n<!DOCTYPE html><html>'), True),
        (page(payload=b"<p>"), True),
        (page(payload=b"<pre>"), False),
        (page(payload=b"just text"), False),
        (page("conversion", payload=b"just text"), True),
        (page("conversion", payload=b"\x89PNG\r\n\x1a\n"), False),
    ],
)
def test_what_is_taken_for_a_page(record, expected):
    assert is_html(record) is expected


def test_binaries_that_are_called_html_are_caught(real_data):
    records = {record.url: record for record in read_archive(real_data / "warc-bad" / "charsets.warc")}
    assert {url for url, record in records.items() if looks_binary(record.payload)} == {"http://x.test/png"}
    assert all(is_html(record) for record in records.values())


@pytest.mark.parametrize(
    "payload",
    [b"\xff\xd8\xff\xe0", b"GIF89a", b"%PDF-1.4", b"PK\3\4", gzip.compress(b"", mtime=0), b"a\0" * 99],
)
def test_signatures_and_nuls(payload):
    assert looks_binary(payload)


@pytest.mark.parametrize("text", ["", "<p>a", "PKs and GIFs", "a\0 few" + "b" * 90])
def test_text_is_not_binary(text):
    assert not looks_binary(text.encode())
    assert not looks_binary(("<" + text).encode("utf-16"))
    assert not looks_binary(("<" + text).encode("utf-16-be"))


def test_no_mutation_of_a_record_raises():
    draw = random.Random(11)
    sources = [
        warc_record(
            http(
                b"5\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: chunked", "Content-Type: text/html; charset=x"
            )
        ),
        warc_record(http(gzip.compress(PAGE, mtime=0), "Content-Encoding: gzip")),
        warc_record(http(zlib.compress(PAGE), "Content-Encoding: deflate")),
        b"http://a.test/ 1.2.3.4 20140216050221 text/html 5\nhello\n",
    ]
    seen = set()
    for _ in range(3000):
        data = bytearray(draw.choice(sources))
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(data))
            data[at : at + draw.randint(0, 3)] = draw.choice(
                [b"", b"\n", b"\xff", b":", b"0", b"999999999", b" ", b"\0"]
            )
        seen.add(type(parsed(bytes(data))))
    assert seen == {Record, str}
