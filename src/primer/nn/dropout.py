"""Dropout: at random, nothing — so that no feature can rely on one other."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from primer.kernels.random import keep_mask


class _Dropped(torch.autograd.Function):
    """x ∘ mask / (1 − p), and the same for the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        mask = keep_mask(x.shape, p, like=x)
        ctx.save_for_backward(mask)
        ctx.p = p
        return (x * mask).mul_(1 / (1 - p))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return (grads[0] * mask).mul_(1 / (1 - ctx.p)), None


def dropout(x: Float[Tensor, "..."], p: float) -> Float[Tensor, "..."]:
    """Each element is 0 with probability p, else divided by 1 − p, so that the mean stays (Srivastava et al. 2014).

    On a CPU this is several times as fast as `F.dropout`, whose random numbers are what it waits for.
    """
    if x.device.type != "cpu":
        return nn.functional.dropout(x, p)
    out: Tensor = _Dropped.apply(x, p)  # type: ignore[no-untyped-call]
    return out


class Dropout(nn.Module):
    """`dropout` while training, nothing otherwise."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return dropout(x, self.p) if self.training and self.p else x
