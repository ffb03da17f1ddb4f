"""Attention of some heads, a tile of weights at a time, forward and backward.

The forward pass goes by blocks of queries, so that a row of weights is complete when it is normalised. The backward
pass goes by blocks of keys, so that only the gradient of the queries has to be summed up. It computes the weights again
from L, the log of each row's sum of exponentials (Dao et al. 2022, FlashAttention, appendix B.4; M is dropout's mask):

    P = exp(S − L)   dP = M∘(dO·Vᵀ)/(1 − p)   dS = P∘(dP − rowsum(dO∘O))   dQ = dS·K   dK = dSᵀ·Q   dV = (M∘P)ᵀ·dO/(1 − p)

Scores are powers of two here, log₂e times what they are elsewhere: a CPU takes 2^x in half the time of e^x.

Every product is written to a whole tensor, and copied into its place: given a part of one to write into, `bmm` falls
back to one small product a head.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from primer.kernels.attention.cpu_plan import Part, Sight
from primer.kernels.random import KeptTiles

LOG2_E = 1 / math.log(2)
LOWEST = -1e30
"""Stands for −∞ as the largest score of a row that sees nothing: the difference of two infinities is no number."""


class Rule(NamedTuple):
    """What weights are computed by: see `attention`."""

    causal: bool
    window: int | None
    scale: float
    soft_cap: float
    dropout: float
    seed: int


class Operands(NamedTuple):
    """What weights are computed from: key heads, n or N of them, each shared by G query heads."""

    q: Float[Tensor, "N G T D"]
    k: Float[Tensor, "N S D"]
    v: Float[Tensor, "N S Dv"]
    unseen: Float[Tensor, "N 1 S"] | None
    """−∞ for keys that nobody sees, else 0."""
    rows: Int[Tensor, "N G T"] | None
    thresholds: UInt8[Tensor, "N G T"] | None
    kept: KeptTiles | None
    first_key: int = 0

    def of(self, part: Part) -> "Operands":
        heads, queries, keys, _ = part
        return self._replace(
            q=self.q[heads, :, queries],
            k=self.k[heads, keys],
            v=self.v[heads, keys],
            unseen=None if self.unseen is None else self.unseen[heads, :, keys],
            rows=None if self.rows is None else self.rows[heads, :, queries],
            thresholds=None if self.thresholds is None else self.thresholds[heads, :, queries],
            first_key=keys.start,
        )


class Memory:
    """What one thread writes its tiles over, again and again."""

    def __init__(self, like: Tensor, tiles: int, size: int, words: int) -> None:
        self.tiles, self.words = like.new_empty(tiles, size), torch.empty(2, words, dtype=torch.int32)

    def tile(self, number: int, *shape: int) -> Tensor:
        return self.tiles[number, : math.prod(shape)].view(shape)


def scores(x: Operands, rule: Rule, sight: Sight, rows: Tensor, query: int, keys: slice, base: Tensor | None, memory: Memory) -> tuple[Tensor, Tensor | None]:
    """S·log₂e, plus `base`"""
    n, R, _ = rows.shape
    s = memory.tile(0, n, R, keys.stop - keys.start)
    columns = x.k[:, keys].transpose(1, 2)
    bent = None
    if rule.soft_cap:
        bent = torch.baddbmm(bent, rows, columns, beta=0, alpha=rule.scale / rule.soft_cap, out=memory.tile(3, *s.shape)).tanh_()
        torch.mul(bent, rule.soft_cap * LOG2_E, out=s)
        if base is not None: s.add_(base)
    else:
        torch.baddbmm(s if base is None else base, rows, columns, beta=float(base is not None), alpha=rule.scale * LOG2_E, out=s)
    sight.hide(s.unflatten(1, (x.q.shape[1], -1)), query, keys.start)
    if x.unseen is not None:
        s.add_(x.unseen[:, :, keys])
    return s, bent

def mask(x: Operands, start: int, stop: int, keys: slice, memory: Memory) -> Tensor:
    rows,thresholds = (y[:, :, start:stop].flatten(1, 2) for y in (x.rows, x.thresholds))
    out = memory.tile(2, *rows.shape, keys.stop - keys.start)
    return x.kept.write(out, rows, thresholds, x.first_key + keys.start, memory.words)

def forward(x, rule, sight, step, out, lse, memory):
    G = x.q.shape[1]
    for start in range(0, sight.T, step):
        stop = min(start + step, sight.T)
        first, end = sight.keys(start, stop)
        if first >= end:
            out[:, :, start:stop] = 0; lse[:, :, start:stop] = -torch.inf
            continue
        keys = slice(first, end)
        rows = x.q[:, :, start:stop].flatten(1, 2)
        s, _ = scores(x, rule, sight, rows, start, keys, None, memory)
        top = s.amax(-1, keepdim=True).clamp_(min=LOWEST)
        p = s.sub_(top).exp2_()
        total = p.sum(-1, keepdim=True)
        if rule.dropout:
            p.mul_(mask(x, start, stop, keys, memory))
        z = torch.bmm(p, x.v[:, keys])
        lse[:, :, start:stop] = top.add_(total.log2()).mul_(1 / LOG2_E).view(len(z), G, -1)
        torch.div(z.unflatten(1, (G, -1)), total.clamp_(min=1).mul_(1 - rule.dropout).unflatten(1, (G, -1)), out=out[:, :, start:stop])

def backward(x, rule, sight, step, out, lse, d_out, dq, dk, dv, memory):
    G = x.q.shape[1]
    delta = (d_out * out).sum(-1, keepdim=True).neg_()
    d_out = d_out * (1 / (1 - rule.dropout)) 
    base = (lse * -LOG2_E).clamp_(max=-LOWEST).unsqueeze(-1)
    for first in range(0, sight.S, step):
        keys = slice(first, min(first + step, sight.S))
        start, stop = sight.queries(first, keys.stop)
        if start >= stop: continue
        rows, dz, level, sums = (y[:, :, start:stop].flatten(1, 2) for y in (x.q, d_out, base, delta))
        s, bent = scores(x, rule, sight, rows, start, keys, level, memory)
        p = s.exp2_()
        dp = memory.tile(1, *p.shape)
        columns = x.v[:, keys].transpose(1, 2)
        if rule.dropout:
            kept = mask(x, start, stop, keys, memory)
            torch.bmm(dz, columns, out=dp)
            ds = torch.addcmul(sums, dp, kept, out=dp).mul_(p)
            p.mul_(kept)
        else:
            ds = torch.baddbmm(sums, dz, columns, out=dp).mul_(p)
        dv[:, keys] = torch.bmm(p.transpose(1, 2), dz)
        if bent is not None:
            ds = torch.ops.aten.tanh_backward(ds, bent)
        dk[:, keys] = torch.baddbmm(dk, ds.transpose(1, 2), rows, beta=0, alpha=rule.scale)
        dq[:, :, start:stop] += torch.baddbmm(dq, ds, x.k[:, keys], beta=0, alpha=rule.scale).unflatten(1, (G, -1))
