"""What could not be read, and how the corpus was made: the ends of the report's page."""

from __future__ import annotations

from itertools import groupby

from primer.corpus.refine.page_tables import MOST_ROWS, long_table, pairs
from primer.corpus.refine.page_text import Fields, clean, count, label, many, size
from primer.corpus.refine.page_words import sentence, shown


def damage(report: Fields) -> str:
    """Places that could not be read, and pages at which a process died."""
    found, crashed = report.get("damage") or [], report.get("crashed") or []
    parts = []
    if found:
        titles = (
            '<tr><th scope="col">Source</th><th scope="col">What</th><th scope="col" class="n">Place</th>'
            '<th scope="col" class="n">Bytes</th></tr>'
        )
        rows = [
            f'<tr><th scope="row"><code>{label(each["source"])}</code></th><td>{label(each["why"])}</td>'
            f'<td class="n">{label(each.get("offset", each.get("place")))}</td>'
            f'<td class="n">{size(each["bytes"])}</td></tr>'
            for each in found
        ]
        lost = sum(each["bytes"] or 0 for each in found)
        parts.append(f"<p>{many(len(found), 'place')} could not be read, {size(lost)} together.</p>")
        parts.append(long_table(titles, rows, "places"))
    if crashed:
        names = "".join(f"<li><code>{label(each)}</code></li>" for each in crashed[:MOST_ROWS])
        parts.append(
            f'<p>At {many(len(crashed), "page")} a process died; they were dropped.</p><ul class="names">{names}</ul>'
        )
    return "".join(parts)


_DONE = {"drop": "were dropped", "mask": "lost those stretches", "report": "were only counted"}


def contamination(report: Fields) -> str:
    """Which items of evaluations stood in documents that came so far."""
    found = report.get("contamination")
    if not found:
        return ""
    if not found["items"]:
        return "<p>No item of the evaluations stands in any document.</p>"
    titles = '<tr><th scope="col">Item</th><th scope="col" class="n">Documents</th></tr>'
    rows = [
        f'<tr><th scope="row"><code>{label(item)}</code></th><td class="n">{count(documents)}</td></tr>'
        for item, documents in found["items"]
    ]
    done = _DONE.get(found["action"], "")
    told = f"<p>{many(found['found'], 'item')} of evaluations stood in documents, which {done}.</p>"
    return told + long_table(titles, rows, "items")


def made(report: Fields) -> str:
    """Recipe, inputs, versions: what it takes to make the same again."""
    recipe = report.get("recipe") or {}
    name = f"<b>{clean(recipe.get('recipe') or 'unnamed')}</b>, version {clean(recipe.get('version', '?'))}"
    about = sentence(recipe.get("about"))
    with_what = sorted((report.get("made_with") or {}).items())
    versions = pairs([(clean(key), label(value)) for key, value in with_what])
    return (
        f"<p>Recipe {name}.{' ' + about if about else ''}</p>{versions}{_inputs(report)}{_settings(report)}"
    )


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
    table = long_table(titles, rows, "inputs")
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
