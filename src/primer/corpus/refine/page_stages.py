"""The table of stages and reasons; each reason opens to its threshold, its histogram and its samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from primer.corpus.refine.page_charts import Kind, Limit, bar, histogram, kind_for
from primer.corpus.refine.page_text import (
    Fields,
    clean,
    count,
    label,
    language_tag,
    many,
    marked,
    number,
    share,
    size,
)
from primer.corpus.refine.page_words import condition, in_words, sentence, setting

MOST_REASONS = 12
"""So many of a stage's reasons open to their samples; of the others, the numbers are told."""

QUANTITIES = (
    ("bytes", "Bytes of pages", size),
    ("text_bytes", "Bytes of text", size),
    ("words", "Words", count),
    ("tokens", "Tokens", count),
)


@dataclass(frozen=True)
class Table:
    """What all rows need: the columns, the longest bar of each, and the report's figures and settings."""

    columns: tuple[str, ...]
    most: dict[str, float]
    kind: Kind
    histograms: dict[tuple[str, str], Fields]
    settings: Fields

    @property
    def span(self) -> int:
        return len(self.columns) + 3


def stages_table(report: Fields) -> str:
    """All stages in order, as one table."""
    stages = report["stages"]
    known = {key for stage in stages for key, _, _ in QUANTITIES if stage["dropped"].get(key) is not None}
    columns = tuple(key for key, _, _ in QUANTITIES if key in known)
    table = Table(
        columns,
        {
            key: max((stage["dropped"].get(key) or 0 for stage in stages), default=0)
            for key in (*columns, "documents")
        },
        common_kind(report),
        {(each["stage"], each["reason"]): each for each in report.get("histograms") or ()},
        report.get("settings") or {},
    )
    titles = "".join(
        f'<th scope="col" class="n wide">{title}</th>' for key, title, _ in QUANTITIES if key in columns
    )
    return (
        '<table class="stages"><caption>What each stage dropped, and for which reason. A document is counted under '
        "the first reason that was found against it.</caption>"
        '<thead><tr><th scope="col">Stage and reason</th><th scope="col" class="n">Documents</th>'
        f'<th scope="col" class="n">Share of what came</th>{titles}</tr></thead>'
        f"{''.join(_stage(stage, table) for stage in stages)}</table>"
    )


def common_kind(report: Fields) -> Kind:
    """How all histograms of thresholds draw their counts."""
    return kind_for(
        max((max(each["reached"], default=0) for each in report.get("histograms") or ()), default=0)
    )


def _stage(stage: Fields, table: Table) -> str:
    came = stage["in"].get("documents") or 0
    about, title = label(stage.get("about") or ""), label(stage["title"], 80)
    if not stage.get("on", True):
        return (
            f'<tbody class="off"><tr class="stage"><th scope="rowgroup">{title}<small>{about}</small>'
            f'</th><td colspan="{table.span - 1}" class="note">turned off in this recipe</td></tr></tbody>'
        )
    went = f"{count(came)} came, {count(stage['out'].get('documents'))} went on"
    head = (
        f'<tr class="stage"><th scope="rowgroup">{title}'
        f"<small>{about}</small><small>{went}</small></th>"
        f"{_cells(stage['dropped'], came, table)}</tr>"
    )
    first, rest = _parted(stage.get("reasons") or [])
    rows = "".join(_reason(reason, stage, table) for reason in first)
    return f"<tbody>{head}{rows}{_others(rest, came, table)}</tbody>"


def _parted(reasons: list[Fields]) -> tuple[list[Fields], list[Fields]]:
    """Those that are shown in full, in the recipe's order, and the others by size."""
    by_size = sorted(range(len(reasons)), key=lambda index: (-(reasons[index].get("documents") or 0), index))
    first = set(by_size[:MOST_REASONS])
    shown = [reason for index, reason in enumerate(reasons) if index in first]
    return shown, [reasons[index] for index in by_size[MOST_REASONS:]]


def _cells(dropped: Fields, came: float, table: Table) -> str:
    """The numbers of one row, each over its bar."""
    documents = dropped.get("documents") or 0
    cells = [
        f'<td class="n">{count(documents)}{bar(documents, table.most["documents"])}</td>',
        f'<td class="n of-all">{share(documents, came)}{bar(documents, came)}</td>',
    ]
    for key, _, write in QUANTITIES:
        if key in table.columns:
            value = dropped.get(key)
            cells.append(f'<td class="n wide">{write(value)}{bar(value, table.most[key])}</td>')
    return "".join(cells)


