"""The smaller sections of the report's page: languages, domains, copies, lengths, tokens, damage, how it was made."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from itertools import groupby
from typing import Any

from primer.corpus.refine.page_charts import bar, histogram, kind_for
from primer.corpus.refine.page_stages import common_kind, text_box, threshold_figure
from primer.corpus.refine.page_text import Fields, clean, count, label, many, number, share, size
from primer.corpus.refine.page_words import language, shown

SHOWN_ROWS = 15
"""Of a long table; the rest opens."""
MOST_ROWS = 500
MOST_WORDS = 400
"""Longer texts are shown beside one another without their differences, which take cubic time."""


def histograms(report: Fields) -> str:
    """Small multiples of all thresholds, by stage."""
    found = report.get("histograms") or []
    if not found:
        return ""
    titles = {stage["stage"]: stage["title"] for stage in report["stages"]}
    kind = common_kind(report)
    groups = "".join(
        f'<h3>{clean(titles.get(stage, stage))}</h3><div class="multiples">'
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
    return key + _long_table(titles, made, f"{head}s".lower(), "gains")


def _long_table(titles: str, rows: list[str], nouns: str, kind: str = "plain") -> str:
    """A table whose end opens, and which says how much even that leaves out."""

    def table(some: list[str]) -> str:
        return f'<table class="{kind}"><thead>{titles}</thead><tbody>{"".join(some)}</tbody></table>'

    rest = rows[SHOWN_ROWS:MOST_ROWS]
    left = len(rows) - MOST_ROWS
    note = f'<p class="note">{count(left)} more are in report.json.</p>' if left > 0 else ""
    more = (
        f"<details><summary>{count(len(rest))} further {nouns}</summary>{table(rest)}{note}</details>"
        if rest
        else ""
    )
    return table(rows[:SHOWN_ROWS]) + more


def clusters(report: Fields) -> str:
    """How many copies there were, and some of them side by side."""
    found = report.get("clusters")
    if not found or not found.get("documents"):
        return ""
    lost = found["documents"] - found["clusters"]
    lead = (
        f"<p>{many(found['documents'], 'document')} came to this stage, and there are {count(found['clusters'])} "
        f"different ones among them: {many(lost, 'document')}, {share(lost, found['documents'])}, "
        f"{'is a copy' if lost == 1 else 'are copies'}, to the letter or nearly.</p>"
    )
    examples = found.get("examples") or []
    intro = (
        "<h3>Examples</h3><p>On the left the one that was kept, on the right its copies. "
        "<mark>Words in a copy that differ</mark> are marked.</p>"
    )
    return (
        lead
        + _sizes(found.get("sizes") or [])
        + (intro if examples else "")
        + "".join(map(_cluster, examples))
    )


def _sizes(sizes: Sequence[Sequence[int]]) -> str:
    """Clusters by their size, in doublings."""
    if not sizes:
        return ""
    groups: dict[int, list[int]] = {}
    for each, clusters_of_it in sizes:
        group = groups.setdefault((each - 1).bit_length(), [0, 0])
        group[0] += clusters_of_it
        group[1] += each * clusters_of_it
    most = max(documents for _, documents in groups.values())
    rows = []
    for power, (how_many, documents) in sorted(groups.items()):
        low, high = (1 << power >> 1) + 1, 1 << power
        name = "1, no copy" if power == 0 else str(low) if low == high else f"{count(low)} to {count(high)}"
        rows.append(
            f'<tr><th scope="row">{name}{bar(documents, most, how_many, "gone")}</th>'
            f'<td class="n">{count(how_many)}</td><td class="n">{count(documents)}</td>'
            f'<td class="n">{count(documents - how_many)}</td></tr>'
        )
    titles = (
        '<tr><th scope="col">Copies of one text</th><th scope="col" class="n">Texts, each kept once</th>'
        '<th scope="col" class="n">Documents</th><th scope="col" class="n">Dropped</th></tr>'
    )
    key = '<p class="note"><span class="key stays">kept</span> <span class="key gone">dropped</span></p>'
    return key + _long_table(titles, rows, "sizes", "gains")


def _cluster(example: Fields) -> str:
    kept, copies = example["kept"], example.get("copies") or []
    text = str(kept.get("text") or "")
    right = "".join(
        _member(copy, differing(text, str(copy.get("text") or "")), str(copy.get("reason") or "copy"))
        for copy in copies
    )
    return (
        f'<details class="cluster"><summary>{many(example["size"], "copy").replace("copys", "copies")} of '
        f"<bdi>{clean(' '.join(text[:120].split()) or kept.get('id'))}</bdi></summary>"
        f'<div class="pair"><div>{_member(kept, [], "kept")}</div><div>{right}</div></div></details>'
    )


def _member(page: Fields, spans: list[list[int]], state: str) -> str:
    url = f'<span class="url">{label(page["url"])}</span>' if page.get("url") else ""
    source = f"{url}<span><b>{clean(state)}</b> · <code>{label(page.get('id', ''))}</code></span>"
    body = text_box(str(page.get("text") or ""), spans, page.get("language"), page.get("more"))
    return f'<div class="sample"><p class="source">{source}</p>{body}</div>'


def differing(kept: str, copy: str) -> list[list[int]]:
    """Spans of `copy` whose words are not in `kept` at this place."""
    ours, theirs = re.findall(r"\S+", kept), list(re.finditer(r"\S+", copy))
    if max(len(ours), len(theirs)) > MOST_WORDS:
        return []
    matcher = SequenceMatcher(None, ours, [word.group() for word in theirs], autojunk=False)
    return [
        [theirs[start].start(), theirs[end - 1].end()]
        for kind, _, _, start, end in matcher.get_opcodes()
        if kind in ("insert", "replace")
    ]


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
    return _pairs(rows)


def damage(report: Fields) -> str:
    """Places that could not be read, and pages at which a process died."""
    found, crashed = report.get("damage") or [], report.get("crashed") or []
    parts = []
    if found:
        titles = (
            '<tr><th scope="col">Source</th><th scope="col">What</th><th scope="col" class="n">Offset</th>'
            '<th scope="col" class="n">Bytes</th></tr>'
        )
        rows = [
            f'<tr><th scope="row"><code>{label(each["source"])}</code></th><td>{label(each["why"])}</td>'
            f'<td class="n">{count(each["offset"])}</td><td class="n">{count(each["bytes"])}</td></tr>'
            for each in found
        ]
        lost = sum(each["bytes"] or 0 for each in found)
        parts.append(f"<p>{many(len(found), 'place')} could not be read, {size(lost)} together.</p>")
        parts.append(_long_table(titles, rows, "places"))
    if crashed:
        names = "".join(f"<li><code>{label(each)}</code></li>" for each in crashed[:MOST_ROWS])
        parts.append(
            f'<p>At {many(len(crashed), "page")} a process died; they were dropped.</p><ul class="names">{names}</ul>'
        )
    return "".join(parts)


def made(report: Fields) -> str:
    """Recipe, inputs, versions: what it takes to make the same again."""
    recipe = report.get("recipe") or {}
    name = f"<b>{clean(recipe.get('recipe') or 'unnamed')}</b>, version {clean(recipe.get('version', '?'))}"
    about = clean(str(recipe.get("about") or "").rstrip("."))
    with_what = sorted((report.get("made_with") or {}).items())
    versions = _pairs([(clean(key), f"<bdi>{clean(value)}</bdi>") for key, value in with_what])
    return f"<p>Recipe {name}.{' ' + about + '.' if about else ''}</p>{versions}{_inputs(report)}{_settings(report)}"


def _inputs(report: Fields) -> str:
    found = report.get("inputs") or []
    if not found:
        return ""
    titles = (
        '<tr><th scope="col">Input</th><th scope="col">Kind</th><th scope="col">Group</th>'
        '<th scope="col" class="n">Bytes</th><th scope="col">SHA-256</th></tr>'
    )
    rows = [
        f'<tr><th scope="row"><code>{label(each["name"])}</code></th><td>{clean(each.get("kind", ""))}</td>'
        f'<td>{label(each.get("group", ""), 60)}</td><td class="n">{size(each.get("bytes"))}</td>'
        f'<td class="hash"><code>{clean(each.get("sha256") or "–")}</code></td></tr>'
        for each in found
    ]
    total = size(sum(each.get("bytes") or 0 for each in found))
    table = _long_table(titles, rows, "inputs")
    return f"<details><summary>{many(len(found), 'input')}, {total}, with SHA-256</summary>{table}</details>"


def _settings(report: Fields) -> str:
    """Every key of the recipe, by its table, in the order of the stages."""
    settings = report.get("settings") or {}
    if not settings:
        return ""
    order = {stage["stage"]: index for index, stage in enumerate(report["stages"])}

    def table_of(key: str) -> str:
        return key.split(".")[0] if "." in key else ""

    keys = sorted(settings, key=lambda key: (order.get(table_of(key), len(order)), key))
    groups = "".join(
        f'<tr><th colspan="2" scope="colgroup">{clean(name or "recipe")}</th></tr>'
        + "".join(
            f'<tr><th scope="row"><code>{clean(key)}</code></th><td><code>{shown(settings[key])}</code></td></tr>'
            for key in group
        )
        for name, group in groupby(keys, key=table_of)
    )
    head = '<thead><tr><th scope="col">Setting</th><th scope="col">Value</th></tr></thead>'
    return (
        f"<details><summary>All {count(len(settings))} settings</summary>"
        f'<table class="plain settings">{head}<tbody>{groups}</tbody></table></details>'
    )


def _pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Terms and what they are; both are HTML."""
    return (
        f"<dl>{''.join(f'<div><dt>{term}</dt><dd>{value}</dd></div>' for term, value in rows)}</dl>"
        if rows
        else ""
    )


Section = Callable[[Any], str]
SECTIONS: tuple[tuple[str, str, Section], ...] = (
    ("thresholds", "Where the thresholds lie", histograms),
    ("languages", "Languages", languages),
    ("domains", "Domains", domains),
    ("copies", "Copies", clusters),
    ("lengths", "Lengths", lengths),
    ("tokens", "Tokens", tokens),
    ("damage", "Damage", damage),
    ("made", "How it was made", made),
)
"""(anchor, heading, what writes it: nothing where there is nothing to say), in the page's order."""
