"""The second opinion: which element of a page collects most prose, by scores (readability as trafilatura 2.3 has it).

Arc90's method: each paragraph gives points to its parent and half of them to its grandparent, links take points away,
the best element and its good siblings are the article, and what in it looks like a widget is taken out again.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from primer.corpus.crawl.main_text_marks import CLOSE, COMMENT, HIDDEN, MARKS, attributes
from primer.corpus.crawl.main_text_stream import pairs, unescape
from primer.corpus.crawl.main_text_tree import settle

_TAG_POINTS: Final = {
    **dict.fromkeys(("div", "article"), 5),
    **dict.fromkeys(("pre", "td", "blockquote"), 3),
    **dict.fromkeys(("address", "ol", "ul", "dl", "dd", "dt", "li", "form", "aside"), -3),
    **dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6", "th", "header", "footer", "nav"), -5),
}
_GONE: Final = frozenset(("script", "style", "fencedframe"))
# A div with one of these below it is a real division; any other div is a paragraph.
_BLOCK_STARTS: Final = (
    "address",
    "article",
    "aside",
    "audio",
    "blockquote",
    "dl",
    "div",
    "img",
    "ol",
    "p",
    "table",
    "ul",
)
_UNLIKELY = re.compile(
    "combx|comment|community|disqus|extra|foot|header|menu|remark|rss|shoutbox|sidebar|sponsor|ad-break|agegate"
    "|pagination|pager|popup|tweet|twitter"
)
_LIKELY = re.compile("and|article|body|column|content|main|shadow")
_GOOD = re.compile(
    "article|body|content|entry|hentry|main|page|pagination|post|text|blog|story", re.IGNORECASE
)
_BAD = re.compile(
    "button|combx|comment|com-|contact|figure|foot|footer|footnote|form|input|masthead|media|meta|outbrain|promo"
    "|related|scroll|shoutbox|sidebar|sponsor|shopping|tags|tool|widget",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"\.(?: |$)")
SHORTEST = 25  # characters: less is no paragraph


class Look(NamedTuple):
    """What scores need to know of a start tag."""

    weight: int
    gone: bool
    block: bool


@lru_cache(maxsize=4096)
def look(raw: str, tag: str) -> Look:
    """Of a start tag without angle brackets: points for its names, whether it goes, whether it makes divisions."""
    block = tag.startswith(_BLOCK_STARTS)
    if " " not in raw:
        return Look(0, tag in _GONE, block)
    found = attributes(raw)
    names = [name for name in (found.get("class"), found.get("id")) if name]
    weight = sum(25 * bool(_GOOD.search(name)) - 25 * bool(_BAD.search(name)) for name in names)
    named = " ".join(names).lower()
    unlikely = (
        len(named) > 1
        and tag not in ("body", "html")
        and _UNLIKELY.search(named)
        and not _LIKELY.search(named)
    )
    return Look(weight, tag in _GONE or bool(unlikely), block)


class Element:
    """An element with its sums: size of text, size of links, commas, and counts of tags."""

    __slots__ = (
        "commas",
        "counts",
        "kids",
        "linked",
        "parent",
        "points",
        "raw",
        "size",
        "tag",
        "tail",
        "text",
        "weight",
    )

    commas: int
    linked: int
    size: int

    def __init__(self, tag: str, raw: str, weight: int, parent: Element | None) -> None:
        self.tag, self.raw, self.weight, self.parent = tag, raw, weight, parent
        self.text = self.tail = ""
        self.kids: list[Element] = []
        self.points: float | None = None


def build(stream: list[str]) -> Element:
    """The page without what its names give away; divisions without divisions are paragraphs."""
    root = current = Element("html", "html", 0, None)
    blocks, links = [False], [False]
    pending: list[str] = []
    dropping = 0
    for raw, text in pairs(stream):
        kind, tag, flags, empty, _, _, _ = MARKS[raw]
        if dropping:
            dropping += -1 if kind == CLOSE else not empty
            if dropping:
                continue
        elif kind == CLOSE:
            _flush(current, pending)
            inside, linked = blocks.pop(), links.pop()
            if tag == "div":
                if not inside and (not linked or _has_loose_text(current)):
                    current.tag, current.raw = "p", "p" + current.raw[3:]
                inside = True
            blocks[-1] |= inside
            links[-1] |= linked
            current = current.parent or root
        else:
            weight, gone, block = look(raw, tag)
            if gone or flags & (COMMENT | HIDDEN):
                if not empty:
                    dropping = 1
                    continue
            else:
                _flush(current, pending)
                element = Element(tag, raw, weight, current)
                current.kids.append(element)
                blocks[-1] |= block
                links[-1] |= tag == "a"
                if not empty:
                    blocks.append(False)
                    links.append(False)
                    current = element
        if text:
            pending.append(unescape(text))
    return root


def _flush(element: Element, pending: list[str]) -> None:
    if pending:
        settle(element, element.kids, pending)
        pending.clear()


def _has_loose_text(element: Element) -> bool:
    return bool(element.text.strip()) or any(kid.tail.strip() for kid in element.kids)


def _wrap_loose_text(element: Element) -> None:
    """Text directly in a division becomes a paragraph of its own."""
    for kid in element.kids:
        _wrap_loose_text(kid)
    if element.tag != "div":
        return
    kids: list[Element] = []
    pieces: list[str] = []
    if element.text.strip():
        kids.append(_paragraph(element, element.text))
        element.text = ""
    else:
        pieces.append(element.text)
    for kid in element.kids:
        tail = kid.tail
        if kid.tag != "br":
            settle(element, kids, pieces)
            kids.append(kid)
            pieces = []
        if tail.strip():
            settle(element, kids, pieces)
            kids.append(_paragraph(element, tail))
            pieces = []
        else:
            pieces.append(tail)
    settle(element, kids, pieces)
    element.kids = kids


def _paragraph(parent: Element, text: str) -> Element:
    made = Element("p", "p", 0, parent)
    made.text = text
    return made


def _sum_all(element: Element) -> None:
    for kid in element.kids:
        _sum_all(kid)
    sum_up(element)


def sum_up(element: Element) -> None:
    """Sums over the text below, from those of the children; `size` has single spaces."""
    text = element.text
    size = len(" ".join(text.split())) if text else 0
    commas = text.count(",")
    linked = 0
    for kid in element.kids:
        size += kid.size
        linked += kid.linked
        commas += kid.commas
        if kid.tail:
            said = kid.tail.split()
            if said:
                size += len(" ".join(said)) + 1
                commas += kid.tail.count(",")
            elif size:
                size += 1
    element.size, element.commas = size, commas
    element.linked = size if element.tag == "a" else linked


def article(stream: list[str]) -> Element | None:
    """The element that holds the article, or what is nearest to it."""
    root = build(stream)
    _wrap_loose_text(root)
    _sum_all(root)
    candidates: list[Element] = []
    _score(root, None, candidates)
    for candidate in candidates:
        candidate.points = (candidate.points or 0) * (1 - candidate.linked / (candidate.size or 1))
    if not candidates:
        return (
            next((kid for kid in root.kids[0].kids if kid.tag == "body"), root.kids[0]) if root.kids else None
        )
    best = max(candidates, key=lambda candidate: candidate.points or 0)
    found = Element("div", "div", 0, None)
    found.kids = _with_siblings(best)
    return found


def _score(element: Element, grandparent: Element | None, candidates: list[Element]) -> None:
    for kid in element.kids:
        if kid.tag in ("p", "pre", "td") and kid.size >= SHORTEST:
            points = 1 + kid.commas + 1 + min(kid.size / 100, 3)
            for node, share in ((element, 1.0), (grandparent, 0.5)):
                if node is None:
                    continue
                if node.points is None:
                    node.points = node.weight + _TAG_POINTS.get(node.tag, 0)
                    candidates.append(node)
                node.points += points * share
        if kid.kids:
            _score(kid, element, candidates)


def _with_siblings(best: Element) -> list[Element]:
    least = max(10.0, (best.points or 0) * 0.2)
    kept = []
    for sibling in best.parent.kids if best.parent is not None else [best]:
        if sibling is best or (sibling.points is not None and sibling.points >= least):
            kept.append(sibling)
        elif sibling.tag == "p":
            density = sibling.linked / (sibling.size or 1)
            long = len(sibling.text) > 80
            if density < 0.25 if long else density == 0 and _SENTENCE.search(sibling.text):
                kept.append(sibling)
    return kept
