"""Numbers that share a scale: against the OCP document's definitions in exact arithmetic, and against gfloat."""

from fractions import Fraction

import gfloat
import numpy as np
import pytest
import torch
from gfloat import formats

from oracles import gaussians, same
from primer.errors import UsageError
from primer.floats import codec
from primer.floats.blocks import mx_exponent
from primer.floats.codes import pack, unpack
from primer.floats.encoded import decode, encode, encode_blocks
from primer.floats.formats import BLOCKS, FORMATS, BlockFormat, power_of_two
from primer.floats.tensor import quantize

MX = [name for name, form in BLOCKS.items() if not form.tensor_scale]
GFLOAT = {
    "mxfp8": formats.format_info_mxfp8_e4m3,
    "mxfp8-e5m2": formats.format_info_mxfp8_e5m2,
    "mxfp6": formats.format_info_mxfp6_e2m3,
    "mxfp6-e3m2": formats.format_info_mxfp6_e3m2,
    "mxfp4": formats.format_info_mxfp4_e2m1,
    "mxint8": formats.format_info_mxint8,
}


def spread(rows: int, columns: int) -> torch.Tensor:
    return gaussians(rows * columns, seed=6).view(rows, columns)


def one_nan(x: torch.Tensor) -> torch.Tensor:
    return x.nan_to_num(nan=1e30)


@pytest.mark.parametrize("name", MX)
def test_blocks_are_gfloats(name: str) -> None:
    x = spread(40, 32)
    x[0] = 0
    mine = quantize(x, name).numpy()
    for row, result in zip(x.numpy().astype(np.float64), mine, strict=True):
        theirs = gfloat.quantize_block(GFLOAT[name], row, gfloat.compute_scale_amax)
        assert same(result, np.array(theirs)).all()


@pytest.mark.parametrize("rule", ["floor", "even", "ceil"])
@pytest.mark.parametrize("name", MX)
def test_a_scale_is_what_its_rule_says(name: str, rule: str) -> None:
    """By exact arithmetic: floor(log2 amax) − emax, of amax as it is or rounded; or the least that clips nothing."""
    form = BLOCKS[name]
    top = form.element.largest
    exact = [Fraction(each) for each in spread(200, 1).abs().flatten().tolist()]
    exact += [
        top,
        top * 2,
        top - 1,
        Fraction(1),
        power_of_two(form.element.greatest_exponent + 1) - power_of_two(-12),
    ]
    largest = torch.tensor([float(each) for each in exact])
    found = mx_exponent(largest, form, rule).tolist()
    for amax, exponent in zip([Fraction(each) for each in largest.tolist()], found, strict=True):
        if rule == "ceil":
            assert amax <= top * power_of_two(exponent)
            assert amax > top * power_of_two(exponent - 1)
            continue
        if rule == "even":
            digits = form.element.mantissa_bits if name != "mxint8" else 6
            step = power_of_two(codec.exponent_of(amax) - digits)
            whole, rest = divmod(amax, step)
            amax = (whole + (rest * 2 > step or (rest * 2 == step and whole % 2 == 1))) * step
        assert exponent == codec.exponent_of(amax) - form.element.greatest_exponent


def test_the_rules_differ_at_the_top_of_a_block() -> None:
    """amax = 7.9 in MXFP4: X = 2^0 by "floor" clips it to 6; 2^1 does not. 6.5 is clipped by "floor" and "even"."""
    block = torch.tensor([7.9] + [1.0] * 31)
    assert [float(quantize(block, "mxfp4", scale_rule=rule)[0]) for rule in ("floor", "even", "ceil")] == [
        6,
        8,
        8,
    ]
    block[0] = 6.5
    assert [float(quantize(block, "mxfp4", scale_rule=rule)[0]) for rule in ("floor", "even", "ceil")] == [
        6,
        6,
        6,
    ]
    assert float(quantize(block, "mxfp4", scale_rule="ceil")[1]) == 1
    assert [mx_exponent(block[:1], BLOCKS["mxfp4"], rule).item() for rule in ("floor", "even", "ceil")] == [
        0,
        0,
        1,
    ]


