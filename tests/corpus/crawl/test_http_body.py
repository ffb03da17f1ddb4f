import gzip
import io
import random
import zlib

import brotli
import pytest
from warcio.bufferedreaders import ChunkedDataReader

from primer.corpus.crawl.http_body import dechunk, decode_body, fields

PAGE = b"<!doctype html><p>" + bytes(random.Random(0).choices(b"abcdef \n", k=50_000))
LIMIT = 1 << 20


def raw_deflate(data):
    engine = zlib.compressobj(wbits=-15)
    return engine.compress(data) + engine.flush()


def chunked(data, size=1000, end=b"\r\n"):
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x;note=1" % len(part) + end + part + end for part in parts) + b"0" + end + end


CODED = [
    ("", "", PAGE),
    ("", "gzip", gzip.compress(PAGE, mtime=0)),
    ("", "x-gzip", gzip.compress(PAGE, mtime=0)),
    ("", "deflate", zlib.compress(PAGE)),
    ("", "deflate", raw_deflate(PAGE)),
    ("", "br", brotli.compress(PAGE)),
    ("", "deflate, gzip", gzip.compress(zlib.compress(PAGE), mtime=0)),
    ("chunked", "", chunked(PAGE)),
    ("Chunked", "GZIP", chunked(gzip.compress(PAGE, mtime=0))),
    ("gzip, chunked", "", chunked(gzip.compress(PAGE, mtime=0), end=b"\n")),
]


@pytest.mark.parametrize(("transfer", "content", "body"), CODED)
def test_what_servers_do_to_a_body_is_undone(transfer, content, body):
    assert decode_body(body, transfer, content, LIMIT) == PAGE


@pytest.mark.parametrize(
    ("transfer", "content"), [("chunked", ""), ("", "gzip"), ("", "deflate"), ("", "identity"), ("", "utf-8")]
)
def test_a_body_that_is_not_what_it_is_called_is_left_as_it_is(transfer, content):
    assert decode_body(PAGE, transfer, content, LIMIT) == PAGE
    assert decode_body(b"", transfer, content, LIMIT) == b""


@pytest.mark.parametrize("content", ["br", "zstd"])
def test_what_cannot_be_unpacked_at_all_is_malformed(content):
    assert decode_body(PAGE, "", content, LIMIT) == "malformed"


def fast_brotli(data):
    return brotli.compress(data, quality=1)


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, raw_deflate, fast_brotli])
def test_a_bomb_inside_is_not_unpacked(pack):
    content = {gzip.compress: "gzip", fast_brotli: "br"}.get(pack, "deflate")
    bomb = pack(bytes(5 << 20))
    assert decode_body(bomb, "", content, LIMIT) == "too_large"
    assert decode_body(pack(bytes(LIMIT)), "", content, LIMIT) == bytes(LIMIT)
    assert decode_body(pack(bytes(LIMIT + 1)), "", content, LIMIT) == "too_large"


def test_of_a_stream_that_breaks_off_all_that_came_is_taken():
    packed = gzip.compress(PAGE, mtime=0)
    half = decode_body(packed[: len(packed) // 2], "", "gzip", LIMIT)
    assert len(half) > 20_000
    assert PAGE.startswith(half)
    wrong_checksum = packed[:-8] + bytes(8)
    assert decode_body(wrong_checksum, "", "gzip", LIMIT) == PAGE
    assert decode_body(chunked(PAGE)[:30_000], "chunked", "", LIMIT) == dechunk(chunked(PAGE)[:30_000])
    assert PAGE.startswith(dechunk(chunked(PAGE)[:30_000]))


def test_chunks_are_joined_as_warcio_joins_them():
    for size in range(1, 900, 7):
        body = chunked(PAGE[:3000], size)
        assert dechunk(body) == ChunkedDataReader(io.BytesIO(body)).read(1 << 20) == PAGE[:3000]


def test_after_a_wrong_length_nothing_of_the_page_is_dropped():
    draw = random.Random(7)
    for _ in range(200):
        body = bytearray(chunked(PAGE[:3000], draw.randint(16, 900)))
        body[draw.randrange(2)] = draw.choice(b"123456789abcdef")
        assert len(dechunk(bytes(body))) >= 3000


def test_fields_fold_and_the_first_counts():
    named = fields(b"HTTP/1.1 200 OK\r\nA: 1\r\na: 2\nB :  x\r\n\ty \r\nno colon\r\nC: \xe9\r\nD: a:b")
    assert named == {"a": "1", "b": "x y", "c": "é", "d": "a:b"}
    assert fields("U: http://a.test/ü".encode())["u"] == "http://a.test/ü"
