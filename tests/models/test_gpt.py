"""The model as a whole: causality, caching and options, each over every kind of model."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from primer.errors import UsageError
from primer.kernels.cross_entropy import CHUNKS
from primer.models.config import GPTConfig, NGramConfig
from primer.models.gpt import GPT, Block
from primer.nn.loss import cross_entropy
from primer.recipes.resolve import recipes, resolve

SMALL = {"vocab_size": 11, "context_length": 24, "d_model": 16, "n_layers": 2, "n_heads": 4}
KINDS = {
    "gpt2": {"tied_head": True},
    "post": {"norm": "post", "positions": "sinusoidal", "activation": "relu"},
    "none": {"norm": "none", "positions": "none", "init_std": 0.2},
    "modern": {
        "norm_type": "rmsnorm",
        "positions": "rotary",
        "activation": "relu2",
        "qk_norm": True,
        "bias": False,
        "logit_soft_cap": 5.0,
        "norm_gain": False,
    },
    "swiglu": {"activation": "swiglu", "n_kv_heads": 2, "positions": "rotary"},
    "multi-query": {"n_kv_heads": 1},
    "n-grams": {"ngram": NGramConfig(orders=(2, 4), rows=64)},
    "counted": {"ngram": NGramConfig(counted=3), "embedding_norm": True, "zero_init_head": True},
    "lecture": {
        "attention_scale": "d_model",
        "attention_output": False,
        "qkv_bias": False,
        "head_bias": True,
        "init": "torch",
        "activation": "relu",
    },
}


def build(kind: str, **changes: object) -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTConfig(**{**SMALL, **KINDS[kind], **changes})).double().eval()  # type: ignore[arg-type]
    if model.counts is not None and model.counts_in is not None:
        model.counts.fit(torch.randint(11, (500,)))
        torch.nn.init.normal_(model.counts_in.weight)
        torch.nn.init.normal_(model.head.weight)
    return model


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> GPT:
    return build(request.param)


def test_a_later_token_changes_no_earlier_logit(model: GPT) -> None:
    tokens = torch.randint(11, (2, 20))
    before = model(tokens)
    for place in (1, 9, 19):
        changed = tokens.clone()
        changed[:, place] = (changed[:, place] + 1) % 11
        after = model(changed)
        assert torch.equal(before[:, :place], after[:, :place])
        assert not torch.allclose(before[:, place:], after[:, place:])


@pytest.mark.parametrize("name", [name for name in recipes() if resolve(name).config.kind == "language"])
def test_no_recipe_looks_ahead(name: str) -> None:
    """With weights at random, as it is used and as it is trained (counts of the row's own part left out)."""
    chosen = resolve(name).config.model
    sizes = {"vocab_size": 11, "context_length": 24, "d_model": 8 * chosen.n_heads, "n_layers": 2, "d_ff": 0}
    torch.manual_seed(0)
    model = GPT(replace(chosen, **sizes)).double().eval()  # type: ignore[arg-type]
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    if model.counts is not None:
        model.counts.fit(torch.randint(11, (500,)))
    tokens = torch.randint(11, (2, 20))
    for starts in (None, *([torch.tensor([40, 333])] if model.counts is not None else [])):
        before = model(tokens, starts=starts)
        for place in (1, 9, 19):
            changed = tokens.clone()
            changed[:, place] = (changed[:, place] + 1) % 11
            after = model(changed, starts=starts)
            assert torch.equal(before[:, :place], after[:, :place])
            assert not torch.allclose(before[:, place:], after[:, place:])


def test_cached_reading_gives_the_same_logits(model: GPT) -> None:
    tokens = torch.randint(11, (3, 24))
    cache = model.new_cache(3)
    pieces = [tokens[:, :5], *tokens[:, 5:12].split(1, dim=1), tokens[:, 12:]]
    cached = torch.cat([model(piece, cache) for piece in pieces], dim=1)
    torch.testing.assert_close(cached, model(tokens), rtol=1e-10, atol=1e-10)
    assert cache.length == 24
    cache.reset()
    torch.testing.assert_close(model(tokens[:, :5], cache), cached[:, :5], rtol=1e-10, atol=1e-10)


def test_every_parameter_learns(model: GPT) -> None:
    tokens = torch.randint(11, (4, 24))
    loss = nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.roll(-1, 1).flatten())
    loss.backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name


