"""The report of a corpus as one HTML file: what went in, what came out, and why the rest was dropped.

The page needs nothing but itself: no script, no font, no picture from elsewhere. Its Content-Security-Policy allows
one thing, the style sheet whose SHA-256 it names. What comes from the crawl is text and stays text (`page_text.clean`);
addresses are shown, never linked. The same report gives the same bytes.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from typing import Any

from primer.corpus.refine import page_parts
from primer.corpus.refine.page_flow import GRADIENTS, Flow, figures, flow_of
from primer.corpus.refine.page_stages import stages_table
from primer.corpus.refine.page_text import Fields, clean, count, label, many, plain, share, size
from primer.corpus.refine.page_words import condition

SPACE = "\n"


def page(report: dict[str, Any]) -> str:
    """report.json as a page. Parts of the report that are missing, null or empty leave out their section."""
    style = files("primer.corpus.refine").joinpath("page_style.css").read_text("utf-8")
    seal = b64encode(sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{seal}'; base-uri 'none'; form-action 'none'"
    sections = _sections(report)
    links = "".join(f'<li><a href="#{anchor}">{title}</a></li>' for anchor, title, _ in sections)
    body = SPACE.join(
        f'<section id="{anchor}" aria-labelledby="{anchor}-title">'
        f'<h2 id="{anchor}-title">{title}</h2>{inside}</section>'
        for anchor, title, inside in sections
    )
    lines = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">',
        f"<title>{clean(_title(report))}</title><style>{style}</style></head><body>{GRADIENTS}",
        f'<header>{_headline(report)}<nav aria-label="Sections"><ul>{links}</ul></nav></header>',
        f"<main>{body}</main>",
        "<footer><p>Made by Primer from report.json. Nothing on this page is loaded from elsewhere.</p></footer>",
        "</body></html>",
    )
    return SPACE.join(lines) + SPACE


def _sections(report: Fields) -> list[tuple[str, str, str]]:
    """(anchor, heading, HTML) of all that have something to say."""
    found = [
        ("way", "The way through the stages", _way(report)),
        ("reasons", "What was dropped, and why", stages_table(report) if report["stages"] else ""),
        *((anchor, title, write(report)) for anchor, title, write in page_parts.SECTIONS),
    ]
    return [section for section in found if section[2]]


def _title(report: Fields) -> str:
    came, kept = (report["totals"][each].get("documents") or 0 for each in ("in", "kept"))
    if not came:
        return "A corpus of nothing: no document came in"
    if not kept:
        return f"Nothing was kept of {plain(many(came, 'document'))}"
    return f"{plain(many(came, 'document'))} in, {plain(count(kept))} kept"


def _headline(report: Fields) -> str:
    """The whole story in a sentence or two, then in four numbers."""
    recipe = report.get("recipe") or {}
    name = f"A corpus by the recipe {label(recipe['recipe'], 80)}" if recipe.get("recipe") else "A corpus"
    return (
        f'<p class="kicker">{name}</p><h1>{clean(_title(report))}</h1>'
        f'<p class="lead">{" ".join(_told(report))}</p>{_tiles(report)}'
    )


def _told(report: Fields) -> list[str]:
    """Sentences, as HTML."""
    came, kept = report["totals"]["in"], report["totals"]["kept"]
    if not came.get("documents"):
        return ["No input held a document; there is nothing to tell."]
    sentences = []
    if kept.get("documents"):
        told = f"{share(kept['documents'], came['documents'])} of the documents and "
        told += f"{share(kept.get('text_bytes'), came.get('text_bytes'))} of their text are left: "
        told += f"{many(kept.get('words'), 'word')} in {size(kept.get('text_bytes'))}"
        tokens = kept.get("tokens")
        sentences.append(told + (f", which make {many(tokens, 'token')}." if tokens is not None else "."))
    sentences += _most(report)
    if kept.get("tokens") is None:
        sentences.append("Tokens were not counted.")
    return sentences


def _most(report: Fields) -> list[str]:
    """Which stage and which reason took most."""
    stages = [stage for stage in report["stages"] if stage["dropped"].get("documents")]
    if not stages:
        return ["Nothing was dropped."]
    stage = max(stages, key=lambda each: each["dropped"]["documents"])
    gone, came = stage["dropped"]["documents"], stage["in"].get("documents")
    told = [
        f"The stage <b>{label(stage['title'], 80)}</b> took most: {count(gone)}, {share(gone, came)} of what it saw."
    ]
    reasons = [
        (reason.get("documents") or 0, reason) for each in stages for reason in each.get("reasons") or ()
    ]
    if reasons:
        documents, reason = max(reasons, key=lambda each: each[0])
        why = condition(reason)
        explained = f" ({why})" if why else ""
        told.append(
            f"The commonest reason was <code>{label(reason['reason'], 80)}</code>{explained}: {count(documents)}."
        )
    return told


def _tiles(report: Fields) -> str:
    """Four numbers, large."""
    came, kept, tokens = report["totals"]["in"], report["totals"]["kept"], report.get("tokens") or {}
    split = f"{count(tokens['train'])} to train on" if tokens.get("train") is not None else "in what was kept"
    total = kept.get("tokens")
    tiles = (
        ("In", count(came.get("documents")), f"documents, {size(came.get('bytes'))} of pages"),
        ("Kept", count(kept.get("documents")), f"documents, {size(kept.get('text_bytes'))} of text"),
        ("Share kept", share(kept.get("documents"), came.get("documents")), "of the documents"),
        ("Tokens", count(total), split if total is not None else "not counted"),
    )
    cells = "".join(
        f"<div><dt>{term}</dt><dd><b>{value}</b> {note}</dd></div>" for term, value, note in tiles
    )
    return f'<dl class="tiles">{cells}</dl>'


def _way(report: Fields) -> str:
    """The river of documents, and of bytes, text and tokens where these are known; radio buttons choose."""
    flows = [
        (key, name, flow)
        for key, name, noun, write in (
            ("documents", "Documents", "documents", count),
            ("bytes", "Bytes of pages", "of pages", size),
            ("text_bytes", "Bytes of text", "of text", size),
            ("tokens", "Tokens", "tokens", count),
        )
        if (flow := flow_of(report["stages"], key, noun, write))
    ]
    if not flows:
        return ""
    return (
        "<p>From left to right, or downwards in a narrow window, each stage turns aside what it drops; the breadth is "
        "the amount, and the share is that of what reached the stage. Stages that are turned off are left out.</p>"
        f'<div class="ways">{_choices(flows)}{"".join(_shown(*each) for each in flows)}</div>'
    )


def _choices(flows: list[tuple[str, str, Flow]]) -> str:
    return "".join(
        f'<input type="radio" name="way" id="way-{key}"{"" if index else " checked"}>'
        f'<label for="way-{key}">{name}</label>'
        for index, (key, name, _) in enumerate(flows)
    )


def _shown(key: str, name: str, flow: Flow) -> str:
    return f'<figure class="way way-{key}"><figcaption>{name}</figcaption>{figures(flow)}</figure>'
