"""How the report's page writes things down: text of the crawl made harmless, numbers made readable.

The crawl is hostile. Whatever comes from it passes `clean` (or `label`, `marked`, which do) and nothing else does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from math import isfinite
from typing import Any

Fields = Mapping[str, Any]
"""An object of report.json."""

NO_BREAK = "\u00a0"
LONGEST_LABEL = 300
"""Characters of an address, an id, a name that are shown."""

_SILENT = (*range(0x80, 0xA0), 0x061C, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_NO_CHARACTERS = (
    *range(0xD800, 0xE000),
    *range(0xFDD0, 0xFDF0),
    *(plane << 16 | low for plane in range(17) for low in (0xFFFE, 0xFFFF)),
)
_SHOWN: dict[int, str] = {
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: "\u2421",
    **{code: f"[U+{code:04X}]" for code in _SILENT if code not in (0x200C, 0x200D)},
    **dict.fromkeys(_NO_CHARACTERS, "\ufffd"),
}
"""What would act unseen is shown instead: control characters, what turns the direction of writing, halves of
characters. Zero-width joiners stay: Persian, Hindi and emoji are written with them."""

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]{4})?")


def clean(text: object) -> str:
    """Text as HTML, for an element or a quoted attribute: no markup, no unseen control, no lone surrogate."""
    return escape(str(text).translate(_SHOWN), quote=True)


def label(text: object, longest: int = LONGEST_LABEL) -> str:
    """A name out of the crawl: on its own as to direction, and cut (which it says) after `longest` characters."""
    whole = str(text)
    cut = f'<span class="cut"> … {count(len(whole) - longest)} more</span>' if len(whole) > longest else ""
    return f"<bdi>{clean(whole[:longest])}</bdi>{cut}"


def clipped(text: object, longest: int) -> str:
    """Text of at most `longest` characters, not yet HTML."""
    whole = " ".join(str(text).split())
    return whole if len(whole) <= longest else whole[: max(longest - 1, 0)].rstrip() + "…"


def marked(text: str, spans: Iterable[Sequence[int]], title: str = "") -> str:
    """Text as HTML with these spans in <mark>. Spans may overlap, touch, or reach beyond the text."""
    pieces, done = [], 0
    for start, end in sorted((max(int(span[0]), 0), min(int(span[1]), len(text))) for span in spans):
        start = max(start, done)
        if start >= end:
            continue
        pieces += [clean(text[done:start]), f"<mark>{clean(text[start:end])}</mark>"]
        done = end
    return "".join(pieces).replace("</mark><mark>", "") + clean(text[done:])


def language_tag(language: object) -> str:
    """The attribute that says in which language something is written; empty where that is not known."""
    tag = str(language or "").replace("_", "-")
    return f' lang="{tag}"' if _LANGUAGE.fullmatch(tag) else ""


def count(number: float | None) -> str:
    """12,345; from ten million on 12.3 million. None, which was not counted: a dash."""
    if number is None:
        return "–"
    if abs(number) < 10_000_000:
        return f"{number:,.0f}"
    for unit, name in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")):
        if abs(number) >= unit * 0.9995:
            return f"{_three_digits(number / unit)}{NO_BREAK}{name}"
    return f"{number:,.0f}"


def many(number: float | None, noun: str) -> str:
    """`1 document`, `1,500 documents`."""
    return f"{count(number)} {noun}" + ("" if number == 1 else "s")


def size(number: float | None) -> str:
    """Bytes, in decimal units: 64.5 MB."""
    if number is None:
        return "–"
    for unit, name in ((10**15, "PB"), (10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if abs(number) >= unit * 0.9995:
            return f"{_three_digits(number / unit)}{NO_BREAK}{name}"
    return f"{number:,.0f}{NO_BREAK}B"


def share(part: float | None, whole: float | None) -> str:
    """A share in per cent, of three significant digits; never 0 for something, nor 100 for less than all."""
    if part is None or not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.001:
        return f"under 0.001{NO_BREAK}%"
    if 99.95 <= percent < 100:
        return f"over 99.9{NO_BREAK}%"
    return f"{_three_digits(percent)}{NO_BREAK}%"


def number(value: float | None) -> str:
    """A measurement or a threshold: 0.0123, 100,000."""
    if value is None:
        return "–"
    if not isfinite(value):
        return "not a number" if value != value else ("∞" if value > 0 else "−∞")
    if value == int(value) and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.1f}"


def tick(value: float) -> str:
    """A number on an axis, short."""
    for unit, name in ((1e12, "tn"), (1e9, "bn"), (1e6, "M"), (1e3, "k")):
        if isfinite(value) and abs(value) >= unit and (unit > 1e3 or abs(value) >= 1e4):
            return f"{_three_digits(value / unit)}{NO_BREAK}{name}"
    return number(value)


def _three_digits(value: float) -> str:
    """1.23, 12.3, 123, 1,230: no exponent, no zeros at the end."""
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    text = f"{value:.3g}"
    return f"{value:.6f}".rstrip("0").rstrip(".") if "e" in text else text


def plain(html: str) -> str:
    """A number of this module for where no-break spaces are in the way: an attribute, a file."""
    return html.replace(NO_BREAK, " ")
