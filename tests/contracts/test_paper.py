"""Vaswani et al. 2017, equation by equation: sections 3 and 5, each written out here once more, by hand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from primer.generation.beam import length_penalty
from primer.kernels.attention import attention
from primer.models.config import TransformerConfig
from primer.models.transformer import Transformer
from primer.nn.attention import CrossAttention, MultiHeadAttention
from primer.nn.feed_forward import FeedForward
from primer.nn.loss import cross_entropy
from primer.nn.positions import sinusoids
from primer.recipes.config import TranslationConfig
from primer.recipes.resolve import resolve
from primer.training.optim import AdamW
from primer.training.schedule import schedule


def softmax(row: list[float]) -> list[float]:
    total = sum(map(math.exp, row))
    return [math.exp(x) / total for x in row]


def recipe(name: str) -> TranslationConfig:
    config = resolve(name).config
    assert isinstance(config, TranslationConfig)
    return config


def small(**changes: Any) -> Transformer:
    torch.manual_seed(0)
    options: dict[str, Any] = {"vocab_size": 11, "d_model": 8, "n_heads": 2, "d_ff": 6, "n_layers": 1}
    return Transformer(TransformerConfig(**{**options, "dropout": 0.0, **changes})).double().eval()


def test_3_1_a_layer_is_layer_norm_of_x_plus_sublayer_of_x() -> None:
    """LayerNorm(x + Sublayer(x)), twice in the encoder and three times in the decoder."""
    model = small()
    x, y = torch.randn(1, 4, 8).double(), torch.randn(1, 3, 8).double()

    def normed(v: Tensor) -> Tensor:
        mean = v.mean(-1, keepdim=True)
        return (v - mean) / ((v - mean) ** 2).mean(-1, keepdim=True).add(1e-5).sqrt()

    layer: Any = model.encoder[0]
    first = normed(x + layer.attention(x))
    torch.testing.assert_close(layer(x), normed(first + layer.feed_forward(first)))
    layer = model.decoder[0]
    first = normed(y + layer.attention(y))
    second = normed(first + layer.cross_attention(first, layer.cross_attention.remember(x)))
    torch.testing.assert_close(layer(y, x), normed(second + layer.feed_forward(second)))


def test_3_2_1_equation_1() -> None:
    """Attention(Q, K, V) = softmax(QKᵀ / √d_k) V."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 1, n, d).double() for n, d in ((3, 4), (5, 4), (5, 2)))
    found = attention(q, k, v, causal=False)
    for t in range(3):
        scores = [
            sum(float(q[0, 0, t, i] * k[0, 0, s, i]) for i in range(4)) / math.sqrt(4) for s in range(5)
        ]
        weights = softmax(scores)
        for j in range(2):
            wanted = sum(weights[s] * float(v[0, 0, s, j]) for s in range(5))
            assert float(found[0, 0, t, j]) == pytest.approx(wanted, rel=1e-12)


def test_3_2_2_multi_head() -> None:
    """Concat(head_1 … head_h) W^O with head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V); d_k may be another than d_v."""
    torch.manual_seed(0)
    h, d_k, d_v = 2, 3, 4
    part = MultiHeadAttention(8, h, d_k=d_k, causal=False).double()
    x = torch.randn(1, 5, 8).double()
    W_Q, W_K, W_V = part.qkv.weight.T.split([h * d_k, h * d_k, h * d_v], dim=1)
    heads = [
        attention(
            *((x @ W[:, i * d : (i + 1) * d])[:, None] for W, d in ((W_Q, d_k), (W_K, d_k), (W_V, d_v))),
            causal=False,
        )[:, 0]
        for i in range(h)
    ]
    assert part.output is not None
    torch.testing.assert_close(part(x), torch.cat(heads, dim=-1) @ part.output.weight.T)


def test_3_2_3_three_uses() -> None:
    """The decoder's queries meet the encoder's keys and values; all of the source; of the target nothing later."""
    torch.manual_seed(0)
    cross = CrossAttention(8, 2).double()
    x, encoded = torch.randn(1, 3, 8).double(), torch.randn(1, 5, 8).double()
    keys, values = cross.remember(encoded)
    queries = (x @ cross.queries.weight.T).view(1, 3, 2, 4).transpose(1, 2)
    merged = attention(queries, keys, values, causal=False).transpose(1, 2).flatten(2)
    assert cross.output is not None
    torch.testing.assert_close(cross(x, (keys, values)), merged @ cross.output.weight.T)
    model: Any = small()
    assert (model.encoder[0].attention.causal, model.decoder[0].attention.causal) == (False, True)
    assert not model.decoder[0].cross_attention.causal


@torch.no_grad()
def test_3_3_equation_2() -> None:
    """FFN(x) = max(0, x W₁ + b₁) W₂ + b₂, at each position alike."""
    torch.manual_seed(0)
    part = FeedForward(4, 6, activation="relu").double()
    x = torch.randn(1, 3, 4).double()
    hidden = [
        [max(0.0, float(x[0, t] @ part.expand.weight[f] + part.expand.bias[f])) for f in range(6)]
        for t in range(3)
    ]
    wanted = torch.tensor(hidden).double() @ part.contract.weight.T + part.contract.bias
    torch.testing.assert_close(part(x)[0], wanted, rtol=1e-6, atol=1e-6)


