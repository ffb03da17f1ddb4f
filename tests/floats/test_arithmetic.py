"""Sums, softmax and products whose every operation is rounded."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import torch

from primer.floats import codec
from primer.floats.accumulate import matmul
from primer.floats.formats import FORMATS, element
from primer.floats.softmax import softmax
from primer.floats.sums import added

NUMPY = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16, "fp32": np.float32, "e4m3": None}


@pytest.mark.parametrize(("name", "stops"), [("bf16", 32.0), ("fp16", 256.0), ("fp32", 1999.6588134765625)])
def test_twenty_thousand_tenths(name: str, stops: float) -> None:
    """One after the other they stop where half of the last bit is more than 0.1; in pairs they do not."""
    tenths = torch.full((1, 20_000), 0.1)
    assert float(added(tenths, FORMATS[name], "naive")) == stops
    assert abs(float(added(tenths, FORMATS[name], "pairwise")) - 2000) < 2000 * float(FORMATS[name].epsilon)
    assert abs(float(added(tenths, FORMATS[name], "kahan")) - 2000) <= 16


@pytest.mark.parametrize("implementation", ["plain", "auto"])
@pytest.mark.parametrize("name", ["fp16", "bf16", "fp32"])
def test_sums_are_numpys(name: str, implementation: str) -> None:
    x = np.random.default_rng(0).normal(size=(2, 300)).astype(NUMPY[name])
    tensor = torch.from_numpy(x.astype(np.float32))
    total, s, c = (np.zeros(2, x.dtype) for _ in range(3))
    for column in x.T:
        total = total + column
        y = column - c
        t = s + y
        c = (t - s) - y
        s = t
    found = added(tensor, FORMATS[name], "naive", implementation=implementation)
    assert found.tolist() == total.astype(np.float64).tolist()
    assert (
        added(tensor, FORMATS[name], "kahan", implementation=implementation).tolist()
        == s.astype(float).tolist()
    )


def test_formats_that_reach_beyond_fp32_are_added_in_float64() -> None:
    x = torch.tensor([[1e300, 1.0, 2.0**-40, -1e300, 2.0**-40]], dtype=torch.float64)
    for method in ("naive", "kahan"):
        assert float(added(x[:, 1:3], FORMATS["fp64"], method)) == 1 + 2.0**-40
        assert float(added(x[:, :1], element("e11m7"), method)) == pytest.approx(1e300, rel=2**-8)


def test_pairs_are_added_level_by_level() -> None:
    form = element("e4m3")
    x = [1.0, 1.125, 20.0, 0.25, 3.0]

    def plus(a: Fraction, b: Fraction) -> Fraction:
        return codec.quantize(a + b, form).exact

    a, b, c, d, e = map(Fraction, x)
    wanted = plus(plus(plus(a, b), plus(c, d)), e)
    assert float(added(torch.tensor([x]), form, "pairwise")) == float(wanted)


@pytest.mark.parametrize("method", ["formula", "shifted", "online"])
def test_a_softmax_in_fp32_is_torchs(method: str) -> None:
    x = torch.randn(20, 50, generator=torch.Generator().manual_seed(0)) * 5
    torch.testing.assert_close(
        softmax(x, FORMATS["fp32"], method).float(), x.softmax(-1), rtol=1e-5, atol=1e-7
    )


def test_only_the_formula_breaks() -> None:
    """e^12 = 162,755 is more than fp16's 65,504; shifted by the largest logit nothing exceeds 1."""
    x = torch.tensor([[12.0, 0.0, -3.0]])
    assert softmax(x, FORMATS["fp16"], "formula").isnan().any()
    for method in ("shifted", "online"):
        assert torch.allclose(softmax(x, FORMATS["fp16"], method).float(), x.softmax(-1), atol=1e-3)


def test_one_pass_is_mended_whenever_the_largest_grows() -> None:
    x = torch.arange(40.0)[None]
    for name in ("bf16", "fp16"):
        a, b = (softmax(x, FORMATS[name], method) for method in ("shifted", "online"))
        assert torch.allclose(a, b, rtol=4 * float(FORMATS[name].epsilon), atol=1e-6)


@pytest.mark.parametrize("name", ["fp16", "bf16", "e4m3", "e5m10"])
def test_sums_of_products_are_rounded_one_by_one(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(5, 40, generator=generator), torch.randn(40, 7, generator=generator)
    form = element(name)
    wanted = torch.zeros(5, 7)
    for i in range(5):
        for j in range(7):
            total = np.float32(0)
            for k in range(40):
                term = np.float32(a[i, k].item()) * np.float32(b[k, j].item())
                total = np.float32(float(codec.quantize(float(np.float32(total + term)), form)))
            wanted[i, j] = float(total)
    for implementation in ("plain", "fused"):
        assert torch.equal(matmul(a, b, form, implementation=implementation), wanted)
