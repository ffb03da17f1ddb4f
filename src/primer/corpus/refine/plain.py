"""Inputs that are text already: a file a text, a JSON line a text, a table's row a text. What is none is counted.

What is wrong with a file's content is a row. What the system says of the file (it is not there, the disk fails) is
raised: it may be otherwise the next time, and a row would stand in the corpus for good.
"""

from __future__ import annotations

import codecs
import errno
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from primer.assets import BLOCK
from primer.corpus.readers import PACKED, unpacking
from primer.corpus.refine.inputs import Input
from primer.corpus.refine.pages import BATCH_BYTES, BATCH_PAGES, Page
from primer.corpus.refine.recipe import Records
from primer.errors import DataError, SurroundingsError, missing_extra, refusal

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
    except (DataError, EOFError, OSError, zlib.error) as error:
        _raise_what_may_pass(error, each.path)
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
                place = start - 1 + _skipped(file, stop - start + 1 if stop is not None else None)
            while stop is None or place < stop:
                line, size, whole = _sized(file, records.max_bytes)
                if not size:
                    return
                yield _record(each, place, line.removeprefix(codecs.BOM_UTF8), size, whole, records.field)
                place += size
    except (DataError, EOFError, OSError, zlib.error) as error:
        _raise_what_may_pass(error, each.path)
        yield _page(each, place, max(each.size - place, 0), "corrupt")


def _skipped(file: Any, enough: int | None) -> int:
    """Bytes up to where the next line begins; no more is read than tells that it is beyond `enough`."""
    size = 0
    while enough is None or size < enough:
        piece = file.readline(BLOCK)
        size += len(piece)
        if not piece or piece.endswith(b"\n"):
            break
    return size


def _sized(file: Any, most: int) -> tuple[bytes, int, bool]:
    """(its beginning, bytes, whether that is all of it) of the next line, however long."""
    line = piece = file.readline(most)
    size = len(line)
    while piece and not piece.endswith(b"\n"):
        piece = file.readline(BLOCK)
        size += len(piece)
    return line, size, size == len(line)


def _raise_what_may_pass(error: BaseException, path: str) -> None:
    """SurroundingsError where the system gave a number for what went wrong; what unpacks and parses has none."""
    cause: BaseException | None = error
    while cause is not None:
        # EINVAL: a place that a damaged table names, and no file has.
        if isinstance(cause, OSError) and cause.errno not in (None, 0, errno.EINVAL):
            other = (f"cannot be read ({cause.strerror or cause})", "the same again, once it can be read")
            said, hint = refusal(cause) or other
            raise SurroundingsError(said, path, hint) from error
        cause = cause.__cause__


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
    except Exception as error:  # pyarrow raises many kinds for a broken file: reading it counts that
        _raise_what_may_pass(error, str(path))
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
    """The rows of some row groups.

    In memory are, beside one row, what pyarrow unpacks only as a whole: the page of the file that the row is in, and
    the dictionary of its row group. How large these are is up to who wrote the file; 1 MB is usual, nothing is sure.
    """
    parquet = _parquet()
    number, end, total = start, start or 1, 1  # row groups for rows, until it is known how many these have
    try:
        with parquet.ParquetFile(each.path, buffer_size=BLOCK) as file:
            metadata = file.metadata
            counts = [max(metadata.row_group(group).num_rows, 0) for group in range(metadata.num_row_groups)]
            number, end, total = sum(counts[:start]), sum(counts[:stop]), max(sum(counts), 1)
            names = set(file.schema_arrow.names)
            if records.field not in names:
                for row in range(number, end):
                    yield _page(each, row, 0, "no_text")
                return
            columns = [records.field, *(name for name in ("url", "date") if name in names)]
            groups = list(range(len(counts))[start:stop])
            few = _rows_at_a_time(file, groups)
            for batch in file.iter_batches(few, groups, columns, use_threads=False):
                for row in range(batch.num_rows):
                    yield _row(each, number, {name: batch[name][row] for name in columns}, records)
                    number += 1
    except Exception as error:  # a damaged file: what was read is counted, the rest is one loss
        _raise_what_may_pass(error, each.path)
        # Of the file by rows, so that no byte counts in two stretches.
        share = each.size * end // total - each.size * number // total
        yield _page(each, f"{number}+", max(share, 0), "corrupt")


def _rows_at_a_time(file: Any, groups: list[int]) -> int:
    """One, which costs 15 µs; more where pyarrow keeps dictionaries, each of which it makes anew for every batch."""
    import pyarrow as pa

    if not groups or not any(pa.types.is_dictionary(each.type) for each in file.schema_arrow):
        return 1
    sizes = [file.metadata.row_group(group) for group in groups]
    largest = max(group.total_byte_size // max(group.num_rows, 1) for group in sizes)
    return max(1, min(BATCH_PAGES, BATCH_BYTES // max(largest, 1)))


def _row(each: Input, number: int, row: dict[str, Any], records: Records) -> Page:
    """A row of Arrow's scalars. How long a text is, is looked at before it is made a string of Python's."""
    import pyarrow as pa

    scalar = row[records.field]
    while isinstance(scalar, pa.DictionaryScalar | pa.ExtensionScalar):
        scalar = scalar.value
    raw = scalar.as_buffer() if isinstance(scalar, pa.StringScalar | pa.LargeStringScalar) else None
    if raw is None:
        return _page(each, number, 0, "no_text")
    if raw.size > records.max_bytes:
        return _page(each, number, raw.size, "too_large")
    text = _text_of(scalar)
    if text is None:
        return _page(each, number, raw.size, "undecodable")
    if not text.strip():
        return _page(each, number, raw.size, "empty")
    page = _page(each, number, raw.size, None, _clean(text))
    page.url, page.date = (str(_text_of(row[name]) or "") if name in row else "" for name in ("url", "date"))
    return page


def _text_of(scalar: Any) -> Any:
    """What a scalar is in Python; None for a text that is no UTF-8, which Arrow does not look at."""
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return None


def _parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise missing_extra("pyarrow", "corpus") from error
    return parquet
