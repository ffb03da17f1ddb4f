"""A web archive becomes record-sized stretches of bytes, with every byte of the file accounted for.

FastWARC and warcio say nothing when a file is cut, and lose what follows damaged bytes. Here a damaged stretch costs
itself and is named. Files are known by their content: gzip with one member per record (the normal case), with
several records in a member, or one member for the whole file; WARC and ARC that are not packed.

What is promised of gzip: a record is yielded only after the CRC of its member was found right, so what is yielded
is what was written. One exception: of a member that the file's end cuts off, the records before the last begun one
are yielded. A member with flipped bytes is lost as a whole, even if it is the whole file. After damage reading goes
on at the next member that begins like a record. What is not packed has no checksum but the optional WARC digests,
which are not looked at: there damage is seen only where it breaks a header or a length. A flipped byte of content,
or one header's beginning joined to another's end, is not.

Memory stays within a few times `max_bytes`, and time in proportion to the file's size: see `blocks_gzip.unpack`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from primer.assets import reading
from primer.corpus.crawl.blocks_gzip import (
    MAGIC,
    File,
    Member,
    Stream,
    Unpacked,
    begins_member,
    next_member,
    unpack,
)
from primer.corpus.crawl.record_bounds import (
    HEADER_BYTES,
    LINE_BYTES,
    Held,
    Readable,
    Stretch,
    Why,
    begins_record,
    next_record,
    promised_end,
    split,
)
from primer.corpus.readers import require_regular

MAX_BYTES: Final = 1 << 24
"""Bytes of content of the longest record that is read."""

_VERSION_LINE = len(b"WARC/1.0\r\n")


@dataclass(frozen=True, slots=True)
class Block:
    """One record whole, header and closing line ends included: the `index`-th of the member at `offset`.

    length: its bytes in the file. Members are shared out to their records in proportion to their unpacked sizes, so
    that the lengths of all blocks and losses add up to the file's size, and those of one offset lead to the next.
    """

    offset: int
    index: int
    length: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """Bytes of the file that gave no record: `length` of them, counted like a block's, and why."""

    offset: int
    length: int
    why: Why


def read_blocks(
    path: Path, start: int = 0, stop: int | None = None, *, max_bytes: int = MAX_BYTES
) -> Iterator[Block | Lost]:
    """The records, and the losses, that begin in [start, stop), in the file's order.

    A loss that nothing marks as a record's beginning is told with what is before it: who starts there cannot see it.
    Ranges that `ranges` gives read exactly what the whole file does. So does any other cut, unless it falls into
    the bytes of an archive that lies, unpacked, inside a record. Records with more than `max_bytes` of content are
    lost as "too_large". Raises DataError where the file cannot be opened.
    """
    require_regular(path)
    with reading(path) as opened:
        file = File(opened, path.stat().st_size)
        stop = file.size if stop is None else min(stop, file.size)
        if file.size == 0 and start == 0:
            yield Lost(0, 0, "not_an_archive")
        read = _read_gzip if _is_packed(file) else _read_plain
        yield from read(file, start, stop, max_bytes)


def ranges(path: Path, size: int) -> list[tuple[int, int]]:
    """Cut a file between its members (or unpacked records) into ranges of about `size` bytes, for `read_blocks`.

    A range ends at the first record's beginning that is `size` or more from its own. That depends on nothing but the
    file and `size`. To know the beginnings for certain the whole file is unpacked once, unless it fits one range.
    """
    require_regular(path)
    total = path.stat().st_size
    cuts = [0]
    if total > size:
        for unit in read_blocks(path):
            if isinstance(unit, Block) and unit.index == 0 and unit.offset >= cuts[-1] + size:
                cuts.append(unit.offset)
    return list(zip(cuts, [*cuts[1:], total], strict=True))


def _is_packed(file: File) -> bool:
    """Whether this is gzip; where the file's beginning is damaged, whichever comes first decides."""
    head = file.at(0, LINE_BYTES)
    if begins_record(head):
        return False
    return head.startswith(MAGIC) or next_member(file, 0) < next_record(file, 0)


