"""Attention on a GPU: which kernel with which tiles, and autograd around them.

Forward and backward are operators of torch.library, closed boxes that torch.compile leaves alone. On a Hopper GPU
plain attention goes to `hopper` (Gluon); all else, and all other devices, to `forward` and `backward`
(Triton); a few queries without a gradient to `decode`.
"""

from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
import triton
from jaxtyping import Bool, Float, Int
from torch import Tensor

from primer.errors import SurroundingsError, UsageError
from primer.kernels.attention.gpu import backward, decode, forward
from primer.kernels.attention.gpu.launch import How, Tiles, padded
from primer.kernels.attention.visible import Spans, queries_of_keys, spans

WIDEST = 128
"""Columns of a head that a tile can hold."""

DECODE_ROWS = 64
"""Queries of heads that share a key head, at most so many of which `decode` takes."""


@lru_cache
def forward_tiles(width: int, itemsize: int, plain: bool, capability: tuple[int, int]) -> Tiles:
    """On a Hopper GPU the fastest of those tried; elsewhere the largest for which registers suffice (`assembly`)."""
    if itemsize == 4:
        return Tiles(32, 32, 8, 2, copied=False)
    if capability < (9, 0):
        return Tiles(64, 64 if plain else 32, 4, 2, copied=False)
    if width <= 64 and plain:
        return Tiles(64, 128, 4, 2)
    return Tiles(64, 64, 4, 3)


@lru_cache
def backward_tiles(
    width: int, itemsize: int, plain: bool, capability: tuple[int, int]
) -> tuple[Tiles, Tiles]:
    """Likewise, for `keys_backward` and `queries_backward`. Dropout and caps need registers: smaller tiles."""
    if itemsize == 4:
        keys = Tiles(32, 16 if width > 64 else 32, 8, 2, copied=False)
        small = width > 64 and not plain
        return keys, Tiles(16, 32, 4, 2, copied=False) if small else Tiles(32, 32, 8, 2, copied=False)
    if capability < (9, 0):
        keys = Tiles(64, 64, 8, 2, copied=False) if width > 64 else Tiles(64, 32, 8, 2, copied=False)
        return keys, Tiles(64, 64, 8 if width > 32 else 4, 2, copied=False)
    keys = Tiles(64, 64, 4, 2) if plain else Tiles(32, 64, 4, 2)
    return keys, Tiles(64, 64, 4, 2) if width > 32 else Tiles(64, 128, 4, 2)


def hopper_block(width: int) -> int:
    """Queries in a tile of `hopper_backward`: what registers have room for."""
    return 64 if width > 64 else 128


@lru_cache
def gluon_kernels() -> tuple[ModuleType, ModuleType] | None:
    """The kernels in Gluon, where this Triton has its words: it is experimental, and they change."""
    try:
        from primer.kernels.attention.gpu import hopper, hopper_backward
    except (ImportError, AttributeError):
        return None
    return hopper, hopper_backward


@lru_cache
def hopper_runs(device: torch.device) -> bool:
    """Whether this Triton compiles them, and the device runs them: tried once, on one small head."""
    kernels = gluon_kernels()
    if not kernels:
        return False
    x = torch.ones(1, 1, 64, WIDEST, dtype=torch.bfloat16, device=device)
    how = How(causal=True, window=0, softmax_scale=1.0, soft_cap=0.0, dropout=0.0, seed=0)
    try:
        out, lse = kernels[0].forward_pass(x, x, x, None, how)
        kernels[1].backward_pass(out, x, x, x, lse, torch.zeros_like(lse), None, how)
    except Exception:  # of what kind depends on the version
        return False
    return True


@lru_cache
def capability(device: torch.device) -> tuple[int, int]:
    """(9, 0) for a Hopper GPU; of Triton's interpreter, which runs on a CPU, that of none."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)


def specialized(q: Tensor, seen: Tensor | None, how: How) -> tuple[ModuleType, ModuleType] | None:
    """`hopper` and `hopper_backward`, where they can do what is asked."""
    fits = q.element_size() == 2 and seen is None and how.plain
    return gluon_kernels() if fits and capability(q.device) == (9, 0) and hopper_runs(q.device) else None


def found_spans(first: Tensor | None, last: Tensor | None) -> Spans | None:
    return None if first is None or last is None else Spans(first, last)


@torch.library.custom_op("primer::attention", mutates_args=())
def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    first: Tensor | None,
    last: Tensor | None,
    seen: Tensor | None,
    seed: Tensor,
    causal: bool,
    window: int,
    softmax_scale: float,
    soft_cap: float,
    dropout: float,
) -> tuple[Tensor, Tensor]:
    """Output and lse. first, last: where documents are packed, each query's `visible.spans`."""
    how = How(causal, window, softmax_scale, soft_cap, dropout, int(seed) if dropout else 0)
    visible, width = found_spans(first, last), padded(max(q.shape[-1], v.shape[-1]))
    kernels = specialized(q, seen, how)
    if kernels and width > 64:
        return kernels[0].forward_pass(q, k, v, visible, how)
    plain = how.plain and seen is None
    tiles = forward_tiles(width, q.element_size(), plain, capability(q.device))
    return forward.forward_pass(q, k, v, visible, seen, how, tiles)


