"""The tiles of a model's own attention: its queries, its keys, its options, and numbers that one can check."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from primer.errors import UsageError
from primer.kernels.attention import reference
from primer.lens.flash import Head, head_of, walk
from primer.lens.trace import trace
from primer.models.config import GPTConfig, TransformerConfig
from primer.models.gpt import GPT
from primer.models.transformer import Transformer


@pytest.fixture(scope="module")
def model() -> GPT:
    torch.manual_seed(0)
    config = GPTConfig(
        vocab_size=7,
        context_length=16,
        d_model=16,
        n_layers=2,
        n_heads=4,
        n_kv_heads=2,
        attention_scale="d_model",
        init_std=0.5,
    )
    return GPT(config).double().eval()


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    return torch.arange(11)[None] % 7


@pytest.mark.parametrize("head", range(4))
def test_a_head_of_a_gpt(model: GPT, tokens: Tensor, head: int) -> None:
    """With its own keys (two query heads share them), its own scale, and the pattern that the model shows."""
    found = head_of(model, tokens, "layers.1", head)
    seen = trace(model, tokens, ["layers.1.*"])
    assert torch.equal(found.q[0, 0], seen["layers.1.q"][0, head])
    assert torch.equal(found.k[0, 0], seen["layers.1.k"][0, head // 2])
    assert torch.equal(found.v[0, 0], seen["layers.1.v"][0, head // 2])
    assert found.options == {"causal": True, "softmax_scale": 0.25}
    pattern = reference.softmax(reference.attention_scores(found.q, found.k, **found.options))
    torch.testing.assert_close(pattern[0, 0], seen["layers.1.pattern"][0, head])
    way = walk(found, block_q=3, block_k=4)
    assert max(way.error, way.model_error) < 1e-12
    assert (way.count("full"), way.count("masked"), way.count("skipped")) == (4, 5, 3)


@pytest.mark.parametrize(
    ("place", "sizes"), [("encoder.1", (6, 6)), ("decoder.0", (4, 4)), ("decoder.1.cross", (4, 6))]
)
def test_every_attention_of_an_encoder_decoder(place: str, sizes: tuple[int, int]) -> None:
    torch.manual_seed(1)
    config = TransformerConfig(vocab_size=20, d_model=16, n_heads=4, d_ff=24, n_layers=2, d_k=3)
    reader = Transformer(config).double()
    found = head_of(reader, (torch.tensor([[3, 1, 4, 1, 5, 19]]), torch.tensor([[19, 9, 2, 6]])), place, 2)
    assert (found.q.shape[2], found.k.shape[2]) == sizes
    assert found.options["causal"] == (place == "decoder.0")
    way = walk(found, block_q=2, block_k=3)
    assert max(way.error, way.model_error) < 1e-12
    assert way.count("skipped") == (1 if place == "decoder.0" else 0)
    assert reader.training, "it was put back"


def test_a_difference_is_seen(model: GPT, tokens: Tensor) -> None:
    """What the model did with other options, or from other values, is not what the tiles say."""
    found = head_of(model, tokens, "layers.0", 0)
    assert walk(replace(found, options={"causal": False}), block_q=4, block_k=4).model_error > 0.01
    assert walk(replace(found, v=found.v + 1e-3), block_q=4, block_k=4).model_error == pytest.approx(1e-3)


def by_hand() -> Head:
    """Three keys with the scores 0, log 3 and log 2 for every query, and the values 1, 2 and 6."""
    q, k = torch.ones(1, 1, 3, 1), torch.tensor([1.0, 3.0, 2.0]).log().view(1, 1, 3, 1)
    v = torch.tensor([1.0, 2.0, 6.0]).view(1, 1, 3, 1)
    z = torch.tensor([1.0, 7 / 4, 19 / 6]).view(1, 1, 3, 1)
    return Head(q, k, v, z, {"causal": True})


def test_numbers_of_a_small_case() -> None:
    way = walk(by_hand(), block_q=2, block_k=1)
    assert max(way.error, way.model_error) < 1e-6
    assert [step.kind for step in way.steps] == ["full", "masked", "skipped", "full", "full", "full"]
    assert [step.queries for step in way.steps] == [(0, 2)] * 3 + [(2, 3)] * 3
    assert [step.keys for step in way.steps] == [(0, 1), (1, 2), (2, 3)] * 2
    assert [step.row for step in way.steps] == [1, 1, 1, 2, 2, 2]
    *_, a, b, c = way.steps
    log3 = pytest.approx(math.log(3))
    assert (a.max_before, a.sum_before, a.rescale) == (None, 0, 0)
    assert (a.max_after, a.sum_after) == (0, 1)
    assert (b.max_before, b.sum_before) == (0, 1)
    assert (b.max_after, b.sum_after, b.rescale) == (log3, pytest.approx(4 / 3), pytest.approx(1 / 3))
    assert (c.max_after, c.sum_after, c.rescale) == (log3, pytest.approx(2), 1)
    # Of four bytes each: two queries, two tiles of a key and a value, two outputs and two L; then one of three.
    assert [step.moved for step in way.steps] == [4 * n for n in (4, 6, 10, 13, 15, 19)]
    assert way.moved == 4 * 19
    assert way.naive == 4 * (3 + 3 + 9 + 9 + 9 + 9 + 3 + 3)


def test_the_query_that_is_followed() -> None:
    way = walk(by_hand(), block_q=2, block_k=1, row=0)
    assert [step.row for step in way.steps] == [0, 0, 0, 2, 2, 2]
    first, second, third = way.steps[:3]
    assert (first.max_after, first.sum_after) == (0, 1)
    assert (second.max_after, second.sum_after, second.rescale) == (0, 1, 1), "which it may not see"
    assert (third.max_before, third.max_after) == (0, 0)


def test_what_is_not_there(model: GPT, tokens: Tensor) -> None:
    with pytest.raises(UsageError, match=r"layers\.1 has the heads 0 to 3, not 4"):
        head_of(model, tokens, "layers.1", 4)
    with pytest.raises(UsageError, match=r"no place called layers\.2"):
        head_of(model, tokens, "layers.2", 0)
