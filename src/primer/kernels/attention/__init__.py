"""One operator, several implementations, one signature: `attention(q, k, v, …, implementation=…)`.

`reference` is equation 1, to be read; `library` is torch's fused kernel, which never writes the T × S table
down; `cpu` is for what the library has no fast kernel for on a CPU: dropout on the weights, and short sequences.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from primer.kernels.attention import cpu, reference

SHORT = 64 * 64
"""Scores in a table that a CPU may as well write down."""

Implementation = Literal["auto", "reference", "library", "cpu"]


def library(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S Dv"],
    *,
    causal: bool = True,
    softmax_scale: float | None = None,
    dropout: float = 0.0,
    seen: Bool[Tensor, "B S"] | None = None,
) -> Float[Tensor, "B H T Dv"]:
    """torch's `scaled_dot_product_attention`, with the queries aligned to the last keys (see `causal_mask`)."""
    T, S = q.shape[-2], k.shape[-2]
    aligned = T == S and seen is None
    mask = None if aligned or T == 1 or not causal else reference.causal_mask(T, S, q.device)
    if seen is not None:
        mask = seen[:, None, None] if mask is None else mask & seen[:, None, None]
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=causal and aligned and T > 1,
        scale=softmax_scale,
        enable_gqa=k.shape[1] != q.shape[1],
    )


IMPLEMENTATIONS: dict[str, Callable[..., Tensor]] = {
    "reference": reference.attention,
    "library": library,
    "cpu": cpu.attention,
}


def attention(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S Dv"],
    *,
    causal: bool = True,
    softmax_scale: float | None = None,
    dropout: float = 0.0,
    seen: Bool[Tensor, "B S"] | None = None,
    implementation: Implementation = "auto",
) -> Float[Tensor, "B H T Dv"]:
    """Each query's mean of the values, weighted by how well their keys match it (Vaswani et al. 2017, eq. 1).

    `k` and `v` may have fewer heads than `q` (grouped queries); with `causal` the queries are the last T of the
    S positions and see nothing later than themselves. `dropout` zeroes weights at random: 0 outside training.
    `seen` says which positions hold a token: no query sees the others. Each row needs one that is seen.
    """
    chosen: str = implementation
    if implementation == "auto":
        short = (
            q.shape[2] * k.shape[2] <= SHORT and q.dtype.itemsize >= 4 and not torch.compiler.is_compiling()
        )
        chosen = "cpu" if q.device.type == "cpu" and (dropout or short) else "library"
    return IMPLEMENTATIONS[chosen](
        q, k, v, causal=causal, softmax_scale=softmax_scale, dropout=dropout, seen=seen
    )
