"""The main text of a page: two extractors, which make two different corpora of the same crawl."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from types import FrameType
from typing import Literal

from primer.errors import missing_extra

Extractor = Literal["trafilatura", "resiliparse"]


MANY_TAGS = 4_000
"""With fewer no page is looked at twice: nothing in it can be nested so deep that it matters."""
DEEPEST = 1_000
"""Elements within each other. Parsers' time grows with the square of it: a page of 100,000 would take minutes."""

_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)(?:[^<>]*?(/)?>)?")
_UNCLOSED = frozenset(
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"]
    + ["p", "li", "dt", "dd", "td", "th", "tr", "thead", "tbody", "tfoot", "colgroup", "option", "rp", "rt"]
)
"""Elements without an end tag, and those whose end tag may be left out: they do not nest in themselves."""


class ExtractionError(Exception):
    """The page has no text that could be extracted. `reason` is a word for the report."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def extractor(name: Extractor, *, favor_precision: bool = True) -> Callable[[str], str]:
    """A function from HTML to text. It raises ExtractionError, whatever goes wrong inside."""
    chosen = _trafilatura(favor_precision) if name == "trafilatura" else _resiliparse()

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
    deepest = now = 0
    for closing, name, itself in _TAG.findall(html):
        if itself or name.lower() in _UNCLOSED:
            continue
        now = max(now - 1, 0) if closing else now + 1
        deepest = max(deepest, now)
    return deepest


def version_of(name: Extractor) -> str:
    """Of the library: another version may extract another text."""
    return f"{name} {version(name)}"


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


def _resiliparse() -> Callable[[str], str]:
    """Resiliparse's main content (Bevendorff et al. 2018, https://resiliparse.chatnoir.eu)."""
    try:
        from resiliparse.extract.html2text import extract_plain_text
    except ImportError as error:
        raise missing_extra("resiliparse", "corpus") from error

    def run(html: str) -> str:
        return extract_plain_text(html, main_content=True, alt_texts=False, links=False)

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
