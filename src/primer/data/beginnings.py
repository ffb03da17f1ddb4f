"""Where documents begin, and windows that begin there.

Source: modded-nanogpt, record of 12 July 2025, whose data loader cuts every sequence at a document's beginning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from primer.data.batches import TokenSequence

BLOCK = 1 << 22
"""Tokens that are looked through at once."""

Places = npt.NDArray[np.int64]
"""Positions in a text, ascending."""


def document_starts(tokens: TokenSequence, begin: int) -> Places:
    """Where the id `begin` stands: 8 bytes a document, whatever the length of the text."""
    found = [np.empty(0, np.int64)]
    for start in range(0, len(tokens), BLOCK):
        found.append(np.flatnonzero(tokens[start : start + BLOCK] == begin) + start)
    return np.concatenate(found)


def aligned(documents: Places, length: int, end: int, first: int) -> Places:
    """Starts of windows of `length` tokens, each at a document, from `documents[first]` once around the text.

    Each next window begins at the first document that is not before the last one's end; behind the text's end, at
    `end`, follow the documents from its beginning. A window fits before `end`, and no token is in two of them.
    """
    once_around = np.concatenate([documents[first:], documents[:first] + end])
    last = np.searchsorted(once_around, documents[first] + end - length, side="right")
    return spaced(once_around[:last], length) % end


def spaced(places: Places, distance: int) -> Places:
    """The first of `places`, then always the next one that is at least `distance` further on.

    From all places at once: where one step leads, then two, four, eight …; and with each of these the way that was
    found doubles its length. log₂ rounds, each of them NumPy's.
    """
    beyond = len(places)
    step = np.append(np.searchsorted(places, places + distance), beyond)
    way = np.zeros(1, np.intp)
    while way[-1] < beyond:
        way = np.concatenate([way, step[way]])
        step = step[step]
    return places[way[way < beyond]]
