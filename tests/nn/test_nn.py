"""The small parts: each fast form against its formula, each promise of a docstring against brute force."""

import math

import pytest
import torch
from torch.nn import functional as F

from primer.errors import UsageError
from primer.nn import attention as rooms
from primer.nn.attention import MultiHeadAttention, train_by
from primer.nn.cache import LayerCache
from primer.nn.dropout import Dropout, dropout
from primer.nn.feed_forward import FeedForward, gelu, relu2, swiglu
from primer.nn.loss import cross_entropy
from primer.nn.ngram import HashedNGrams, ngram_ids
from primer.nn.norm import LayerNorm, RMSNorm, layer_norm, rms_norm
from primer.nn.positions import Rotary, rotate, sinusoids

torch.manual_seed(0)


def test_norms_are_their_formulas() -> None:
    x = torch.randn(3, 5, 16, dtype=torch.float64) * 4 + 1
    norm, rms = LayerNorm(16).double(), RMSNorm(16).double()
    torch.testing.assert_close(norm(x), layer_norm(x))
    torch.testing.assert_close(rms(x), rms_norm(x))
    row = x[0, 0].tolist()
    mean = sum(row) / 16
    deviation = math.sqrt(sum((value - mean) ** 2 for value in row) / 16 + 1e-5)
    assert norm(x)[0, 0, 3].item() == pytest.approx((row[3] - mean) / deviation)
    assert rms(x)[0, 0, 3].item() == pytest.approx(row[3] / math.sqrt(sum(v * v for v in row) / 16 + 1e-5))


def test_norm_gradients_are_their_formulas() -> None:
    x = torch.randn(4, 8, dtype=torch.float64, requires_grad=True)
    g = torch.randn(4, 8, dtype=torch.float64)
    for module, formula in ((LayerNorm(8).double(), layer_norm), (RMSNorm(8).double(), rms_norm)):
        mine = torch.autograd.grad(module(x), x, g)[0]
        torch.testing.assert_close(mine, torch.autograd.grad(formula(x), x, g)[0])


