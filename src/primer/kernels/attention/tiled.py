"""Flash attention in plain PyTorch: equation 1 a tile at a time, without the T × S table. Between `reference`, which
says what is computed, and the GPU's kernel, which computes it like this.

**Forward** (Milakov & Gimelshein 2018, Algorithm 3; Dao 2023, FlashAttention-2, Algorithm 1). Softmax seems to need a
row's every score before its first weight: their maximum m, which keeps exp from overflowing, and l = Σ exp(s − m). It
does not. After some of the keys, keep m, l and O = Σ exp(s − m)·v of those alone. The next keys may bring a larger
maximum m'. All that was summed was then measured from m instead of m', and one factor puts that right, because
exp(s − m') = exp(s − m)·exp(m − m'):

    m' = max(m, max s)      α = exp(m − m')      l' = α·l + Σ exp(s − m')      O' = α·O + Σ exp(s − m')·v

with the sums over the new keys. After the last key O / l is the output. Of the whole row one number is kept for the way
back: L = m + log l, the log of the row's sum of exponentials.

**Backward** (Dao et al. 2022, FlashAttention, §3.1 and appendix B.2; Dao 2023, Algorithm 2). Weights are computed
again instead of stored, and now in one step, P = exp(S − L). With dO the gradient of the output, dP = dO·Vᵀ, and
softmax's own derivative is dS = P ∘ (dP − δ), where δ_t = Σ_s P_ts·dP_ts seems to need the whole row once more. But

    Σ_s P_ts·(dO_t · v_s) = dO_t · Σ_s P_ts·v_s = dO_t · O_t,

a product of two rows that are there. So each tile can be done on its own: dV += Pᵀ·dO, dQ += dS·K, dK += dSᵀ·Q.

A soft cap c bends the scores x to S = c·tanh(x / c), so dx = dS ∘ (1 − (S / c)²). Dropout multiplies the weights by
Z, which is 0 or 1 / (1 − p): O = (P ∘ Z)·V, dV = (P ∘ Z)ᵀ·dO, dP = (dO·Vᵀ) ∘ Z, and l and δ stay as they are.

Memory beyond the arguments, the output and their gradients is a few numbers a query (L, δ, the ends of what it sees)
and a few tiles.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from primer.kernels.attention.reference import repeat_heads
from primer.kernels.attention.tiles import Running, Tile, Tiling
from primer.kernels.attention.visible import spans
from primer.kernels.random import kept_at

BLOCK_Q, BLOCK_K = 128, 128
"""Of 64 to 512 the fastest on two cores: smaller tiles are many calls, larger ones leave the caches and skip less."""


@dataclass(frozen=True)
class Plan:
    """All that is asked for besides Q, K and V."""

    tiling: Tiling
    scale: float
    soft_cap: float
    dropout: float
    seed: int


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
    block_q: int = BLOCK_Q,
    block_k: int = BLOCK_K,
) -> tuple[Float[Tensor, "B H T Dv"], Float[Tensor, "B H T"]]:
    """`reference.attention` in tiles of `block_q` queries by `block_k` keys; sums are float32 (float64 of float64)."""
    if torch.is_autocast_enabled(q.device.type) and q.dtype != torch.float64:
        # or autocast, which leaves float64 alone, would choose the dtype of a tile's products
        q, k, v = (x.to(torch.get_autocast_dtype(q.device.type)) for x in (q, k, v))
    plan = planned(
        q,
        k,
        causal=causal,
        window=window,
        document_ids=document_ids,
        seen=seen,
        softmax_scale=softmax_scale,
        soft_cap=soft_cap,
        dropout=dropout,
        dropout_seed=dropout_seed,
        block_q=block_q,
        block_k=block_k,
    )
    out, lse = FlashAttention.apply(q, k, v, plan)  # type: ignore[no-untyped-call]
    return out, lse


def trace(
    q: Float[Tensor, "B H T D"], k: Float[Tensor, "B Hkv S D"], v: Float[Tensor, "B Hkv S Dv"], **options: Any
) -> Iterator[Tile]:
    """The tiles of the forward pass, one by one as they are computed: options as of `attention`.

    It is the loop that `attention` itself runs, which takes its output from the last tile of each block of queries.
    """
    return forward_tiles(q.detach(), k.detach(), v.detach(), planned(q, k, **options))


def planned(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    *,
    causal: bool = True,
    window: int | None = None,
    document_ids: Int[Tensor, "B S"] | None = None,
    seen: Bool[Tensor, "B S"] | None = None,
    softmax_scale: float | None = None,
    soft_cap: float = 0.0,
    dropout: float = 0.0,
    dropout_seed: int = 0,
    block_q: int = BLOCK_Q,
    block_k: int = BLOCK_K,
) -> Plan:
    """The options of `attention`, for queries and keys of these sizes."""
    T, S = q.shape[2], k.shape[2]
    visible = spans(T, S, causal=causal, window=window, document_ids=document_ids, device=q.device)
    tiling = Tiling(visible, seen, (T, S), (block_q, block_k))
    scale = q.shape[3] ** -0.5 if softmax_scale is None else softmax_scale
    return Plan(tiling, scale, soft_cap, dropout, dropout_seed)


def forward_tiles(
    q: Float[Tensor, "B H T D"], k: Float[Tensor, "B Hkv S D"], v: Float[Tensor, "B Hkv S Dv"], plan: Plan
) -> Iterator[Tile]:
    """Algorithm 1: for each block of queries, from the first keys to the last, what is known after each tile."""
    tiling, H, moved = plan.tiling, q.shape[1], 0
    for queries in tiling.queries:
        q_block = rows(q, queries)
        moved += q_block.nbytes
        q_block = wide(q_block) * plan.scale
        running = Running.start(q_block, v.shape[3])
        for keys in tiling.keys:
            kind, before, rescale = tiling.kind(queries, keys), running, torch.ones_like(running.sum)
            if kind != "skipped":
                k_tile, v_tile = rows(k, keys), rows(v, keys)
                moved += k_tile.nbytes + v_tile.nbytes
                scores = scores_of(q_block, shared(k_tile, H), plan)  # (B, H, block_q, block_k)
                if kind == "masked":
                    scores = scores.masked_fill(tiling.hidden(queries, keys), -torch.inf)
                running, rescale = online(
                    before, scores, shared(v_tile, H), kept(scores, queries, keys, plan)
                )
            last = keys is tiling.keys[-1]
            if last:
                moved += running.out.numel() * q.itemsize + running.sum.nbytes
            yield Tile(queries, keys, kind, before, running, rescale, moved, last)


def online(
    before: Running,
    scores: Float[Tensor, "B H T S"],
    v: Float[Tensor, "B H S Dv"],
    kept: Float[Tensor, "B H T S"] | None,
) -> tuple[Running, Float[Tensor, "B H T"]]:
    """One step of softmax in one pass, and its α."""
    # m' = max(m, max s)
    m = torch.maximum(before.max, scores.amax(-1))
    # A query that has seen no key yet measures from 0: −∞ − (−∞) would be no number.
    origin = m.masked_fill(m == -torch.inf, 0.0)
    # α = exp(m − m')
    rescale = torch.exp(before.max - origin)
    # P = exp(s − m')
    p = torch.exp(scores - origin[..., None])
    # l' = α·l + Σ P
    total = rescale * before.sum + p.sum(-1)
    # O' = α·O + (P ∘ Z)·V
    out = rescale[..., None] * before.out + (p if kept is None else p * kept) @ v
    return Running(m, total, out), rescale


class FlashAttention(torch.autograd.Function):
    """The output and L; its gradient computes the tiles again, from Q, K, V, the output and L, which alone are kept."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
        B, H, T, _ = q.shape
        out = q.new_zeros(B, H, T, v.shape[3])
        lse = wide(q).new_full((B, H, T), -torch.inf)
        with torch.autocast(q.device.type, enabled=False):
            for tile in forward_tiles(q, k, v, plan):
                if tile.last:
                    rows(out, tile.queries)[:], rows(lse, tile.queries)[:] = tile.after.finished()
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.mark_non_differentiable(lse)
        ctx.plan = plan
        return out, lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        with torch.autocast(q.device.type, enabled=False):
            return *gradients(q, k, v, out, lse, d_out, ctx.plan), None


