"""Three ways to add up many numbers in a format, and why it matters which: every operation is rounded.

A sum of n equal numbers grows until it is so large that half of its last bit is more than one of them. From there on
adding changes nothing: 20,000 times 0.1 are 256 in fp16 and 32 in bf16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from primer.floats.formats import FloatFormat
from primer.floats.tensor import quantize
from primer.floats.words import FP32, fits, holds

Method = Literal["naive", "pairwise", "kahan"]


def naive(x: Float[Tensor, "B N"], form: FloatFormat) -> Float[Tensor, " B"]:
    """s ← s + x_i, one after the other. The error may grow with n (Higham 2002, §4.2)."""
    s = torch.zeros_like(x[:, 0])
    for column in x.T:
        s = quantize(s + column, form)
    return s


def pairwise(x: Float[Tensor, "B N"], form: FloatFormat) -> Float[Tensor, " B"]:
    """Neighbours are added, then the sums of neighbours, …: log2(n) roundings for each number (ibid.)."""
    while x.shape[1] > 1:
        odd = x[:, -1:] if x.shape[1] % 2 else x[:, :0]
        even = x[:, : x.shape[1] - odd.shape[1]]
        x = torch.cat([quantize(even[:, ::2] + even[:, 1::2], form), odd], dim=1)
    return x[:, 0]


def kahan(x: Float[Tensor, "B N"], form: FloatFormat) -> Float[Tensor, " B"]:
    """What an addition has lost is kept in c, and taken off the next number (Kahan 1965; Higham 2002, alg. 4.2)."""
    s, c = torch.zeros_like(x[:, 0]), torch.zeros_like(x[:, 0])
    for column in x.T:
        y = quantize(column - c, form)
        t = quantize(s + y, form)
        c = quantize(quantize(t - s, form) - y, form)
        s = t
    return s


WAYS: dict[Method, Callable[[Tensor, FloatFormat], Tensor]] = {
    "naive": naive,
    "pairwise": pairwise,
    "kahan": kahan,
}


def added(
    x: Float[Tensor, "B N"],
    form: FloatFormat,
    method: Method,
    *,
    implementation: Literal["auto", "plain", "fused"] = "auto",
) -> Float[Tensor, " B"]:
    """The sum of each row in a format, of numbers that are rounded to it first.

    float32 holds the sum or difference of two numbers of up to 11 bits so well that rounding it again to them is right
    (Figueroa 1995: 24 ≥ 2·11 + 2); formats but fp32 with more bits, or a wider range, are added in float64.
    """
    itself = form.bits == FP32.form.bits and holds(form, FP32, form.overflow)
    single = itself or (form.mantissa_bits <= 10 and fits(form, FP32))
    x = quantize(x.float() if single else x.double(), form)
    if method != "pairwise" and single and implementation != "plain":
        try:
            from primer.floats import fused
        except ImportError:
            pass
        else:
            return fused.added(x, form, compensated=method == "kahan")
    return WAYS[method](x, form)
