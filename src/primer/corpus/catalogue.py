"""The messages of a program and their translations, as gettext keeps them: `.po` for people, `.mo` for the program.

polib reads both, but takes a file whole, and takes it at its word: so what it is given is bounded, and looked at first.
Formats: GNU gettext manual, "The Format of PO Files" and "The Format of GNU MO Files".
"""

from __future__ import annotations

import codecs
import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from primer.corpus.pair import Pair, Rejected
from primer.corpus.readers import MAX_LINE, Decoding, checked, read_lines, unpacking
from primer.errors import DataError, UsageError, missing_extra

MAX_CATALOGUE = MAX_LINE
"""Bytes of the largest `.mo` and characters of the largest `.po` that are read: many times what programs have."""


def read_po(path: Path, decoding: Decoding, rejected: Rejected) -> Iterator[Pair]:
    """Every translated message of a `.po` file; of one with a plural the first two forms, a pair each.

    The header is no pair; what is obsolete, fuzzy or not translated is rejected. The header's charset counts, unless
    another encoding than UTF-8 is asked for. Raises DataError that names the line where this is no `.po` file.
    """
    polib = _polib()
    with unpacking(path) as file:
        head = file.read(1 << 16)
    decoding = decoding if head.startswith(codecs.BOM_UTF8) else _announced(head, decoding)
    with _our_words(path):
        entries = polib.pofile(_Lines(_statements(path, decoding)), encoding="utf-8")
    for entry in entries:
        line = max(1, entry.linenum)
        messages = [
            (
                checked(source, decoding, f"{path}, line {line}"),
                checked(target, decoding, f"{path}, line {line}"),
            )
            for source, target in _messages(entry)
        ]
        reason = "obsolete" if entry.obsolete else "fuzzy" if entry.fuzzy else None
        yield from _pairs(messages, f"{path.name}:{line}", reason, rejected)


def read_mo(path: Path, decoding: Decoding, rejected: Rejected) -> Iterator[Pair]:
    """Every translated message of a `.mo` file, as `read_po` gives them; a message's number is its place.

    Raises DataError for a file that is damaged or holds bytes that are not in its charset.
    """
    polib = _polib()
    with unpacking(path) as file:
        content = file.read(MAX_CATALOGUE + 1)
    _require_sound(path, content)
    with _our_words(path):
        # Every byte is a character of latin-1: so polib decodes nothing, and what is no text is found below.
        catalogue = polib.mofile(content, encoding="latin-1")
    decoding = _announced(catalogue.metadata.get("Content-Type", "").encode("latin-1"), decoding)
    for number, entry in enumerate(catalogue, start=1):
        where = f"{path}, message {number}"
        messages = [
            (_decoded(source, decoding, where), _decoded(target, decoding, where))
            for source, target in _messages(entry)
        ]
        yield from _pairs(messages, f"{path.name}:{number}", None, rejected)


def _polib() -> Any:
    try:
        import polib
    except ImportError as error:
        raise missing_extra("polib", "corpus") from error
    return polib


_CHARSET = re.compile(rb"charset=([\w.:-]+)")


def _announced(header: bytes, decoding: Decoding) -> Decoding:
    """How a catalogue is decoded that names a charset, where nobody has asked for another one."""
    found = _CHARSET.search(header)
    if found is None or codecs.lookup(decoding.encoding).name != "utf-8":
        return decoding
    try:
        return Decoding(found[1].decode("ascii", "replace"), decoding.errors)
    except UsageError:  # "CHARSET" stands in templates
        return decoding