def test_nvfp4_is_its_definition() -> None:
    """g = amax / (6 · 448), s_b = E4M3(amax_b / (6 · g)), x ≈ q · s_b · g."""
    x = spread(30, 64)
    mine = quantize(x, "nvfp4")
    g = np.float32(x.abs().max().item()) / np.float32(6 * 448)
    for block, result in zip(x.view(-1, 16).numpy(), mine.view(-1, 16).numpy(), strict=True):
        wanted = np.abs(block).max() / (np.float32(6) * g)
        s = np.float32(float(codec.quantize(float(wanted), FORMATS["e4m3"])))
        scale = s * g
        for number, found in zip(block, result, strict=True):
            q = codec.quantize(float(number * (np.float32(1) / scale)), FORMATS["e2m1"]) if s else 0
            assert found == np.float32(float(q)) * scale


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("rule", ["floor", "even", "ceil"])
def test_what_is_stored_says_what_quantize_says(name: str, rule: str) -> None:
    x = spread(20, 70)
    x[3], x[5, 3], x[6, 9] = 0, torch.inf, torch.nan
    stored = encode_blocks(x, name, scale_rule=rule)
    for implementation in ("plain", "fused"):
        told = quantize(x, name, scale_rule=rule, implementation=implementation)
        assert torch.equal(one_nan(stored.decode()), one_nan(told))
    assert stored.padding == -70 % BLOCKS[name].block
    assert stored.decode()[5, : BLOCKS[name].block].isnan().all()
    assert not stored.decode()[4].isnan().any()


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("rounding", ["nearest", "up", "stochastic"])
def test_fused_blocks_are_the_plain_ones(name: str, rounding: str) -> None:
    x = spread(300, 96)
    a, b = (quantize(x, name, rounding, seed=3, implementation=how) for how in ("plain", "fused"))
    assert torch.equal(a, b)


@pytest.mark.parametrize("scaling", ["tensor", "row"])
@pytest.mark.parametrize("name", ["e4m3", "e5m2", "int8", "fp16"])
def test_the_largest_becomes_the_largest(name: str, scaling: str) -> None:
    x = spread(50, 100)
    x[7] = 0
    found = quantize(x, name, scaling=scaling)
    groups = [(x, found)] if scaling == "tensor" else list(zip(x, found, strict=True))
    for numbers, results in groups:
        amax = numbers.abs().max()
        scale = amax / float(FORMATS[name].largest if name in FORMATS else 127) if amax else torch.tensor(1.0)
        assert torch.equal(results, quantize(numbers * (1 / scale), name, overflow="saturate") * scale)
    assert torch.equal(found, quantize(x, name, scaling=scaling, implementation="fused"))


@pytest.mark.parametrize("size", [1e-45, 1e-42, 1e-38, 1e-37, 1e-35, 1e-34, 1e-31, 1e37])
@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_of_tiny_numbers_are_stored_as_they_are_told(name: str, size: float) -> None:
    """NVFP4's g = amax / 2688 is no normal number of fp32 where amax is less than 3e-35."""
    x = torch.randn(6, 64, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 0, 6)[:, None]
    x = x * size
    told = quantize(x, name)
    for implementation in ("plain", "fused"):
        assert torch.equal(quantize(x, name, implementation=implementation), told)
    assert torch.equal(encode_blocks(x, name).decode(), told)
    assert (told.double() - x).abs().max() <= max(
        float(x.abs().max()) / 4, 6 * 2.0**-128
    )  # without a reciprocal
    if size >= 1e-35:
        assert (told.double() - x)[-1].norm() < x[-1].double().norm() / 5


@pytest.mark.parametrize("scaling", ["tensor", "row"])
@pytest.mark.parametrize("shape", [(3, 0), (0, 3), (0,), (2, 0, 3)])
def test_nothing_remains_nothing(shape: tuple[int, ...], scaling: str) -> None:
    x = torch.zeros(shape)
    for implementation in ("plain", "fused"):
        assert quantize(x, "e4m3", scaling=scaling, implementation=implementation).shape == shape
    for name in BLOCKS:
        for axis in range(len(shape)):
            assert quantize(x, name, axis=axis).shape == shape
            assert encode_blocks(x, name, axis=axis).decode().shape == shape


def test_a_number_without_axes_is_a_row_of_its_own() -> None:
    x = torch.tensor(0.3)
    for scaling in ("tensor", "row"):
        assert torch.equal(
            quantize(x, "e4m3", scaling=scaling), quantize(x[None], "e4m3", scaling=scaling)[0]
        )
    for name in BLOCKS:
        told = quantize(x, name)
        assert torch.equal(told, quantize(x[None], name)[0])
        assert torch.equal(encode_blocks(x, name).decode(), told)


def test_an_axis_that_is_not_there_is_refused() -> None:
    for how in ({"form": "mxfp4"}, {"form": "e4m3", "scaling": "row"}):
        for axis in (2, -3):
            with pytest.raises(UsageError, match=f"axis={axis} is none of a tensor of 2 axes"):
                quantize(torch.ones(2, 2), axis=axis, **how)


@pytest.mark.parametrize("name", ["mxfp4", "e4m3"])
def test_an_axis_is_the_last_one_of_the_transposed(name: str) -> None:
    x = gaussians(6 * 64 * 10).view(6, 64, 10)
    how = {} if name == "mxfp4" else {"scaling": "row"}
    assert torch.equal(
        quantize(x, name, axis=1, **how), quantize(x.movedim(1, -1), name, **how).movedim(-1, 1)
    )


@pytest.mark.parametrize("scaling", ["tensor", "row"])
def test_what_is_not_finite_is_seen(scaling: str) -> None:
    for bad in (torch.inf, torch.nan):
        x = torch.ones(2, 5000)
        x[0, 3] = bad
        assert quantize(x, "e4m3", scaling=scaling)[0].isnan().all()


