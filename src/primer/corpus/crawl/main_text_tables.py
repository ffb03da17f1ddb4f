"""Tables as rows of cells, all rows equally long (trafilatura 2.3, `handle_table`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from primer.corpus.crawl.main_text_marks import COLUMNS, ROWS
from primer.corpus.crawl.main_text_tree import Node, Pieces, below, carried, texts

if TYPE_CHECKING:
    from primer.corpus.crawl.main_text_blocks import Blocks

_WIDEST = 100  # columns; beyond, no cell reaches down


def table(blocks: Blocks, node: Node, tags: frozenset[str]) -> Node | None:
    """A table; tables inside it are left for later, and None comes back for one without text."""
    said = Node("table")
    tags = tags | {"div"}
    rows, captions, width = _rows(node)
    for caption in captions:
        row = Node("row")
        row.add(Node("cell", 1, 0, caption))
        _finish(said, row, {}, width)
    spans: dict[int, int] = {}
    headed = False
    for cells in rows:
        row = Node("row")
        has_header = False
        for cell in cells:
            header = cell.tag == "th" and not headed
            has_header = has_header or header
            if spans:
                _skip_spanned(row, spans)
            across, down = _across(cell), (cell.flags >> ROWS & 127) or 1
            if down > 1:
                for column in range(len(row.kids), min(len(row.kids) + across, _WIDEST)):
                    spans[column] = down - 1
            row.add(_cell(blocks, cell, Node("cell", int(header)), tags))
            if across > 1:
                row.kids += [Node("cell", int(header)) for _ in range(across - 1)]
        _finish(said, row, spans, width)
        headed = headed or has_header
    return said if said.kids else None


def _rows(node: Node) -> tuple[list[list[Node]], list[str], int]:
    """The cells of each row, the captions, and the number of columns."""
    rows: list[list[Node]] = [[]]
    captions: list[str] = []
    width = 0
    for kid in node.kids:
        if kid.tag == "tr":
            rows.append([cell for cell in kid.kids if cell.tag in ("td", "th") and not cell.done])
            width = max(width, sum(_across(cell) for cell in rows[-1]))
        elif kid.tag in ("td", "th"):
            rows[-1].append(kid)
            continue
        elif kid.tag == "caption":
            parts: list[str] = []
            texts(kid, parts)
            captions.append(" ".join(filter(None, parts)).strip())
            for inner in below(kid):
                inner.done = True
        elif kid.tag == "table":
            continue
        kid.done = True
    return rows, list(filter(None, captions)), min(width, _WIDEST)


def _across(cell: Node) -> int:
    return (cell.flags >> COLUMNS & 127) or 1


def _skip_spanned(row: Node, spans: dict[int, int]) -> None:
    """Empty cells where a cell of a row above reaches down."""
    while (column := len(row.kids)) in spans:
        row.add(Node("cell"))
        spans[column] -= 1
        if not spans[column]:
            del spans[column]


def _finish(said: Node, row: Node, spans: dict[int, int], width: int) -> None:
    if spans:
        _skip_spanned(row, spans)
    for _ in range(width - len(row.kids)):
        row.add(Node("cell"))
    if any(cell.text or cell.kids for cell in row.kids):
        said.add(row)


def _cell(blocks: Blocks, cell: Node, said: Node, tags: frozenset[str]) -> Node:
    """The content of a cell; lists in it are left out, as in trafilatura's precise mode."""
    if not cell.kids:
        words = blocks.words(cell)
        if words is not None:
            said.text, said.tail = words
        cell.done = True
        return said
    said.text, said.tail = cell.text, cell.tail
    cell.done = True
    pieces = Pieces(said)
    for kid in below(cell):
        if kid.done:
            continue
        if kid.tag == "table":
            pieces.block(None, kid)
            kid.tail = ""
            kid.spent = True  # for this cell: its own rows are read when its turn comes
            continue
        if kid.tag == "list":
            blocks.list_of(kid)
            pieces.block(None, kid)
            continue
        found = _inside(blocks, kid, tags)
        if found is not None:
            pieces.add(carried(found))
        kid.done = True
    pieces.settle()
    return said


def _inside(blocks: Blocks, node: Node, tags: frozenset[str]) -> Node | None:
    if node.tag == "del":
        return blocks.inner(node, trimmed=False)
    if node.tag in ("td", "th"):
        found = blocks.inner(node, trimmed=False)
        if found is not None:
            found.tag = "cell"
        return found
    return blocks.block(node, tags)