def gradients(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S Dv"],
    out: Float[Tensor, "B H T Dv"],
    lse: Float[Tensor, "B H T"],
    d_out: Float[Tensor, "B H T Dv"],
    plan: Plan,
) -> tuple[Float[Tensor, "B H T D"], Float[Tensor, "B Hkv S D"], Float[Tensor, "B Hkv S Dv"]]:
    """Algorithm 2: for each block of keys, the queries that see any of it. dK and dV stay at hand, dQ grows."""
    tiling, H, Hkv = plan.tiling, q.shape[1], k.shape[1]
    dq, dk, dv = torch.zeros_like(q, dtype=lse.dtype), torch.empty_like(k), torch.empty_like(v)
    # δ = rowsum(dO ∘ O)
    delta = (wide(d_out) * out).sum(-1)  # (B, H, T)
    for keys in tiling.keys:
        k_tile, v_tile = shared(rows(k, keys), H), shared(rows(v, keys), H)
        dk_tile, dv_tile = torch.zeros_like(k_tile), torch.zeros_like(v_tile)
        for queries in tiling.queries:
            kind = tiling.kind(queries, keys)
            if kind == "skipped":
                continue
            q_block, d_block = wide(rows(q, queries)) * plan.scale, wide(rows(d_out, queries))
            scores = scores_of(q_block, k_tile, plan)
            # P = exp(S − L), which is at most 1 but for hidden keys
            p = torch.exp(scores - rows(lse, queries)[..., None])
            if kind == "masked":
                p = p.masked_fill(tiling.hidden(queries, keys), 0.0)
            z = kept(scores, queries, keys, plan)
            # dV += (P ∘ Z)ᵀ·dO
            dv_tile += (p if z is None else p * z).mT @ d_block
            # dP = (dO·Vᵀ) ∘ Z
            dp = d_block @ v_tile.mT
            dp = dp if z is None else dp * z
            # dS = P ∘ (dP − δ)
            ds = p * (dp - rows(delta, queries)[..., None])
            if plan.soft_cap:  # dx = dS ∘ (1 − (S / c)²)
                ds = ds * (1 - (scores / plan.soft_cap) ** 2)
            # dQ += dS·K × scale
            rows(dq, queries).add_(ds @ k_tile, alpha=plan.scale)
            # dK += dSᵀ·Q × scale, which the queries have been multiplied by
            dk_tile += ds.mT @ q_block
        rows(dk, keys)[:], rows(dv, keys)[:] = summed(dk_tile, Hkv), summed(dv_tile, Hkv)
    return dq.to(q.dtype), dk, dv


