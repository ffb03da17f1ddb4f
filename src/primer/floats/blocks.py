"""Scales that numbers share: of a whole tensor, of a row, or of a block (OCP Microscaling Formats 1.0; NVFP4)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from primer.errors import UsageError
from primer.floats import plain
from primer.floats.formats import BlockFormat, FloatFormat
from primer.floats.one_pass import in_words

Scaling = Literal["none", "tensor", "row"]

ScaleRule = Literal["floor", "even", "ceil"]
"""How a power of two is found for a block whose largest magnitude is amax (`mx_exponent`)."""


@dataclass(frozen=True)
class Groups:
    """Numbers in rows that share a scale, and how to put them back."""

    rows: Float[Tensor, "G N"]
    shape: torch.Size
    """Of the tensor whose axis is the last one by now; () of a number without axes, which is a row of its own."""
    axis: int
    padding: int
    """Zeros at the end of each row of the tensor."""


def grouped(
    x: Float[Tensor, "*N"], scaling: Literal["tensor", "row", "block"], block: int, axis: int
) -> Groups:
    """x cut into the rows of one scale each: along `axis` the whole length, or a block at a time.

    With one scale for all of a tensor, rows that lie in memory as they are, whichever axis was named.
    """
    most = max(x.ndim, 1)
    if scaling != "tensor" and not -most <= axis < most:
        raise UsageError(f"axis={axis} is none of a tensor of {x.ndim} axes", hint=f"{-most} to {most - 1}")
    if not x.ndim:
        return replace(grouped(x.reshape(1), scaling, block, -1), shape=x.shape)
    if scaling == "tensor":
        return Groups(x.reshape(-1, max(x.shape[-1], 1)), x.shape, -1, 0)
    moved = x.movedim(axis, -1)
    length = moved.shape[-1]
    size = block if scaling == "block" else max(length, 1)
    padding = -length % size
    padded = F.pad(moved, (0, padding)) if padding else moved
    return Groups(padded.reshape(-1, size), padded.shape, axis, padding)


def ungrouped(rows: Float[Tensor, "G N"], groups: Groups) -> Float[Tensor, "*N"]:
    """The tensor again."""
    if not groups.shape:
        return rows[0, 0]
    x = rows.view(groups.shape)
    x = x[..., : x.shape[-1] - groups.padding] if groups.padding else x
    return x.movedim(-1, groups.axis)


def largest_scales(largest: Float[Tensor, " G"], top: float) -> Float[Tensor, " G"]:
    """The scale with which the largest number becomes `top`, a format's; 1 for zeros, NaN where it is not finite.

    It is no smaller than the dtype's smallest normal number, whose inverse is finite: what lies below that times `top`
    becomes less than `top`.
    """
    scale = quotient(largest, top)
    scale = torch.where(largest == 0, 1.0, scale.clamp(min=torch.finfo(scale.dtype).tiny))
    return torch.where(torch.isfinite(largest), scale, torch.nan)


def block_scales(
    largest: Float[Tensor, " G"], form: BlockFormat, rule: ScaleRule = "floor"
) -> Float[Tensor, " G"]:
    """What each block is divided by, as its codes say it; NaN for one with a number that is not finite."""
    if form.tensor_scale:
        codes, shared = nested_scales(largest, form)
        return codes * shared
    exponent = mx_exponent(largest, form, rule)
    return torch.where(torch.isfinite(largest), power_of_two(exponent).to(largest.dtype), torch.nan)


def mx_exponent(largest: Float[Tensor, " G"], form: BlockFormat, rule: ScaleRule) -> Int[Tensor, " G"]:
    """The exponent of a block's scale X = 2^exponent, within E8M0's −127 … 127.

    floor: floor(log2 amax) − emax, OCP MX 1.0 §6.3; the top of a block is clipped where amax / X lies between the
    element's largest number and the next power of two. even: the same of amax rounded to the element's mantissa first,
    so that what would be rounded up to that power is not clipped (as torchao and microxcaling call it). ceil: the least
    power of two with which nothing is clipped (Mishra et al. 2025, "Recipes for pre-training LLMs with MXFP8").
    A block of zeros has the least exponent.
    """
    element = form.element
    if rule == "ceil":
        mantissa, exponent = torch.frexp(quotient(largest.double(), float(element.largest)))
        exponent = exponent - (mantissa == 0.5).to(exponent.dtype)  # 2^(exponent−1) itself
    else:
        if rule == "even":
            M = element.mantissa_bits if isinstance(element, FloatFormat) else element.bits - 2
            digits = FloatFormat(f"e11m{M}", 11, M, 1023)
            largest = plain.quantize(largest.double(), digits, "nearest", "ieee")
        exponent = torch.frexp(largest)[1] - 1 - element.greatest_exponent
    exponent = torch.where(largest == 0, -127, exponent)
    return exponent.clamp(-127, 127).to(torch.int32)


def nested_scales(
    largest: Float[Tensor, " G"], form: BlockFormat
) -> tuple[Float[Tensor, " G"], Float[Tensor, ""]]:
    """NVFP4's two: of each block, as one of E4M3's numbers, and of the tensor, in fp32.

    g = amax / (6 · 448), s_b = E4M3(amax_b / (6 · g)), x ≈ q · s_b · g: so the block with the tensor's largest number
    has the largest scale that E4M3 can say. A block whose own scale is rounded to 0 becomes zeros. So does one of such
    small numbers that nothing can be divided by s_b · g; g itself is no smaller than the smallest normal number.
    """
    scale, element = float(form.scale.largest), float(form.element.largest)
    finite = torch.isfinite(largest)
    of_all = torch.where(finite, largest, 0.0).amax() if largest.numel() else largest.new_zeros(())
    least = torch.finfo(largest.dtype).tiny
    shared = torch.where(of_all > 0, quotient(of_all, element * scale).clamp(min=least), 1.0)
    ratio, work = in_words((largest / (element * shared)).float(), form.scale)
    own = work.quantize(ratio, form.scale, "nearest", "saturate")
    own = own.to(largest.dtype)
    own = torch.where((own * shared).reciprocal().isinf(), 0.0, own)
    return torch.where(finite, own, torch.nan), shared


def quotient(x: Float[Tensor, "*N"], number: float) -> Float[Tensor, "*N"]:
    """x / number, rounded once. Of a number that is not on the GPU, torch there multiplies by the reciprocal."""
    return x / torch.full_like(x, number)


def power_of_two(exponent: Int[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """2^exponent as fp64 spells it, which is exact on every device; exponents of −1022 … 1023."""
    return ((exponent.long() + 1023) << 52).view(torch.float64)
