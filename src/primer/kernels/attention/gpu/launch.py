"""What it takes to start a kernel of this room: tensors that the copy engine can read, and arguments that all share."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from primer.kernels.attention.visible import Spans

LOG2E = 1.4426950408889634
"""Kernels work in base 2: e^x is 2^(x·log₂e), and 2^x is one instruction."""


class Tiles(NamedTuple):
    """Queries and keys in a tile, groups of 32 threads that share it, how many tiles are on their way at once.

    copied: by a Hopper GPU's copy engine; otherwise each thread fetches what is its own.
    """

    block_t: int
    block_s: int
    warps: int
    stages: int
    copied: bool = True


class How(NamedTuple):
    """What a call asks for, beside its tensors."""

    causal: bool
    window: int  # 0: none
    softmax_scale: float
    soft_cap: float
    dropout: float
    seed: int

    @property
    def plain(self) -> bool:
        """Whether weights are the softmax of scores, and nothing else happens to them."""
        return not (self.soft_cap or self.dropout)


class Launch(NamedTuple):
    """A kernel and the arguments it was to be started with."""

    kernel: Any
    arguments: dict[str, Any]


_noted: ContextVar[list[Launch] | None] = ContextVar("noted", default=None)


def launch(kernel: Any, grid: tuple[int, ...], **arguments: Any) -> None:
    """Every kernel of this room starts here; inside `noted` it is only written down."""
    launches = _noted.get()
    if launches is None:
        kernel[grid](**arguments)
    else:
        launches.append(Launch(kernel, arguments))


@contextmanager
def noted() -> Iterator[list[Launch]]:
    """What would be started, where there is no GPU to start it on: `assembly` compiles exactly that."""
    launches: list[Launch] = []
    token = _noted.set(launches)
    try:
        yield launches
    finally:
        _noted.reset(token)


def padded(width: int) -> int:
    """A power of two, as tiles are; what lies beyond the head's width is read as 0."""
    return max(16, 1 << (width - 1).bit_length())


def readable(x: Tensor) -> Tensor:
    """x as the copy engine can read it: rows of adjacent numbers, each beginning at a multiple of 16 bytes."""
    aligned = x.data_ptr() % 16 == 0 and all(
        stride * x.element_size() % 16 == 0 for stride in x.stride()[:-1]
    )
    return x if x.stride(-1) == 1 and aligned and 0 not in x.stride() else x.contiguous()


def tiled_by(x: Tensor, rows: int, copied: bool) -> Any:
    """x (B, H, T, D) as `tiles.block` wants it. copied: for the copy engine, blocks of `rows` rows of a head."""
    if copied:
        return TensorDescriptor(x, list(x.shape), list(x.stride()), [1, 1, rows, padded(x.shape[3])])
    return (x, *x.stride()[:3], x.shape[2])


def spans_and_scale(how: How, visible: Spans | None, placeholder: Tensor) -> dict[str, Any]:
    """Arguments of every kernel. A kernel that does not read a pointer gets `placeholder`."""
    return {
        "first_ptr": placeholder if visible is None else visible.first,
        "last_ptr": placeholder if visible is None else visible.last,
        "window": how.window,
        "scale": how.softmax_scale / how.soft_cap if how.soft_cap else how.softmax_scale * LOG2E,
        "CAUSAL": how.causal,
        "WINDOW": how.window > 0,
        "SPANS": visible is not None,
    }


def extras(how: How, seen: Tensor | None, placeholder: Tensor) -> dict[str, Any]:
    """Arguments of the kernels that know padding, caps and dropout."""
    threshold = how.dropout * 256  # what `kernels.random.kept_at` compares a byte with
    return {
        "seen_ptr": placeholder if seen is None else seen.view(torch.int8),
        "cap": how.soft_cap * LOG2E,
        "seed": how.seed,
        "whole": int(threshold),
        "fraction": int(threshold % 1 * 2**32),
        "kept_share": 1.0 - how.dropout,
        "SEEN": seen is not None,
        "CAP": how.soft_cap > 0,
        "DROPOUT": how.dropout > 0,
    }


def precision() -> str:
    """Products of float32 numbers: three of tf32, which is as exact, or one where the user allows it."""
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "tf32x3"
