"""Curves in a terminal: Braille dots (2 × 4 to a character), axes and a legend; ASCII where there is no Unicode."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bit of each dot of a Braille character (U+2800 …), by row and column."""
_COLOURS = (36, 33, 35, 32, 34, 31)  # cyan, yellow, magenta, green, blue, red
_LETTERS = "*o+x#@"


@dataclass(frozen=True)
class Curve:
    """Points to be joined by a line."""

    name: str
    points: Sequence[tuple[float, float]]


def draw(
    curves: Sequence[Curve], *, width: int = 80, height: int = 16, unicode: bool = True, colour: bool = False
) -> str:
    """A plot of `width` × `height` characters, axes and legend included; "" when there is nothing to draw.

    The vertical axis spans what comes after the first twentieth of the steps: a loss falls steeply from its
    start, and the rest is what one wants to see. Points above are drawn at the upper edge.
    """
    curves = [Curve(curve.name, [(x, y) for x, y in curve.points if math.isfinite(y)]) for curve in curves]
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return ""
    fine = unicode and (colour or len(curves) == 1)  # dots of several curves look alike without colour
    across, down = (2, 4) if fine else (1, 1)
    left = min(x for curve in curves for x, _ in curve.points)
    right = max(left + 1, *(x for curve in curves for x, _ in curve.points))
    curves = [Curve(curve.name, _thinned(curve.points, left, right, width * across)) for curve in curves]
    low, high = bounds(curves)
    margin = max(len(_number(value)) for value in (low, (low + high) / 2, high)) + 2
    columns, rows = max(width - margin, 8), max(height - 3, 4)
    field: dict[tuple[int, int], tuple[int, int]] = {}  # character → (dots, the curve drawn last)
    for which, curve in enumerate(curves):
        reach = (columns * across - 1, rows * down - 1)
        for x, y in _pixels(curve.points, (left, right, low, high), reach):
            place = (y // down, x // across)
            dots = field.get(place, (0, which))[0]
            field[place] = (dots | _DOTS[y % down][x % across] if fine else 0, which)
    lines = []
    for row in range(rows):
        label = {0: high, rows // 2: high - (high - low) * (rows // 2) / (rows - 1), rows - 1: low}.get(row)
        text = "" if label is None else _number(label)
        edge = ("┤" if label is not None else "│") if unicode else ("+" if label is not None else "|")
        cells = (_cell(field.get((row, column)), fine=fine, colour=colour) for column in range(columns))
        lines.append(f"{text:>{margin - 2}} {edge}{''.join(cells)}".rstrip())
    lines.append(" " * (margin - 1) + ("└" + "─" * columns if unicode else "+" + "-" * columns))
    lines.append(" " * margin + _scale(left, right, columns))
    if len(curves) > 1 or curves[0].name:
        lines.append(" " * margin + _legend(curves, unicode=unicode, fine=fine, colour=colour))
    return "\n".join(lines)


def bounds(curves: Sequence[Curve]) -> tuple[float, float]:
    """Lowest and highest value after the first twentieth of the steps, in which a loss falls steeply."""
    xs = [x for curve in curves for x, _ in curve.points]
    settled = min(xs) + (max(xs) - min(xs)) / 20
    ys = [y for curve in curves for x, y in curve.points if x >= settled]
    ys = ys or [y for curve in curves for _, y in curve.points]
    low, high = min(ys), max(ys)
    if high - low < 1e-9 * max(1.0, abs(high)):  # a flat line runs through the middle
        half = max(0.5, abs(high) / 1000)
        low, high = low - half, high + half
    return low, high


def _thinned(
    points: Sequence[tuple[float, float]], left: float, right: float, columns: int
) -> list[tuple[float, float]]:
    """The mean of the points that share a column: noise between two columns would only blacken the plot."""
    groups: dict[int, list[tuple[float, float]]] = {}
    for x, y in points:
        groups.setdefault(int((x - left) / (right - left) * (columns - 1)), []).append((x, y))
    return [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group))
        for _, group in sorted(groups.items())
    ]


def _pixels(
    points: Sequence[tuple[float, float]], bounds: tuple[float, float, float, float], reach: tuple[int, int]
) -> list[tuple[int, int]]:
    """Every dot on the lines between the points; y grows downwards, as lines of text do."""
    left, right, low, high = bounds

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x = (point[0] - left) / (right - left) * reach[0]
        y = (high - min(point[1], high)) / (high - low) * reach[1]
        return x, min(y, reach[1])

    places = [place(point) for point in points]
    dots = [(round(x), round(y)) for x, y in places[:1]]
    for (x0, y0), (x1, y1) in pairwise(places):
        steps = max(1, math.ceil(max(abs(x1 - x0), abs(y1 - y0))))
        dots += [
            (round(x0 + (x1 - x0) * n / steps), round(y0 + (y1 - y0) * n / steps))
            for n in range(1, steps + 1)
        ]
    return dots


def _cell(content: tuple[int, int] | None, *, fine: bool, colour: bool) -> str:
    if content is None:
        return " "
    dots, which = content
    mark = chr(0x2800 + dots) if fine else _LETTERS[which % len(_LETTERS)]
    return f"\x1b[{_COLOURS[which % len(_COLOURS)]}m{mark}\x1b[0m" if colour else mark


def _legend(curves: Sequence[Curve], *, unicode: bool, fine: bool, colour: bool) -> str:
    names = []
    for which, curve in enumerate(curves):
        mark = ("━━" if unicode else "--") if fine else _LETTERS[which % len(_LETTERS)]
        if colour:
            mark = f"\x1b[{_COLOURS[which % len(_COLOURS)]}m{mark}\x1b[0m"
        names.append(f"{mark} {curve.name}")
    return "   ".join(names)


def _scale(left: float, right: float, columns: int) -> str:
    first, last = f"{left:,.0f}", f"{right:,.0f} steps"
    middle = f"{(left + right) / 2:,.0f}"
    gap = columns - len(first) - len(last)
    return first + (middle.center(gap) if gap > len(middle) + 2 else " " * max(gap, 1)) + last


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 1000 else f"{value:.3g}"
