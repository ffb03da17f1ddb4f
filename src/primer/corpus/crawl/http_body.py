"""An HTTP message's fields, and its body as a browser would see it: chunks joined, compression undone, within bounds.

Servers declare what they do not do. A body that is not what its header says is left as it is (RFC 9112 and 9110 say
what it should be; browsers and warcio read on): what is garbage then is for later stages to see.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator

from primer.corpus.crawl.record_bounds import Why

_FOLD = re.compile(r"\r?\n[ \t]+")
_CHUNK = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
_LINE_END = re.compile(rb"\r?\n")
_PIECE = 1 << 14


def fields(head: bytes) -> dict[str, str]:
    """The fields of a header by their names in lower case; of several of one name the first, as warcio reads them."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError:
        text = head.decode("latin-1")
    if "\n " in text or "\n\t" in text:
        text = _FOLD.sub(" ", text)
    named: dict[str, str] = {}
    for line in text.split("\n"):
        name, colon, value = line.partition(":")
        if colon:
            named.setdefault(name.strip().lower(), value.strip())
    return named


def decode_body(body: bytes, transfer: str, content: str, limit: int) -> bytes | Why:
    """Undo the Transfer-Encoding and Content-Encoding of a body.

    "too_large" if it unpacks to more than `limit` bytes, "malformed" if it is br or zstd and cannot be unpacked.
    Of a gzip or deflate stream that breaks off, what came before is taken.
    """
    if not transfer and not content:
        return body
    decoded: bytes | Why = dechunk(body) if "chunked" in transfer.lower() else body
    for coding in reversed((transfer + "," + content).lower().split(",")):
        if isinstance(decoded, bytes):
            decoded = _undo(coding.strip(), decoded, limit)
    return decoded


def dechunk(body: bytes) -> bytes:
    """Join the chunks of a chunked body; where one does not end as it says, or none begins, the rest stays as it is."""
    pieces: list[bytes] = []
    position = 0
    while chunk := _CHUNK.match(body, position):
        size = int(chunk[1], 16)
        if size == 0:
            return b"".join(pieces)
        pieces.append(body[chunk.end() : chunk.end() + size])
        position = chunk.end() + size
        line_end = _LINE_END.match(body, position)
        if not line_end:
            break
        position = line_end.end()
    return b"".join([*pieces, body[position:]])


def _undo(coding: str, body: bytes, limit: int) -> bytes | Why:
    if coding in ("gzip", "x-gzip") and body.startswith(b"\x1f\x8b"):
        return _inflated(body, 16 + zlib.MAX_WBITS, limit)
    if coding == "deflate":  # zlib's wrapping is what the RFC means, and none is what some servers send
        wrapped = _inflated(body, zlib.MAX_WBITS, limit)
        return wrapped if wrapped is not body else _inflated(body, -zlib.MAX_WBITS, limit)
    if coding in ("br", "zstd") and body:
        return _read_with_fastwarc(coding, body, limit)
    return body


def _inflated(body: bytes, wbits: int, limit: int) -> bytes | Why:
    """What inflate makes of a body up to its first fault, the body itself if that is nothing, or "too_large"."""
    pieces: list[bytes] = []
    size = 0
    for piece in _inflate(body, wbits, limit + 1):
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            return "too_large"
    return b"".join(pieces) if size else body


def _inflate(body: bytes, wbits: int, most: int) -> Iterator[bytes]:
    engine = zlib.decompressobj(wbits)
    for start in range(0, len(body), _PIECE):
        before = engine.copy()
        try:
            yield engine.decompress(body[start : start + _PIECE], most)
        except zlib.error:
            yield from _inflate_bytewise(before, body[start : start + _PIECE])
            return
        if engine.eof or engine.unconsumed_tail:
            return


def _inflate_bytewise(engine: zlib._Decompress, piece: bytes) -> Iterator[bytes]:
    """All that comes before the fault: an error takes the output of its whole call with it."""
    for position in range(len(piece)):
        try:
            yield engine.decompress(piece[position : position + 1])
        except zlib.error:
            return


def _read_with_fastwarc(coding: str, body: bytes, limit: int) -> bytes | Why:
    try:
        from fastwarc.stream_io import BrotliReader, ZstdReader
    except ImportError:
        return "malformed"
    reader = (BrotliReader if coding == "br" else ZstdReader)(io.BytesIO(body))
    try:
        text = reader.read(limit + 1)
    except OSError:
        return "malformed"
    return text if len(text) <= limit else "too_large"
