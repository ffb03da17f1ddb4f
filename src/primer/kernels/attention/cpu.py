"""Training with dropout on the attention weights, on a CPU.

The library's fused kernel has no dropout there and falls back to writing the whole T × S table down several
times. Here the queries are taken a block at a time, so that keys later than the block are never multiplied, and
what the backward pass needs is kept: the weights before dropout, and which of them were dropped.

Every product is written to a tensor of its own and copied into its place: given a slice to write into, `bmm` falls
back to one small product a head, at a third of the speed.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from primer.kernels.attention.reference import causal_mask, repeat_heads
from primer.kernels.random import keep_mask

BLOCK = 64
"""Queries at once: small enough to skip most of the future, large enough for a matrix product to be fast."""


class DropoutAttention(torch.autograd.Function):
    """(softmax(Q·Kᵀ·scale) ∘ M / (1 − p))·V with its gradient; heads are flattened into the batch, (N, T, D)."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float, dropout: float
    ) -> Tensor:
        T, S = q.shape[1], k.shape[1]
        out = torch.empty_like(q)
        saved = []
        for start, stop, seen in blocks(T, S, causal):
            p = q.new_empty(len(q), stop - start, seen)
            p.baddbmm_(q[:, start:stop], k[:, :seen].transpose(1, 2), beta=0, alpha=scale)
            if causal:  # only the last keys of a block can be later than one of its queries
                p[:, :, seen - (stop - start) :] += hidden_scores(stop - start, q)
            torch.softmax(p, -1, out=p)  # (N, block, seen)
            kept = keep_mask(p.shape, dropout, like=p)
            out[:, start:stop] = (p * kept) @ v[:, :seen]
            saved += [p, kept]
        ctx.save_for_backward(q, k, v, *saved)
        ctx.causal, ctx.scale, ctx.keep = causal, scale, 1 - dropout
        return out.div_(ctx.keep)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *saved = ctx.saved_tensors
        d_out = grads[0] / ctx.keep
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for number, (start, stop, seen) in enumerate(blocks(q.shape[1], k.shape[1], ctx.causal)):
            p, kept = saved[2 * number : 2 * number + 2]
            d_block = d_out[:, start:stop]
            dv[:, :seen] += (p * kept).transpose(1, 2) @ d_block
            dp = (d_block @ v[:, :seen].transpose(1, 2)).mul_(kept)
            # dS = P ∘ (dP − rowsum(dP ∘ P))
            ds = torch._softmax_backward_data(dp, p, -1, p.dtype)
            dq[:, start:stop] = ds @ k[:, :seen]
            dk[:, :seen] += ds.transpose(1, 2) @ q[:, start:stop]
        return dq.mul_(ctx.scale), dk.mul_(ctx.scale), dv, None, None, None


def blocks(T: int, S: int, causal: bool) -> list[tuple[int, int, int]]:
    """(first query, end of the block, keys that the block sees), with the queries at the end of the keys."""
    stops = [(start, min(start + BLOCK, T)) for start in range(0, T, BLOCK)]
    return [(start, stop, stop + S - T if causal else S) for start, stop in stops]


def hidden_scores(queries: int, like: Tensor) -> Tensor:
    """What is added to the scores of a block and its own keys: −∞ where the key is the later one, else 0."""
    hidden = ~causal_mask(queries, queries, like.device)
    return torch.zeros(queries, queries, dtype=like.dtype, device=like.device).masked_fill_(
        hidden, -torch.inf
    )


def attention(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S D"],
    *,
    causal: bool = True,
    softmax_scale: float | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "B H T D"]:
    """`reference.attention` with the same mean and another draw of the dropout."""
    B, H, T, D = q.shape
    scale = D**-0.5 if softmax_scale is None else softmax_scale
    flat = [x.flatten(0, 1) for x in (q, repeat_heads(k, H), repeat_heads(v, H))]
    out: Tensor = DropoutAttention.apply(*flat, causal, scale, dropout)  # type: ignore[no-untyped-call]
    return out.view(B, H, T, D)
