"""Which module rounds a tensor: the plain one, or one that reads and writes its memory once."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor

from primer.errors import UsageError, missing_extra
from primer.floats import plain
from primer.floats.formats import Element
from primer.floats.words import FP32, fits

Implementation = Literal["auto", "plain", "fused", "native"]

ONE_PASS = {"cpu": ("fused", "numba", "fast"), "cuda": ("gpu", "triton", "gpu")}
"""By kind of device, the module that rounds in one pass over memory, what it is written in, and the extra with that."""

FEW = 1 << 12
"""So few numbers are rounded before the fused loops are even loaded."""


def in_words(x: Tensor, form: Element, implementation: Implementation = "auto") -> tuple[Tensor, ModuleType]:
    """The numbers in a word that has room for the format's, and the module that rounds them there."""
    if not fits(form, plain.WORDS[x.dtype]):
        x = x.double()
    can = x.dtype == torch.float32 and x.device.type in ONE_PASS and fits(form, FP32)
    if implementation == "fused" and not can:
        raise UsageError(
            f"fused rounding is for float32 on a CPU or a GPU, and not to {form.name}", hint="plain, or auto"
        )
    if implementation == "fused" or (implementation == "auto" and can and x.numel() > FEW):
        module, package, extra = ONE_PASS[x.device.type]
        try:
            return x, import_module(f"primer.floats.{module}")
        except ImportError:
            if implementation == "fused":
                raise missing_extra(package, extra) from None
    return x, plain
