"""How a model that sees a set of tokens learns their order."""

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn


def sinusoids(length: int, width: int) -> Float[Tensor, "T C"]:
    """PE(t, 2i) = sin(t / 10000^(2i/C)), PE(t, 2i+1) = cos(t / 10000^(2i/C)) — Vaswani et al. 2017, §3.5."""
    t = torch.arange(length, dtype=torch.float64)[:, None]
    wavelength = 10000.0 ** (torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = t / wavelength  # (T, C/2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width].float()


class SinusoidalPositions(nn.Module):
    """The fixed table of `sinusoids`, looked up by position."""

    table: Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("table", sinusoids(length, width), persistent=False)

    def forward(self, positions: Int[Tensor, " T"]) -> Float[Tensor, "T C"]:
        return self.table[positions]


def rotary_angles(length: int, width: int, base: float = 10000.0) -> Float[Tensor, "T half"]:
    """t · base^(−2i/D): by how much pair i of a head is turned at position t — Su et al. 2021, §3.2.2."""
    frequency = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    return torch.arange(length, dtype=torch.float64)[:, None] * frequency


def rotate(
    x: Float[Tensor, "B T H D"], cos: Float[Tensor, "T half"], sin: Float[Tensor, "T half"]
) -> Float[Tensor, "B T H D"]:
    """Turn each pair of neighbours (x_2i, x_2i+1) of every head by its position's angle (Su et al. 2021, eq. 15).

    The score of a query with a key then depends on how far apart they are, not on where they stand (eq. 16).
    Computed in the angles' precision. With the pairs' places swapped as a whole, instead of every second number cut
    out, a compiler makes one pass of this and of the norm before it, there and back.
    """
    pairs = x.unflatten(-1, (-1, 2))  # (B, T, H, D/2, 2)
    cos, sin = cos[:, None, :, None], torch.stack([-sin, sin], dim=-1)[:, None]  # the same for all heads
    return (pairs * cos + pairs.flip(-1) * sin).flatten(-2).to(x.dtype)


def rotate_pairs(x: Float[Tensor, "B T H D"], turns: Complex[Tensor, "T half"]) -> Float[Tensor, "B T H D"]:
    """`rotate` in one pass: a pair is a complex number, and a turn by φ is a product with e^(iφ)."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))  # (B, T, H, D/2)
    return torch.view_as_real(pairs * turns[:, None].to(pairs.dtype)).flatten(-2)


class Rotary(nn.Module):
    """cos and sin for every position of a context."""

    cos: Tensor
    sin: Tensor

    def __init__(self, length: int, d_head: int, base: float = 10000.0) -> None:
        super().__init__()
        angles = rotary_angles(length, d_head, base)
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def forward(self, x: Float[Tensor, "B T H D"], start: int = 0) -> Float[Tensor, "B T H D"]:
        """Rotate heads whose first position is `start`."""
        cos, sin = (table[start : start + x.shape[1]] for table in (self.cos, self.sin))
        if (
            x.device.type == "cpu" and x.dtype.itemsize >= 4
        ):  # bf16 has no complex form, compilers no use for it
            return rotate_pairs(x, torch.complex(cos, sin))
        return rotate(x, cos, sin)
