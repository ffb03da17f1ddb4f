"""Tensors as the codes of a format: what is stored and sent, where `quantize` only says what would come back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from primer.errors import UsageError
from primer.floats import plain
from primer.floats.blocks import (
    Groups,
    ScaleRule,
    grouped,
    mx_exponent,
    nested_scales,
    power_of_two,
    ungrouped,
)
from primer.floats.codes import from_codes, pack, recast, to_codes
from primer.floats.formats import BlockFormat, Element, Overflow, Rounding, check, element, named
from primer.floats.tensor import as_held, quantize
from primer.floats.words import FP32, fits, holds


def encode(
    x: Float[Tensor, "*N"],
    form: Element | str,
    rounding: Rounding = "nearest",
    *,
    overflow: Overflow | None = None,
    seed: int | None = None,
) -> Integer[Tensor, "*N"]:
    """The code of each number, one an element (`codes.pack` puts short ones side by side).

    A NaN keeps as much of its payload as there is room for. UsageError for NaN where the format has none.
    """
    form = element(form) if isinstance(form, str) else form
    check("rounding", rounding, Rounding)
    overflow = form.overflow if overflow is None else overflow
    check("overflow", overflow, Overflow)
    held = as_held(x)
    if not (fits(form, FP32) or holds(form, FP32, overflow)):
        held = held.double()  # float32 has no room for all that x may become
    x = recast(x.detach(), held.dtype)
    rounded = quantize(x, form, rounding, overflow=overflow, seed=seed)
    return to_codes(torch.where(x.isnan(), x, rounded), form)  # of a NaN, torch's own casts keep less


def decode(
    codes: Integer[Tensor, "*N"], form: Element | str, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*N"]:
    """The numbers behind codes."""
    return from_codes(codes, element(form) if isinstance(form, str) else form, dtype)


@dataclass(frozen=True)
class Blocks:
    """A tensor in a block format, as it is stored."""

    form: BlockFormat
    codes: UInt8[Tensor, "G N"]
    """A row a block, a code an element."""
    scales: UInt8[Tensor, " G"]
    """Of each block, in the format of its scale."""
    shared: Float[Tensor, ""] | None
    """The scale of the whole tensor (NVFP4)."""
    shape: torch.Size
    """With the blocks' axis last, and filled up to whole blocks; () of a number without axes."""
    axis: int
    padding: int
    """Zeros that the end of each row was filled up with, because the block does not divide its length."""

    @property
    def bytes(self) -> int:
        """That it takes: packed codes, scales, and the tensor's own."""
        packed = -(-self.codes.numel() * self.form.element.bits // 8)
        return packed + self.scales.numel() + (4 if self.shared is not None else 0)

    def packed(self) -> UInt8[Tensor, " bytes"]:
        """The codes without gaps."""
        return pack(self.codes, self.form.element.bits)

    def decode(self) -> Float[Tensor, "*N"]:
        """The tensor that is stored here, in float32."""
        scales = from_codes(self.scales, self.form.scale)
        if self.shared is not None:
            scales = scales * self.shared
        rows = from_codes(self.codes, self.form.element) * scales[:, None]
        return ungrouped(rows, Groups(rows, self.shape, self.axis, self.padding))


def encode_blocks(
    x: Float[Tensor, "*N"],
    form: BlockFormat | str,
    rounding: Rounding = "nearest",
    *,
    scale_rule: ScaleRule = "floor",
    axis: int = -1,
    seed: int | None = None,
) -> Blocks:
    """x in blocks along `axis`, filled up with zeros where they do not divide its length (`Blocks.padding`).

    A block with a number that is not finite has a scale that is NaN, and is NaN altogether (OCP MX 1.0, §5.1).
    """
    chosen = named(form) if isinstance(form, str) else form
    if not isinstance(chosen, BlockFormat):
        raise UsageError(
            f"{chosen.name} is not a format of blocks", hint="mxfp8, mxfp6, mxfp4, mxint8, nvfp4"
        )
    form = chosen
    check("rounding", rounding, Rounding)
    check("scale_rule", scale_rule, ScaleRule)
    groups = grouped(as_held(x).float(), "block", form.block, axis)
    rows = groups.rows
    largest = plain.group_largest(rows)
    finite = torch.isfinite(largest)
    if form.tensor_scale:
        own, shared = nested_scales(largest, form)
        scale = own * shared
    else:
        exponent = mx_exponent(largest, form, scale_rule)
        own, shared = torch.where(finite, power_of_two(exponent).to(largest.dtype), torch.nan), None
        scale = own
    numbers = torch.where(finite[:, None], plain.divided(rows, scale), 0.0)
    codes = encode(numbers, form.element, rounding, overflow="saturate", seed=seed)
    scales = to_codes(own, form.scale)
    return Blocks(form, codes, scales, shared, groups.shape, groups.axis, groups.padding)
