"""Bars and histograms of the report's page, as inline SVG without a single style, script or identifier."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, isfinite, log1p, sqrt
from typing import Literal

from primer.corpus.refine.page_text import clean, number, tick

WIDTH, HEIGHT = 340, 176
LEFT, RIGHT, TOP, BOTTOM = 40, 330, 26, 148
SQUARE_ROOT_UP_TO = 1_000_000
"""Beyond so many documents in one bar, a single one would be less than a tenth of a pixel under a square root."""


@dataclass(frozen=True)
class Limit:
    """A threshold to draw into a histogram."""

    value: float
    above: bool


Kind = Literal["square root", "logarithm"]


@dataclass(frozen=True)
class Scale:
    """From a number of documents to a height between 0 and 1, which `most` reach."""

    kind: Kind
    most: float

    def __call__(self, documents: float) -> float:
        if documents <= 0 or self.most <= 0:
            return 0.0
        shape = sqrt if self.kind == "square root" else log1p
        return min(shape(documents) / shape(self.most), 1.0)


def kind_for(tallest: float) -> Kind:
    """How to draw counts up to this one."""
    return "square root" if tallest <= SQUARE_ROOT_UP_TO else "logarithm"


def bar(part: float | None, most: float | None, front: float | None = None, kind: str = "gone") -> str:
    """A bar for a table's cell, as long as part / most; with `front`, a second one before it."""
    if part is None or not most:
        return ""
    back = f'<path class="{kind}" d="M0 0H{_length(part, most)}V4H0z"/>'
    over = "" if front is None else f'<path class="stays" d="M0 0H{_length(front, most)}V4H0z"/>'
    return (
        '<svg class="bar" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="rail" d="M0 0H100V4H0z"/>{back}{over}</svg>'
    )


def _length(part: float, most: float) -> str:
    """Of 100; what is there at all can be seen."""
    return _round(max(100 * min(part / most, 1), 0.7) if part > 0 else 0)


def histogram(
    edges: Sequence[float],
    back: Sequence[float],
    front: Sequence[float],
    title: str,
    describe: str,
    became: str = "gone",
    limit: Limit | None = None,
    kind: Kind = "square root",
) -> str:
    """Documents by a measurement: `back` all of them, `front` a part of them, both from the ground up.

    The bins are drawn equally wide, whatever their edges: where these lie evenly, so does the axis. title and
    describe are plain text, for those who do not see the figure. became: "gone" or "stays", what `front` did. The
    highest bar of `back` fills the height.
    """
    if len(edges) < 2:
        return ""
    scale = Scale(kind, max(back, default=0))
    return (
        f'<svg class="histogram" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><title>{clean(title)}</title>'
        f"<desc>{clean(describe)}</desc>{_count_axis(scale)}"
        f'<path class="reached" d="{_steps(back, scale, len(edges) - 1)}"/>'
        f'<path class="{became}" d="{_steps(front, scale, len(edges) - 1)}"/>'
        f"{_value_axis(edges)}{_threshold(edges, limit) if limit else ''}</svg>"
    )


def place(value: float, edges: Sequence[float]) -> float:
    """Where a value lies on the axis of bins, from 0 to 1; beyond the edges at the nearest end."""
    bins = len(edges) - 1
    if value != value or value <= edges[0]:
        return 0.0
    if value >= edges[-1]:
        return 1.0
    index = bisect_right(edges, value) - 1
    low, high = edges[index], edges[index + 1]
    within = (value - low) / (high - low) if isfinite(high - low) else 0.5
    return (index + within) / bins


def ticks_of(edges: Sequence[float], most: int = 6) -> list[float]:
    """Round numbers for the axis: powers of ten where the bins grow, else multiples of 1, 2 or 5."""
    low, high = edges[0], edges[-1]
    steps = [after - before for before, after in pairwise(edges)]
    if not isfinite(high - low) or high <= low:
        return [each for each in (low, high) if isfinite(each)]
    if max(steps) > 1.5 * min(steps):
        tens = [10.0**power for power in range(-9, 19) if 10.0**power <= high]
        tens = [ten for ten in tens if place(ten, edges) > 0.05] or [high]
        return [low, *tens[:: -(-len(tens) // most)]]
    step = next(
        digit * 10.0**power
        for power in range(-12, 19)
        for digit in (1, 2, 5)
        if (high - low) / (digit * 10.0**power) < most
    )
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _steps(counts: Sequence[float], scale: Scale, bins: int) -> str:
    """The outline of the bars."""
    wide = (RIGHT - LEFT) / bins
    path = []
    for index, documents in enumerate(counts[:bins]):
        if documents > 0:
            tall = max(scale(documents) * (BOTTOM - TOP), 1.2)
            start, end = LEFT + index * wide, LEFT + (index + 1) * wide - min(1.0, wide / 5)
            path.append(f"M{_round(start)} {BOTTOM}V{_round(BOTTOM - tall)}H{_round(end)}V{BOTTOM}z")
    return "".join(path)


def _count_axis(scale: Scale) -> str:
    """Round numbers, from the top down, as many as there is room for."""
    digits = (5, 2, 1) if scale.kind == "square root" else (1,)
    series = [digit * 10**power for power in range(16, -1, -1) for digit in digits]
    lines, last = [], 2.0
    for documents in series:
        height = scale(documents)
        if documents <= scale.most and 0.1 < height < last - 0.19:
            y = _round(BOTTOM - height * (BOTTOM - TOP))
            lines.append(f'<path class="grid" d="M{LEFT} {y}H{RIGHT}"/>')
            lines.append(f'<text class="end" x="{LEFT - 5}" y="{y}" dy="4">{tick(documents)}</text>')
            last = height
    return "".join(lines)


def _value_axis(edges: Sequence[float]) -> str:
    parts = [f'<path class="axis" d="M{LEFT} {BOTTOM}.5H{RIGHT}"/>']
    for value in ticks_of(edges):
        at = place(value, edges)
        x = _round(LEFT + (RIGHT - LEFT) * at)
        anchor = "end" if at > 0.97 else "middle"
        parts.append(f'<path class="axis" d="M{x} {BOTTOM}v4"/>')
        parts.append(f'<text class="{anchor}" x="{x}" y="{BOTTOM + 18}">{tick(value)}</text>')
    return "".join(parts)


def _threshold(edges: Sequence[float], limit: Limit) -> str:
    """The line, and its value on the side that has room; the arrow points to what is dropped."""
    at = place(limit.value, edges)
    x = LEFT + (RIGHT - LEFT) * at
    words = (
        f"dropped above {number(limit.value)} →" if limit.above else f"← dropped below {number(limit.value)}"
    )
    anchor, shift = ("start", 5) if at < 0.5 else ("end", -5)
    return (
        f'<path class="limit" d="M{_round(x)} {TOP - 18}V{BOTTOM}"/>'
        f'<text class="{anchor} value" x="{_round(x + shift)}" y="{TOP - 9}">{words}</text>'
    )


def _round(value: float) -> str:
    """A coordinate: a tenth of a pixel is enough."""
    return f"{value:.1f}".removesuffix(".0")