@_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return q.new_empty(*q.shape[:3], v.shape[3]), q.new_empty(q.shape[:3], dtype=torch.float32)


@torch.library.custom_op("primer::attention_backward", mutates_args=())
def _attention_backward(
    d_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    first: Tensor | None,
    last: Tensor | None,
    seen: Tensor | None,
    seed: Tensor,
    causal: bool,
    window: int,
    softmax_scale: float,
    soft_cap: float,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """dQ, dK and dV, contiguous."""
    how = How(causal, window, softmax_scale, soft_cap, dropout, int(seed) if dropout else 0)
    visible, width = found_spans(first, last), padded(max(q.shape[-1], v.shape[-1]))
    delta = backward.rowsum(out, d_out)
    kernels = specialized(q, seen, how)
    if kernels and not torch.are_deterministic_algorithms_enabled():
        columns = None if visible is None else queries_of_keys(visible, k.shape[2])
        return kernels[1].backward_pass(d_out, q, k, v, lse, delta, columns, how, block_t=hopper_block(width))
    plain = how.plain and seen is None
    tiles = backward_tiles(width, q.element_size(), plain, capability(q.device))
    return backward.backward_pass(d_out, q, k, v, lse, delta, visible, seen, how, *tiles)


@_attention_backward.register_fake
def _(d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, first, last, seen, seed, *ctx.how = inputs
    ctx.save_for_backward(q, k, v, *output, first, last, seen, seed)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, d_out: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return (*_attention_backward(d_out, *ctx.saved_tensors, *ctx.how), *(None,) * 9)


_attention.register_autograd(_backward, setup_context=_keep)


def check(q: Tensor, k: Tensor, v: Tensor, softmax_scale: float) -> None:
    """What these kernels lack, as errors that say what has it."""
    if q.device.type != "cuda" and not triton.knobs.runtime.interpret:
        raise SurroundingsError(
            "the kernels need a CUDA device", f"the queries are on {q.device}", "implementation='auto'"
        )
    if q.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise UsageError("the kernels know fp32, fp16 and bf16", f"{q.dtype}", "implementation='reference'")
    step = 16 // q.element_size()
    for name, x in (("k", k), ("v", v)):
        width = x.shape[-1]
        if width > WIDEST or width % step:
            raise UsageError(
                f"the kernels know head widths up to {WIDEST} that are multiples of {step}",
                f"{name} is {width} wide",
                "implementation='library'",
            )
    if softmax_scale <= 0:
        raise UsageError(
            "the kernels want a softmax_scale above 0", f"{softmax_scale:g}", "implementation='library'"
        )


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
    dropout_seed: int | Tensor = 0,
) -> tuple[Float[Tensor, "B H T Dv"], Float[Tensor, "B H T"]]:
    """`reference.attention` with nothing of T × S in memory, forward and backward."""
    if torch.is_autocast_enabled(q.device.type):
        q, k, v = (x.to(torch.get_autocast_dtype(q.device.type)) for x in (q, k, v))
    scale = q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale
    check(q, k, v, scale)
    T, group = q.shape[2], q.shape[1] // k.shape[1]
    trained = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    if group * T <= DECODE_ROWS and not (trained or dropout or document_ids is not None or seen is not None):
        return decode.decode(
            q, k, v, causal=causal, window=window or 0, softmax_scale=scale, soft_cap=soft_cap
        )
    first = last = None
    if document_ids is not None:
        found = spans(T, k.shape[2], causal=causal, window=window, document_ids=document_ids, device=q.device)
        first, last = (x.contiguous() for x in found)
    seed = torch.as_tensor(dropout_seed)
    out, lse = _attention(
        q,
        k,
        v,
        first,
        last,
        None if seen is None else seen.contiguous(),
        seed,
        causal,
        window or 0,
        scale,
        soft_cap,
        dropout,
    )
    return out, lse
