"""What torch brings: `scaled_dot_product_attention` with each of its kernels, and FlexAttention."""

from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from primer.errors import UsageError
from primer.kernels.attention.visible import spans, visible_mask


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
    backend: SDPBackend | None = None,
) -> tuple[Float[Tensor, "B H T Dv"], None]:
    """`scaled_dot_product_attention`: fused for causal and full attention; else a mask of T × S is written down.

    Its dropout is a draw of torch's own generator, not that of `dropout_seed`.
    """
    if soft_cap:
        raise UsageError("scaled_dot_product_attention has no soft cap", "soft_cap", "implementation='auto'")
    T, S = q.shape[-2], k.shape[-2]
    plain = window is None and document_ids is None and seen is None
    aligned = plain and (T == S or not causal)
    mask = None
    if not aligned and not (plain and T == 1):
        found = spans(T, S, causal=causal, window=window, document_ids=document_ids, device=q.device)
        mask = visible_mask(found, S)[:, None]
        if seen is not None:
            mask = mask & seen[:, None, None]
    chosen: Any = sdpa_kernel(backend) if backend is not None else nullcontext()
    with chosen:
        out = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=causal and aligned and T > 1,
            scale=softmax_scale,
            enable_gqa=k.shape[1] != q.shape[1],
        )
    return out, None


@lru_cache
def compiled_flex() -> Any:
    """FlexAttention writes its kernel when it is compiled; uncompiled it is the T × S table."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


def flex(
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
) -> tuple[Float[Tensor, "B H T Dv"], None]:
    """torch's FlexAttention: a kernel written for a mask that is given as a function. It has no dropout."""
    from torch.nn.attention.flex_attention import create_block_mask

    if dropout:
        raise UsageError("FlexAttention has no dropout", f"dropout={dropout}", "implementation='auto'")
    B, T, S = q.shape[0], q.shape[2], k.shape[2]
    mask = None
    if causal or window is not None or document_ids is not None or seen is not None:
        first, last = spans(T, S, causal=causal, window=window, document_ids=document_ids, device=q.device)
        first, last = first.expand(B, T), last.expand(B, T)

        def visible(b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
            inside = (first[b, t] <= s) & (s <= last[b, t])
            return inside if seen is None else inside & seen[b, s]

        mask = create_block_mask(visible, B, None, T, S, device=str(q.device))

    def capped(score: Tensor, *_: Tensor) -> Tensor:
        return soft_cap * torch.tanh(score / soft_cap)

    out = compiled_flex()(
        q,
        k,
        v,
        score_mod=capped if soft_cap else None,
        block_mask=mask,
        scale=softmax_scale,
        enable_gqa=k.shape[1] != q.shape[1],
    )
    return out, None
