"""The main text of an HTML page: what trafilatura 2.3 would write, in a fraction of its time.

`extract` follows trafilatura's precise mode without comments (Barbaresi 2021, https://trafilatura.readthedocs.io):
the page's own article (main_text_own), a second opinion by scores (main_text_score) where that is short or poor, and
runs of prose (main_text_prose) where both fail.
"""

from __future__ import annotations

import re
from typing import Final

from primer.corpus.crawl.main_text_build import build
from primer.corpus.crawl.main_text_marks import words
from primer.corpus.crawl.main_text_own import ENOUGH, elements, own
from primer.corpus.crawl.main_text_prose import prose
from primer.corpus.crawl.main_text_score import Element, article
from primer.corpus.crawl.main_text_stream import events
from primer.corpus.crawl.main_text_tree import Node, is_text, place, settle
from primer.corpus.crawl.main_text_widgets import clean, html_of, text_of
from primer.corpus.crawl.main_text_write import write

_UNCLEAN = re.compile(
    "<(?:aside|audio|button|fencedframe|fieldset|figure|footer|iframe|input|label|link|nav|noindex|noscript|object"
    "|option|select|source|svg|time)[ />]"
)
_MOST_TAGS: Final = 100_000
_ROWS: Final = {"tr": "row", "td": "cell", "th": "cell"}
_WRITTEN: Final = words("ab cell code del div head hi item lb list p quote row table")


def extract(html: str) -> str:
    """The main text, block by block on lines of its own; "" where there is none.

    Time is linear in the page. What has more than 100,000 angle brackets is no page to read, and gives "".
    """
    if html.count("<") > _MOST_TAGS:
        return ""
    stream = events(html)
    if not stream:
        return ""
    body, length = own(stream)
    other = None
    if (2 * length < sum(map(len, stream[::2])) and 2 * length < page_length(stream)) or is_deficient(body):
        other = article(stream)
    if other is not None:
        clean(other)
        text = text_of(other)
        if prefers_other(body, length, text):
            return from_other(stream, other, len(text))
    if length < ENOUGH:
        blocks = prose(stream)
        if len(" ".join(" ".join(blocks).split())) > length:
            return write(paragraphs(blocks))
    return write(body)


def page_length(stream: list[str]) -> int:
    """At most as long as the text of the page."""
    return len(" ".join("".join(stream[::2]).split()))


def is_deficient(body: Node) -> bool:
    """Whether blocks hold no paragraph, or more tables than paragraphs."""
    found = [node for node in elements(body) if node.tag == "p"]
    tables = sum(node.tag == "table" for node in elements(body))
    return tables > len(found) or not any(node.text or node.kids for node in found)


def prefers_other(body: Node, length: int, text: str) -> bool:
    """Whether the scored article is so much longer, or the own one so poor, that it is taken."""
    other = len(text)
    if other in (0, length) or length > 2 * other:
        return False
    if not length or (other > 2 * length and not text.startswith("{")):
        return True
    return other > 2 * ENOUGH and is_deficient(body)


def from_other(stream: list[str], other: Element, length: int) -> str:
    """The scored article as text, or the page's prose if the article is not clean."""
    if other.tag == "body" and len(other.kids) == 1 and not is_text(other.text):
        other = other.kids[0]
    other.tag = other.raw = "div"
    html = html_of(other)
    if length < ENOUGH or _UNCLEAN.search(html):
        blocks = prose(stream)
        prose_length = len(" ".join(" ".join(blocks).split()))
        if prose_length and (length <= 3 * prose_length if _UNCLEAN.search(html) else length < prose_length):
            return write(paragraphs(blocks))
    root = build(events(html, fragment=True)).kids[0]
    if len(root.kids) == 1 and not is_text(root.text) and not is_text(root.kids[0].tail):
        root = root.kids[0]
    root.tag, root.tail = "div", ""
    as_written(root)
    return write(root)


def as_written(node: Node) -> None:
    """Rows, cells and blocks get the names that `write` knows; other elements only leave their content."""
    kids: list[Node] = []
    pieces = [node.text]
    headed = False
    for kid in node.kids:
        as_written(kid)
        if kid.tag == "tr":
            for cell in kid.kids:
                cell.flags &= not headed
            headed = headed or any(cell.flags for cell in kid.kids)
        elif kid.tag in ("td", "th"):
            kid.flags = int(kid.tag == "th")
        kid.tag = _ROWS.get(kid.tag, kid.tag)
        pieces = place(node, kid, kids, pieces, whole=kid.tag in _WRITTEN)
    settle(node, kids, pieces)
    node.kids = kids


def paragraphs(blocks: list[str]) -> Node:
    """A body of these paragraphs."""
    body = Node("body")
    body.kids = [Node("p", 0, 0, block) for block in blocks]
    return body
