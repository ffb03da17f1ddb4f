"""`floats/plain.py` in one pass over memory, for fp32 on a CPU, compiled by numba (extra [fast]).

All roundings but the stochastic one are one line with other constants: what is added below the last bit that stays, and
above which number one that has no bit left is raised to the smallest. So the loop has no branches, and vector units
take eight or sixteen numbers at a time. Threads are Python's, each with a slice: compiled code runs without the lock.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numba import njit, uint32
from torch import Tensor

from primer.floats.formats import Element, FloatFormat, Overflow, Rounding
from primer.floats.words import FP32, holds, packed

ALONE = 1 << 15
"""So few numbers are not worth a second thread."""
ALL = 0xFFFFFFFF
ZERO, ONE, MANTISSA, DRAWN = uint32(0), uint32(1), uint32(23), uint32(31)
SIGN, INFINITY = uint32(0x80000000), uint32(0x7F800000)
# numba computes with 64 bits what it is not told to keep in 32. Every step below says so: vectors hold twice as many.


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled when it is first called, and kept on disk where there is a place for it."""
    try:
        return njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # neither this folder nor the user's cache can be written
        return njit(nogil=True, error_model="numpy")(function)


inlined: Callable[..., Any] = njit(inline="always", error_model="numpy")


@inlined
def rounded(b: Any, c: Any) -> Any:
    """A word with the format's bits only: every rounding but the stochastic one."""
    sign = uint32(b & SIGN)
    a = uint32(b ^ sign)
    extra, shift = to_drop(a, c)
    unit = uint32(ONE << shift)
    full = c.full_n if sign else c.full_p
    half = uint32(uint32(unit >> ONE) & c.half)
    odd = uint32(with_one(a) >> shift)
    added = uint32(uint32(half - uint32(~odd & c.tie)) + uint32(uint32(unit - ONE) & full))
    r = uint32(uint32(a + added) & ~uint32(unit - ONE))
    tiny = c.smallest if a > (c.threshold_n if sign else c.threshold_p) else ZERO
    return bounded(tiny if extra > MANTISSA else r, a, sign, c)


@inlined
def rounded_by_chance(b: Any, noise: Any, c: Any) -> Any:
    """A word with the format's bits only; `noise`: 31 random bits."""
    sign = uint32(b & SIGN)
    a = uint32(b ^ sign)
    extra, shift = to_drop(a, c)
    r = uint32(uint32(uint32(a + uint32(noise >> uint32(DRAWN - shift))) >> shift) << shift)
    share = uint32(uint32(with_one(a) << uint32(7)) >> min(uint32(extra - uint32(24)), DRAWN))
    tiny = c.smallest if noise < share else ZERO
    return bounded(tiny if extra > MANTISSA else r, a, sign, c)


@inlined
def with_one(a: Any) -> Any:
    """The mantissa field, with the 1 before the point of a normal number."""
    return uint32(uint32(a & uint32(0x007FFFFF)) | uint32(0x00800000)) if a >= uint32(0x00800000) else a


@inlined
def to_drop(a: Any, c: Any) -> Any:
    """The bits that have to go, and how many of them lie in the mantissa field."""
    field = max(uint32(a >> MANTISSA), ONE)
    extra = uint32(c.dropped + uint32(max(c.least_field, field) - field))
    return extra, min(extra, MANTISSA)


@inlined
def bounded(r: Any, a: Any, sign: Any, c: Any) -> Any:
    """What is too large, infinite, not a number, or a negative zero."""
    r = (c.beyond_n if sign else c.beyond_p) if r > (c.largest_n if sign else c.largest_p) else r
    r = (c.infinity_n if sign else c.infinity_p) if a == INFINITY else r
    r = a if a > INFINITY else r
    return uint32(r | (sign if uint32(r | c.negative_zero) else ZERO))


