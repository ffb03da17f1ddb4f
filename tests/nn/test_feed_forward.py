"""The feed-forward network and dropout against torch's own modules."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from primer.nn.dropout import Dropout, dropout
from primer.nn.feed_forward import FeedForward, relu_in_place

BENDS: dict[str, Any] = {
    "relu": nn.ReLU(),
    "gelu": nn.GELU(approximate="tanh"),
    "relu2": lambda x: F.relu(x) ** 2,
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu", "relu2", "swiglu"])
def test_values_and_gradients_are_those_of_torchs_layers(activation: Any, bias: bool) -> None:
    torch.manual_seed(0)
    ours = FeedForward(6, 10, activation=activation, bias=bias).double()
    x = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)

    def theirs(x: torch.Tensor) -> torch.Tensor:
        hidden = F.linear(x, ours.expand.weight, ours.expand.bias)
        if activation == "swiglu":
            hidden = nn.SiLU()(hidden[..., :10]) * hidden[..., 10:]
        else:
            hidden = BENDS[activation](hidden)
        return F.linear(hidden, ours.contract.weight, ours.contract.bias)

    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)
    inputs = [x, *ours.parameters()]
    assert len(inputs) == (5 if bias else 3)
    g = torch.randn(2, 5, 6, dtype=torch.float64)
    for mine, expected in zip(
        torch.autograd.grad(ours(x), inputs, g), torch.autograd.grad(theirs(x), inputs, g), strict=True
    ):
        torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-12)


def test_no_position_sees_another() -> None:
    network = FeedForward(6, 10)
    x = torch.randn(1, 5, 6)
    other = x.clone()
    other[0, 2] += 1
    same = (network(x) == network(other)).all(-1)[0].tolist()
    assert same == [True, True, False, True, True]


def test_dropout_stands_behind_the_second_layer_and_only_while_training() -> None:
    torch.manual_seed(0)
    network = FeedForward(8, 16, dropout=0.5)
    x = torch.randn(4, 50, 8)
    whole = network.eval()(x)
    torch.testing.assert_close(network(x), whole)
    dropped = network.train()(x)
    kept = dropped != 0
    assert 0.4 < kept.float().mean().item() < 0.6
    torch.testing.assert_close(dropped[kept], 2 * whole[kept])


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_has_the_mean_and_the_spread_of_torchs(p: float) -> None:
    torch.manual_seed(0)
    x = torch.full((300_000,), 2.0)
    for ours, theirs in ((dropout(x, p), F.dropout(x, p)), (Dropout(p)(x), nn.Dropout(p)(x))):
        assert ours.mean().item() == pytest.approx(theirs.mean().item(), abs=0.05)
        assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.02)
        torch.testing.assert_close(ours.unique(), theirs.unique())


def test_the_gradient_of_dropout_passes_where_the_value_passed() -> None:
    x = torch.randn(1000, requires_grad=True)
    y = dropout(x, 0.3)
    (g,) = torch.autograd.grad(y, x, torch.arange(1000.0))
    torch.testing.assert_close(g, torch.where(y == 0, 0.0, torch.arange(1000.0) / 0.7))


def test_no_chance_no_draw() -> None:
    before = torch.get_rng_state()
    x = torch.randn(3, generator=torch.Generator().manual_seed(0))
    assert Dropout(0.0).train()(x) is x
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("p", [0.0, 0.3])
def test_relu_writes_over_nothing_that_someone_looks_at(p: float) -> None:
    """In place while nobody listens; a listener gets values of its own, and everything else is the same."""
    torch.manual_seed(0)
    network = FeedForward(6, 10, activation="relu", hidden_dropout=p).double()
    x = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    seen: dict[str, torch.Tensor] = {}

    def run() -> list[torch.Tensor]:
        torch.manual_seed(1)  # the same is dropped
        out = network(x)
        return [out, *torch.autograd.grad(out.square().sum(), [x, *network.parameters()])]

    unseen = run()

    def keep(name: str, value: torch.Tensor) -> torch.Tensor:
        seen[name] = value.detach()
        return value

    for name in ("mlp_pre", "mlp_post"):
        getattr(network, name).listener = partial(keep, name)
        for mine, expected in zip(run(), unseen, strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-14)
    assert (seen["mlp_pre"] < 0).any()
    assert torch.equal(seen["mlp_post"], seen["mlp_pre"].relu())


def test_hidden_values_are_dropped_in_place_as_elsewhere() -> None:
    """relu, a mask, 1 / (1 − p): the value and its gradient, and nothing of it while the model only answers."""
    x = torch.randn(40, 30, dtype=torch.float64, requires_grad=True)
    found = relu_in_place(x * 1.0, 0.25)
    kept = (found != 0) | (x <= 0)
    assert 0.7 < kept[x > 0].double().mean().item() < 0.8
    torch.testing.assert_close(found, x.relu() * kept / 0.75)
    d_out = torch.randn_like(x)
    (mine,) = torch.autograd.grad(found, x, d_out.clone())
    torch.testing.assert_close(mine, d_out * (x > 0) * kept / 0.75)
    network = FeedForward(6, 10, activation="relu", hidden_dropout=0.5).eval()
    assert torch.equal(network(torch.ones(1, 3, 6)), network(torch.ones(1, 3, 6)))
