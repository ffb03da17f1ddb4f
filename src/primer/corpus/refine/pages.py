"""From a unit to batches of pages: archives, JSON lines, tables and texts become the same rows.

Every record, line and row of the input becomes a row here, and so does every damaged stretch: what is in is counted
before anything is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primer.corpus.refine.inputs import Input, Unit
from primer.corpus.refine.recipe import Recipe

if TYPE_CHECKING:
    from primer.corpus.crawl.archive import Record

BATCH_PAGES, BATCH_BYTES = 64, 4 << 20
"""A batch is full with so many rows or so many bytes."""


@dataclass(slots=True)
class Page:
    """One row. Strings that are not known are empty."""

    id: str
    """Of the document: its file, `#`, and where in it: the offset of its record or line, the number of its row. No
    two of a corpus are the same."""
    source: str
    url: str = ""
    date: str = ""
    record_id: str = ""
    bytes: int = 0
    """Of the payload; of a damaged stretch, its length in the file."""
    payload: bytes | None = None
    http_charset: str = ""
    text: str | None = None
    record_reason: str | None = None
    """Why this is no page: what stage 1 says."""


def read(unit: Unit, inputs: Sequence[Input], recipe: Recipe) -> Iterator[Page]:
    """All rows of a unit in the order of the files. Damage is a row; only what the system does not read raises."""
    for part in unit.parts:
        each = inputs[part.input]
        if each.kind == "archive":
            yield from _archive(each, part.start, part.stop, recipe.records.max_bytes)
        else:
            from primer.corpus.refine import plain

            yield from plain.read(each, part.start, part.stop, recipe.records)


def _archive(each: Input, start: int, stop: int | None, max_bytes: int) -> Iterator[Page]:
    from primer.corpus.crawl.archive import read_archive
    from primer.corpus.crawl.blocks import Lost

    here, before = (
        -1,
        0,
    )  # a member's records and losses all lie where it begins: how many of them came already
    for found in read_archive(Path(each.path), start, stop, max_bytes=max_bytes):
        here, before = found.offset, before + 1 if found.offset == here else 0
        if isinstance(found, Lost):
            place = f"{here}.lost{before}" if before else f"{here}"
            yield Page(f"{each.name}#{place}", each.name, bytes=found.length, record_reason=found.why)
            continue
        place = f"{here}.{found.index}" if found.index or before else f"{here}"
        reason = _no_page(found)
        text = None
        if not reason and found.kind == "conversion":  # of a WET file: text already
            text = found.payload.decode("utf-8", "replace").replace("\0", "\ufffd")
        yield Page(
            f"{each.name}#{place}",
            each.name,
            found.url,
            found.date,
            found.record_id,
            len(found.payload),
            found.payload if not reason and text is None else None,
            found.charset,
            text,
            reason,
        )


def _no_page(record: Record) -> str | None:
    """Why a record is not a page."""
    from primer.corpus.crawl.archive import is_html, looks_binary

    if record.kind not in ("response", "conversion"):
        return f"record_{record.kind or 'unknown'}"
    if not record.payload.strip():
        return "empty"
    if not is_html(record):
        return "not_html"
    return "binary" if looks_binary(record.payload) else None


def batches(pages: Iterator[Page]) -> Iterator[Any]:
    """Rows as Arrow record batches, none larger than need be."""
    held: list[Page] = []
    size = 0
    for page in pages:
        held.append(page)
        size += len(page.payload or b"") + len(page.text or "")
        if len(held) >= BATCH_PAGES or size >= BATCH_BYTES:
            yield as_batch(held)
            held, size = [], 0
    if held:
        yield as_batch(held)


def as_batch(pages: Sequence[Page]) -> Any:
    """Rows as one Arrow record batch."""
    import pyarrow as pa

    kinds = {"bytes": pa.int64(), "payload": pa.large_binary(), "text": pa.large_string()}
    names = [each.name for each in fields(Page)]
    return pa.RecordBatch.from_arrays(
        [pa.array([getattr(page, name) for page in pages], kinds.get(name, pa.string())) for name in names],
        names=names,
    )
