"""The running mean of the weights against torch's own, and what it may not do to training."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from primer.training.average import WeightAverage


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2)).double()


def walk(model: nn.Module) -> None:
    """A step of training, as far as the mean can tell."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p))


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_the_mean_is_torchs_with_a_decay_that_rises(decay: float) -> None:
    model = network()
    ours = WeightAverage(model, decay)

    def mean(averaged: torch.Tensor, now: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        d = min(
            decay, int(steps) / (9 + int(steps))
        )  # torch copies the first weights and begins to count then
        return d * averaged + (1 - d) * now

    theirs = AveragedModel(model, avg_fn=mean)
    theirs.update_parameters(model)
    for _ in range(60):
        walk(model)
        ours.update(model)
        theirs.update_parameters(model)
    for name, expected in theirs.module.named_parameters():
        torch.testing.assert_close(ours.mean[name], expected.detach(), rtol=1e-10, atol=1e-12)


def test_the_weights_come_back_bit_for_bit_even_after_an_error() -> None:
    model = network()
    average = WeightAverage(model, 0.9)
    walk(model)
    average.update(model)
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    mean = {name: tensor.clone() for name, tensor in average.mean.items()}

    def look() -> None:
        with average.in_place(model):
            assert all(torch.equal(p, mean[name]) for name, p in model.named_parameters())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        look()
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())
    assert all(torch.equal(average.mean[name], mean[name]) for name in mean)


def test_looking_at_the_mean_does_not_turn_training_aside() -> None:
    """An optimizer holds parameters, not names: they must be the same ones before and after."""
    runs = []
    for look in (True, False):
        model = network()
        average = WeightAverage(model, 0.9)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(5):
            model(torch.ones(2, 4).double()).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            average.update(model)
            if look:
                with average.in_place(model):
                    model(torch.ones(2, 4).double())
        runs.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_a_mean_that_was_saved_goes_on() -> None:
    model = network()
    whole = WeightAverage(model, 0.999)
    resumed = WeightAverage(model, 0.999)
    for step in range(20):
        walk(model)
        whole.update(model)
        if step == 7:
            resumed.restore({name: t.clone() for name, t in whole.tensors().items()}, whole.updates)
        elif step > 7:
            resumed.update(model)
    assert resumed.updates == whole.updates == 20
    assert all(torch.equal(resumed.mean[name], tensor) for name, tensor in whole.mean.items())
