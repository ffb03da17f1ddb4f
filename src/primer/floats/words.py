"""A format as it looks from inside fp32 or fp64: the few integers with which a word is rounded without leaving it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from primer.floats.codec import encode
from primer.floats.formats import FORMATS, Element, FloatFormat, IntFormat, Overflow, Rounding


@dataclass(frozen=True)
class Word:
    """How numbers are held while they are rounded: in fp32 or fp64."""

    form: FloatFormat

    @property
    def mantissa_bits(self) -> int:
        """Of the word."""
        return self.form.mantissa_bits

    @property
    def infinity(self) -> int:
        """The word for +infinity; those above it, up to the sign bit, are NaN."""
        return self.form.last_number + 1

    @property
    def nan(self) -> int:
        """A quiet NaN."""
        return self.infinity | 1 << (self.mantissa_bits - 1)


FP32, FP64 = Word(FORMATS["fp32"]), Word(FORMATS["fp64"])

Pair = tuple[int, int]
"""For a positive number, and for a negative one."""


@dataclass(frozen=True)
class Constants:
    """All that rounding needs to know of a format. Numbers are bit patterns of the word, without its sign.

    A word with the exponent field e has `dropped` + max(0, `least_field` − e) bits more than the format keeps.
    """

    dropped: int
    """Bits of the mantissa that a normal number of the format has no place for."""
    least_field: int
    """The exponent field, in the word, of the format's smallest normal number."""
    smallest: int
    """The smallest number above zero."""
    half_of_smallest: int
    largest: Pair
    beyond: Pair
    """What a number becomes that is too large."""
    infinity: Pair
    """What infinity becomes."""
    keeps_negative_zero: bool
    signed: bool
    """Where it is not, what is negative becomes NaN, and zero the smallest number."""


@lru_cache(maxsize=256)
def constants(form: Element, word: Word, rounding: Rounding, overflow: Overflow) -> Constants:
    """The constants of a format that lies within the word's (`fits`)."""

    def bits(number: Fraction) -> int:
        return encode(number, word.form)

    largest, special = bits(form.largest), word.nan
    limits = (largest, largest)
    if isinstance(form, IntFormat):
        limits = (largest, bits(-form.lowest))
    elif form.has_infinity:
        special = word.infinity
    clips = overflow == "saturate" or not (form.has_infinity or form.has_nan)
    gone = limits if clips else (special, special)
    digits, least = inside(form)
    return Constants(
        dropped=word.mantissa_bits - digits,
        least_field=least + word.form.bias,
        smallest=bits(form.smallest),
        half_of_smallest=bits(form.smallest / 2),
        largest=limits,
        beyond=(
            limits[0] if rounding in ("toward-zero", "down") else gone[0],
            limits[1] if rounding in ("toward-zero", "up") else gone[1],
        ),
        infinity=gone,
        keeps_negative_zero=isinstance(form, FloatFormat) and form.specials != "fnuz",
        signed=form.signed,
    )


class Packed(NamedTuple):
    """`Constants` of fp32 and a rounding, for loops of one pass; _p and _n: of a positive and of a negative number."""

    dropped: Any
    least_field: Any
    smallest: Any
    half: Any
    """All ones where half of the last bit that stays is added,"""
    tie: Any
    """1 where a little less than half is added to what ends in 0: to the nearest, of two to the even one,"""
    full_p: Any
    full_n: Any
    """all ones where all is added that makes no whole last bit: away from zero."""
    threshold_p: Any
    threshold_n: Any
    """What is larger than this, and has no bit left, becomes the smallest number."""
    largest_p: Any
    largest_n: Any
    beyond_p: Any
    beyond_n: Any
    infinity_p: Any
    infinity_n: Any
    negative_zero: Any


@lru_cache(maxsize=256)
def packed(form: Element, rounding: Rounding, overflow: Overflow) -> Packed:
    """The constants of a format for `fused.py` and `gpu.py`, which read them in this order."""
    c = constants(form, FP32, rounding, overflow)
    away = {"up": (0xFFFFFFFF, 0), "down": (0, 0xFFFFFFFF)}.get(rounding, (0, 0))
    never, nearer = 0x7F800000, rounding in ("nearest", "nearest-away")
    just_below = c.half_of_smallest - (rounding == "nearest-away")
    thresholds = [just_below if nearer else 0 if up else never for up in away]
    numbers = (
        *(c.dropped, c.least_field, c.smallest, 0xFFFFFFFF * nearer, rounding == "nearest"),
        *(*away, *thresholds, *c.largest, *c.beyond, *c.infinity, c.keeps_negative_zero),
    )
    return Packed(*map(np.uint32, numbers))


def inside(form: Element) -> Pair:
    """Mantissa bits, and the least exponent. Integers are numbers that are subnormal everywhere: all have one step."""
    if isinstance(form, IntFormat):
        return form.bits - 1, form.bits - 1 - form.fraction_bits
    return form.mantissa_bits, form.least_exponent


def holds(form: Element, word: Word, overflow: Overflow) -> bool:
    """Whether a format has all that the word can hold, −0 and infinity too, so that nothing is left to round."""
    inner = word.form
    return (
        isinstance(form, FloatFormat)
        and form.has_infinity
        and overflow == "ieee"
        and form.mantissa_bits >= inner.mantissa_bits
        and form.smallest <= inner.smallest
        and form.largest >= inner.largest
    )


def fits(form: Element, word: Word) -> bool:
    """Whether the word holds every number of a format, with a bit to spare, and exponents that begin no later.

    The loops of one pass need that bit. fp64 has room for every format there is, but none to spare for those of 52
    mantissa bits: `plain.py` does without.
    """
    digits, least = inside(form)
    inner = word.form
    return digits < inner.mantissa_bits and least >= inner.least_exponent and form.largest <= inner.largest
