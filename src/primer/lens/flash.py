"""What flash attention does with a model's own queries, keys and values: one head, a tile at a time."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from primer.errors import UsageError
from primer.kernels.attention import reference, tiled
from primer.kernels.attention.tiles import Kind, Tile, naive_bytes
from primer.lens.trace import trace
from primer.nn.attention import Heads
from primer.nn.probe import probes


@dataclass(frozen=True)
class Head:
    """What went into one head's attention while a model read, what came out, and the options of that attention."""

    q: Float[Tensor, "1 1 T D"]
    k: Float[Tensor, "1 1 S D"]
    v: Float[Tensor, "1 1 S Dv"]
    z: Float[Tensor, "1 1 T Dv"]
    options: dict[str, Any]


@dataclass(frozen=True)
class Step:
    """What one tile did for one of its queries. None where there is no number yet: no key was seen."""

    queries: tuple[int, int]
    """The first, and the one after the last."""
    keys: tuple[int, int]
    kind: Kind
    row: int
    """The query that is followed."""
    max_before: float | None
    max_after: float | None
    sum_before: float
    sum_after: float
    rescale: float
    moved: int
    """Bytes to and from slow memory so far."""


@dataclass(frozen=True)
class Walk:
    """All tiles, and whether it came out right."""

    steps: list[Step]
    error: float
    """The largest difference to equation 1, of the same queries, keys and values."""
    model_error: float
    """And to what the model itself computed with them."""
    moved: int
    """Bytes to and from slow memory."""
    naive: int
    """What equation 1 moves, a step at a time (`tiles.naive_bytes`)."""

    def count(self, kind: Kind) -> int:
        """How many tiles there are of a kind."""
        return sum(step.kind == kind for step in self.steps)


def head_of(
    model: nn.Module,
    tokens: Int[Tensor, "1 T"] | tuple[Int[Tensor, "1 S"], Int[Tensor, "1 T"]],
    place: str,
    head: int,
) -> Head:
    """Let a model read one text, and hear one head. place: `layers.3`, `decoder.0.cross`, … UsageError for no head."""
    seen = {name: value.cpu() for name, value in trace(model, tokens, [f"{place}.[qkvz]"]).items()}
    q, k, v, z = (seen[f"{place}.{name}"] for name in "qkvz")
    if not 0 <= head < q.shape[1]:
        raise UsageError(f"{place} has the heads 0 to {q.shape[1] - 1}, not {head}", hint="--head=0")
    heads = owner(model, place)
    options = {"causal": heads.causal, "softmax_scale": heads.softmax_scale}
    shared = head * k.shape[1] // q.shape[1]  # the key and value head of its group
    return Head(
        q[:, head : head + 1],
        k[:, shared : shared + 1],
        v[:, shared : shared + 1],
        z[:, head : head + 1],
        options,
    )


def owner(model: nn.Module, place: str) -> Heads:
    """The attention whose queries are heard at a place."""
    probe = probes(model)[f"{place}.q"]
    return next(each for each in model.modules() if isinstance(each, Heads) and each.q is probe)


def walk(head: Head, *, block_q: int, block_k: int, row: int | None = None) -> Walk:
    """Compute a head's attention in tiles, and keep what each of them did.

    row: the query that is followed; of blocks that it is not in, and unset, the last query of each block.
    """
    q, k, v = head.q, head.k, head.v
    steps, outs = [], []
    for tile in tiled.trace(q, k, v, **head.options, block_q=block_q, block_k=block_k):
        steps.append(step_of(tile, row))
        if tile.last:
            outs.append(tile.after.finished()[0])
    out = torch.cat(outs, dim=2)  # (1, 1, T, Dv)
    truth, _ = reference.attention(q, k, v, **head.options)
    return Walk(
        steps,
        error=float((out - truth).abs().max()),
        model_error=float((out - head.z).abs().max()),
        moved=steps[-1].moved,
        naive=naive_bytes(q, k, v),
    )


def step_of(tile: Tile, row: int | None) -> Step:
    """A tile as plain numbers, about the query that is followed."""
    followed = tile.queries[-1] if row is None or row not in tile.queries else row
    at = (0, 0, followed - tile.queries.start)
    return Step(
        queries=(tile.queries.start, tile.queries.stop),
        keys=(tile.keys.start, tile.keys.stop),
        kind=tile.kind,
        row=followed,
        max_before=finite(tile.before.max[at]),
        max_after=finite(tile.after.max[at]),
        sum_before=float(tile.before.sum[at]),
        sum_after=float(tile.after.sum[at]),
        rescale=float(tile.rescale[at]),
        moved=tile.moved,
    )


def finite(x: Float[Tensor, ""]) -> float | None:
    """A number; None for the maximum of nothing."""
    return float(x) if bool(torch.isfinite(x)) else None
