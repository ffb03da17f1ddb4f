"""The position-wise feed-forward network: two linear layers with a bend between them."""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from primer.kernels.random import keep_mask
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


class _ReluInPlace(torch.autograd.Function):
    """max(0, x) ∘ mask / (1 − p), written over x, and its gradient over the one that comes back.

    The gradient passes where the result is positive: there nothing was cut off and nothing dropped.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        ctx.mark_dirty(x)
        x.relu_()
        if p:
            x.mul_(keep_mask(x.shape, p, like=x)).mul_(1 / (1 - p))
        ctx.save_for_backward(x)
        ctx.p = p
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (positive,) = ctx.saved_tensors
        grad = torch.ops.aten.threshold_backward.grad_input(grads[0], positive, 0, grad_input=grads[0])
        return grad.mul_(1 / (1 - ctx.p)) if ctx.p else grad, None


def relu_in_place(x: Float[Tensor, "*B F"], dropout: float = 0.0) -> Float[Tensor, "*B F"]:
    """max(0, x), and dropout of it, in x's own memory: for a value that nobody else has, and one product reads.

    A CPU saves passes over fresh memory, which its system must first hand out page by page. x must be no view of
    another tensor (what a linear layer makes of three axes is one): autograd would copy it.
    """
    out: Tensor = _ReluInPlace.apply(x, dropout)  # type: ignore[no-untyped-call]
    return out


def gelu(x: Float[Tensor, "*B F"]) -> Float[Tensor, "*B F"]:
    """GELU by its tanh formula, the one that GPT-2 was trained with — Hendrycks & Gimpel 2016, §2.

    ½·(1 + tanh u) is σ(2u): one exponential, where a compiler's exact tanh is slower than the memory it reads.
    """
    if torch.compiler.is_compiling():
        return x * torch.sigmoid(2 * (2 / math.pi) ** 0.5 * (x + 0.044715 * x**3))
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
        hidden_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.bend = BENDS[activation]
        gated = activation == "swiglu"
        self.expand = nn.Linear(d_model, 2 * d_ff if gated else d_ff, bias=bias)
        self.contract = nn.Linear(d_ff, d_model, bias=bias)
        self.hidden_dropout = Dropout(hidden_dropout)
        self.dropout = Dropout(dropout)
        self.mlp_pre, self.mlp_post, self.mlp_out = Probe(), Probe(), Probe()

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        if self.bend is F.relu and x.device.type == "cpu" and not self.looked_into():
            p = self.hidden_dropout.p if self.training else 0.0
            hidden = relu_in_place(self.expand(x.flatten(0, -2)), p).unflatten(0, x.shape[:-1])  # (B, T, F)
        else:
            hidden = self.hidden_dropout(self.mlp_post(self.bend(self.mlp_pre(self.expand(x)))))
        return self.mlp_out(self.dropout(self.contract(hidden)))

    def looked_into(self) -> bool:
        """Whether someone has a use for what is between the layers, or a compiler arranges it in its own way."""
        return self.mlp_pre.heard or self.mlp_post.heard or torch.compiler.is_compiling()