def _reason(reason: Fields, stage: Fields, table: Table) -> str:
    """A row of numbers, and under it the sentence that opens."""
    name = f'<th scope="row"><code>{label(reason["reason"])}</code></th>'
    cells = _cells(reason, stage["in"].get("documents") or 0, table)
    figure = table.histograms.get((stage["stage"], reason["reason"]))
    samples = reason.get("samples") or []
    words = in_words(reason)
    shown = "".join(_sample(sample, reason) for sample in samples)
    parts = [
        _facts(reason, table),
        threshold_figure(figure, table.kind) if figure else "",
        f'<div class="samples">{shown}</div>' if shown else "",
    ]
    sentence = f"<p>{words}</p>"
    if any(parts):
        extent = f' <span class="extent">{many(len(samples), "sample")}</span>' if samples else ""
        sentence = f"<details><summary>{words}{extent}</summary>{''.join(parts)}</details>"
    return f'<tr class="reason">{name}{cells}</tr><tr class="more"><td colspan="{table.span}">{sentence}</td></tr>'


def _facts(reason: Fields, table: Table) -> str:
    """What the report says of a reason, where its number comes from, and what was lost by it."""
    said = sentence(reason.get("about")) if condition(reason) else ""
    key = setting(reason, table.settings)
    amounts = [(write(reason[key]), name) for key, name, write in QUANTITIES if reason.get(key)]
    lost = ", ".join(f"{amount} {name.lower().removeprefix('bytes ')}" for amount, name in amounts)
    parts = (said, key and f"Setting: {key}.", lost and f"Dropped with it: {lost}.")
    return f'<p class="facts">{" ".join(part for part in parts if part)}</p>' if any(parts) else ""


def threshold_figure(figure: Fields, kind: Kind) -> str:
    """The histogram of one rule, with a caption."""
    edges, reached, dropped = figure["edges"], figure["reached"], figure["dropped"]
    limit = figure.get("threshold")
    came, gone = sum(reached), sum(dropped)
    told = f"{count(gone)} of {count(came)} dropped"
    tallest = max(range(len(reached)), key=lambda index: (reached[index], -index), default=0)
    described = (
        f"{told}. Most documents lie between {number(edges[tallest])} and {number(edges[tallest + 1])}."
    )
    if limit is not None:
        described += f" Dropped {'above' if figure.get('above', True) else 'below'} {number(limit)}."
    drawing = histogram(
        edges,
        reached,
        dropped,
        str(figure["title"]),
        described,
        limit=None if limit is None else Limit(limit, bool(figure.get("above", True))),
        kind=kind,
    )
    return (
        f'<figure class="small"><figcaption><b>{label(figure["title"], 120)}</b><br>{told}, {share(gone, came)}'
        f"<br><code>{label(figure['reason'], 80)}</code></figcaption>{drawing}</figure>"
    )


def _sample(sample: Fields, reason: Fields) -> str:
    """One page that was dropped: address, id, measurement, text with the offending places marked."""
    facts = [f"<code>{label(sample.get('id', ''))}</code>"]
    if sample.get("language"):
        facts.append(label(sample["language"], 40))
    if sample.get("value") is not None:
        name = clean(reason.get("column") or "value")
        facts.append(f"<code>{name}</code> <b>{number(sample['value'])}</b>")
    url = f'<span class="url">{label(sample["url"])}</span>' if sample.get("url") else ""
    body = text_box(
        sample.get("text") or "", sample.get("spans") or (), sample.get("language"), sample.get("more")
    )
    return f'<div class="sample"><p class="source">{url}<span>{" · ".join(facts)}</span></p>{body}</div>'


def text_box(text: str, spans: Iterable[list[int]], language: object = "", more: int | None = 0) -> str:
    """Text out of the crawl, in its own direction, scrolling if it is long; says what is not shown of it."""
    if not text:
        return '<p class="cut">There is no text.</p>'
    cut = f'<p class="cut">… {many(more, "more character")} not shown.</p>' if more else ""
    inside = marked(text, spans)
    return f'<div class="text" dir="auto" tabindex="0"{language_tag(language)}>{inside}</div>{cut}'


def _others(reasons: list[Fields], came: float, table: Table) -> str:
    """What is left of very many reasons: a list that opens."""
    if not reasons:
        return ""
    documents = sum(reason.get("documents") or 0 for reason in reasons)
    rows = "".join(
        f'<tr><th scope="row"><code>{label(reason["reason"])}</code></th>'
        f'<td class="n">{count(reason.get("documents"))}</td>'
        f'<td class="n">{share(reason.get("documents"), came)}</td></tr>'
        for reason in reasons
    )
    summary = (
        f"{many(len(reasons), 'further reason')}, {many(documents, 'document')}, {share(documents, came)}"
    )
    return (
        f'<tr class="more"><td colspan="{table.span}"><details><summary>{summary}</summary>'
        '<table class="plain"><thead><tr><th scope="col">Reason</th><th scope="col" class="n">Documents</th>'
        f'<th scope="col" class="n">Share of what came</th></tr></thead><tbody>{rows}</tbody></table>'
        "</details></td></tr>"
    )
