"""Training on a CPU, where torch's fused kernel is at its worst: with dropout on the weights, and in short sequences.

The library's kernel has no dropout there and falls back to writing the whole T × S table down several times; and for
sequences of a sentence's length it takes twice as long as two matrix products. Here the queries are taken a block at a
time, so that keys later than the block are never multiplied, and what the backward pass needs is kept: the weights
before dropout, and which of them were dropped.

Every product is written to a tensor of its own and copied into its place (a single block is its own place): given a
slice to write into, `bmm` falls back to one small product a head, at a third of the speed.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from primer.kernels.attention.reference import repeat_heads
from primer.kernels.random import keep_mask

BLOCK = 64
"""Queries at once: small enough to skip most of the future, large enough for a matrix product to be fast."""


class BlockAttention(torch.autograd.Function):
    """(softmax(Q·Kᵀ·scale) ∘ M / (1 − p))·V with its gradient; heads are flattened into the batch, (N, T, D)."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        unseen: Tensor | None,
        causal: bool,
        scale: float,
        dropout: float,
    ) -> Tensor:
        outs, saved = [], []
        for start, stop, seen in blocks(q.shape[1], k.shape[1], causal):
            p = q.new_empty(len(q), stop - start, seen)
            p.baddbmm_(q[:, start:stop], k[:, :seen].transpose(1, 2), beta=0, alpha=scale)
            if causal:  # only the last keys of a block can be later than one of its queries
                p[:, :, seen - (stop - start) :] += hidden_scores(stop - start, q)
            if unseen is not None:
                p += unseen[..., :seen]
            torch.softmax(p, -1, out=p)  # (N, block, seen)
            kept = keep_mask(p.shape, dropout, like=p) if dropout else None
            outs.append((p if kept is None else p * kept) @ v[:, :seen])
            saved += [p, kept]
        ctx.save_for_backward(q, k, v, *saved)
        ctx.causal, ctx.scale, ctx.keep = causal, scale, 1 - dropout
        out = outs[0] if len(outs) == 1 else torch.cat(outs, dim=1)
        return out.div_(ctx.keep) if dropout else out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *saved = ctx.saved_tensors
        d_out = grads[0] / ctx.keep if ctx.keep < 1 else grads[0]
        parts = blocks(q.shape[1], k.shape[1], ctx.causal)
        dqs: list[Tensor] = []
        if len(parts) > 1:
            dk, dv = torch.zeros_like(k), torch.zeros_like(v)
        for number, (start, stop, seen) in enumerate(parts):
            p, kept = saved[2 * number : 2 * number + 2]
            d_block = d_out[:, start:stop]
            dp = d_block @ v[:, :seen].transpose(1, 2)
            if kept is not None:
                dp.mul_(kept)
            # dS = P ∘ (dP − rowsum(dP ∘ P))
            ds = torch._softmax_backward_data(dp, p, -1, p.dtype)
            dqs.append(ds @ k[:, :seen])
            dv_block = (p if kept is None else p * kept).transpose(1, 2) @ d_block
            dk_block = ds.transpose(1, 2) @ q[:, start:stop]
            if len(parts) == 1:
                dk, dv = dk_block, dv_block
            else:
                dk[:, :seen] += dk_block
                dv[:, :seen] += dv_block
        dq = dqs[0] if len(dqs) == 1 else torch.cat(dqs, dim=1)
        return dq.mul_(ctx.scale), dk.mul_(ctx.scale), dv, None, None, None, None


def blocks(T: int, S: int, causal: bool) -> list[tuple[int, int, int]]:
    """(first query, end of the block, keys that the block sees), with the queries at the end of the keys."""
    stops = [(start, min(start + BLOCK, T)) for start in range(0, T, BLOCK)]
    return [(start, stop, stop + S - T if causal else S) for start, stop in stops]


def hidden_scores(queries: int, like: Tensor) -> Tensor:
    """What is added to the scores of a block and its own keys: −∞ where the key is the later one, else 0."""
    hidden = ~torch.ones(queries, queries, dtype=torch.bool, device=like.device).tril()
    return torch.zeros(queries, queries, dtype=like.dtype, device=like.device).masked_fill_(
        hidden, -torch.inf
    )


def attention(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S Dv"],
    *,
    causal: bool = True,
    window: int | None = None,
    document_ids: Int[Tensor, "B S"] | None = None,
    seen: Bool[Tensor, "B S"] | None = None,
    softmax_scale: float | None = None,
    soft_cap: float = 0.0,
    dropout: float = 0.0,
    dropout_seed: int = 0,
) -> tuple[Float[Tensor, "B H T Dv"], Float[Tensor, "B H T"] | None]:
    """`reference.attention`; with dropout of the same mean, and another draw."""
    if torch.is_autocast_enabled("cpu"):  # products below would be in its dtype, forwards only
        q, k, v = (x.to(torch.get_autocast_dtype("cpu")) for x in (q, k, v))
    B, H, T, D = q.shape
    scale = D**-0.5 if softmax_scale is None else softmax_scale
    flat = [x.flatten(0, 1) for x in (q, repeat_heads(k, H), repeat_heads(v, H))]
    unseen = None
    if seen is not None:  # what is added to the scores, (N, 1, S)
        unseen = torch.zeros_like(seen, dtype=q.dtype).masked_fill_(~seen, -torch.inf)
        unseen = unseen[:, None].repeat_interleave(H, dim=0)
    out: Tensor = BlockAttention.apply(*flat, unseen, causal, scale, dropout)  # type: ignore[no-untyped-call]
    return out.view(B, H, T, v.shape[3]), None
