"""What a corpus will take, before it is made: a few pages are measured, the rest is arithmetic."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from primer.corpus.readers import PACKED
from primer.corpus.refine.inputs import Input, Part, Unit, find, stretches, units
from primer.corpus.refine.pages import batches, read
from primer.corpus.refine.recipe import Recipe
from primer.corpus.refine.select import STAGES, decide, limits
from primer.corpus.refine.stages import annotate
from primer.corpus.refine.tools import Tools

WORKER = 400 << 20
"""Bytes that no worker was seen to need, beside files that all map: on a crawl of manuals 352 MB with trafilatura."""
SIGNATURE = 112 * 8 + 16
PAGES = 100
"""How many are measured for the estimate."""


@dataclass(frozen=True)
class Estimate:
    """Roughly."""

    files: int
    bytes: int
    units: int
    sampled: int
    seconds_a_page: float
    """On one core; NaN where there was no page."""
    pages: int
    kept_of_sampled: int
    disk: int
    """Bytes of everything that is written, working files included."""
    memory: int
    """Bytes, of all workers together."""
    stages: tuple[str, ...]
    """Those that are on."""

    def seconds(self, processes: int) -> float:
        """Of the whole."""
        return self.pages * self.seconds_a_page / processes


def estimate(recipe: Recipe, specs: Sequence[str | Path], processes: int) -> Estimate:
    """Read the beginning of the first unit and measure it. Raises as `plan.make` does; writes nothing."""
    import pyarrow as pa

    inputs = find(specs, {}, lambda *_: None, hashes=False)
    found = units(inputs, _roughly)
    tools = Tools(recipe)
    rows, squeezed, text, kept, last = 0, 0, 0, 0, ""
    pages = islice(read(found[0], inputs, recipe), PAGES) if found else iter(())
    first = True
    started = time.perf_counter()
    for batch in batches(pages):
        measured = annotate(batch, tools, lambda identity: None)
        if first:  # what is loaded and compiled once does not count
            first, started = False, time.perf_counter()
            measured = annotate(batch, tools, lambda identity: None)
        rows += batch.num_rows
        last = batch["id"].to_pylist()[-1]
        squeezed += _squeezed(batch)
        text += sum(len(each or "") for each in measured["text"].to_pylist())
        kept += sum(reason is None for reason in decide(pa.Table.from_batches([measured]), recipe)[1])
    seconds = time.perf_counter() - started
    total = sum(each.size for each in inputs)
    share = _consumed(found[0], inputs, rows, last, squeezed) if rows else 0
    count = round(rows * total / share) if share else rows
    disk = round(count * (text / rows * 0.9 + SIGNATURE)) if rows else 0
    return Estimate(
        files=len(inputs),
        bytes=total,
        units=len(found),
        sampled=rows,
        seconds_a_page=seconds / rows if rows else float("nan"),
        pages=count,
        kept_of_sampled=kept,
        disk=disk,
        memory=processes * WORKER,
        stages=tuple(stage for stage in STAGES if is_on(recipe, stage)),
    )


def _roughly(each: Input, goal: int) -> list[tuple[int, int | None]]:
    """About where a file will be cut. To know it of an archive, all of it would have to be unpacked."""
    if each.kind != "archive":
        return stretches(each, goal)
    starts = range(0, max(each.size, 1), goal)
    return [(start, min(start + goal, each.size)) for start in starts]


def _consumed(unit: Unit, inputs: Sequence[Input], rows: int, last: str, squeezed: int) -> float:
    """Bytes of the inputs that the sampled rows stand for: the parts before that of the last one, and what it has of
    its own; all of the unit where it was read to its end."""
    name, _, place = last.rpartition("#")
    consumed = 0.0
    for part in unit.parts:
        each = inputs[part.input]
        size, groups = each.size - part.start if part.stop is None else part.stop - part.start, (0, 0)
        if each.kind == "parquet":
            size, groups = _of_table(each, part)
        if rows < PAGES or each.name != name or each.kind == "text":
            consumed += size
        elif each.kind == "parquet":
            consumed += size * (int(place.rstrip("+")) + 1 - groups[0]) / max(groups[1], 1)
        elif (each.kind == "archive" and "." in place) or (each.kind == "jsonl" and _is_packed(each)):
            consumed += min(max(squeezed - consumed, 1), size)  # its place is in what was unpacked
        else:
            consumed += max(int(place) - part.start, 1)
        if rows >= PAGES and each.name == name:
            break
    return consumed


def _is_packed(each: Input) -> bool:
    return Path(each.path).suffix.lower() in PACKED


def _squeezed(batch: Any) -> int:
    """About as many bytes as a batch takes in a packed file."""
    rows = zip(batch["payload"].to_pylist(), batch["text"].to_pylist(), strict=True)
    return len(zlib.compress(b"\n".join(payload or (text or "").encode() for payload, text in rows)))


def _of_table(each: Input, part: Part) -> tuple[int, tuple[int, int]]:
    """(bytes, (rows before it, rows)) of a stretch of a Parquet file."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        metadata = ParquetFile(each.path).metadata
    except (pa.ArrowException, OSError):
        return each.size, (0, 1)
    counts = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    before, here = sum(counts[: part.start]), sum(counts[part.start : part.stop])
    return round(each.size * here / max(sum(counts), 1)), (before, here)


def is_on(recipe: Recipe, stage: str) -> bool:
    """Whether a stage of this recipe can drop anything."""
    match stage:
        case "urls":
            return bool(recipe.urls.lists)
        case "extract":
            return recipe.extract.extractor != "none"
        case "language":
            return bool(recipe.language.keep or recipe.language.threshold)
        case "classifier":
            return bool(recipe.classifier.model)
        case "decontaminate":
            return bool(recipe.decontaminate.files)
        case "dedup":
            return recipe.dedup.exact or recipe.dedup.minhash
        case "records":
            return True
    return any(limit.stage == stage and limit.setting for limit in limits(recipe))
