"""Cheap random choices. On a CPU `bernoulli_` takes about 20 ns an element, which is a sixth of a training step."""

import torch
from jaxtyping import Bool
from torch import Tensor

STEPS = 1 << 16
"""Chances are rounded to 1/65536: one random 64-bit word decides four elements."""


def keep_mask(
    shape: torch.Size | tuple[int, ...], dropout: float, device: torch.device
) -> Bool[Tensor, "..."]:
    """True with probability 1 − dropout, from torch's own generator of the device."""
    if device.type != "cpu":
        return torch.rand(shape, device=device) >= dropout
    count = torch.Size(shape).numel()
    words = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = words.view(torch.int16)[:count].view(shape)  # uniform in −32768 … 32767
    return bits >= round(dropout * STEPS) - STEPS // 2
