"""Members of a gzip file (RFC 1952): where each begins and ends, and its bytes, within bounds of memory and time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import BinaryIO, Final, Literal, cast

from primer.corpus.crawl.record_bounds import LINE_BYTES, begins_record

try:
    from isal import isal_zlib as zlib  # the same in half the time (extra [corpus])
except ImportError:
    import zlib  # type: ignore[no-redef]

_BROKEN = cast("type[Exception]", zlib.error)
MAGIC: Final = b"\x1f\x8b\x08"
_RESERVED_FLAGS = 0xE0
_READ = 1 << 14
"""Bytes fed to inflate at once: about a member of Common Crawl, since what lies behind a member is fed in vain."""
_UNPACK = 1 << 20
_WINDOW = 1 << 19

PATIENCE: Final = 64
"""A member is given up when it has unpacked to over PATIENCE times what may be held of a record, and to over
PATIENCE times its own size: text rarely packs that well, a gzip bomb a thousandfold."""

State = Literal["open", "whole", "truncated", "corrupt", "bomb"]


@dataclass(slots=True)
class File:
    """A file's bytes by position: a `Readable` that forgets nothing, and reads from the disk in large pieces."""

    file: BinaryIO
    size: int
    _begin: int = 0
    _held: bytes = b""

    @property
    def first(self) -> int:
        return 0

    def at(self, position: int, length: int) -> bytes:
        offset = position - self._begin
        if offset < 0 or min(offset + length, self.size - self._begin) > len(self._held):
            self.file.seek(position)
            self._held = self.file.read(max(length, _WINDOW))
            self._begin, offset = position, 0
        return self._held[offset : offset + length]

    def release(self, position: int) -> None:
        pass


class Member:
    """The gzip member that begins at `position`, unpacked piece by piece; its CRC is checked at its end."""

    def __init__(self, file: File, position: int) -> None:
        self.file = file
        self.position = position
        """Of the first byte of the file that was not used yet."""
        self.state: State = "open"
        self._engine = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    def read(self) -> bytes:
        """The next piece, of at most 1 MiB; b"" when there is none, and then `state` tells why."""
        while self.state == "open":
            fed = self.file.at(self.position, _READ)
            try:
                piece = self._engine.decompress(fed, _UNPACK)
            except _BROKEN:
                self.state = "corrupt"
                return b""
            rest = self._engine.unused_data if self._engine.eof else self._engine.unconsumed_tail
            self.position += len(fed) - len(rest)
            if self._engine.eof:
                self.state = "whole"
            elif not fed and not piece:
                self.state = "truncated"
            if piece:
                return piece
        return b""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What a member unpacks to: `size` bytes, all in `data` unless that is more than may be held."""

    data: bytes
    size: int
    end: int
    """Where in the file reading stopped: behind the member if its state is "whole"."""
    state: State

    @property
    def is_held(self) -> bool:
        return self.size == len(self.data)


def unpack(file: File, start: int, hold: int) -> Unpacked:
    """Unpack the member at `start` to its end, holding at most `hold` bytes (else only its first megabyte).

    Takes time in proportion to the member's bytes in the file, and at most that for PATIENCE × hold bytes unpacked
    or PATIENCE times its packed size, whichever is more.
    """
    member = Member(file, start)
    pieces: list[bytes] = []
    size = 0
    while piece := member.read():
        size += len(piece)
        if size <= hold or not pieces:
            pieces.append(piece)
        else:
            del pieces[1:]
        if size > PATIENCE * max(hold, member.position - start):
            member.state = "bomb"
    whole = b"".join(pieces) if len(pieces) != 1 else pieces[0]
    return Unpacked(whole, size, member.position, member.state)


@dataclass(slots=True)
class Stream:
    """The first `size` bytes that a member unpacks to, readable forwards only: what is released is forgotten."""

    member: Member
    size: int
    first: int = 0
    _held: bytearray = field(default_factory=bytearray)

    def at(self, position: int, length: int) -> bytes:
        stop = min(position + length, self.size)
        while self.first + len(self._held) < stop and (piece := self.member.read()):
            self._held += piece
        return bytes(self._held[position - self.first : max(stop, position) - self.first])

    def release(self, position: int) -> None:
        position = min(position, self.size)
        while self.first + len(self._held) < position and (piece := self.member.read()):
            self.first += len(self._held)
            self._held[:] = piece
        gone = min(position - self.first, len(self._held))
        del self._held[:gone]
        self.first += gone


def begins_member(file: File, position: int) -> bool:
    """Whether a gzip member begins at `position` whose first bytes begin like a record."""
    head = file.at(position, LINE_BYTES)
    if not head.startswith(MAGIC) or head[3:4] > b"\x1f":
        return False
    try:
        return begins_record(zlib.decompressobj(wbits=16 + zlib.MAX_WBITS).decompress(head, LINE_BYTES))
    except _BROKEN:
        return False


def next_member(file: File, start: int) -> int:
    """The first position from `start` on where a member with a record begins, else the file's size."""
    position = start
    while position < file.size:
        piece = file.at(position, _WINDOW + len(MAGIC))
        hit = piece.find(MAGIC)
        while hit >= 0 and hit < _WINDOW:
            if begins_member(file, position + hit):
                return position + hit
            hit = piece.find(MAGIC, hit + 1)
        position += _WINDOW
    return file.size
