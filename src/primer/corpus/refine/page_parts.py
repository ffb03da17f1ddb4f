"""The smaller sections of the report's page: thresholds, languages, domains, lengths, tokens; and all in order."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

from primer.corpus.refine.page_charts import bar, histogram, kind_for
from primer.corpus.refine.page_copies import clusters
from primer.corpus.refine.page_made import contamination, damage, made
from primer.corpus.refine.page_stages import common_kind, threshold_figure
from primer.corpus.refine.page_tables import long_table, pairs
from primer.corpus.refine.page_text import Fields, clean, count, label, many, number, share
from primer.corpus.refine.page_words import language


def histograms(report: Fields) -> str:
    """Small multiples of all thresholds, by stage."""
    found = report.get("histograms") or []
    if not found:
        return ""
    titles = {stage["stage"]: stage["title"] for stage in report["stages"]}
    kind = common_kind(report)
    groups = "".join(
        f'<h3>{label(titles.get(stage, stage), 80)}</h3><div class="multiples">'
        f"{''.join(threshold_figure(each, kind) for each in group)}</div>"
        for stage, group in groupby(found, key=lambda each: each["stage"])
    )
    return (
        '<p>Each figure shows the documents that reached the stage, <span class="key reached">all of them</span> and '
        '<span class="key gone">those that this rule dropped</span>. What lies beyond a threshold and is not marked '
        "had been dropped by an earlier rule of the same stage. Counts are drawn by their "
        f"<b>{kind}</b>, so that a few documents can be seen beside many. "
        f"Each axis has its own numbers, and bins are drawn equally wide.</p>{groups}"
    )


def languages(report: Fields) -> str:
    rows = [(language(each["language"]), each["in"], each["kept"]) for each in report.get("languages") or ()]
    return _gains("Language", rows, report)


def domains(report: Fields) -> str:
    rows = [
        (f"<code>{label(each['domain'])}</code>", each["in"], each["kept"])
        for each in report.get("domains") or ()
    ]
    return _gains("Domain", rows, report)


def _gains(head: str, rows: list[tuple[str, int, int]], report: Fields) -> str:
    """In and kept, and how much of the whole each is before and after."""
    if not rows:
        return ""
    totals = report["totals"]
    came, kept = totals["in"].get("documents"), totals["kept"].get("documents")
    most = max(row[1] for row in rows)
    made = [
        f'<tr><th scope="row">{name}{bar(before, most, after, "came")}</th><td class="n">{count(before)}</td>'
        f'<td class="n">{count(after)}</td><td class="n">{share(after, before)}</td>'
        f'<td class="n wide">{share(before, came)}</td><td class="n wide">{share(after, kept)}</td></tr>'
        for name, before, after in rows
    ]
    titles = (
        f'<tr><th scope="col">{head}</th><th scope="col" class="n">In</th><th scope="col" class="n">Kept</th>'
        '<th scope="col" class="n">Kept of these</th><th scope="col" class="n wide">Of all that came</th>'
        '<th scope="col" class="n wide">Of all that was kept</th></tr>'
    )
    key = '<p class="note"><span class="key reached">came in</span> <span class="key stays">kept</span></p>'
    return key + long_table(titles, made, f"{head}s".lower(), "gains")


def lengths(report: Fields) -> str:
    """Words a document, before and after."""
    found = report.get("lengths")
    if not found or not any(found.get("in") or ()):
        return ""
    told = f"{many(sum(found['in']), 'document')} had a text when they came in; {count(sum(found['kept']))} were kept."
    kind = kind_for(max(found["in"]))
    drawing = histogram(
        found["edges"], found["in"], found["kept"], "Words a document", told, "stays", kind=kind
    )
    return (
        f'<p>{told} <span class="key reached">What came in</span> <span class="key stays">what was kept</span>, by the '
        f"number of words. Counts are drawn by their <b>{kind}</b>.</p>"
        f'<figure class="small">{drawing}</figure>'
    )


def tokens(report: Fields) -> str:
    """How much there is to train on."""
    found = report.get("tokens")
    if not found:
        return ""
    train, validation = found.get("train"), found.get("validation")
    rows = (
        ("Tokenizer", clean(found.get("tokenizer", ""))),
        ("To train on", f"{count(train)} tokens"),
        (
            "To validate on",
            f"{count(validation)} tokens, {share(validation, (train or 0) + (validation or 0))} of all",
        ),
        ("Bytes a token", number(found.get("bytes_per_token"))),
    )
    return pairs(rows)


Section = Callable[[Any], str]
SECTIONS: tuple[tuple[str, str, Section], ...] = (
    ("thresholds", "Where the thresholds lie", histograms),
    ("languages", "Languages", languages),
    ("domains", "Domains", domains),
    ("copies", "Copies", clusters),
    ("lengths", "Lengths", lengths),
    ("tokens", "Tokens", tokens),
    ("evaluations", "Evaluations", contamination),
    ("damage", "Damage", damage),
    ("made", "How it was made", made),
)
"""(anchor, heading, what writes it: nothing where there is nothing to say), in the page's order."""
