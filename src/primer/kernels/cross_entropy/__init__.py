"""One operator, several implementations: the product of the head and the loss of its logits, without holding them all.

The logits of 50,000 tokens are sixty times as wide as the stream that they come from. `reference` is the equation;
`cpu` and `gpu` keep a chunk of them at a time, in which loss and gradient are both computed.
"""

import importlib.util
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from primer.kernels.cross_entropy import cpu, reference

CHUNKS = {"cpu": 1 << 24, "cuda": 1 << 30}
"""Logits in memory at once: 64 MB of float32, or 2 GB of bfloat16."""

FEW = {"cpu": 1 << 21, "cuda": 1 << 24}
"""So many logits are better left in one piece: a CPU's caches hold them."""

HAS_TRITON = importlib.util.find_spec("triton") is not None
"""Whether kernels can be compiled here. A constant, since a compiler must be able to see through `in_chunks`."""

Implementation = Literal["auto", "reference", "cpu", "gpu"]


def linear_cross_entropy(
    h: Float[Tensor, "*B C"],
    weight: Float[Tensor, "V C"],
    targets: Int[Tensor, "*B"],
    *,
    bias: Float[Tensor, " V"] | None = None,
    label_smoothing: float = 0.0,
    soft_cap: float = 0.0,
    implementation: Implementation = "auto",
) -> Float[Tensor, ""]:
    """The mean surprise of the targets, in nats, under logits cap(W·h + b)."""
    chosen: str = implementation
    if implementation == "auto":
        fast = "gpu" if h.device.type == "cuda" else "cpu"
        chosen = fast if in_chunks(targets.numel() * len(weight), h) else "reference"
    flat = (h.flatten(0, -2), weight, targets.flatten())
    options: dict[str, Any] = {"bias": bias, "label_smoothing": label_smoothing, "soft_cap": soft_cap}
    if chosen == "cpu":
        return cpu.linear_cross_entropy(*flat, **options, chunk=CHUNKS["cpu"])
    if chosen == "gpu":
        from primer.kernels.cross_entropy import gpu  # needs Triton

        return gpu.linear_cross_entropy(*flat, **options, chunk=CHUNKS["cuda"])
    return reference.linear_cross_entropy(*flat, **options)


def in_chunks(logits: int, h: Tensor) -> bool:
    """Whether so many logits are better not all in memory at once, and there is a way here to avoid it."""
    device = h.device.type
    if logits <= min(FEW.get(device, 0), CHUNKS.get(device, 0)):
        return False
    if device == "cuda":
        return h.dtype != torch.float64 and HAS_TRITON
    compiled = torch.compiler.is_compiling()  # a compiler has its own way with what it can see into
    narrow = h.dtype.itemsize < 4 or torch.is_autocast_enabled("cpu")  # it would sum in few bits
    return device == "cpu" and not compiled and not narrow


def held_at_once(device: str, *, narrow: bool, compiled: bool = False) -> int | None:
    """The most logits that training on such a device has in memory; None: all of a micro-batch.

    narrow: whether products are computed in fewer than 32 bits; compiled: by torch.compile (see `in_chunks` for both).
    """
    if (device == "cuda" and not HAS_TRITON) or (device == "cpu" and (narrow or compiled)):
        return None
    return CHUNKS.get(device)
