"""The position-wise feed-forward network: two linear layers with a bend between them."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from primer.nn.dropout import Dropout
from primer.nn.probe import Probe

Activation = Literal["relu", "gelu", "relu2", "swiglu"]


class _Relu2(torch.autograd.Function):
    """One tensor is kept for the gradient, 2·max(0, x), where F.relu(x).square() keeps two."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = F.relu(x)
        ctx.save_for_backward(positive)
        return positive.square()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        return torch.mul(grads[0], positive).mul_(2)


def relu2(x: Float[Tensor, "*B F"]) -> Float[Tensor, "*B F"]:
    """max(0, x)² — So et al. 2021."""
    out: Tensor = _Relu2.apply(x)  # type: ignore[no-untyped-call]
    return out


def gelu(x: Float[Tensor, "*B F"]) -> Float[Tensor, "*B F"]:
    """GELU by its tanh formula, the one that GPT-2 was trained with — Hendrycks & Gimpel 2016, §2."""
    return F.gelu(x, approximate="tanh")


def swiglu(x: Float[Tensor, "*B gated"]) -> Float[Tensor, "*B F"]:
    """Swish(gate) × value, the two halves (F each) of one projection (2·F) — Shazeer 2020, eq. 6."""
    gate, value = x.chunk(2, dim=-1)
    return F.silu(gate) * value


BENDS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": gelu,
    "relu2": relu2,
    "swiglu": swiglu,
}


class FeedForward(nn.Module):
    """FFN(x) = bend(x·W₁ + b₁)·W₂ + b₂ — Vaswani et al. 2017, eq. 2."""

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        *,
        activation: Activation = "gelu",
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.bend = BENDS[activation]
        gated = activation == "swiglu"
        self.expand = nn.Linear(d_model, 2 * d_ff if gated else d_ff, bias=bias)
        self.contract = nn.Linear(d_ff, d_model, bias=bias)
        self.dropout = Dropout(dropout)
        self.mlp_pre, self.mlp_post, self.mlp_out = Probe(), Probe(), Probe()

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        hidden = self.mlp_post(self.bend(self.mlp_pre(self.expand(x))))  # (B, T, F)
        return self.mlp_out(self.dropout(self.contract(hidden)))
