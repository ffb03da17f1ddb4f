"""What a corpus will take, before it is made: a few pages are measured, the rest is arithmetic."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from primer.corpus.refine.inputs import Input, find, stretches, units
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
    found = units(inputs, stretches)
    tools = Tools(recipe)
    rows, read_bytes, text, kept, last = 0, 0, 0, 0, ""
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
        read_bytes += sum(batch["bytes"].to_pylist())
        text += sum(len(each or "") for each in measured["text"].to_pylist())
        kept += sum(reason is None for reason in decide(pa.Table.from_batches([measured]), recipe)[1])
    seconds = time.perf_counter() - started
    total = sum(each.size for each in inputs)
    share = _consumed(inputs[found[0].parts[0].input], found[0].bytes, rows, last, read_bytes) if rows else 1
    count = round(rows * total / share) if rows else 0
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


def _consumed(first: Input, size: int, rows: int, last: str, unpacked: int) -> int:
    """Bytes of the input that the sampled rows stand for: all of the first unit where it was read to its end."""
    if rows < PAGES:
        return size
    if first.kind == "archive":  # whose rows are called by where they begin
        return max(int(last.rpartition("#")[2].partition(".")[0]), 1)
    return min(size, unpacked)


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
