"""Attention of some heads, a tile of weights at a time, forward and backward.

The forward pass goes by blocks of queries, so that a row of weights is complete when it is normalised. The backward
pass goes by blocks of keys, so that only the gradient of the queries has to be summed up. It computes the weights again
from L, the log of each row's sum of exponentials (Dao et al. 2022, FlashAttention, appendix B; M is dropout's mask):

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

from primer.kernels.attention.cpu_plan import Sight
from primer.kernels.random import KeptTiles, Words

LOG2_E = 1 / math.log(2)
LOWEST = -1e30
"""Stands for −∞ as the largest score of a row that sees nothing: the difference of two infinities is no number."""
BLOCK = 64
"""Queries, or keys, at once: few enough to skip most of what is hidden, enough for a matrix product to be fast."""


class Rule(NamedTuple):
    """What weights are computed by: see `attention`."""

    causal: bool
    window: int | None
    scale: float
    soft_cap: float
    dropout: float


class Memory:
    """What one thread writes its tiles over, again and again. Views of a shape are made once."""

    def __init__(self, like: Tensor, size: int, words: int) -> None:
        self.flat = [like.new_empty(size) for _ in range(4)]
        self.words = Words(words)
        self.known: dict[tuple[int, ...], Tensor] = {}

    def tile(self, number: int, *shape: int) -> Tensor:
        key = (number, *shape)
        if key not in self.known:
            self.known[key] = self.flat[number][: math.prod(shape)].view(shape)
        return self.known[key]


class Part(NamedTuple):
    """What one thread does at once: n key heads of one piece, and the G query heads of each."""

    q: Float[Tensor, "n G T D"]
    k: Float[Tensor, "n S D"]
    v: Float[Tensor, "n S Dv"]
    unseen: Float[Tensor, "n 1 S"] | None
    """−∞ for keys that nobody sees, else 0."""
    kept: KeptTiles | None
    rows: Int[Tensor, "n G T"] | None
    thresholds: UInt8[Tensor, "n G T"] | None
    first_key: int
    sight: Sight
    rule: Rule
    memory: Memory

    def forward(self, out: Float[Tensor, "n G T Dv"], lse: Float[Tensor, "n G T"]) -> None:
        """Write the means of the values and the logs of the rows' sums."""
        G, T = self.q.shape[1:3]
        for start in range(0, T, BLOCK):
            stop = min(start + BLOCK, T)
            keys = slice(*self.sight.keys(start, stop))
            if keys.start >= keys.stop:
                out[:, :, start:stop], lse[:, :, start:stop] = 0, -torch.inf
                continue
            q = rows(self.q, start, stop)
            s, _ = self.scores(q, start, keys, None)
            top = s.amax(-1, keepdim=True).clamp_(min=LOWEST)
            p = s.sub_(top).exp2_()
            total = p.sum(-1, keepdim=True)
            if self.kept:
                p.mul_(self.mask(start, stop, keys))
            z = product(p, self.v[:, keys], self.memory.tile(2, *q.shape[:2], self.v.shape[2]))
            lse[:, :, start:stop] = top.add_(total.log2()).mul_(1 / LOG2_E).view(len(z), G, -1)
            z.div_(total.clamp_(min=1).mul_(1 - self.rule.dropout))
            out[:, :, start:stop] = z.unflatten(1, (G, -1))

    def backward(self, out, lse, d_out, dq, dk, dv) -> None:
        """Write the gradients."""
        G, rule = self.q.shape[1], self.rule
        delta = (d_out * out).sum(-1, keepdim=True).neg_()
        base = (lse * -LOG2_E).clamp_(max=-LOWEST).unsqueeze(-1)
        d_out = d_out / (1 - rule.dropout)
        dq.zero_()
        for first in range(0, len(self.k[0]), BLOCK):
            keys = slice(first, min(first + BLOCK, len(self.k[0])))
            start, stop = self.sight.queries(first, keys.stop)
            if start >= stop:
                dk[:, keys] = dv[:, keys] = 0
                continue
            q, dz, level, drop = (rows(x, start, stop) for x in (self.q, d_out, base, delta))
            s, bent = self.scores(q, start, keys, level)
            p = s.exp2_()
            n, R, K = p.shape
            ds = self.memory.tile(1, n, R, K)
            v = self.v[:, keys].transpose(1, 2)
            if self.kept:
                kept = self.mask(start, stop, keys)
                torch.addcmul(drop, product(dz, v, ds), kept, out=ds).mul_(p)
                p.mul_(kept)
            else:
                torch.baddbmm(drop, dz, v, out=ds).mul_(p)
            if bent is not None:
                torch.ops.aten.tanh_backward(ds, bent, grad_input=ds)
            dv[:, keys] = product(p.transpose(1, 2), dz, self.memory.tile(2, n, K, dz.shape[2]))
            dk[:, keys] = product(ds.transpose(1, 2), q, self.memory.tile(2, n, K, q.shape[2]), rule.scale)
            change = product(ds, self.k[:, keys], self.memory.tile(2, *q.shape), rule.scale)
            dq[:, :, start:stop] += change.unflatten(1, (G, -1))

    def scores(self, q, query: int, keys: slice, base: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """log₂e times the scores of a tile, plus `base`, and the tanh of a soft cap."""
        s, k, bent, cap = self.memory.tile(0, *q.shape[:2], keys.stop - keys.start), self.k[:, keys].transpose(1, 2), None, self.rule.soft_cap
        if cap:
            bent = product(q, k, self.memory.tile(3, *s.shape), self.rule.scale / cap).tanh_()
            torch.mul(bent, cap * LOG2_E, out=s)
            if base is not None:
                s.add_(base)
        elif base is None:
            product(q, k, s, self.rule.scale * LOG2_E)
        else:
            torch.baddbmm(base, q, k, alpha=self.rule.scale * LOG2_E, out=s)
        self.sight.hide(s.unflatten(1, (self.q.shape[1], -1)), query, keys.start)
        if self.unseen is not None:
            s.add_(self.unseen[:, :, keys])
        return s, bent

    def mask(self, start, stop, keys) -> Tensor:
        """1 for what dropout leaves of a tile, else 0."""
        r, t = rows(self.rows, start, stop), rows(self.thresholds, start, stop)
        out = self.memory.tile(2, *r.shape, keys.stop - keys.start)
        return self.kept.write(out, r, t, self.first_key + keys.start, self.memory.words)


def rows(x, start, stop):
    """A block of the queries of all heads that share a key head, as rows of one matrix."""
    return x[:, 0, start:stop] if x.shape[1] == 1 else x[:, :, start:stop].flatten(1, 2)


def product(a, b, out, scale = 1.0):
    return torch.baddbmm(out, a, b, beta=0, alpha=scale, out=out)
