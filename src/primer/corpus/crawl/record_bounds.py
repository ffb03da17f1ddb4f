"""Where a record of a WARC or ARC file begins and ends, and which bytes belong to none.

A record of WARC 1.x is a version line, fields, an empty line, `Content-Length` bytes and two line ends (ISO 28500,
section 4); one of ARC is a line of five or ten words that ends in a length, that many bytes and a line end (the
Internet Archive's ARC 1.0). A length is believed only if what follows it is what must follow a record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol

Why = Literal["truncated", "corrupt", "too_large", "not_an_archive", "malformed"]
"""Why bytes were lost: the file ends inside them; a checksum or the packing is wrong; more than may be held; nothing
in the file begins like a record; the bytes are the writer's own, but no record's."""

HEADER_BYTES: Final = 1 << 16
"""The longest header of a record that is read."""

LINE_BYTES: Final = 1 << 12
"""The longest first line, and how far behind a record one looks for the next."""

WARC_BEGINS: Final = re.compile(rb"WARC/\d\.\d{1,2}\r?\n")
ARC_BEGINS: Final = re.compile(
    rb"[A-Za-z][A-Za-z0-9+.-]{1,20}:[^\r\n]{1,2048}? \S{1,64} \d{12,18} [^\r\n]{1,1024}\r?\n"
)
_ARC_LINE = re.compile(rb"(?<=\n)" + ARC_BEGINS.pattern)
_EMPTY_LINE = re.compile(rb"\r?\n\r?\n")
_LENGTH = re.compile(rb"\ncontent-length[ \t]*:[ \t]*(\d{1,18})[ \t]*\r?\n", re.IGNORECASE)
_LINE_ENDS = b"\r\n"


class Readable(Protocol):
    """`size` bytes by position. What was released may be forgotten: `first` is the earliest that can be read."""

    @property
    def size(self) -> int: ...

    @property
    def first(self) -> int: ...

    def at(self, position: int, length: int) -> bytes:
        """The bytes from `position` on, `length` of them or up to the end."""
        ...

    def release(self, position: int) -> None:
        """Nothing before `position` will be asked for."""
        ...


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes that are in memory anyway."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def first(self) -> int:
        return 0

    def at(self, position: int, length: int) -> bytes:
        return self.data[position : position + length]

    def release(self, position: int) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bytes [begin, end) of what was split: a record's (`data`, with its closing line ends) or lost ones (`why`)."""

    begin: int
    end: int
    data: bytes = b""
    why: Why | None = None


def begins_record(data: bytes) -> bool:
    """Whether bytes begin like a record; line ends that a writer left in front of it are passed over."""
    text = data.lstrip(_LINE_ENDS)
    return bool(WARC_BEGINS.match(text) or ARC_BEGINS.match(text))


def split(data: Readable, max_bytes: int, *, begin: int = 0, cut: bool = False) -> Iterator[Stretch]:
    """The records of `data` from `begin` on, and what is none, in order and without a gap.

    A record whose content is longer than `max_bytes` is passed over, not read. cut: the data are known to end too
    early, so their last record is trusted only if the next has begun behind it. Holds at most
    max_bytes + HEADER_BYTES + LINE_BYTES.
    """
    while begin < data.size:
        data.release(begin)
        stretch = _record_at(data, begin, max_bytes, cut=cut)
        if stretch.why in ("malformed", "truncated"):
            stretch = _resynchronised(data, stretch, cut=cut)
        yield stretch
        begin = stretch.end


def promised_end(data: Readable, begin: int) -> int | None:
    """Where the record at `begin` ends by its own account (closing line ends not counted); None if it tells none."""
    length = _measure(data.at(begin, HEADER_BYTES))
    return None if length is None else begin + sum(length)


def _record_at(data: Readable, begin: int, max_bytes: int, *, cut: bool) -> Stretch:
    """The record that begins at `begin`; with why="malformed" or "truncated" where none does, or not all of it."""
    head = data.at(begin, LINE_BYTES)
    length = _measure(head)
    if length is None and len(head) == LINE_BYTES:
        head = data.at(begin, HEADER_BYTES)
        length = _measure(head)
    if length is None:
        return Stretch(begin, begin, why="truncated" if _breaks_off(head) else "malformed")
    header, content = length
    end = begin + header + content
    if end > data.size:
        return Stretch(begin, begin, why="truncated")
    if content > max_bytes:
        data.release(end)
    closing = _closing(data.at(end, LINE_BYTES), cut=cut)
    if closing is None:
        at_end = data.size - end <= LINE_BYTES
        return Stretch(begin, begin, why="truncated" if cut and at_end else "malformed")
    end += closing
    if content > max_bytes:
        return Stretch(begin, end, why="too_large")
    return Stretch(begin, end, data.at(begin, end - begin))


def _resynchronised(data: Readable, broken: Stretch, *, cut: bool) -> Stretch:
    """A broken stretch up to where the next record seems to begin; what a cut breaks off goes to the end."""
    if cut and broken.why == "truncated":
        return replace(broken, end=data.size)
    end = next_record(data, max(broken.begin + 1, data.first))
    return replace(broken, end=end, why=broken.why if end == data.size else "malformed")


def next_record(data: Readable, start: int, window: int = 1 << 20) -> int:
    """The first position from `start` on where a record seems to begin, else the end of the data."""
    position = max(start - 1, data.first)  # one byte more: it tells whether a line begins at `start`
    while position < data.size:
        data.release(position)
        piece = data.at(position, window + LINE_BYTES)
        hits = (kind.search(piece, max(start - position, 0)) for kind in (WARC_BEGINS, _ARC_LINE))
        nearest = min((hit.start() for hit in hits if hit), default=len(piece))
        if nearest < min(window, len(piece)):
            return position + nearest
        position += window - 1
    return data.size


def _measure(head: bytes) -> tuple[int, int] | None:
    """Bytes of the header (with line ends in front of it) and of the content, as it tells; None if it doesn't."""
    text = head.lstrip(_LINE_ENDS)
    if WARC_BEGINS.match(text):
        blank = _EMPTY_LINE.search(text)
        found = _LENGTH.search(text, 0, blank.start() + 2) if blank else None
        if not blank or not found or WARC_BEGINS.search(text, 1, blank.start()):
            return None  # a version line inside is the next record's: this header broke off before it
        return len(head) - len(text) + blank.end(), int(found[1])
    if line := ARC_BEGINS.match(text):
        last = line[0].split()[-1]
        return (len(head) - len(text) + line.end(), int(last)) if last.isdigit() else None
    return None


def _breaks_off(head: bytes) -> bool:
    """Whether these are all the bytes that are left, and they begin a record whose header does not end."""
    text = head.lstrip(_LINE_ENDS)
    return len(head) < HEADER_BYTES and begins_record(head) and not _EMPTY_LINE.search(text)


def _closing(tail: bytes, *, cut: bool) -> int | None:
    """How many line ends close a record before `tail` goes on; None if what follows cannot follow a record.

    A WARC record's two line ends are proof enough in themselves: what comes after them may be the damage.
    """
    rest = tail.lstrip(_LINE_ENDS)
    if begins_record(rest) or (not cut and (not rest or tail.startswith(b"\r\n\r\n"))):
        return len(tail) - len(rest)
    return None
