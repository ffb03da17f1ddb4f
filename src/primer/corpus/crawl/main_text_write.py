"""A tree of blocks as plain lines: paragraphs and headings one each, list items with dashes, rows between bars.

The lines are those that trafilatura 2.3 writes (`xml.py`), for the filters that follow count lines.
"""

from __future__ import annotations

import unicodedata
from html import unescape
from typing import Final

from primer.corpus.crawl.main_text_tree import Node

_OWN_LINE: Final = frozenset(("head", "lb", "list", "p", "quote", "row", "table"))
_SIMPLE: Final = frozenset(("code", "head", "p", "quote"))
_INLINE: Final = frozenset(("code", "del"))
_UNSPACED: Final = frozenset(("code", "del", "head", "item", "cell"))


def write(body: Node) -> str:
    """The text of a tree, in NFC; lines are separated by newlines, none is empty."""
    out: list[str] = [""]
    _element(body, None, 0, out, False, False, 0)
    text = "".join(out)
    unprintable = {ord(c): None for c in set(text) if not c.isprintable() and not c.isspace()}
    if unprintable:
        text = text.translate(unprintable)
    text = "\n".join(filter(None, text.splitlines()))
    return unicodedata.normalize("NFC", unescape(text) if "&" in text else text).strip()


def _separated(out: list[str]) -> bool:
    last = out[-1]
    return not last or last[-1] in " \n|"


def _spaced(out: list[str], text: str) -> None:
    if text[:1] == " " and _separated(out):
        text = text[1:]
    if text:
        out.append(text)


def _element(
    node: Node, parent: Node | None, index: int, out: list[str], in_cell: bool, in_item: bool, lists: int
) -> None:
    tag, kids, text = node.tag, node.kids, node.text
    in_cell = in_cell or tag == "cell"
    in_item = in_item or tag == "item"
    own_line = tag in _OWN_LINE and not in_cell and not in_item
    lists += tag == "list"
    _before(node, index, out, own_line)
    if tag == "item" and not in_cell and _has_own_text(node):
        out.append("  " * (lists - 1) + "- ")
    if text and (tag != "item" or not text.isspace()):
        out.append(_own_text(node, in_cell))
    if tag == "list" and in_item and out[-1] and out[-1][-1] != "\n":
        out.append("\n")
    for position, kid in enumerate(kids):
        if (
            kid.tag == "row"
            and not in_cell
            and not in_item
            and not any(cell.kids or cell.tail for cell in kid.kids)
        ):
            _row(kid, out)
        elif kid.kids or in_cell or in_item or kid.tag not in _SIMPLE or not kid.text:
            _element(kid, node, position, out, in_cell, in_item, lists)
        elif kid.tag == "code":
            out.append(kid.text)
            if kid.tail:
                out.append(kid.tail)
        else:
            if not _separated(out):
                out.append("\n")
            out += (kid.text, "\n")
            if kid.tail:
                out.append(kid.tail.lstrip())
    if not text:
        if tag == "row":
            if any(cell.flags for cell in kids):
                out.append(f"\n|{'---|' * len(kids)}\n")
        elif tag in _OWN_LINE:
            if not in_cell and not (tag == "lb" and in_item and index == 0):
                out.append("\n")
        elif tag != "cell" and tag != "item":
            if in_cell:
                _tail(node, parent, index, out, in_cell, in_item)
            return
    last_in_item = in_item and _closes(node, parent, index, "item")
    if own_line:
        out.append("\n")
    elif tag == "cell":
        out.append(" | ")
    elif tag in ("head", "item") and in_cell:
        if not _closes(node, parent, index, "cell"):
            _spaced(out, " ")
    elif tag not in _UNSPACED and not last_in_item and not (in_cell and _closes(node, parent, index, "cell")):
        _spaced(out, " ")
    if node.tail:
        _tail(node, parent, index, out, in_cell, in_item)
    if last_in_item and not in_cell:
        out.append("\n")


def _row(row: Node, out: list[str]) -> None:
    """A row of cells with nothing but text."""
    if not _separated(out):
        out.append("\n")
    out.append("| ")
    for cell in row.kids:
        out.append(f"{_own_text(cell, True)} | ")
    if any(cell.flags for cell in row.kids):
        out.append(f"\n|{'---|' * len(row.kids)}\n")
    out.append("\n")
    if row.tail:
        out.append(row.tail.lstrip())


def _before(node: Node, index: int, out: list[str], own_line: bool) -> None:
    tag = node.tag
    if tag == "cell" and index == 0:
        out.append("| ")
    if own_line:
        if not _separated(out):
            out.append("\n")
    elif (
        tag in ("head", "p", "quote", "table")
        and not _separated(out)
        and not out[-1][-1].isspace()
        and (node.text or not node.kids or node.kids[0].tag != "lb")
    ):
        out.append(" ")


def _own_text(node: Node, in_cell: bool) -> str:
    text = node.text
    if node.tag == "cell":
        text = text.strip()
        if text and node.kids:
            text += " "
    return text.replace("|", "\\|").replace("\n", " ") if in_cell else text


def _closes(node: Node, parent: Node | None, index: int, tag: str) -> bool:
    if node.tag == tag:
        return not node.kids
    if parent is None or index + 1 == len(parent.kids):
        return True
    return tag == "item" and parent.kids[index + 1].tag == "item"


def _has_own_text(item: Node) -> bool:
    if item.text and not item.text.isspace():
        return True
    for kid in item.kids:
        if kid.tag == "list":
            return False
        if _has_text(kid) or (kid.tail and not kid.tail.isspace()):
            return True
    return False


def _has_text(node: Node) -> bool:
    if node.text and not node.text.isspace():
        return True
    return any(_has_text(kid) or (kid.tail and not kid.tail.isspace()) for kid in node.kids)


def _tail(node: Node, parent: Node | None, index: int, out: list[str], in_cell: bool, in_item: bool) -> None:
    tail = node.tail
    if not tail:
        return
    if in_cell or in_item or node.tag == "list":
        core = tail.strip()
        if core and (tail[0].isspace() or node.tag not in _INLINE):
            core = f" {core}"
        follower = parent.kids[index + 1] if parent is not None and index + 1 < len(parent.kids) else None
        if tail[-1].isspace() and follower is not None and follower.tag in _INLINE:
            core += " "
        _spaced(out, core.replace("|", "\\|").replace("\n", " ") if in_cell else core)
        return
    out.append(tail.lstrip() if node.tag in _OWN_LINE else tail)