def scores_of(
    q: Float[Tensor, "B H T D"], k: Float[Tensor, "B H S D"], plan: Plan
) -> Float[Tensor, "B H T S"]:
    """A tile of Q·Kᵀ, of queries that were multiplied by the scale, with the soft cap and without a mask."""
    scores = q @ k.mT
    return plan.soft_cap * torch.tanh(scores / plan.soft_cap) if plan.soft_cap else scores


def kept(
    scores: Float[Tensor, "B H T S"], queries: range, keys: range, plan: Plan
) -> Float[Tensor, "B H T S"] | None:
    """Z of a tile, 0 or 1 / (1 − p); None without dropout."""
    if not plan.dropout:
        return None
    B, H, _, _ = scores.shape
    T, S, device = plan.tiling.T, plan.tiling.S, scores.device
    stays = kept_at(plan.seed, B * H, T, S, plan.dropout, queries=queries, keys=keys, device=device)
    return stays.view_as(scores).to(scores.dtype) / (1 - plan.dropout)


def rows(x: Float[Tensor, "B H T *D"], at: range) -> Float[Tensor, "B H block *D"]:
    """The part of a tensor that belongs to some positions: a view."""
    return x[:, :, at.start : at.stop]


def wide(x: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """In the dtype that sums are taken in."""
    return x if x.dtype == torch.float64 else x.float()


def shared(x: Float[Tensor, "B Hkv S D"], H: int) -> Float[Tensor, "B H S D"]:
    """A tile of keys or values for each of H query heads."""
    return repeat_heads(wide(x), H)


def summed(dx: Float[Tensor, "B H S D"], Hkv: int) -> Float[Tensor, "B Hkv S D"]:
    """The gradient of keys or values: the sum over the query heads that share them."""
    return dx.unflatten(1, (Hkv, -1)).sum(2)
