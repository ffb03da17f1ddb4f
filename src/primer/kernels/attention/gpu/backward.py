"""Backward on a GPU: FlashAttention-2's Algorithm 2 (Dao 2023). Weights are computed again from the saved lse.

    P = 2^(S − lse),   dV = Pᵀ·dO,   dP = dO·Vᵀ,   dS = P ∘ (dP − delta),   dQ = dS·K,   dK = dSᵀ·Q

with delta = rowsum(dO ∘ O), which is rowsum(dP ∘ P). `keys_backward` keeps a block of keys on the chip while queries
come by; its scores are transposed, Sᵀ and Pᵀ, so that they leave one product as the registers of the next.
`queries_backward` keeps queries, while keys come by. Two kernels make seven products where five would do, but none
waits to add to what another adds to, and the sums have one order: the same bits every time.

Each has one loop, cut tiles and whole ones alike: a second loop makes the assembler wait after every product.
EXACT: for float32, lse is subtracted before log₂e is multiplied by, which rounds less, and costs an instruction.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from primer.kernels.attention.gpu.launch import (
    How,
    Tiles,
    extras,
    launch,
    padded,
    precision,
    readable,
    spans_and_scale,
    tiled_by,
)
from primer.kernels.attention.gpu.tiles import LOG2E, block, capped, kept, keys_of_queries, queries_of_keys
from primer.kernels.attention.visible import Spans
from primer.kernels.attention.visible import queries_of_keys as transposed

ROWS = 64
"""Rows that a program of `row_sums` takes."""


@triton.jit
@no_type_check
def row_sums(
    out_ptr, d_out_ptr, delta_ptr, rows, d_out_b, d_out_h, d_out_t, H, T,
    WIDTH: tl.constexpr, DV: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """delta: Σ dO ∘ O of each row, in float32. `out` is contiguous, dO has strides."""
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    d = tl.arange(0, DV)
    there = (row < rows)[:, None] & (d < WIDTH)[None, :]
    b, h, t = row // T // H, row // T % H, row % T
    out = tl.load(out_ptr + row[:, None] * WIDTH + d, mask=there, other=0.0).to(tl.float32)
    at = b * d_out_b + h * d_out_h + t * d_out_t
    d_out = tl.load(d_out_ptr + at[:, None] + d, mask=there, other=0.0).to(tl.float32)
    tl.store(delta_ptr + row, tl.sum(out * d_out, 1), mask=row < rows)


@triton.jit(do_not_specialize=["seed"])
@no_type_check
def keys_backward(
    q_in, k_in, v_in, d_out_in, dk_ptr, dv_ptr, lse_ptr, delta_ptr,
    first_ptr, last_ptr, seen_ptr,
    H, group, T, S, window, scale, softmax_scale, cap, seed, whole, fraction, kept_share,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SPANS: tl.constexpr, SEEN: tl.constexpr,
    CAP: tl.constexpr, DROPOUT: tl.constexpr, CUT: tl.constexpr, EXACT: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr, D: tl.constexpr, DV: tl.constexpr,
    WIDTH: tl.constexpr, V_WIDTH: tl.constexpr, COPIED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dK and dV of a block of keys of one key head."""
    head = tl.program_id(1)
    Hkv = H // group
    b, hkv = head // Hkv, head % Hkv
    start = tl.program_id(0) * BLOCK_S
    s = start + tl.arange(0, BLOCK_S)
    first, last = queries_of_keys(s, b, first_ptr, last_ptr, T, S, window, CAUSAL, WINDOW, SPANS)
    lowest, _ = queries_of_keys(start, b, first_ptr, last_ptr, T, S, window, CAUSAL, WINDOW, SPANS)
    end = tl.minimum(start + BLOCK_S, S) - 1
    _, highest = queries_of_keys(end, b, first_ptr, last_ptr, T, S, window, CAUSAL, WINDOW, SPANS)
    low = lowest // BLOCK_T
    blocks = tl.maximum((highest + BLOCK_T) // BLOCK_T - low, 0)

    k = block(k_in, b, hkv, start, BLOCK_S, D, WIDTH, COPIED)
    v = block(v_in, b, hkv, start, BLOCK_S, DV, V_WIDTH, COPIED)
    if SEEN:
        there = tl.load(seen_ptr + b.to(tl.int64) * S + s, mask=s < S, other=0) != 0
    dk = tl.zeros([BLOCK_S, D], tl.float32)
    dv = tl.zeros([BLOCK_S, DV], tl.float32)
    for step in range(blocks * group):  # of every head that shares these keys
        h = hkv * group + step // blocks
        begin = (low + step % blocks) * BLOCK_T
        t = begin + tl.arange(0, BLOCK_T)
        row = (b * H + h) * T + t
        q = block(q_in, b, h, begin, BLOCK_T, D, WIDTH, COPIED)
        lse = tl.load(lse_ptr + row, mask=t < T, other=-float("inf"))
        lse = tl.where(lse == -float("inf"), float("inf"), lse)  # a row that sees nothing weighs nothing
        delta = tl.load(delta_ptr + row, mask=t < T, other=0.0)
        scores = tl.dot(k, q.T, input_precision=PRECISION)  # (BLOCK_S, BLOCK_T): transposed
        if CAP:
            bent = capped(scores * scale)
            p = tl.exp2(cap * bent - (lse * LOG2E)[None, :])
        elif EXACT:
            p = tl.exp2((scores * softmax_scale - lse[None, :]) * LOG2E)
        else:
            p = tl.exp2(scores * scale - (lse * LOG2E)[None, :])
        if CUT:
            p = tl.where((t[None, :] >= first[:, None]) & (t[None, :] <= last[:, None]), p, 0.0)
        if SEEN:
            p = tl.where(there[:, None], p, 0.0)
        d_out = block(d_out_in, b, h, begin, BLOCK_T, DV, V_WIDTH, COPIED)
        if DROPOUT:
            stays = kept(row[None, :], s[:, None], seed, whole, fraction)
            dropped = tl.where(stays, p * (1.0 / kept_share), 0.0)
            dv = tl.dot(dropped.to(d_out.dtype), d_out, dv, input_precision=PRECISION)
        else:
            dv = tl.dot(p.to(d_out.dtype), d_out, dv, input_precision=PRECISION)
        dp = tl.dot(v, d_out.T, input_precision=PRECISION)
        if DROPOUT:
            dp = tl.where(stays, dp * (1.0 / kept_share), 0.0)
        ds = p * (dp - delta[None, :])
        if CAP:
            ds *= 1.0 - bent * bent
        ds = ds.to(q.dtype)
        dk = tl.dot(ds, q, dk, input_precision=PRECISION)
    d = tl.arange(0, D)
    at = (head.to(tl.int64) * S + s)[:, None]
    tl.store(
        dk_ptr + at * WIDTH + d,
        (dk * softmax_scale).to(dk_ptr.dtype.element_ty),
        mask=(s < S)[:, None] & (d < WIDTH),
    )
    d = tl.arange(0, DV)
    tl.store(dv_ptr + at * V_WIDTH + d, dv.to(dv_ptr.dtype.element_ty), mask=(s < S)[:, None] & (d < V_WIDTH))


@triton.jit(do_not_specialize=["seed"])
@no_type_check
def queries_backward(
    q_in, k_in, v_in, d_out_in, dq_ptr, lse_ptr, delta_ptr, first_ptr, last_ptr, seen_ptr,
    H, group, T, S, window, scale, softmax_scale, cap, seed, whole, fraction, kept_share,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SPANS: tl.constexpr, SEEN: tl.constexpr,
    CAP: tl.constexpr, DROPOUT: tl.constexpr, CUT: tl.constexpr, EXACT: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr, D: tl.constexpr, DV: tl.constexpr,
    WIDTH: tl.constexpr, V_WIDTH: tl.constexpr, COPIED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dQ of a block of queries, summed in one order: the same bits every time."""
    number = tl.num_programs(0) - 1 - tl.program_id(0) if CAUSAL else tl.program_id(0)
    head = tl.program_id(1)
    b, h = head // H, head % H
    hkv = h // group
    start = number * BLOCK_T
    t = start + tl.arange(0, BLOCK_T)
    first, last = keys_of_queries(t, b, first_ptr, last_ptr, T, S, window, CAUSAL, WINDOW, SPANS)
    lowest, _ = keys_of_queries(start, b, first_ptr, last_ptr, T, S, window, CAUSAL, WINDOW, SPANS)
    stop = tl.minimum(start + BLOCK_T, T) - 1
    _, highest = keys_of_queries(stop, b, first_ptr, last_ptr, T, S, window, CAUSAL, WINDOW, SPANS)
    row = head * T + t
    q = block(q_in, b, h, start, BLOCK_T, D, WIDTH, COPIED)
    d_out = block(d_out_in, b, h, start, BLOCK_T, DV, V_WIDTH, COPIED)
    lse = tl.load(lse_ptr + row, mask=t < T, other=-float("inf"))
    lse = tl.where(lse == -float("inf"), float("inf"), lse)
    delta = tl.load(delta_ptr + row, mask=t < T, other=0.0)
    dq = tl.zeros([BLOCK_T, D], tl.float32)
    for begin in range(lowest // BLOCK_S * BLOCK_S, highest + 1, BLOCK_S):
        k = block(k_in, b, hkv, begin, BLOCK_S, D, WIDTH, COPIED)
        scores = tl.dot(q, k.T, input_precision=PRECISION)  # (BLOCK_T, BLOCK_S)
        s = begin + tl.arange(0, BLOCK_S)
        if CAP:
            bent = capped(scores * scale)
            p = tl.exp2(cap * bent - (lse * LOG2E)[:, None])
        elif EXACT:
            p = tl.exp2((scores * softmax_scale - lse[:, None]) * LOG2E)
        else:
            p = tl.exp2(scores * scale - (lse * LOG2E)[:, None])
        if CUT:
            p = tl.where((s[None, :] >= first[:, None]) & (s[None, :] <= last[:, None]), p, 0.0)
        if SEEN:
            there = tl.load(seen_ptr + b.to(tl.int64) * S + s, mask=s < S, other=0)
            p = tl.where(there[None, :] != 0, p, 0.0)
        v = block(v_in, b, hkv, begin, BLOCK_S, DV, V_WIDTH, COPIED)
        dp = tl.dot(d_out, v.T, input_precision=PRECISION)
        if DROPOUT:
            dp = tl.where(kept(row[:, None], s[None, :], seed, whole, fraction), dp * (1.0 / kept_share), 0.0)
        ds = p * (dp - delta[:, None])
        if CAP:
            ds *= 1.0 - bent * bent
        dq = tl.dot(ds.to(k.dtype), k, dq, input_precision=PRECISION)
    d = tl.arange(0, D)
    at = row.to(tl.int64)[:, None] * WIDTH + d
    tl.store(
        dq_ptr + at, (dq * softmax_scale).to(dq_ptr.dtype.element_ty), mask=(t < T)[:, None] & (d < WIDTH)
    )


def backward_pass(
    d_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lse: Tensor,
    delta: Tensor,
    visible: Spans | None,
    seen: Tensor | None,
    how: How,
    key_tiles: Tiles,
    query_tiles: Tiles,
) -> tuple[Tensor, Tensor, Tensor]:
    """dQ, dK and dV, contiguous."""
    (B, H, T, D), (Hkv, S, Dv) = q.shape, (k.shape[1], k.shape[2], v.shape[3])
    dq, dk, dv = q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)
    q, k, v, d_out = readable(q), readable(k), readable(v), readable(d_out)
    masked = how.causal or how.window > 0 or visible is not None

    def shared(tiles: Tiles, spans: Spans | None) -> dict[str, object]:
        return {
            "q_in": tiled_by(q, tiles.block_t, tiles.copied),
            "k_in": tiled_by(k, tiles.block_s, tiles.copied),
            "v_in": tiled_by(v, tiles.block_s, tiles.copied),
            "d_out_in": tiled_by(d_out, tiles.block_t, tiles.copied),
            "lse_ptr": lse,
            "delta_ptr": delta,
            "H": H,
            "group": H // Hkv,
            "T": T,
            "S": S,
            "softmax_scale": how.softmax_scale,
            "EXACT": q.dtype == torch.float32,
            "CUT": masked or S % tiles.block_s != 0,
            "BLOCK_T": tiles.block_t,
            "BLOCK_S": tiles.block_s,
            "D": padded(D),
            "DV": padded(Dv),
            "WIDTH": D,
            "V_WIDTH": Dv,
            "COPIED": tiles.copied,
            "PRECISION": precision(),
            "num_warps": tiles.warps,
            "num_stages": tiles.stages,
            **spans_and_scale(how, spans, lse),
            **extras(how, seen, lse),
        }

    columns = None if visible is None else transposed(visible, S)
    grid = (triton.cdiv(S, key_tiles.block_s), B * Hkv)
    launch(keys_backward, grid, dk_ptr=dk, dv_ptr=dv, **shared(key_tiles, columns))
    grid = (triton.cdiv(T, query_tiles.block_t), B * H)
    launch(queries_backward, grid, dq_ptr=dq, **shared(query_tiles, visible))
    return dq, dk, dv


def rowsum(out: Tensor, d_out: Tensor) -> Tensor:
    """delta, (B, H, T), of an output that is contiguous."""
    B, H, T, Dv = out.shape
    d_out = readable(d_out)
    delta = out.new_empty(B, H, T, dtype=torch.float32)
    d_out_b, d_out_h, d_out_t, _ = d_out.stride()
    launch(
        row_sums,
        (triton.cdiv(B * H * T, ROWS),),
        out_ptr=out,
        d_out_ptr=d_out,
        delta_ptr=delta,
        rows=B * H * T,
        d_out_b=d_out_b,
        d_out_h=d_out_h,
        d_out_t=d_out_t,
        H=H,
        T=T,
        WIDTH=Dv,
        DV=padded(Dv),
        BLOCK=ROWS,
    )
    return delta
