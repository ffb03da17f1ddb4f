"""The stages that look at pages, in the recipe's order. Each adds columns to a batch and drops nothing.

Nothing is dropped here: every reason is a column, and `select.py` decides. Where a stage says why a page is no page
(`record_reason`, `url_reason`, `extract_reason`), later stages leave it alone, and their columns are null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from primer.corpus.crawl.charset import decode, decode_as_datatrove
from primer.corpus.crawl.extract import ExtractionError, at_most
from primer.corpus.refine.tools import Tools
from primer.corpus.text.statistics import COLUMNS

Watch = Callable[[str], None]
"""Told the id of each page before it is extracted: if the process dies there, it is known of what."""

Batch = Any
"""pyarrow.RecordBatch."""


def annotate(batch: Batch, tools: Tools, watch: Watch, poison: frozenset[str] = frozenset()) -> Batch:
    """All columns of a batch, without the payload.

    poison: ids of pages at which a process has died. They are not extracted again: `extractor_crashed`.
    """
    batch = _with(batch, "url_reason", "string", addresses(batch, tools))
    batch = extracted(batch, tools, watch, poison)
    batch = languages(batch, tools)
    batch = measured(batch, tools)
    batch = judged(batch, tools)
    return batch.drop_columns(["payload", "http_charset"])


def addresses(batch: Batch, tools: Tools) -> list[str | None]:
    """Stage 2: why an address is not wanted."""
    judge = tools.url_filter
    if judge is None:
        return [None] * batch.num_rows
    rows = zip(batch["url"].to_pylist(), batch["record_reason"].to_pylist(), strict=True)
    return [judge.reason(url) if url and reason is None else None for url, reason in rows]


def extracted(batch: Batch, tools: Tools, watch: Watch, poison: frozenset[str]) -> Batch:
    """Stage 3: the text of a page, how it was decoded, and why there is none."""
    texts: list[str | None] = []
    charsets: list[str] = []
    reasons: list[str | None] = []
    for row in _rows(batch, "id", "payload", "http_charset", "text", "record_reason", "url_reason"):
        identity, payload, http_charset, text, *earlier = row
        reason, charset = None, ""
        if any(earlier):
            text = None
        elif text is None and identity in poison:
            reason = "extractor_crashed"
        elif text is None:
            watch(identity)
            try:
                charset, text = _text_of(payload, http_charset, tools)
            except ExtractionError as error:
                reason = error.reason
        texts.append(text)
        charsets.append(charset)
        reasons.append(reason)
    batch = batch.drop_columns(["text"])
    batch = _with(batch, "text", "large_string", texts)
    batch = _with(batch, "charset", "string", charsets)
    return _with(batch, "extract_reason", "string", reasons)


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


def languages(batch: Batch, tools: Tools) -> Batch:
    """Stage 4: the likeliest languages, and how likely each is."""
    import pyarrow as pa

    found = [tools.language.labels(text) if text is not None else None for text in batch["text"].to_pylist()]
    names = [None if each is None else [name for name, _ in each] for each in found]
    scores = [None if each is None else [score for _, score in each] for each in found]
    batch = batch.append_column("languages", pa.array(names, pa.list_(pa.string())))
    return batch.append_column("scores", pa.array(scores, pa.list_(pa.float32())))


def measured(batch: Batch, tools: Tools) -> Batch:
    """Stages 5 to 8: every statistic on which a filter decides, and the text without the lines that C4 drops.

    `clean` is null where it is the same as `text`.
    """
    import numpy as np
    import pyarrow as pa

    rows = list(_rows(batch, "text", "languages", "scores"))
    values = np.full((len(rows), len(COLUMNS)), np.nan)
    unmeasured = np.ones(len(rows), dtype=bool)
    clean: list[str | None] = [None] * len(rows)
    words: list[int | None] = [None] * len(rows)
    for row, (text, names, scores) in enumerate(rows):
        if text is not None and _is_measured(names, scores, tools):
            found = tools.measurer.measure(text)
            values[row], unmeasured[row] = found.values, False
            clean[row] = found.text if found.text != text else None
            words[row] = found.chunks
        elif text is not None:
            words[row] = len(text.split())
    for number, name in enumerate(COLUMNS):
        batch = batch.append_column(name, pa.array(values[:, number], pa.float64(), mask=unmeasured))
    batch = _with(batch, "clean", "large_string", clean)
    return _with(batch, "words", "int64", words)


def judged(batch: Batch, tools: Tools) -> Batch:
    """Beyond FineWeb, on what C4 left: what a classifier says, and which items of evaluations stand in the text."""
    import pyarrow as pa

    texts = [clean or text for clean, text in _rows(batch, "clean", "text")]
    classifier, evaluations = tools.classifier, tools.evaluations
    label = tools.recipe.classifier.label
    scores = [classifier.score(text, label) if classifier and text else None for text in texts]
    finds = [evaluations.find(text) if evaluations and text else [] for text in texts]
    items = [[each.item for each in found] for found in finds]
    places = [[place for each in found for place in (each.start, each.end)] for found in finds]
    batch = _with(batch, "good", "float64", scores)
    batch = batch.append_column("items", pa.array(items, pa.list_(pa.string())))
    return batch.append_column("places", pa.array(places, pa.list_(pa.int64())))


def _is_measured(names: list[str] | None, scores: list[float] | None, tools: Tools) -> bool:
    """Whether one of the languages to keep is likely enough for the page to be worth its statistics."""
    keep, least = tools.recipe.language.keep, tools.recipe.language.measure_from
    if not keep or not least or names is None or scores is None:
        return True
    return any(score >= least for name, score in zip(names, scores, strict=True) if name in keep)


def _rows(batch: Batch, *names: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(batch[name].to_pylist() for name in names), strict=True)


def _with(batch: Batch, name: str, kind: str, values: list[Any]) -> Batch:
    import pyarrow as pa

    return batch.append_column(name, pa.array(values, getattr(pa, kind)()))
