"""How a model that sees a set of tokens learns their order."""

import torch
from jaxtyping import Float, Int
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


def rotary_table(length: int, width: int, base: float = 10000.0) -> tuple[Tensor, Tensor]:
    """cos and sin of t · base^(−2i/D), both (T, D/2) — Su et al. 2021, §3.2.2."""
    frequency = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    return angles.cos().float(), angles.sin().float()


def rotate(
    x: Float[Tensor, "B H T D"], cos: Float[Tensor, "T half"], sin: Float[Tensor, "T half"]
) -> Float[Tensor, "B H T D"]:
    """Turn each pair (x_i, x_{i+D/2}) by its position's angle.

    The score of a query with a key then depends on how far apart they are, not on where they stand
    (Su et al. 2021, eq. 16). Pairs are taken from the two halves of the head, as in GPT-NeoX and Llama.
    """
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Rotary(nn.Module):
    """The tables of `rotate` for every position of a context."""

    cos: Tensor
    sin: Tensor

    def __init__(self, length: int, d_head: int, base: float = 10000.0) -> None:
        super().__init__()
        cos, sin = rotary_table(length, d_head, base)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, x: Float[Tensor, "B H T D"], start: int = 0) -> Float[Tensor, "B H T D"]:
        """Rotate heads whose first position is `start`."""
        stop = start + x.shape[-2]
        return rotate(x, self.cos[start:stop].to(x.dtype), self.sin[start:stop].to(x.dtype))
