"""Tables and lists of the report's page that may be long."""

from __future__ import annotations

from collections.abc import Sequence

from primer.corpus.refine.page_text import count

SHOWN_ROWS = 15
"""Of a long table; the rest opens."""
MOST_ROWS = 500


def long_table(titles: str, rows: list[str], nouns: str, kind: str = "plain") -> str:
    """A table whose end opens, and which says how much even that leaves out."""

    def table(some: list[str]) -> str:
        return f'<table class="{kind}"><thead>{titles}</thead><tbody>{"".join(some)}</tbody></table>'

    rest = rows[SHOWN_ROWS:MOST_ROWS]
    left = len(rows) - MOST_ROWS
    note = f'<p class="note">{count(left)} more are in report.json.</p>' if left > 0 else ""
    more = (
        f"<details><summary>{count(len(rest))} further {nouns}</summary>{table(rest)}{note}</details>"
        if rest
        else ""
    )
    return table(rows[:SHOWN_ROWS]) + more


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Terms and what they are; both are HTML."""
    return (
        f"<dl>{''.join(f'<div><dt>{term}</dt><dd>{value}</dd></div>' for term, value in rows)}</dl>"
        if rows
        else ""
    )
