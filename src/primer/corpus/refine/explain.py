"""Everything that is measured of one page, beside the thresholds: what a recipe sees in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from primer.corpus.refine import select
from primer.corpus.refine.described import COLUMN_TITLES, STAGE_TITLES, reason_in_words
from primer.corpus.refine.inputs import kind_of, shown
from primer.corpus.refine.pages import Page, as_batch
from primer.corpus.refine.plan import Plan
from primer.corpus.refine.recipe import Recipe
from primer.corpus.refine.stages import annotate
from primer.corpus.refine.store import annotated
from primer.corpus.refine.tools import Tools
from primer.errors import DataError


@dataclass(frozen=True)
class Line:
    """One statistic."""

    stage: str
    column: str
    title: str
    value: float | str
    above: bool
    threshold: float | str | None
    """None: the recipe asks nothing of it."""
    dropped: bool
    setting: str


@dataclass(frozen=True)
class Explained:
    """What became of a page, and everything that it was judged by."""

    id: str
    url: str
    charset: str
    text: str
    stage: str | None
    reason: str | None
    why: str
    lines: tuple[Line, ...]
    languages: tuple[tuple[str, float], ...]
    lost: int
    """Characters that C4 drops, with their lines."""

    def plain(self) -> dict[str, Any]:
        """As JSON keeps it."""
        from dataclasses import asdict

        return asdict(self)


def of_file(path: Path, recipe: Recipe) -> Explained:
    """The first page of a file: HTML, text, or an archive. DataError where there is none."""
    for page in _pages(path, recipe):
        if page.record_reason is None or not page.record_reason.startswith("record_"):
            return of_row(_measured(page, recipe), recipe)
    raise DataError("no page is in it", str(path), "an .html, .txt or .warc.gz file")


def _pages(path: Path, recipe: Recipe) -> Iterator[Page]:
    from primer.corpus.refine.inputs import Input, Part, Unit
    from primer.corpus.refine.pages import read

    kind = kind_of(path)
    if kind == "text" and path.suffix.lower() not in (".txt", ".md"):
        payload = path.read_bytes()
        yield Page(shown(path.name), shown(path.name), bytes=len(payload), payload=payload)
        return
    each = Input(str(path), shown(path.name), kind, "", path.stat().st_size, 0, "")
    yield from read(Unit("", "", each.size, (Part(0, 0, None),)), [each], recipe)


def _measured(page: Page, recipe: Recipe) -> dict[str, Any]:
    found = annotate(as_batch([page]), Tools(recipe), lambda identity: None)
    return dict(found.to_pylist()[0])


def in_corpus(plan: Plan, what: str) -> Explained:
    """A page of a corpus by its address or its id, as it was measured. DataError where it is not there."""
    for unit in plan.units:
        for table in annotated(plan, unit.name, ["id", "url"]):
            if what in table["url"].to_pylist() or what in table["id"].to_pylist():
                for whole in annotated(plan, unit.name):
                    for row in whole.to_pylist():
                        if what in (row["url"], row["id"]):
                            return of_row(row, plan.recipe)
    raise DataError(
        f"no page {what!r} is in this corpus", str(plan.out), "an address or an id as its files have them"
    )


def of_row(row: dict[str, Any], recipe: Recipe) -> Explained:
    """A page from its measurements."""
    import pyarrow as pa

    names = select.columns(recipe)
    kinds = {name: pa.string() for name in select.SAID.values()} | {
        "languages": pa.list_(pa.string()),
        "scores": pa.list_(pa.float32()),
        "items": pa.list_(pa.string()),
    }
    table = pa.table({name: pa.array([row[name]], kinds.get(name, pa.float64())) for name in names})
    ((stage,), (reason,)) = select.decide(table, recipe)
    clean = row["clean"] if row["clean"] is not None else row["text"] or ""
    return Explained(
        id=row["id"],
        url=row["url"],
        charset=row["charset"],
        text=row["text"] or "",
        stage=stage,
        reason=reason,
        why=f"{STAGE_TITLES[stage][0]}: {reason_in_words(stage, reason)}"
        if stage and reason
        else "it stands",
        lines=tuple(_lines(row, recipe)),
        languages=tuple(zip(row["languages"] or [], row["scores"] or [], strict=True)),
        lost=len(row["text"] or "") - len(clean),
    )


def _lines(row: dict[str, Any], recipe: Recipe) -> Iterator[Line]:
    if row["text"] is None:
        return
    for limit in select.limits(recipe):
        value = row[limit.column]
        if value is None or not limit.setting:
            continue
        broken = bool(value > limit.threshold if limit.above else value < limit.threshold)
        title = COLUMN_TITLES.get(limit.column, limit.column)
        yield Line(
            limit.stage, limit.column, title, value, limit.above, limit.threshold, broken, limit.setting
        )


def offending(row: dict[str, Any]) -> Sequence[tuple[int, int]]:
    """Where in the text of a dropped document the offence is."""
    from primer.corpus.text.spans import needs_words, spans
    from primer.corpus.text.words import words

    text, reason = row["text"] or "", row["reason"]
    return spans(text, words(text) if needs_words(reason) else [], reason) if text else []
