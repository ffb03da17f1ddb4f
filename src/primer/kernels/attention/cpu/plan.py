"""Which tiles of the T × S table of weights are computed at all, in whole numbers: no tensor says what is visible.

Documents that are packed in one row do not see each other, so each is a sequence of its own; and in one sequence all
limits are distances, from a query to the first and to the last key that it sees.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from primer.kernels.attention.visible import document_bounds

BLOCK = 64
"""Queries, or keys, at once: few enough to skip most of what is hidden, enough for a matrix product to be fast."""


@dataclass(frozen=True)
class Sight:
    """T queries, the last of S positions, see keys from `back` positions before their own to `ahead` after it."""

    T: int
    S: int
    back: int
    ahead: int

    @classmethod
    def of(cls, T: int, S: int, causal: bool, window: int | None) -> "Sight":
        reach = T + S if window is None else window - 1  # T + S is farther than any distance
        return cls(T, S, reach, 0 if causal else reach)

    def keys(self, start: int, stop: int) -> slice:
        """The keys that any of the queries from `start` to before `stop` sees."""
        place = self.S - self.T
        first = max(0, start + place - self.back)
        return slice(first, max(first, min(self.S, stop + place + self.ahead)))

    def queries(self, start: int, stop: int) -> slice:
        """The queries that see any of the keys from `start` to before `stop`."""
        place = self.S - self.T
        first = max(0, start - place - self.ahead)
        return slice(first, max(first, min(self.T, stop - place + self.back)))

    def blocks(self, *, by_keys: bool) -> Iterator[tuple[slice, slice]]:
        """Tiles that cover what is visible, as queries and keys: blocks of queries (or keys), and all these see."""
        size = self.S if by_keys else self.T
        for start in range(0, size, BLOCK):
            block = slice(start, min(start + BLOCK, size))
            yield (
                (self.queries(start, block.stop), block) if by_keys else (block, self.keys(start, block.stop))
            )

    def largest(self, *, by_keys: bool) -> tuple[int, int]:
        """No tile of `blocks` has more queries, or more keys."""
        near = BLOCK + self.back + self.ahead
        return (min(self.T, near), min(self.S, BLOCK)) if by_keys else (min(self.T, BLOCK), min(self.S, near))

    def hide(self, scores: Float[Tensor, "#n #G R K"], query: int, key: int) -> None:
        """Add −∞ where a key is too far ahead or back. The scores are a tile's, from that query and that key on.

        What is too far lies in two of the tile's corners, and no more than the rectangles around them is touched.
        """
        R, K = scores.shape[-2:]
        place = query + self.S - self.T - key  # where the first query stands, counted from the first key
        rows, column = min(R, K - 1 - self.ahead - place), max(0, place + self.ahead + 1)
        if rows > 0 and column < K:
            diagonal = place + self.ahead + 1 - column
            found = corner(rows, K - column, diagonal, upper=True)
            scores[..., :rows, column:].add_(torch.from_numpy(found))
        row, columns = max(0, self.back + 1 - place), min(K, R - 1 + place - self.back)
        if row < R and columns > 0:
            diagonal = place + row - self.back - 1
            found = corner(R - row, columns, diagonal, upper=False)
            scores[..., row:, :columns].add_(torch.from_numpy(found))


@lru_cache(maxsize=16)
def corner(rows: int, columns: int, diagonal: int, *, upper: bool) -> Float32[np.ndarray, "rows columns"]:
    """−∞ from a diagonal on to the upper right, or to the lower left, else 0. Tiles have few different ones.

    numpy's, because a tensor that is kept would be that of the mode or device in which it was first asked for.
    """
    ahead = np.arange(columns) - np.arange(rows)[:, None]
    return np.where(ahead >= diagonal if upper else ahead <= diagonal, np.float32(-np.inf), np.float32(0))


def pieces_of(document_ids: Int[Tensor, "B S"]) -> int:
    """How many `pieces` there are."""
    return len(document_ids) + int(document_ids.diff().count_nonzero())


def pieces(
    B: int, T: int, S: int, document_ids: Int[Tensor, "B S"] | None
) -> Iterator[tuple[slice, slice, slice]]:
    """What sees nothing but itself, as rows, queries and keys: all there is, or each row's documents.

    The queries of a piece are the last of its keys, and each key is in one piece.
    """
    if document_ids is None:
        yield slice(0, B), slice(0, T), slice(0, S)
        return
    begins, _ = document_bounds(document_ids)
    for row, own in enumerate(begins):
        for first, end in pairwise([*own.unique_consecutive().tolist(), S]):
            queries = slice(max(0, first - S + T), max(0, end - S + T))
            yield slice(row, row + 1), queries, slice(first, end)
