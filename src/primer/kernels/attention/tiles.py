"""The T × S table of scores cut into tiles, which is never written down as a whole: what is visible in each of them,
and the record of what became of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from primer.errors import UsageError
from primer.kernels.attention.visible import Spans

Kind = Literal["skipped", "masked", "full"]
"""A tile of which no query may see any key; of which some pairs are hidden; of which every query sees every key."""


class Running(NamedTuple):
    """What a block of queries knows after some of its keys: softmax before its division (`tiled.online`)."""

    max: Float[Tensor, "B H T"]
    """m: each query's largest score so far; −∞ for one that has seen no key."""
    sum: Float[Tensor, "B H T"]
    """l = Σ exp(score − m)."""
    out: Float[Tensor, "B H T Dv"]
    """O = Σ exp(score − m)·v, not yet divided by l."""

    @classmethod
    def start(cls, q: Float[Tensor, "B H T D"], width: int) -> "Running":
        """Before the first key: the maximum of nothing, and sums of nothing."""
        nothing = q.new_zeros(q.shape[:3])
        return cls(torch.full_like(nothing, -torch.inf), nothing, q.new_zeros(*q.shape[:3], width))

    def finished(self) -> tuple[Float[Tensor, "B H T Dv"], Float[Tensor, "B H T"]]:
        """The output O / l and L = m + log l, the log of the sum of exponentials; 0 and −∞ where no key was seen."""
        seen = self.sum.masked_fill(self.sum == 0, 1.0)
        return self.out / seen[..., None], self.max + self.sum.log()


@dataclass(frozen=True)
class Tile:
    """One tile, in the order in which the forward pass comes to them."""

    queries: range
    keys: range
    kind: Kind
    before: Running
    after: Running
    rescale: Float[Tensor, "B H T"]
    """α = exp(m before − m after): what `sum` and `out` were multiplied by. 0 where this was a query's first."""
    moved: int
    """Bytes read from and written to slow memory so far, this tile's and all before it."""
    last: bool
    """Whether its queries are done with it: `after` is then what becomes their output."""


class Tiling:
    """How T queries by S keys are cut, and what may be seen in each tile."""

    def __init__(
        self,
        visible: Spans,
        seen: Bool[Tensor, "B S"] | None,
        sizes: tuple[int, int],
        blocks: tuple[int, int],
    ) -> None:
        """sizes: T and S. blocks: how many queries and keys a tile has; those at the end may have fewer."""
        if min(blocks) < 1:
            raise UsageError(f"a tile has one query and one key or more, not {blocks[0]} and {blocks[1]}")
        self.T, self.S = sizes
        self.queries, self.keys = (cut(size, block) for size, block in zip(sizes, blocks, strict=True))
        self.visible, self.seen = visible, seen
        # Over all rows of the batch, whose queries are computed together: what some see, and what all see.
        self.some = Ends(visible.first.amin(0).tolist(), visible.last.amax(0).tolist())
        self.every = Ends(visible.first.amax(0).tolist(), visible.last.amin(0).tolist())
        self.tokens = {
            keys: (True, True) if seen is None else some_and_all(seen[:, keys.start : keys.stop])
            for keys in self.keys
        }

    def kind(self, queries: range, keys: range) -> Kind:
        """What the mask of a tile would say, from four numbers: both ends of a span only grow with the query."""
        a, z = queries[0], queries[-1]
        some_are_tokens, all_are_tokens = self.tokens[keys]
        if keys[-1] < self.some.first[a] or keys[0] > self.some.last[z] or not some_are_tokens:
            return "skipped"
        if keys[0] >= self.every.first[z] and keys[-1] <= self.every.last[a] and all_are_tokens:
            return "full"
        return "masked"

    def hidden(self, queries: range, keys: range) -> Bool[Tensor, "B 1 T S"]:
        """True where a query of the tile may not see a key of it, the same for all heads."""
        first, last = (end[:, queries.start : queries.stop, None] for end in self.visible)  # (B, T, 1)
        s = torch.arange(keys.start, keys.stop, device=first.device)
        hidden = (s < first) | (s > last)
        if self.seen is not None:
            hidden = hidden | ~self.seen[:, None, keys.start : keys.stop]
        return hidden[:, None]


class Ends(NamedTuple):
    """`Spans` as plain numbers, one pair a query."""

    first: Sequence[int]
    last: Sequence[int]


def cut(size: int, block: int) -> list[range]:
    """0 … size − 1 in blocks; the last one is what is left.

    >>> cut(7, 3)
    [range(0, 3), range(3, 6), range(6, 7)]
    """
    return [range(start, min(start + block, size)) for start in range(0, size, block)]


def some_and_all(flags: Bool[Tensor, "B S"]) -> tuple[bool, bool]:
    """Whether some are true, and whether all are."""
    return bool(flags.any()), bool(flags.all())


def naive_bytes(
    q: Float[Tensor, "B H T D"], k: Float[Tensor, "B Hkv S D"], v: Float[Tensor, "B Hkv S Dv"]
) -> int:
    """What equation 1 moves to and from slow memory when each of its steps is a pass of its own.

    Dao et al. 2022, Algorithm 0: read Q and K, write S; read S, write P; read P and V, write O. Four tables of T × S.
    """
    (B, H, T, _), S = q.shape, k.shape[2]
    table = B * H * T * S * q.itemsize
    out = B * H * T * v.shape[3] * q.itemsize
    return q.nbytes + k.nbytes + table + 2 * table + table + v.nbytes + out
