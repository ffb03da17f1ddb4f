"""Attention on a GPU: the Triton kernels of `gpu_forward` and `gpu_backward`, their tiles, and autograd around them.

Both are operators of torch.library, closed boxes that torch.compile leaves alone.
"""

from functools import lru_cache
from typing import Any

import torch
import triton
from jaxtyping import Bool, Float, Int
from torch import Tensor

from primer.errors import UsageError
from primer.kernels.attention.gpu_backward import keys_backward, queries_backward, row_sums
from primer.kernels.attention.gpu_forward import forward
from primer.kernels.attention.gpu_launch import (
    How,
    Tiles,
    is_hopper,
    options,
    padded,
    precision,
    readable,
    tiled_by,
)
from primer.kernels.attention.visible import Spans, queries_of_keys, spans


@lru_cache
def forward_tiles(width: int, itemsize: int, extras: bool, hopper: bool) -> Tiles:
    """By measurement on one H200. extras: dropout, a cap or padding, whose numbers need registers."""
    if itemsize == 4:
        return Tiles(64, 32, 4, 2)
    if not hopper:
        return Tiles(64, 64, 4, 2)
    if extras:
        return Tiles(128, 64, 8, 3)
    return Tiles(128, 128, 4, 2, specialize=True)


@lru_cache
def backward_tiles(width: int, itemsize: int, extras: bool, hopper: bool) -> Tiles:
    """For `keys_backward`, likewise."""
    if itemsize == 4 or not hopper:
        return Tiles(32, 32, 4, 2)
    return Tiles(64, 128, 8, 2) if width > 64 else Tiles(128, 128, 8, 2)


def forward_pass(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    visible: Spans | None,
    seen: Tensor | None,
    how: How,
    tiles: Tiles | None = None,
) -> tuple[Tensor, Tensor]:
    """Output (contiguous) and lse."""
    (B, H, T, D), (Hkv, S, Dv) = q.shape, (k.shape[1], k.shape[2], v.shape[3])
    extras = seen is not None or how.soft_cap > 0 or how.dropout > 0
    tiles = tiles or forward_tiles(max(D, Dv), q.element_size(), extras, is_hopper(q))
    q, k, v = readable(q), readable(k), readable(v)
    out = q.new_empty(B, H, T, Dv)
    lse = q.new_empty(B, H, T, dtype=torch.float32)
    forward[(triton.cdiv(T, tiles.block_t), B * H)](
        q_desc=tiled_by(q, tiles.block_t),
        k_desc=tiled_by(k, tiles.block_s),
        v_desc=tiled_by(v, tiles.block_s),
        out_ptr=out,
        lse_ptr=lse,
        H=H,
        group=H // Hkv,
        T=T,
        S=S,
        ONE_LOOP=tiles.specialize,
        BLOCK_T=tiles.block_t,
        BLOCK_S=tiles.block_s,
        D=padded(D),
        DV=padded(Dv),
        V_WIDTH=Dv,
        PRECISION=precision(q.dtype),
        SPECIALIZE=tiles.specialize,
        num_warps=tiles.warps,
        num_stages=tiles.stages,
        **options(how, visible, seen, lse),
    )
    return out, lse


