"""A stretch of text with an address."""

from __future__ import annotations

from dataclasses import dataclass

SEPARATOR = "\n\n"
"""What stands between two documents when a source is read as one text."""


@dataclass(frozen=True, slots=True)
class Document:
    """One text, or one piece of a long one: pieces of a document share its `id` and count up in `part`."""

    text: str
    id: str
    """Where it comes from: a path, for files of many records followed by `#` and the record's number."""
    part: int = 0
