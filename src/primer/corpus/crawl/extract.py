"""The main text of a page. Extractors are three, and make different corpora of the same crawl: trafilatura, as FineWeb;
Resiliparse, thirty times as fast; and our own (`main_text.py`), which writes trafilatura's words five times as fast."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from types import FrameType
from typing import Literal

import numpy as np

from primer.errors import missing_extra

Extractor = Literal["trafilatura", "resiliparse", "primer"]

OWN_VERSION = 1
"""Changes whenever our own extractor writes another text than before."""
FURNITURE_VERSION = 1
"""Changes whenever Resiliparse is told to skip something else than before."""


MANY_TAGS = 8_000
"""With fewer, no page is looked at twice: the deepest that they can be nested takes a parser two seconds."""
DEEPEST = 1_000
"""Elements within each other. Parsers' time grows with the square of it: a page of 30,000 takes a minute."""

NESTING = (
    *("div", "span", "section", "article", "ul", "ol", "dl"),
    *("table", "blockquote", "center", "font", "form"),
)
"""Elements whose end has to be said, and that may stand within themselves."""
_EITHER_CASE = ("".join(f"[{letter}{letter.upper()}]" for letter in name) for name in NESTING)
_NESTING = re.compile(rf"<(/?)(?:{'|'.join(_EITHER_CASE)})\b")
"""In half the time that re.I takes."""


class ExtractionError(Exception):
    """The page has no text that could be extracted. `reason` is a word for the report."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def extractor(name: Extractor, *, favor_precision: bool = True) -> Callable[[str], str]:
    """A function from HTML to text. It raises ExtractionError, whatever goes wrong inside."""
    chosen = {"trafilatura": _trafilatura, "resiliparse": _resiliparse, "primer": _own}[name](favor_precision)

    def extract(html: str) -> str:
        if html.count("<") > MANY_TAGS and depth(html) > DEEPEST:
            raise ExtractionError("too_deep")
        try:
            return chosen(html) or ""
        except RecursionError as error:
            raise ExtractionError("too_deep") from error
        except (
            Exception
        ) as error:  # parsers raise of everything; a page is never worth more than its own loss
            raise ExtractionError("extraction_failed") from error

    return extract


def depth(html: str) -> int:
    """About how deep elements stand within each other."""
    steps = np.array([-1 if closing else 1 for closing in _NESTING.findall(html)], np.int64)
    level = np.cumsum(steps)
    lowest = (
        np.minimum(np.minimum.accumulate(level), 0) if len(level) else level
    )  # an end without a beginning is none
    return int((level - lowest).max(initial=0))


def version_of(name: Extractor) -> str:
    """Of the library: another version may extract another text."""
    if name == "primer":
        return f"primer's own, version {OWN_VERSION}"
    told = f", primer's list {FURNITURE_VERSION}" if name == "resiliparse" else ""
    return f"{name} {version(name)}{told}"


def _trafilatura(favor_precision: bool) -> Callable[[str], str | None]:
    """Trafilatura as FineWeb's script has it (Barbaresi 2021, https://trafilatura.readthedocs.io).

    With `deduplicate`, trafilatura drops a paragraph that it has seen often, in any page before: what is extracted
    would depend on which pages the same process has read. Here its memory is emptied before each page, so that a
    page's text is a property of the page.
    """
    try:
        from trafilatura import extract
        from trafilatura.deduplication import LRU_TEST
    except ImportError as error:
        raise missing_extra("trafilatura", "corpus") from error

    def run(html: str) -> str | None:
        LRU_TEST.clear()
        return extract(html, favor_precision=favor_precision, include_comments=False, deduplicate=True)

    return run


def _own(favor_precision: bool) -> Callable[[str], str]:
    """What trafilatura 2 would extract with `favor_precision`, written anew."""
    from primer.corpus.crawl.main_text import extract

    return extract


FURNITURE_WORDS = (
    *(
        "nav",
        "menu",
        "sidebar",
        "footer",
        "header",
        "breadcrumb",
        "related",
        "banner",
        "cookie",
        "social",
        "share",
    ),
    *("pagination", "pager", "popup", "newsletter", "sponsor"),
)
"""What stands around the text of a page has such a word in its class or its id. Most are Readability's
(`unlikelyCandidates` in https://github.com/mozilla/readability)."""
FURNITURE = ", ".join(
    [
        *("nav", "footer", "aside"),
        *(f'[{attribute}*="{word}"]' for word in FURNITURE_WORDS for attribute in ("class", "id")),
        *('[class^="toc"]', '[class*=" toc"]', '[id^="toc"]'),
    ]
)
"""As one CSS selector. A table of contents is told by how its name begins: "protocol" has the letters too."""
LITTLE, MUCH = 250, 2_500
"""Characters. If so few are left, and so many without the list, the list met what holds the page itself."""


def _resiliparse(favor_precision: bool) -> Callable[[str], str]:
    """Resiliparse's plain text (Bevendorff et al. 2018, https://resiliparse.chatnoir.eu) without `FURNITURE`.

    Its own search for the main content (`main_content`) takes longer and is further from what trafilatura extracts: it
    is left to the pages whose names mislead.
    """
    try:
        from resiliparse.extract.html2text import extract_plain_text
        from resiliparse.parse.html import HTMLTree
    except ImportError as error:
        raise missing_extra("resiliparse", "corpus") from error

    def run(html: str) -> str:
        tree = HTMLTree.parse(html)
        text = extract_plain_text(tree, alt_texts=False, links=False, skip_elements=[FURNITURE])
        if len(text) >= LITTLE:
            return text
        whole = extract_plain_text(tree, alt_texts=False, links=False, main_content=True)
        return whole if len(whole) >= MUCH else text

    return run


class _Late(BaseException):
    """Not an Exception: a library that catches those would go on."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """ExtractionError when the block takes longer; nothing is limited where signals cannot be had."""
    usable = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if not seconds or not usable:
        yield
        return

    def late(number: int, frame: FrameType | None) -> None:
        raise _Late

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _Late as error:
        raise ExtractionError("extraction_timeout") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
