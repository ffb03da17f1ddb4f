import ml_dtypes
import pytest

from oracles import ML_DTYPES
from primer.errors import UsageError
from primer.floats.formats import BLOCKS, FORMATS, INTEGERS, BlockFormat, custom, element, named


@pytest.mark.parametrize("name", [name for name in ML_DTYPES if name != "e8m0"])
def test_extremes_are_those_that_ml_dtypes_states(name: str) -> None:
    form, theirs = element(name), ml_dtypes.finfo(ML_DTYPES[name])
    assert form.bits == {4: 4, 6: 6, 8: 8, 16: 16}[theirs.bits]
    assert float(form.largest) == float(theirs.max)
    assert float(form.smallest_normal) == float(theirs.smallest_normal)
    assert float(form.smallest) == float(theirs.smallest_subnormal)
    assert float(form.epsilon) == float(theirs.eps)


def test_a_scale_has_powers_of_two_and_no_zero() -> None:
    form = FORMATS["e8m0"]
    assert (form.largest, form.smallest, form.bits) == (2**127, form.smallest_normal, 8)


@pytest.mark.parametrize(
    ("name", "emax"), [("e4m3", 8), ("e5m2", 15), ("e3m2", 4), ("e2m3", 2), ("e2m1", 2), ("int8", 0)]
)
def test_the_greatest_exponents_are_those_of_the_mx_document(name: str, emax: int) -> None:
    """OCP MX 1.0, tables 2 to 5 and §5.3.4, where INT8 has its point behind the second bit."""
    form = BLOCKS["mxint8"].element if name == "int8" else FORMATS[name]
    assert form.greatest_exponent == emax


def test_a_block_counts_its_scale_among_its_bits() -> None:
    assert [float(named(name).bits) for name in ("mxfp8", "mxfp6", "mxfp4", "nvfp4")] == [
        8.25,
        6.25,
        4.25,
        4.5,
    ]


def test_integers_reach_one_step_farther_below_zero() -> None:
    assert (INTEGERS["int8"].largest, INTEGERS["int8"].lowest) == (127, -128)
    mxint8 = BLOCKS["mxint8"].element
    assert (float(mxint8.largest), float(mxint8.smallest)) == (1.984375, 1 / 64)


@pytest.mark.parametrize(
    ("text", "name"), [("BFloat16", "bf16"), ("float8_e4m3fn", "e4m3"), (" half ", "fp16"), ("fp4", "e2m1")]
)
def test_other_names_of_the_same(text: str, name: str) -> None:
    assert named(text) is FORMATS[name]


def test_a_split_of_ones_own() -> None:
    form = element("e3m4")
    assert (form.bias, float(form.largest), form.specials) == (3, 15.5, "ieee")
    assert float(element("e3m4fn").largest) == 30  # one exponent more for numbers, and one code less for NaN
    assert element("e3m4b7").bias == 7
    assert element("e5m10") == custom(5, 10)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("e5m0", "no mantissa"),
        ("e0m7", "no exponent"),
        ("e12m3", "more bits than fp64"),
        ("e5m53", "more bits than fp64"),
        ("e9999m3", "more bits than fp64"),
        ("e1m3", "two exponents"),
        ("e8m3b9000", "leaves the range of fp64"),
        ("fp17", "unknown number format"),
        ("", "unknown number format"),
    ],
)
def test_what_is_no_format_is_refused_with_the_reason(text: str, cause: str) -> None:
    with pytest.raises(UsageError, match=cause) as caught:
        named(text)
    assert caught.value.hint


def test_a_block_format_has_no_codes_of_single_numbers() -> None:
    assert isinstance(named("mxfp4"), BlockFormat)
    with pytest.raises(UsageError, match="32 numbers at once"):
        element("mxfp4")
