"""Number ↔ bits in any format, exactly: Python's integers and fractions, and one rounding, which is the one asked for.

This is what the fast ways of `floats/tensor.py` are judged by. float64 is no way to a shorter format: whoever rounds to
it first rounds twice, and 1 + 2^-11 + 2^-40 becomes 1 in fp16, where it is 1 + 2^-10.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Literal

from primer.errors import UsageError
from primer.floats.formats import (
    FORMATS,
    Element,
    FloatFormat,
    IntFormat,
    Overflow,
    Rounding,
    check,
    power_of_two,
)

Kind = Literal["number", "infinity", "nan"]

LONGEST = 5000
"""Digits, and powers of ten, of a number that is typed: no format here says more than 800 and 324 of them."""


@dataclass(frozen=True)
class Value:
    """What a code means: a number with a sign (zero has one, too), an infinity, or NaN with what its mantissa holds."""

    magnitude: Fraction = Fraction(0)
    negative: bool = False
    kind: Kind = "number"
    payload: int = 0
    """Of a NaN: its mantissa field, as `payload_bits` bits."""
    payload_bits: int = 0

    @property
    def exact(self) -> Fraction:
        """The number, with its sign."""
        assert self.kind == "number"
        return -self.magnitude if self.negative else self.magnitude

    def __float__(self) -> float:
        """The nearest float64."""
        if self.kind == "nan":
            return math.nan
        try:
            size = math.inf if self.kind == "infinity" else float(self.magnitude)
        except OverflowError:
            size = math.inf
        return -size if self.negative else size


@dataclass(frozen=True)
class Fields:
    """The parts of a code, as they stand side by side."""

    sign: int | None
    """None where there is no bit for it."""
    exponent: int
    mantissa: int


def value(x: Value | Fraction | float | str) -> Value:
    """Any number, or the text of one, exactly: "0.1", "1e-3", "0x1.8p3" (C's hexadecimal), "1/3", "-inf", "nan".

    UsageError for a text that is no number.

    >>> value("0.1").exact, value(0.1).exact == Fraction(1, 10)
    (Fraction(1, 10), False)
    """
    if isinstance(x, Value):
        return x
    if isinstance(x, str):
        return _read(x)
    if isinstance(x, float):
        if math.isnan(x) or math.isinf(x):
            return decode(int.from_bytes(struct.pack(">d", x), "big"), _FP64)
        return Value(Fraction(abs(x)), math.copysign(1, x) < 0)
    return Value(Fraction(abs(x)), x < 0)


def decode(code: int, form: Element) -> Value:
    """What a code says. UsageError for one that the format has no bits for.

    >>> float(decode(0x7e, named("e4m3")))
    448.0
    """
    if not 0 <= code < 1 << form.bits:
        raise UsageError(
            f"{code:#x} is no code of {form.name}, which has {form.bits} bits",
            hint=f"0x0 to {(1 << form.bits) - 1:#x}",
        )
    if isinstance(form, IntFormat):
        signed = code - (code >> (form.bits - 1) << form.bits)
        return Value(abs(signed) * form.smallest, signed < 0)
    parts = fields(code, form)
    e, m, M = parts.exponent, parts.mantissa, form.mantissa_bits
    negative = bool(parts.sign)
    if form.specials == "fnuz" and negative and e == m == 0:
        return Value(kind="nan", negative=True, payload_bits=M)
    if form.specials in ("ieee", "fn") and code & ~sign_bit(form) > form.last_number:
        if form.specials == "ieee" and m == 0:
            return Value(kind="infinity", negative=negative)
        return Value(kind="nan", negative=negative, payload=m, payload_bits=M)
    if e == 0 and form.subnormals:
        return Value(m * form.smallest, negative)
    return Value((1 + Fraction(m, 1 << M)) * power_of_two(e - form.bias), negative)


def encode(
    x: Value | Fraction | float | str,
    form: Element,
    rounding: Rounding = "nearest",
    *,
    overflow: Overflow | None = None,
    chance: Fraction | float = 0,
) -> int:
    """The code of the number that x becomes in a format.

    overflow: the format's own unless given. chance: for stochastic rounding, a draw from [0, 1): x goes away from zero
    where the part of a step that it has gone is at least 1 − chance, so that the mean over all draws is x. UsageError
    for NaN where the format has none.

    >>> encode(0.1, named("e4m3")), encode(1000, named("e4m3"), overflow="ieee")
    (29, 127)
    """
    exact = value(x)
    check("rounding", rounding, Rounding)
    overflow = form.overflow if overflow is None else overflow
    check("overflow", overflow, Overflow)
    negative = exact.negative
    nothing = exact.kind == "number" and not exact.magnitude
    if exact.kind == "nan" or (negative and not nothing and not form.signed):
        return _nan(exact, form)
    limit = _limit(form, negative)
    if exact.kind == "infinity":
        return _signed(limit, negative, form) if overflow == "saturate" else _infinity(negative, form)
    above, below = exact.magnitude.as_integer_ratio()
    least, M = (
        (0, form.fraction_bits) if isinstance(form, IntFormat) else (form.least_exponent, form.mantissa_bits)
    )
    exponent = max(exponent_of(exact.magnitude), least) if above and isinstance(form, FloatFormat) else least
    if exponent < M:  # the step is 2^(exponent − M); how many of them go into the number, and what is left?
        above <<= M - exponent
    else:
        below <<= exponent - M
    steps, rest = divmod(above, below)
    if rest and _goes_up(rest, below, steps, negative, rounding, chance):
        steps += 1
    # A normal number has 2^M steps for its 1 before the point, which raise the exponent field to what it should be.
    size = (exponent - least << M) + steps
    if isinstance(form, FloatFormat) and not form.subnormals:
        size = max(size - (1 << M), 0)  # the format has no zero
    if size > limit:
        stops = rounding == "toward-zero" or rounding == ("up" if negative else "down")
        return (
            _signed(limit, negative, form) if overflow == "saturate" or stops else _infinity(negative, form)
        )
    return _signed(size, negative, form)


def quantize(
    x: Value | Fraction | float | str,
    form: Element,
    rounding: Rounding = "nearest",
    *,
    overflow: Overflow | None = None,
    chance: Fraction | float = 0,
) -> Value:
    """The number that x becomes in a format: `decode` of `encode`."""
    return decode(encode(x, form, rounding, overflow=overflow, chance=chance), form)


def ulp(x: Value | Fraction | float | str, form: Element) -> Fraction:
    """The step between the numbers of a format where x lies: "unit in the last place" (Goldberg 1991, §1.2).

    Beyond the largest number it is the step that would be there if exponents went on.
    """
    if isinstance(form, IntFormat):
        return form.smallest
    magnitude = value(x).magnitude
    exponent = max(exponent_of(magnitude), form.least_exponent) if magnitude else form.least_exponent
    return power_of_two(exponent - form.mantissa_bits)


def nextafter(code: int, form: Element, direction: Literal["up", "down"]) -> int | None:
    """The code of the next number above or below (of the two zeros, the positive one counts).

    The infinities are the last ones where a format has them. None where nothing follows, and of NaN.
    """
    here = decode(code, form)
    if here.kind == "nan":
        return None
    if isinstance(form, IntFormat):
        signed = code - (code >> (form.bits - 1) << form.bits) + (1 if direction == "up" else -1)
        inside = -(1 << (form.bits - 1)) <= signed < 1 << (form.bits - 1)
        return signed % (1 << form.bits) if inside else None
    sign = sign_bit(form)
    size = code & ~sign
    last = form.last_number + form.has_infinity
    if here.kind == "number" and not here.magnitude:  # either zero
        return 1 if direction == "up" else sign | 1
    if (direction == "up") != here.negative:  # away from zero
        return (code & sign) | (size + 1) if size < last else None
    if not form.subnormals:
        return size - 1 if size else None
    return (code & sign) | (size - 1) if size > 1 else 0


def fields(code: int, form: FloatFormat) -> Fields:
    """Sign, exponent field and mantissa field of a code."""
    M, E = form.mantissa_bits, form.exponent_bits
    sign = code >> (M + E) if form.signed else None
    return Fields(sign, code >> M & ((1 << E) - 1), code & ((1 << M) - 1))


def sign_bit(form: Element) -> int:
    """The bit of a code that says "negative"; 0 where there is none."""
    return 1 << (form.bits - 1) if form.signed else 0


def exponent_of(magnitude: Fraction) -> int:
    """floor(log2) of a positive number, exactly."""
    above, below = magnitude.as_integer_ratio()
    guess = above.bit_length() - below.bit_length()  # at most one too high
    return guess - ((above << max(-guess, 0)) < (below << max(guess, 0)))


def decimal(x: Fraction) -> str:
    """All decimal digits of a number whose denominator is a power of two: they end.

    >>> decimal(Fraction(1, 1024))
    '0.0009765625'
    """
    places = x.denominator.bit_length() - 1
    assert x.denominator == 1 << places
    digits = str(abs(x.numerator) * 5**places)
    sign = "-" if x < 0 else ""
    if not places:
        return sign + digits
    digits = digits.rjust(places + 1, "0")
    return f"{sign}{digits[:-places]}.{digits[-places:]}"


def _goes_up(
    rest: int, step: int, steps: int, negative: bool, rounding: Rounding, chance: Fraction | float
) -> bool:
    """Whether a magnitude goes to the neighbour above it: it is so many steps from zero, and `rest` of one more."""
    if rounding == "nearest":
        return 2 * rest > step or (2 * rest == step and steps % 2 == 1)
    if rounding == "nearest-away":
        return 2 * rest >= step
    if rounding == "stochastic":
        return rest + Fraction(chance) * step >= step
    return rounding == ("down" if negative else "up")


def _limit(form: Element, negative: bool) -> int:
    """The code, without its sign, of the number farthest from zero."""
    if isinstance(form, IntFormat):
        return (1 << (form.bits - 1)) - (not negative)
    return form.last_number


def _signed(size: int, negative: bool, form: Element) -> int:
    """A code with its sign; of an integer, the two's complement."""
    if isinstance(form, IntFormat):
        return (-size if negative else size) % (1 << form.bits)
    nothing = form.specials == "fnuz" and size == 0
    return size | (sign_bit(form) if negative and not nothing else 0)


def _infinity(negative: bool, form: Element) -> int:
    """What IEEE 754 makes of a number that is too large, as far as the format can say it."""
    if isinstance(form, FloatFormat) and form.has_infinity:
        return _signed(form.last_number + 1, negative, form)
    if form.has_nan:
        return _nan(Value(kind="nan", negative=negative), form)
    return _signed(_limit(form, negative), negative, form)


def _nan(exact: Value, form: Element) -> int:
    """The NaN with the same sign and as much of the payload as there is room for; quiet (IEEE 754-2019, §6.2.1)."""
    if isinstance(form, IntFormat) or not form.has_nan:
        raise UsageError(f"{form.name} has no code for NaN", hint="a format that has one: e4m3, fp16")
    if form.specials == "fnuz":
        return sign_bit(form)
    sign = sign_bit(form) if exact.negative else 0
    if form.specials == "fn":
        return sign | (form.last_number + 1)
    M = form.mantissa_bits
    shorter = exact.payload_bits - M
    payload = exact.payload >> shorter if shorter > 0 else exact.payload << -shorter
    quiet = 0 if shorter == 0 and payload else 1 << (M - 1)
    return sign | (form.last_number + 1) | payload | quiet


_FP64 = FORMATS["fp64"]
_HEXADECIMAL = re.compile(r"0x[0-9a-f]*\.?[0-9a-f]*(p[+-]?\d+)?")
_POWER = re.compile(r"[ep]([+-]?\d+)$")


def _read(text: str) -> Value:
    """A number as people write it."""
    word = text.strip().lower().replace("−", "-").replace("_", "")
    bare, negative = word.removeprefix("-").removeprefix("+"), word.startswith("-")
    if bare in ("inf", "infinity"):
        return Value(kind="infinity", negative=negative)
    if bare == "nan":
        return Value(kind="nan", negative=negative, payload=1, payload_bits=1)
    power = _POWER.search(word) if "/" not in word else None
    if (
        len(word) > LONGEST
        or (power and len(power.group(1)) > 6)
        or (power and abs(int(power.group(1))) > LONGEST)
    ):
        raise UsageError("no format here reaches so far, or is so fine", hint=f"up to {LONGEST} digits")
    try:
        if bare.startswith(("+", "-")):
            raise ValueError(bare)
        if _HEXADECIMAL.fullmatch(bare):
            return Value(_hexadecimal(bare), negative)
        number = Fraction(bare) if "/" in bare else Fraction(Decimal(bare))
    except (ValueError, InvalidOperation, ZeroDivisionError, OverflowError):
        raise UsageError(
            f"{text!r} is not a number", hint="0.1, 1e-3, 1/3, 0x1.8p3, inf, nan, or a code: --code=0x3f"
        ) from None
    return Value(abs(number), negative)


def _hexadecimal(word: str) -> Fraction:
    """C's notation: 0x1.8p3 is (1 + 8/16) · 2³."""
    digits, _, power = word.removeprefix("0x").partition("p")
    whole, _, fraction = digits.partition(".")
    scaled = Fraction(int((whole + fraction) or "none", 16), 16 ** len(fraction))
    return scaled * power_of_two(int(power or "0"))
