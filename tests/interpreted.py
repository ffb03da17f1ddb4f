"""Triton's interpreter, where it is wrong or incomplete, put right: bfloat16, and adding through a descriptor.

As it ships it multiplies bfloat16 numbers' bit patterns, cuts off what a cast drops (triton-lang/triton issue 11584),
and has no `descriptor.atomic_add`. Tests of kernels import this module before they run one.
"""

from typing import Any

import ml_dtypes
import numpy as np
import triton.language as tl
from triton._C.libtriton import interpreter as native
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

shipped_dot, shipped_cast = InterpreterBuilder.create_dot, interpreter._convert_float


def dot(self: Any, a: Any, b: Any, d: Any, *options: Any) -> Any:
    """bfloat16 numbers, which numpy holds as uint16, are widened before they are multiplied."""
    wide = [
        TensorHandle(x.data.view(ml_dtypes.bfloat16).astype(np.float32), tl.float32)
        if x.get_element_ty() == tl.bfloat16
        else x
        for x in (a, b)
    ]
    return shipped_dot(self, *wide, d, *options)


def cast(x: Any, source: Any, target: Any, rounding: Any) -> Any:
    """To bfloat16 by rounding to nearest, ties to even, as the hardware does."""
    if source == tl.float32 and target == tl.bfloat16:
        return np.asarray(x, dtype=np.float32).astype(ml_dtypes.bfloat16).view(np.uint16)
    return shipped_cast(x, source, target, rounding)


def descriptor_reduce(self: Any, kind: Any, descriptor: Any, value: Any, offsets: Any) -> None:
    """One program after the other runs here, so a plain read, add and write will do."""
    pointers, there = descriptor.materialize_pointers(offsets)
    old = native.load(pointers.data, there.data, np.zeros_like(value.data), value.data.dtype)
    native.store(pointers.data, old + value.data, there.data)


InterpreterBuilder.create_dot = dot
InterpreterBuilder.create_descriptor_reduce = descriptor_reduce
interpreter._convert_float = cast
