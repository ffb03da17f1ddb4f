"""One operator, several implementations, one signature: `attention(q, k, v, …, implementation=…)`.

`reference` is equation 1, to be read; `library` is torch's fused kernel, which never writes the T × S table
down; `cpu` is for training with dropout on the weights on a CPU, where the library has no fused kernel.
"""

from collections.abc import Callable
from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from primer.kernels.attention import cpu, reference

Implementation = Literal["auto", "reference", "library", "cpu"]


def library(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv S D"],
    v: Float[Tensor, "B Hkv S D"],
    *,
    causal: bool = True,
    softmax_scale: float | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "B H T D"]:
    """torch's `scaled_dot_product_attention`, with the queries aligned to the last keys (see `causal_mask`)."""
    T, S = q.shape[-2], k.shape[-2]
    aligned = T == S
    mask = None if aligned or T == 1 or not causal else reference.causal_mask(T, S, q.device)
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
    v: Float[Tensor, "B Hkv S D"],
    *,
    causal: bool = True,
    softmax_scale: float | None = None,
    dropout: float = 0.0,
    implementation: Implementation = "auto",
) -> Float[Tensor, "B H T D"]:
    """Each query's mean of the values, weighted by how well their keys match it (Vaswani et al. 2017, eq. 1).

    `k` and `v` may have fewer heads than `q` (grouped queries); with `causal` the queries are the last T of the
    S positions and see nothing later than themselves. `dropout` zeroes weights at random: 0 outside training.
    """
    chosen: str = implementation
    if implementation == "auto":
        chosen = "cpu" if dropout and q.device.type == "cpu" else "library"
    return IMPLEMENTATIONS[chosen](q, k, v, causal=causal, softmax_scale=softmax_scale, dropout=dropout)
