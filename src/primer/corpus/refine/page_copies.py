"""Copies on the report's page: how many there were, and some of them side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from primer.corpus.refine.page_charts import bar
from primer.corpus.refine.page_stages import text_box
from primer.corpus.refine.page_tables import long_table
from primer.corpus.refine.page_text import Fields, clean, count, label, many, share

MOST_WORDS = 400
"""Longer texts are shown beside one another without their differences, which take cubic time."""


def clusters(report: Fields) -> str:
    """How many copies there were, and some of them side by side."""
    found = report.get("clusters")
    if not found or not found.get("documents"):
        return ""
    if not any(stage["stage"] == "dedup" and stage.get("on", True) for stage in report["stages"]):
        return ""
    lost = found["documents"] - found["clusters"]
    verb = "is a copy" if lost == 1 else "are copies"
    lead = (
        f"<p>{many(found['documents'], 'document')} came to this stage, and there are {count(found['clusters'])} "
        f"different ones among them: {many(lost, 'document')}, {share(lost, found['documents'])}, {verb}, to the "
        "letter or nearly.</p>"
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
    return key + long_table(titles, rows, "sizes", "gains")


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
