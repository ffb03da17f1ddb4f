"""The tree of what may be content, built from a page's stream in one pass."""

from __future__ import annotations

from primer.corpus.crawl.main_text_marks import (
    BOX,
    BRITTLE,
    CLOSE,
    CODE_LANGUAGE,
    COMMENT,
    DROP,
    FIGURE,
    FORM,
    GUARDED,
    HIGHLIGHT,
    INLINE,
    ITEM,
    LAYOUT,
    LINK,
    LIST,
    MARKS,
    MATH,
    NODE,
    PRE,
    SPAN,
    UNWANTED,
    attributes,
)
from primer.corpus.crawl.main_text_stream import pairs, unescape
from primer.corpus.crawl.main_text_tree import Node, splice


def build(stream: list[str]) -> Node:
    """The tree of what may be content: boilerplate tags left out, formatting unwrapped, names reduced to a few.

    Linear in the stream; depth is the stream's.
    """
    builder = _Builder(stream)
    root = builder.run()
    for ancestors, form in builder.forms:
        _settle_form(root, ancestors, form)
    if builder.empties:
        _cut(root, builder.empties)
    return root


class _Builder:
    """One pass over the stream. Counters stand for the ancestors that matter, so that nobody walks up the tree."""

    def __init__(self, stream: list[str]) -> None:
        self.stream = stream
        self.root = self.current = Node("html")
        self.stack: list[Node] = []
        self.pending: list[str] = []
        self.link: list[str] | None = None
        self.boxes = self.lists = self.order = self.inlines = 0
        self.opened: list[tuple[int, int]] = []
        self.empties: set[int] = set()
        self.forms: list[tuple[list[Node], Node]] = []
        self.figures: set[int] | None = None
        self.figure = -1

    def run(self) -> Node:
        dropping = 0
        pending, stack, marks = self.pending, self.stack, MARKS
        for raw, text in pairs(self.stream):
            kind, tag, flags, empty, name, role, cut = marks[raw]
            if dropping:
                dropping += -1 if kind == CLOSE else not empty
                if dropping:
                    continue
            elif kind == CLOSE:
                current = self.current
                before = stack.pop()
                if before is current:
                    if cut and self.opened.pop() == (len(pending), self.order + self.inlines):
                        continue
                    if tag == "a" and self.link is not None:
                        current.add_link(len(" ".join("".join(self.link).split())))
                        self.link = None
                else:
                    if pending:
                        self.flush(current)
                    if role:
                        self.leave(current, role)
                    self.current = before
                    before.below |= current.below
                    before.size += current.size
                    if current.links:
                        before.add_links(current)
                    if cut and not current.text and not current.kids and not current.filled:
                        self.empties.add(id(current))
                        continue
            elif kind == NODE:
                if flags & COMMENT:
                    if not empty:
                        dropping = 1
                        continue
                else:
                    self.open(name, flags, role, empty)
                    if empty and cut:
                        self.empties.add(id(self.current.kids[-1]))
                        continue
            elif kind >= DROP:
                if self.drops(kind, raw, flags, empty):
                    dropping = 1
                    continue
            elif not self.inline(kind, flags, empty):
                continue
            if text:
                if "&" in text:
                    text = unescape(text)
                pending.append(text)
                if self.link is not None:
                    self.link.append(text)
        return self.root

    def flush(self, current: Node) -> None:
        """The text since the last start or end of a kept element finds its place."""
        pending = self.pending
        text = pending[0] if len(pending) == 1 else "".join(pending)
        pending.clear()
        current.size += len(text.strip())
        if current.kids:
            current.kids[-1].tail = text
        else:
            current.text = text

    def open(self, name: str, flags: int, role: int, empty: bool) -> None:
        """A new element, in which what follows is, unless it is empty."""
        self.order = order = self.order + 1
        node = Node(name, flags, order)
        current = self.current
        if current.tag == "pre":
            current.note_child("".join(self.pending), is_span=False)
        if self.pending:
            self.flush(current)
        if current.kids:
            current.kids.append(node)
        else:
            current.kids = [node]
        if role & ITEM and self.lists:
            node.tag = "item"
        elif role & PRE and current.flags & HIGHLIGHT:
            node.flags |= CODE_LANGUAGE
        elif flags & LAYOUT:
            node.tag = "div"
        if empty:
            current.below |= flags
            return
        self.stack.append(current)
        self.current = node
        if role & BOX:
            self.boxes += 1
        elif role & LIST:
            self.lists += 1

    def leave(self, node: Node, role: int) -> None:
        """Count the end of an element that is counted."""
        if role & BOX:
            self.boxes -= 1
        elif role & LIST:
            self.lists -= 1
        elif role & PRE:
            node.tag = "code" if node.looks_like_code() else "quote"

    def inline(self, kind: int, flags: int, empty: bool) -> bool:
        """An element that leaves only its text, or its length if it is a link; False as in `open`."""
        current = self.current
        if kind == INLINE:
            pass
        elif current.tag != "pre":
            current.filled = True
        elif kind in (SPAN, LINK):
            current.note_child("".join(self.pending), is_span=kind == SPAN)
        if kind in (SPAN, BRITTLE):
            if empty:
                self.inlines += 1
                return False
            if kind == SPAN and flags & (GUARDED | UNWANTED):
                self.open("span", flags, 0, empty)
                return True
        elif kind == LINK and self.boxes:
            if empty:
                current.add_link(0)
            else:
                self.link = []
        if (kind in (SPAN, LINK)) and current.kids:
            current.kids[-1].followed = True
        self.inlines += kind != INLINE
        if not empty:
            self.stack.append(current)
            if kind in (SPAN, BRITTLE):
                self.opened.append((len(self.pending), self.order + self.inlines))
        return True

    def drops(self, kind: int, raw: str, flags: int, empty: bool) -> bool:
        """Whether all up to the element's end is left out."""
        if kind == FIGURE:
            self.figure += 1
            if self.figures is None:
                self.figures = _figures_with_tables(self.stream)
            if self.figure in self.figures:
                self.open("div", flags, 0, empty)
                return False
        elif kind == FORM:
            self.open("form", flags, 0, empty)
            self.forms.append(([*self.stack], self.current))
            return False
        elif kind == MATH and (formula := attributes(raw).get("alttext", "")):
            block = attributes(raw).get("display") == "block"
            self.pending.append(f"\\[{formula}\\]" if block else f"\\({formula}\\)")
        return not empty


def _figures_with_tables(stream: list[str]) -> set[int]:
    """The ordinals of the figures that hold a table, which are content."""
    found: set[int] = set()
    figures: list[int] = []
    count = -1
    for raw in stream[1::2]:
        if raw.startswith("figure") and (raw == "figure" or raw[6] in " /"):
            count += 1
            if raw[-1] != "/":
                figures.append(count)
        elif raw == "/figure":
            figures.pop()
        elif figures and raw.startswith("table"):
            found.update(figures)
    return found


def _settle_form(root: Node, ancestors: list[Node], form: Node) -> None:
    """A form that holds most of the page is the page's frame (ASP.NET); any other one is a widget."""
    if root.size and form.size > root.size / 2:
        form.tag = "div"
    else:
        splice(ancestors[-1], {id(form)})
        for ancestor in {id(ancestor): ancestor for ancestor in ancestors}.values():
            ancestor.add_sums(form, -1)


def _cut(node: Node, empties: set[int]) -> None:
    kids = node.kids
    if any(id(kid) in empties for kid in kids):
        kids = node.kids = [kid for kid in kids if id(kid) not in empties]
    for kid in kids:
        if kid.kids:
            _cut(kid, empties)
