"""Rounding tensors to a format with integer operations: a line of arithmetic a step, on any device.

A word's bits, read as an integer, grow with the number that they say, and a carry out of the mantissa field raises the
exponent field as it should. So a number is rounded where it stands: add something below the last bit that stays, then
clear what lies below it. `floats/fused.py` is the same in one pass over memory.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from primer.floats.formats import Element, Overflow, Rounding
from primer.floats.words import FP32, FP64, Pair, constants

INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}
WORDS = {torch.float32: FP32, torch.float64: FP64}
DRAWN = {torch.int32: 31, torch.int64: 62}
"""Random bits that a number gets."""
MASK = (1 << 32) - 1
GOLDEN = 0x9E3779B9
"""2^32 / φ: an odd number whose multiples are spread evenly."""


def quantize(
    x: Float[Tensor, "*N"], form: Element, rounding: Rounding, overflow: Overflow, seed: int = 0
) -> Float[Tensor, "*N"]:
    """x (float32 or float64) with every number rounded to one of the format's (`floats.tensor.quantize`)."""
    word = WORDS[x.dtype]
    c, P = constants(form, word, rounding, overflow), word.mantissa_bits
    bits = x.contiguous().view(INTEGERS[x.dtype])
    a = bits & torch.iinfo(bits.dtype).max  # without the sign
    negative = bits < 0

    def by_sign(pair: Pair) -> Tensor:
        return torch.where(negative, pair[1], pair[0]).to(a.dtype)

    extra = (c.least_field - (a >> P).clamp(min=1)).clamp(min=0) + c.dropped  # bits that have to go
    shift = extra.clamp(max=P)
    unit = torch.ones_like(a) << shift  # of the last bit that stays
    significand = torch.where(a >> P > 0, a & ((1 << P) - 1) | 1 << P, a)  # with the 1 before the point
    noise = random_words(a, seed) if rounding == "stochastic" else a

    # Nothing is added where no bit has to go, as in a format with all of fp64's digits; there unit is 1.
    added = {
        "nearest": lambda: ((unit >> 1) - 1 + ((significand >> shift) & 1)).clamp(min=0),
        "nearest-away": lambda: unit >> 1,
        "toward-zero": lambda: torch.zeros_like(a),
        "up": lambda: torch.where(negative, 0, unit - 1),
        "down": lambda: torch.where(negative, unit - 1, 0),
        "stochastic": lambda: noise >> (DRAWN[a.dtype] - shift),
    }[rounding]()
    rounded = (a + added) & -unit

    # Where the 1 before the point has to go as well, what is left is the smallest number, or zero.
    raised = {
        "nearest": lambda: a > c.half_of_smallest,
        "nearest-away": lambda: a >= c.half_of_smallest,
        "toward-zero": lambda: torch.zeros_like(negative),
        "up": lambda: (a > 0) & ~negative,
        "down": lambda: (a > 0) & negative,
        "stochastic": lambda: noise < share_of_smallest(significand, extra),
    }[rounding]()
    rounded = torch.where(extra > P, torch.where(raised, c.smallest, 0).to(a.dtype), rounded)

    rounded = torch.where(rounded > by_sign(c.largest), by_sign(c.beyond), rounded)
    rounded = torch.where(a == word.infinity, by_sign(c.infinity), rounded)
    rounded = torch.where(a > word.infinity, a, rounded)
    if not c.signed:
        rounded = torch.where(negative & (a > 0), word.nan, rounded.clamp(min=c.smallest)).to(a.dtype)
    minus = negative & c.signed & ((rounded > 0) | c.keeps_negative_zero)
    sign = torch.where(minus, torch.iinfo(a.dtype).min, 0).to(a.dtype)
    return (rounded | sign).view(x.dtype)


def share_of_smallest(significand: Int[Tensor, "*N"], extra: Int[Tensor, "*N"]) -> Int[Tensor, "*N"]:
    """Of all draws, how many raise a number to the smallest one: as large a part as the number is of that."""
    moved, most = DRAWN[significand.dtype] - extra, 8 * significand.element_size() - 1
    return torch.where(
        moved >= 0, significand << moved.clamp(0, most), significand >> (-moved).clamp(0, most)
    )


def random_words(like: Int[Tensor, "*N"], seed: int) -> Int[Tensor, "*N"]:
    """31 random bits for each int32, 62 for each int64, which depend on the seed and the number's place alone.

    A counter goes through a mixer of 32 bits (Wellons 2018, "Prospecting for hash functions": two multiplications,
    three shifts), with one half of the seed added before and the other put in half-way. So no number waits for the one
    before it, and threads, devices and the order of the work change nothing.
    """
    place = torch.arange(like.numel(), device=like.device).view(like.shape)
    low, high = seed & MASK, seed >> 32 & MASK
    drawn = _mixed(place, low, high) >> 1
    if like.dtype == torch.int64:
        return drawn << 31 | _mixed(place, high ^ GOLDEN, low) >> 1
    return drawn.to(torch.int32)


def _mixed(place: Int[Tensor, "*N"], before: int, midway: int) -> Int[Tensor, "*N"]:
    """32 bits, in an int64, of a place."""
    h = (place * GOLDEN + before) & MASK
    h = h ^ h >> 16
    h = h * 0x7FEB352D & MASK
    h = h ^ h >> 15
    h = h ^ midway
    h = h * 0x846CA68B & MASK
    return h ^ h >> 16


def group_largest(x: Float[Tensor, "G N"]) -> Float[Tensor, " G"]:
    """The largest magnitude of each row; NaN where one of its numbers is."""
    return x.abs().amax(dim=-1)


def quantize_scaled(
    x: Float[Tensor, "G N"],
    scale: Float[Tensor, " G"],
    form: Element,
    rounding: Rounding,
    overflow: Overflow,
    seed: int = 0,
) -> Float[Tensor, "G N"]:
    """Each row divided by its scale (`divided`), rounded, and multiplied by the scale again."""
    return quantize(divided(x, scale), form, rounding, overflow, seed) * scale[:, None]


def divided(x: Float[Tensor, "G N"], scale: Float[Tensor, " G"]) -> Float[Tensor, "G N"]:
    """Each row times 1/scale; zeros where the scale is 0."""
    return x * torch.where(scale == 0, 0.0, scale.reciprocal())[:, None]
