import gzip
import random
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer.corpus.crawl.blocks import Block, Lost, ranges, read_blocks
from primer.errors import DataError


def warc_record(content, kind="response", url="http://a.test/", version="1.0"):
    head = f"WARC/{version}\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content + b"\r\n\r\n"


def arc_record(content, url="http://a.test/"):
    return f"{url} 127.0.0.1 20140216050221 text/html {len(content)}\n".encode() + content + b"\n"


def some_records(count, seed=0, longest=120, make=warc_record):
    draw = random.Random(seed)
    letters = b"abcdefgh \n<>"
    return [
        make(bytes(draw.choices(letters, k=draw.randint(0, longest))), url=f"http://a.test/{n}")
        for n in range(count)
    ]


def packed(records):
    return [gzip.compress(record, mtime=0) for record in records]


@pytest.fixture
def written(tmp_path):
    def write(*parts):
        file = tmp_path / "file"
        file.write_bytes(b"".join(parts))
        return file

    return write


def check_extents(units, size):
    """Units tile the file: those of one offset lead exactly to the next."""
    reached, offset = 0, 0
    for unit in units:
        if unit.offset != offset:
            assert unit.offset == reached
            offset = reached
        reached += unit.length
    assert reached == size


def read_checked(file, **how):
    units = list(read_blocks(file, **how))
    check_extents(units, file.stat().st_size)
    return units


def data_of(units):
    return [unit.data for unit in units if isinstance(unit, Block)]


def losses(units):
    return [unit.why for unit in units if isinstance(unit, Lost)]


