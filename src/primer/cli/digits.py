"""Numbers as digits, from what they are exactly: neither float64's range nor its digits are a limit."""

from __future__ import annotations

from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from fractions import Fraction

from primer.floats import codec
from primer.floats.codec import Value

DIGITS = 14
"""Of a number in a table."""
FEW = 8
"""Of one that has more than those."""
MANY = 17
"""Of one that has more than anyone reads."""
MOST = 1200
"""Characters of a number that is told in full: all of fp64's are shorter."""


def short(value: Value) -> str:
    """A number in a table: all its digits where there are few, else the first ones."""
    sign = "-" if value.negative else ""
    if value.kind == "nan":
        return f"{sign}nan" + (f"({value.payload:#x})" if value.payload_bits > 1 and value.payload else "")
    if value.kind == "infinity":
        return f"{sign}inf"
    return sign + digits(value.magnitude)


def exact(value: Value) -> str:
    """All digits of a number; of one that has no end of them, a fraction; the first ones where that is endless."""
    if value.kind != "number":
        return short(value)
    sign = "-" if value.negative else ""
    above, below = value.magnitude.as_integer_ratio()
    ends = below & (below - 1) == 0
    places = below.bit_length() - 1 if ends else 0
    # A bit is 0.302 digits; times 5^places, 2.33 bits a place more.
    length = max(places, 0.302 * (above.bit_length() + (2.33 * places if ends else below.bit_length())))
    if length > MOST:
        return sign + first(value.magnitude, MANY)
    return sign + (codec.decimal(value.magnitude) if ends else str(value.magnitude))


def digits(magnitude: Fraction) -> str:
    """A positive number in at most so many digits; an ellipsis says that there are more."""
    above, below = magnitude.as_integer_ratio()
    if below & (below - 1) == 0 and max(above.bit_length(), below.bit_length()) <= 64:
        whole = codec.decimal(magnitude)
        if len(whole) <= DIGITS:
            return whole
    return first(magnitude, FEW)


def first(magnitude: Fraction, count: int) -> str:
    """The first digits of a positive number, the last of them rounded; an ellipsis where there are more."""
    near = _rounded(magnitude, count)
    return _written(near, count) + ("" if Fraction(near) == magnitude else "…")


def about(number: Fraction, count: int, *, sign: bool = False) -> str:
    """A number in so many digits, of which no ellipsis says that there are more: a size, an error.

    >>> about(Fraction(-1, 3), 2), about(Fraction(10) ** 361, 2), about(Fraction(100), 2)
    ('-0.33', '1e+361', '100')
    """
    ahead = "-" if number < 0 else "+" if sign else ""
    return ahead + _written(_rounded(abs(number), count), max(count, 6))


def as_plain(number: Fraction) -> float | str:
    """A float64; the text of a number that it could only call 0, or not at all."""
    try:
        near = float(number)
    except OverflowError:
        near = 0.0
    return near if near or not number else about(number, MANY)


def _rounded(magnitude: Fraction, count: int) -> Decimal:
    context = Context(prec=count, Emax=MAX_EMAX, Emin=MIN_EMIN)
    above, below = magnitude.as_integer_ratio()
    return context.divide(Decimal(above), Decimal(below))


def _written(near: Decimal, whole: int) -> str:
    """Without a power of ten from 0.0001 up to so many digits before the point, as C's %g."""
    if not near:
        return "0"
    exponent = near.adjusted()
    text = "".join(map(str, near.as_tuple().digits)).rstrip("0")
    if -5 < exponent < 0:
        return "0." + "0" * (-exponent - 1) + text
    if 0 <= exponent < whole:
        text = text.ljust(exponent + 1, "0")
        return text[: exponent + 1] + ("." + text[exponent + 1 :]).rstrip(".")
    return text[0] + ("." + text[1:]).rstrip(".") + f"e{exponent:+03d}"
