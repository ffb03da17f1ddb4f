"""The report's page: nothing out of the crawl becomes markup, and every number is where a reader looks for it.

The outsider is an HTML5 parser (lexbor, through resiliparse): what it finds in the page is what a browser finds.
"""

import copy
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest

from primer.corpus.refine.page import page
from primer.corpus.refine.page_flow import flow_of
from primer.corpus.refine.page_text import count, plain

HOSTILE = (
    "<script>alert(1)</script>",
    "</style><script>alert(2)</script>",
    '"><img src=x onerror=alert(3)>',
    "' onmouseover='alert(4)",
    "</textarea></title></svg></details><iframe src=//evil.example>",
    "<!-- <svg/onload=alert(5)> --!>",
    "&lt;script&gt; &amp; &#x3c;b&#x3e;",
    "javascript:alert(6)",
    "{{7*7}} ${7*7} <%= 7 %>",
)
UNSEEN = "a\x00b\x1b[31mc\x7fd\x85e\u202ef\u2066g\u200bh\ud800i\udfffj\ufffek\rl"


def quantity(documents: int, tokens: int | None = 0) -> dict[str, Any]:
    words = documents * 400
    known = None if tokens is None else documents * 1000
    return {
        "documents": documents,
        "bytes": documents * 40_000,
        "text_bytes": words * 6,
        "words": words,
        "tokens": known,
    }


def sample(
    text: str = "One line.\nOne line.\n", spans: Any = ((10, 19),), url: str = "http://a.example/"
) -> dict[str, Any]:
    return {
        "id": "a.warc.gz#12",
        "url": url,
        "language": "en",
        "value": 0.314159,
        "text": text,
        "more": 8123,
        "spans": [list(span) for span in spans],
    }


def stage(name: str, comes: int, reasons: list[dict[str, Any]], tokens: int | None = 0) -> dict[str, Any]:
    dropped = sum(each["documents"] for each in reasons)
    return {
        "stage": name,
        "title": name.capitalize(),
        "about": f"about {name}",
        "on": True,
        "in": quantity(comes, tokens),
        "dropped": quantity(dropped, tokens),
        "out": quantity(comes - dropped, tokens),
        "reasons": reasons,
    }


def reason(name: str, documents: int, samples: Any = (), **more: Any) -> dict[str, Any]:
    rule = {"about": f"about {name}", "setting": None, "column": None, "threshold": None, "above": True}
    return {"reason": name, **rule, **quantity(documents), "samples": list(samples), **more}


LIMIT = {"setting": "fineweb.max_char_dup", "column": "char_dup_ratio", "threshold": 0.01}


