"""Elements of a page, with what is counted in them, and the few things that are done with them everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CODE_SIGNS: Final = ("{", '("', "('", "\n    ")


class Spoken(Protocol):
    """Anything that has text before its first child and text behind its end."""

    text: str
    tail: str


_NONE: list[Node] = []  # the children of all that have none; `Node.add` makes another list


class Node:
    """An element: `text` before its first child, `tail` behind its end, as in ElementTree; of links only lengths.

    `order` numbers the elements of a page, `done` says that a reader has taken the element, `spent` that all below it
    is taken, `followed` that a link or span comes behind it, `filled` that there was more in it than `kids` tells;
    `lead` is a `pre`'s text before its first child. Of all that is below: `size` is the length of the text without
    indentation, `links` counts links, `full` those with text, `short` those under 10 characters, `linked` sums their
    lengths, `below` unites the flags, the own ones included.
    """

    done = spent = followed = filled = False
    text = tail = lead = ""
    size = links = full = short = linked = 0

    def __init__(self, tag: str, flags: int = 0, order: int = 0, text: str = "", tail: str = "") -> None:
        self.tag, self.order = tag, order
        self.kids = _NONE
        self.flags = self.below = flags
        if text:
            self.text = text
        if tail:
            self.tail = tail

    def add(self, kid: Node) -> None:
        """A child behind the others."""
        if self.kids:
            self.kids.append(kid)
        else:
            self.kids = [kid]

    def add_text(self, text: str) -> None:
        """Behind everything that is in the element already."""
        if self.kids:
            self.kids[-1].tail += text
        else:
            self.text += text

    def add_link(self, length: int) -> None:
        """Count a link with a text of this many characters."""
        self.links += 1
        self.full += length > 0
        self.short += 0 < length < 10
        self.linked += length

    def add_links(self, kid: Node, sign: int = 1) -> None:
        """Count the links in `kid`, or (with -1) no longer count them."""
        self.links += sign * kid.links
        self.full += sign * kid.full
        self.short += sign * kid.short
        self.linked += sign * kid.linked

    def add_sums(self, kid: Node, sign: int = 1) -> None:
        """Count all that is in `kid`, or (with -1) no longer count it."""
        self.size += sign * kid.size
        if kid.links:
            self.add_links(kid, sign)

    def note_child(self, lead: str, *, is_span: bool) -> None:
        """Of a `pre`, which is code if it is one span, or if its first words (`lead`) look like code."""
        if self.order >= 0:
            self.order = -self.order
            self.lead, self.filled = self.text or lead, is_span
        else:
            self.filled = False

    def looks_like_code(self) -> bool:
        """Of a `pre`, at its end."""
        lead = self.text if self.order >= 0 else self.lead
        self.order = abs(self.order)
        return self.filled or any(sign in lead for sign in _CODE_SIGNS)


def settle(node: Spoken, kids: Sequence[Spoken], pieces: list[str]) -> None:
    """Pieces of text become the tail of the last of the `kids`, or the text of the node that will have them."""
    text = pieces[0] if len(pieces) == 1 else "".join(pieces)
    if kids:
        kids[-1].tail = text
    else:
        node.text = text


def splice(node: Node, unwanted: set[int], *, keep_tails: bool = True) -> None:
    """Take children out; the text behind each stays, unless told otherwise. Sums are left to the caller."""
    kids: list[Node] = []
    pieces = [node.text]
    for kid in node.kids:
        if id(kid) not in unwanted:
            settle(node, kids, pieces)
            kids.append(kid)
            pieces = [kid.tail]
        elif keep_tails and kid.tail:
            pieces.append(kid.tail)
    settle(node, kids, pieces)
    node.kids = kids


def place(node: Node, kid: Node, kids: list[Node], pieces: list[str], *, whole: bool) -> list[str]:
    """Put an element among the kids of a node, or else what it holds; the texts that stand behind the last kid then."""
    if whole:
        settle(node, kids, pieces)
        kids.append(kid)
        return [kid.tail]
    pieces.append(kid.text)
    if kid.kids:
        settle(node, kids, pieces)
        kids += kid.kids
        pieces = [kids[-1].tail]
    pieces.append(kid.tail)
    return pieces


def unwrap(node: Node, tags: set[str]) -> None:
    """Put the content of elements with these names in their place."""
    if not tags:
        return
    kids: list[Node] = []
    pieces = [node.text]
    for kid in node.kids:
        unwrap(kid, tags)
        pieces = place(node, kid, kids, pieces, whole=kid.tag not in tags)
    settle(node, kids, pieces)
    node.kids = kids


def texts(node: Node, parts: list[str]) -> None:
    """Append all text of an element, in the order of the page."""
    parts.append(node.text)
    for kid in node.kids:
        if kid.kids:
            texts(kid, parts)
        else:
            parts.append(kid.text)
        parts.append(kid.tail)


def content(node: Node, glue: str = "") -> str:
    """All text of an element with single spaces; `glue` goes between what tags divide."""
    if not node.kids:
        return " ".join(node.text.split())
    parts: list[str] = []
    texts(node, parts)
    return " ".join(glue.join(parts).split())


def is_text(text: str) -> bool:
    """Whether there is more than white space."""
    return bool(text) and not text.isspace()


def has_text(node: Node) -> bool:
    """Whether an element holds more than white space."""
    return is_text(node.text) or any(has_text(kid) or is_text(kid.tail) for kid in node.kids)


def below(node: Node) -> Iterator[Node]:
    """All below an element, in the order of the page, but what has been spent by the time it would be reached."""
    stack = node.kids[::-1]
    while stack:
        kid = stack.pop()
        yield kid
        if kid.kids and not kid.spent:
            stack += reversed(kid.kids)


def mark_done(node: Node) -> None:
    """Nothing in this element is read again."""
    node.done = node.spent = True
    for kid in node.kids:
        mark_done(kid)


def copy(node: Node) -> Node:
    """An element as it is, without what has been taken."""
    twin = Node(node.tag, 0, 0, node.text, node.tail)
    for kid in node.kids:
        if not kid.done:
            twin.add(copy(kid))
        elif kid.tail:
            twin.add_text(kid.tail)
    return twin


def carried(node: Node) -> Node:
    """Inline code or deleted text with the same inside, which is taken with it."""
    twin = Node(node.tag, 0, 0, node.text, node.tail)
    for kid in node.kids:
        if kid.tag in ("code", "del", "lb") and not kid.done:
            twin.add(carried(kid))
            mark_done(kid)
    return twin


class Pieces:
    """Blocks for an element, and the loose text between them, which is joined once."""

    def __init__(self, said: Node) -> None:
        self.said = said
        self.loose: list[str] = []

    def add(self, block: Node) -> None:
        """The next block, with its tail."""
        if self.loose:
            self.settle()
        self.said.add(block)

    def block(self, block: Node | None, source: Node) -> None:
        """The next block with the tail of its source; of a block that is none, the tail stays, apart from the rest."""
        tail = source.tail
        if block is not None:
            block.tail = tail
            self.add(block)
        elif is_text(tail):
            before = self.loose[-1] if self.loose else self._end()
            if (before or self.said.kids) and not before[-1:].isspace() and not tail[0].isspace():
                tail = f" {tail}"
            self.loose.append(tail)

    def settle(self) -> None:
        """Put the loose text where it belongs."""
        self.said.add_text("".join(self.loose))
        self.loose.clear()

    def _end(self) -> str:
        return self.said.kids[-1].tail if self.said.kids else self.said.text
