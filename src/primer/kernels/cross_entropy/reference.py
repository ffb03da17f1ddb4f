"""The loss as the textbook writes it: the judge of every faster implementation."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def linear_cross_entropy(
    h: Float[Tensor, "N C"],
    weight: Float[Tensor, "V C"],
    targets: Int[Tensor, " N"],
    *,
    bias: Float[Tensor, " V"] | None = None,
    label_smoothing: float = 0.0,
    soft_cap: float = 0.0,
) -> Float[Tensor, ""]:
    """−Σ_v y_v · log softmax(z)_v, the mean over N positions, with z = cap(W·h + b).

    y is 1 at the target; smoothed by ε it is 1 − ε there and ε / V everywhere (Szegedy et al. 2016, §7).
    cap(z) = c · tanh(z / c) where `soft_cap` c is not 0 (Gemma Team 2024, §2).
    """
    z = F.linear(h, weight, bias)  # (N, V)
    if soft_cap:
        z = soft_cap * torch.tanh(z / soft_cap)
    log_p = torch.log_softmax(z.float() if z.dtype.itemsize < 4 else z, dim=-1)
    at_target = log_p.gather(-1, targets[:, None])[:, 0]
    return -((1 - label_smoothing) * at_target + label_smoothing * log_p.mean(-1)).mean()
