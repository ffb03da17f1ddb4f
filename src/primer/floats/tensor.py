"""Tensors in any number format: `quantize` keeps them in float32 and rounds every number to one that the format has.

    quantize(x, "e4m3")                                   # fp8, saturating
    quantize(x, "bf16", "stochastic")                     # unbiased
    quantize(x, "e4m3", scaling="row")                    # each row's largest number becomes the format's largest
    quantize(x, "mxfp4", scale_rule="ceil", axis=0)       # blocks of 32 down the columns share a power of two

What the slow truth is: `codec.py` a number, `plain.py` a tensor. What is fast: `fused.py` on a CPU, `gpu.py` on a GPU,
or torch's own casts where they do the same; `implementation="auto"` takes those, and all of them give the same bits.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from primer.errors import UsageError
from primer.floats import plain
from primer.floats.blocks import ScaleRule, Scaling, block_scales, grouped, largest_scales, ungrouped
from primer.floats.formats import BlockFormat, Element, Format, Overflow, Rounding, check, named
from primer.floats.one_pass import Implementation, in_words
from primer.floats.words import holds

NATIVE = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Formats to which torch's casts round as IEEE 754 says, on every device."""


def quantize(
    x: Float[Tensor, "*N"],
    form: Format | str,
    rounding: Rounding = "nearest",
    *,
    overflow: Overflow | None = None,
    scaling: Scaling = "none",
    scale_rule: ScaleRule = "floor",
    axis: int = -1,
    seed: int | None = None,
    out: Float[Tensor, "*N"] | None = None,
    implementation: Implementation = "auto",
) -> Float[Tensor, "*N"]:
    """x with every number rounded to one of the format's, in x's dtype; no gradient (`straight_through` has one).

    overflow: of numbers beyond the largest one; unset, as the format has it, and where there is a scale, "saturate".
    scaling: none; or numbers are first divided so that the largest magnitude of the tensor, or of each row (along
    `axis`), is the format's largest number, and multiplied back. Block formats bring their own scales, one for each
    block of their size along `axis`; where that does not divide the length, the last block is filled up with zeros.
    scale_rule: how a power of two becomes a block's scale (`blocks.mx_exponent`).
    seed: of stochastic rounding; unset, drawn from torch's generator. The same seed is the same result.
    out: a tensor of x's shape and dtype to write into, x itself too; fresh memory costs more than rounding does.

    A NaN stays NaN, whether or not the format has one: what has gone wrong is not hidden. float64 is rounded once;
    other dtypes are held in float32. What x's dtype has no room for becomes what a cast to it gives, infinity too.
    Raises UsageError for an implementation that does not do this.
    """
    form = named(form) if isinstance(form, str) else form
    check("rounding", rounding, Rounding)
    check("scaling", scaling, Scaling)
    check("scale_rule", scale_rule, ScaleRule)
    check("implementation", implementation, Implementation)
    if overflow is not None:
        check("overflow", overflow, Overflow)
    held = as_held(x)
    if out is not None and (out.shape, out.dtype, out.device) != (x.shape, x.dtype, x.device):
        raise UsageError(
            f"out is {out.dtype} {tuple(out.shape)} on {out.device}, and x {x.dtype} {tuple(x.shape)} on {x.device}",
            hint="torch.empty_like(x)",
        )
    if rounding == "stochastic" and seed is None:
        seed = int(torch.randint(2**63 - 1, ()))
    if scaling == "none" and not isinstance(form, BlockFormat):
        how = (form, rounding, overflow or form.overflow, seed or 0)
        done = _rounded(held, *how, implementation, out if x.dtype == torch.float32 else None)
    else:
        chance = (rounding, overflow or "saturate", seed or 0)
        done = _rounded_with_scales(held, form, scaling, scale_rule, axis, *chance, implementation)
    if out is None:
        return done.to(x.dtype)
    return out if done is out else out.copy_(done)


def as_held(x: Tensor) -> Tensor:
    """x in the dtype in which it is rounded: float64 or float32. UsageError for numbers that are no floats."""
    if not x.is_floating_point():
        raise UsageError(f"numbers must be floating-point ones, and these are {x.dtype}", hint=".float()")
    return x.detach() if x.dtype in (torch.float32, torch.float64) else x.detach().float()


def _rounded_with_scales(
    x: Tensor,
    form: Format,
    scaling: Scaling,
    scale_rule: ScaleRule,
    axis: int,
    rounding: Rounding,
    overflow: Overflow,
    seed: int,
    implementation: Implementation,
) -> Tensor:
    """float32 or float64 with the scales that are asked for, or those of a block format."""
    block = form.block if isinstance(form, BlockFormat) else 0
    if block and scaling != "none":
        raise UsageError(
            f"{form.name} brings its own scales: scaling={scaling} is for formats without",
            hint='scaling="none"',
        )
    if implementation == "native":
        raise UsageError("torch has no cast that divides by a scale", hint='implementation="auto"')
    element = form.element if isinstance(form, BlockFormat) else form
    groups = grouped(x, "row" if scaling == "row" else "block" if block else "tensor", block, axis)
    rows, work = in_words(groups.rows, element, implementation)
    largest = work.group_largest(rows)
    if scaling == "tensor" and len(largest):
        largest = largest.amax().expand(len(rows))
    scales = scales_of(largest, form, scale_rule)
    done = work.quantize_scaled(rows, scales, element, rounding, overflow, seed)
    return ungrouped(done.to(x.dtype), groups)


def scales_of(
    largest: Float[Tensor, " G"], form: Format, scale_rule: ScaleRule = "floor"
) -> Float[Tensor, " G"]:
    """What numbers are divided by whose largest magnitude is given, group by group."""
    if isinstance(form, BlockFormat):
        return block_scales(largest, form, scale_rule)
    return largest_scales(largest, float(form.largest))


def _rounded(
    x: Tensor,
    form: Element,
    rounding: Rounding,
    overflow: Overflow,
    seed: int,
    implementation: Implementation,
    out: Tensor | None,
) -> Tensor:
    """float32 or float64 without a scale; into `out` where that can be."""
    if holds(form, plain.WORDS[x.dtype], overflow):
        return x.clone()
    native = NATIVE.get(form.name) if x.dtype == torch.float32 else None
    if native and rounding == "nearest" and overflow == "ieee" and implementation in ("auto", "native"):
        return x.to(native).to(x.dtype)
    if implementation == "native":
        raise UsageError(
            f"torch has no cast to {form.name} that rounds {rounding} and does {overflow}",
            hint='implementation="auto"',
        )
    words, work = in_words(x, form, implementation)
    if work is not plain and out is not None and out.is_contiguous():
        return work.quantize(words, form, rounding, overflow, seed, out)
    return work.quantize(words, form, rounding, overflow, seed).to(x.dtype)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, wanted: dict[str, Any]) -> Tensor:
        return quantize(x, **wanted)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def straight_through(x: Float[Tensor, "*N"], form: Format | str, **how: Any) -> Float[Tensor, "*N"]:
    """`quantize`, whose gradient is passed on as if nothing had been rounded (Bengio et al. 2013, §4)."""
    out: Tensor = _StraightThrough.apply(x, {"form": form, **how})  # type: ignore[no-untyped-call]
    return out
