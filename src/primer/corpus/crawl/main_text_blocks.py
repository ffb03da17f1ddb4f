"""Elements of a page's tree as blocks of text: paragraphs, headings, lists, quotations and code.

What trafilatura's handlers (2.3, `main_extractor.py`) make of an element, without changing the tree: a block is a
new element, and what was taken is marked `done`.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from primer.corpus.crawl.main_text_marks import CODE_BOX, CODE_LANGUAGE
from primer.corpus.crawl.main_text_tree import (
    Node,
    Pieces,
    below,
    carried,
    content,
    copy,
    has_text,
    is_text,
    mark_done,
    unwrap,
)

if TYPE_CHECKING:
    from collections.abc import Callable

CATALOGUE = frozenset(("code", "del", "head", "hi", "lb", "list", "p", "quote"))
_LONG = 100  # repeated texts up to here are never dropped, in characters
_HUGE = 20_000  # characters: a text of that length is said once
_REPEATS = 2  # a longer text may come back this often
_NOISE_LENGTH = 30  # characters: the longest line that is looked at
_NOISE = re.compile(
    r"\W*(?:Drucken|E-?Mail|Facebook|Flipboard|Google|Instagram|Linkedin|Mail|PDF|Pinterest|Pocket|Print|QQ|Reddit"
    r"|Twitter|WeChat|WeiBo|Whatsapp|Xing|Mehr zum Thema:?|More on this.{,8}$)$",
    re.IGNORECASE,
)


class Blocks:
    """The handlers, with the texts that the page has said already."""

    def __init__(self, table: Callable[[Blocks, Node, frozenset[str]], Node | None]) -> None:
        self.said: Counter[str] = Counter()
        self.table = table

    def repeats(self, node: Node) -> bool:
        """Whether a long text comes once too often; each call counts."""
        if (not node.kids and len(node.text) <= _LONG) or node.size > _HUGE:
            return False
        text = content(node, " ")
        if len(text) <= _LONG:
            return False
        self.said[text] += 1
        return self.said[text] > _REPEATS + 1

    def words(self, node: Node) -> tuple[str, str] | None:
        """Text and tail of an element with their white space trimmed; None if it says nothing."""
        text, tail = node.text, node.tail
        if node.done or not (node.kids or text or tail):
            return None
        text, tail = " ".join(text.split()), " ".join(tail.split())
        if not text and tail and not node.kids and node.tag != "lb":
            text, tail = tail, ""
        if (text or tail) and (is_noise(text or tail) or self.repeats(node)):
            return None
        return text, tail

    def simple(self, node: Node) -> Node | None:
        """The block of an element that is not looked into."""
        words = self.words(node)
        if words is None:
            return None
        twin = Node(node.tag, 0, 0, *words)
        twin.kids = node.kids
        return twin

    def inner(self, node: Node, *, trimmed: bool) -> Node | None:
        """As `simple`, for an element inside another one."""
        if node.done or not (node.kids or node.text or node.tail):
            return None
        text, tail = node.text, node.tail
        if node.tag == "lb":
            return Node("lb", 0, 0, text, " ".join(tail.split()) if trimmed else tail)
        if not text and not node.kids:
            text, tail = tail, ""
        if trimmed:
            text, tail = " ".join(text.split()), " ".join(tail.split())
        if (not text and is_noise(tail)) or self.repeats(node):
            return None
        twin = Node(node.tag, 0, 0, text, tail)
        twin.kids = node.kids
        return twin

    def block(self, node: Node, tags: frozenset[str]) -> Node | None:
        """The block that an element is, or None; `tags` are the names that may be in it."""
        if node.done:
            return None
        tag = node.tag
        if tag == "p":
            return self.paragraph(node, tags)
        if tag == "list":
            return self.list_of(node)
        if tag in ("code", "quote"):
            return self.quotation(node)
        if tag == "head":
            return self.title(node)
        if tag == "lb":
            said = self.simple(node) if is_text(node.tail) else None
            return None if said is None else Node("p", 0, 0, said.tail)
        if tag == "del":
            said = self.simple(node)
            if said is not None:
                wrapper = Node("p")
                wrapper.add(said)
                return wrapper
            return None
        if tag == "table" and "table" in tags:
            return self.table(self, node, tags)
        if tag == "div":
            return self.division(node, tags)
        return None

    def division(self, node: Node, tags: frozenset[str]) -> Node | None:
        """Loose text in a `div`, where such text counts."""
        if node.flags & CODE_BOX:
            return self.code(node)
        if "div" not in tags:
            return None
        said = self.inner(node, trimmed=False)
        if said is None or not is_text(said.text):
            return None
        said.tag = "p"
        return said

    def title(self, node: Node) -> Node | None:
        """A heading."""
        if not node.kids:
            said = self.simple(node)
        else:
            said = copy(node)
            for kid in node.kids:
                mark_done(kid)
        return said if said is not None and has_text(said) else None

    def code(self, node: Node) -> Node:
        """Code, as it stands."""
        said = copy(node)
        said.tag = "code"
        mark_done(node)
        return said

    def quotation(self, node: Node) -> Node | None:
        """A quotation, or a `pre` that is not code."""
        only = node.kids[0] if len(node.kids) == 1 else None
        if node.tag == "code" or node.flags & CODE_LANGUAGE:
            return self.code(node)
        if only is not None and only.tag == "code" and not is_text(node.text) and not is_text(only.tail):
            return self.code(node)
        said = Node(node.tag)
        self.nested(node, said)
        if not has_text(said):
            return None
        unwrap(said, {"quote"})
        return said

    def nested(self, node: Node, said: Node) -> None:
        """All below `node`, flattened into `said`."""
        said.text = node.text
        pieces = Pieces(said)
        for kid in below(node):
            if kid.done and not kid.tail:
                continue
            if kid.tag == "list" and not kid.done:
                pieces.block(self.list_of(kid), kid)
            elif kid.tag == "p" and kid.kids and not kid.done:
                pieces.block(self.paragraph(kid, CATALOGUE), kid)
            elif kid.tag in ("code", "del") and not kid.done:
                pieces.add(carried(kid))
            else:
                found = self.inner(kid, trimmed=True)
                if found is not None:
                    pieces.add(Node(found.tag, 0, 0, found.text, found.tail))
            kid.done = True
        pieces.settle()
        node.spent = True

    def list_of(self, node: Node) -> Node | None:
        """A list with its items; a list inside an item is part of the item."""
        said = Node("list")
        if is_text(node.text):
            said.add(Node("item", 0, 0, node.text))
        for item in below(node):
            if item.tag != "item" or item.done:
                continue
            line = Node("item")
            if not item.kids:
                words = self.words(item)
                if words is not None:
                    line.text = " ".join(filter(None, words))
            else:
                self.nested(item, line)
                if is_text(item.tail) and line.kids:
                    last = line.kids[-1]
                    last.tail = f"{last.tail} {item.tail}" if is_text(last.tail) else item.tail
            if has_text(line):
                said.add(line)
            item.done = True
        node.done = True
        node.spent = all(kid.done and (kid.spent or not kid.kids) for kid in node.kids)
        return said if has_text(said) else None

    def paragraph(self, node: Node, tags: frozenset[str]) -> Node | None:
        """A paragraph; what is in it follows its own text."""
        if not node.kids:
            return self.simple(node)
        said = Node("p")
        inside = [*below(node)]
        foreign = {kid.tag for kid in inside} - tags
        if foreign and (foreign := {kid.tag for kid in inside if kid.tag in foreign and not kid.done}):
            unwrap(node, foreign)
            inside = [*below(node)]
        for kid in (node, *inside):
            found = self.inner(kid, trimmed=False)
            if found is not None:
                if found.tag == "p":
                    said.text = " ".join(filter(None, (said.text, found.text)))
                elif found.tag == "del":
                    said.add(carried(kid))
                    mark_done(kid)
                else:
                    said.add(Node(found.tag, 0, 0, found.text, found.tail))
            kid.done = True
        if said.kids:
            if said.kids[-1].tag == "lb" and not said.kids[-1].tail:
                said.kids.pop()
            return said
        return said if is_text(said.text) else None


def is_noise(text: str) -> bool:
    if not text or text.isspace():
        return True
    if len(text) <= _NOISE_LENGTH:
        return any(map(_NOISE.match, text.splitlines()))
    return "\n" in text and any(
        _NOISE.match(line) for line in text.splitlines() if len(line) <= _NOISE_LENGTH
    )
