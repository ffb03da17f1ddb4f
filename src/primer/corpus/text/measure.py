"""Which implementation measures pages: the one that can be read, or the one that is used for a crawl."""

from __future__ import annotations

from typing import Literal, Protocol

from primer.corpus.text.statistics import FINEWEB_LINES, LineRules, Measured, Split, measure
from primer.errors import UsageError, missing_extra

Implementation = Literal["auto", "reference", "compiled"]


class Measurer(Protocol):
    """Says of a page everything that the filters ask, the same whichever implementation it is."""

    def measure(self, text: str) -> Measured: ...


class Reference:
    """`statistics.measure` with its settings."""

    def __init__(self, split_chunk: Split, rules: LineRules = FINEWEB_LINES) -> None:
        self._split = split_chunk
        self._rules = rules

    def measure(self, text: str) -> Measured:
        return measure(text, self._split, self._rules)


def measurer(
    split_chunk: Split, rules: LineRules = FINEWEB_LINES, implementation: Implementation = "auto"
) -> Measurer:
    """auto: compiled where numba is installed, else the reference, which takes a hundred times as long.

    Raises SurroundingsError if `compiled` is asked for without numba, UsageError for an unknown implementation.
    """
    if implementation not in ("auto", "reference", "compiled"):
        raise UsageError(f"no implementation is called {implementation}", hint="auto, reference or compiled")
    if implementation == "reference":
        return Reference(split_chunk, rules)
    try:
        from primer.corpus.text import compiled
    except ImportError as error:
        if implementation == "auto":
            return Reference(split_chunk, rules)
        raise missing_extra("numba", "corpus") from error
    return compiled.Measurer(split_chunk, rules)
