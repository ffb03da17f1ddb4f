"""Inputs that are text already: a file a text, a JSON line a text, a table's row a text. What is none is counted."""

from __future__ import annotations

import codecs
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from primer.corpus.readers import PACKED, unpacking
from primer.corpus.refine.inputs import Input
from primer.corpus.refine.pages import Page
from primer.corpus.refine.recipe import Records
from primer.errors import DataError, missing_extra

LINE_ENDS = str.maketrans({"\0": "�"})


def read(each: Input, start: int, stop: int | None, records: Records) -> Iterator[Page]:
    """The rows of one stretch of a file."""
    if each.kind == "jsonl":
        return _json_lines(each, start, stop, records)
    if each.kind == "parquet":
        return _table(each, start, stop, records)
    return _text(each, records)


def _page(each: Input, place: int | str, size: int, reason: str | None, text: str | None = None) -> Page:
    return Page(f"{each.name}#{place}", each.name, bytes=size, text=text, record_reason=reason)


def _clean(text: str) -> str:
    """What every later stage can rely on: `\\n` ends lines, no NUL, nothing that UTF-8 has no bytes for."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        text = text.translate(LINE_ENDS)
    if not text.isascii():
        text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return text


def _text(each: Input, records: Records) -> Iterator[Page]:
    from primer.corpus.crawl.archive import looks_binary
    from primer.corpus.crawl.charset import decode

    try:
        with unpacking(Path(each.path)) as file:
            raw = file.read(records.max_bytes + 1)
    except (DataError, EOFError, OSError, zlib.error):
        yield _page(each, 0, each.size, "corrupt")
        return
    if not raw.strip():
        yield _page(each, 0, len(raw), "empty")
    elif len(raw) > records.max_bytes:
        yield _page(each, 0, each.size, "too_large")
    elif looks_binary(raw):
        yield _page(each, 0, len(raw), "binary")
    elif (decoded := decode(raw)) is None:
        yield _page(each, 0, len(raw), "undecodable")
    else:
        yield _page(each, 0, len(raw), None, _clean(decoded.text))


def _json_lines(each: Input, start: int, stop: int | None, records: Records) -> Iterator[Page]:
    """Lines that begin in [start, stop): a line that a cut goes through belongs to where it begins."""
    path = Path(each.path)
    place = start
    try:
        with unpacking(path) as file:
            if start and path.suffix.lower() not in PACKED:
                file.seek(start - 1)
                place = start - 1 + len(_line(file, records.max_bytes)[0])
            while stop is None or place < stop:
                line, size, whole = _sized(file, records.max_bytes)
                if not size:
                    return
                yield _record(each, place, line.removeprefix(codecs.BOM_UTF8), size, whole, records.field)
                place += size
    except (DataError, EOFError, OSError, zlib.error):
        yield _page(each, place, max(each.size - place, 0), "corrupt")


def _line(file: Any, most: int) -> tuple[bytes, bool]:
    line = file.readline(most)
    return line, line.endswith(b"\n") or len(line) < most


def _sized(file: Any, most: int) -> tuple[bytes, int, bool]:
    """(its beginning, bytes, whether that is all of it) of the next line, however long."""
    line, whole = _line(file, most)
    size = len(line)
    ended = whole
    while not ended:
        more, ended = _line(file, most)
        size += len(more)
    return line, size, whole


def _record(each: Input, place: int, line: bytes, size: int, whole: bool, field: str) -> Page:
    if not whole:
        return _page(each, place, size, "too_large")
    if not line.strip():
        return _page(each, place, size, "empty")
    try:
        record = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return _page(each, place, size, "undecodable")
    except (ValueError, RecursionError):
        return _page(each, place, size, "not_json")
    text = record.get(field) if isinstance(record, dict) else None
    if not isinstance(text, str):
        return _page(each, place, size, "no_text")
    page = _page(each, place, size, None if text.strip() else "empty", _clean(text) if text.strip() else None)
    for name in ("url", "date"):
        if isinstance(record.get(name), str):
            setattr(page, name, _clean(record[name]))
    return page


def row_groups(path: Path, goal: int) -> list[tuple[int, int | None]]:
    """Row groups of a Parquet file, put together to about `goal` bytes; one stretch where it cannot be read."""
    parquet = _parquet()
    try:
        metadata = parquet.ParquetFile(path).metadata
        sizes = [metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)]
    except Exception:  # pyarrow raises many kinds for a broken file: reading it says so, and is counted
        return [(0, None)]
    found: list[tuple[int, int | None]] = []
    start, held = 0, 0
    for number, size in enumerate(sizes):
        if number > start and held + size > goal:
            found.append((start, number))
            start, held = number, 0
        held += size
    return [*found, (start, len(sizes))]


def _table(each: Input, start: int, stop: int | None, records: Records) -> Iterator[Page]:
    parquet = _parquet()
    number = 0
    try:
        file = parquet.ParquetFile(each.path)
        groups = list(range(start, file.metadata.num_row_groups if stop is None else stop))
        number = sum(file.metadata.row_group(group).num_rows for group in range(start))
        names = set(file.schema_arrow.names)
        if records.field not in names:
            rows = sum(file.metadata.row_group(group).num_rows for group in groups)
            for row in range(number, number + rows):
                yield _page(each, row, 0, "no_text")
            return
        columns = [records.field, *(name for name in ("url", "date") if name in names)]
        for batch in file.iter_batches(batch_size=64, row_groups=groups, columns=columns):
            for row in batch.to_pylist():
                yield _row(each, number, row, records)
                number += 1
    except Exception:  # a damaged file: what was read is counted, the rest is one loss
        yield _page(each, f"{number}+", each.size, "corrupt")


def _row(each: Input, number: int, row: dict[str, Any], records: Records) -> Page:
    text = row[records.field]
    if not isinstance(text, str):
        return _page(each, number, 0, "no_text")
    size = len(text.encode("utf-8", "surrogatepass"))
    if not text.strip():
        return _page(each, number, size, "empty")
    if size > records.max_bytes:
        return _page(each, number, size, "too_large")
    page = _page(each, number, size, None, _clean(text))
    page.url, page.date = (str(row.get(name) or "") for name in ("url", "date"))
    return page


def _parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise missing_extra("pyarrow", "corpus") from error
    return parquet
