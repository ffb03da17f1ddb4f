"""A page's own article: the blocks of the element that says it holds it, or else all that looks like prose."""

from __future__ import annotations

from typing import Final

from primer.corpus.crawl.main_text_blocks import CATALOGUE, Blocks
from primer.corpus.crawl.main_text_build import build
from primer.corpus.crawl.main_text_marks import CODE_BOX, FRAMES
from primer.corpus.crawl.main_text_prune import prune
from primer.corpus.crawl.main_text_tables import table
from primer.corpus.crawl.main_text_tree import Node, content, copy, is_text, mark_done, texts

ENOUGH: Final = 250  # characters: a shorter text is looked for in other ways
_TELLING: Final = 50  # a longer text that comes twice is one text found twice
_REMEMBERED: Final = 200_000  # characters in which a found text is searched for
_LOOSE: Final = frozenset(("p", "quote", "code", "table"))
_TABLES: Final = CATALOGUE | {"table", "td", "th", "tr"}


def own(stream: list[str]) -> tuple[Node, int]:
    """Blocks of the page's article, and the length of their text."""
    root = build(stream)
    body = Node("body")
    blocks = Blocks(table)
    tags = framed(root, body, blocks)
    tidy(body)
    if joined_length(body) < ENOUGH:
        consumed: set[int] = set()
        if body.kids or tags is not None:
            consumed = {node.order for node in elements(root) if node.done}
            root = build(stream)
        prune(root)
        loose(root, Found(body), blocks, tags or _TABLES, consumed)
    return body, joined_length(body)


def elements(root: Node) -> list[Node]:
    found = [root]
    for node in found:
        found += node.kids
    return found


def joined_length(body: Node) -> int:
    parts: list[str] = []
    texts(body, parts)
    return len(" ".join(part for part in parts if part).strip())


def frames(root: Node) -> list[Node | None]:
    """The elements that say they hold the article, best name first."""
    found: list[Node | None] = [None] * len(FRAMES)
    missing = root.below & sum(FRAMES)
    stack = [root]
    while stack and missing:
        node = stack.pop()
        hits = node.flags & missing
        if hits:
            for place, flag in enumerate(FRAMES):
                if hits & flag:
                    found[place] = node
            missing &= ~hits
        stack += [kid for kid in reversed(node.kids) if kid.below & missing]
    return found


def framed(root: Node, body: Node, blocks: Blocks) -> frozenset[str] | None:
    """Fill `body` from the first frame that has anything; the names of blocks allowed, if there was a frame."""
    tags = None
    for frame in frames(root):
        if frame is None:
            continue
        prune(frame)
        if not frame.kids:
            continue
        tags = tags or _TABLES
        if _paragraphs(root) < ENOUGH:
            tags |= {"div"}
        start = len(body.kids)
        fill(frame, body, blocks, tags)
        while body.kids and body.kids[-1].tag == "head":
            body.kids.pop()
        if len(body.kids) > 1:
            lead = blocks.simple(Node("p", 0, 0, frame.text)) if is_text(frame.text) else None
            if lead is not None:
                body.kids.insert(start, lead)
            break
    return tags


def _paragraphs(node: Node) -> int:
    if node.tag == "p":
        parts: list[str] = []
        texts(node, parts)
        return sum(map(len, parts))
    return sum(map(_paragraphs, node.kids))


def fill(frame: Node, body: Node, blocks: Blocks, tags: frozenset[str]) -> None:
    """Every block below `frame`, in order."""
    for node in frame.kids:
        _fill_one(node, body, blocks, tags)


def _fill_one(node: Node, body: Node, blocks: Blocks, tags: frozenset[str]) -> None:
    rebuilt = node.tag in ("list", "code", "quote", "table")
    if not node.done:
        said = blocks.block(node, tags)
        if said is not None:
            body.add(said)
            if node.tag == "div" and not node.flags & CODE_BOX:
                whole = copy(node)
                said.kids = whole.kids
                mark_done(node)
                return
            if node.tag == "p" and not node.kids:
                return
            node.done = True
        if rebuilt and is_text(node.tail) and (said is None or not said.tail):
            after = blocks.simple(Node("p", 0, 0, node.tail))
            if after is not None:
                body.add(after)
    for kid in node.kids:
        _fill_one(kid, body, blocks, tags)


class Found:
    """The blocks of a page's text, and what they say, to know what has been found already."""

    def __init__(self, body: Node) -> None:
        self.body = body
        self.said: set[str] = set()
        self.lines: list[str] = []
        self.searched = ""
        self.length = 0
        self.phrases: set[tuple[str, ...]] = set()
        for block in body.kids:
            self.said.add(content(block))
            self.remember(content(block))

    def remember(self, line: str) -> None:
        """Find this line again, whole or in parts."""
        if line and self.length <= _REMEMBERED:
            self.lines.append(line)
            self.length += len(line) + 1
            words = line.split(" ")
            self.phrases.update(zip(words, words[1:], words[2:], strict=False))

    def has(self, text: str) -> bool:
        """Whether a line says this somewhere. Without its second to fourth word, none does."""
        words = text.split(" ", 5)
        if len(words) > 5 and tuple(words[1:4]) not in self.phrases:
            return False
        if self.lines:
            self.searched = "\n".join((self.searched, *self.lines))
            self.lines.clear()
        return text in self.searched

    def add(self, block: Node) -> None:
        """Add a block, unless it has been found."""
        text = block.text if block.tag == "p" and not block.kids else content(block)
        fragment = " ".join((text + block.tail).split()) if is_text(block.tail) else ""
        if text:
            if text in self.said:
                return
            if self.length <= _REMEMBERED and (
                (len(text) > _TELLING and self.has(text)) or (fragment and self.has(fragment))
            ):
                return
        self.body.add(block)
        self.said.add(text)
        self.remember(fragment or text)


def loose(root: Node, found: Found, blocks: Blocks, tags: frozenset[str], consumed: set[int]) -> None:
    """Paragraphs, quotations, code and tables from anywhere in the page, unless they have been found."""
    for kid in root.kids:
        if kid.tag in _LOOSE or kid.flags & CODE_BOX:
            said = None if kid.done or kid.order in consumed else blocks.block(kid, tags)
            if said is not None:
                found.add(said)
        if kid.kids:
            loose(kid, found, blocks, tags, consumed)


def tidy(body: Node) -> None:
    """Without a long block that says what the one before it said."""
    kids, previous = [], ""
    for block in body.kids:
        text = content(block)
        if text and text == previous and len(text) > _TELLING:
            continue
        previous = text
        kids.append(block)
    body.kids = kids