LAYOUTS = {
    "member per record": packed,
    "one member": lambda records: packed([b"".join(records)]),
    "several records a member": lambda records: packed(
        [b"".join(records[n : n + 3]) for n in range(0, len(records), 3)]
    ),
    "not packed": lambda records: records,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("make", [warc_record, arc_record])
@pytest.mark.parametrize("max_bytes", [200, 1 << 24])
def test_whatever_the_layout_all_records_come_out_as_they_were_written(written, layout, make, max_bytes):
    records = some_records(1000 if max_bytes == 200 else 20, make=make)  # 200: more than may be held at once
    units = read_checked(written(*LAYOUTS[layout](records)), max_bytes=max_bytes)
    assert data_of(units) == records
    assert not losses(units)
    assert len({(unit.offset, unit.index) for unit in units}) == len(records)


def test_the_offset_is_where_the_member_begins(written):
    members = packed(some_records(5))
    units = read_checked(written(*members))
    assert [unit.offset for unit in units] == [len(b"".join(members[:n])) for n in range(5)]
    assert [unit.length for unit in units] == [len(member) for member in members]


def test_a_range_ends_at_the_first_record_that_is_its_size_away(written):
    member = packed(some_records(1))[0]
    for size, each in ((len(member) - 1, 1), (len(member), 1), (len(member) + 1, 2), (2 * len(member), 2)):
        starts = [start // len(member) for start, _ in ranges(written(member * 6), size)]
        assert starts == list(range(0, 6, each))


@pytest.mark.parametrize(
    "content", [b"", b"no archive at all\n" * 100, b"\x1f\x8b\x08", random.Random(1).randbytes(5000)]
)
def test_what_is_no_archive_is_said_to_be_none(written, content):
    (unit,) = read_checked(written(content))
    assert unit == Lost(0, len(content), "truncated" if content == b"\x1f\x8b\x08" else "not_an_archive")
    (unit,) = read_checked(written(gzip.compress(b"just text\n" * 9)))
    assert unit.why == "not_an_archive"


def test_a_file_that_is_not_there_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        list(read_blocks(tmp_path / "none"))
    with pytest.raises(DataError, match="a folder"):
        ranges(tmp_path, 10)


@pytest.mark.parametrize(("layout", "spared"), [("member per record", 0), ("not packed", 4)])
def test_a_cut_costs_the_record_that_it_cuts_wherever_it_is(written, layout, spared):
    """spared: bytes of a record that is not packed that can be missing, its closing line ends."""
    records = some_records(3, longest=40)
    members = LAYOUTS[layout](records)
    whole, ends = b"".join(members), [len(b"".join(members[: n + 1])) for n in range(3)]
    for size in range(1, len(whole)):
        units = read_checked(written(whole[:size]))
        complete = sum(end - spared <= size for end in ends)
        assert [data.rstrip() for data in data_of(units)] == [data.rstrip() for data in records[:complete]]
        broken = size - max(0, *(end for end in [0, *ends] if end - spared <= size))
        if broken >= len(b"WARC/1.0\r\n"):  # less shows nothing of a record
            assert losses(units) == ["truncated"]
        else:
            assert len(losses(units)) == (broken > 0)


@pytest.mark.parametrize("max_bytes", [200, 1 << 24])
def test_of_a_single_member_that_is_cut_the_records_before_come_out(written, max_bytes):
    draw = random.Random(4)
    records = [warc_record(draw.randbytes(150)) for _ in range(1000)]
    member = gzip.compress(b"".join(records), 1)
    units = read_checked(written(member[: len(member) // 2]), max_bytes=max_bytes)
    assert data_of(units) == records[: len(data_of(units))]
    assert len(data_of(units)) > 450
    assert losses(units) == ["truncated"]


@pytest.mark.parametrize("max_bytes", [200, 1 << 24])
def test_a_member_whose_checksum_is_wrong_is_lost_however_many_records_it_holds(written, max_bytes):
    good = some_records(1000)
    member = bytearray(gzip.compress(b"".join(good)))
    member[-8] ^= 1
    after = packed(some_records(2, seed=9))
    units = read_checked(written(bytes(member), *after), max_bytes=max_bytes)
    assert units[0] == Lost(0, len(member), "corrupt")
    assert data_of(units) == some_records(2, seed=9)


def test_a_record_that_is_packed_in_pieces_is_put_together(written):
    first, second = some_records(2, longest=500)
    units = read_checked(written(*packed([first[:90], first[90:-4], b"\r\n\r\n" + second])))
    assert data_of(units) == [first[:-4], b"\r\n\r\n" + second]
    alone = read_checked(written(*packed([first[:90], second])))
    assert losses(alone) == ["truncated"]
    assert data_of(alone) == [second]


def test_a_length_that_lies_costs_its_record_and_is_said(written):
    before, liar, after = some_records(3, longest=400)
    digits = liar.index(b"Content-Length: ") + 16
    short = liar[:digits] + b"1" + liar[liar.index(b"\r\n", digits) :]
    for parts in ([before, short, after], packed([before + short + after])):
        units = read_checked(written(*parts))
        assert data_of(units) == [before, after]
        assert losses(units) == ["malformed"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_record_that_is_too_large_is_passed_over(written, layout):
    small = some_records(6)
    large = warc_record(random.Random(2).randbytes(300_000))
    records = [*small[:3], large, *small[3:]]
    units = read_checked(written(*LAYOUTS[layout](records)), max_bytes=1000)
    assert data_of(units) == small
    assert losses(units) == ["too_large"]


def zeros(count):
    engine = zlib.compressobj(9, wbits=31)
    head = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: %d\r\n\r\n" % count
    parts = [engine.compress(head), *(engine.compress(bytes(1 << 20)) for _ in range(count >> 20))]
    return b"".join([*parts, engine.compress(b"\r\n\r\n"), engine.flush()])


@pytest.mark.parametrize("megabytes", [16, 48])  # the second is more than anybody has the patience to unpack
def test_a_bomb_costs_itself_and_little_memory(written, megabytes):
    good = some_records(4)
    members = packed(good)
    file = written(*members[:2], zeros(megabytes << 20), *members[2:])
    tracemalloc.start()
    units = read_checked(file, max_bytes=1 << 18)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert data_of(units) == good
    assert losses(units) == ["too_large"]
    assert peak < 6 << 20


def nested():
    """A record that holds an archive, as it lies in a file where nothing could be packed."""
    inner = b"".join(packed(some_records(6, seed=5)))
    return gzip.compress(warc_record(inner, url="http://a.test/nested"), 0, mtime=0)


def damaged(whole):
    draw = random.Random(3)
    bad = bytearray(whole)
    for _ in range(3):
        bad[draw.randrange(len(bad))] ^= 1 << draw.randrange(8)
    return bytes(bad[: -len(whole) // 12])


def in_ranges(file, cuts):
    return [unit for start, stop in cuts for unit in read_blocks(file, start, stop)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("change", [bytes, damaged])
def test_ranges_of_all_sizes_read_what_the_whole_does(written, layout, change):
    file = written(change(b"".join(LAYOUTS[layout](some_records(5, longest=60)))))
    size = file.stat().st_size
    whole = list(read_blocks(file))
    assert change is bytes or losses(whole)
    for step in range(1, size + 2):
        cuts = ranges(file, step)
        assert [start for start, _ in cuts] == [0, *(stop for _, stop in cuts[:-1])]
        assert cuts[-1][1] == size
        assert in_ranges(file, cuts) == whole
    assert len(ranges(file, 1)) == len({u.offset for u in whole if isinstance(u, Block)} | {0})
    assert ranges(file, size) == [(0, size)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("change", [bytes, damaged])
def test_so_does_a_cut_at_any_byte(written, layout, change):
    file = written(change(b"".join(LAYOUTS[layout](some_records(5, longest=60)))))
    whole = list(read_blocks(file))
    for cut in range(file.stat().st_size + 1):
        assert in_ranges(file, [(0, cut), (cut, None)]) == whole


def test_an_archive_inside_a_record_is_no_place_to_cut(written):
    good = packed(some_records(4))
    file = written(*good[:2], nested(), *good[2:])
    whole = read_checked(file)
    assert len(whole) == 5
    for size in range(1, file.stat().st_size, 5):
        assert in_ranges(file, ranges(file, size)) == whole


def mutate(whole, draw):
    """Bytes damaged in one to three places, and for each where it was in the original (-1: nowhere)."""
    data, origin = bytearray(whole), list(range(len(whole)))
    for _ in range(draw.randint(1, 3)):
        at, length = draw.randrange(len(data)), draw.randint(1, 300)
        kind = draw.choice(["flip", "zero", "cut", "insert", "duplicate", "splice", "end"])
        if kind in ("flip", "zero"):
            places = [at] if kind == "flip" else range(at, min(at + length, len(data)))
            for place in places:
                data[place] = data[place] ^ (1 << draw.randrange(8)) if kind == "flip" else 0
                origin[place] = -1
        elif kind == "cut":
            del data[at : at + length], origin[at : at + length]
        elif kind == "insert":
            data[at:at] = draw.randbytes(length)
            origin[at:at] = [-1] * length
        elif kind in ("duplicate", "splice"):
            there = at if kind == "duplicate" else draw.randrange(len(data))
            data[there:there], origin[there:there] = data[at : at + length], origin[at : at + length]
        elif len(data) > 400:
            del data[-draw.randint(1, 300) :], origin[len(data) :]
    return bytes(data), origin


def intact(origin, members):
    """Where in the damaged file whole members lie: (position there, number)."""
    origin, start = np.array(origin), 0
    for number, member in enumerate(members):
        for place in np.flatnonzero(origin == start):
            if np.array_equal(origin[place : place + len(member)], np.arange(start, start + len(member))):
                yield int(place), number
        start += len(member)


def records_to_damage():
    """Short and long ones, that pack well and not at all: damage is found at once, or by the checksum only."""
    draw = random.Random(8)
    long = [warc_record(draw.randbytes(size), url=f"http://b.test/{size}") for size in (9000, 18_000)]
    packable = some_records(2, seed=6, longest=30_000)
    return [
        *some_records(3, longest=400),
        long[0],
        packable[0],
        *some_records(2, seed=7),
        long[1],
        packable[1],
    ]


def mutations(file_of, members):
    for seed in range(300):
        data, origin = mutate(b"".join(members), random.Random(seed))
        yield read_checked(file_of(data)), list(intact(origin, members))


def test_every_intact_member_survives_300_mutations_and_nothing_new_appears(written):
    records = records_to_damage()
    survivors = 0
    for units, whole in mutations(written, packed(records)):
        found = {unit.offset: unit.data for unit in units if isinstance(unit, Block)}
        assert all(found.get(place) == records[number] for place, number in whole)
        assert set(found.values()) <= set(records)
        assert losses(units) or set(found.values()) == set(records)
        survivors += len(whole)
    assert survivors > 300 * 6


def test_so_does_every_intact_record_that_is_not_packed(written):
    """But for those that damage moved into another record without changing its length: that cannot be seen."""
    records = some_records(12, longest=400)
    survivors = swallowed = 0
    for units, whole in mutations(written, records):
        found = {unit.offset: unit.data for unit in units if isinstance(unit, Block)}
        for place, number in whole:
            if place in found:
                assert found[place] == records[number]
                survivors += 1
            else:
                swallowed += any(records[number] in data[1:] for data in found.values())
                assert swallowed
    assert survivors > 300 * 9
    assert swallowed == 1


@given(
    st.integers(0, 10**9),
    st.integers(1, 2000),
    st.sampled_from(["member per record", "not packed", "several records a member"]),
)
def test_ranges_of_a_damaged_file_read_what_the_whole_does(tmp_path_factory, seed, size, layout):
    members = LAYOUTS[layout](some_records(9, longest=200))
    data, _ = mutate(b"".join(members), random.Random(seed))
    file = tmp_path_factory.getbasetemp() / "mutated"
    file.write_bytes(data)
    whole = read_checked(file)
    assert in_ranges(file, ranges(file, size)) == whole
    cut = seed % (len(data) + 1)
    assert in_ranges(file, [(0, cut), (cut, None)]) == whole


def test_damaged_real_files_lose_what_is_damaged_and_nothing_else(real_data):
    folder = real_data / "warc-bad"
    reference = data_of(read_checked(folder / "one-gzip-member.warc.gz"))
    flipped = read_checked(folder / "flip-64-bytes-mid.warc.gz")
    cut = read_checked(folder / "trunc-mid-member.warc.gz")
    assert len(reference) == 30
    assert data_of(flipped) == reference[:8] + reference[9:]
    assert losses(flipped) == ["corrupt"]
    assert data_of(cut) == reference[:8]
    assert losses(cut) == ["truncated"]


def test_the_real_crawl_is_read_alike_in_ranges(real_data):
    file = real_data / "warc" / "debian-docs-a.warc.gz"
    cuts = ranges(file, 3_000_000)
    digests = [zlib.crc32(unit.data) for unit in in_ranges(file, cuts)]
    assert len(cuts) == 5
    assert digests == [zlib.crc32(unit.data) for unit in read_checked(file)]
