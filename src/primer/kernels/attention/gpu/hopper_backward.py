"""Backward on a Hopper GPU, in Gluon: `backward.keys_backward` with its roles told apart (Shah et al. 2024, §3.1).

A program keeps 128 keys and values of a head in shared memory. One warp lets queries and dO come by. Two groups of four
warps take 64 keys each: their Sᵀ, Pᵀ, dPᵀ, dSᵀ, and the sums dK and dV, which stay in registers. For dQ the groups need
each other's dSᵀ: it goes to shared memory, each group multiplies it by half of K's columns, and the copy engine adds
the product to dQ in memory, in float32.

−lse and −delta are where the sums of the products begin: so they need no registers of their own.
"""

from typing import Any, no_type_check

import torch
import triton
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language._core import builtin
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.language.core import ir

from primer.kernels.attention.gpu.hopper import descriptor, fetch, shared_layout
from primer.kernels.attention.gpu.launch import How, launch, padded, readable, spans_and_scale
from primer.kernels.attention.gpu.tiles import queries_of_keys
from primer.kernels.attention.visible import Spans

ROWS = gl.constexpr(64)
"""Keys of a group of four warps."""


@builtin  # type: ignore[untyped-decorator]
def add_to_memory(descriptor: Any, at: Any, shared: Any, _semantic: Any = None) -> None:
    """The copy engine adds a block of shared memory to memory; Gluon has its operation, and no name for it."""
    at = _semantic._convert_to_ir_values(at, require_i64=False)
    _semantic.builder.create_async_tma_reduce(
        ir.DESCRIPTOR_REDUCE_KIND.ADD, descriptor.handle, at, shared.handle
    )


