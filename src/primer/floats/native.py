"""Products of 8-bit numbers by the device's own matrix units: NVIDIA's from Ada and Hopper on, and any CPU, slowly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from primer.floats.blocks import Scaling, largest_scales
from primer.floats.formats import Element, Format, Rounding
from primer.floats.tensor import quantize

DTYPES = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}
TILE = 16
"""What the sizes of a product must divide by on a GPU."""
_able: dict[torch.device, bool] = {}
"""What each device has answered. A compiler cannot ask it, and reads this."""


@dataclass(frozen=True)
class Eight:
    """A matrix of 8-bit numbers, and what they are to be multiplied by. A quarter of fp32's memory."""

    codes: Tensor
    scale: Float[Tensor, ""]

    def transposed(self) -> Eight:
        """The same with rows for columns, laid out anew."""
        return Eight(self.codes.T.contiguous(), self.scale)


def can(device: torch.device, left: Format, right: Format) -> bool:
    """Whether a device multiplies numbers of these formats itself. No GPU multiplies E5M2 by E5M2."""
    if device not in _able:
        cuda = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9)
        _able[device] = cuda or device.type == "cpu"
    names = {left.name, right.name}
    return _able[device] and names <= DTYPES.keys() and (device.type == "cpu" or names != {"e5m2"})


def eight_bits(
    x: Float[Tensor, "M N"], form: Element, scaling: Scaling = "none", rounding: Rounding = "nearest"
) -> Eight:
    """x in a format of 8 bits, with a scale for all of it or none: what `quantize` gives, not yet multiplied back.

    To the nearest it is torch's own cast that rounds, which is one pass on every device.
    """
    scale, top = x.new_ones(()), torch.finfo(DTYPES[form.name]).max
    if scaling != "none":
        assert scaling == "tensor", "rows have scales of their own"
        scale = largest_scales(x.abs().amax()[None], top)[0]
    numbers = x if scaling == "none" else x * scale.reciprocal()
    saturates = scaling != "none" or form.overflow == "saturate"
    if rounding != "nearest":
        numbers = quantize(numbers, form, rounding, overflow="saturate" if saturates else "ieee")
    elif saturates:  # what torch makes of numbers beyond the largest differs from device to device
        numbers = numbers.clamp(-top, top)
    return Eight(numbers.to(DTYPES[form.name]), scale)


def matmul(a: Eight, b: Eight, dtype: torch.dtype = torch.float32) -> Float[Tensor, "M N"]:
    """a·bᵀ in a dtype: the rows of a by the rows of b, as matrix units read both. Sums are the device's own."""
    M, K, N = *a.codes.shape, b.codes.shape[0]
    if a.codes.device.type == "cuda" and any(size % TILE for size in (M, K, N)):
        left, right = (each.codes.float() * each.scale for each in (a, b))
        return (left @ right.T).to(dtype)
    return torch._scaled_mm(a.codes, b.codes.T, a.scale, b.scale, out_dtype=dtype)
