"""Attention as the paper writes it: the judge of every faster implementation."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from primer.kernels.attention.visible import spans, visible_mask
from primer.kernels.random import kept_at


def repeat_heads(x: Float[Tensor, "B Hkv S D"], n_heads: int) -> Float[Tensor, "B H S D"]:
    """Give each group of query heads its own copy of the shared key or value head (grouped-query attention)."""
    groups = n_heads // x.shape[1]
    return x if groups == 1 else x.repeat_interleave(groups, dim=1)


def attention_scores(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    *,
    causal: bool,
    window: int | None = None,
    document_ids: Int[Tensor, "B S"] | None = None,
    seen: Bool[Tensor, "B S"] | None = None,
    softmax_scale: float | None = None,
    soft_cap: float = 0.0,
) -> Float[Tensor, "B H T S"]:
    """Q·Kᵀ × scale, with −∞ where a query must not look. The scale is D^-½ unless given.

    soft_cap c: scores become c·tanh(scores / c), so that none is beyond ±c (Gemma 2, §2).
    """
    T, S = q.shape[-2], k.shape[-2]
    scale = q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale
    scores = q @ repeat_heads(k, q.shape[1]).transpose(-2, -1) * scale  # (B, H, T, S)
    if soft_cap:
        scores = soft_cap * torch.tanh(scores / soft_cap)
    if causal or window is not None or document_ids is not None:
        found = spans(T, S, causal=causal, window=window, document_ids=document_ids, device=q.device)
        scores = scores.masked_fill(~visible_mask(found, S)[:, None], -torch.inf)
    if seen is not None:
        scores = scores.masked_fill(~seen[:, None, None], -torch.inf)
    return scores


def softmax(scores: Float[Tensor, "B H T S"]) -> Float[Tensor, "B H T S"]:
    """Each row's weights, which sum to 1; a query that may look nowhere has weights of 0."""
    nowhere = (scores == -torch.inf).all(dim=-1, keepdim=True)
    return scores.softmax(dim=-1).masked_fill(nowhere, 0.0)


def attention(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S Dv"],
    *,
    causal: bool = True,
    window: int | None = None,
    document_ids: Int[Tensor, "B S"] | None = None,
    seen: Bool[Tensor, "B S"] | None = None,
    softmax_scale: float | None = None,
    soft_cap: float = 0.0,
    dropout: float = 0.0,
    dropout_seed: int = 0,
) -> tuple[Float[Tensor, "B H T Dv"], Float[Tensor, "B H T"]]:
    """softmax(Q·Kᵀ / √d_k)·V — Vaswani et al. 2017, equation 1 — and the log of each row's sum of exponentials.

    Everything is materialised: the T × S table of weights costs memory and time that grow with T².
    """
    B, H, T, _ = q.shape
    scores = attention_scores(
        q,
        k,
        causal=causal,
        window=window,
        document_ids=document_ids,
        seen=seen,
        softmax_scale=softmax_scale,
        soft_cap=soft_cap,
    )
    pattern = softmax(scores)
    if dropout:
        kept = kept_at(dropout_seed, B * H, T, k.shape[2], dropout, device=q.device).view_as(pattern)
        pattern = pattern * kept / (1 - dropout)
    exact = scores.detach() if scores.dtype == torch.float64 else scores.detach().float()
    return pattern @ repeat_heads(v, H), exact.logsumexp(dim=-1)
