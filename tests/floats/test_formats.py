import re

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
    ("text", "name"),
    [
        ("BFloat16", "bf16"),
        ("float8_e4m3fn", "e4m3"),
        (" half ", "fp16"),
        ("fp4", "e2m1"),
        ("e2m1fn", "e2m1"),  # as in float4_e2m1fn, where fn says that there is no NaN either
        ("e3m2fn", "e3m2"),
        ("e2m3fn", "e2m3"),
        ("e5m10", "fp16"),
        ("e8m7", "bf16"),
        ("e8m23b127", "fp32"),
        ("e4m3fnb7", "e4m3"),
        ("e4m3b7", "e4m3ieee"),
        ("e2m1none", "e2m1"),
    ],
)
def test_other_names_of_the_same(text: str, name: str) -> None:
    assert named(text) is FORMATS[name]


def test_a_split_of_ones_own() -> None:
    form = element("e3m4")
    assert (form.bias, float(form.largest), form.specials) == (3, 15.5, "ieee")
    assert float(element("e3m4fn").largest) == 30  # one exponent more for numbers, and one code less for NaN
    assert element("e3m4b7").bias == 7
    assert element("e5m9") == custom(5, 9)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("e5m0", "no mantissa"),
        ("e0m7", "no exponent"),
        ("e12m3", "more bits than fp64"),
        ("e5m53", "more bits than fp64"),
        ("e9999m3", "more bits than fp64"),
        ("e1m3", "two exponents"),
        ("e15m0", "no mantissa"),
        ("e1m0", "no mantissa"),
        ("e12m60fnuz", "more bits than fp64"),
        ("e8m3b9000", "leaves the range of fp64"),
        ("e4m3b9999999", "with a bias of 9999999 leaves the range of fp64"),
        ("e4m3b-9999999", "with a bias of -9999999 leaves the range of fp64"),
        ("e4m3b-1020", "leaves the range of fp64"),
        ("e11m3fn", "with a bias of 1023 leaves the range of fp64"),
        ("e11m52none", "with a bias of 1023 leaves the range of fp64"),
        ("e11m52fnuz", "with a bias of 1024 leaves the range of fp64"),
        ("e11m7fnuz", "leaves the range of fp64's normal numbers"),
        ("e5m2b1060", "leaves the range of fp64's normal numbers"),
        ("e4m10fnuzb1024", "leaves the range of fp64's normal numbers"),
        ("fp17", "unknown number format"),
        ("", "unknown number format"),
    ],
)
def test_what_is_no_format_is_refused_with_the_reason(text: str, cause: str) -> None:
    with pytest.raises(UsageError, match=cause) as caught:
        named(text)
    assert caught.value.hint
    for split in re.findall(r"e\d+m\d+\w*", caught.value.hint):
        assert split != text
        named(split)


def test_a_format_may_begin_where_fp64_has_its_smallest_normal_number() -> None:
    assert named("e5m2b1023").smallest_normal == FORMATS["fp64"].smallest_normal
    assert named("e10m52fnuz").mantissa_bits == 52


def test_only_what_is_near_a_name_is_taken_for_it() -> None:
    for text, hint in [("fp17", "fp16"), ("bflot16", "bfloat16"), ("foo", "primer float --formats")]:
        with pytest.raises(UsageError) as caught:
            named(text)
        assert caught.value.hint is not None
        assert caught.value.hint.startswith(hint)


def test_a_block_format_has_no_codes_of_single_numbers() -> None:
    assert isinstance(named("mxfp4"), BlockFormat)
    with pytest.raises(UsageError, match="32 numbers at once"):
        element("mxfp4")
