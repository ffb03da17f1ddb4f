import pytest

from primer.corpus.crawl.record_bounds import (
    HEADER_BYTES,
    Held,
    begins_record,
    next_record,
    promised_end,
    split,
)

WARC = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: 5\r\n\r\nhello\r\n\r\n"
ARC = b"http://a.test/x y 127.0.0.1 20140216050221 text/html 5\nhello\n"


def outcome(data, **how):
    return [(part.begin, part.end, part.why) for part in split(Held(data), 1000, **how)]


@pytest.mark.parametrize("record", [WARC, ARC])
def test_a_start_is_found_wherever_it_lies_to_the_window(record):
    for before in range(40):
        data = b"x" * before + b"\n" + record
        for window in (16, 17, 40):
            for start in range(before + 2):
                assert next_record(Held(data), start, window) == before + 1
            assert next_record(Held(data), before + 2, window) == len(data)


def test_an_address_inside_a_line_begins_no_record():
    assert next_record(Held(b"see " + ARC), 0) == len(b"see " + ARC)
    assert next_record(Held(ARC), 1) == len(ARC)  # "ttp://…" is an address too


@pytest.mark.parametrize(
    "record", [WARC, ARC, WARC.replace(b"\r", b""), WARC.replace(b"Content-Length: ", b"content-length:\t")]
)
def test_what_is_a_record(record):
    assert begins_record(record)
    assert begins_record(b"\r\n\r\n" + record)
    assert outcome(record) == [(0, len(record), None)]
    assert outcome(record * 3) == [(n * len(record), (n + 1) * len(record), None) for n in range(3)]
    assert promised_end(Held(record), 0) == record.index(b"hello") + 5


@pytest.mark.parametrize(
    "text", [b"", b"WARC/", b"WARC/1.0 ", b"http://a.test/", b"http://a.test/ 127.0.0.1 2014 text/html 5\n"]
)
def test_what_is_none(text):
    assert not begins_record(text)


def test_two_line_ends_close_a_record_even_if_damage_follows():
    broken = b"\0" + WARC[1:]
    assert outcome(WARC + broken + WARC) == [
        (0, len(WARC), None),
        (len(WARC), 2 * len(WARC), "malformed"),
        (2 * len(WARC), 3 * len(WARC), None),
    ]


@pytest.mark.parametrize("record", [WARC, ARC])
def test_a_record_right_behind_what_is_none_is_found(record):
    for waste in (b"\0\n", b"WARC/1.0\r\n", b"\0" * 7 + b"\n"):
        end = len(waste)
        assert outcome(waste + record) == [(0, end, "malformed"), (end, end + len(record), None)]


def test_of_data_that_end_too_early_the_last_record_is_not_trusted():
    assert outcome(WARC + WARC, cut=True) == [(0, len(WARC), None), (len(WARC), 2 * len(WARC), "truncated")]
    assert outcome(WARC + WARC[:-8], cut=True) == [
        (0, len(WARC), None),
        (len(WARC), 2 * len(WARC) - 8, "truncated"),
    ]


def test_a_header_may_be_long_but_not_endless():
    for size, expected in ((HEADER_BYTES - 200, None), (HEADER_BYTES + 200, "malformed")):
        data = WARC.replace(b"\r\nContent", b"\r\nX: " + b"a" * size + b"\r\nContent")
        assert outcome(data)[0][2] == expected


def test_a_length_beyond_the_limit_is_passed_over():
    large = b"WARC/1.0\r\nContent-Length: 1001\r\n\r\n" + b"a" * 1001 + b"\r\n\r\n"
    assert outcome(large + WARC) == [(0, len(large), "too_large"), (len(large), len(large) + len(WARC), None)]
