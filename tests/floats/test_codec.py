import math
import struct
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracles import GFLOAT, ML_DTYPES, MODES, fp32_patterns, gaussians, same
from primer.errors import UsageError
from primer.floats.codec import (
    Value,
    decimal,
    decode,
    encode,
    exponent_of,
    fields,
    nextafter,
    quantize,
    ulp,
    value,
)
from primer.floats.formats import FORMATS, INTEGERS, Rounding, element

SMALL = [*ML_DTYPES, "e2m2fn", "e1m6fn", "e4m3b3", "int8", "int4"]


@pytest.mark.parametrize("name", ML_DTYPES)
def test_every_code_means_what_ml_dtypes_says(name: str) -> None:
    form = element(name)
    codes = np.arange(1 << form.bits).astype(np.uint16 if form.bits > 8 else np.uint8)
    with np.errstate(invalid="ignore"):
        theirs = codes.view(ML_DTYPES[name]).astype(np.float64)
    mine = np.array([float(decode(int(code), form)) for code in codes])
    assert same(mine, theirs).all()


@pytest.mark.parametrize("name", SMALL)
def test_every_code_comes_back(name: str) -> None:
    """NaNs, too, with the sign and the payload that they have."""
    form = element(name)
    wrong = [code for code in range(1 << form.bits) if encode(decode(code, form), form) != code]
    assert not wrong


