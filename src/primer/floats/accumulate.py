"""Matrix products whose sums are kept in a format: every addition is rounded.

Hardware multiplies short numbers exactly and adds up in a longer format, fp32 as a rule. Where that is short as well
(fp16, or the 14 bits of some fp8 units), what is added late is lost in what has grown by then.
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from primer.floats.formats import FloatFormat
from primer.floats.tensor import quantize
from primer.floats.words import FP32, fits


def matmul(
    a: Float[Tensor, "M K"],
    b: Float[Tensor, "K N"],
    form: FloatFormat,
    *,
    implementation: Literal["auto", "plain", "fused"] = "auto",
) -> Float[Tensor, "M N"]:
    """a·b in float32, whose sums are rounded to the format after each of their K additions, one after the other.

    Each addition is float32's first, so that a sum of long products may be rounded twice, once in a great while.
    """
    if implementation != "plain" and a.device.type == "cpu" and fits(form, FP32):
        try:
            from primer.floats import fused
        except ImportError:
            pass
        else:
            return fused.matmul(a, b, form)
    total = a.new_zeros(a.shape[0], b.shape[1])
    for k in range(a.shape[1]):
        total = quantize(total + a[:, k, None] * b[k], form, implementation="plain")
    return total
