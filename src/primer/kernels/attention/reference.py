"""Attention as the paper writes it: the judge of every faster implementation."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def causal_mask(T: int, S: int, device: torch.device | None = None) -> Bool[Tensor, "T S"]:
    """Which key each query may see: True where s ≤ t + (S − T).

    The T queries are the last T of S positions, so one new query at the end of a cache sees all keys.
    """
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(S - T)


def repeat_heads(x: Float[Tensor, "B Hkv S D"], n_heads: int) -> Float[Tensor, "B H S D"]:
    """Give each group of query heads its own copy of the shared key or value head (grouped-query attention)."""
    groups = n_heads // x.shape[1]
    return x if groups == 1 else x.repeat_interleave(groups, dim=1)


def attention_scores(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    *,
    causal: bool,
    softmax_scale: float | None,
    seen: Bool[Tensor, "B S"] | None = None,
) -> Float[Tensor, "B H T S"]:
    """Q·Kᵀ × scale, with −∞ where a query must not look. The scale is D^-½ unless given."""
    scale = q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale
    scores = q @ repeat_heads(k, q.shape[1]).transpose(-2, -1) * scale  # (B, H, T, S)
    if causal:
        visible = causal_mask(q.shape[-2], k.shape[-2], q.device)
        scores = scores.masked_fill(~visible, -math.inf)
    if seen is not None:
        scores = scores.masked_fill(~seen[:, None, None], -math.inf)
    return scores


def attention(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S Dv"],
    *,
    causal: bool = True,
    softmax_scale: float | None = None,
    dropout: float = 0.0,
    seen: Bool[Tensor, "B S"] | None = None,
) -> Float[Tensor, "B H T Dv"]:
    """softmax(Q·Kᵀ / √d_k)·V — Vaswani et al. 2017, equation 1.

    Everything is materialised: the T × S table of weights costs memory and time that grow with T².
    """
    pattern = attention_scores(q, k, causal=causal, softmax_scale=softmax_scale, seen=seen).softmax(dim=-1)
    if dropout:
        pattern = torch.nn.functional.dropout(pattern, dropout)
    return pattern @ repeat_heads(v, q.shape[1])