def test_gpt2_is_transparent() -> None:
    """The pre-norm block written out with nothing but matrix products."""
    model = build("gpt2", n_layers=1)
    tokens = torch.randint(11, (1, 6))
    x = model.token_embedding.weight[tokens] + model.position_embedding.weight[:6]  # type: ignore[union-attr]
    block = model.layers[0]
    assert isinstance(block, Block)

    def norm(x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        return (x - mean) / (variance + 1e-5).sqrt() * layer.weight + layer.bias

    attention = block.attention
    qkv = norm(x, block.attention_norm) @ attention.qkv.weight.T + attention.qkv.bias
    heads = []
    for h in range(4):
        q, k, v = (qkv[..., part * 16 + h * 4 : part * 16 + h * 4 + 4] for part in range(3))
        scores = q @ k.transpose(-2, -1) / math.sqrt(4)
        heads.append(scores.masked_fill(torch.ones(6, 6).triu(1).bool(), -math.inf).softmax(-1) @ v)
    assert attention.output is not None
    x = x + torch.cat(heads, -1) @ attention.output.weight.T + attention.output.bias
    ff = block.feed_forward
    hidden = norm(x, block.feed_forward_norm) @ ff.expand.weight.T + ff.expand.bias
    hidden = 0.5 * hidden * (1 + torch.tanh(math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)))
    x = x + hidden @ ff.contract.weight.T + ff.contract.bias
    logits = norm(x, model.final_norm) @ model.token_embedding.weight.T
    torch.testing.assert_close(model(tokens), logits, rtol=1e-10, atol=1e-10)


def test_soft_cap_bounds_the_logits() -> None:
    model = build("modern")
    with torch.no_grad():
        model.head.weight.mul_(1e4)
    assert model(torch.randint(11, (1, 20))).abs().max() <= 5.0


def test_initialisation_is_gpt2s() -> None:
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=50, d_model=256, n_layers=8, n_heads=4, context_length=64))
    block = model.layers[3]
    assert isinstance(block, Block)
    assert block.attention.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert block.feed_forward.contract.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)  # √(2·8) = 4
    assert block.attention.qkv.bias.abs().max() == 0
    zeroed = GPT(GPTConfig(vocab_size=50, zero_init_projections=True))
    tokens = torch.randint(50, (1, 9))
    embedded = zeroed.embedded(tokens, None)
    torch.testing.assert_close(zeroed(tokens), zeroed.head(zeroed.final_norm(embedded)))


def test_errors_name_the_way_out() -> None:
    with pytest.raises(UsageError, match=r"d_model=16 does not divide by model\.n_heads=5"):
        GPTConfig(d_model=16, n_heads=5)
    with pytest.raises(UsageError, match="n_kv_heads=3"):
        GPTConfig(d_model=16, n_heads=4, n_kv_heads=3)
    with pytest.raises(UsageError, match="do not fit into the model"):
        build("gpt2")(torch.zeros(1, 25, dtype=torch.long))


@pytest.mark.parametrize("chunk", [1 << 24, 50], ids=["all logits", "in chunks"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_with_targets_it_gives_the_loss_of_its_logits(
    model: GPT, chunk: int, smoothing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CHUNKS, "cpu", chunk)
    tokens, targets = torch.randint(11, (2, 20)), torch.randint(11, (2, 20))
    expected = cross_entropy(model(tokens), targets, label_smoothing=smoothing)
    found = model(tokens, targets=targets, label_smoothing=smoothing)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    parameters = [p for p in model.parameters() if p.requires_grad]
    theirs = torch.autograd.grad(expected, parameters, allow_unused=True)
    for mine, grad in zip(torch.autograd.grad(found, parameters, allow_unused=True), theirs, strict=True):
        torch.testing.assert_close(mine, grad, rtol=1e-9, atol=1e-10)


def test_whoever_looks_at_the_logits_sees_them_in_training_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CHUNKS, "cpu", 1)
    model, seen = build("gpt2"), []

    def look(logits: torch.Tensor) -> torch.Tensor:
        seen.append(logits.shape)
        return logits

    model.logits.listener = look
    model(torch.zeros(1, 4, dtype=torch.long), targets=torch.zeros(1, 4, dtype=torch.long))
    assert seen == [(1, 4, 11)]


def test_the_gradient_of_a_tied_embedding_holds_both_of_its_uses() -> None:
    model = build("gpt2")
    untied = GPT(replace(model.config, tied_head=False)).double().eval()
    untied.load_state_dict(model.state_dict())
    tokens, targets = torch.randint(11, (2, 9)), torch.randint(11, (2, 9))
    for each in (model, untied):
        each(tokens, targets=targets).backward()
    both = untied.token_embedding.weight.grad + untied.head.weight.grad
    torch.testing.assert_close(model.token_embedding.weight.grad, both)


@pytest.mark.parametrize(
    ("dtype", "stream"), [(torch.bfloat16, torch.bfloat16), (torch.float16, torch.float32)]
)
@pytest.mark.parametrize("kind", ["gpt2", "modern"])
def test_the_stream_is_as_narrow_as_bfloat16_products(
    kind: str, dtype: torch.dtype, stream: torch.dtype
) -> None:
    model, seen = build(kind).float(), []
    for layer in model.layers:
        layer.resid_post.listener = lambda x: (seen.append(x.dtype), x)[1]
    tokens = torch.randint(11, (2, 20))
    wide = model(tokens)
    seen.clear()
    with torch.autocast("cpu", dtype):
        narrow = model(tokens)
    assert set(seen) == {stream}
    torch.testing.assert_close(narrow.float(), wide, atol=0.05, rtol=0.05)
