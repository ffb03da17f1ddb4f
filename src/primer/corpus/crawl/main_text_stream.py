"""A page as a stream of tags and texts: parsed in C, written out once, and split."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from primer.corpus.crawl.main_text_marks import MARKS, words
from primer.errors import missing_extra

if TYPE_CHECKING:
    from collections.abc import Iterator

_TAG = re.compile(r"<([^>]*)>")
# Nothing hangs on these, and almost each is another one.
_IDLE: Final = words(
    "href src name title alt width height rel target align valign border cellspacing cellpadding summary "
    "xmlns content onclick accesskey"
)


@cache
def _lxml() -> tuple[Any, Any]:
    try:
        from lxml import etree  # type: ignore[import-untyped]
    except ImportError as error:
        raise missing_extra("lxml", "corpus") from error
    parser = etree.HTMLParser(encoding="utf-8", collect_ids=False, remove_comments=True, remove_pis=True)
    return etree, parser


def events(html: str, *, fragment: bool = False) -> list[str]:
    """Text, tag, text, tag … of the page's tree as libxml2 understands it, well-formed and without comments.

    Depth ends at 255, which is libxml2's limit. The list starts with the (empty) text before the first tag, its
    tags have no angle brackets, and its texts are still escaped. What looks like no page gives an empty list, unless it
    is known to be a `fragment`.
    """
    etree, parser = _lxml()
    if "\x00" in html:
        html = html.replace("\x00", "")
    root = etree.fromstring(html.encode("utf-8", "replace"), parser)
    MARKS.bound()
    if root is None or not (fragment or _is_page(root, html)):
        return []
    etree.strip_attributes(root, *_IDLE)
    source: str = etree.tostring(root, encoding="unicode", with_tail=False)
    start = source.find("<body>" if "<body>" in source else "<body ")
    return _TAG.split(source[start : source.rindex("</body>") + 7] if start >= 0 else source)


def _is_page(root: Any, html: str) -> bool:
    """Whether the page says so at its beginning, or has a head, or more than one element beside each other."""
    if "html" in html[:50].lower() or root.find("head") is not None:
        return True
    body = root.find("body")
    if body is None:
        return len(root) > 1
    only = len(body) == 1 and not (body.text or "").strip() and not (body[0].tail or "").strip()
    return len(body[0] if only else body) > 1


def unescape(text: str) -> str:
    """Undo what writing XML did to a text."""
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&#13;", "\r").replace("&amp;", "&")


def pairs(stream: list[str]) -> Iterator[tuple[str, str]]:
    """Each tag with the text behind it."""
    flow = iter(stream)
    next(flow, None)
    return zip(flow, flow, strict=False)