def backward_pass(
    d_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    visible: Spans | None,
    seen: Tensor | None,
    how: How,
    tiles: Tiles | None = None,
    query_tiles: Tiles | None = None,
    add_dq: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """dQ, dK and dV, contiguous. add_dq: dQ is added up in float32 by all blocks of keys; else by a kernel of its own."""
    (B, H, T, D), (Hkv, S, Dv) = q.shape, (k.shape[1], k.shape[2], v.shape[3])
    extras = seen is not None or how.soft_cap > 0 or how.dropout > 0
    tiles = tiles or backward_tiles(max(D, Dv), q.element_size(), extras, is_hopper(q))
    q, k, v, d_out = readable(q), readable(k), readable(v), readable(d_out)
    delta = torch.empty_like(lse)
    row_sums[(triton.cdiv(B * H * T, 64),)](
        out, d_out, delta, B * H * T, *d_out.stride()[:3], H, T, WIDTH=Dv, DV=padded(Dv), BLOCK=64
    )
    dq = torch.zeros(q.shape, dtype=torch.float32, device=q.device) if add_dq else q.new_empty(q.shape)
    dk, dv = k.new_empty(k.shape), v.new_empty(v.shape)
    shared = {
        "lse_ptr": lse,
        "delta_ptr": delta,
        "H": H,
        "group": H // Hkv,
        "T": T,
        "S": S,
        "softmax_scale": how.softmax_scale,
        "D": padded(D),
        "DV": padded(Dv),
        "WIDTH": D,
        "PRECISION": precision(q.dtype),
    }
    columns = None if visible is None else queries_of_keys(visible, S)
    cut = how.causal or how.window > 0 or visible is not None or S % tiles.block_s != 0
    keys_backward[(triton.cdiv(S, tiles.block_s), B * Hkv)](
        q_desc=tiled_by(q, tiles.block_t),
        k_desc=tiled_by(k, tiles.block_s),
        v_desc=tiled_by(v, tiles.block_s),
        d_out_desc=tiled_by(d_out, tiles.block_t),
        dq_desc=tiled_by(dq, tiles.block_t),
        dk_ptr=dk,
        dv_ptr=dv,
        CUT=cut,
        ADD_DQ=add_dq,
        BLOCK_T=tiles.block_t,
        BLOCK_S=tiles.block_s,
        V_WIDTH=Dv,
        SPECIALIZE=tiles.specialize,
        num_warps=tiles.warps,
        num_stages=tiles.stages,
        **shared,
        **options(how, columns, seen, lse),
    )
    if add_dq:
        return dq.to(q.dtype), dk, dv
    tiles = query_tiles or tiles
    queries_backward[(triton.cdiv(T, tiles.block_t), B * H)](
        q_desc=tiled_by(q, tiles.block_t),
        k_desc=tiled_by(k, tiles.block_s),
        v_desc=tiled_by(v, tiles.block_s),
        d_out_desc=tiled_by(d_out, tiles.block_t),
        dq_ptr=dq,
        CUT=how.causal or how.window > 0 or visible is not None or S % tiles.block_s != 0,
        BLOCK_T=tiles.block_t,
        BLOCK_S=tiles.block_s,
        SPECIALIZE=tiles.specialize,
        num_warps=tiles.warps,
        num_stages=tiles.stages,
        **shared,
        **options(how, visible, seen, lse),
    )
    return dq, dk, dv


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, visible: Spans | None, seen: Tensor | None, how: How
    ) -> Any:
        out, lse = forward_pass(q, k, v, visible, seen, how)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.rest = (visible, seen, how)
        ctx.mark_non_differentiable(lse)
        return out, lse

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        dq, dk, dv = backward_pass(grads[0], *ctx.saved_tensors, *ctx.rest)
        return dq, dk, dv, None, None, None


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
    """`reference.attention` with nothing of T × S in memory, forward and backward."""
    if torch.is_autocast_enabled("cuda"):
        q, k, v = (x.to(torch.get_autocast_dtype("cuda")) for x in (q, k, v))
    scale = q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale
    if scale <= 0:
        raise UsageError("the kernels want a softmax_scale above 0", f"{scale:g}", "implementation='library'")
    how = How(causal, window or 0, scale, soft_cap, dropout, dropout_seed)
    visible = None
    if document_ids is not None:
        visible = spans(
            q.shape[2],
            k.shape[2],
            causal=causal,
            window=window,
            document_ids=document_ids,
            device=q.device,
        )
        visible = Spans(visible.first.contiguous(), visible.last.contiguous())
    return _Attention.apply(q, k, v, visible, seen, how)
