"""The stages that look at pages, in the recipe's order. Each adds columns and drops nothing.

Nothing is dropped here: every reason is a column, and `select.py` decides. Where a stage says why a page is no page
(`record_reason`, `url_reason`, `extract_reason`), later stages leave it alone, and their columns are null.

Page after page goes through all stages: whatever a page does to a process, it is known of which page it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from primer.corpus.crawl.charset import decode, decode_as_datatrove
from primer.corpus.crawl.extract import ExtractionError, at_most
from primer.corpus.refine.tools import Tools
from primer.corpus.text.statistics import COLUMNS

Watch = Callable[[str], None]
"""Told the id of each page before it is looked at: if the process dies there, it is known of what."""

Batch = Any
"""pyarrow.RecordBatch."""
Row = dict[str, Any]
"""What is known of one page, by the name of its column; a stage adds to it."""

UNMEASURED = np.full(len(COLUMNS), np.nan)


def annotate(batch: Batch, tools: Tools, watch: Watch, poison: frozenset[str] = frozenset()) -> Batch:
    """All columns of a batch, without the payload.

    poison: ids of pages at which a process has died. Nothing is done with them again: `crashed`.
    """
    rows: list[Row] = batch.to_pylist()
    for row in rows:
        row["url_reason"] = address(row, tools)
        if (row["payload"] is not None or row["text"] is not None) and row["url_reason"] is None:
            watch(row["id"])
        text(row, tools, poison)
        language(row, tools)
        statistics(row, tools)
        judgement(row, tools)
    return _columns(batch, rows)


def address(row: Row, tools: Tools) -> str | None:
    """Stage 2: why an address is not wanted."""
    judge = tools.url_filter
    return judge.reason(row["url"]) if judge and row["url"] and row["record_reason"] is None else None


def text(row: Row, tools: Tools, poison: frozenset[str]) -> None:
    """Stage 3: the text of a page, how it was decoded, and why there is none."""
    row["charset"], row["extract_reason"] = "", None
    if row["record_reason"] or row["url_reason"]:
        row["text"] = None
    elif row["id"] in poison:
        row["text"], row["extract_reason"] = None, "crashed"
    elif row["text"] is None:
        try:
            row["charset"], row["text"] = _text_of(row["payload"], row["http_charset"], tools)
        except ExtractionError as error:
            row["extract_reason"] = error.reason


def _text_of(payload: bytes, http_charset: str, tools: Tools) -> tuple[str, str]:
    """(charset, text) of a page, or an ExtractionError."""
    settings = tools.recipe.extract
    if settings.charset == "utf-8-first":
        html, charset = decode_as_datatrove(payload), ""
    else:
        decoded = decode(payload, http_charset)
        html, charset = (decoded.text, decoded.charset) if decoded else (None, "")
    if html is None:
        raise ExtractionError("undecodable")
    if settings.extractor == "none":
        text = html
    else:
        with at_most(settings.seconds):
            text = tools.extract(html)
    text = text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text
    if not text.strip():
        raise ExtractionError("no_text")
    return charset, text


def language(row: Row, tools: Tools) -> None:
    """Stage 4: the likeliest languages, and how likely each is."""
    row["languages"] = row["scores"] = None
    if row["text"] is not None:
        found = tools.language.labels(row["text"])
        row["languages"], row["scores"] = [name for name, _ in found], [score for _, score in found]


def statistics(row: Row, tools: Tools) -> None:
    """Stages 5 to 8: every statistic on which a filter decides, and the text without the lines that C4 drops.

    `clean` is null where it is the same as `text`.
    """
    row["values"] = row["clean"] = row["words"] = None
    if row["text"] is None:
        return
    if not _is_measured(row, tools):
        row["words"] = len(row["text"].split())
        return
    found = tools.measurer.measure(row["text"])
    row["values"], row["words"] = found.values, found.chunks
    row["clean"] = found.text if found.text != row["text"] else None


def judgement(row: Row, tools: Tools) -> None:
    """Beyond FineWeb, on what C4 left: what a classifier says, and which items of evaluations stand in the text."""
    left = row["clean"] or row["text"]
    classifier, evaluations = tools.classifier, tools.evaluations
    row["good"] = classifier.score(left, tools.recipe.classifier.label) if classifier and left else None
    finds = evaluations.find(left) if evaluations and left else []
    row["items"] = [each.item for each in finds]
    row["places"] = [place for each in finds for place in (each.start, each.end)]


def _is_measured(row: Row, tools: Tools) -> bool:
    """Whether one of the languages to keep is likely enough for the page to be worth its statistics."""
    keep, least = tools.recipe.language.keep, tools.recipe.language.measure_from
    if not keep or not least:
        return True
    pairs = zip(row["languages"], row["scores"], strict=True)
    return any(score >= least for name, score in pairs if name in keep)


def _columns(batch: Batch, rows: list[Row]) -> Batch:
    """The batch with what the stages found."""
    import pyarrow as pa

    batch = batch.drop_columns(["payload", "http_charset", "text"])
    strings, places = pa.list_(pa.string()), pa.list_(pa.int64())
    kinds = {"url_reason": pa.string(), "text": pa.large_string(), "charset": pa.string()}
    kinds |= {"extract_reason": pa.string(), "languages": strings, "scores": pa.list_(pa.float32())}
    for name, kind in kinds.items():
        batch = batch.append_column(name, pa.array([row[name] for row in rows], kind))
    values = np.array([UNMEASURED if row["values"] is None else row["values"] for row in rows])
    unmeasured = np.array([row["values"] is None for row in rows])
    for number, name in enumerate(COLUMNS):
        batch = batch.append_column(name, pa.array(values[:, number], pa.float64(), mask=unmeasured))
    kinds = {"clean": pa.large_string(), "words": pa.int64(), "good": pa.float64()}
    kinds |= {"items": strings, "places": places}
    for name, kind in kinds.items():
        batch = batch.append_column(name, pa.array([row[name] for row in rows], kind))
    return batch