@pytest.mark.parametrize("name", ["fp64", "fp32"])
@given(bits=st.integers(0, (1 << 64) - 1))
def test_python_floats_come_back_with_all_their_bits(name: str, bits: int) -> None:
    code = bits >> (64 - FORMATS[name].bits)
    found = decode(code, FORMATS[name])
    assert encode(found, FORMATS[name]) == code
    (theirs,) = struct.unpack(">d" if name == "fp64" else ">f", code.to_bytes(FORMATS[name].bits // 8, "big"))
    assert same(np.array(float(found)), np.array(theirs))


@pytest.mark.parametrize("name", ML_DTYPES)
def test_rounding_to_the_nearest_is_ml_dtypes_own(name: str) -> None:
    form = element(name)
    x = np.concatenate([gaussians(2000).numpy(), fp32_patterns(0).numpy()[::97]])
    with np.errstate(all="ignore"):
        theirs = x.astype(ML_DTYPES[name]).astype(np.float32)
    mine = []
    for number in x:
        if math.isnan(number) and not form.has_nan:
            theirs[len(mine)] = math.nan
            mine.append(math.nan)
        else:
            mine.append(float(decode(encode(float(number), form, overflow="ieee"), form)))
    equal = same(np.array(mine), theirs)
    if name == "e8m0":
        equal |= x == 0  # there NaN; here the nearest, as torch has it
        equal |= (x > 2.0**-127) & (
            x < 1.5 * 2.0**-127
        )  # there and in torch 2^-126, which is not the nearest
    assert equal.all(), x[~equal][:5]


@pytest.mark.parametrize("rounding", MODES)
@pytest.mark.parametrize("name", GFLOAT)
@pytest.mark.parametrize("overflow", ["saturate", "ieee"])
def test_every_rounding_is_gfloats(name: str, rounding: Rounding, overflow: str) -> None:
    from gfloat import round_ndarray

    form = element(name)
    x = gaussians(1500, seed=1).numpy().astype(np.float64)
    x = np.concatenate([x, [0.0, -0.0, np.inf, -np.inf]])
    x = x if form.has_nan or overflow == "saturate" else x[np.abs(x) <= float(form.largest)]
    theirs = round_ndarray(GFLOAT[name], x, MODES[rounding], sat=overflow == "saturate")
    mine = np.array([float(quantize(float(each), form, rounding, overflow=overflow)) for each in x])
    equal = same(mine, theirs)
    assert equal.all(), (x[~equal][:5], mine[~equal][:5], theirs[~equal][:5])


def test_a_number_is_rounded_once() -> None:
    """By way of float64 or float32 it would be a tie, and go to the even neighbour: 1."""
    x = 1 + Fraction(1, 2**11) + Fraction(1, 2**40)
    assert quantize(x, FORMATS["fp16"]).exact == 1 + Fraction(1, 2**10)
    assert quantize(1 + Fraction(1, 2**11), FORMATS["fp16"]).exact == 1


@pytest.mark.parametrize("name", SMALL)
@given(data=st.data())
def test_rounding_down_and_up_encloses_a_number(name: str, data: st.DataObject) -> None:
    form = element(name)
    top = Fraction(form.largest)
    x = data.draw(st.fractions(-top if form.signed else form.smallest, top))
    below, above = (quantize(x, form, rounding).exact for rounding in ("down", "up"))
    assert below <= x <= above
    if below < above:
        step = above - below
        assert step == ulp(x, form)
        for rounding in ("nearest", "toward-zero", "stochastic"):
            assert quantize(x, form, rounding, chance=Fraction(1, 3)).exact in (below, above)
        assert abs(quantize(x, form).exact - x) * 2 <= step


@pytest.mark.parametrize("name", SMALL)
def test_next_numbers_are_in_order_and_leave_none_out(name: str) -> None:
    form = element(name)
    numbers = {float(decode(code, form)) for code in range(1 << form.bits)}
    numbers = sorted(number for number in numbers if not math.isnan(number))
    code: int | None = next(c for c in range(1 << form.bits) if float(decode(c, form)) == numbers[0])
    walked = []
    while code is not None:
        walked.append(float(decode(code, form)))
        back = nextafter(code, form, "down")
        if len(walked) > 1:
            assert back is not None
            assert float(decode(back, form)) == walked[-2]
        code = nextafter(code, form, "up")
    assert walked == numbers


def test_both_zeros_have_the_same_neighbours() -> None:
    form = FORMATS["fp16"]
    for zero in (0, 0x8000):
        assert (nextafter(zero, form, "up"), nextafter(zero, form, "down")) == (1, 0x8001)


def test_stochastic_rounding_is_right_in_the_mean() -> None:
    form = FORMATS["e2m1"]
    x = Fraction(9, 8)  # a quarter of the way from 1 to 1.5
    draws = [quantize(x, form, "stochastic", chance=Fraction(k, 64)).exact for k in range(64)]
    assert sum(draws) / 64 == x
    assert sum(quantize(-x, form, "stochastic", chance=Fraction(k, 64)).exact for k in range(64)) / 64 == -x


@pytest.mark.parametrize(
    ("number", "name", "overflow", "expected"),
    [
        (1000, "e4m3", "saturate", 448.0),
        (1000, "e4m3", "ieee", math.nan),
        (math.inf, "e4m3", "saturate", 448.0),
        (-1000, "e4m3fnuz", "ieee", math.nan),
        (464, "e4m3", "ieee", 448.0),  # half-way to a code that is NaN: the even neighbour
        (65520, "fp16", "ieee", math.inf),  # half-way to what would be 2^16
        (65519, "fp16", "ieee", 65504.0),
        (70000, "fp16", "saturate", 65504.0),
        (100, "e2m1", "ieee", 6.0),  # there is neither infinity nor NaN
        (-300, "int8", "ieee", -128.0),
    ],
)
def test_what_is_too_large(number: float, name: str, overflow: str, expected: float) -> None:
    found = float(quantize(float(number), element(name), overflow=overflow))
    assert same(np.array(abs(found) if math.isnan(expected) else found), np.array(expected))


def test_directed_rounding_stops_at_the_largest_on_one_side() -> None:
    fp16 = FORMATS["fp16"]
    assert float(quantize(70000, fp16, "down")) == 65504
    assert float(quantize(70000, fp16, "up")) == math.inf
    assert float(quantize(-70000, fp16, "up")) == -65504
    assert float(quantize(70000, fp16, "toward-zero")) == 65504


def test_signs_of_zero_and_payloads_of_nan_are_kept() -> None:
    fp16, fp32 = FORMATS["fp16"], FORMATS["fp32"]
    assert encode(-0.0, fp16) == 0x8000
    assert encode(-0.0, FORMATS["e4m3fnuz"]) == 0  # whose −0 would be its NaN
    nan = decode(0xFFC12345, fp32)
    assert (nan.negative, nan.payload) == (True, 0x412345)
    assert encode(nan, fp32) == 0xFFC12345
    assert encode(nan, fp16) == 0xFC00 | 0x412345 >> 13
    assert encode(decode(0x7F800001, fp32), fp16) == 0x7E00  # what is left of its payload would be infinity
    with pytest.raises(UsageError, match="no code for NaN"):
        encode(math.nan, FORMATS["e2m1"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.1", Fraction(1, 10)),
        ("-1e-3", Fraction(-1, 1000)),
        ("0x1.8p3", Fraction(12)),
        ("-0x.8", Fraction(-1, 2)),
        ("1/3", Fraction(1, 3)),
        ("1_000", Fraction(1000)),
        ("−2.5", Fraction(-5, 2)),
    ],
)
def test_numbers_as_people_write_them(text: str, expected: Fraction) -> None:
    assert value(text).exact == expected


def test_texts_that_say_more_than_a_number() -> None:
    assert value("-0").negative
    assert value("-inf") == Value(kind="infinity", negative=True)
    assert value("nan").kind == "nan"


@pytest.mark.parametrize(
    "text",
    ["", "x", "0x", "--3", "1/0", "1e", "0.1.2", "1/2/3", "e5", "0x1p", "1e5/3", "infinite", "1,5", "ⅷ"],
)
def test_texts_that_are_no_numbers(text: str) -> None:
    with pytest.raises(UsageError, match="not a number"):
        value(text)


@pytest.mark.parametrize("text", ["1e999999999", "0x1p-99999999", "9" * 6000, "1e-5001"])
def test_numbers_that_would_take_forever(text: str) -> None:
    with pytest.raises(UsageError, match="no format here reaches"):
        value(text)


def test_words_that_are_none_of_an_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match=r"rounding must be one of nearest, .*, and is 'sideways'"):
        quantize(3.3, FORMATS["e4m3"], "sideways")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="overflow must be one of saturate, ieee, and is 'wrap'"):
        encode(3.3, FORMATS["e4m3"], overflow="wrap")  # type: ignore[arg-type]


def test_codes_that_a_format_has_no_bits_for() -> None:
    for code in (-1, 256):
        with pytest.raises(UsageError, match="no code of e4m3"):
            decode(code, FORMATS["e4m3"])


def test_fields_and_digits() -> None:
    parts = fields(encode("-0.1", FORMATS["bf16"]), FORMATS["bf16"])
    assert (parts.sign, parts.exponent, parts.mantissa) == (1, 123, 77)
    assert decimal(quantize("0.1", FORMATS["bf16"]).exact) == "0.10009765625"
    assert decimal(-FORMATS["e2m1"].largest) == "-6"
    assert fields(127, FORMATS["e8m0"]).sign is None
    assert ulp(300, INTEGERS["int8"]) == 1
    assert exponent_of(Fraction(7, 8)) == -1
    assert exponent_of(Fraction(1)) == 0


@given(st.integers(1, 10**30), st.integers(1, 10**30))
def test_the_exponent_is_the_floor_of_the_logarithm(above: int, below: int) -> None:
    x = Fraction(above, below)
    assert Fraction(2) ** exponent_of(x) <= x < Fraction(2) ** (exponent_of(x) + 1)