@gluon.jit
@no_type_check
def _producer(
    q_desc, k_desc, v_desc, d_out_desc, q_s, k_s, v_s, d_out_s, lse_s, delta_s, kv_full, q_full, d_out_full, free,
    lse_ptr, delta_ptr, b, hkv, H, group, T, softmax_scale, start, low, blocks,
    BLOCK_T: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """Lets K and V come; for each step Q and dO, and the numbers −lse and −delta of its rows.

    lse is divided by the scale, as scores are before they have it. A row that sees nothing has −∞: its weights are 0.
    """
    columns = gl.arange(0, BLOCK_T, gl.BlockedLayout([1], [32], [4], [0]))
    if blocks > 0:
        mbarrier.expect(kv_full, k_desc.block_type.nbytes + v_desc.block_type.nbytes)
        fetch(k_desc, [b, hkv, start, 0], kv_full, k_s)
        fetch(v_desc, [b, hkv, start, 0], kv_full, v_s)
    i = 0
    for h in range(hkv * group, (hkv + 1) * group):  # every head that shares these keys
        for block in range(low, low + blocks):
            place, turn = i % STAGES, (i // STAGES) & 1
            begin = block * BLOCK_T
            mbarrier.wait(free.index(place), turn ^ 1)
            mbarrier.expect(q_full.index(place), q_desc.block_type.nbytes)
            fetch(q_desc, [b, h, begin, 0], q_full.index(place), q_s.index(place))
            mbarrier.expect(d_out_full.index(place), d_out_desc.block_type.nbytes)
            fetch(d_out_desc, [b, h, begin, 0], d_out_full.index(place), d_out_s.index(place))
            t = begin + columns
            row = (b * H + h) * T + t
            lse = gl.load(lse_ptr + row, mask=t < T, other=-float("inf"))
            delta = gl.load(delta_ptr + row, mask=t < T, other=0.0)
            lse_s.index(place).store(gl.where(lse == -float("inf"), lse, lse * (-1.0 / softmax_scale)))
            delta_s.index(place).store(-delta)
            mbarrier.arrive(q_full.index(place), count=1)
            i += 1


@gluon.jit
@no_type_check
def _consumer(
    q_s, k_s, v_s, d_out_s, lse_s, delta_s, ds_s, dq_s, kv_full, q_full, d_out_full, free, ds_full, ds_free,
    dq_desc, dk_ptr, dv_ptr, first_ptr, last_ptr, b, hkv, Hkv, group, T, S, window, scale, softmax_scale,
    start, low, blocks, WHICH: gl.constexpr,
    CAUSAL: gl.constexpr, WINDOW: gl.constexpr, SPANS: gl.constexpr, CUT: gl.constexpr,
    BLOCK_T: gl.constexpr, BLOCK_S: gl.constexpr, D: gl.constexpr, DV: gl.constexpr,
    WIDTH: gl.constexpr, V_WIDTH: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """64 keys of a head: dK and dV, and half of the columns of what the block of keys adds to dQ."""
    SCORES: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_T, 16])
    KEYS: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    VALUES: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, DV, 16])
    HALF: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D // 2, 16])
    ROW: gl.constexpr = gl.SliceLayout(0, SCORES)
    s = start + WHICH * ROWS + gl.arange(0, ROWS, gl.SliceLayout(1, SCORES))
    first, last = queries_of_keys(s, b, first_ptr, last_ptr, T, S, window, CAUSAL, WINDOW, SPANS)
    k = k_s.reshape([BLOCK_S, D])
    mine = k.slice(WHICH * ROWS, ROWS, dim=0)
    v = v_s.reshape([BLOCK_S, DV]).slice(WHICH * ROWS, ROWS, dim=0)
    half = k.slice(WHICH * (D // 2), D // 2, dim=1)
    ds_mine = ds_s.slice(WHICH * ROWS, ROWS, dim=0)
    dq_half = dq_s.index(WHICH)
    dk = gl.zeros([ROWS, D], gl.float32, KEYS)
    dv = gl.zeros([ROWS, DV], gl.float32, VALUES)
    if blocks > 0:
        mbarrier.wait(kv_full, 0)
    i = 0
    for h in range(hkv * group, (hkv + 1) * group):  # every head that shares these keys
        for block in range(low, low + blocks):
            place, turn = i % STAGES, (i // STAGES) & 1
            begin = block * BLOCK_T
            q = q_s.index(place).reshape([BLOCK_T, D])
            d_out = d_out_s.index(place).reshape([BLOCK_T, DV])
            nothing = gl.zeros([ROWS, BLOCK_T], gl.float32, SCORES)
            mbarrier.wait(q_full.index(place), turn)
            scores = nothing + lse_s.index(place).load(ROW)[None, :]
            scores = warpgroup_mma(mine, q.permute([1, 0]), scores, is_async=True)
            dp = nothing + delta_s.index(place).load(ROW)[None, :]
            mbarrier.wait(d_out_full.index(place), turn)
            dp = warpgroup_mma(v, d_out.permute([1, 0]), dp, is_async=True)
            scores = warpgroup_mma_wait(1, deps=[scores])
            p = gl.exp2(scores * scale)
            if CUT:
                t = begin + gl.arange(0, BLOCK_T, ROW)
                p = gl.where((t[None, :] >= first[:, None]) & (t[None, :] <= last[:, None]), p, 0.0)
            weights = gl.convert_layout(p.to(q_s.dtype), gl.DotOperandLayout(0, VALUES, 2))
            dv = warpgroup_mma(weights, d_out, dv, is_async=True)
            dp = warpgroup_mma_wait(1, deps=[dp])
            ds = (p * dp).to(q_s.dtype)
            mbarrier.wait(ds_free, (i & 1) ^ 1)
            ds_mine.store(ds)
            fence_async_shared()
            mbarrier.arrive(ds_full, count=1)
            mbarrier.wait(ds_full, i & 1)
            dq = gl.zeros([BLOCK_T, D // 2], gl.float32, HALF)
            dq = warpgroup_mma(ds_s.permute([1, 0]), half, dq, use_acc=False, is_async=True)
            dk = warpgroup_mma(ds_mine, q, dk, is_async=True)
            tma.store_wait(0)  # the dQ before this one has left shared memory
            dq, dv, _ = warpgroup_mma_wait(1, deps=[dq, dv, weights])
            dq_half.reshape([BLOCK_T, D // 2]).store(dq)
            fence_async_shared()
            add_to_memory(dq_desc, [b, h, begin, WHICH * (D // 2)], dq_half)
            dk = warpgroup_mma_wait(0, deps=[dk])
            mbarrier.arrive(ds_free, count=1)
            mbarrier.arrive(free.index(place), count=1)
            i += 1
    tma.store_wait(0)
    _write(dk_ptr, dk * softmax_scale, start + WHICH * ROWS, b * Hkv + hkv, S, WIDTH, D, KEYS)
    _write(dv_ptr, dv, start + WHICH * ROWS, b * Hkv + hkv, S, V_WIDTH, DV, VALUES)


@gluon.jit
@no_type_check
def _write(ptr, x, start, head, S, WIDTH: gl.constexpr, D: gl.constexpr, LAYOUT: gl.constexpr):
    s = start + gl.arange(0, ROWS, gl.SliceLayout(1, LAYOUT))
    d = gl.arange(0, D, gl.SliceLayout(0, LAYOUT))
    at = (head * S + s).to(gl.int64)[:, None] * WIDTH + d[None, :]
    there = (s < S)[:, None] if WIDTH == D else (s < S)[:, None] & (d < WIDTH)[None, :]
    gl.store(ptr + at, x.to(ptr.dtype.element_ty), mask=there)


@gluon.jit
@no_type_check
def keys_backward(
    q_desc, k_desc, v_desc, d_out_desc, dq_desc, dk_ptr, dv_ptr, lse_ptr, delta_ptr, first_ptr, last_ptr,
    H, group, T, S, window, scale, softmax_scale,
    CAUSAL: gl.constexpr, WINDOW: gl.constexpr, SPANS: gl.constexpr, CUT: gl.constexpr,
    BLOCK_T: gl.constexpr, BLOCK_S: gl.constexpr, D: gl.constexpr, DV: gl.constexpr,
    WIDTH: gl.constexpr, V_WIDTH: gl.constexpr, STAGES: gl.constexpr, DS: gl.constexpr,
):  # fmt: skip
    """dK and dV of 128 keys, and what they add to dQ. DS: how dSᵀ lies in shared memory."""
    head = gl.program_id(1)
    Hkv = H // group
    b, hkv = head // Hkv, head % Hkv
    start = gl.program_id(0) * BLOCK_S
    end = gl.minimum(start + BLOCK_S, S) - 1
    lowest, _ = queries_of_keys(start, b, first_ptr, last_ptr, T, S, window, CAUSAL, WINDOW, SPANS)
    _, highest = queries_of_keys(end, b, first_ptr, last_ptr, T, S, window, CAUSAL, WINDOW, SPANS)
    low = lowest // BLOCK_T
    blocks = gl.maximum((highest + BLOCK_T) // BLOCK_T - low, 0)

    q_s = gl.allocate_shared_memory(q_desc.dtype, [STAGES] + q_desc.block_type.shape, q_desc.layout)
    d_out_s = gl.allocate_shared_memory(
        d_out_desc.dtype, [STAGES] + d_out_desc.block_type.shape, d_out_desc.layout
    )
    k_s = gl.allocate_shared_memory(k_desc.dtype, k_desc.block_type.shape, k_desc.layout)
    v_s = gl.allocate_shared_memory(v_desc.dtype, v_desc.block_type.shape, v_desc.layout)
    lse_s = gl.allocate_shared_memory(gl.float32, [STAGES, BLOCK_T], gl.SwizzledSharedLayout(1, 1, 1, [0]))
    delta_s = gl.allocate_shared_memory(gl.float32, [STAGES, BLOCK_T], gl.SwizzledSharedLayout(1, 1, 1, [0]))
    ds_s = gl.allocate_shared_memory(q_desc.dtype, [BLOCK_S, BLOCK_T], DS)
    dq_s = gl.allocate_shared_memory(gl.float32, [2] + dq_desc.block_type.shape, dq_desc.layout)
    kv_full = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    ds_full = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    ds_free = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    q_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    d_out_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    mbarrier.init(kv_full, count=1)
    mbarrier.init(ds_full, count=2)
    mbarrier.init(ds_free, count=2)
    for i in gl.static_range(STAGES):
        mbarrier.init(q_full.index(i), count=2)  # by the copy engine, and by who writes the rows' numbers
        mbarrier.init(d_out_full.index(i), count=1)
        mbarrier.init(free.index(i), count=2)
    gl.warp_specialize(
        [
            (_producer, (
                q_desc, k_desc, v_desc, d_out_desc, q_s, k_s, v_s, d_out_s, lse_s, delta_s,
                kv_full, q_full, d_out_full, free, lse_ptr, delta_ptr, b, hkv, H, group, T, softmax_scale,
                start, low, blocks, BLOCK_T, STAGES,
            )),
            (_consumer, (
                q_s, k_s, v_s, d_out_s, lse_s, delta_s, ds_s, dq_s, kv_full, q_full, d_out_full, free, ds_full, ds_free,
                dq_desc, dk_ptr, dv_ptr, first_ptr, last_ptr, b, hkv, Hkv, group, T, S, window, scale, softmax_scale,
                start, low, blocks, 0, CAUSAL, WINDOW, SPANS, CUT, BLOCK_T, BLOCK_S, D, DV, WIDTH, V_WIDTH, STAGES,
            )),
            (_consumer, (
                q_s, k_s, v_s, d_out_s, lse_s, delta_s, ds_s, dq_s, kv_full, q_full, d_out_full, free, ds_full, ds_free,
                dq_desc, dk_ptr, dv_ptr, first_ptr, last_ptr, b, hkv, Hkv, group, T, S, window, scale, softmax_scale,
                start, low, blocks, 1, CAUSAL, WINDOW, SPANS, CUT, BLOCK_T, BLOCK_S, D, DV, WIDTH, V_WIDTH, STAGES,
            )),
        ],
        [4, 4],
        [240, 240],
    )  # fmt: skip


def backward_pass(
    d_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lse: Tensor,
    delta: Tensor,
    columns: Spans | None,
    how: How,
    *,
    block_t: int = 64,
    stages: int = 2,
) -> tuple[Tensor, Tensor, Tensor]:
    """dQ, dK and dV, contiguous. The parts of dQ are added as they come: its last bits differ from call to call."""
    (B, H, T, D), (Hkv, S, Dv) = q.shape, (k.shape[1], k.shape[2], v.shape[3])
    q, k, v, d_out = readable(q), readable(k), readable(v), readable(d_out)
    dq = torch.zeros(q.shape, dtype=torch.float32, device=q.device)
    dk, dv = k.new_empty(k.shape), v.new_empty(v.shape)
    block_s = 2 * ROWS.value
    launch(
        keys_backward,
        (triton.cdiv(S, block_s), B * Hkv),
        q_desc=descriptor(q, block_t, padded(D)),
        k_desc=descriptor(k, block_s, padded(D)),
        v_desc=descriptor(v, block_s, padded(Dv)),
        d_out_desc=descriptor(d_out, block_t, padded(Dv)),
        dq_desc=descriptor(dq, block_t, padded(D) // 2),
        dk_ptr=dk,
        dv_ptr=dv,
        lse_ptr=lse,
        delta_ptr=delta,
        H=H,
        group=H // Hkv,
        T=T,
        S=S,
        softmax_scale=how.softmax_scale,
        CUT=how.causal or how.window > 0 or columns is not None or S % block_s != 0,
        BLOCK_T=block_t,
        BLOCK_S=block_s,
        D=padded(D),
        DV=padded(Dv),
        WIDTH=D,
        V_WIDTH=Dv,
        STAGES=stages,
        DS=shared_layout((block_s, block_t), q.dtype),
        num_warps=4,
        **spans_and_scale(how, columns, lse),
    )
    return torch.mul(dq, how.softmax_scale, out=q.new_empty(q.shape)), dk, dv
