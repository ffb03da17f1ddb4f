"""Trafilatura judges: on pages that show one rule each, and on a sample of a crawl."""

import hashlib
import random
from collections import Counter

import pytest

from primer.corpus.crawl.main_text import extract
from primer.corpus.crawl.main_text_marks import COLUMNS, COMMENT, FRAMES, GUARDED, MARKS, ROWS, UNWANTED
from primer.corpus.crawl.main_text_prose import prose
from primer.corpus.crawl.main_text_stream import events

SENTENCE = (
    "The old harbour town lies between two rivers, and its market is held in the square near the church."
)
MORE = (
    "Every spring the boats are painted, the nets are mended, and the first herring is sold for a good price."
)
LONG = f"{SENTENCE} {MORE} Nobody knows who built the first pier, but the stones are older than any chronicle says."


def page(body, head=""):
    return f"<!DOCTYPE html><html><head><title>Town</title>{head}</head><body>{body}</body></html>"


PAGES = {
    "frame": page(
        f"<nav><a href=/>Home</a></nav><div id=content><h1>Harbour</h1><p>{LONG}</p><h2>Boats</h2><p>{MORE}</p></div>"
        "<footer><p>All rights reserved by the town of the harbour</p></footer>"
    ),
    "loose": page(f"<h1>Harbour</h1><p>{LONG}</p><ul><li>Not read</li></ul><p>{MORE}</p>"),
    "list": page(
        f"<article><p>{LONG}</p><ul><li>Herring<li>Cod<ul><li>young</li><li>old</li></ul></li></ul><p>{MORE}</p>"
        "</article>"
    ),
    "definitions": page(
        f"<article><p>{LONG}</p><dl><dt>Pier<dd>Where boats land.</dl><p>{MORE}</p></article>"
    ),
    "table": page(
        f"<article><p>{LONG}</p><table><tr><th>Fish<th>Price<tr><td>Herring<td>3<tr><td colspan=2>None</table>"
        f"<p>{MORE}</p></article>"
    ),
    "spans": page(
        f"<article><p>{LONG}</p><table><tr><td rowspan=2>Fish<td>a | b<tr><td>c</table><p>{MORE}</p></article>"
    ),
    "code": page(
        f"<article><p>{LONG}</p><pre>if x {{\n    go()\n}}</pre><p>Use <code>go()</code> for it.</p></article>"
    ),
    "quotation": page(
        f"<article><p>{LONG}</p><blockquote><p>Of fish</p><p>and men</p></blockquote></article>"
    ),
    "break": page(f"<article><p>{LONG}<br>{MORE}</p><p>{SENTENCE}</p></article>"),
    "farm": page(
        f"<article><p>{LONG}</p><div>See <a href=a>the boats</a>, <a href=b>the nets</a></div><p>{MORE}</p>"
        "<ul><li><a href=c>All about fish</a><li><a href=d>All about ships</a></ul></article>"
    ),
    "boilerplate": page(
        f"<article><p>{LONG}</p><div class=sidebar>{MORE}</div><p class=teaser>{MORE}</p><div style='display:none'>"
        f"{SENTENCE}</div><section id=comments><p>{SENTENCE}</p></section><p>{SENTENCE} Indeed.</p></article>"
    ),
    "guard": page(f"<article class=x><div class=navbar><p>{LONG}</p><p>{MORE}</p></div></article>"),
    "repeats": page("<article>" + f"<p>{SENTENCE} {MORE}</p><p>Between.</p>" * 5 + "</article>"),
    "form": page(f"<form><div><p>{LONG}</p><p>{MORE}</p></div><form><p>Search</p></form></form>"),
    "figure": page(
        f"<article><p>{LONG}</p><figure><img src=a.png><figcaption>Boat</figcaption></figure><figure><table><tr><td>"
        f"One<td>Two</table></figure><p>{MORE}</p></article>"
    ),
    "empty": page(
        f"<article><p>{LONG}</p><p>Lost <b></b> behind <em>nothing</em>.</p><p>{MORE}</p></article>"
    ),
    "trailing": page(f"<article><p>{LONG}</p><p>{MORE}</p><h2>Never said</h2></article>"),
    "noise": page(f"<article><p>{LONG}</p><p>Facebook</p><p>Print</p><p>{MORE}</p></article>"),
    "divisions": page("<div id=x>" + "".join(f"<div>{LONG} Number {i}.</div>" for i in range(5)) + "</div>"),
    "links": page(
        f"<div><p>{MORE} <a href=x>More about it</a></p><p><a href=y>Read on about fish</a></p></div>"
    ),
    "short": page(f"<div>{LONG}</div><div><a href=a>Home</a></div>"),
    "characters": page(
        f"<article><p>{LONG} Cafe\u0301 &amp; &lt;b&gt;\u200b &nbsp; x</p><p>{MORE}</p></article>"
    ),
    "nothing": page("<nav><a href=/>Home</a></nav>"),
    "words only": "word " * 50,
    "blank": "",
}