@inlined
def random_word(place: Any, low: Any, high: Any) -> Any:
    """31 bits: `plain.random_words`."""
    h = uint32(uint32(uint32(place) * uint32(0x9E3779B9)) + low)
    h = uint32(h ^ uint32(h >> uint32(16)))
    h = uint32(h * uint32(0x7FEB352D))
    h = uint32(h ^ uint32(h >> uint32(15)))
    h = uint32(h ^ high)
    h = uint32(h * uint32(0x846CA68B))
    h = uint32(h ^ uint32(h >> uint32(16)))
    return uint32(h >> ONE)


@compiled
def _round(x: Any, out: Any, c: Any) -> None:
    for i in range(x.size):
        out[i] = rounded(x[i], c)


@compiled
def _round_by_chance(x: Any, out: Any, c: Any, place: Any, low: Any, high: Any) -> None:
    for i in range(x.size):
        out[i] = rounded_by_chance(x[i], random_word(place + i, low, high), c)


@compiled
def _round_scaled(x: Any, out: Any, scale: Any, c: Any) -> None:
    for g in range(x.shape[0]):
        back = scale[g]
        times = np.float32(1) / back if back != 0 else np.float32(0)
        for i in range(x.shape[1]):
            word = rounded(np.float32(x[g, i] * times).view(np.uint32), c)
            out[g, i] = np.uint32(word).view(np.float32) * back


@compiled
def _round_scaled_by_chance(x: Any, out: Any, scale: Any, c: Any, place: Any, low: Any, high: Any) -> None:
    for g in range(x.shape[0]):
        back = scale[g]
        times = np.float32(1) / back if back != 0 else np.float32(0)
        first = place + g * x.shape[1]
        for i in range(x.shape[1]):
            word = np.float32(x[g, i] * times).view(np.uint32)
            word = rounded_by_chance(word, random_word(first + i, low, high), c)
            out[g, i] = np.uint32(word).view(np.float32) * back


@compiled
def _group_largest(x: Any, out: Any) -> None:
    for g in range(x.shape[0]):
        most = uint32(0)
        for i in range(x.shape[1]):
            most = max(most, x[g, i] & uint32(0x7FFFFFFF))
        out[g] = most


@inlined
def nearest(x: Any, c: Any) -> Any:
    """A number rounded."""
    return np.uint32(rounded(np.float32(x).view(np.uint32), c)).view(np.float32)


@compiled
def _matmul(a: Any, b: Any, out: Any, c: Any) -> None:
    for i in range(a.shape[0]):
        for k in range(a.shape[1]):
            for j in range(b.shape[1]):
                out[i, j] = nearest(out[i, j] + np.float32(a[i, k] * b[k, j]), c)


@compiled
def _added_in_fp32(x: Any, out: Any, compensated: bool) -> None:
    for row in range(x.shape[0]):
        total, lost = np.float32(0), np.float32(0)
        for i in range(x.shape[1]):
            y = np.float32(x[row, i] - lost)
            larger = np.float32(total + y)
            if compensated:
                lost = np.float32(np.float32(larger - total) - y)
            total = larger
        out[row] = total


@compiled
def _added(x: Any, out: Any, c: Any, compensated: bool) -> None:
    for row in range(x.shape[0]):
        total, lost = np.float32(0), np.float32(0)
        for i in range(x.shape[1]):
            if compensated:
                y = nearest(np.float32(x[row, i] - lost), c)
                larger = nearest(np.float32(total + y), c)
                lost = nearest(np.float32(nearest(np.float32(larger - total), c) - y), c)
                total = larger
            else:
                total = nearest(np.float32(total + x[row, i]), c)
        out[row] = total


def quantize(
    x: Float[Tensor, "*N"],
    form: Element,
    rounding: Rounding,
    overflow: Overflow,
    seed: int = 0,
    out: Float[Tensor, "*N"] | None = None,
) -> Float[Tensor, "*N"]:
    """`plain.quantize` of float32 on a CPU; into `out`, which is contiguous, where it is given."""
    x = x.contiguous()
    out = torch.empty_like(x) if out is None else out
    words, results = (memory(t).ravel().view(np.uint32) for t in (x, out))
    c = packed(form, rounding, overflow)
    if rounding == "stochastic":
        low, high = halves(seed)
        in_slices(
            len(words),
            lambda part: _round_by_chance(words[part], results[part], c, np.uint32(part.start), low, high),
        )
    else:
        in_slices(len(words), lambda part: _round(words[part], results[part], c))
    return out


