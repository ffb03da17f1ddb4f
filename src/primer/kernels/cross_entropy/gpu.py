"""The loss on a GPU: logits are written once, and their gradient over them.

A row of 50,304 logits is 100 KB of bfloat16. A compiler's kernels take it up twice: softmax reads it, and on the way
back it is read again and its gradient written elsewhere. Here one program takes a row, reads it twice, the second time
from the cache as far as that reaches, and overwrites it. The products before and after are the library's.
"""

import math
from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

BLOCK, WARPS = 4096, 8
"""Logits that a program reads at once, and the groups of 32 threads that share them: of eight pairs the fastest."""


@triton.jit
@no_type_check
def _capped(z, soft_cap):
    """c · tanh(z / c), by way of the sigmoid, which is one exponential."""
    return soft_cap * (2.0 * tl.sigmoid(z * (2.0 / soft_cap)) - 1.0)


@triton.jit
@no_type_check
def _loss_and_gradient(
    z_ptr,
    bias_ptr,
    targets_ptr,
    losses_ptr,
    V,
    soft_cap,
    smoothing,
    BIASED: tl.constexpr,
    CAPPED: tl.constexpr,
    GRADIENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One row: its loss, and (p − y) · cap'(z) over its logits. Everything is computed in float32.

    highest, total: m = max z and Σ e^(z − m) over what was read so far; a new maximum rescales the sum.
    """
    row = tl.program_id(0).to(tl.int64)
    z_ptr += row * V
    target = tl.load(targets_ptr + row)
    known = (target >= 0) & (target < V)  # another target's loss is no number
    at_target = tl.load(z_ptr + target, mask=known, other=float("nan")).to(tl.float32)
    if BIASED:
        at_target += tl.load(bias_ptr + target, mask=known, other=0.0).to(tl.float32)
    if CAPPED:
        at_target = _capped(at_target, soft_cap)

    highest, total, summed = -float("inf"), 0.0, 0.0
    for start in range(0, V, BLOCK):
        v = start + tl.arange(0, BLOCK)
        z = tl.load(z_ptr + v, mask=v < V, other=0.0, eviction_policy="evict_last").to(tl.float32)
        if BIASED:
            z += tl.load(bias_ptr + v, mask=v < V, other=0.0).to(tl.float32)
        if CAPPED:
            z = _capped(z, soft_cap)
        summed += tl.sum(tl.where(v < V, z, 0.0))
        z = tl.where(v < V, z, -float("inf"))
        higher = tl.maximum(highest, tl.max(z))
        total = total * tl.exp(highest - higher) + tl.sum(tl.exp(z - higher))
        highest = higher
    normaliser = highest + tl.log(total)
    tl.store(losses_ptr + row, normaliser - (1.0 - smoothing) * at_target - smoothing * summed / V)

    if GRADIENT:
        for start in range(0, V, BLOCK):
            v = start + tl.arange(0, BLOCK)
            z = tl.load(z_ptr + v, mask=v < V, other=-float("inf")).to(tl.float32)
            if BIASED:
                z += tl.load(bias_ptr + v, mask=v < V, other=0.0).to(tl.float32)
            if CAPPED:
                z = _capped(z, soft_cap)
            dz = tl.exp(z - normaliser) - smoothing / V - tl.where(v == target, 1.0 - smoothing, 0.0)
            if CAPPED:
                dz *= 1.0 - z * z * (1.0 / (soft_cap * soft_cap))
            dz = dz.to(z_ptr.dtype.element_ty)
            tl.store(
                z_ptr + v, dz, mask=v < V, eviction_policy="evict_first"
            )  # the cache is for rows half done


def losses_over_logits(
    z: Float[Tensor, "N V"],
    targets: Int[Tensor, " N"],
    bias: Float[Tensor, " V"] | None = None,
    *,
    label_smoothing: float = 0.0,
    soft_cap: float = 0.0,
    gradient: bool = True,
) -> Float[Tensor, " N"]:
    """Each row's loss in float32; with `gradient`, z (contiguous) then holds the loss's slope in each of its logits.

    A bias counts as part of the logits. Its own gradient is the sum of z's over the rows.
    """
    losses = torch.empty(len(z), dtype=torch.float32, device=z.device)
    _loss_and_gradient[(len(z),)](
        z,
        z if bias is None else bias,
        targets,
        losses,
        z.shape[1],
        soft_cap,
        label_smoothing,
        BIASED=bias is not None,
        CAPPED=soft_cap != 0,
        GRADIENT=gradient,
        BLOCK=BLOCK,
        num_warps=WARPS,
    )
    return losses


@torch.library.custom_op("primer::linear_cross_entropy", mutates_args=())
def _linear_cross_entropy(
    h: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    gradient: bool,
    targets: Tensor,
    label_smoothing: float,
    soft_cap: float,
    chunk: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The summed loss, and its gradients by h, weight and bias (of no size where nobody wants them).

    An operator of its own is a closed box to torch.compile, which would otherwise take the kernel's overwriting apart.
    The products are in h's dtype, the sums over positions in float32.
    """
    n, V = len(h), len(weight)
    total, dh, dw, db = _allocate(h, weight, bias, gradient)
    narrow = weight.to(h.dtype)
    rows = 128 * math.ceil(n / math.ceil(n * V / chunk) / 128)  # even pieces, of whole tiles of the product
    for start in range(0, n, rows):
        here = slice(start, start + rows)
        z = h[here] @ narrow.t()  # (rows, V)
        losses = losses_over_logits(
            z, targets[here], bias, label_smoothing=label_smoothing, soft_cap=soft_cap, gradient=gradient
        )
        total += losses.sum()
        if gradient:
            torch.mm(z, narrow, out=dh[here])
            dw += torch.mm(z.t(), h[here], out_dtype=torch.float32)
            if bias is not None:
                db += z.sum(0, dtype=torch.float32)
    return total, dh, dw, db


@_linear_cross_entropy.register_fake
def _allocate(
    h: Tensor, weight: Tensor, bias: Tensor | None, gradient: bool, *_: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A zero for the loss, and room for its gradients: all that a compiler needs to know of the operator."""
    total = torch.zeros((), dtype=torch.float32, device=h.device)
    dh = torch.empty_like(h if gradient else h[:0])
    dw = torch.zeros_like(weight if gradient else weight[:0])
    db = weight.new_zeros(len(weight) if gradient and bias is not None else 0)
    return total, dh, dw, db


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*output[1:])
    ctx.biased = inputs[2] is not None


def _backward(ctx: Any, d_total: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    dh, dw, db = ctx.saved_tensors
    d_h = (dh.float() * d_total).to(dh.dtype)
    return d_h, dw * d_total, db * d_total if ctx.biased else None, None, None, None, None, None


_linear_cross_entropy.register_autograd(_backward, setup_context=_keep)


def linear_cross_entropy(
    h: Float[Tensor, "N C"],
    weight: Float[Tensor, "V C"],
    targets: Int[Tensor, " N"],
    *,
    bias: Float[Tensor, " V"] | None = None,
    label_smoothing: float = 0.0,
    soft_cap: float = 0.0,
    chunk: int,
) -> Float[Tensor, ""]:
    """`reference.linear_cross_entropy` with about `chunk` logits in memory; products in autocast's dtype."""
    if torch.is_autocast_enabled("cuda"):
        h = h.to(torch.get_autocast_dtype("cuda"))
    gradient = torch.is_grad_enabled() and (h.requires_grad or weight.requires_grad)
    total, *_ = _linear_cross_entropy(h, weight, bias, gradient, targets, label_smoothing, soft_cap, chunk)
    return total / len(h)
