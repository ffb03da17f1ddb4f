"""Layer normalisation, and what is left of it when only the scale is kept."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

NormType = Literal["layernorm", "rmsnorm"]


def layer_norm(x: Float[Tensor, "*B C"], eps: float = 1e-5) -> Float[Tensor, "*B C"]:
    """(x − mean) / √(variance + eps), over the last axis — Ba, Kiros & Hinton 2016, eq. 4."""
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(dim=-1, keepdim=True) + eps)


def rms_norm(x: Float[Tensor, "*B C"], eps: float = 1e-5) -> Float[Tensor, "*B C"]:
    """x / √(mean of squares + eps), over the last axis — Zhang & Sennrich 2019, eq. 4."""
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + eps)


class LayerNorm(nn.Module):
    """`layer_norm`, then a learned scale and shift. `F.layer_norm` is the same in one pass over memory."""

    def __init__(self, width: int, *, eps: float = 1e-5, gain: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width)) if gain else None
        self.bias = nn.Parameter(torch.zeros(width)) if gain and bias else None
        self.shape = (width,)

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        return F.layer_norm(x, self.shape, self.weight, self.bias, self.eps)


class RMSNorm(nn.Module):
    """`rms_norm`, then a learned scale; in float32 where the scale is and x is not, as LayerNorm is under autocast."""

    def __init__(self, width: int, *, eps: float = 1e-5, gain: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width)) if gain else None
        self.shape = (width,)

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        if self.weight is None or self.weight.dtype == x.dtype:
            return F.rms_norm(x, self.shape, self.weight, self.eps)
        return F.rms_norm(x.to(self.weight.dtype), self.shape, self.weight, self.eps).to(x.dtype)


def make_norm(
    kind: NormType, width: int, *, eps: float = 1e-5, gain: bool = True, bias: bool = True
) -> LayerNorm | RMSNorm:
    """The norm that a config names; a bias is LayerNorm's alone."""
    if kind == "rmsnorm":
        return RMSNorm(width, eps=eps, gain=gain)
    return LayerNorm(width, eps=eps, gain=gain, bias=bias)
