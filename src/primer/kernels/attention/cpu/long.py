"""Long sequences on a CPU: the table of weights is cut into parts, which threads share, and is never written down."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.autograd.function import once_differentiable

from primer.kernels.attention.cpu.plan import Sight, pieces
from primer.kernels.attention.cpu.threads import share, workers
from primer.kernels.attention.cpu.tiles import Dropped, Memory, Part
from primer.kernels.random import KeptTiles

TILE = 1 << 18
"""Weights in a tile: few enough for a processor's cache, enough for the time that a call takes not to matter."""
MANY = 1 << 20
"""Weights that are worth another thread: some milliseconds of work. With fewer, threads share each operation."""


class Rule(NamedTuple):
    """How weights are computed, beside from what: see `attention`."""

    causal: bool
    window: int | None
    scale: float
    soft_cap: float
    dropout: float


class Place(NamedTuple):
    """Where a part stands in the table: some rows and key heads, queries and keys, and what these queries see."""

    rows: slice
    heads: slice
    queries: slice
    keys: slice
    sight: Sight

    def of_keys(self, x: Float[Tensor, "B Hkv S D"]) -> Float[Tensor, "_ _ _ D"]:
        return x[self.rows, self.heads, self.keys]

    def of_queries(self, x: Shaped[Tensor, "B Hkv G T *D"]) -> Shaped[Tensor, "_ _ G _ *D"]:
        return x[self.rows, self.heads, :, self.queries]


