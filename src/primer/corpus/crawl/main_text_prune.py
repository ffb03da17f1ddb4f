"""Boilerplate by name and by density of links, taken out of a page's tree (after trafilatura 2.3, precise mode)."""

from __future__ import annotations

from typing import Final

from primer.corpus.crawl.main_text_marks import GUARDED, UNWANTED
from primer.corpus.crawl.main_text_tree import Node, content, place, settle, splice

_TESTED: Final = frozenset(("div", "list", "p", "table", "head", "quote"))
_CELLS: Final = ("item", "td", "th")

_BIG = 20_000  # characters: the length of more text is not looked at closely

_Linked = list[tuple[Node, Node]]  # each element with links, after its parent


def prune(frame: Node) -> None:
    """Leave what is content below `frame`, which itself stays."""
    unwanted = UNWANTED
    if frame.below & GUARDED and frame.size - _size_of(frame, GUARDED) > frame.size / 7:
        unwanted |= GUARDED
    if frame.below & (UNWANTED | GUARDED):
        _discard(frame, unwanted)
    if frame.links:
        _by_links(frame)
    while frame.kids and frame.kids[-1].tag == "head":
        frame.kids.pop()


def _size_of(node: Node, flag: int) -> int:
    """Characters in the outermost elements with a flag."""
    total = 0
    for kid in node.kids:
        if kid.flags & flag:
            total += kid.size
        elif kid.below & flag:
            total += _size_of(kid, flag)
    return total


def _discard(node: Node, unwanted: int) -> None:
    """Take elements with these flags out, and unwrap spans, which were kept for their flags only."""
    kids: list[Node] = []
    pieces = [node.text]
    for kid in node.kids:
        if kid.flags & unwanted:
            node.add_sums(kid, -1)
            pieces.append(kid.tail)
            continue
        if kid.below & (UNWANTED | GUARDED):
            node.add_sums(kid, -1)
            _discard(kid, unwanted)
            node.add_sums(kid)
        pieces = place(node, kid, kids, pieces, whole=kid.tag != "span")
    settle(node, kids, pieces)
    node.kids = kids


def _by_links(frame: Node) -> None:
    """Two rounds of blocks, lists and paragraphs, then tables, then headings and quotations."""
    linked: _Linked = []
    _collect(frame, linked)
    removed = 0
    for turn, tag in enumerate(("div", "list", "p", "div", "list", "p", "table", "head", "quote")):
        if 3 <= turn < 6 and not removed:
            continue
        if tag == "head":
            while frame.kids and frame.kids[-1].tag == "head":
                frame.kids.pop()
        doomed = [pair for pair in linked if pair[1].tag == tag and _is_farm(*pair)]
        if doomed:
            removed += len(doomed)
            _remove(frame, doomed, linked, keep_tails=tag != "table")
            linked = []
            _collect(frame, linked)


def _collect(node: Node, linked: _Linked) -> None:
    for kid in node.kids:
        if kid.links:
            linked.append((node, kid))
            if kid.kids:
                _collect(kid, linked)


def _remove(frame: Node, doomed: _Linked, linked: _Linked, *, keep_tails: bool) -> None:
    names = {id(node) for _, node in doomed}
    above = {id(node): parent for parent, node in linked}
    for parent, node in doomed:
        ancestor: Node | None = parent
        while ancestor is not None and id(ancestor) not in names:
            ancestor.add_sums(node, -1)
            ancestor = above.get(id(ancestor))
    for parent in {id(parent): parent for parent, _ in doomed}.values():
        splice(parent, names, keep_tails=keep_tails)


def _is_farm(parent: Node, node: Node) -> bool:
    """Whether an element with links is there for its links. Thresholds are trafilatura's, in characters."""
    tag, linked, links = node.tag, node.linked, node.links
    last = node is parent.kids[-1] and not node.followed
    limit = (60 if last else 30) if tag == "p" else (300 if last else 100)
    if node.size > 2 * limit and linked < 0.4 * node.size and node.full:
        return False  # in no doubt, even if half of `size` is white space
    length = node.size if node.size > _BIG else len(content(node))
    if tag == "table":
        return length >= 200 and linked > (0.8 if length < 1000 else 0.5) * length
    if tag == "p" and parent.tag in _CELLS:
        return False
    if links == 1 and linked > 10 and linked > 0.9 * length:
        return True
    if length < limit:
        if not node.full or linked > 0.8 * length or (node.full > 1 and node.short > 0.8 * node.full):
            return True
        return tag == "div" and length < 200
    return links > 4 and 0.9 * length < linked < 100 * node.full and not _is_listing(node)


def _is_listing(node: Node) -> bool:
    """Whether each link is alone in a paragraph: a list of documents."""
    if node.tag == "p":
        return node.links == 1
    return node.links == sum(kid.links for kid in node.kids) and all(
        _is_listing(kid) for kid in node.kids if kid.links
    )
