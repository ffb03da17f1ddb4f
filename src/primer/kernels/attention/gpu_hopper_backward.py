"""Backward on a Hopper GPU, in Gluon: `gpu_backward.keys_backward` with its roles told apart (Shah et al. 2024, §3.1).

A program keeps 128 keys and values of a head in shared memory. One warp lets queries and dO come by. Two groups of four
warps take 64 keys each: their Sᵀ, Pᵀ, dPᵀ, dSᵀ, and the sums dK and dV, which stay in registers. For dQ the groups need
each other's dSᵀ: it goes to shared memory, each group multiplies it by its half of K's columns, and the copy engine adds
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

from primer.kernels.attention.gpu_hopper import SHARED, descriptor
from primer.kernels.attention.gpu_launch import How, options, padded, readable
from primer.kernels.attention.visible import Spans

ROWS = gl.constexpr(64)
"""Keys of a group of four warps."""


@builtin
def add_to_memory(descriptor: Any, at: Any, shared: Any, _semantic: Any = None) -> None:
    """The copy engine adds a block of shared memory to memory; Gluon has its operation, and no name for it."""
    at = _semantic._convert_to_ir_values(at, require_i64=False)
    _semantic.builder.create_async_tma_reduce(
        ir.DESCRIPTOR_REDUCE_KIND.ADD, descriptor.handle, at, shared.handle
    )


@gluon.jit
@no_type_check
def _producer(q_desc, k_desc, v_desc, d_out_desc, q_s, k_s, v_s, d_out_s, kv_full, q_full, d_out_full, free,
              b, hkv, group, start, low, blocks, BLOCK_T: gl.constexpr, STAGES: gl.constexpr):  # fmt: skip
    if blocks > 0:
        mbarrier.expect(kv_full, k_desc.block_type.nbytes + v_desc.block_type.nbytes)
        tma.async_copy_global_to_shared(k_desc, [b, hkv, start, 0], kv_full, k_s)
        tma.async_copy_global_to_shared(v_desc, [b, hkv, start, 0], kv_full, v_s)
    for i in range(blocks * group):
        place, turn = i % STAGES, (i // STAGES) & 1
        h = hkv * group + i // blocks
        t = (low + i % blocks) * BLOCK_T
        mbarrier.wait(free.index(place), turn ^ 1)
        mbarrier.expect(q_full.index(place), q_desc.block_type.nbytes)
        tma.async_copy_global_to_shared(q_desc, [b, h, t, 0], q_full.index(place), q_s.index(place))
        mbarrier.expect(d_out_full.index(place), d_out_desc.block_type.nbytes)
        tma.async_copy_global_to_shared(
            d_out_desc, [b, h, t, 0], d_out_full.index(place), d_out_s.index(place)
        )


@gluon.jit
@no_type_check
def _negated_lse(lse_ptr, row, t, T, softmax_scale, BLOCK_T: gl.constexpr, SCORES: gl.constexpr):
    """Where Sᵀ begins: −lse, as scores are before they are scaled; −∞ for a row that sees nothing or is not there."""
    lse = gl.load(lse_ptr + row, mask=t < T, other=-float("inf"))
    begin = gl.where(lse == -float("inf"), -float("inf"), lse * (-1.0 / softmax_scale))
    return gl.zeros([ROWS, BLOCK_T], gl.float32, SCORES) + begin[None, :]


@gluon.jit
@no_type_check
def _consumer(q_s, k_s, v_s, d_out_s, ds_s, dq_s, kv_full, q_full, d_out_full, free, ds_full, ds_free, dq_desc,
              WHICH: gl.constexpr, dk_ptr, dv_ptr, lse_ptr, delta_ptr, first_ptr, last_ptr,
              b, hkv, H, group, T, S, window, scale, softmax_scale, start, low, blocks,
              CAUSAL: gl.constexpr, WINDOW: gl.constexpr, SPANS: gl.constexpr, CUT: gl.constexpr,
              BLOCK_T: gl.constexpr, BLOCK_S: gl.constexpr, D: gl.constexpr, DV: gl.constexpr,
              WIDTH: gl.constexpr, V_WIDTH: gl.constexpr, STAGES: gl.constexpr):  # fmt: skip
    SCORES: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_T, 16])
    KEYS: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    VALUES: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, DV, 16])
    HALF: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D // 2, 16])
    s = start + WHICH * ROWS + gl.arange(0, ROWS, gl.SliceLayout(1, SCORES))
    first, last = _queries_of_keys(s, b, first_ptr, last_ptr, T, S, window, CAUSAL, WINDOW, SPANS)
    columns = gl.arange(0, BLOCK_T, gl.SliceLayout(0, SCORES))
    k = k_s.reshape([BLOCK_S, D])
    mine = k.slice(WHICH * ROWS, ROWS, dim=0)
    v = v_s.reshape([BLOCK_S, DV]).slice(WHICH * ROWS, ROWS, dim=0)
    half = k.slice(WHICH * (D // 2), D // 2, dim=1)
    dq_half = dq_s.index(WHICH)
    dk = gl.zeros([ROWS, D], gl.float32, KEYS)
    dv = gl.zeros([ROWS, DV], gl.float32, VALUES)
    steps = blocks * group
    if steps > 0:
        mbarrier.wait(kv_full, 0)
        for i in range(steps):
            place, turn = i % STAGES, (i // STAGES) & 1
            h = hkv * group + i // blocks
            t = (low + i % blocks) * BLOCK_T + columns
            row = (b * H + h) * T + t
            scores = _negated_lse(lse_ptr, row, t, T, softmax_scale, BLOCK_T, SCORES)
            delta = gl.load(delta_ptr + row, mask=t < T, other=0.0)
            dp = gl.zeros([ROWS, BLOCK_T], gl.float32, SCORES) - delta[None, :]
            mbarrier.wait(q_full.index(place), turn)
            q = q_s.index(place).reshape([BLOCK_T, D])
            scores = warpgroup_mma(mine, q.permute([1, 0]), scores, is_async=True)
            mbarrier.wait(d_out_full.index(place), turn)
            d_out = d_out_s.index(place).reshape([BLOCK_T, DV])
            dp = warpgroup_mma(v, d_out.permute([1, 0]), dp, is_async=True)
            scores = warpgroup_mma_wait(1, deps=[scores])
            p = gl.exp2(scores * scale)
            if CUT:
                p = gl.where((t[None, :] >= first[:, None]) & (t[None, :] <= last[:, None]), p, 0.0)
            weights = gl.convert_layout(p.to(q_s.dtype), gl.DotOperandLayout(0, VALUES, 2))
            dv = warpgroup_mma(weights, d_out, dv, is_async=True)
            dp = warpgroup_mma_wait(1, deps=[dp])
            ds = (p * dp).to(q_s.dtype)
            mbarrier.wait(ds_free, (i & 1) ^ 1)
            ds_s.slice(WHICH * ROWS, ROWS, dim=0).store(ds)
            fence_async_shared()
            mbarrier.arrive(ds_full, count=1)
            mbarrier.wait(ds_full, i & 1)
            dk = warpgroup_mma(ds_s.slice(WHICH * ROWS, ROWS, dim=0), q, dk, is_async=True)
            dq = gl.zeros([BLOCK_T, D // 2], gl.float32, HALF)
            dq = warpgroup_mma(ds_s.permute([1, 0]), half, dq, use_acc=False, is_async=True)
            dq, dk, dv, _ = warpgroup_mma_wait(0, deps=[dq, dk, dv, weights])
            mbarrier.arrive(ds_free, count=1)
            mbarrier.arrive(free.index(place), count=1)
            tma.store_wait(0)
            dq_half.reshape([BLOCK_T, D // 2]).store(dq * softmax_scale)
            fence_async_shared()
            at = (low + i % blocks) * BLOCK_T
            add_to_memory(dq_desc, [b, h, at, WHICH * (D // 2)], dq_half)
        tma.store_wait(0)
    _write(dk_ptr, dk * softmax_scale, start + WHICH * ROWS, b * (H // group) + hkv, S, WIDTH, D, KEYS)
    _write(dv_ptr, dv, start + WHICH * ROWS, b * (H // group) + hkv, S, V_WIDTH, DV, VALUES)


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
def _queries_of_keys(s, b, first_ptr, last_ptr, T, S, window,
                     CAUSAL: gl.constexpr, WINDOW: gl.constexpr, SPANS: gl.constexpr):  # fmt: skip
    """As in `gpu_tiles`."""
    if SPANS:
        at = b * S + gl.minimum(s, S - 1)
        first, last = gl.load(first_ptr + at), gl.load(last_ptr + at)
    else:
        t = s - (S - T)
        first, last = s * 0, s * 0 + (T - 1)
        if CAUSAL:
            first = gl.maximum(t, first)
        if WINDOW:
            last = gl.minimum(t + window - 1, last)
            if not CAUSAL:
                first = gl.maximum(t - window + 1, first)
    return gl.where(s < S, first, T), last


@gluon.jit
@no_type_check
def keys_backward(q_desc, k_desc, v_desc, d_out_desc, dq_desc, dk_ptr, dv_ptr, lse_ptr, delta_ptr, first_ptr, last_ptr,
                  H, group, T, S, window, scale, softmax_scale,
                  CAUSAL: gl.constexpr, WINDOW: gl.constexpr, SPANS: gl.constexpr, CUT: gl.constexpr,
                  BLOCK_T: gl.constexpr, BLOCK_S: gl.constexpr, D: gl.constexpr, DV: gl.constexpr,
                  WIDTH: gl.constexpr, V_WIDTH: gl.constexpr, STAGES: gl.constexpr, DS: gl.constexpr):  # fmt: skip
    """dK and dV of 128 keys, and what they add to dQ. DS: how dSᵀ lies in shared memory."""
    head = gl.program_id(1)
    Hkv = H // group
    b, hkv = head // Hkv, head % Hkv
    start = gl.program_id(0) * BLOCK_S
    end = gl.minimum(start + BLOCK_S, S) - 1
    lowest, _ = _queries_of_keys(start, b, first_ptr, last_ptr, T, S, window, CAUSAL, WINDOW, SPANS)
    _, highest = _queries_of_keys(end, b, first_ptr, last_ptr, T, S, window, CAUSAL, WINDOW, SPANS)
    low = lowest // BLOCK_T
    blocks = gl.maximum((highest + BLOCK_T) // BLOCK_T - low, 0)

    q_s = gl.allocate_shared_memory(q_desc.dtype, [STAGES] + q_desc.block_type.shape, q_desc.layout)
    d_out_s = gl.allocate_shared_memory(
        d_out_desc.dtype, [STAGES] + d_out_desc.block_type.shape, d_out_desc.layout
    )
    k_s = gl.allocate_shared_memory(k_desc.dtype, k_desc.block_type.shape, k_desc.layout)
    v_s = gl.allocate_shared_memory(v_desc.dtype, v_desc.block_type.shape, v_desc.layout)
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
        mbarrier.init(q_full.index(i), count=1)
        mbarrier.init(d_out_full.index(i), count=1)
        mbarrier.init(free.index(i), count=2)
    gl.warp_specialize(
        [
            (_consumer, (
                q_s, k_s, v_s, d_out_s, ds_s, dq_s, kv_full, q_full, d_out_full, free, ds_full, ds_free, dq_desc,
                0, dk_ptr, dv_ptr, lse_ptr, delta_ptr, first_ptr, last_ptr,
                b, hkv, H, group, T, S, window, scale, softmax_scale, start, low, blocks,
                CAUSAL, WINDOW, SPANS, CUT, BLOCK_T, BLOCK_S, D, DV, WIDTH, V_WIDTH, STAGES,
            )),
            (_consumer, (
                q_s, k_s, v_s, d_out_s, ds_s, dq_s, kv_full, q_full, d_out_full, free, ds_full, ds_free, dq_desc,
                1, dk_ptr, dv_ptr, lse_ptr, delta_ptr, first_ptr, last_ptr,
                b, hkv, H, group, T, S, window, scale, softmax_scale, start, low, blocks,
                CAUSAL, WINDOW, SPANS, CUT, BLOCK_T, BLOCK_S, D, DV, WIDTH, V_WIDTH, STAGES,
            )),
            (_producer, (
                q_desc, k_desc, v_desc, d_out_desc, q_s, k_s, v_s, d_out_s, kv_full, q_full, d_out_full, free,
                b, hkv, group, start, low, blocks, BLOCK_T, STAGES,
            )),
        ],
        [4, 1],
        [240, 24],
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
    """dQ in float32, dK and dV; all contiguous."""
    (B, H, T, D), (Hkv, S, Dv) = q.shape, (k.shape[1], k.shape[2], v.shape[3])
    q, k, v, d_out = readable(q), readable(k), readable(v), readable(d_out)
    dq = torch.zeros(q.shape, dtype=torch.float32, device=q.device)
    dk, dv = k.new_empty(k.shape), v.new_empty(v.shape)
    block_s = 2 * ROWS.value
    ds = gl.bfloat16 if q.dtype == torch.bfloat16 else gl.float16
    shared = options(how, columns, None, lse)
    keys_backward[(triton.cdiv(S, block_s), B * Hkv)](
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
        DS=gl.NVMMASharedLayout.get_default_for([block_s, block_t], ds),
        num_warps=4,
        **{name: shared[name] for name in SHARED},
    )
    return dq, dk, dv