class Table:
    """What all weights are computed from, cut into parts that threads share."""

    def __init__(
        self,
        q: Float[Tensor, "B Hkv G T D"],
        k: Float[Tensor, "B Hkv S D"],
        v: Float[Tensor, "B Hkv S Dv"],
        seen: Bool[Tensor, "B S"] | None,
        document_ids: Int[Tensor, "B S"] | None,
        seed: Int[Tensor, ""] | None,
        rule: Rule,
    ) -> None:
        self.q, self.k, self.v, self.document_ids, self.rule = q, k, v, document_ids, rule
        self.unseen = None
        if seen is not None:
            unseen = torch.zeros_like(seen, dtype=q.dtype).masked_fill_(~seen, -torch.inf)
            self.unseen = unseen[:, None, :, None].expand(-1, k.shape[1], -1, -1)  # (B, Hkv, S, 1)
        self.dropped = None
        if seed is not None:
            kept = KeptTiles(int(seed), math.prod(q.shape[:3]), q.shape[3], rule.dropout)
            rows, thresholds = (x.view(q.shape[:4]) for x in (kept.rows, kept.thresholds))
            self.dropped = Dropped(kept, rows, thresholds, 0, rule.dropout)

    def share(self, work: Callable[[Part, Place], None], *, by_keys: bool) -> None:
        """Do `work` on all parts, whose tiles are blocks of keys, or of queries."""
        (B, Hkv, G, T, _), S = self.q.shape, self.k.shape[2]
        found, weights = [], 0
        for rows, queries, keys in pieces(B, T, S, self.document_ids):
            sight = Sight.of(
                queries.stop - queries.start, keys.stop - keys.start, self.rule.causal, self.rule.window
            )
            R, K = sight.largest(by_keys=by_keys)
            in_tiles = R * sight.S if by_keys else sight.T * K  # at most
            weights += (rows.stop - rows.start) * Hkv * G * in_tiles
            found.append((rows, queries, keys, sight, G * R * K))
        threads = workers(B * Hkv) if weights >= MANY else 1
        places = [
            Place(*some, queries, keys, sight)
            for rows, queries, keys, sight, at_once in found
            for some in cuts(rows, Hkv, at_once, -(-threads // len(found)))
        ]
        memories = [Memory() for _ in range(max(1, min(threads, len(places))))]
        share(lambda place, memory: work(self.part(place, memory), place), places, memories)

    def part(self, place: Place, memory: Memory) -> Part:
        dropped = self.dropped
        if dropped:
            rows, thresholds = (place.of_queries(x).flatten(0, 1) for x in (dropped.rows, dropped.thresholds))
            dropped = dropped._replace(rows=rows, thresholds=thresholds, first_key=place.keys.start)
        return Part(
            memory.dense(6, place.of_queries(self.q)),
            memory.dense(7, place.of_keys(self.k)),
            memory.dense(8, place.of_keys(self.v)),
            None if self.unseen is None else place.of_keys(self.unseen).flatten(0, 1).transpose(1, 2),
            dropped,
            place.sight,
            self.rule.scale,
            self.rule.soft_cap,
            memory,
        )


def cuts(rows: slice, heads: int, weights: int, least: int) -> Iterator[tuple[slice, slice]]:
    """Rows and heads in parts that no tile is too small for: of whole rows, or else of one row.

    `weights` of each head are in a tile at once. There are at least `least` parts, if there are so many heads.
    """
    count = rows.stop - rows.start
    if count >= least and heads * weights <= TILE:
        yield from ((some, slice(0, heads)) for some in split(rows, heads * weights, least))
        return
    for row in range(rows.start, rows.stop):
        for some in split(slice(0, heads), weights, -(-least // count)):
            yield slice(row, row + 1), some


def split(whole: slice, weights: int, least: int) -> Iterator[slice]:
    """Parts, as large as a tile has room for, whose number `least` divides: then no thread waits for the last part."""
    size = whole.stop - whole.start
    parts = -(-size // max(1, TILE // max(1, weights)))
    parts = min(size, -(-parts // least) * least)
    for part in range(parts):
        yield slice(whole.start + size * part // parts, whole.start + size * (part + 1) // parts)


def attend(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S Dv"],
    seen: Bool[Tensor, "B S"] | None,
    document_ids: Int[Tensor, "B S"] | None,
    seed: Int[Tensor, ""] | None,
    *rule: Any,
) -> tuple[Float[Tensor, "B H T Dv"], Float[Tensor, "B H T"]]:
    """What comes out, and the log of each row's sum of exponentials. Without a seed nothing is dropped."""
    groups = (k.shape[1], -1)
    out, lse = by_position(q, v.shape[3]), q.new_empty(q.shape[:3])
    whole_out, whole_lse = out.unflatten(1, groups), lse.unflatten(1, groups)

    def work(part: Part, place: Place) -> None:
        part.forward(place.of_queries(whole_out), place.of_queries(whole_lse))

    Table(q.unflatten(1, groups), k, v, seen, document_ids, seed, Rule(*rule)).share(work, by_keys=False)
    return out, lse


def attend_backward(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S Dv"],
    seen: Bool[Tensor, "B S"] | None,
    document_ids: Int[Tensor, "B S"] | None,
    seed: Int[Tensor, ""] | None,
    out: Float[Tensor, "B H T Dv"],
    lse: Float[Tensor, "B H T"],
    d_out: Float[Tensor, "B H T Dv"],
    *rule: Any,
) -> tuple[Float[Tensor, "B H T D"], Float[Tensor, "B Hkv S D"], Float[Tensor, "B Hkv S Dv"]]:
    """The gradients of q, k and v."""
    dq, dk, dv = (by_position(x, x.shape[3]) for x in (q, k, v))
    groups = (k.shape[1], -1)
    by_query = [x.unflatten(1, groups) for x in (out, lse, d_out, dq)]

    def work(part: Part, place: Place) -> None:
        out, lse, d_out, dq = (place.of_queries(x) for x in by_query)
        part.backward(out, lse, d_out, dq, place.of_keys(dk), place.of_keys(dv))

    with torch.autocast("cpu", enabled=False):  # whoever asks for gradients may be inside of one
        Table(q.unflatten(1, groups), k, v, seen, document_ids, seed, Rule(*rule)).share(work, by_keys=True)
    return dq, dk, dv


def by_position(x: Float[Tensor, "B H T _"], width: int) -> Float[Tensor, "B H T width"]:
    """Memory in which the heads of a position lie side by side, as projections before and after have them."""
    return x.new_empty(x.shape[0], x.shape[2], x.shape[1], width).transpose(1, 2)


ASKED = "bool causal, SymInt? window, float scale, float soft_cap, float dropout"
GIVEN = "Tensor q, Tensor k, Tensor v, Tensor? seen, Tensor? document_ids, Tensor? seed"
# To torch.compile these are operators of their own: it would unroll every tile, and cannot see through numpy's words.
attend_opaque = torch.library.custom_op(
    "primer::cpu_attention", attend, mutates_args=(), schema=f"({GIVEN}, {ASKED}) -> (Tensor, Tensor)"
)
attend_backward_opaque = torch.library.custom_op(
    "primer::cpu_attention_backward",
    attend_backward,
    mutates_args=(),
    schema=f"({GIVEN}, Tensor out, Tensor lse, Tensor d_out, {ASKED}) -> (Tensor, Tensor, Tensor)",
)


@attend_opaque.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return by_position(q, v.shape[3]), q.new_empty(q.shape[:3])


@attend_backward_opaque.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return by_position(q, q.shape[3]), by_position(k, k.shape[3]), by_position(v, v.shape[3])


class LongAttention(torch.autograd.Function):
    """`attend`, whose backward pass computes the weights again: what is kept in between grows with T, not with T²."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, *how: Any) -> tuple[Tensor, Tensor]:
        seen, document_ids, seed, *ctx.asked = how
        run = attend_opaque if torch.compiler.is_compiling() else attend
        out, lse = run(q, k, v, *how)
        ctx.save_for_backward(q, k, v, seen, document_ids, seed, out, lse)
        ctx.mark_non_differentiable(lse)
        return out, lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        run = attend_backward_opaque if torch.compiler.is_compiling() else attend_backward
        return *run(*ctx.saved_tensors, grads[0], *ctx.asked), *[None] * (3 + len(ctx.asked))
