"""Columns of text for the terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Sequence

LEAST = 12
"""No column is cut to fewer characters than this."""


def table(
    rows: Sequence[Sequence[str]],
    right: Collection[int] = (),
    *,
    cut: int | None = None,
    width: int | None = None,
) -> str:
    """Columns as wide as they need to be; those in `right` are flush right, as figures are.

    Where that is wider than `width` (default: the terminal, if there is one), the column `cut` gives way.

    >>> print(table([("name", "size"), ("a", "10")], right={1}))
    name  size
    a       10
    """
    if width is None and sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    if width is not None and cut is not None:
        over = sum(widths) + 2 * (len(widths) - 1) - width
        widths[cut] = max(min(widths[cut], LEAST), widths[cut] - max(0, over))
    lines = []
    for row in rows:
        cells = zip((shortened(text, w) for text, w in zip(row, widths, strict=True)), widths, strict=True)
        lines.append(
            "  ".join(
                f"{text:>{w}}" if column in right else f"{text:<{w}}"
                for column, (text, w) in enumerate(cells)
            )
        )
    return "\n".join(line.rstrip() for line in lines)


def shortened(text: str, width: int) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= width else f"{text[: width - 1]}…"