def _read_plain(file: File, start: int, stop: int, max_bytes: int) -> Iterator[Block | Lost]:
    begin = next_record(file, start) if start else 0
    for stretch in split(file, max_bytes, begin=begin) if begin < stop else ():
        if stretch.begin >= stop and next_record(file, stretch.begin) == stretch.begin:
            return
        if (stretch.begin, stretch.end) == (0, file.size) and stretch.why == "malformed":
            stretch = replace(stretch, why=_why_nothing(file.at(0, LINE_BYTES)))
        yield _unit(stretch, stretch.begin, 0, stretch.end - stretch.begin)


def _read_gzip(file: File, start: int, stop: int, max_bytes: int) -> Iterator[Block | Lost]:
    position = next_member(file, start) if start else 0
    if start >= stop:
        return
    while position < stop or (position < file.size and not begins_member(file, position)):
        position = yield from _read_member(file, position, max_bytes)


def _read_member(file: File, start: int, max_bytes: int) -> Generator[Block | Lost, None, int]:
    """What begins at `start`; returns where to go on."""
    hold = max_bytes + HEADER_BYTES + LINE_BYTES
    unpacked = unpack(file, start, hold)
    end = _goes_on(file, start, unpacked)
    if why := _why_lost(file, start, end, unpacked):
        yield Lost(start, end - start, why)
        return end
    stretches: Iterable[Stretch] = _stretches(file, start, unpacked, max_bytes)
    if unpacked.is_held and unpacked.state == "whole":
        last = (stretches := list(stretches))[-1]
        if last.why == "truncated" and (joined := _joined(file, unpacked, last.begin, hold)):
            unpacked, end = joined, joined.end
            stretches = _stretches(file, start, unpacked, max_bytes)
    index = 0
    for stretch in stretches:
        until, since = ((end - start) * part // unpacked.size for part in (stretch.end, stretch.begin))
        yield _unit(stretch, start, index, until - since)
        index += stretch.why is None
    return end


def _goes_on(file: File, start: int, unpacked: Unpacked) -> int:
    """Where the next member begins. Behind a broken one that may be anywhere: inflate ran on into what followed."""
    if not begins_record(unpacked.data) or unpacked.state in ("corrupt", "truncated"):
        return next_member(file, start + 1)
    return next_member(file, unpacked.end) if unpacked.state == "bomb" else unpacked.end


def _why_lost(file: File, start: int, end: int, unpacked: Unpacked) -> Why | None:
    """Why the member at `start` is lost as a whole; None where it has records to give."""
    cut = unpacked.state == "truncated" and end == file.size
    if begins_record(unpacked.data) and (cut or unpacked.state in ("whole", "bomb")):
        return None
    if cut and len(unpacked.data) < _VERSION_LINE:
        return "truncated"
    return "not_an_archive" if (start, end) == (0, file.size) and unpacked.data else "corrupt"


def _stretches(file: File, start: int, unpacked: Unpacked, max_bytes: int) -> Iterator[Stretch]:
    cut = unpacked.state != "whole"
    data: Readable = Held(unpacked.data)
    if not unpacked.is_held:
        data = Stream(Member(file, start), unpacked.size)
    for stretch in split(data, max_bytes, cut=cut):
        given_up = unpacked.state == "bomb" and stretch.why is not None and stretch.end == unpacked.size
        yield replace(stretch, why="too_large") if given_up else stretch


def _joined(file: File, unpacked: Unpacked, begin: int, hold: int) -> Unpacked | None:
    """A member with those behind it that go on with its last record, at `begin`: some writers pack in pieces."""
    until = promised_end(Held(unpacked.data), begin) or 0
    pieces, size, end = [unpacked.data], unpacked.size, unpacked.end
    while size < until <= hold and file.at(end, len(MAGIC)) == MAGIC and not begins_member(file, end):
        more = unpack(file, end, hold - size)
        if more.state != "whole" or not more.is_held:
            return None
        pieces.append(more.data)
        size, end = size + more.size, more.end
    return Unpacked(b"".join(pieces), size, end, "whole") if 0 < until <= size else None


def _why_nothing(head: bytes) -> Why:
    """Why a file without any record is none: it breaks off in the first, or it is something else."""
    return "malformed" if begins_record(head) else "not_an_archive"


def _unit(stretch: Stretch, offset: int, index: int, length: int) -> Block | Lost:
    if stretch.why is None:
        return Block(offset, index, length, stretch.data)
    return Lost(offset, length, stretch.why)
