"""Attention of some heads, a tile of weights at a time, forward and backward.

The forward pass goes by blocks of queries, so that a row of weights is complete when it is normalised. The backward
pass goes by blocks of keys, so that only the gradient of the queries has to be summed up. It computes the weights again
from L, the log of each row's sum of exponentials (Dao et al. 2022, FlashAttention, appendix B; M is dropout's mask):

    P = exp(S − L)              dP = M∘(dO·Vᵀ) / (1 − p)      dS = P∘(dP − rowsum(dO∘O))
    dV = (M∘P)ᵀ·dO / (1 − p)    dQ = dS·K · scale             dK = dSᵀ·Q · scale

Scores are powers of two here, log₂e times what they are elsewhere: a CPU takes 2^x in half the time of e^x.

Every product is written to a whole tensor, and copied into its place: given a part of one to write into, `bmm` falls
back to one small product a head.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from primer.kernels.attention.cpu.plan import Sight
from primer.kernels.random import KeptTiles, Words

LOG2_E = 1 / math.log(2)
LOWEST = -1e30
"""Stands for −∞ as the largest score of a row that sees nothing: the difference of two infinities is no number."""


class Memory:
    """What one thread writes its tiles over, again and again. Views of a shape are made once."""

    def __init__(self) -> None:
        self.flat: dict[int, Tensor] = {}
        self.known: dict[tuple[int, ...], Tensor] = {}
        self.words = Words()

    def tile(self, like: Tensor, number: int, *shape: int) -> Tensor:
        """A tensor of this shape; the one that was asked for by the same number before is lost."""
        key = (number, *shape)
        if key not in self.known:
            size = math.prod(shape)
            if number not in self.flat or len(self.flat[number]) < size:
                self.flat[number] = like.new_empty(2 * size)
                self.known = {other: tile for other, tile in self.known.items() if other[0] != number}
            self.known[key] = self.flat[number][:size].view(shape)
        return self.known[key]

    def dense(self, number: int, x: Float[Tensor, "B H *T D"]) -> Float[Tensor, "n *T D"]:
        """All heads of some rows in one axis, as `bmm` has it; a copy where they lie apart."""
        together = len(x) == 1 or x.stride(0) == x.shape[1] * x.stride(1)
        if not together or x.stride(-2) != x.shape[-1]:
            x = self.tile(x, number, *x.shape).copy_(x)
        return x.flatten(0, 1)


class Dropped(NamedTuple):
    """Which weights dropout leaves: `KeptTiles`, and its rows for these queries."""

    kept: KeptTiles
    rows: Int[Tensor, "n G T"]
    thresholds: UInt8[Tensor, "n G T"]
    first_key: int
    chance: float


class Part(NamedTuple):
    """What one thread does at once: n key heads of one piece, and the G query heads that share each of them."""

    q: Float[Tensor, "n G T D"]
    k: Float[Tensor, "n S D"]
    v: Float[Tensor, "n S Dv"]
    unseen: Float[Tensor, "n 1 S"] | None
    """−∞ for keys that no query sees, else 0."""
    dropped: Dropped | None
    sight: Sight
    scale: float
    soft_cap: float
    memory: Memory

    def forward(self, out: Float[Tensor, "B Hkv G T Dv"], lse: Float[Tensor, "B Hkv G T"]) -> None:
        """Write what comes out, and the log of each row's sum of exponentials."""
        for queries, keys in self.sight.blocks(by_keys=False):
            place, sums = out[..., queries, :], lse[..., queries]
            if keys.start == keys.stop:
                place.zero_()
                sums.fill_(-torch.inf)
                continue
            q = rows(self.q, queries)
            s, _ = self.scores(q, queries, keys, None)
            top = s.amax(-1, keepdim=True).clamp_(min=LOWEST)
            p = s.sub_(top).exp2_()
            total = p.sum(-1, keepdim=True)
            if self.dropped:
                p.mul_(self.mask(self.dropped, queries, keys))
            z = product(p, self.v[:, keys], self.memory.tile(q, 2, *q.shape[:2], self.v.shape[2]))
            sums.copy_(top.add_(total.log2()).mul_(1 / LOG2_E).view(sums.shape))
            total.clamp_(min=1)  # the largest term is 1, except where there is none
            z.div_(total if self.dropped is None else total.mul_(1 - self.dropped.chance))
            place.copy_(z.view(place.shape))

    def backward(
        self,
        out: Float[Tensor, "B Hkv G T Dv"],
        lse: Float[Tensor, "B Hkv G T"],
        d_out: Float[Tensor, "B Hkv G T Dv"],
        dq: Float[Tensor, "B Hkv G T D"],
        dk: Float[Tensor, "B Hkv S D"],
        dv: Float[Tensor, "B Hkv S Dv"],
    ) -> None:
        """Write the three gradients, given what `forward` wrote and the gradient of `out`."""
        tile = self.memory.tile
        base = (lse * -LOG2_E).clamp_(max=-LOWEST)[..., None].flatten(0, 1)
        mean = (d_out * out).sum(-1, keepdim=True).neg_().flatten(0, 1)  # −rowsum(dO∘O)
        sums, d_out = tile(dq, 4, *self.q.shape).zero_(), self.memory.dense(5, d_out)
        more = 1 / (1 - self.dropped.chance) if self.dropped else 1.0
        for queries, keys in self.sight.blocks(by_keys=True):
            dk_place, dv_place = dk[:, :, keys], dv[:, :, keys]
            if queries.start == queries.stop:
                dk_place.zero_()
                dv_place.zero_()
                continue
            q, dz, level, less = (rows(x, queries) for x in (self.q, d_out, base, mean))
            s, bent = self.scores(q, queries, keys, level)
            p = s.exp2_()
            n, R, K = p.shape
            ds, v = tile(q, 1, n, R, K), self.v[:, keys].transpose(1, 2)
            if self.dropped:
                kept = self.mask(self.dropped, queries, keys)
                torch.addcmul(less, product(dz, v, ds, more), kept, out=ds).mul_(p)
                p.mul_(kept)
            else:
                torch.baddbmm(less, dz, v, out=ds).mul_(p)
            if bent is not None:
                torch.ops.aten.tanh_backward.grad_input(ds, bent, grad_input=ds)
            change = product(p.transpose(1, 2), dz, tile(q, 2, n, K, dz.shape[2]), more)
            dv_place.copy_(change.view(dv_place.shape))
            change = product(ds.transpose(1, 2), q, tile(q, 2, n, K, q.shape[2]), self.scale)
            dk_place.copy_(change.view(dk_place.shape))
            change = product(ds, self.k[:, keys], tile(q, 2, *q.shape), self.scale)
            place = sums[:, :, queries]
            place.add_(change.view(place.shape))
        dq.copy_(sums.view(dq.shape))

    def scores(
        self, q: Float[Tensor, "n R D"], queries: slice, keys: slice, base: Float[Tensor, "n R 1"] | None
    ) -> tuple[Float[Tensor, "n R K"], Float[Tensor, "n R K"] | None]:
        """log₂e times the scores of a tile, plus `base`; and the tanh of a soft cap."""
        n, R, _ = q.shape
        s, k = self.memory.tile(q, 0, n, R, keys.stop - keys.start), self.k[:, keys].transpose(1, 2)
        bent = None
        if self.soft_cap:
            bent = product(q, k, self.memory.tile(q, 3, *s.shape), self.scale / self.soft_cap).tanh_()
            torch.mul(bent, self.soft_cap * LOG2_E, out=s)
            if base is not None:
                s.add_(base)
        elif base is None:
            product(q, k, s, self.scale * LOG2_E)
        else:
            torch.baddbmm(base, q, k, alpha=self.scale * LOG2_E, out=s)
        self.sight.hide(s.view(n, self.q.shape[1], -1, s.shape[2]), queries.start, keys.start)
        if self.unseen is not None:
            s.add_(self.unseen[:, :, keys])
        return s, bent

    def mask(self, dropped: Dropped, queries: slice, keys: slice) -> Float[Tensor, "n R K"]:
        """1 for what dropout leaves of a tile, else 0."""
        found, thresholds = rows(dropped.rows, queries), rows(dropped.thresholds, queries)
        out = self.memory.tile(self.q, 2, *found.shape, keys.stop - keys.start)
        return dropped.kept.write(out, found, thresholds, dropped.first_key + keys.start, self.memory.words)


def rows(x: Tensor, queries: slice) -> Tensor:
    """Some queries of all heads that share a key head, (n, G, T, …), as rows of one matrix, (n, R, …)."""
    return x[:, 0, queries] if x.shape[1] == 1 else x[:, :, queries].flatten(1, 2)


def product(
    a: Float[Tensor, "n R C"], b: Float[Tensor, "n C K"], out: Float[Tensor, "n R K"], scale: float = 1.0
) -> Float[Tensor, "n R K"]:
    """a·b·scale; the scale costs nothing."""
    return torch.baddbmm(out, a, b, beta=0, alpha=scale, out=out)
