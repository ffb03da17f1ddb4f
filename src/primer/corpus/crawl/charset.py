"""From a page's bytes to its text: which charset is believed, and what is given up as undecodable."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal

from primer.errors import missing_extra

Source = Literal["bom", "http", "meta", "utf-8", "detected"]

MOST_REPLACED: Final = 0.01
"""The share of characters that may be U+FFFD where no charset fits all bytes."""

_CERTAIN: Final = 32
"""So many non-ASCII bytes are no valid UTF-8 by chance, even as double bytes: of GBK's characters 8 % would pass."""

_PRESCANNED = 1024
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_COMMENT = re.compile(rb"<!--.*?(?:-->|\Z)", re.DOTALL)
_META = re.compile(rb"""<meta[\s/][^>]*?charset\s*=\s*["']?\s*([^\s"'/>;]+)""", re.IGNORECASE)
_XML = re.compile(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([^"'>]+)["']""", re.IGNORECASE)

_AS_BROWSERS_DO = {
    "iso8859-1": "cp1252", "ascii": "cp1252", "iso8859-9": "cp1254", "iso8859-11": "cp874", "tis-620": "cp874",
    "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949", "big5": "big5hkscs",
    "utf-16": "utf-16-le",
}  # fmt: skip
"""Codecs that the WHATWG Encoding Standard reads as larger ones, since pages use what is beyond their own."""

_NO_CHARSETS = frozenset(
    {"utf_7", "idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"}
)
_MULTI_BYTE = frozenset(
    {"gb18030", "cp932", "cp949", "big5hkscs", "euc_jp", "iso2022_jp", "utf-16-le", "utf-16-be"}
)
_NAMES = {
    "cp932": "shift_jis", "cp949": "euc-kr", "big5hkscs": "big5", "euc_jp": "euc-jp", "iso2022_jp": "iso-2022-jp",
    "mac-roman": "macintosh", "mac-cyrillic": "x-mac-cyrillic", "cp866": "ibm866", "cp874": "windows-874",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Decoded:
    """A page's text, by its charset's name in the WHATWG Encoding Standard, and what named that charset.

    The text can be encoded as UTF-8 and holds no NUL: HTML's parser ignores them (13.2.6.4.7), others end there.
    """

    text: str
    charset: str
    source: Source


def decode(payload: bytes, http_charset: str = "") -> Decoded | None:
    """The text of a page: as its byte order mark says, else HTTP, else its meta tag, else UTF-8, else a detector.

    The order is the WHATWG's (HTML, 13.2.3.2). Two departures, since a crawl cannot look at what it shows:
    - A charset is believed only if all bytes are valid in it (windows-1252 has its five undefined bytes as controls).
      Where none is, UTF-8 or the detector's choice is taken if at most MOST_REPLACED of the characters are replaced;
      else the page is undecodable: None.
    - Non-ASCII bytes that are valid UTF-8 are UTF-8, though HTTP or meta name another charset: a text in a
      single-byte charset is that by chance with negligible probability (every accented letter would have to be part
      of a sequence such as "Ã©"). For multi-byte charsets only if there are over _CERTAIN of them.
    """
    for mark, codec in _BOMS:
        if payload.startswith(mark):
            return _strictly(payload[len(mark) :], codec, "bom") or _mostly(
                payload[len(mark) :], codec, "bom"
            )
    utf8 = _strictly(payload, "utf-8", "utf-8")
    return (
        _believed(payload, http_charset, "http", utf8)
        or _believed(payload, _meta_charset(payload), "meta", utf8)
        or utf8
        or _nearly_utf8(payload)
        or _detected(payload)
    )


def decode_as_datatrove(payload: bytes) -> str | None:
    """As datatrove's WarcReader: strict UTF-8, else strictly in what a detector says, else None. Nothing is cleaned.

    Its detector is cchardet, this one resiliparse's; both wrap uchardet, in different versions.
    """
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError:
        name = _detect(payload)
    try:
        return payload.decode(name) if name and name.lower() != "utf-8" else None
    except (UnicodeDecodeError, LookupError):
        return None


@lru_cache(maxsize=256)
def codec_of(label: str) -> str | None:
    """Python's codec for what a page calls its charset; None for what names none."""
    label = label.strip(" \t\r\n\"'").lower()
    try:
        info = codecs.lookup(_html5(label) or label)
    except (LookupError, ValueError):
        return None
    if not getattr(info, "_is_text_encoding", True) or info.name.replace("-", "_") in _NO_CHARSETS:
        return None
    return _AS_BROWSERS_DO.get(info.name, info.name)


def _believed(payload: bytes, label: str, source: Source, utf8: Decoded | None) -> Decoded | None:
    """The text by a declared charset, or as the UTF-8 that it is in spite of it; None if it isn't that charset."""
    codec = codec_of(label)
    if codec is None:
        return None
    if codec == "utf-8":
        return utf8 and replace(utf8, source=source)
    by_chance = _CERTAIN if codec in _MULTI_BYTE else 0
    if utf8 and _non_ascii(payload) > by_chance:
        return utf8
    return _strictly(payload, codec, source)


def _strictly(payload: bytes, codec: str, source: Source) -> Decoded | None:
    try:
        text = payload.decode(codec)
    except UnicodeDecodeError:
        if codec != "cp1252":
            return None
        text = payload.decode("latin-1").translate(_WINDOWS_1252)
    return _clean(text, codec, source)


def _mostly(payload: bytes, codec: str, source: Source) -> Decoded | None:
    text = payload.decode(codec, "replace")
    return _clean(text, codec, source) if text.count("\ufffd") <= MOST_REPLACED * len(text) else None


def _nearly_utf8(payload: bytes) -> Decoded | None:
    """UTF-8 with a few broken bytes, such as a page that was cut inside a character: a detector may say otherwise."""
    text = payload.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    whole = sum(map(len, re.findall(r"[^\x00-\x7f\ufffd]+", text)))
    few = broken <= MOST_REPLACED * len(text) and broken * 4 <= whole
    return _clean(text, "utf-8", "utf-8") if few else None


def _detected(payload: bytes) -> Decoded | None:
    codec = codec_of(_detect(payload) or "")
    if codec is None:
        return None
    return _strictly(payload, codec, "detected") or _mostly(payload, codec, "detected")


def _clean(text: str, codec: str, source: Source) -> Decoded:
    if "\0" in text:
        text = text.replace("\0", "")
    name = _NAMES.get(codec) or re.sub(r"^cp(125\d)$", r"windows-\1", codec.replace("iso8859", "iso-8859"))
    return Decoded(text, name, source)


_WINDOWS_1252 = {
    byte: bytes([byte]).decode("cp1252") for byte in range(0x80, 0xA0) if byte not in b"\x81\x8d\x8f\x90\x9d"
}
"""What windows-1252 has where Latin-1 has controls; its five undefined bytes stay controls, as in browsers."""


def _meta_charset(payload: bytes) -> str:
    """What a page says in its first 1024 bytes, roughly as the WHATWG's prescan: meta, or XML's declaration.

    What could be read as ASCII is not UTF-16, so that means UTF-8.
    """
    head = _COMMENT.sub(b"", payload[:_PRESCANNED])
    found = _META.search(head) or _XML.match(head)
    label = found[1].decode("ascii", "replace").lower() if found else ""
    return "utf-8" if label.startswith("utf-16") else label


def _non_ascii(payload: bytes) -> int:
    return 0 if payload.isascii() else len(payload) - len(payload.decode("ascii", "ignore"))


def _html5(label: str) -> str | None:
    try:
        from resiliparse.parse.encoding import map_encoding_to_html5
    except ImportError as error:
        raise missing_extra("resiliparse", "corpus") from error
    return map_encoding_to_html5(label, fallback_utf8=False)


def _detect(payload: bytes) -> str | None:
    try:
        from resiliparse.parse.encoding import detect_encoding
    except ImportError as error:
        raise missing_extra("resiliparse", "corpus") from error
    return detect_encoding(payload, html5_compatible=False)
