"""What looks like a widget is taken out of the article that scores have found (readability, its last step)."""

from __future__ import annotations

from html import escape
from typing import Final

from primer.corpus.crawl.main_text_score import SHORTEST, Element, sum_up
from primer.corpus.crawl.main_text_tree import settle

_HEADINGS: Final = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
_WIDGETS: Final = frozenset(("table", "ul", "div", "aside", "header", "footer", "section"))


def clean(element: Element) -> None:
    """Take widgets and headings of links out of an article, from its end to its beginning."""
    _headings(element)
    _clean(element)


def _headings(element: Element) -> None:
    doomed = set()
    for kid in element.kids:
        if kid.tag in _HEADINGS:
            if kid.weight < 0 or kid.linked > 0.33 * (kid.size or 1):
                doomed.add(id(kid))
        elif kid.tag in ("form", "textarea", "iframe"):
            doomed.add(id(kid))
        if kid.kids:
            _headings(kid)
    if doomed:
        _drop(element, doomed)


def _drop(element: Element, doomed: set[int]) -> None:
    kids: list[Element] = []
    pieces = [element.text]
    for kid in element.kids:
        if id(kid) not in doomed:
            settle(element, kids, pieces)
            kids.append(kid)
            pieces = [kid.tail]
        else:
            pieces.append(kid.tail)
    settle(element, kids, pieces)
    element.kids = kids


def _clean(element: Element) -> tuple[int, int, int, int, int]:
    """Counts of p, img, li, embed and visible input below the element, after cleaning."""
    doomed: set[int] = set()
    p = img = li = embed = inputs = 0
    for kid in reversed(element.kids):
        inside = _clean(kid)
        if kid.tag in _WIDGETS and _is_widget(kid, *inside):
            doomed.add(id(kid))
            continue
        p, img, li, embed, inputs = (
            p + inside[0] + (kid.tag == "p"),
            img + inside[1] + (kid.tag == "img"),
            li + inside[2] + (kid.tag == "li"),
            embed + inside[3] + (kid.tag == "embed"),
            inputs + inside[4] + (kid.tag == "input" and 'type="hidden"' not in kid.raw),
        )
    if doomed:
        _drop(element, doomed)
    sum_up(element)
    return p, img, li, embed, inputs


def _is_widget(element: Element, p: int, img: int, li: int, embed: int, inputs: int) -> bool:
    if element.weight + (element.points or 0) < 0:
        return True
    if element.commas >= 10:
        return False
    most = 0.5 if element.weight >= 25 else 0.2
    size, density = element.size, element.linked / (element.size or 1)
    if 0.7 * most < density < 1.3 * most or 15 < size < 2 * SHORTEST:
        size = len(text_of(element))
        density = element.linked / (size or 1)
    return (
        (p > 0 and img > 1 + p * 1.3)
        or (li - 100 > p and element.tag not in ("ol", "ul"))
        or inputs > p / 3
        or (size < SHORTEST and (img == 0 or img > 2))
        or density > most
        or (embed == 1 and size < 75)
        or embed > 1
    )


def text_of(element: Element) -> str:
    """All text, with single spaces."""
    parts: list[str] = []
    _texts(element, parts)
    return " ".join("".join(parts).split())


def _texts(element: Element, parts: list[str]) -> None:
    parts.append(element.text)
    for kid in element.kids:
        _texts(kid, parts)
        parts.append(kid.tail)


def html_of(element: Element) -> str:
    """The element as HTML."""
    parts: list[str] = []
    _write(element, parts)
    return "".join(parts)


def _write(element: Element, parts: list[str]) -> None:
    raw = element.raw
    if raw[-1] == "/":
        parts.append(f"<{raw}>")
    else:
        parts.append(f"<{raw}>{escape(element.text, quote=False)}")
        for kid in element.kids:
            _write(kid, parts)
        parts.append(f"</{element.tag}>")
    if element.tail:
        parts.append(escape(element.tail, quote=False))
