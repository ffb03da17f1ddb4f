"""The loss scaler against torch's, over a history of good and bad steps."""

import random

import torch

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
