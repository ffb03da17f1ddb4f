"""Formats drawn at random, as tensors and by the exact codec: the same numbers, and the same codes."""

import itertools
import math
import random

import pytest
import torch

from primer.errors import UsageError
from primer.floats import codec
from primer.floats.encoded import decode, encode
from primer.floats.formats import FORMATS, INTEGERS, Element, IntFormat, Overflow, Rounding, Specials, custom
from primer.floats.tensor import quantize

ROUNDINGS: tuple[Rounding, ...] = ("nearest", "nearest-away", "toward-zero", "up", "down")
SPECIALS: tuple[Specials, ...] = ("ieee", "fn", "fnuz", "none")
WIDTHS = (1, 2, 3, 7, 10, 15, 22, 23, 24, 30, 51, 52)
SINGLE, DOUBLE = torch.float32, torch.float64


def drawn(specials: Specials, mantissa: int, seed: int) -> Element:
    """A format of one's own, with a bias that is usual, or near 0, or near an end of fp64."""
    dice = random.Random(seed)
    while True:
        bias = dice.choice([None, None, dice.randint(-20, 40), dice.randint(-1023, 1023), 1023, -1000])
        try:
            return custom(dice.randint(1, 11), mantissa, specials=specials, bias=bias)
        except UsageError:
            continue


def numbers(form: Element, dice: random.Random) -> list[float]:
    """Of all sizes: the format's own and what lies beside them, the ends of its range, subnormals, and specials."""
    top, least = float(form.largest), float(form.smallest)
    own = [float(codec.decode(dice.getrandbits(form.bits), form)) for _ in range(8)]
    own += [top, least, float(form.smallest * 3), float(getattr(form, "smallest_normal", 1))]
    near = [x * (1 + sign * 2.0 ** -dice.randint(1, 52)) for x in own for sign in (1, -1)]
    near += [x * part for x in (top, least) for part in (0.25, 0.5, 1.5, 2)]
    near += [
        beside for x in (top, least, least / 2) for beside in (math.nextafter(x, 0), math.nextafter(x, 9e999))
    ]
    any_size = [math.ldexp(dice.uniform(1, 2), dice.randint(-1074, 1023)) for _ in range(6)]
    found = [*own, *near, *any_size, 0.0, math.inf]
    return [sign * x for x in found for sign in (1, -1)] + [math.nan, -math.nan]


def same(mine: list[float], exact: list[float]) -> list[bool]:
    """Equal, with the sign of zero; NaNs all count as one."""
    return [
        (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
        for a, b in zip(mine, exact, strict=True)
    ]


def compare(form: Element, rounding: Rounding, overflow: Overflow, dtype: torch.dtype, seed: int) -> None:
    """One way of rounding some numbers, of which the last ones are NaN, to one format."""
    x = torch.tensor(numbers(form, random.Random(seed)), dtype=DOUBLE).to(dtype)
    mine = quantize(x, form, rounding, overflow=overflow)
    assert mine[x.isnan()].isnan().all()
    known = x if form.has_nan else x[~x.isnan()]
    mine = mine[: len(known)]
    exact = [codec.encode(each, form, rounding, overflow=overflow) for each in known.tolist()]

    codes = encode(known, form, rounding, overflow=overflow)
    assert [code % (1 << form.bits) for code in codes.tolist()] == exact
    said = [float(codec.decode(code, form)) for code in exact]
    assert all(same(decode(codes, form, DOUBLE).tolist(), said))

    equal = same(mine.tolist(), torch.tensor(said, dtype=DOUBLE).to(dtype).tolist())
    assert all(equal), known[~torch.tensor(equal)][:3]


@pytest.mark.parametrize("mantissa", WIDTHS)
@pytest.mark.parametrize("specials", SPECIALS)
def test_formats_drawn_at_random_are_the_codecs(specials: Specials, mantissa: int) -> None:
    for seed, (rounding, overflow) in enumerate(itertools.product(ROUNDINGS, ("saturate", "ieee"))):
        compare(drawn(specials, mantissa, seed), rounding, overflow, (SINGLE, DOUBLE)[seed // 2 % 2], seed)


@pytest.mark.parametrize("name", [*FORMATS, *INTEGERS])
def test_formats_of_others_are_the_codecs(name: str) -> None:
    form: Element = {**FORMATS, **INTEGERS}[name]
    for seed, (rounding, overflow) in enumerate(itertools.product(ROUNDINGS, ("saturate", "ieee"))):
        compare(form, rounding, overflow, (SINGLE, DOUBLE)[seed // 2 % 2], seed)


@pytest.mark.parametrize("mantissa", WIDTHS)
@pytest.mark.parametrize("specials", SPECIALS)
def test_codes_drawn_at_random_come_back(specials: Specials, mantissa: int) -> None:
    """NaNs with sign and payload: more of them than chance would draw."""
    dice = random.Random(mantissa)
    for seed in range(2):
        form = drawn(specials, mantissa, seed)
        assert not isinstance(form, IntFormat)
        codes = [dice.getrandbits(form.bits) for _ in range(50)]
        codes += [code | form.last_number & -1 << mantissa for code in codes] + [codec.sign_bit(form), 0]
        codes += [form.last_number, min(form.last_number + 1, (1 << form.bits) - 1), (1 << form.bits) - 1]
        signed = torch.tensor([code - (code >> 63 << 64) for code in codes])
        found = decode(signed, form, DOUBLE)
        assert all(same(found.tolist(), [float(codec.decode(code, form)) for code in codes]))
        assert [code % (1 << form.bits) for code in encode(found, form).tolist()] == codes