@pytest.fixture(scope="module")
def judge():
    """Trafilatura with an empty memory before each page."""
    trafilatura = pytest.importorskip("trafilatura", exc_type=ImportError)
    if int(trafilatura.__version__.split(".")[0]) < 2:
        pytest.skip("the text of trafilatura 1 is another one")
    from trafilatura.deduplication import LRU_TEST

    def run(html):
        LRU_TEST.clear()
        return trafilatura.extract(html, favor_precision=True, include_comments=False, deduplicate=True) or ""

    return run


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_the_text_that_trafilatura_finds(judge, name):
    assert extract(PAGES[name]) == judge(PAGES[name])


SAID = {
    "loose": LONG,
    "list": f"{LONG}\n- Herring\n- Cod\n  - young\n  - old\n{MORE}",
    "table": f"{LONG}\n| Fish | Price |\n|---|---|\n| Herring | 3 |\n| None |  |\n{MORE}",
    "farm": f"{LONG}\n{MORE}",
    "boilerplate": f"{LONG}\n{SENTENCE} Indeed.",
    "blank": "",
}


@pytest.mark.parametrize("name", SAID)
def test_lines_are_blocks(name):
    """Without a judge: each block on its own line, items with dashes, rows between bars."""
    assert [line.rstrip() for line in extract(PAGES[name]).splitlines()] == SAID[name].splitlines()


def test_a_tag_is_judged_by_its_names():
    assert MARKS['div class="navbar"'].flags & GUARDED
    assert not MARKS['td class="navbar"'].flags & GUARDED
    assert MARKS['p style="border: 0"'].flags & UNWANTED
    assert MARKS['section id="comments"'].flags & COMMENT
    assert not MARKS['p id="comments"'].flags & COMMENT
    assert MARKS['div id="content"'].flags & FRAMES[3]
    assert MARKS['td colspan="3" rowspan="2"'].flags >> COLUMNS & 127 == 3
    assert MARKS['td colspan="3" rowspan="2"'].flags >> ROWS & 127 == 2


def test_prose_is_long_blocks_with_few_links():
    html = page(
        f"<div>{LONG}</div><div><a>{MORE}</a></div><div>Short</div><div>{MORE}</div><div>{LONG}</div>"
    )
    assert prose(events(html)) == [LONG, MORE, LONG]


HOSTILE = {
    "deep": "<div><p>" * 50_000 + LONG,
    "deep lists": "<ul><li>a" * 50_000,
    "many tags": f"<p>{LONG}</p>" + "<br>y" * 200_000,
    "wide": "<table><tr>" + "<td>x" * 3_000,
    "spans": "<table>" + "<tr><td colspan=1000 rowspan=1000>x" * 300,
    "dropped": f"<html><article><p>{LONG}" + "<ul></ul>x" * 3_000 + "<b>x</b>y" * 3_000,
    "open": "<a" * 50_000,
    "nul": "\0<html>\0<p>\ud800" + LONG,
    "declared": f'<?xml version="1.0" encoding="latin-1"?><html><body><p>{LONG}</p></body></html>',
    "no body": "<html><frameset><frame src=x></frameset></html>",
    "binary": bytes(random.Random(5).randrange(256) for _ in range(50_000)).decode("utf-8", "replace"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_page_breaks_it(name):
    text = extract(HOSTILE[name])
    assert "\n\n" not in text
    assert text == text.strip()
    assert (LONG in text) == (name in ("nul", "declared", "dropped"))


def agreement(ours, theirs):
    """F1 of the words, counted."""
    ours, theirs = Counter(ours.split()), Counter(theirs.split())
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * (ours & theirs).total() / (ours.total() + theirs.total())


def test_a_sample_of_a_crawl_has_the_words_that_trafilatura_finds(judge, real_data):
    archive = real_data / "warc" / "debian-docs-a.warc.gz"
    if not archive.is_file():
        pytest.skip(f"there is no {archive}")
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    pages = []
    with archive.open("rb") as stream:
        for record in ArchiveIterator(stream, record_types=WarcRecordType.response):
            address = record.headers.get("WARC-Target-URI", "")
            if int(hashlib.sha256(address.encode()).hexdigest(), 16) % 25 == 0:
                pages.append(record.reader.read().decode("utf-8", "replace"))
    pages = sorted(pages, key=len)[:40]
    scores = [agreement(extract(html), judge(html)) for html in pages]
    assert len(scores) == 40
    assert sum(scores) / len(scores) > 0.98
