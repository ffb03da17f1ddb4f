"""Forward on a GPU: FlashAttention-2's Algorithm 1 (Dao 2023), a program for each block of queries of a head.

The block of queries stays on the chip. Keys and values come by, a tile at a time: `highest` is the largest score so
far, `total` the sum of 2^(score − highest), `acc` the weighted values. A new highest score rescales both (see `tiled`).

Tiles come in three kinds of run: those that a first visible key cuts through (windows and documents only), those that
every query of the block sees whole, and those that a last visible key cuts through. Only cut tiles are masked.
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
from primer.kernels.attention.gpu.tiles import LN2, block, capped, kept, keys_of_queries
from primer.kernels.attention.visible import Spans


@triton.jit
@no_type_check
def _tiles(
    acc, total, highest, q, k_in, v_in, seen_ptr, b, hkv, begin, end, first, last, row,
    S, scale, cap, seed, whole, fraction,
    CUT: tl.constexpr, FIRST: tl.constexpr, SEEN: tl.constexpr, CAP: tl.constexpr, DROPOUT: tl.constexpr,
    BLOCK_S: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, WIDTH: tl.constexpr, V_WIDTH: tl.constexpr,
    COPIED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Keys `begin` to `end` go by. CUT: some lie outside a query's span, at its end or (FIRST) at its beginning."""
    for start in range(begin, end, BLOCK_S):
        k = block(k_in, b, hkv, start, BLOCK_S, D, WIDTH, COPIED)
        scores = tl.dot(q, k.T, input_precision=PRECISION)  # (BLOCK_T, BLOCK_S)
        s = start + tl.arange(0, BLOCK_S)
        if CAP:
            scores = cap * capped(scores * scale)
        if CUT:
            visible = s[None, :] <= last[:, None]
            if FIRST:
                visible = visible & (s[None, :] >= first[:, None])
            scores = tl.where(visible, scores, -float("inf"))
        if SEEN:
            there = tl.load(seen_ptr + s, mask=s < S, other=0)
            scores = tl.where(there[None, :] != 0, scores, -float("inf"))
        if CAP:
            higher = tl.maximum(highest, tl.max(scores, 1))
        else:  # scores are scaled where they are subtracted from: one instruction does both
            higher = tl.maximum(highest, tl.max(scores, 1) * scale)
        # a row that has seen nothing yet has −∞, and −∞ − −∞ is no number
        against = tl.where(higher == -float("inf"), 0.0, higher) if CUT or SEEN else higher
        rescale = tl.exp2(highest - against)
        if CAP:
            p = tl.exp2(scores - against[:, None])
        else:
            p = tl.exp2(scores * scale - against[:, None])
        total = total * rescale + tl.sum(p, 1)
        if DROPOUT:
            p = tl.where(kept(row[:, None], s[None, :], seed, whole, fraction), p, 0.0)
        acc = acc * rescale[:, None]
        v = block(v_in, b, hkv, start, BLOCK_S, DV, V_WIDTH, COPIED)
        acc = tl.dot(p.to(v.dtype), v, acc, input_precision=PRECISION)
        highest = higher
    return acc, total, highest


