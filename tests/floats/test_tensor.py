"""Every way of rounding a tensor against ml_dtypes, torch, and the exact codec."""

import importlib.util
from inspect import unwrap

import numpy as np
import pytest
import torch

from oracles import ML_DTYPES, TORCH, fp32_patterns, gaussians, same
from primer.errors import UsageError
from primer.floats import codec, plain
from primer.floats.blocks import ScaleRule, Scaling
from primer.floats.encoded import encode, encode_blocks
from primer.floats.formats import BLOCKS, FORMATS, INTEGERS, Overflow, Rounding, element
from primer.floats.native import eight_bits
from primer.floats.tensor import quantize, straight_through

ROUNDINGS: tuple[Rounding, ...] = ("nearest", "nearest-away", "toward-zero", "up", "down", "stochastic")
OWN = ("e3m4", "e2m2fn", "e4m3fnuzb11", "e8m10", "e6m9")
FORMS = [name for name in (*FORMATS, *INTEGERS, *OWN) if name not in ("fp64", "fp32")]
FAST = [name for name in FORMS if name != "e8m0"]
"""Those that the fused loops know: all but E8M0, whose smallest number is subnormal in fp32."""


def bits(x: torch.Tensor) -> torch.Tensor:
    """Words, with one for every NaN."""
    whole = torch.int32 if x.dtype == torch.float32 else torch.int64
    return torch.where(x.isnan(), -1, x.view(whole))


@pytest.fixture(scope="module")
def words() -> torch.Tensor:
    """Ten million fp32 words, and the special ones."""
    return fp32_patterns(10_000_000)


@pytest.mark.parametrize("name", [name for name in ML_DTYPES if name != "e8m0"])
def test_ten_million_words_are_ml_dtypes_own(name: str, words: torch.Tensor) -> None:
    with np.errstate(all="ignore"):
        theirs = torch.from_numpy(words.numpy().astype(ML_DTYPES[name]).astype(np.float32))
    mine = quantize(words, name, overflow="ieee", implementation="fused")
    if not element(name).has_nan:  # ours stays one, theirs becomes −0
        theirs[words.isnan()] = torch.nan
    assert torch.equal(bits(mine), bits(theirs))


@pytest.mark.parametrize("name", TORCH)
def test_ten_million_words_are_torchs_own(name: str, words: torch.Tensor) -> None:
    dtype, overflow = TORCH[name]
    mine = quantize(words, name, overflow=overflow, implementation="fused")
    assert torch.equal(bits(mine), bits(words.to(dtype).float()))


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("name", FAST)
def test_the_fused_loop_gives_the_plain_ones_bits(name: str, rounding: Rounding) -> None:
    x = fp32_patterns(200_000, seed=2)
    for overflow in ("saturate", "ieee"):
        how = {"overflow": overflow, "seed": 0x1234567890ABCDEF}
        plain = quantize(x, name, rounding, implementation="plain", **how)
        assert torch.equal(bits(quantize(x, name, rounding, implementation="fused", **how)), bits(plain))


@pytest.mark.parametrize("rounding", [rounding for rounding in ROUNDINGS if rounding != "stochastic"])
@pytest.mark.parametrize("name", FORMS)
def test_the_exact_codec_judges_a_hundred_thousand_numbers(name: str, rounding: Rounding) -> None:
    form = element(name)
    x = gaussians(5_000 if name in OWN else 100_000, seed=3)
    mine = quantize(x, name, rounding).numpy()
    exact = said_by([codec.encode(each, form, rounding) for each in x.tolist()], name)
    equal = same(mine, exact)
    assert equal.all(), (x[~equal][:3], mine[~equal][:3], exact[~equal][:3])


def said_by(codes: list[int], name: str) -> np.ndarray:
    """The numbers behind codes."""
    numbers = {code: float(codec.decode(code, element(name))) for code in set(codes)}
    with np.errstate(over="ignore"):
        return np.array([numbers[code] for code in codes], dtype=np.float32)


