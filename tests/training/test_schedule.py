"""Schedules against the papers' formulas and torch's own, step by step."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from primer.training.config import ScheduleConfig
from primer.training.schedule import constant, cosine, inverse_sqrt, linear, schedule, wsd

SHAPES = ["constant", "cosine", "linear", "wsd", "inverse_sqrt"]


def test_cosine_is_torchs():
    """torch's CosineAnnealingLR reaches its floor after T_max steps, ours at the last of `steps` steps."""
    p = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([p], lr=1.0)
    torchs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40, eta_min=0.1)
    for step in range(41):
        assert cosine(step, steps=41, final=0.1) == pytest.approx(torchs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        torchs.step()


def test_linear_is_torchs():
    p = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([p], lr=1.0)
    torchs = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.2, total_iters=30)
    for step in range(31):
        assert linear(step, steps=31, final=0.2) == pytest.approx(torchs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        torchs.step()


def test_inverse_sqrt_is_equation_3_of_vaswani():
    warmup, d_model = 4000, 512
    peak = d_model**-0.5 * warmup**-0.5
    for n in (1, 2, 500, 3999, 4000, 4001, 100_000):  # the paper counts from 1
        paper = d_model**-0.5 * min(n**-0.5, n * warmup**-1.5)
        assert inverse_sqrt(n - 1, warmup=warmup) == pytest.approx(paper / peak, rel=1e-12)


def test_wsd_by_hand():
    factors = [wsd(step, steps=11, warmup=4, final=0.0, decay=0.36) for step in range(11)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0])


def test_wsd_before_its_fall_does_not_know_how_long_the_run_is():
    for step in range(60):
        assert wsd(step, steps=100, warmup=10, decay=0.4) == wsd(step, steps=1000, warmup=10, decay=0.4)


def test_constant_by_hand():
    assert [constant(step, warmup=2) for step in range(4)] == [0.5, 1, 1, 1]


@pytest.mark.parametrize("shape", SHAPES)
@settings(deadline=None)
@given(
    steps=st.integers(1, 300),
    warmup_share=st.floats(0, 1),
    final=st.floats(0, 1),
    decay=st.floats(0, 1),
)
def test_every_shape(shape, steps, warmup_share, final, decay):
    """Rises in the warm-up and never again; stays in [0, 1]; ends at `final`; is finite beyond the end."""
    warmup = int(warmup_share * steps)
    factor = schedule(ScheduleConfig(shape=shape, warmup=warmup, final=final, decay=decay), steps)
    values = [factor(step) for step in range(steps)]
    assert all(0 <= v <= 1 for v in values)
    assert all(b <= a for a, b in zip(values[warmup:], values[warmup + 1 :], strict=False))
    if warmup:
        assert values[0] == pytest.approx(1 / warmup) or values[0] <= final
    falls = {"cosine", "linear"} if decay * steps < 1 else {"cosine", "linear", "wsd"}
    if shape in falls and warmup < steps - 1:
        assert values[-1] == pytest.approx(final, abs=1e-12)
    assert math.isfinite(factor(10 * steps))
    assert values == [factor(step) for step in range(steps)]