@triton.jit(do_not_specialize=["seed"])
@no_type_check
def forward(
    q_in, k_in, v_in, out_ptr, lse_ptr, first_ptr, last_ptr, seen_ptr,
    H, group, T, S, window, scale, cap, seed, whole, fraction, kept_share,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SPANS: tl.constexpr, SEEN: tl.constexpr,
    CAP: tl.constexpr, DROPOUT: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
    D: tl.constexpr, DV: tl.constexpr, WIDTH: tl.constexpr, V_WIDTH: tl.constexpr,
    COPIED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One block of queries of one head. scale: softmax_scale·log₂e; with a cap, softmax_scale / cap, and cap·log₂e."""
    blocks = tl.num_programs(0)
    number = blocks - 1 - tl.program_id(0) if CAUSAL else tl.program_id(0)  # the longest rows first
    head = tl.program_id(1)
    b, h = head // H, head % H
    hkv = h // group
    start = number * BLOCK_T
    stop = tl.minimum(start + BLOCK_T, T)
    t = start + tl.arange(0, BLOCK_T)
    row = head * T + t
    first, last = keys_of_queries(t, b, first_ptr, last_ptr, T, S, window, CAUSAL, WINDOW, SPANS)
    lowest, all_last = keys_of_queries(start, b, first_ptr, last_ptr, T, S, window, CAUSAL, WINDOW, SPANS)
    all_first, uppermost = keys_of_queries(
        stop - 1, b, first_ptr, last_ptr, T, S, window, CAUSAL, WINDOW, SPANS
    )
    begin, end = lowest // BLOCK_S * BLOCK_S, uppermost + 1
    seen_ptr += b.to(tl.int64) * S

    highest = tl.full([BLOCK_T], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK_T], tl.float32)
    acc = tl.zeros([BLOCK_T, DV], tl.float32)
    q = block(q_in, b, h, start, BLOCK_T, D, WIDTH, COPIED)
    whole_from = begin
    if WINDOW or SPANS:
        whole_from = tl.maximum(begin, tl.minimum((all_first + BLOCK_S - 1) // BLOCK_S * BLOCK_S, end))
        acc, total, highest = _tiles(
            acc, total, highest, q, k_in, v_in, seen_ptr, b, hkv, begin, whole_from, first, last, row,
            S, scale, cap, seed, whole, fraction, True, True, SEEN, CAP, DROPOUT,
            BLOCK_S, D, DV, WIDTH, V_WIDTH, COPIED, PRECISION,
        )  # fmt: skip
    whole_to = tl.maximum(whole_from, (all_last + 1) // BLOCK_S * BLOCK_S)
    acc, total, highest = _tiles(
        acc, total, highest, q, k_in, v_in, seen_ptr, b, hkv, whole_from, whole_to, first, last, row,
        S, scale, cap, seed, whole, fraction, False, False, SEEN, CAP, DROPOUT,
        BLOCK_S, D, DV, WIDTH, V_WIDTH, COPIED, PRECISION,
    )  # fmt: skip
    acc, total, highest = _tiles(
        acc, total, highest, q, k_in, v_in, seen_ptr, b, hkv, whole_to, end, first, last, row,
        S, scale, cap, seed, whole, fraction, True, WINDOW or SPANS, SEEN, CAP, DROPOUT,
        BLOCK_S, D, DV, WIDTH, V_WIDTH, COPIED, PRECISION,
    )  # fmt: skip

    nothing = total == 0.0
    lse = tl.where(nothing, -float("inf"), (highest + tl.log2(total)) * LN2)
    tl.store(lse_ptr + row, lse, mask=t < T)
    acc = acc / tl.where(nothing, 1.0, total * kept_share)[:, None]
    d = tl.arange(0, DV)
    at = row.to(tl.int64)[:, None] * V_WIDTH + d[None, :]
    tl.store(out_ptr + at, acc.to(out_ptr.dtype.element_ty), mask=(t < T)[:, None] & (d < V_WIDTH)[None, :])


def forward_pass(
    q: Tensor, k: Tensor, v: Tensor, visible: Spans | None, seen: Tensor | None, how: How, tiles: Tiles
) -> tuple[Tensor, Tensor]:
    """Output (contiguous) and lse."""
    (B, H, T, D), (Hkv, S, Dv) = q.shape, (k.shape[1], k.shape[2], v.shape[3])
    out = q.new_empty(B, H, T, Dv)
    lse = q.new_empty(B, H, T, dtype=torch.float32)
    q, k, v = readable(q), readable(k), readable(v)
    launch(
        forward,
        (triton.cdiv(T, tiles.block_t), B * H),
        q_in=tiled_by(q, tiles.block_t, tiles.copied),
        k_in=tiled_by(k, tiles.block_s, tiles.copied),
        v_in=tiled_by(v, tiles.block_s, tiles.copied),
        out_ptr=out,
        lse_ptr=lse,
        H=H,
        group=H // Hkv,
        T=T,
        S=S,
        BLOCK_T=tiles.block_t,
        BLOCK_S=tiles.block_s,
        D=padded(D),
        DV=padded(Dv),
        WIDTH=D,
        V_WIDTH=Dv,
        COPIED=tiles.copied,
        PRECISION=precision(),
        num_warps=tiles.warps,
        num_stages=tiles.stages,
        **spans_and_scale(how, visible, lse),
        **extras(how, seen, lse),
    )
    return out, lse
