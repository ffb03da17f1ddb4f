"""Number formats as data: how many bits, what they mean, and what no code of theirs can say.

A floating-point code is a sign s, an exponent field e of E bits and a mantissa field m of M bits:

    (−1)^s · 2^(e − bias) · (1 + m / 2^M)      where e > 0: a normal number, with a 1 before the point
    (−1)^s · 2^(1 − bias) · (0 + m / 2^M)      where e = 0: a subnormal one, and zero

IEEE 754-2019, §3.4. What the formats of fewer bits change is which codes are no numbers (`Specials`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, get_args

from primer.errors import UsageError, nearest

Specials = Literal["ieee", "fn", "fnuz", "none"]
"""Which codes are not numbers.

ieee: those whose exponent field is all ones; infinity where the mantissa field is 0, else NaN.
fn ("finite"): the one whose exponent and mantissa fields are all ones, which is NaN; there is no infinity.
fnuz ("finite, unsigned zero"): the code that −0 would have, which is NaN; there is no infinity, and no −0.
none: no code.
"""

Overflow = Literal["saturate", "ieee"]
"""What becomes of a number beyond the largest: the largest, or what IEEE 754 says (infinity, where there is none NaN,
where there is neither the largest; rounding toward zero stops at the largest)."""

Rounding = Literal["nearest", "nearest-away", "toward-zero", "up", "down", "stochastic"]
"""Which of the two neighbours a number becomes.

nearest: the nearer one, of two equally near ones that whose last bit is 0; nearest-away: of those the larger one;
toward-zero, up, down: IEEE 754-2019, §4.3; stochastic: the upper one with the probability that leaves the mean right.
"""


@dataclass(frozen=True)
class FloatFormat:
    """A format with an exponent."""

    name: str
    exponent_bits: int
    """E."""
    mantissa_bits: int
    """M, without the 1 before the point."""
    bias: int
    """What is taken off the exponent field."""
    specials: Specials = "ieee"
    signed: bool = True
    subnormals: bool = True
    """Whether an exponent field of 0 means subnormal numbers and zero; if not, it is one more exponent."""
    about: str = ""

    @property
    def bits(self) -> int:
        """Of a code."""
        return self.signed + self.exponent_bits + self.mantissa_bits

    @property
    def least_exponent(self) -> int:
        """Of a normal number."""
        return 1 - self.bias if self.subnormals else -self.bias

    @property
    def greatest_exponent(self) -> int:
        """Of the largest number: of OCP MX, the emax of its element formats."""
        return self.last_number // (1 << self.mantissa_bits) - self.bias

    @property
    def last_number(self) -> int:
        """The code of the largest number."""
        whole = 1 << (self.exponent_bits + self.mantissa_bits)
        unused = {"ieee": 1 << self.mantissa_bits, "fn": 1, "fnuz": 0, "none": 0}[self.specials]
        return whole - unused - 1

    @property
    def largest(self) -> Fraction:
        """The largest number."""
        e, m = divmod(self.last_number, 1 << self.mantissa_bits)
        if e == 0 and self.subnormals:
            return m * self.smallest
        return (1 + Fraction(m, 1 << self.mantissa_bits)) * power_of_two(e - self.bias)

    @property
    def smallest_normal(self) -> Fraction:
        """The smallest number with all its digits."""
        return power_of_two(self.least_exponent)

    @property
    def smallest(self) -> Fraction:
        """The smallest number above zero."""
        return power_of_two(self.least_exponent - self.mantissa_bits * self.subnormals)

    @property
    def epsilon(self) -> Fraction:
        """From 1 to the next number."""
        return power_of_two(-self.mantissa_bits)

    @property
    def has_infinity(self) -> bool:
        """Whether a code means infinity."""
        return self.specials == "ieee"

    @property
    def has_nan(self) -> bool:
        """Whether a code means "not a number"."""
        return self.specials != "none" and not (self.specials == "ieee" and self.mantissa_bits == 0)

    @property
    def overflow(self) -> Overflow:
        """What becomes of a number that is too large, unless one says: infinity, where there is one."""
        return "ieee" if self.has_infinity else "saturate"


@dataclass(frozen=True)
class IntFormat:
    """Two's complement, with a point before the last `fraction_bits` bits."""

    name: str
    bits: int
    fraction_bits: int = 0
    about: str = ""

    has_infinity = False
    has_nan = False
    signed = True
    overflow: Overflow = "saturate"

    @property
    def largest(self) -> Fraction:
        """The largest number."""
        return ((1 << (self.bits - 1)) - 1) * self.smallest

    @property
    def lowest(self) -> Fraction:
        """The number farthest below zero, one step farther away than the largest."""
        return -(1 << (self.bits - 1)) * self.smallest

    @property
    def smallest(self) -> Fraction:
        """The smallest number above zero, and the step between all of them."""
        return power_of_two(-self.fraction_bits)

    @property
    def greatest_exponent(self) -> int:
        """Of the largest number."""
        return self.bits - 2 - self.fraction_bits