def test_codes_and_back() -> None:
    for name in ("fp32", "fp16", "tf32", "e4m3", "e2m1", "int4", "e3m4", "e6m20", "fp64"):
        x = gaussians(5000, seed=8)
        x[:2] = torch.tensor([0.0, -0.0])
        form = encode(x, name)
        told = quantize(x.double() if name in ("fp64", "e6m20") else x, name)
        assert torch.equal(decode(form, name, told.dtype), told)
        exact = [codec.encode(float(each), codec_form(name)) for each in x[:300].tolist()]
        assert [int(code) % (1 << codec_form(name).bits) for code in form[:300]] == exact


def codec_form(name: str):  # type: ignore[no-untyped-def]
    from primer.floats.formats import element

    return element(name)


@pytest.mark.parametrize("name", ["fp16", "bf16", "e5m2", "e4m3", "e4m3fnuz", "fp64"])
def test_special_numbers_have_their_codes(name: str) -> None:
    x = torch.tensor([torch.inf, -torch.inf, torch.nan, -torch.nan], dtype=torch.float64)
    form = codec_form(name)
    found = encode(x, name, overflow="ieee").tolist()
    assert [code % (1 << form.bits) for code in found] == [
        codec.encode(each, form, overflow="ieee") for each in x.tolist()
    ]


@pytest.mark.parametrize("name", ["fp16", "bf16", "e5m2", "e4m3ieee", "e4m3fnuz", "e8m10fnuz", "e6m20"])
def test_nans_come_back_with_their_signs_and_payloads(name: str) -> None:
    form = codec_form(name)
    sizes = range(form.last_number + form.has_infinity + 1, 1 << (form.bits - 1))
    codes = [
        size | sign for size in sizes[:: max(len(sizes) // 500, 1)] for sign in (0, 1 << (form.bits - 1))
    ]
    codes = codes if form.specials == "ieee" else [1 << (form.bits - 1)]
    found = decode(torch.tensor(codes), name)
    assert found.isnan().all()
    assert encode(found, name).tolist() == codes
    for dtype in (torch.float64, torch.float16 if form.mantissa_bits <= 10 else torch.float32):
        assert encode(decode(torch.tensor(codes), name, dtype), name).tolist() == codes


def test_a_signalling_nan_stays_one_until_a_part_of_it_is_lost() -> None:
    codes = torch.tensor([0x7F800001, 0xFFC00123, 0x7FA00000])
    found = decode(codes, "fp32")
    assert torch.equal(encode(found, "fp32"), codes)
    exact = [codec.decode(code, FORMATS["fp32"]) for code in codes.tolist()]
    assert encode(found, "fp16")[:2].tolist() == [codec.encode(each, FORMATS["fp16"]) for each in exact[:2]]
    assert encode(found, "fp16")[2] == 0x7D00  # where it may have come from


def test_halves_are_encoded_without_becoming_halves_again() -> None:
    x = torch.tensor([65504.0, -65504.0, 6e-8], dtype=torch.float16)
    exact = [codec.encode(each, FORMATS["bf16"], "up") for each in x.tolist()]
    assert encode(x, "bf16", "up").tolist() == exact


def test_nan_without_a_code_is_refused() -> None:
    with pytest.raises(UsageError, match="e2m1 has no code for NaN"):
        encode(torch.tensor([1.0, torch.nan]), "e2m1")
    with pytest.raises(UsageError, match="not a format of blocks"):
        encode_blocks(torch.ones(3), "e4m3")


@pytest.mark.parametrize(("bits", "count"), [(4, 7), (4, 8), (6, 1), (6, 9), (6, 12), (8, 5)])
def test_short_codes_lie_side_by_side(bits: int, count: int) -> None:
    codes = torch.randint(1 << bits, (count,), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    packed = pack(codes, bits)
    word = sum(int(code) << bits * place for place, code in enumerate(codes))
    assert int.from_bytes(bytes(packed.tolist()), "little") == word
    assert torch.equal(unpack(packed, bits, count), codes)
    with pytest.raises(UsageError, match="do not hold"):
        unpack(packed, bits, 1000)


def test_codes_of_other_lengths_are_not_packed() -> None:
    for work in (lambda x: pack(x, 5), lambda x: unpack(x, 5, 2)):
        with pytest.raises(UsageError, match="codes of 5 bits are not packed"):
            work(torch.ones(4, dtype=torch.uint8))


def test_packed_nibbles_lie_as_torch_has_them() -> None:
    """torch's float4_e2m1fn_x2: "the first element in the low bits"."""
    assert pack(torch.tensor([1, 2], dtype=torch.uint8), 4).tolist() == [0x21]


def test_a_block_format_takes_the_bytes_that_it_says() -> None:
    form = BLOCKS["mxfp6"]
    assert isinstance(form, BlockFormat)
    assert encode_blocks(torch.ones(64), form).bytes == 64 * 6 // 8 + 2
