"""The loss in one piece and the loss in chunks are one loss."""

import pytest
import torch
from torch.nn import functional as F

from primer.nn import loss
from primer.nn.loss import cross_entropy, linear_cross_entropy

CASES = {
    "plain": {},
    "smoothed": {"label_smoothing": 0.1},
    "capped": {"soft_cap": 3.0},
    "all of it": {"label_smoothing": 0.2, "soft_cap": 2.0},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("chunk", [1, 40, 100, 10**6], ids=lambda size: f"{size} logits at once")
def test_in_chunks_it_is_autograds(
    case: str, bias: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "CHUNK", chunk)
    torch.manual_seed(0)
    h = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(13, 6, dtype=torch.float64, requires_grad=True)
    b = torch.randn(13, dtype=torch.float64, requires_grad=True) if bias else None
    targets = torch.randint(13, (2, 5))
    options = CASES[case]
    logits = F.linear(h, weight, b)
    if cap := options.get("soft_cap"):
        logits = cap * torch.tanh(logits / cap)
    expected = cross_entropy(logits, targets, label_smoothing=options.get("label_smoothing", 0.0))
    found = linear_cross_entropy(h, weight, targets, bias=b, **options)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    leaves = [each for each in (h, weight, b) if each is not None]
    for mine, theirs in zip(
        torch.autograd.grad(0.3 * found, leaves), torch.autograd.grad(0.3 * expected, leaves), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_logits_that_overflow_an_exponential_do_not() -> None:
    h = torch.tensor([[200.0]])
    weight = torch.tensor([[1.0], [0.5], [-1.0]], requires_grad=True)
    found = linear_cross_entropy(h, weight, torch.tensor([1]))
    found.backward()
    assert found.item() == pytest.approx(100.0)
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, torch.tensor([[200.0], [-200.0], [0.0]]))


def test_its_gradients_are_given_away_once() -> None:
    h, weight = torch.randn(3, 2, requires_grad=True), torch.randn(4, 2, requires_grad=True)
    found = linear_cross_entropy(h, weight, torch.tensor([0, 1, 2]))
    found.backward(retain_graph=True)
    with pytest.raises(AttributeError, match="gradients"):
        found.backward()
