"""Backward on a GPU: FlashAttention-2's Algorithm 2 (Dao 2023). Weights are computed again from the saved lse.

    P = 2^(S − lse),   dV = Pᵀ·dO,   dP = dO·Vᵀ,   dS = P ∘ (dP − delta),   dQ = dS·K,   dK = dSᵀ·Q

with delta = rowsum(dO ∘ O), which is rowsum(dP ∘ P). `keys_backward` keeps a block of keys on the chip while queries
come by. Its scores are transposed, Sᵀ and Pᵀ: so they leave one product as the registers of the next.
There is one loop, cut tiles and whole ones alike: a second loop makes the assembler wait after every product.
"""

from typing import no_type_check

import triton
import triton.language as tl

from primer.kernels.attention.gpu_tiles import LOG2E, capped, kept, keys_of_queries, queries_of_keys


@triton.jit
@no_type_check
def row_sums(out_ptr, d_out_ptr, delta_ptr, rows, so_b, so_h, so_t, H, T, WIDTH: tl.constexpr, DV: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """delta: Σ dO ∘ O of each row, in float32. `out` is contiguous, dO has strides."""
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    d = tl.arange(0, DV)
    there = (row < rows)[:, None] & (d < WIDTH)[None, :]
    b, h, t = row // T // H, row // T % H, row % T
    out = tl.load(out_ptr + row[:, None] * WIDTH + d, mask=there, other=0.0).to(tl.float32)
    at = b * so_b + h * so_h + t * so_t
    d_out = tl.load(d_out_ptr + at[:, None] + d, mask=there, other=0.0).to(tl.float32)
    tl.store(delta_ptr + row, tl.sum(out * d_out, 1), mask=row < rows)


@triton.jit(do_not_specialize=["seed"])
@no_type_check
def keys_backward(
    q_desc, k_desc, v_desc, d_out_desc, dq_desc, dk_ptr, dv_ptr, lse_ptr, delta_ptr,
    first_ptr, last_ptr, seen_ptr,
    H, group, T, S, window, scale, softmax_scale, cap, seed, whole, fraction, kept_share,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SPANS: tl.constexpr, SEEN: tl.constexpr,
    CAP: tl.constexpr, DROPOUT: tl.constexpr, CUT: tl.constexpr, ADD_DQ: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr, D: tl.constexpr, DV: tl.constexpr,
    WIDTH: tl.constexpr, V_WIDTH: tl.constexpr, PRECISION: tl.constexpr, SPECIALIZE: tl.constexpr,
):  # fmt: skip
    """dK and dV of a block of keys; with ADD_DQ its share of dQ is added to `dq_desc` (float32), by whoever is ready."""
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

    k = k_desc.load([b, hkv, start, 0]).reshape(BLOCK_S, D)
    v = v_desc.load([b, hkv, start, 0]).reshape(BLOCK_S, DV)
    if SEEN:
        there = tl.load(seen_ptr + b.to(tl.int64) * S + s, mask=s < S, other=0) != 0
    dk = tl.zeros([BLOCK_S, D], tl.float32)
    dv = tl.zeros([BLOCK_S, DV], tl.float32)
    for step in tl.range(
        0, blocks * group, warp_specialize=SPECIALIZE
    ):  # of every head that shares these keys
        h = hkv * group + step // blocks
        begin = (low + step % blocks) * BLOCK_T
        t = begin + tl.arange(0, BLOCK_T)
        row = (b * H + h) * T + t
        q = q_desc.load([b, h, begin, 0]).reshape(BLOCK_T, D)
        lse = tl.load(lse_ptr + row, mask=t < T, other=-float("inf"))
        lse = tl.where(
            lse == -float("inf"), float("inf"), lse * LOG2E
        )  # a row that sees nothing weighs nothing
        if CAP:
            bent = capped(tl.dot(k, q.T, input_precision=PRECISION) * scale)  # (BLOCK_S, BLOCK_T): transposed
            p = tl.exp2(cap * bent - lse[None, :])
        else:
            scores = tl.zeros([BLOCK_S, BLOCK_T], tl.float32) - (lse / scale)[None, :]
            p = tl.exp2(tl.dot(k, q.T, scores, input_precision=PRECISION) * scale)
        if CUT:
            p = tl.where((t[None, :] >= first[:, None]) & (t[None, :] <= last[:, None]), p, 0.0)
        if SEEN:
            p = tl.where(there[:, None], p, 0.0)
        d_out = d_out_desc.load([b, h, begin, 0]).reshape(BLOCK_T, DV)
        if DROPOUT:
            stays = kept(row[None, :], s[:, None], seed, whole, fraction)
            dropped = tl.where(stays, p * (1.0 / kept_share), 0.0)
            dv = tl.dot(dropped.to(d_out.dtype), d_out, dv, input_precision=PRECISION)
        else:
            dv = tl.dot(p.to(d_out.dtype), d_out, dv, input_precision=PRECISION)
        delta = tl.load(delta_ptr + row, mask=t < T, other=0.0)
        if DROPOUT:
            dp = tl.dot(v, d_out.T, input_precision=PRECISION)
            ds = p * (tl.where(stays, dp * (1.0 / kept_share), 0.0) - delta[None, :])
        else:
            less = tl.zeros([BLOCK_S, BLOCK_T], tl.float32) - delta[None, :]
            ds = p * tl.dot(v, d_out.T, less, input_precision=PRECISION)
        if CAP:
            ds *= 1.0 - bent * bent
        ds = ds.to(q.dtype)
        dk = tl.dot(ds, q, dk, input_precision=PRECISION)
        if ADD_DQ:
            dq = tl.dot(ds.T, k, input_precision=PRECISION) * softmax_scale
            dq_desc.atomic_add([b, h, begin, 0], dq.reshape(1, 1, BLOCK_T, D))
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
    q_desc, k_desc, v_desc, d_out_desc, dq_ptr, lse_ptr, delta_ptr, first_ptr, last_ptr, seen_ptr,
    H, group, T, S, window, scale, softmax_scale, cap, seed, whole, fraction, kept_share,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SPANS: tl.constexpr, SEEN: tl.constexpr,
    CAP: tl.constexpr, DROPOUT: tl.constexpr, CUT: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr, D: tl.constexpr, DV: tl.constexpr,
    WIDTH: tl.constexpr, PRECISION: tl.constexpr, SPECIALIZE: tl.constexpr,
):  # fmt: skip
    """dQ of a block of queries, summed in one order: the same bits every time."""
    block = tl.num_programs(0) - 1 - tl.program_id(0) if CAUSAL else tl.program_id(0)
    head = tl.program_id(1)
    b, h = head // H, head % H
    hkv = h // group
    start = block * BLOCK_T
    t = start + tl.arange(0, BLOCK_T)
    first, last = keys_of_queries(t, b, first_ptr, last_ptr, T, S, window, CAUSAL, WINDOW, SPANS)
    lowest, _ = keys_of_queries(start, b, first_ptr, last_ptr, T, S, window, CAUSAL, WINDOW, SPANS)
    stop = tl.minimum(start + BLOCK_T, T) - 1
    _, highest = keys_of_queries(stop, b, first_ptr, last_ptr, T, S, window, CAUSAL, WINDOW, SPANS)
    row = head * T + t
    q = q_desc.load([b, h, start, 0]).reshape(BLOCK_T, D)
    d_out = d_out_desc.load([b, h, start, 0]).reshape(BLOCK_T, DV)
    lse = tl.load(lse_ptr + row, mask=t < T, other=-float("inf"))
    lse = tl.where(lse == -float("inf"), float("inf"), lse * LOG2E)
    delta = tl.load(delta_ptr + row, mask=t < T, other=0.0)
    dq = tl.zeros([BLOCK_T, D], tl.float32)
    for begin in tl.range(lowest // BLOCK_S * BLOCK_S, highest + 1, BLOCK_S, warp_specialize=SPECIALIZE):
        k = k_desc.load([b, hkv, begin, 0]).reshape(BLOCK_S, D)
        scores = tl.dot(q, k.T, input_precision=PRECISION)  # (BLOCK_T, BLOCK_S)
        s = begin + tl.arange(0, BLOCK_S)
        if CAP:
            bent = capped(scores * scale)
            p = tl.exp2(cap * bent - lse[:, None])
        else:
            p = tl.exp2(scores * scale - lse[:, None])
        if CUT:
            p = tl.where((s[None, :] >= first[:, None]) & (s[None, :] <= last[:, None]), p, 0.0)
        if SEEN:
            there = tl.load(seen_ptr + b.to(tl.int64) * S + s, mask=s < S, other=0)
            p = tl.where(there[None, :] != 0, p, 0.0)
        v = v_desc.load([b, hkv, begin, 0]).reshape(BLOCK_S, DV)
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
