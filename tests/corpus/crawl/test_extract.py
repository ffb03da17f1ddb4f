"""Two extractors behind one function, which ends whatever a page does to them."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from crawls import page, prose
from primer.corpus.crawl.extract import ExtractionError, at_most, depth, extractor


def require(name: str) -> None:
    pytest.importorskip("lxml" if name == "primer" else name, reason="extractors are of the extra [corpus]")


EXTRACTORS = ["trafilatura", "resiliparse", "primer"]


@pytest.mark.parametrize("name", EXTRACTORS)
def test_the_main_part_is_extracted(name: str) -> None:
    require(name)
    text = extractor(name)(page(prose(1)).decode())
    assert [line for line in text.split("\n") if line] == prose(1)


FURNISHED = """<html><body class="{body}"><nav>Home</nav><div class="left-SIDEBAR sidebar">Latest</div>
<ul id="toc"><li>Contents</li></ul><div id="protocol">{text}</div><div class="cookie-note">Agree</div>
<div class="page-footer">Imprint</div></body></html>"""
"""What stands around a text in the manner of the web. "protocol" is no table of contents."""


@pytest.mark.parametrize("body", ["", "has-sidebar with-nav"])
def test_resiliparse_skips_what_stands_around_a_text_but_never_the_text(body: str) -> None:
    """A name as the second body's would have the whole page skipped."""
    require("resiliparse")
    text = extractor("resiliparse")(FURNISHED.format(body=body, text="<br>".join(prose(3, 40))))
    assert [line for line in text.split("\n") if line] == prose(3, 40)


def test_a_short_page_is_not_looked_at_twice_for_what_is_left_out() -> None:
    require("resiliparse")
    assert extractor("resiliparse")(FURNISHED.format(body="", text="Little.")) == "Little."


def test_what_other_pages_said_changes_nothing() -> None:
    """trafilatura forgets: by itself it drops paragraphs that it has seen in other pages."""
    trafilatura = pytest.importorskip("trafilatura", reason="of the extra [corpus]")
    html = page(prose(2)).decode()
    extract = extractor("trafilatura")
    expected = extract(html)
    assert [extract(html) for _ in range(4)] == [expected] * 4
    found = [
        trafilatura.extract(html, favor_precision=True, include_comments=False, deduplicate=True)
        for _ in range(4)
    ]
    assert found[-1] != expected, "the reason for forgetting is gone"


@pytest.mark.parametrize("name", EXTRACTORS)
def test_pages_that_nest_too_deep_are_refused_at_once(name: str) -> None:
    require(name)
    with pytest.raises(ExtractionError, match="too_deep"):
        extractor(name)("<div>" * 100_000)


@pytest.mark.parametrize(
    ("html", "deep"),
    [
        ("", 0),
        ("<div><div></div></div><div></div>", 2),
        ("</div></div><div></div>", 1),
        ("<p>" * 50 + "<li>" * 50 + "<br/>" * 50, 0),
        ("<DIV><Span>x</SPAN>", 2),
        ("<division>", 0),
    ],
)
def test_depth(html: str, deep: int) -> None:
    assert depth(html) == deep


def test_what_takes_too_long_is_given_up() -> None:
    def stubborn() -> None:
        with at_most(0.05), suppress(Exception):  # as a library does that goes on whatever happens
            time.sleep(5)

    with pytest.raises(ExtractionError, match="timeout"):
        stubborn()


@pytest.mark.parametrize("name", EXTRACTORS)
@pytest.mark.parametrize("html", ["", "<", "<html>", "\ud800<p>x", "<p>" + "x" * 100_000, "plain text"])
def test_scraps_raise_nothing_else(name: str, html: str) -> None:
    require(name)
    with suppress(ExtractionError):
        assert isinstance(extractor(name)(html), str)
