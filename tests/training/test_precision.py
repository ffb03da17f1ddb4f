"""The loss scaler against torch's, over a history of good and bad steps."""

import random

import pytest
import torch

from primer.training.config import PrecisionConfig
from primer.training.precision import LossScaler, Precision


def test_the_scale_is_torchs() -> None:
    chance = random.Random(0)
    p = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([p], lr=0.0)
    theirs = torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=7)
    ours = LossScaler(patience=7)
    for _ in range(200):
        overflow = chance.random() < 0.1
        theirs.scale(torch.zeros(()))
        p.grad = torch.tensor([torch.inf if overflow else 1.0])
        theirs.step(optimizer)
        theirs.update()
        ours.update(overflow=overflow)
        assert ours.scale == theirs.get_scale()


def test_a_static_scale_stays() -> None:
    formats = PrecisionConfig(gradients="fp16", loss_scaling="static", loss_scale=128.0)
    scaler = Precision(torch.device("cpu"), formats=formats).scaler()
    assert scaler is not None
    for overflow in (True, False, True):
        scaler.update(overflow=overflow)
    assert scaler.scale == 128


def test_where_the_loss_is_scaled() -> None:
    cpu = torch.device("cpu")
    assert Precision(cpu, formats=PrecisionConfig(matmul="fp16")).scaler() == LossScaler()
    assert Precision(cpu, formats=PrecisionConfig(matmul="e4m3")).scaler() is None
    assert Precision(cpu, torch.float16, PrecisionConfig(loss_scaling="none")).scaler() is None
    assert Precision(cpu, torch.bfloat16, PrecisionConfig(loss_scaling="dynamic")).scaler() == LossScaler()


@pytest.mark.parametrize("size", [10, 100_000])
def test_copies_of_a_model_are_rounded_alike(size: int) -> None:
    """Several processes hold one each, and each has chance of its own."""
    precision = Precision(
        torch.device("cpu"), formats=PrecisionConfig(weights="bf16", weights_rounding="stochastic"), seed=3
    )
    start = torch.randn(size, generator=torch.Generator().manual_seed(0))
    copies = [torch.nn.Parameter(start.clone()) for _ in range(4)]
    for number, (copy, step) in enumerate(zip(copies, (5, 5, 6, 0), strict=True)):
        torch.manual_seed(number)
        precision.round_weights([copy], step)
    assert torch.equal(copies[0], copies[1])
    assert size < 100 or not torch.equal(copies[0], copies[2])
    assert torch.equal(copies[3], start.bfloat16().float())  # the first weights, to the nearest


def test_updates_too_small_for_bf16_arrive_by_chance_alone() -> None:
    """A thousand updates of −0.001 on a weight of 1, which has steps of 2^-8 = 0.0039: to the nearest, none arrives."""
    found = {}
    for rounding in ("nearest", "stochastic", "toward-zero"):
        precision = Precision(
            torch.device("cpu"), formats=PrecisionConfig(weights="bf16", weights_rounding=rounding)
        )
        weights = torch.nn.Parameter(torch.ones(1000))
        for step in range(1, 1001):
            weights.data -= 1e-3
            precision.round_weights([weights], step)
        found[rounding] = weights.detach()
    assert torch.equal(found["nearest"], torch.ones(1000))
    assert abs(float(found["stochastic"].mean())) < 0.01  # 1 − 1000 · 0.001
    assert torch.equal(
        found["toward-zero"], torch.full((1000,), -0.25)
    )  # whole steps, until zero lies the other way


def test_only_fp16_is_scaled() -> None:
    cpu = torch.device("cpu")
    assert Precision(cpu).scaler() is None
    assert Precision(cpu, torch.bfloat16).scaler() is None
    assert Precision(cpu, torch.float16).scaler() == LossScaler()


def test_autocast_computes_products_in_its_dtype() -> None:
    a = torch.randn(3, 3)
    with Precision(torch.device("cpu"), torch.bfloat16).autocast():
        assert (a @ a).dtype == torch.bfloat16
    with Precision(torch.device("cpu")).autocast():
        assert (a @ a).dtype == torch.float32