def quantize_scaled(
    x: Float[Tensor, "G N"],
    scale: Float[Tensor, " G"],
    form: Element,
    rounding: Rounding,
    overflow: Overflow,
    seed: int = 0,
) -> Float[Tensor, "G N"]:
    """`plain.quantize_scaled` of float32 on a CPU."""
    x, scale = x.contiguous(), scale.contiguous()
    out = torch.empty_like(x)
    numbers, results, scales = memory(x), memory(out), memory(scale)
    c, width = packed(form, rounding, overflow), x.shape[1]
    if rounding == "stochastic":
        low, high = halves(seed)

        def work(part: slice) -> None:
            place = np.uint32(part.start * width & ALL)
            _round_scaled_by_chance(numbers[part], results[part], scales[part], c, place, low, high)

        in_slices(len(scales), work, width)
    else:
        in_slices(
            len(scales),
            lambda part: _round_scaled(numbers[part], results[part], scales[part], c),
            width,
        )
    return out


def group_largest(x: Float[Tensor, "G N"]) -> Float[Tensor, " G"]:
    """`plain.group_largest` of float32 on a CPU: NaNs are the largest words."""
    x = x.contiguous()
    out = x.new_empty(len(x))
    words, results = memory(x).view(np.uint32), memory(out).view(np.uint32)
    in_slices(len(words), lambda part: _group_largest(words[part], results[part]), x.shape[1])
    return out


def matmul(a: Float[Tensor, "M K"], b: Float[Tensor, "K N"], form: FloatFormat) -> Float[Tensor, "M N"]:
    """`accumulate.matmul` of float32 on a CPU."""
    a, b = a.contiguous(), b.contiguous()
    out = a.new_zeros(a.shape[0], b.shape[1])
    c = packed(form, "nearest", form.overflow)
    left, right, results = map(memory, (a, b, out))
    in_slices(len(a), lambda part: _matmul(left[part], right, results[part], c), a.shape[1] * b.shape[1])
    return out


def added(x: Float[Tensor, "B N"], form: FloatFormat, *, compensated: bool) -> Float[Tensor, " B"]:
    """`sums.naive`, or compensated as `sums.kahan`, of float32 on a CPU."""
    x = x.contiguous()
    out = x.new_empty(len(x))
    numbers, results = memory(x), memory(out)

    def work(part: slice) -> None:
        if holds(form, FP32, form.overflow):
            _added_in_fp32(numbers[part], results[part], compensated)
        else:
            _added(numbers[part], results[part], packed(form, "nearest", form.overflow), compensated)

    in_slices(len(x), work, x.shape[1])
    return out


def memory(x: Tensor) -> Any:
    """A contiguous float32 tensor as an array, which does not keep it alive.

    `x.numpy()` would forbid that its memory is ever resized, as FSDP does with weights that it has gathered.
    """
    if not x.numel():
        return np.empty(x.shape, np.float32)
    return np.ctypeslib.as_array((ctypes.c_float * x.numel()).from_address(x.data_ptr())).reshape(x.shape)


def halves(seed: int) -> tuple[Any, Any]:
    """Of a seed of 64 bits."""
    return np.uint32(seed & ALL), np.uint32(seed >> 32 & ALL)


def in_slices(count: int, work: Callable[[slice], object], width: int = 1) -> None:
    """Do the work on `count` items, each of so many numbers, as torch's threads would: a slice a thread."""
    threads = min(torch.get_num_threads(), max(1, count * width // ALONE), count)
    if threads <= 1:
        if count:
            work(slice(0, count))
        return
    edges = [count * number // threads for number in range(threads + 1)]
    parts = [slice(low, high) for low, high in pairwise(edges)]
    others = [_pool(os.getpid(), threads).submit(work, part) for part in parts[1:]]
    work(parts[0])
    for each in others:
        each.result()


@lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """The threads of this process; one that was forked has none of its parent's."""
    return ThreadPoolExecutor(threads - 1, thread_name_prefix="rounding")
