"""What comes through a pipe, or from a file on stdin."""

from __future__ import annotations

import select
import sys
from contextlib import suppress

from primer.errors import DataError

PATIENCE = 2.0
"""Seconds for which a pipe may be silent before we say that we are waiting for it."""


def from_stdin(waiting_for: str = "") -> bytes | None:
    """All of it, to the last byte; None on a terminal, where nobody would know that we wait.

    waiting_for: said on stderr where nothing comes for a while.
    """
    if sys.stdin is None or sys.stdin.isatty():
        return None
    with suppress(OSError, ValueError, TypeError):  # it cannot be waited for: a pipe on Windows, a stand-in
        if waiting_for and not select.select([sys.stdin], [], [], PATIENCE)[0]:
            print(f"waiting for {waiting_for}", file=sys.stderr)
    return sys.stdin.buffer.read()


def as_text(content: bytes, what: str) -> str:
    """What came, as text; DataError for what is not UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{what} is not UTF-8 at byte {error.start}", "stdin", "iconv -t utf-8 in front of the pipe"
        ) from error