Element = FloatFormat | IntFormat
"""A format whose codes say a number each."""


@dataclass(frozen=True)
class BlockFormat:
    """A format whose numbers share a scale, a block at a time: the code is what is left when it is divided out.

    With a power of two for a scale (E8M0): OCP Microscaling Formats (MX) 1.0, §5. With one in E4M3, and one more in
    fp32 for the whole tensor: NVIDIA's NVFP4.
    """

    name: str
    element: Element
    scale: FloatFormat
    block: int
    """Numbers that share a scale; they lie beside each other along an axis."""
    tensor_scale: bool = False
    """Whether the blocks' scales share one more."""
    about: str = ""

    @property
    def bits(self) -> Fraction:
        """Of a number, its part of the scale included."""
        return self.element.bits + Fraction(self.scale.bits, self.block)


Format = FloatFormat | IntFormat | BlockFormat


def power_of_two(exponent: int) -> Fraction:
    """2^exponent, exactly."""
    return Fraction(1 << exponent) if exponent >= 0 else Fraction(1, 1 << -exponent)


def ieee_bias(exponent_bits: int) -> int:
    """2^(E−1) − 1, which puts 1 in the middle of the exponents."""
    return (1 << (exponent_bits - 1)) - 1


def custom(
    exponent_bits: int,
    mantissa_bits: int,
    *,
    specials: Specials = "ieee",
    bias: int | None = None,
    name: str = "",
) -> FloatFormat:
    """A format of one's own, with a sign. UsageError for one that is none, or says more than fp64 can.

    Its normal numbers are to be normal in fp64, too: where fp64's are subnormal, a word has too few digits to round.

    >>> custom(4, 3).largest
    Fraction(240, 1)
    """
    name = name or f"e{exponent_bits}m{mantissa_bits}"
    usual = ieee_bias(exponent_bits) + (specials == "fnuz") if exponent_bits > 0 else 0
    made = FloatFormat(
        name, exponent_bits, mantissa_bits, usual if bias is None else bias, specials, about="of your own"
    )
    if exponent_bits < 1:
        raise UsageError(f"{name} has no exponent: that is an integer", hint="int8, or e1m6fn")
    if mantissa_bits < 1:
        raise UsageError(
            f"{name} has no mantissa: all its numbers would be powers of two, and none of them NaN",
            hint=f"{_possible(made)}; e8m0 is there as the scale of block formats",
        )
    if exponent_bits > 11 or mantissa_bits > 52:
        raise UsageError(
            f"{name} has more bits than fp64 (e11m52), in which numbers are held here",
            hint=_possible(made),
        )
    if specials == "ieee" and exponent_bits == 1:
        raise UsageError(
            f"{name} has two exponents: one is that of subnormal numbers, the other that of infinity and NaN",
            hint=f"e1m{mantissa_bits}fn, which has normal numbers",
        )
    fp64 = FORMATS["fp64"]
    if abs(made.bias) > fp64.bias or made.largest > fp64.largest:
        raise UsageError(
            f"{name} with a bias of {made.bias} leaves the range of fp64's normal numbers, 2^-1022 to 2^1024, in "
            "which numbers are held here",
            hint=_possible(made) if made.bias == usual else f"a bias of {usual}, the usual one",
        )
    return made


