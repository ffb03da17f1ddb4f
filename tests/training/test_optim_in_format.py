"""AdamW in a short format against torch's, on parameters that are kept in it."""

import pytest
import torch
from torch import nn

from primer.floats.formats import FORMATS, element
from primer.floats.tensor import quantize
from primer.training.optim import AdamW
from primer.training.optim_in_format import AdamWInFormat

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def gradient(step: int, name: str) -> torch.Tensor:
    """Numbers of all sizes from 10^-6 to 10^-1."""
    generator = torch.Generator().manual_seed(step)
    sizes = 10 ** (torch.rand(500, generator=generator) * 5 - 6)
    return quantize(torch.randn(500, generator=generator) * sizes, name)


@pytest.mark.parametrize("eps", [1e-3, 1e-8])
@pytest.mark.parametrize("name", DTYPES)
def test_moments_and_weights_are_torchs_to_the_bit(name: str, eps: float) -> None:
    start = quantize(torch.randn(500, generator=torch.Generator().manual_seed(0)) * 0.1, name)
    mine, theirs = nn.Parameter(start.clone()), nn.Parameter(start.to(DTYPES[name]))
    how = {"lr": 1e-2, "betas": (0.9, 0.95), "eps": eps, "weight_decay": 0.0}
    ours = AdamWInFormat([("w", mine)], element(name), **how)
    torchs = torch.optim.AdamW([theirs], foreach=False, fused=False, **how)
    for step in range(20):
        g = gradient(step, name)
        mine.grad, theirs.grad = g.clone(), g.to(DTYPES[name])
        ours.step()
        torchs.step()
        quantize(mine.detach(), name, out=mine.detach())
        state = torchs.state[theirs]
        for slot, key in (("first_moment", "exp_avg"), ("second_moment", "exp_avg_sq")):
            assert torch.equal(ours.state[f"w.{slot}"], state[key].float())
        assert torch.equal(mine.nan_to_num(), theirs.float().nan_to_num())
    died = name == "fp16" and eps == 1e-8  # which is 0 there, and so is v: m / 0
    assert bool(torch.isfinite(mine).all()) != died


def test_fp32_is_the_usual_adamw() -> None:
    start = torch.randn(500, generator=torch.Generator().manual_seed(1))
    a, b = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    mine, usual = AdamWInFormat([("w", a)], FORMATS["fp32"]), AdamW([("w", b)], implementation="reference")
    for step in range(5):
        a.grad = gradient(step, "fp32")
        b.grad = a.grad.clone()
        mine.step(0.5)
        usual.step(0.5)
    torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)
