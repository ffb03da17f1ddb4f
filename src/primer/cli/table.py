"""Columns of text for the terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def table(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Columns as wide as they need to be; those in `right` are flush right, as figures are.

    >>> print(table([("name", "size"), ("a", "10")], right={1}))
    name  size
    a       10
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = zip(row, widths, range(len(row)), strict=True)
        lines.append(
            "  ".join(f"{text:>{w}}" if column in right else f"{text:<{w}}" for text, w, column in cells)
        )
    return "\n".join(line.rstrip() for line in lines)