def _possible(form: FloatFormat) -> str:
    """A split near one that was refused, which is not, with the usual bias."""
    # fp64 has no exponent to spare for numbers where IEEE 754 has infinity and NaN.
    least, most = (2, 11) if form.specials == "ieee" else (1, 10)
    exponent, mantissa = min(max(form.exponent_bits, least), most), min(max(form.mantissa_bits, 1), 52)
    return f"e{exponent}m{mantissa}{'' if form.specials == 'ieee' else form.specials}"


FORMATS: dict[str, FloatFormat] = {
    each.name: each
    for each in (
        FloatFormat("fp64", 11, 52, 1023, about="IEEE 754 binary64: Python's float"),
        FloatFormat("fp32", 8, 23, 127, about="IEEE 754 binary32"),
        FloatFormat("tf32", 8, 10, 127, about="what NVIDIA's matrix units read of fp32 (Ampere, 2020)"),
        FloatFormat("fp16", 5, 10, 15, about="IEEE 754 binary16"),
        FloatFormat("bf16", 8, 7, 127, about="the upper half of fp32 (Google Brain)"),
        FloatFormat("e4m3", 4, 3, 7, "fn", about="fp8 for weights and activations (OCP OFP8, there E4M3)"),
        FloatFormat("e5m2", 5, 2, 15, about="fp8 for gradients (OCP OFP8)"),
        FloatFormat("e4m3ieee", 4, 3, 7, about="E4M3 with the special codes of IEEE 754"),
        FloatFormat("e4m3fnuz", 4, 3, 8, "fnuz", about="fp8 of AMD and Graphcore (Noune et al. 2022)"),
        FloatFormat("e5m2fnuz", 5, 2, 16, "fnuz", about="its other half"),
        FloatFormat("e3m2", 3, 2, 3, "none", about="fp6 (OCP MX)"),
        FloatFormat("e2m3", 2, 3, 1, "none", about="fp6 (OCP MX)"),
        FloatFormat("e2m1", 2, 1, 1, "none", about="fp4 (OCP MX)"),
        FloatFormat(
            "e8m0", 8, 0, 127, "fn", signed=False, subnormals=False, about="powers of two: OCP MX's scale"
        ),
    )
}
"""The formats that others have defined."""

INTEGERS: dict[str, IntFormat] = {
    each.name: each
    for each in (
        IntFormat("int8", 8, about="whole numbers; with a scale, the quantisation of inference"),
        IntFormat("int4", 4, about="whole numbers from −8 to 7"),
    )
}

_E8M0, _E4M3 = FORMATS["e8m0"], FORMATS["e4m3"]

BLOCKS: dict[str, BlockFormat] = {
    each.name: each
    for each in (
        BlockFormat("mxfp8", _E4M3, _E8M0, 32, about="OCP MX 1.0, with E4M3"),
        BlockFormat("mxfp8-e5m2", FORMATS["e5m2"], _E8M0, 32, about="OCP MX 1.0, with E5M2"),
        BlockFormat("mxfp6", FORMATS["e2m3"], _E8M0, 32, about="OCP MX 1.0, with E2M3"),
        BlockFormat("mxfp6-e3m2", FORMATS["e3m2"], _E8M0, 32, about="OCP MX 1.0, with E3M2"),
        BlockFormat("mxfp4", FORMATS["e2m1"], _E8M0, 32, about="OCP MX 1.0"),
        BlockFormat("mxint8", IntFormat("int8", 8, 6), _E8M0, 32, about="OCP MX 1.0; ±1 is 64 steps"),
        BlockFormat("nvfp4", FORMATS["e2m1"], _E4M3, 16, tensor_scale=True, about="NVIDIA (Blackwell)"),
    )
}