def report(came: int = 1500, kept: int = 75, tokens: int | None = 0) -> dict[str, Any]:
    """A small one with all of its parts."""
    gone = came - kept
    german = gone // 2
    stages = [
        stage("records", came, [], tokens),
        stage("language", came, [reason("language_de", german, [sample()])], tokens),
        stage(
            "fineweb", came - german, [reason("char_dup_ratio", gone - german, [sample()], **LIMIT)], tokens
        ),
    ]
    off = stage("classifier", kept, [], tokens) | {"on": False}
    dedup = stage("dedup", kept, [], tokens)
    return {
        "format": 1,
        "recipe": {"recipe": "fineweb", "version": 1, "about": "FineWeb's recipe"},
        "settings": {"language.keep": ["en"], "fineweb.max_char_dup": 0.01, "quality.min_words": 50},
        "made_with": {"primer": "0.1.0", "extractor": "trafilatura 2.3.1"},
        "inputs": [
            {"name": "a.warc.gz", "kind": "archive", "bytes": 13371634, "sha256": "f26c" * 16, "group": "w"}
        ],
        "totals": {
            "in": quantity(came, tokens),
            "kept": quantity(kept, tokens),
            "dropped": quantity(gone, tokens),
        },
        "stages": [*stages, off, dedup],
        "histograms": [
            {
                "column": "char_dup_ratio",
                "title": "characters in lines that were there before",
                "stage": "fineweb",
                "reason": "char_dup_ratio",
                "threshold": 0.01,
                "above": True,
                "edges": [0.0, 0.01, 0.5, 1.0],
                "reached": [kept, 4, 3],
                "dropped": [0, 4, 2],
            }
        ],
        "languages": [
            {"language": "en", "in": came - german, "kept": kept},
            {"language": "de", "in": german, "kept": 0},
        ],
        "domains": [{"domain": "docs.example.org", "in": came // 2, "kept": kept // 2}],
        "clusters": {
            "documents": 120,
            "clusters": 90,
            "sizes": [[1, 75], [2, 10], [3, 3], [8, 2]],
            "examples": [
                {
                    "size": 2,
                    "kept": {"id": "a#1", "url": "http://a.example/", "text": "The cat sat on the mat."},
                    "copies": [
                        {
                            "id": "b#2",
                            "url": "http://b.example/",
                            "text": "The cat lay on the mat.",
                            "reason": "near",
                        }
                    ],
                }
            ],
        },
        "lengths": {"edges": [1, 10, 100, 1000], "in": [3, 9, 4], "kept": [0, 5, 2]},
        "tokens": {"tokenizer": "bytes", "train": 105_000, "validation": 11_000, "bytes_per_token": 3.9},
        "damage": [{"source": "t.warc.gz", "place": "109652", "bytes": 4211, "why": "truncated"}],
        "crashed": ["c.warc.gz#77"],
    }


def hostile(value: Any, bad: str) -> Any:
    """The same report, with this in every string that may come from the crawl, and in every key of its settings."""
    if isinstance(value, dict):
        fixed = ("stage", "column", "reason")
        return {key: hostile(each, bad) if key not in fixed else each for key, each in value.items()}
    if isinstance(value, list):
        return [hostile(each, bad) for each in value]
    return bad if isinstance(value, str) else value


def parsed(html: str) -> Any:
    from resiliparse.parse.html import HTMLTree

    return HTMLTree.parse(html)


def text_of(html: str) -> str:
    return " ".join(plain(parsed(html).body.text).split())


def tags_of(html: str) -> list[str]:
    """Every tag of the tree that the parser built, in order, as it writes them (text has no `<` there)."""
    return re.findall(r"<[^>]*>", parsed(html).document.html)


@pytest.mark.parametrize("bad", [*HOSTILE, UNSEEN, "x" * 10_000, "\u0301" * 500, "".join(HOSTILE)])
def test_no_string_of_the_crawl_becomes_markup(bad: str) -> None:
    """The elements are those of a report whose strings are harmless."""
    good = page(hostile(report(), "y" * len(bad)))
    ours = page(hostile(report(), bad))
    ours.encode("utf-8")
    assert tags_of(ours) == tags_of(good)
    assert not parsed(ours).document.query_selector_all(
        "script, img, iframe, link, object, embed, base, form"
    )


def test_reasons_columns_and_stages_are_escaped_too() -> None:
    bad = report()
    bad["stages"][2]["stage"] = bad["histograms"][0]["stage"] = HOSTILE[2]
    bad["stages"][2]["reasons"][0] |= {"reason": HOSTILE[0], "column": HOSTILE[1]}
    bad["histograms"][0] |= {"reason": HOSTILE[0], "column": HOSTILE[1]}
    bad["languages"][0]["language"] = HOSTILE[3]
    html = page(bad)
    assert not parsed(html).document.query_selector_all("script, img, [onmouseover], [onerror]")
    assert HOSTILE[0] in text_of(html)


def test_what_a_browser_shows_is_the_sample_itself() -> None:
    text = "".join(HOSTILE) + "\n\n  two  spaces\tand a tab & é 漢 🙂"
    one = report()
    one["stages"][2]["reasons"][0]["samples"] = [sample(text, [[2, 9]], "http://x.example/?a=1&b=<2>")]
    tree = parsed(page(one))
    boxes = [each for each in tree.document.query_selector_all(".text") if "漢" in each.text]
    assert [html_text(page(one), "漢")] == [text]
    assert [each.text for each in boxes[0].query_selector_all("mark")] == [text[2:9]]
    assert "http://x.example/?a=1&b=<2>" in text_of(page(one))
    assert "8,123 more characters not shown" in text_of(page(one))


def html_text(html: str, needle: str) -> str:
    """The character data of the first .text that has the needle, by the standard library's parser."""

    class Reader(HTMLParser):
        inside, found = False, ""
        texts: list[str]

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "div" and ("class", "text") in attrs:
                self.inside, self.found = True, ""

        def handle_endtag(self, tag: str) -> None:
            if tag == "div" and self.inside:
                self.inside = False
                self.texts.append(self.found)

        def handle_data(self, data: str) -> None:
            self.found += data

    reader = Reader()
    reader.texts = []
    reader.feed(html)
    return next(text for text in reader.texts if needle in text)


def test_only_its_own_style_sheet_is_allowed() -> None:
    tree = parsed(page(report()))
    (meta,) = tree.document.query_selector_all('meta[http-equiv="Content-Security-Policy"]')
    (style,) = tree.document.query_selector_all("style")
    seal = b64encode(sha256(style.text.encode()).digest()).decode()
    assert (
        meta["content"]
        == f"default-src 'none'; style-src 'sha256-{seal}'; base-uri 'none'; form-action 'none'"
    )
    assert not tree.document.query_selector_all("[style], [src], [href^=http], [onclick]")
    assert not re.search(r"url\((?!#)|@import|https?:", style.text)


def reordered(value: Any) -> Any:
    """An equal dict whose keys come in another order."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(list(value))}
    return [reordered(each) for each in value] if isinstance(value, list) else value


def test_equal_reports_are_equal_pages() -> None:
    assert reordered(report()) == report()
    assert page(reordered(report())) == page(copy.deepcopy(report())) == page(report())


def test_headline_and_table_tell_the_numbers() -> None:
    html = page(report())
    tree, text = parsed(html), text_of(html)
    assert tree.title == "1,500 documents in, 75 kept"
    assert (
        "5 % of the documents and 5 % of their text are left: 30,000 words in 180 kB, which make 75,000 tokens."
        in text
    )
    assert "The stage Fineweb took most: 713, 90.5 % of what it saw." in text
    assert "Dropped if more than 1 % of its characters stand in lines that were there before." in text
    assert "fineweb.max_char_dup = 0.01" in text
    row = next(each for each in tree.document.query_selector_all("tr.reason") if "language_de" in each.text)
    cells = [plain(each.text.strip()) for each in row.query_selector_all("td")]
    assert cells == ["712", "47.5 %", "28.5 MB", "1.71 MB", "284,800", "712,000"]


def test_page_is_accessible() -> None:
    tree = parsed(page(report()))
    document = tree.document
    assert document.query_selector("html")["lang"] == "en"
    levels = [int(each.tag[1]) for each in document.query_selector_all("h1, h2, h3, h4, h5, h6")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(each["scope"] for each in document.query_selector_all("th"))
    for drawing in document.query_selector_all("svg"):
        hidden = drawing.getattr("aria-hidden") == "true"
        assert hidden or (drawing["role"] == "img" and drawing.query_selector("title").text.strip())
    identities = [each.id for each in document.query_selector_all("[id]")]
    assert len(identities) == len(set(identities))
    targets = {each["href"][1:] for each in document.query_selector_all("nav a")}
    assert targets <= set(identities)
    assert len(targets) == 10


@pytest.mark.parametrize(("style", "scheme"), [(0, "light"), (1, "dark")])
def test_colours_can_be_read(style: int, scheme: str) -> None:
    """WCAG 2's contrast of every colour of text on both grounds: at least 4.5."""
    sheet = parsed(page(report())).document.query_selector("style").text
    blocks = re.findall(r":root \{(.*?)\}", sheet, re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", blocks[style]))
    for ground in ("paper", "card"):
        for ink in ("ink", "soft", "stays", "gone"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (scheme, ink, ground)
    assert contrast(colours["ink"], colours["mark"]) >= 4.5
    assert contrast(colours["paper"], colours["stays"]) >= 4.5


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_nothing_kept_says_what_took_most() -> None:
    html = page(report(came=10, kept=0))
    assert parsed(html).title == "Nothing was kept of 10 documents"
    assert "The commonest reason was language_de: 5." in text_of(html)
    assert "nothing kept" in html


def test_nothing_in() -> None:
    empty = report(came=0, kept=0) | {
        "histograms": [],
        "languages": [],
        "domains": [],
        "clusters": None,
        "lengths": None,
        "tokens": None,
        "damage": [],
        "crashed": [],
        "inputs": [],
    }
    text = text_of(page(empty))
    assert "No input held a document" in text
    assert 'class="flow' not in page(empty)


def test_least_report_is_a_page() -> None:
    least = {key: report(came=1, kept=1)[key] for key in ("totals", "stages")}
    html = page(least)
    assert parsed(html).title == "1 document in, 1 kept"
    assert "Nothing was dropped." in text_of(html)


def test_tokens_that_were_not_counted_have_no_column() -> None:
    html = page(report(tokens=None) | {"tokens": None})
    assert "Tokens were not counted." in text_of(html)
    assert "way-tokens" not in parsed(html).document.query_selector("main").html


def test_a_thousand_reasons_and_long_names() -> None:
    many = report()
    many["stages"][1]["reasons"] = [
        reason(f"language_{'q' * 300}{n}", n % 7, [sample("t" * 1500)]) for n in range(1000)
    ]
    html = page(many)
    assert "988 further reasons" in text_of(html)
    assert len(html.encode()) < 1_000_000


def test_sixty_reasons_with_five_samples_stay_below_a_megabyte() -> None:
    large = report()
    samples = [sample("Some words & others.\n" * 71) for _ in range(5)]
    for each in large["stages"][:3]:
        each["reasons"] = [reason(f"r{n}", 9, samples) for n in range(12)]
    large["stages"] += [
        stage(f"s{n}", 99, [reason(f"r{m}", 9, samples) for m in range(12)]) for n in range(2)
    ]
    large["histograms"] = [
        large["histograms"][0]
        | {"edges": list(range(51)), "reached": list(range(50)), "dropped": [n // 2 for n in range(50)]}
    ] * 60
    html = page(large)
    assert html.count('class="sample"') >= 300
    assert len(html.encode()) < 1_000_000


def test_fifteen_trillion_tokens() -> None:
    huge = report(came=3 * 10**9, kept=15 * 10**9 // 10)
    huge["totals"]["kept"]["tokens"] = 15 * 10**12
    text = text_of(page(huge))
    assert "15 trillion tokens" in text
    assert "3 billion documents in, 1.5 billion kept" in text


def test_flow_needs_its_numbers() -> None:
    stages = report(tokens=None)["stages"]
    assert flow_of(stages, "tokens", "tokens", count) is None
    found = flow_of(stages, "documents", "documents", count)
    assert found is not None
    assert [gate.title for gate in found.gates] == [
        "Records",
        "Language",
        "Fineweb",
        "Dedup",
    ]  # the one that is off is not
    assert found.kept == 75


def test_items_of_evaluations_are_told_of() -> None:
    found = report()
    found["contamination"] = {"action": "mask", "items": [["exam.jsonl:<2>", 3]], "found": 1}
    html = page(found)
    assert "exam.jsonl:&lt;2&gt;" in html
    assert "lost those stretches" in html
    found["contamination"] = {"action": "drop", "items": [], "found": 0}
    assert "No item of the evaluations stands in any document" in page(found)
    found["contamination"] = None
    assert "Evaluations" not in page(found)