def test_sinusoids_are_the_papers() -> None:
    table = sinusoids(50, 16)
    for t, i in ((0, 0), (7, 3), (49, 7)):
        angle = t / 10000 ** (2 * i / 16)
        assert table[t, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
        assert table[t, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_rotary_scores_depend_on_distance_alone() -> None:
    rotary = Rotary(64, 8).double()
    q, k = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64)

    def score(at: int, other: int) -> float:
        return float((rotary(q, at) * rotary(k, other)).sum())

    assert score(5, 2) == pytest.approx(score(40, 37), abs=1e-6)
    assert abs(score(5, 2) - score(5, 3)) > 1e-3
    assert float(rotary(q, 9).norm()) == pytest.approx(float(q.norm()), rel=1e-6)


def test_rotary_turns_pairs_by_the_papers_angles() -> None:
    x = torch.randn(1, 5, 2, 6, dtype=torch.float64)
    turned = Rotary(16, 6).double()(x, start=3)
    for t, i in ((0, 0), (4, 1), (2, 2)):
        angle = (3 + t) * 10000 ** (-2 * i / 6)
        first, second = x[0, t, 1, 2 * i].item(), x[0, t, 1, 2 * i + 1].item()
        assert turned[0, t, 1, 2 * i].item() == pytest.approx(
            first * math.cos(angle) - second * math.sin(angle), abs=1e-6
        )
        assert turned[0, t, 1, 2 * i + 1].item() == pytest.approx(
            second * math.cos(angle) + first * math.sin(angle), abs=1e-6
        )
    rotary = Rotary(16, 6)
    torch.testing.assert_close(rotate(x.float(), rotary.cos[:5], rotary.sin[:5]), rotary(x.float()))


def test_bends() -> None:
    x = torch.linspace(-3, 3, 13, dtype=torch.float64)
    torch.testing.assert_close(gelu(x), x * 0.5 * (1 + torch.erf(x / 2**0.5)), atol=2e-3, rtol=0)
    gate, value = torch.randn(2, 4, 6)
    torch.testing.assert_close(swiglu(torch.cat([gate, value], -1)), gate * gate.sigmoid() * value)
    network = FeedForward(2, 2, activation="relu2", bias=False)
    with torch.no_grad():
        network.expand.weight.copy_(torch.eye(2))
        network.contract.weight.copy_(torch.eye(2))
    assert network(torch.tensor([[[3.0, -3.0]]])).tolist() == [[[9.0, 0.0]]]


def test_relu2_has_the_gradient_of_its_formula() -> None:
    x = torch.randn(40, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(relu2, (x,))


def test_label_smoothing_is_a_softened_target() -> None:
    logits, targets = torch.randn(2, 3, 7, dtype=torch.float64), torch.randint(7, (2, 3))
    soft = F.one_hot(targets, 7) * 0.9 + 0.1 / 7
    expected = -(soft * logits.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(cross_entropy(logits, targets, label_smoothing=0.1), expected)
    hard = -logits.log_softmax(-1).gather(-1, targets[..., None]).mean()
    torch.testing.assert_close(cross_entropy(logits, targets), hard)


def test_dropout_keeps_the_mean_and_masks_its_gradient() -> None:
    torch.manual_seed(1)
    x = torch.ones(500, 400, requires_grad=True)
    y = dropout(x, 0.3)
    assert sorted(y.unique().tolist()) == pytest.approx([0.0, 1 / 0.7])
    assert y.mean().item() == pytest.approx(1, abs=0.01)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())
    module = Dropout(0.3).eval()
    assert module(x) is x


def test_ngram_rows_depend_on_the_last_n_tokens_alone() -> None:
    a = torch.tensor([[1, 2, 3, 4, 5, 6]])
    b = torch.tensor([[9, 9, 3, 4, 5, 6]])
    same = ngram_ids(a, 3, 10**6) == ngram_ids(b, 3, 10**6)
    assert same.tolist() == [[False, False, False, False, True, True]]
    assert ngram_ids(a, 2, 10**6)[0, 0] != ngram_ids(a, 3, 10**6)[0, 0]
    assert int(ngram_ids(torch.randint(50000, (4, 64)), 5, 97).max()) < 97


def test_ngram_hashing_spreads() -> None:
    pairs = torch.cartesian_prod(torch.arange(64), torch.arange(64))
    rows = ngram_ids(pairs, 2, 4096)[:, 1]
    # 4096 balls into 4096 bins: a share of 1 − 1/e of the bins is hit by chance
    assert rows.unique().numel() / 4096 == pytest.approx(1 - 1 / math.e, abs=0.05)


def test_ngram_sum_and_dropout() -> None:
    ngrams = HashedNGrams((2, 3), 50, 4, dropout=0.5)
    tokens = torch.randint(9, (2, 5))
    by_hand = sum(
        table.weight[ngram_ids(tokens, order, 50)] for order, table in zip((2, 3), ngrams.tables, strict=True)
    )
    assert isinstance(by_hand, torch.Tensor)
    torch.testing.assert_close(ngrams.eval()(tokens), by_hand)
    torch.manual_seed(0)
    many = torch.stack([ngrams.train()(tokens) for _ in range(4000)]).mean(0)
    torch.testing.assert_close(many, by_hand, atol=0.15, rtol=0)


def test_a_full_cache_says_so() -> None:
    cache = LayerCache((1, 1, 4, 2), torch.float32, "cpu")
    cache.append(torch.ones(1, 1, 3, 2), torch.ones(1, 1, 3, 2))
    with pytest.raises(UsageError, match="holds 4 positions and was given 5"):
        cache.append(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2))


def test_heads_are_trained_by_the_implementation_they_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """And by none other; whoever only reads the model gets what suits each call."""
    asked: list[str] = []

    def watched(*tensors: torch.Tensor, implementation: str, **how: object) -> torch.Tensor:
        asked.append(implementation)
        return tensors[0]

    monkeypatch.setattr(rooms, "attention", watched)
    layers = torch.nn.ModuleList(MultiHeadAttention(8, 2) for _ in range(2))
    for training in (True, False):
        for chosen in ("auto", "tiled"):
            train_by(layers, chosen)
            for layer in layers.train(training):
                layer(torch.randn(1, 3, 8))
    assert asked == ["auto", "auto", "tiled", "tiled", "auto", "auto", "auto", "auto"]
