"""Three ways to a softmax in a format: the formula, shifted, and in one pass. Every operation is rounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from primer.floats.formats import FloatFormat
from primer.floats.tensor import quantize

Method = Literal["formula", "shifted", "online"]


def formula(x: Float[Tensor, "B N"], form: FloatFormat) -> Float[Tensor, "B N"]:
    """e^x_i / Σ e^x_j: too large for fp16 from x = 11.1 on, for fp32 and bf16 from 88.8."""
    e = quantize(x.exp(), form, overflow="ieee")
    return quantize(e / running_sum(e, form)[:, None], form, overflow="ieee")


def shifted(x: Float[Tensor, "B N"], form: FloatFormat) -> Float[Tensor, "B N"]:
    """The same with the largest x taken off all of them: it cancels, and no e is larger than 1."""
    largest = x.amax(dim=-1, keepdim=True)
    return formula(quantize(x - largest, form, overflow="ieee"), form)


def online(x: Float[Tensor, "B N"], form: FloatFormat) -> Float[Tensor, "B N"]:
    """The largest so far, m, and the sum so far, s, in one pass; when m grows, s is mended (Milakov & Gimelshein 2018).

    m' = max(m, x_i), s ← s · e^(m − m') + e^(x_i − m'): what flash attention does block by block.
    """
    m, s = x[:, 0], torch.ones_like(x[:, 0])
    for column in x.T[1:]:
        larger = torch.maximum(m, column)
        before = quantize(quantize(m - larger, form, overflow="ieee").exp(), form)
        here = quantize(quantize(column - larger, form, overflow="ieee").exp(), form)
        s = quantize(quantize(s * before, form) + here, form, overflow="ieee")
        m = larger
    e = quantize(quantize(x - m[:, None], form, overflow="ieee").exp(), form)
    return quantize(e / s[:, None], form, overflow="ieee")


def running_sum(e: Float[Tensor, "B N"], form: FloatFormat) -> Float[Tensor, " B"]:
    """The sum of each row, one number after the other."""
    s = torch.zeros_like(e[:, 0])
    for column in e.T:
        s = quantize(s + column, form, overflow="ieee")
    return s


WAYS: dict[Method, Callable[[Tensor, FloatFormat], Tensor]] = {
    "formula": formula,
    "shifted": shifted,
    "online": online,
}


def softmax(x: Float[Tensor, "B N"], form: FloatFormat, method: Method) -> Float[Tensor, "B N"]:
    """The softmax of each row in a format, of numbers that are rounded to it first. Overflow is IEEE 754's."""
    held = x.double() if form.mantissa_bits > 10 else x.float()
    return WAYS[method](quantize(held, form, overflow="ieee"), form)