class _Lines:
    """Lines for polib, which would cut a string itself, at form feeds too, and would open one that is a file's name."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = lines

    def splitlines(self) -> list[str]:
        """All of them."""
        return list(self.lines)


_STATEMENT = re.compile(r'(?:(?:msgctxt|msgid(?:_plural)?|msgstr(?:\[\d\])?)\s*)?"(?:[^"\\]++|\\.)*+"')


def _statements(path: Path, decoding: Decoding) -> list[str]:
    """The lines of a `.po` file, statements put into their first one (polib would copy what it has, line by line)."""
    lines: list[str] = []
    further: dict[int, list[str]] = {}
    """What the lines after it add to a line, by its index."""
    size, first = 0, -1
    for line in read_lines(path, decoding):
        size += len(line) + 1
        if size > MAX_CATALOGUE:
            raise _too_large(path)
        text = _cleaned(line)
        goes_on = text is not None and text.removeprefix("#~ ").startswith('"')
        if text is None or (goes_on and first < 0):
            where = f"{path}, line {len(lines) + 1}"
            raise DataError("no line of a .po file", where, 'msgid "…" and msgstr "…", quoted')
        if goes_on:
            further.setdefault(first, []).append(text.removeprefix("#~ ")[1:-1])
        elif text:
            first = -1 if text.startswith("#,") else len(lines)
        lines.append("" if goes_on else text)
    for index, texts in further.items():
        lines[index] = f'{lines[index][:-1]}{"".join(texts)}"'
    return lines


def _cleaned(line: str) -> str | None:
    """A line for polib, comments made empty (but for flags), since it stumbles over some; None for what is no line."""
    line = line.strip()
    if line.startswith("#,"):
        flags = line[2:].strip()
        return f"#, {flags}" if flags else ""
    old = "#~ " if line.startswith("#~") else ""
    statement = line[2:].lstrip() if old else line
    if not statement or statement.startswith(("#", "|")):  # #~| is what an obsolete message was before
        return ""
    return old + statement if _STATEMENT.fullmatch(statement) else None


def _require_sound(path: Path, content: bytes) -> None:
    """Refuse a `.mo` file whose tables lead out of it, or to more than there is in it."""
    if len(content) > MAX_CATALOGUE:
        raise _too_large(path)
    order = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}.get(content[:4])
    if order is None or len(content) < 20:
        raise _damaged(path, "it does not begin as one does")
    _, count, *tables = struct.unpack_from(f"{order}4I", content, 4)
    lengths = 0
    for table in tables:
        if table + 8 * count > len(content):
            raise _damaged(path, "a table leads out of it")
        for length, offset in struct.iter_unpack(f"{order}2I", content[table : table + 8 * count]):
            lengths += length
            if offset + length > len(content) or lengths > len(content):
                raise _damaged(path, "a message leads out of it")


@contextmanager
def _our_words(path: Path) -> Iterator[None]:
    """What polib, or an odd codec that a header names, has to say about a file."""
    try:
        yield
    except (OSError, ValueError, LookupError, ArithmeticError) as error:
        line = re.search(r"line (\d+)", str(error))
        raise _damaged(path, str(error), f", line {line[1]}" if line else "") from error


def _damaged(path: Path, why: str, line: str = "") -> DataError:
    return DataError(f"not a readable catalogue ({why})", f"{path}{line}", "make or fetch it again")


def _too_large(path: Path) -> DataError:
    return DataError(f"a catalogue of more than {MAX_CATALOGUE >> 20} MiB", str(path), "split it")


def _messages(entry: Any) -> Iterator[tuple[str, str]]:
    """(message, translation) of an entry, "" where there is none; a context is left out."""
    if not entry.msgstr_plural:
        yield entry.msgid, entry.msgstr
        return
    yield entry.msgid, entry.msgstr_plural.get(0, "")
    if 1 in entry.msgstr_plural:
        yield entry.msgid_plural, entry.msgstr_plural[1]


def _decoded(text: str, decoding: Decoding, where: str) -> str:
    """Text out of bytes that latin-1 has made characters of."""
    try:
        decoded = text.encode("latin-1").decode(decoding.encoding, decoding.errors)
    except (ValueError, ArithmeticError) as error:
        raise DataError(
            f"bytes that are not {decoding.encoding}", where, "--data.encoding-errors=replace"
        ) from error
    return checked(decoded, decoding, where)


def _pairs(
    messages: Iterable[tuple[str, str]], place: str, reason: str | None, rejected: Rejected
) -> Iterator[Pair]:
    """What there is to learn from; a reason counts for all forms of a message. Line breaks become spaces."""
    for source, target in messages:
        missing = "not translated" if source.strip() and not target.strip() else None
        if why := reason or missing:
            rejected.add(why, place, source)
        else:
            yield Pair(source.strip().replace("\n", " "), target.strip().replace("\n", " "), place)
