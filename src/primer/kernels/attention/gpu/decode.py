"""A few new queries against many keys, on a GPU: flash decoding (Dao et al. 2023), over contiguous or paged keys.

One token's query leaves a GPU idle if a program takes a whole row of keys. So the keys are split: each program takes
the queries of the heads that share a key head and a part of the keys, and writes down what it found, with its lse;
`_combine` weighs the parts by 2^(lse − largest). What limits it is how fast keys and values are read, once.

Paged keys lie in pages of `page` positions, anywhere in a pool (Kwon et al. 2023); a table says which page comes when.
"""

from functools import lru_cache
from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from primer.kernels.attention.gpu.launch import LOG2E, launch, padded, precision
from primer.kernels.attention.gpu.tiles import LN2, capped


@triton.jit
@no_type_check
def _part(
    q_ptr, k_ptr, v_ptr, lengths_ptr, table_ptr, parts_ptr, lses_ptr,
    q_b, q_h, q_t, k_b, k_h, k_s, v_b, v_h, v_s,
    H, group, T, S, window, scale, cap, table_width, page,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, CAP: tl.constexpr, LENGTHS: tl.constexpr, PAGED: tl.constexpr,
    ROWS: tl.constexpr, BLOCK_S: tl.constexpr, D: tl.constexpr, DV: tl.constexpr,
    WIDTH: tl.constexpr, V_WIDTH: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Rows are the T queries of the `group` heads that share key head `hkv`: row r is head r // T, query r % T."""
    split, splits, head = tl.program_id(0), tl.num_programs(0), tl.program_id(1)
    Hkv = H // group
    b, hkv = (head // Hkv).to(tl.int64), head % Hkv
    row = tl.arange(0, ROWS)
    h, t = hkv * group + row // T, row % T
    real = row < group * T
    length = tl.load(lengths_ptr + b) if LENGTHS else S
    position = t + (length - T)
    last = tl.minimum(position, length - 1) if CAUSAL else position * 0 + (length - 1)
    first = tl.maximum(position - window + 1, 0) if WINDOW else position * 0
    if WINDOW and not CAUSAL:
        last = tl.minimum(position + window - 1, last)

    low = tl.maximum(length - T - window + 1, 0) if WINDOW else 0
    blocks = tl.maximum(tl.cdiv(length, BLOCK_S) - low // BLOCK_S, 0)
    each = tl.cdiv(blocks, splits)
    begin = (low // BLOCK_S + split * each) * BLOCK_S
    end = tl.minimum(begin + each * BLOCK_S, length)

    d, dv = tl.arange(0, D), tl.arange(0, DV)
    at = b * q_b + h.to(tl.int64) * q_h + t * q_t
    q = tl.load(q_ptr + at[:, None] + d, mask=real[:, None] & (d < WIDTH), other=0.0)
    highest = tl.full([ROWS], -float("inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    acc = tl.zeros([ROWS, DV], tl.float32)
    for start in tl.range(begin, end, BLOCK_S, num_stages=STAGES):
        s = start + tl.arange(0, BLOCK_S)
        there = s < end
        if PAGED:
            where = tl.load(table_ptr + b * table_width + s // page, mask=there, other=0).to(tl.int64)
            k_at = where * k_b + hkv * k_h + (s % page) * k_s
            v_at = where * v_b + hkv * v_h + (s % page) * v_s
        else:
            k_at = b * k_b + hkv * k_h + s.to(tl.int64) * k_s
            v_at = b * v_b + hkv * v_h + s.to(tl.int64) * v_s
        k = tl.load(k_ptr + k_at[:, None] + d, mask=there[:, None] & (d < WIDTH), other=0.0)
        scores = tl.dot(q, k.T, input_precision=PRECISION) * scale  # (ROWS, BLOCK_S)
        if CAP:
            scores = cap * capped(scores)
        visible = there[None, :] & (s[None, :] <= last[:, None])
        if WINDOW:
            visible = visible & (s[None, :] >= first[:, None])
        scores = tl.where(visible, scores, -float("inf"))
        higher = tl.maximum(highest, tl.max(scores, 1))
        against = tl.where(higher == -float("inf"), 0.0, higher)
        p = tl.exp2(scores - against[:, None])
        rescale = tl.exp2(highest - against)
        total = total * rescale + tl.sum(p, 1)
        v = tl.load(v_ptr + v_at[:, None] + dv, mask=there[:, None] & (dv < V_WIDTH), other=0.0)
        acc = tl.dot(p.to(v.dtype), v, acc * rescale[:, None], input_precision=PRECISION)
        highest = higher
    at = ((b * H + h) * T + t) * splits + split
    tl.store(lses_ptr + at, tl.where(total == 0.0, -float("inf"), highest + tl.log2(total)), mask=real)
    acc = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    tl.store(parts_ptr + at[:, None] * V_WIDTH + dv, acc, mask=real[:, None] & (dv < V_WIDTH))


@triton.jit
@no_type_check
def _combine(
    parts_ptr, lses_ptr, out_ptr, lse_ptr, splits,
    SPLITS: tl.constexpr, DV: tl.constexpr, V_WIDTH: tl.constexpr,
):  # fmt: skip
    """One row's output from its parts (float32), each weighed by its share of the sum of exponentials."""
    row = tl.program_id(0).to(tl.int64)
    i, dv = tl.arange(0, SPLITS), tl.arange(0, DV)
    lses = tl.load(lses_ptr + row * splits + i, mask=i < splits, other=-float("inf"))
    highest = tl.max(lses, 0)
    weights = tl.exp2(lses - tl.where(highest == -float("inf"), 0.0, highest))
    total = tl.sum(weights, 0)
    at = parts_ptr + (row * splits + i)[:, None] * V_WIDTH + dv
    parts = tl.load(at, mask=(i < splits)[:, None] & (dv < V_WIDTH), other=0.0)
    out = tl.sum(parts * weights[:, None], 0) / tl.where(total == 0.0, 1.0, total)
    tl.store(out_ptr + row * V_WIDTH + dv, out.to(out_ptr.dtype.element_ty), mask=dv < V_WIDTH)
    lse = tl.where(total == 0.0, -float("inf"), (highest + tl.log2(total)) * LN2)
    tl.store(lse_ptr + row, lse)


BLOCK, WARPS, STAGES = 64, 4, 2
"""Keys in a tile, groups of 32 threads that share it, tiles on their way."""


@lru_cache
def multiprocessors(device: int) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


def splits_for(keys: int, heads: int, device: torch.device) -> int:
    """In how many parts the keys of a head are read: about four programs for each multiprocessor, no part empty."""
    wanted = 4 * (multiprocessors(device.index or 0) if device.type == "cuda" else 1)
    return max(1, min(wanted // heads, -(-keys // BLOCK), 128))


def decode(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "rows Hkv S D"],
    v: Float[Tensor, "rows Hkv S Dv"],
    *,
    causal: bool,
    window: int,
    softmax_scale: float,
    soft_cap: float,
    lengths: Int[Tensor, " B"] | None = None,
    page_table: Int[Tensor, "B pages"] | None = None,
    splits: int | None = None,
) -> tuple[Float[Tensor, "B H T Dv"], Float[Tensor, "B H T"]]:
    """Output and lse of a few queries.

    lengths: how many of a row's keys there are, where rows differ. page_table: k and v are pools of pages,
    (pages, Hkv, page, D), and row b's i-th page is `page_table[b, i]`.
    """
    (B, H, T, D), (Hkv, S, Dv) = q.shape, (k.shape[1], k.shape[2], v.shape[3])
    page = S if page_table is not None else 1
    keys = page_table.shape[1] * page if page_table is not None else S
    splits = splits or splits_for(keys, B * Hkv, q.device)
    parts = q.new_empty(B, H, T, splits, Dv, dtype=torch.float32)
    lses = q.new_empty(B, H, T, splits, dtype=torch.float32)
    out, lse = q.new_empty(B, H, T, Dv), q.new_empty(B, H, T, dtype=torch.float32)
    group = H // Hkv
    strides = {
        f"{name}_{axis}": stride
        for name, x, axes in (("q", q, "bht"), ("k", k, "bhs"), ("v", v, "bhs"))
        for axis, stride in zip(axes, x.stride()[:3], strict=True)
    }
    launch(
        _part,
        (splits, B * Hkv),
        q_ptr=q,
        k_ptr=k,
        v_ptr=v,
        lengths_ptr=lses if lengths is None else lengths,
        table_ptr=lses if page_table is None else page_table,
        parts_ptr=parts,
        lses_ptr=lses,
        **strides,
        H=H,
        group=group,
        T=T,
        S=keys,
        window=window,
        scale=softmax_scale / soft_cap if soft_cap else softmax_scale * LOG2E,
        cap=soft_cap * LOG2E,
        table_width=0 if page_table is None else page_table.shape[1],
        page=page,
        CAUSAL=causal,
        WINDOW=window > 0,
        CAP=soft_cap > 0,
        LENGTHS=lengths is not None,
        PAGED=page_table is not None,
        ROWS=max(16, triton.next_power_of_2(group * T)),
        BLOCK_S=BLOCK,
        D=padded(D),
        DV=padded(Dv),
        WIDTH=D,
        V_WIDTH=Dv,
        PRECISION=precision(),
        STAGES=STAGES,
        num_warps=WARPS,
    )
    launch(
        _combine,
        (B * H * T,),
        parts_ptr=parts,
        lses_ptr=lses,
        out_ptr=out,
        lse_ptr=lse,
        splits=splits,
        SPLITS=triton.next_power_of_2(splits),
        DV=padded(Dv),
        V_WIDTH=Dv,
        num_warps=1,
    )
    return out, lse
