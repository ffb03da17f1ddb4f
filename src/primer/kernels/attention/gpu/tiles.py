"""What every Triton kernel of this room does to a tile of scores: scale, cap, hide, drop.

The names are those of `reference` and `visible`; t counts queries, s counts keys. A kernel works in base 2: with
log₂e folded into the scale, e^x is one instruction of the machine, 2^x.
"""

from typing import no_type_check

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
GOLDEN, FIRST_FACTOR, SECOND_FACTOR = (tl.constexpr(x) for x in (0x9E3779B9, 0x7FEB352D, 0x846CA68B))
"""As in `kernels/random.py`."""


@triton.jit
@no_type_check
def block(x, b, h, start, ROWS: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr, COPIED: tl.constexpr):
    """Rows from `start` of head h, (ROWS, D), with 0 beyond the last row and the last column.

    COPIED: x is a descriptor, by which a Hopper GPU's copy engine fetches a block at once. Otherwise it is a pointer
    with what a descriptor knows: the strides of rows b, heads h and positions, and how many positions there are.
    """
    if COPIED:
        found = x.load([b, h, start, 0]).reshape(ROWS, D)
    else:
        pointer, stride_b, stride_h, stride_t, positions = x
        t = start + tl.arange(0, ROWS)
        d = tl.arange(0, D)
        there = (t < positions)[:, None]
        if WIDTH < D:
            there = there & (d < WIDTH)[None, :]
        pointer += b.to(tl.int64) * stride_b + h.to(tl.int64) * stride_h
        found = tl.load(pointer + t[:, None] * stride_t + d[None, :], mask=there, other=0.0)
    return found


@triton.jit
@no_type_check
def keys_of_queries(
    t, b, first_ptr, last_ptr, T, S, window, CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SPANS: tl.constexpr
):
    """First and last key that queries t may see: read where documents are packed (SPANS), else counted."""
    if SPANS:
        at = b * T + tl.minimum(t, T - 1)
        first, last = tl.load(first_ptr + at), tl.load(last_ptr + at)
    else:
        position = t + (S - T)
        first, last = t * 0, t * 0 + (S - 1)
        if CAUSAL:
            last = tl.minimum(position, last)
        if WINDOW:
            first = tl.maximum(position - window + 1, first)
            if not CAUSAL:
                last = tl.minimum(position + window - 1, last)
    return first, last


@triton.jit
@no_type_check
def queries_of_keys(
    s, b, first_ptr, last_ptr, T, S, window, CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SPANS: tl.constexpr
):
    """First and last query that may see keys s; none sees a key beyond the last."""
    if SPANS:
        at = b * S + tl.minimum(s, S - 1)
        first, last = tl.load(first_ptr + at), tl.load(last_ptr + at)
    else:
        t = s - (S - T)  # the query at the key's own position
        first, last = s * 0, s * 0 + (T - 1)
        if CAUSAL:
            first = tl.maximum(t, first)
        if WINDOW:
            last = tl.minimum(t + window - 1, last)
            if not CAUSAL:
                first = tl.maximum(t - window + 1, first)
    return tl.where(s < S, first, T), last


@triton.jit
@no_type_check
def capped(x):
    """tanh(x) by way of one exponential; near 0, where that would cancel, by its series."""
    near = x * (1.0 + x * x * (-1.0 / 3.0 + x * x * (2.0 / 15.0 - x * x * (17.0 / 315.0))))
    far = 1.0 - 2.0 / (1.0 + tl.exp2(x * (2.0 * LOG2E)))
    return tl.where(tl.abs(x) < 0.1, near, far)


@triton.jit
@no_type_check
def mixed(x):
    """`kernels.random.mixed`, of uint32."""
    x = (x ^ (x >> 16)) * FIRST_FACTOR
    x = (x ^ (x >> 15)) * SECOND_FACTOR
    return x ^ (x >> 16)


@triton.jit
@no_type_check
def kept(row, s, seed, whole, fraction):
    """`kernels.random.kept_at` for rows r = n·T + t and keys s that broadcast; 256·dropout is whole + fraction/2³²."""
    key = mixed(seed.to(tl.uint32) + mixed(row.to(tl.uint32)))
    threshold = whole + (mixed(key - GOLDEN) < fraction).to(tl.uint32)
    word = mixed(key + (s >> 2).to(tl.uint32) * GOLDEN)
    return ((word >> ((s & 3) * 8).to(tl.uint32)) & 255) >= threshold
