"""Records of web archives, WARC and ARC, each with its fields and the bytes that a browser would have shown.

The headers are parsed here and not by FastWARC or warcio: FastWARC 2 gives an empty payload, and says nothing,
where an HTTP header's lines end in a bare line feed or a header is missing, and reads no ARC; warcio unpacks without
a bound. The tests hold the result against both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from primer.corpus.crawl.blocks import MAX_BYTES, Block, Lost, read_blocks
from primer.corpus.crawl.http_body import decode_body, fields
from primer.corpus.crawl.record_bounds import Why

_EMPTY_LINE = re.compile(rb"\r?\n\r?\n")
_CHARSET = re.compile(r"""charset\s*=\s*["']?([^\s"';,]+)""", re.IGNORECASE)
_HTTP_BEGINS = re.compile(rb"HTTP/|[A-Z]+ \S+")
_HTTP_RESPONSE = re.compile(rb"HTTP/\d")
_STATUS = re.compile(rb"HTTP/\d(?:\.\d)?[ \t]+(\d{3})")
_STAMP = re.compile(r"\d{12,18}")
_HTML = ("text/html", "application/xhtml+xml")


@dataclass(frozen=True, slots=True)
class Record:
    """One record. What the archive does not tell is "" (status: 0)."""

    offset: int
    index: int
    kind: str
    """WARC-Type; for ARC "response", and "warcinfo" for the record about the file."""
    url: str
    date: str
    """As ISO 8601, in UTC."""
    record_id: str
    identified: str
    """WARC-Identified-Payload-Type: what the crawler found the payload to be."""
    content_type: str
    """What the server called it, in lower case without parameters; of records without HTTP, what the archive says."""
    charset: str
    status: int
    payload: bytes
    """The HTTP body without transfer and content encodings; of records without HTTP their content."""


def read_archive(
    path: Path, start: int = 0, stop: int | None = None, *, max_bytes: int = MAX_BYTES
) -> Iterator[Record | Lost]:
    """The records and losses of `read_blocks`, parsed; a payload that unpacks beyond `max_bytes` is lost as well."""
    for block in read_blocks(path, start, stop, max_bytes=max_bytes):
        if isinstance(block, Lost):
            yield block
            continue
        record = parse(block, max_bytes)
        yield record if isinstance(record, Record) else Lost(block.offset, block.length, record)


def parse(block: Block, max_bytes: int = MAX_BYTES) -> Record | Why:
    """A block's record, or why there is none."""
    data = block.data.lstrip(b"\r\n")
    return (_parse_warc if data.startswith(b"WARC/") else _parse_arc)(block, data, max_bytes)


def is_html(record: Record) -> bool:
    """Whether this is a page, as datatrove's WarcReader decides: by the identified type, else by a look at it.

    Departs from it where nothing is identified: datatrove asks libmagic, which looks at the bytes alone; here the
    server's word counts, and the bytes only where it says nothing (the tags of WHATWG's MIME sniffing, section 7.1,
    and XHTML's). What is an image or a PDF in spite of the name is for `looks_binary`.
    """
    if record.kind not in ("response", "conversion"):
        return False
    allowed = (*_HTML, "text/plain") if record.kind == "conversion" else _HTML
    named = record.identified or record.content_type
    if named:
        return named in allowed
    return _sniffs_html(record.payload) or ("text/plain" in allowed and not looks_binary(record.payload))


def looks_binary(payload: bytes) -> bool:
    """Whether bytes are a known kind of image, document, packed or sound file, or over a tenth NULs (not UTF-16)."""
    head = payload[:4096]
    if head.startswith(_SIGNATURES) or head[4:8] == b"ftyp":
        return True
    is_utf16 = head.startswith((b"\xff\xfe", b"\xfe\xff", b"<\0", b"\0<"))
    return not is_utf16 and head.count(0) * 10 > len(head)


_SIGNATURES = (
    b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"\xff\xd8\xff", b"RIFF", b"\0\0\1\0", b"II*\0", b"MM\0*",
    b"%PDF-", b"%!PS-", b"{\\rtf", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    b"PK\3\4", b"PK\5\6", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"7z\xbc\xaf'\x1c", b"Rar!\x1a\7", b"\x28\xb5\x2f\xfd",
    b"\x7fELF", b"MZ\x90\0", b"wOFF", b"wOF2", b"ID3", b"OggS", b"fLaC", b"\x1a\x45\xdf\xa3", b"FWS", b"CWS",
)  # fmt: skip
"""First bytes of files that servers send as text/html by mistake."""

_TAGS = re.compile(
    rb"(?:\xef\xbb\xbf)?[\t\n\f\r ]*(?:<\?xml[^>]*>[\t\n\f\r ]*)?(?:<!--|<(?:!doctype html|html|head|script|iframe|h1"
    rb"|div|font|table|a|style|title|b|body|br|p)[\t\n\f\r >])",
    re.IGNORECASE,
)


def _sniffs_html(payload: bytes) -> bool:
    return bool(_TAGS.match(payload[:1445]))  # as many bytes as WHATWG's algorithm looks at


class _Head(NamedTuple):
    """What an archive says about a record, WARC or ARC. media: the type of its content."""

    kind: str
    url: str
    date: str
    media: str
    record_id: str = ""
    identified: str = ""


def _parse_warc(block: Block, data: bytes, max_bytes: int) -> Record | Why:
    blank = _EMPTY_LINE.search(data)
    named = fields(data[: blank.start()]) if blank else {}
    content = _content(data, blank.end() if blank else 0, named.get("content-length", ""))
    if content is None:
        return "malformed"
    head = _Head(
        kind=named.get("warc-type", "").lower(),
        url=_address(named.get("warc-target-uri", "")),
        date=named.get("warc-date", ""),
        media=named.get("content-type", ""),
        record_id=named.get("warc-record-id", ""),
        identified=named.get("warc-identified-payload-type", "").lower(),
    )
    return _record(block, head, data, content, max_bytes)


def _parse_arc(block: Block, data: bytes, max_bytes: int) -> Record | Why:
    """An ARC record of version 1 or 2. Its address may hold spaces, so its words are counted from the date."""
    begin = data.find(b"\n") + 1
    words = data[:begin].decode("utf-8", "replace").strip().split(" ")
    stamps = [place for place in range(2, len(words) - 1) if _STAMP.fullmatch(words[place])]
    content = _content(data, begin, words[-1])
    if not stamps or content is None:
        return "malformed"
    url = " ".join(words[: stamps[-1] - 1])
    head = _Head(
        kind="warcinfo" if url.startswith("filedesc:") else "response",
        url=_address(url),
        date=_iso(words[stamps[-1]]),
        media=words[stamps[-1] + 1],
    )
    return _record(block, head, data, content, max_bytes)


def _content(data: bytes, begin: int, length: str) -> tuple[int, int] | None:
    """Where a block's content lies; None if its header's length is not the one that the block was cut out by."""
    end = begin + int(length) if length.isdecimal() and len(length) <= 18 else -1
    return (begin, end) if 0 <= end <= len(data) and not data[end:].strip(b"\r\n") else None


def _record(block: Block, head: _Head, data: bytes, content: tuple[int, int], max_bytes: int) -> Record | Why:
    """The record whose content is data[content[0]:content[1]]; only what becomes its payload is copied."""
    begin, end = content
    media, status = head.media, 0
    declared = media.lower().startswith("application/http")
    if (_HTTP_BEGINS if declared else _HTTP_RESPONSE).match(data, begin, end):
        blank = _EMPTY_LINE.search(data, begin, end)
        named = fields(data[begin : blank.start() if blank else end])
        body = data[blank.end() : end] if blank else b""
        payload = decode_body(
            body, named.get("transfer-encoding", ""), named.get("content-encoding", ""), max_bytes
        )
        code = _STATUS.match(data, begin, end)
        media, status = named.get("content-type", ""), int(code[1]) if code else 0
    else:
        payload = data[begin:end]
        media = "" if declared else media  # HTTP/0.9 is a body and nothing else
    if isinstance(payload, str):
        return payload
    charset = _CHARSET.search(media)
    return Record(
        offset=block.offset,
        index=block.index,
        kind=head.kind,
        url=head.url,
        date=head.date,
        record_id=head.record_id,
        identified=head.identified,
        content_type=media.partition(";")[0].strip().lower(),
        charset=charset[1] if charset else "",
        status=status,
        payload=payload,
    )


def _address(written: str) -> str:
    """An address without the angle brackets that wget once put around it, and with its spaces escaped, as in warcio."""
    if written.startswith("<") and written.endswith(">"):
        written = written[1:-1]
    return written.replace(" ", "%20")


def _iso(stamp: str) -> str:
    """20140216050221 as 2014-02-16T05:02:21Z; what is shorter, as it is."""
    if len(stamp) < 14:
        return stamp
    return f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}T{stamp[8:10]}:{stamp[10:12]}:{stamp[12:14]}Z"
