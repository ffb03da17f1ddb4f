"""Forward on a Hopper GPU, in Gluon: some warps load, others compute (FlashAttention-3, Shah et al. 2024).

A program has 128 queries of a head and three roles. One warp lets keys and values come, through the copy engine, into
rings of shared memory. Two groups of four warps take 64 queries each. While one group computes exponentials, the tensor
cores work for the other; and each group asks for the next tile's scores before it weighs the values of this one (§3.2).
A barrier per place in a ring says when it is full, another when it is free.

Tiles are taken from the last key to the first, so that those a mask cuts through come first.
"""

from functools import lru_cache
from typing import no_type_check

import torch
import triton
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from primer.kernels.attention.gpu.launch import How, launch, padded, readable, spans_and_scale
from primer.kernels.attention.gpu.tiles import LN2, keys_of_queries
from primer.kernels.attention.visible import Spans

fetch = getattr(tma, "async_load", None) or tma.async_copy_global_to_shared
"""The copy engine brings a block to shared memory; its name in Gluon has changed."""

ROWS = gl.constexpr(64)
"""Queries of a group of four warps: the height of its matrix instruction."""


@gluon.jit
@no_type_check
def _producer(
    q_desc, k_desc, v_desc, q_s, k_s, v_s, q_full, k_full, k_free, v_full, v_free,
    b, h, hkv, start, begin, tiles, BLOCK_S: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """Lets the queries come, then keys and values, each tile as soon as its place is free."""
    if tiles > 0:
        for group in gl.static_range(2):
            mbarrier.expect(q_full.index(group), q_desc.block_type.nbytes)
            fetch(q_desc, [b, h, start + group * ROWS, 0], q_full.index(group), q_s.index(group))
    for i in range(tiles):
        place, turn = i % STAGES, (i // STAGES) & 1
        at = begin + (tiles - 1 - i) * BLOCK_S
        mbarrier.wait(k_free.index(place), turn ^ 1)
        mbarrier.expect(k_full.index(place), k_desc.block_type.nbytes)
        fetch(k_desc, [b, hkv, at, 0], k_full.index(place), k_s.index(place))
        mbarrier.wait(v_free.index(place), turn ^ 1)
        mbarrier.expect(v_full.index(place), v_desc.block_type.nbytes)
        fetch(v_desc, [b, hkv, at, 0], v_full.index(place), v_s.index(place))


@gluon.jit
@no_type_check
def _softmax(
    scores, highest, total, at, first, last, scale,
    CUT: gl.constexpr, FIRST: gl.constexpr, BLOCK_S: gl.constexpr,
):  # fmt: skip
    """A tile's weights, the new highest score and sum, and what rescales the old: the online softmax of `tiled`."""
    layout: gl.constexpr = scores.type.layout
    if CUT:
        s = at + gl.arange(0, BLOCK_S, gl.SliceLayout(0, layout))
        visible = s[None, :] <= last[:, None]
        if FIRST:
            visible = visible & (s[None, :] >= first[:, None])
        scores = gl.where(visible, scores, -float("inf"))
    higher = gl.maximum(highest, gl.max(scores, 1) * scale)
    against = gl.where(higher == -float("inf"), 0.0, higher) if CUT else higher
    p = gl.exp2(scores * scale - against[:, None])
    rescale = gl.exp2(highest - against)
    return p, higher, total * rescale + gl.sum(p, 1), rescale


@gluon.jit
@no_type_check
def _tiles(
    q, k_s, v_s, k_full, k_free, v_full, v_free, p, acc, highest, total,
    tile, until, begin, tiles, first, last, scale,
    CUT: gl.constexpr, FIRST: gl.constexpr, BLOCK_S: gl.constexpr, D: gl.constexpr, DV: gl.constexpr,
    STAGES: gl.constexpr, SCORES: gl.constexpr, OUT: gl.constexpr,
):  # fmt: skip
    """Tiles number `tile` to `until`: the scores of each, while the values of the one before are weighed by p.

    It begins when the first tile's keys are there, and waits for the next one's where that costs nothing: between the
    exponentials and the end of the product. Without a wait in between the assembler moves the exponentials behind it.
    """
    operand: gl.constexpr = gl.DotOperandLayout(0, OUT, 2)
    for i in range(tile, until):
        place = i % STAGES
        before, turn_before = (i - 1) % STAGES, ((i - 1) // STAGES) & 1
        nothing = gl.zeros([ROWS, BLOCK_S], gl.float32, SCORES)
        k = k_s.index(place).reshape([BLOCK_S, D])
        scores = warpgroup_mma(q, k.permute([1, 0]), nothing, use_acc=False, is_async=True)
        mbarrier.wait(v_full.index(before), turn_before)
        v = v_s.index(before).reshape([BLOCK_S, DV])
        acc = warpgroup_mma(p, v, acc, is_async=True)
        scores = warpgroup_mma_wait(1, deps=[scores])
        mbarrier.arrive(k_free.index(place), count=1)
        at = begin + (tiles - 1 - i) * BLOCK_S
        weights, highest, total, rescale = _softmax(
            scores, highest, total, at, first, last, scale, CUT, FIRST, BLOCK_S
        )
        weights = gl.convert_layout(weights.to(v_s.dtype), operand)
        mbarrier.wait(k_full.index((i + 1) % STAGES), ((i + 1) // STAGES) & 1, pred=i + 1 < tiles)
        acc, _, p = warpgroup_mma_wait(0, deps=[acc, p, weights])
        mbarrier.arrive(v_free.index(before), count=1)
        rescale = gl.convert_layout(rescale, gl.SliceLayout(1, OUT))
        acc = acc * rescale[:, None]
    return p, acc, highest, total


@gluon.jit
@no_type_check
def _consumer(
    q_s, k_s, v_s, q_full, k_full, k_free, v_full, v_free, group, out_ptr, lse_ptr, first_ptr, last_ptr,
    b, head, T, S, window, scale, start, begin, tiles, cut_tiles, whole_tiles,
    CAUSAL: gl.constexpr, WINDOW: gl.constexpr, SPANS: gl.constexpr, BLOCK_S: gl.constexpr,
    D: gl.constexpr, DV: gl.constexpr, V_WIDTH: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """64 queries of a head, from their scores to the output."""
    SCORES: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_S, 16])
    OUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, DV, 16])
    LEFT: gl.constexpr = WINDOW or SPANS
    t = start + group * ROWS + gl.arange(0, ROWS, gl.SliceLayout(1, SCORES))
    first, last = keys_of_queries(t, b, first_ptr, last_ptr, T, S, window, CAUSAL, WINDOW, SPANS)
    highest = gl.full([ROWS], -float("inf"), gl.float32, gl.SliceLayout(1, SCORES))
    total = gl.zeros([ROWS], gl.float32, gl.SliceLayout(1, SCORES))
    acc = gl.zeros([ROWS, DV], gl.float32, OUT)
    if tiles > 0:
        mbarrier.wait(q_full.index(group), 0)
        q = q_s.index(group).reshape([ROWS, D])
        nothing = gl.zeros([ROWS, BLOCK_S], gl.float32, SCORES)
        mbarrier.wait(k_full.index(0), 0)
        k = k_s.index(0).reshape([BLOCK_S, D])
        scores = warpgroup_mma(q, k.permute([1, 0]), nothing, use_acc=False, is_async=True)
        scores = warpgroup_mma_wait(0, deps=[scores])
        mbarrier.arrive(k_free.index(0), count=1)
        p, highest, total, _ = _softmax(
            scores, highest, total, begin + (tiles - 1) * BLOCK_S, first, last, scale, True, LEFT, BLOCK_S
        )
        p = gl.convert_layout(p.to(v_s.dtype), gl.DotOperandLayout(0, OUT, 2))
        mbarrier.wait(k_full.index(1 % STAGES), 1 // STAGES, pred=tiles > 1)
        p, acc, highest, total = _tiles(
            q, k_s, v_s, k_full, k_free, v_full, v_free, p, acc, highest, total,
            1, cut_tiles, begin, tiles, first, last, scale,
            True, LEFT, BLOCK_S, D, DV, STAGES, SCORES, OUT,
        )  # fmt: skip
        p, acc, highest, total = _tiles(
            q, k_s, v_s, k_full, k_free, v_full, v_free, p, acc, highest, total,
            cut_tiles, whole_tiles, begin, tiles, first, last, scale,
            False, False, BLOCK_S, D, DV, STAGES, SCORES, OUT,
        )  # fmt: skip
        if LEFT:
            p, acc, highest, total = _tiles(
                q, k_s, v_s, k_full, k_free, v_full, v_free, p, acc, highest, total,
            whole_tiles, tiles, begin, tiles, first, last, scale,
                True, LEFT, BLOCK_S, D, DV, STAGES, SCORES, OUT,
            )  # fmt: skip
        place, turn = (tiles - 1) % STAGES, ((tiles - 1) // STAGES) & 1
        mbarrier.wait(v_full.index(place), turn)
        acc = warpgroup_mma(p, v_s.index(place).reshape([BLOCK_S, DV]), acc, is_async=True)
        acc, _ = warpgroup_mma_wait(0, deps=[acc, p])
    nothing_seen = total == 0.0
    lse = gl.where(nothing_seen, -float("inf"), (highest + gl.log2(total)) * LN2)
    row = head * T + t
    gl.store(lse_ptr + row, lse, mask=t < T)
    inverse = gl.convert_layout(1.0 / gl.where(nothing_seen, 1.0, total), gl.SliceLayout(1, OUT))
    acc = acc * inverse[:, None]
    t = start + group * ROWS + gl.arange(0, ROWS, gl.SliceLayout(1, OUT))
    d = gl.arange(0, DV, gl.SliceLayout(0, OUT))
    at = (head * T + t).to(gl.int64)[:, None] * V_WIDTH + d[None, :]
    gl.store(out_ptr + at, acc.to(out_ptr.dtype.element_ty), mask=(t < T)[:, None] & (d < V_WIDTH)[None, :])


@gluon.jit
@no_type_check
def forward(
    q_desc, k_desc, v_desc, out_ptr, lse_ptr, first_ptr, last_ptr, H, group, T, S, window, scale,
    CAUSAL: gl.constexpr, WINDOW: gl.constexpr, SPANS: gl.constexpr, BLOCK_S: gl.constexpr,
    D: gl.constexpr, DV: gl.constexpr, V_WIDTH: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """`forward.forward` for causal, full, windowed and packed attention."""
    blocks = gl.num_programs(0)
    block = gl.program_id(0)
    if CAUSAL:
        block = blocks - 1 - block
    head = gl.program_id(1)
    b, h = head // H, head % H
    hkv = h // group
    start = block * (2 * ROWS)
    stop = gl.minimum(start + 2 * ROWS, T)
    lowest, all_last = keys_of_queries(start, b, first_ptr, last_ptr, T, S, window, CAUSAL, WINDOW, SPANS)
    all_first, highest = keys_of_queries(
        stop - 1, b, first_ptr, last_ptr, T, S, window, CAUSAL, WINDOW, SPANS
    )
    begin = lowest // BLOCK_S * BLOCK_S
    tiles = gl.maximum(highest + BLOCK_S - begin, 0) // BLOCK_S  # none where the last key is before the first
    # counted from the last: how many are cut by a last key, and where those begin that a first key cuts
    cut_tiles = gl.minimum(gl.maximum(tiles - ((all_last + 1) // BLOCK_S - begin // BLOCK_S), 1), tiles)
    whole_tiles = gl.minimum(
        gl.maximum(tiles - ((all_first + BLOCK_S - 1) // BLOCK_S - begin // BLOCK_S), cut_tiles), tiles
    )

    q_s = gl.allocate_shared_memory(q_desc.dtype, [2] + q_desc.block_type.shape, q_desc.layout)
    k_s = gl.allocate_shared_memory(k_desc.dtype, [STAGES] + k_desc.block_type.shape, k_desc.layout)
    v_s = gl.allocate_shared_memory(v_desc.dtype, [STAGES] + v_desc.block_type.shape, v_desc.layout)
    q_full = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    k_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    k_free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(2):
        mbarrier.init(q_full.index(i), count=1)
    for i in gl.static_range(STAGES):
        mbarrier.init(k_full.index(i), count=1)
        mbarrier.init(v_full.index(i), count=1)
        mbarrier.init(k_free.index(i), count=2)  # both groups are done with it
        mbarrier.init(v_free.index(i), count=2)
    gl.warp_specialize(
        [
            (_producer, (
                q_desc, k_desc, v_desc, q_s, k_s, v_s, q_full, k_full, k_free, v_full, v_free,
                b, h, hkv, start, begin, tiles, BLOCK_S, STAGES,
            )),
            (_consumer, (
                q_s, k_s, v_s, q_full, k_full, k_free, v_full, v_free, 0, out_ptr, lse_ptr, first_ptr, last_ptr,
                b, head, T, S, window, scale, start, begin, tiles, cut_tiles, whole_tiles,
                CAUSAL, WINDOW, SPANS, BLOCK_S, D, DV, V_WIDTH, STAGES,
            )),
            (_consumer, (
                q_s, k_s, v_s, q_full, k_full, k_free, v_full, v_free, 1, out_ptr, lse_ptr, first_ptr, last_ptr,
                b, head, T, S, window, scale, start, begin, tiles, cut_tiles, whole_tiles,
                CAUSAL, WINDOW, SPANS, BLOCK_S, D, DV, V_WIDTH, STAGES,
            )),
        ],
        [4, 4],
        [240, 240],
    )  # fmt: skip


def descriptor(x: Tensor, rows: int, columns: int) -> TensorDescriptor:
    """x (B, H, T, D) as the copy engine sees it, and how a block lies in shared memory."""
    layout = shared_layout((1, 1, rows, columns), x.dtype)
    return TensorDescriptor(x, list(x.shape), list(x.stride()), [1, 1, rows, columns], layout)


@lru_cache
def shared_layout(block: tuple[int, ...], dtype: torch.dtype) -> gl.NVMMASharedLayout:
    """How a block lies in shared memory, so that the copy engine and the matrix instructions find it."""
    kind = {torch.bfloat16: gl.bfloat16, torch.float16: gl.float16, torch.float32: gl.float32}[dtype]
    return gl.NVMMASharedLayout.get_default_for(list(block), kind)


def forward_pass(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    visible: Spans | None,
    how: How,
    *,
    block_s: int = 128,
    stages: int = 2,
) -> tuple[Tensor, Tensor]:
    """Output (contiguous) and lse, in half precision, without dropout, caps and padding."""
    (B, H, T, D), (Hkv, S, Dv) = q.shape, (k.shape[1], k.shape[2], v.shape[3])
    q, k, v = readable(q), readable(k), readable(v)
    out = q.new_empty(B, H, T, Dv)
    lse = q.new_empty(B, H, T, dtype=torch.float32)
    launch(
        forward,
        (triton.cdiv(T, 2 * ROWS.value), B * H),
        q_desc=descriptor(q, ROWS.value, padded(D)),
        k_desc=descriptor(k, block_s, padded(D)),
        v_desc=descriptor(v, block_s, padded(Dv)),
        out_ptr=out,
        lse_ptr=lse,
        H=H,
        group=H // Hkv,
        T=T,
        S=S,
        BLOCK_S=block_s,
        D=padded(D),
        DV=padded(Dv),
        V_WIDTH=Dv,
        STAGES=stages,
        num_warps=4,
        **spans_and_scale(how, visible, lse),
    )
    return out, lse
