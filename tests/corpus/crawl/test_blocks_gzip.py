import gzip
import io
import random

import pytest

from primer.corpus.crawl.blocks_gzip import PATIENCE, File, Member, Stream, begins_member, next_member, unpack

RECORD = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: 5\r\n\r\nhello\r\n\r\n"
MEMBER = gzip.compress(RECORD, mtime=0)
TEXT = random.Random(0).randbytes(3_000_000)


def opened(data):
    return File(io.BytesIO(data), len(data))


def test_a_file_is_read_by_position_in_any_order():
    file = opened(TEXT)
    draw = random.Random(1)
    for _ in range(300):
        at, length = draw.randrange(len(TEXT) + 10), draw.choice([1, 1000, 900_000])
        assert file.at(at, length) == TEXT[at : at + length]


@pytest.mark.parametrize("before", [*range((1 << 19) - 6, (1 << 19) + 3), (1 << 20) - 1, 0])
def test_a_member_is_found_wherever_it_lies_to_the_window(before):
    file = opened(b"\x1f\x8b" * (before // 2) + b"\x1f" * (before % 2) + MEMBER)
    assert next_member(file, 0) == before
    assert next_member(file, before + 1) == file.size


def test_only_a_member_that_begins_like_a_record_is_one():
    assert begins_member(opened(MEMBER), 0)
    assert begins_member(opened(MEMBER[:30]), 0)
    assert begins_member(opened(gzip.compress(b"\r\n\r\n" + RECORD)), 0)
    for other in (
        gzip.compress(b"text"),
        RECORD,
        b"\x1f\x8b\x08\xe0" + MEMBER[4:],
        MEMBER[:3] + b"\xff" * 30,
    ):
        assert not begins_member(opened(other), 0)


@pytest.mark.parametrize("hold", [100, 1 << 24])
def test_a_member_is_unpacked_to_its_end(hold):
    member = gzip.compress(TEXT, 1)
    found = unpack(opened(b"xy" + member + MEMBER), 2, hold)
    assert (found.size, found.end, found.state) == (len(TEXT), 2 + len(member), "whole")
    assert found.is_held is (hold > 100)
    assert TEXT.startswith(found.data)
    assert unpack(opened(member[:-1]), 0, hold).state == "truncated"
    assert unpack(opened(member[:-8] + b"\0" + member[-7:]), 0, hold).state == "corrupt"
    assert unpack(opened(member[:-1] + b"\1"), 0, hold).state == "corrupt"  # its length is wrong


def test_a_bomb_is_given_up_and_text_is_not():
    bomb = gzip.compress(bytes(8 << 20))
    assert unpack(opened(bomb), 0, 1000).state == "bomb"
    assert unpack(opened(bomb), 0, (8 << 20) // PATIENCE + 1).state == "whole"
    words = b" ".join(random.Random(0).choices([b"the", b"a", b"web", b"page", b"of"], k=300_000))
    assert unpack(opened(gzip.compress(words)), 0, 1000).state == "whole"


def test_a_stream_reads_forwards_and_forgets():
    stream = Stream(Member(opened(gzip.compress(TEXT, 1)), 0), len(TEXT) - 7)
    draw, position = random.Random(2), 0
    while position < stream.size:
        stream.release(position)
        assert stream.first == position
        for _ in range(2):
            at, length = position + draw.randrange(1000), draw.choice([1, 1000, 100_000])
            assert stream.at(at, length) == TEXT[at : min(at + length, stream.size)]
        position += draw.choice([1, 5000, 1_200_000])
    assert stream.at(stream.size, 5) == b""