def test_3_4_one_matrix_times_the_root_of_d_model() -> None:
    model = small()
    E = model.embedding.tokens.weight
    tokens = torch.tensor([[1, 5]])
    torch.testing.assert_close(
        model.embedding(tokens), E[tokens] * math.sqrt(8) + sinusoids(2, 8), rtol=0, atol=1e-7
    )
    stream = torch.randn(1, 2, 8).double()
    torch.testing.assert_close(model.embedding.unembed(stream), stream @ E.T)


def test_3_5_positions() -> None:
    """PE(pos, 2i) = sin(pos / 10000^(2i/d_model)), PE(pos, 2i+1) = cos of the same."""
    table = sinusoids(50, 8)
    for pos in (0, 1, 7, 49):
        for i in range(4):
            angle = pos / 10000 ** (2 * i / 8)
            assert float(table[pos, 2 * i]) == pytest.approx(math.sin(angle), abs=1e-6)
            assert float(table[pos, 2 * i + 1]) == pytest.approx(math.cos(angle), abs=1e-6)


@pytest.mark.parametrize("name", ["base", "big"])
def test_5_3_equation_3(name: str) -> None:
    """lrate = d_model^-0.5 · min(step_num^-0.5, step_num · warmup_steps^-1.5): the recipe's rate at every step."""
    config = recipe(f"transformer-{name}")
    factor = schedule(config.schedule, config.train.steps)
    for step in (1, 2, 1000, 3999, 4000, 4001, 25_000, config.train.steps):
        wanted = config.model.d_model**-0.5 * min(step**-0.5, step * 4000**-1.5)
        assert config.optim.lr * factor(step - 1) == pytest.approx(wanted, rel=1e-12)


def test_5_3_adam() -> None:
    """β₁ = 0.9, β₂ = 0.98, ε = 10⁻⁹ and no weight decay: two steps of Adam, by hand."""
    optim = recipe("transformer-base").optim
    assert (optim.name, optim.betas, optim.eps, optim.weight_decay) == ("adamw", (0.9, 0.98), 1e-9, 0.0)
    p = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    adam = AdamW([("p", p)], lr=0.1, betas=optim.betas, eps=optim.eps, weight_decay=0.0)
    value, m, v = 1.0, 0.0, 0.0
    for t, g in ((1, 0.5), (2, -0.2)):
        p.grad = torch.tensor([g], dtype=torch.float64)
        adam.step()
        m, v = 0.9 * m + 0.1 * g, 0.98 * v + 0.02 * g * g
        value -= 0.1 * (m / (1 - 0.9**t)) / (math.sqrt(v / (1 - 0.98**t)) + 1e-9)
        assert p.item() == pytest.approx(value, rel=1e-9)


def test_5_4_label_smoothing_and_dropout() -> None:
    """ε_ls = 0.1: the target keeps 0.9, and 0.1 is spread over the vocabulary; P_drop is 0.1, and 0.3 for big."""
    logits = torch.tensor([[2.0, 0.5, -1.0, 0.0]]).double()
    p = softmax(logits[0].tolist())
    wanted = -0.9 * math.log(p[1]) - 0.1 * sum(map(math.log, p)) / 4
    found = cross_entropy(logits, torch.tensor([1]), label_smoothing=0.1)
    assert float(found) == pytest.approx(wanted, rel=1e-12)
    base, big = recipe("transformer-base"), recipe("transformer-big")
    assert base.train.label_smoothing == big.train.label_smoothing == 0.1
    assert (base.model.dropout, big.model.dropout) == (0.1, 0.3)
    assert base.model.pattern_dropout == base.model.hidden_dropout == 0.0


def test_5_and_6_1_the_rest_of_the_recipe() -> None:
    """Sizes of table 3, §5.1's batches and vocabulary, §5.2's steps, §6.1's averaging, beam and limit."""
    base, big = recipe("transformer-base"), recipe("transformer-big")
    for config, name in ((base, "base"), (big, "big")):
        preset = TransformerConfig.preset(name)
        sizes = ("d_model", "n_layers", "n_heads", "d_ff", "norm", "positions", "dropout")
        assert [getattr(config.model, size) for size in sizes] == [getattr(preset, size) for size in sizes]
        assert (config.data.vocab_size, config.train.batch_tokens) == (37_000, 25_000)
        assert (config.translate.beam, config.translate.length_penalty) == (4, 0.6)
        assert config.translate.extra_length == 50
        assert config.optim.clip == 0.0
    assert (base.train.steps, big.train.steps) == (100_000, 300_000)
    assert (base.translate.checkpoints, big.translate.checkpoints) == (5, 20)
    for config, seconds_a_step in ((base, 0.4), (big, 1.0)):  # ten minutes apart
        assert config.train.checkpoint_every * seconds_a_step == pytest.approx(600)
    assert length_penalty(13, 0.6) == pytest.approx(18**0.6 / 6**0.6)
