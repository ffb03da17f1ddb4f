"""`floats/plain.py` in one pass over memory, for fp32 on a GPU: the loops of `floats/fused.py` as a Triton kernel.

Eager integer operations write some thirty tensors to round one. Here a number is read, rounded in registers and
written. The constants of a format come from memory, so one compiled kernel serves every format: only chance and scales
need another.
"""

from __future__ import annotations

from functools import lru_cache
from typing import no_type_check

import numpy as np
import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from primer.floats.formats import Element, Overflow, Rounding
from primer.floats.plain import group_largest
from primer.floats.words import Packed, packed

__all__ = ["group_largest", "quantize", "quantize_scaled"]

BLOCK = 1024
"""Numbers that a program rounds."""

DROPPED, LEAST_FIELD, SMALLEST, HALF, TIE, NEGATIVE_ZERO = (
    tl.constexpr(Packed._fields.index(name))
    for name in ("dropped", "least_field", "smallest", "half", "tie", "negative_zero")
)
FULL, THRESHOLD, LARGEST, BEYOND, INFINITY = (
    tl.constexpr(Packed._fields.index(f"{name}_p"))
    for name in ("full", "threshold", "largest", "beyond", "infinity")
)
"""Where in `words.Packed` a constant is; of a pair, that for positive numbers: the one for negative ones follows."""


@triton.jit
@no_type_check
def _constant(c_ptr, place: tl.constexpr):
    return tl.load(c_ptr + place).to(tl.uint32, bitcast=True)


@triton.jit
@no_type_check
def _by_sign(c_ptr, place: tl.constexpr, negative):
    return tl.where(negative, _constant(c_ptr, place + 1), _constant(c_ptr, place))


@triton.jit
@no_type_check
def _noise(place, low, high):
    """31 random bits: `plain.random_words`."""
    h = place * 0x9E3779B9 + low
    h = h ^ (h >> 16)
    h = h * 0x7FEB352D
    h = h ^ (h >> 15)
    h = h ^ high
    h = h * 0x846CA68B
    return (h ^ (h >> 16)) >> 1


@triton.jit
@no_type_check
def _rounded(b, place, c_ptr, low, high, CHANCE: tl.constexpr):
    """Words with the format's bits only; the names are those of `fused.py`."""
    negative = (b >> 31) != 0
    a = b & 0x7FFFFFFF
    field, least = tl.maximum(a >> 23, 1), _constant(c_ptr, LEAST_FIELD)
    extra = _constant(c_ptr, DROPPED) + tl.maximum(least, field) - field  # bits that have to go
    shift = tl.minimum(extra, 23)  # and those of them that lie in the mantissa field
    with_one = tl.where(a >= 0x00800000, (a & 0x007FFFFF) | 0x00800000, a)
    if CHANCE:
        noise = _noise(place, low, high)
        r = ((a + (noise >> (31 - shift))) >> shift) << shift
        raised = noise < ((with_one << 7) >> tl.minimum(tl.maximum(extra, 24) - 24, 31))
    else:
        below = (tl.full(a.shape, 1, tl.uint32) << shift) - 1  # all that lies below the last bit that stays
        half = ((below + 1) >> 1) & _constant(c_ptr, HALF)
        even = ~(with_one >> shift) & _constant(c_ptr, TIE)
        r = (a + half - even + (below & _by_sign(c_ptr, FULL, negative))) & ~below
        raised = a > _by_sign(c_ptr, THRESHOLD, negative)
    r = tl.where(extra > 23, tl.where(raised, _constant(c_ptr, SMALLEST), 0), r)
    r = tl.where(r > _by_sign(c_ptr, LARGEST, negative), _by_sign(c_ptr, BEYOND, negative), r)
    r = tl.where(a == 0x7F800000, _by_sign(c_ptr, INFINITY, negative), r)
    r = tl.where(a > 0x7F800000, a, r)
    return r | tl.where((r | _constant(c_ptr, NEGATIVE_ZERO)) != 0, b & 0x80000000, 0)


@triton.jit(do_not_specialize=["low", "high"])
@no_type_check
def _round(
    x_ptr,
    out_ptr,
    times_ptr,
    back_ptr,
    c_ptr,
    n,
    width,
    low,
    high,
    CHANCE: tl.constexpr,
    SCALED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A block of numbers: each times what its group is multiplied by, rounded, and times its scale."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = place < n
    x = tl.load(x_ptr + place, mask=here, other=0.0)
    if SCALED:
        group = place // width
        x *= tl.load(times_ptr + group, mask=here, other=0.0)
    low, high = low.to(tl.uint32, bitcast=True), high.to(tl.uint32, bitcast=True)
    word = _rounded(x.to(tl.uint32, bitcast=True), place.to(tl.uint32), c_ptr, low, high, CHANCE)
    y = word.to(tl.float32, bitcast=True)
    if SCALED:
        y *= tl.load(back_ptr + group, mask=here, other=0.0)
    tl.store(out_ptr + place, y, mask=here)


def quantize(
    x: Float[Tensor, "*N"],
    form: Element,
    rounding: Rounding,
    overflow: Overflow,
    seed: int = 0,
    out: Float[Tensor, "*N"] | None = None,
) -> Float[Tensor, "*N"]:
    """`plain.quantize` of float32; into `out`, which is contiguous, where it is given."""
    x = x.contiguous()
    out = torch.empty_like(x) if out is None else out
    _launch(x, out, None, form, rounding, overflow, seed)
    return out


def quantize_scaled(
    x: Float[Tensor, "G N"],
    scale: Float[Tensor, " G"],
    form: Element,
    rounding: Rounding,
    overflow: Overflow,
    seed: int = 0,
) -> Float[Tensor, "G N"]:
    """`plain.quantize_scaled` of float32."""
    x, scale = x.contiguous(), scale.contiguous()
    out = torch.empty_like(x)
    _launch(x, out, scale, form, rounding, overflow, seed)
    return out


def _launch(
    x: Tensor,
    out: Tensor,
    scale: Tensor | None,
    form: Element,
    rounding: Rounding,
    overflow: Overflow,
    seed: int,
) -> None:
    """Run the kernel over all of x, on x's device."""
    n = x.numel()
    if not n:
        return
    times = x if scale is None else torch.where(scale == 0, 0.0, scale.reciprocal())
    low, high = np.array([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF], np.uint32).view(np.int32).tolist()
    with torch.cuda.device_of(x):
        _round[(triton.cdiv(n, BLOCK),)](
            x,
            out,
            times,
            x if scale is None else scale,
            on_device(form, rounding, overflow, x.device),
            n,
            1 if scale is None else n // len(scale),
            low,
            high,
            CHANCE=rounding == "stochastic",
            SCALED=scale is not None,
            BLOCK=BLOCK,
        )


@lru_cache(maxsize=256)
def on_device(
    form: Element, rounding: Rounding, overflow: Overflow, device: torch.device
) -> Int[Tensor, " C"]:
    """A format's constants where the kernel reads them."""
    words = np.array(packed(form, rounding, overflow), np.uint32).view(np.int32)
    return torch.from_numpy(words).to(device)