@pytest.mark.parametrize("overflow", ["saturate", "ieee"])
@pytest.mark.parametrize("rounding", [rounding for rounding in ROUNDINGS if rounding != "stochastic"])
@pytest.mark.parametrize("name", FORMS)
def test_the_exact_codec_judges_the_ends_of_the_range(
    name: str, rounding: Rounding, overflow: Overflow
) -> None:
    form = element(name)
    top, least, step = float(form.largest), float(form.smallest), float(codec.ulp(form.largest, form))
    marks = [top, top + step / 2, top + step, top * 2, least, least / 2, least * 1.5, least / 4, 0.0, np.inf]
    x = np.array([near for mark in marks for near in around(mark)], dtype=np.float32)
    x = torch.from_numpy(np.concatenate([x, -x]))
    mine = quantize(x, name, rounding, overflow=overflow).numpy()
    exact = said_by([codec.encode(each, form, rounding, overflow=overflow) for each in x.tolist()], name)
    equal = same(mine, exact)
    assert equal.all(), (x[~equal][:3], mine[~equal][:3], exact[~equal][:3])


def around(mark: float) -> tuple[np.float32, ...]:
    """A number in fp32 and its neighbours."""
    with np.errstate(over="ignore"):
        here = np.float32(mark)
        return (np.nextafter(here, np.float32(-np.inf)), here, np.nextafter(here, np.float32(np.inf)))


@pytest.mark.parametrize("name", ["fp16", "bf16", "e4m3", "e5m2", "e2m1", "int8"])
def test_float64_is_rounded_once(name: str) -> None:
    form = element(name)
    x = torch.from_numpy(gaussians(3000, seed=4).numpy().astype(np.float64))
    x = torch.cat([x, x + x * 2.0**-40])
    x = torch.cat([x, torch.tensor([1 + 2.0**-11 + 2.0**-40, 1 + 2.0**-4 + 2.0**-40], dtype=torch.float64)])
    exact = torch.tensor([float(codec.quantize(each, form)) for each in x.tolist()], dtype=torch.float64)
    assert torch.equal(bits(quantize(x, name)), bits(exact))
    if name == "fp16":
        assert quantize(x[-2:], name)[0] == 1 + 2.0**-10
        assert x[-2].to(torch.float16) == 1  # torch goes by way of float32


def test_halves_are_rounded_from_their_own_dtype() -> None:
    x = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.float16)
    mine = quantize(x, "e5m2", overflow="ieee")
    assert mine.dtype == torch.float16
    assert torch.equal(bits(mine.float()), bits(x.to(torch.float8_e5m2).float()))


@pytest.mark.parametrize("name", ["e8m10", "e6m9", "fp32", "tf32"])
def test_formats_as_wide_as_fp32_leave_numbers_of_fewer_digits_alone(name: str) -> None:
    x = fp32_patterns(0)[: 1 << 16]  # bf16's numbers
    mine = quantize(x, name)
    fine = (x.abs() >= float(element(name).smallest_normal)) & (x.abs() <= float(element(name).largest))
    assert torch.equal(mine[fine], x[fine])


@pytest.mark.parametrize(
    ("name", "low", "high"), [("e2m1", 1.0, 1.5), ("bf16", 1.0, 1 + 2.0**-7), ("fp16", 0.0, 2.0**-24)]
)
@pytest.mark.parametrize("implementation", ["plain", "fused"])
def test_stochastic_rounding_is_unbiased(name: str, low: float, high: float, implementation: str) -> None:
    """The share that goes up is a binomial count: a bias of .005 would be seen in all but one of 10^6 tests.

    With n = 10^6 draws and any p the standard deviation of the share is at most .0005. The bound is 5 of them: of right
    code it fails once in 2·10^6 tests, and a share that is off by .005 stays below it with a probability of 3·10^-7.
    """
    n = 1_000_000
    for part in (0.03, 0.25, 0.5, 0.9):
        for sign in (1, -1):
            x = torch.full((n,), sign * (low + part * (high - low)), dtype=torch.float32)
            p = (abs(float(x[0])) - low) / (high - low)  # of what fp32 has made of it
            mine = quantize(x, name, "stochastic", seed=int(part * 100), implementation=implementation)
            assert set(mine.abs().tolist()) == {low, high}
            share = float((mine.abs() == high).double().mean())
            assert abs(share - p) < 5 * (p * (1 - p) / n) ** 0.5


