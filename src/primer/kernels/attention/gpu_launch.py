"""What it takes to start a kernel of this room: tensors that the copy engine can read, and the arguments all share."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from primer.kernels.attention.visible import Spans

LOG2E = 1.4426950408889634


class Tiles(NamedTuple):
    """Queries and keys in a tile, groups of 32 threads that share it, tiles on their way, and whether roles are split."""

    block_t: int
    block_s: int
    warps: int
    stages: int
    specialize: bool = False


class How(NamedTuple):
    """What a call asks for, beside its tensors."""

    causal: bool
    window: int  # 0: none
    softmax_scale: float
    soft_cap: float
    dropout: float
    seed: int


def padded(width: int) -> int:
    """A power of two, as tiles are; what lies beyond the head's width is read as 0."""
    return max(16, 1 << (width - 1).bit_length())


def readable(x: Tensor) -> Tensor:
    """x where the copy engine can read it: rows of adjacent numbers, each beginning at a multiple of 16 bytes."""
    aligned = x.data_ptr() % 16 == 0 and all(
        stride * x.element_size() % 16 == 0 for stride in x.stride()[:-1]
    )
    return x if x.stride(-1) == 1 and aligned and 0 not in x.stride() else x.contiguous()


def tiled_by(x: Tensor, rows: int) -> TensorDescriptor:
    """x (B, H, T, D) as the copy engine sees it: blocks of `rows` rows of one head."""
    return TensorDescriptor(x, list(x.shape), list(x.stride()), [1, 1, rows, padded(x.shape[3])])


def options(how: How, visible: Spans | None, seen: Tensor | None, placeholder: Tensor) -> dict[str, Any]:
    """Arguments that all kernels have in common."""
    threshold = how.dropout * 256
    return {
        "first_ptr": placeholder if visible is None else visible.first,
        "last_ptr": placeholder if visible is None else visible.last,
        "seen_ptr": placeholder if seen is None else seen.view(torch.int8),
        "window": how.window,
        "scale": how.softmax_scale / how.soft_cap if how.soft_cap else how.softmax_scale * LOG2E,
        "cap": how.soft_cap * LOG2E,
        "seed": how.seed,
        "whole": int(threshold),
        "fraction": int(threshold % 1 * 2**32),
        "kept_share": 1.0 - how.dropout,
        "CAUSAL": how.causal,
        "WINDOW": how.window > 0,
        "SPANS": visible is not None,
        "SEEN": seen is not None,
        "CAP": how.soft_cap > 0,
        "DROPOUT": how.dropout > 0,
    }


def precision(dtype: torch.dtype) -> str:
    """Products of float32: three of tf32, which is as exact, or one where the user allows it."""
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "tf32x3"


def is_hopper(x: Tensor) -> bool:
    """Whether x lies on an H100, H200 or GH200."""
    return x.device.type == "cuda" and torch.cuda.get_device_capability(x.device) == (9, 0)