_OTHER_NAMES = {
    "fp64": "float64 double binary64",
    "fp32": "float32 float single binary32",
    "fp16": "float16 half binary16",
    "bf16": "bfloat16",
    "e4m3": "fp8 e4m3fn fp8_e4m3 float8_e4m3fn",
    "e5m2": "fp8_e5m2 float8_e5m2",
    "e4m3ieee": "float8_e4m3",
    "e4m3fnuz": "float8_e4m3fnuz",
    "e5m2fnuz": "float8_e5m2fnuz",
    "e4m3fnuzb11": "float8_e4m3b11fnuz",
    "e3m4": "float8_e3m4",
    "e2m3": "fp6 e2m3fn float6_e2m3fn",
    "e3m2": "e3m2fn float6_e3m2fn",
    "e2m1": "fp4 e2m1fn float4_e2m1fn float4_e2m1fn_x2",
    "e8m0": "float8_e8m0fnu",
    "mxfp8": "mxfp8-e4m3",
    "mxfp6": "mxfp6-e2m3",
    "mxfp4": "mxfp4-e2m1",
}
ALIASES = {other: name for name, others in _OTHER_NAMES.items() for other in others.split()}
"""Other names of the same. The fn of torch and ml_dtypes says of 4 and 6 bits: no infinity, and no NaN either."""

_SPLIT = re.compile(r"e(\d+)m(\d+)(ieee|fnuz|fn|none)?(?:b(-?\d{1,20}))?")
_CLOSE = 0.65
"""How near to a name a word must be to have been meant for it: fp17 is, of fp16; foo is not, of float."""


def named(text: str) -> Format:
    """The format of a name, or of a split of one's own: e3m4, e3m4fn, e3m4b5 (bias 5). UsageError for any other.

    A split that others have defined is theirs, whatever it is called: e5m10 is fp16.

    >>> named("bfloat16").mantissa_bits, named("e3m4").largest
    (7, Fraction(31, 2))
    """
    name = text.strip().lower()
    name = ALIASES.get(name, name)
    known: dict[str, Format] = {**FORMATS, **INTEGERS, **BLOCKS}
    if name in known:
        return known[name]
    if split := _SPLIT.fullmatch(name):
        exponent, mantissa, specials, bias = split.groups()
        if len(exponent) > 3 or len(mantissa) > 3:
            raise UsageError(f"{name} has more bits than fp64 (e11m52)", hint="e11m52")
        kind: Specials = specials or "ieee"  # type: ignore[assignment]  # one of those that the pattern lists
        given = None if bias is None else int(bias)
        made = custom(int(exponent), int(mantissa), specials=kind, bias=given, name=name)
        same = (each for each in FORMATS.values() if replace(made, name=each.name, about=each.about) == each)
        return next(same, made)
    raise UsageError(
        f"unknown number format {text!r}",
        hint=nearest(name, [*known, *ALIASES], _CLOSE)
        or "primer float --formats, which lists them; or a split of your own: e3m4",
    )


def element(text: str) -> Element:
    """As `named`; UsageError for a block format, whose numbers have no code of their own."""
    found = named(text)
    if isinstance(found, BlockFormat):
        raise UsageError(
            f"{found.name} has codes for {found.block} numbers at once, not for one",
            hint=f"its numbers, divided by their scale: {found.element.name}",
        )
    return found


def check(argument: str, given: object, kind: Any) -> None:
    """UsageError for an argument that is none of the words of a Literal."""
    words = get_args(kind)
    if given not in words:
        raise UsageError(
            f"{argument} must be one of {', '.join(words)}, and is {given!r}",
            hint=f'{argument}="{nearest(str(given), list(words)) or words[0]}"',
        )