def test_chance_depends_on_the_seed_alone() -> None:
    x = gaussians(100_000)
    a, b, c = (quantize(x, "e4m3", "stochastic", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    torch.manual_seed(5)
    first = quantize(x, "e4m3", "stochastic")
    assert not torch.equal(first, quantize(x, "e4m3", "stochastic"))
    torch.manual_seed(5)
    assert torch.equal(first, quantize(x, "e4m3", "stochastic"))


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_threads_change_nothing(rounding: Rounding) -> None:
    x = gaussians(300_000)
    one = quantize(x, "e4m3", rounding, seed=7, implementation="fused")
    scaled = quantize(x.view(300, 1000), "e4m3", rounding, scaling="row", seed=7, implementation="fused")
    torch.set_num_threads(3)
    try:
        assert torch.equal(quantize(x, "e4m3", rounding, seed=7, implementation="fused"), one)
        again = quantize(x.view(300, 1000), "e4m3", rounding, scaling="row", seed=7, implementation="fused")
        assert torch.equal(again, scaled)
    finally:
        torch.set_num_threads(1)


def test_strange_tensors() -> None:
    assert quantize(torch.empty(0), "e4m3").shape == (0,)
    assert quantize(torch.empty(3, 0), "mxfp4").shape == (3, 0)
    assert quantize(torch.tensor(0.1), "e4m3").shape == ()
    x = gaussians(60_000).view(200, 300)
    for strange in (x.T, x[::2, 1::3], x.expand(2, 200, 300)):
        assert torch.equal(quantize(strange, "e4m3"), quantize(strange.contiguous(), "e4m3"))


@pytest.mark.parametrize("size", [10, 100_000])
def test_results_may_be_written_over_the_numbers(size: int) -> None:
    x = gaussians(size)
    wanted = quantize(x, "e4m3")
    assert quantize(x, "e4m3", out=x) is x
    assert torch.equal(x, wanted)


def test_memory_of_another_kind_is_refused() -> None:
    with pytest.raises(UsageError, match=r"out is torch\.float64"):
        quantize(gaussians(100_000), "e4m3", out=torch.empty(100_000, dtype=torch.float64))


def test_gradients_go_straight_through() -> None:
    x = gaussians(50).requires_grad_()
    straight_through(x, "e2m1").backward(torch.arange(50.0))
    assert x.grad is not None
    assert torch.equal(x.grad, torch.arange(50.0))
    assert not quantize(x, "e2m1").requires_grad


def test_an_implementation_that_does_not_do_it_says_so() -> None:
    x = torch.randn(10)
    with pytest.raises(UsageError, match="fused rounding is for float32"):
        quantize(x.double(), "e4m3", implementation="fused")
    with pytest.raises(UsageError, match="torch has no cast"):
        quantize(x, "e4m3", implementation="native")
    with pytest.raises(UsageError, match="torch has no cast that divides by a scale"):
        quantize(x, "bf16", scaling="tensor", implementation="native")
    with pytest.raises(UsageError, match="brings its own scales"):
        quantize(x, "mxfp4", scaling="row")


@pytest.mark.parametrize(
    ("argument", "given", "work"),
    [
        ("rounding", "sideways", (quantize, encode, encode_blocks)),
        ("overflow", "wrap", (quantize, encode)),
        ("scaling", "colum", (quantize,)),
        ("scale_rule", "x", (quantize, encode_blocks)),
        ("implementation", "cuda", (quantize,)),
    ],
)
def test_words_that_are_none_of_an_arguments_are_refused(argument: str, given: str, work: tuple) -> None:  # type: ignore[type-arg]
    for each in work:
        form = "mxfp4" if each is encode_blocks else "e4m3"
        with pytest.raises(UsageError, match=rf"{argument} must be one of .*, and is '{given}'"):
            unwrap(each)(torch.ones(3), form, **{argument: given})  # without the tests' own check of types


def test_whole_numbers_are_not_truncated_but_refused() -> None:
    for work, form in ((quantize, "e4m3"), (encode, "e4m3"), (encode_blocks, "mxfp4")):
        with pytest.raises(UsageError, match=r"floating-point ones, and these are torch\.int64") as caught:
            unwrap(work)(torch.tensor([3, 1000]), form)
        assert caught.value.hint == ".float()"


@pytest.mark.parametrize("name", ["fp64", "fp32"])
def test_infinity_saturates_where_the_word_is_the_format_itself(name: str) -> None:
    x = torch.tensor([torch.inf, -torch.inf, 1.5, -0.0], dtype=getattr(torch, f"float{name[2:]}"))
    top = float(FORMATS[name].largest)
    assert quantize(x, name, overflow="saturate").tolist() == [top, -top, 1.5, 0.0]
    assert torch.equal(bits(quantize(x, name)), bits(x))


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("name", ["bf16", "e4m3", "e4m3fnuz", "e2m1", "int8", "e8m10"])
def test_the_gpus_kernel_gives_the_plain_ones_bits(
    name: str, rounding: Rounding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU, or without one in Triton's interpreter (see conftest.py)."""
    from primer.floats import gpu

    monkeypatch.setattr(gpu, "BLOCK", 1 << 13)
    x = fp32_patterns(10_000, seed=5)[-20_000:]
    on, form, seed = x.to("cuda" if torch.cuda.is_available() else "cpu"), element(name), 0x9234567890ABCDEF
    for overflow in ("saturate", "ieee"):
        how = (form, rounding, overflow, seed)
        assert torch.equal(bits(gpu.quantize(on, *how).cpu()), bits(plain.quantize(x, *how)))
        rows, scale = on.view(200, 100), torch.linspace(-0.5, 3, 200).relu().to(on.device)
        with np.errstate(all="ignore"):  # the interpreter multiplies with NumPy
            scaled = gpu.quantize_scaled(rows, scale, *how).cpu()
        assert torch.equal(bits(scaled), bits(plain.quantize_scaled(rows.cpu(), scale.cpu(), *how)))
    assert gpu.quantize(on[:0], form, rounding, "ieee").shape == (0,)
    assert torch.equal(bits(gpu.quantize(on, *how, out=on).cpu()), bits(plain.quantize(x, *how)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("scaling", ["none", "row", "tensor"])
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("name", FORMS)
def test_a_gpu_gives_the_same_bits(name: str, rounding: Rounding, scaling: Scaling) -> None:
    x = fp32_patterns(100_000, seed=5)[::7] if scaling == "none" else gaussians(50_000).view(50, -1)
    for implementation in ("auto", "plain"):
        there = quantize(x.cuda(), name, rounding, scaling=scaling, seed=9, implementation=implementation)
        here = quantize(x, name, rounding, scaling=scaling, seed=9, implementation="plain")
        assert torch.equal(bits(there.cpu()), bits(here))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("rule", ["floor", "even", "ceil"])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_gpu_gives_blocks_the_same_bits(name: str, rule: ScaleRule) -> None:
    x = gaussians(320 * 320).view(320, 320)
    x[::32] *= 448 / x[::32].abs().amax(0)  # where a rule has to decide
    for axis in (0, 1):
        there = quantize(x.cuda(), name, scale_rule=rule, axis=axis)
        here = quantize(x, name, scale_rule=rule, axis=axis, implementation="plain")
        assert torch.equal(bits(there.cpu()), bits(here))


@pytest.mark.parametrize("scaling", ["none", "tensor"])
@pytest.mark.parametrize("name", ["e4m3", "e5m2"])
def test_numbers_for_the_devices_own_products_are_quantizes(name: str, scaling: str) -> None:
    x = gaussians(64 * 100).view(64, 100)
    eight = eight_bits(x, element(name), scaling)
    assert eight.codes.dtype.itemsize == 1
    assert torch.equal(eight.codes.float() * eight.scale, quantize(x, name, scaling=scaling))
    x[3, 4] = torch.nan
    assert eight_bits(x, element(name), scaling).codes.float().isnan().any()
