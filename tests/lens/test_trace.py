"""Looking changes nothing, sees the real thing, and can be used to touch."""

import pytest
import torch

from primer.errors import UsageError
from primer.lens.trace import listening, names, trace
from primer.models.config import GPTConfig, TransformerConfig
from primer.models.gpt import GPT
from primer.models.transformer import Transformer
from primer.shapes import PADDING


@pytest.fixture
def model() -> GPT:
    torch.manual_seed(0)
    config = GPTConfig(vocab_size=7, context_length=16, d_model=8, n_layers=2, n_heads=2, init_std=0.3)
    return GPT(config).double().eval()


def test_seen_values_are_what_the_model_computes(model: GPT) -> None:
    tokens = torch.randint(7, (2, 9))
    before = model(tokens)
    seen = trace(model, tokens)
    assert set(seen) == set(names(model))
    torch.testing.assert_close(seen["logits"], before)
    torch.testing.assert_close(seen["layers.0.resid_post"], seen["layers.1.resid_pre"])
    torch.testing.assert_close(
        seen["layers.1.resid_pre"] + seen["layers.1.attn_out"], seen["layers.1.resid_mid"]
    )
    pattern = seen["layers.1.pattern"]
    assert pattern.shape == (2, 2, 9, 9)
    torch.testing.assert_close(pattern.sum(-1), torch.ones(2, 2, 9, dtype=torch.float64))
    assert pattern.triu(1).abs().max() == 0
    torch.testing.assert_close(pattern @ seen["layers.1.v"], seen["layers.1.z"])


def test_what_a_listener_returns_goes_on(model: GPT) -> None:
    tokens = torch.randint(7, (1, 9))
    with listening(model, {"layers.1.attn_out": torch.zeros_like, "layers.1.mlp_out": torch.zeros_like}):
        skipped = model(tokens)
    resid = trace(model, tokens, ["layers.0.resid_post"])["layers.0.resid_post"]
    torch.testing.assert_close(skipped, model.head(model.final_norm(resid)))
    torch.testing.assert_close(model(tokens), trace(model, tokens, ["logits"])["logits"])


def test_one_may_look_while_another_touches(model: GPT) -> None:
    tokens = torch.randint(7, (1, 9))
    place = "layers.0.mlp_out"
    with listening(model, {place: torch.zeros_like}):
        changed = model(tokens)
        seen = trace(model, tokens)
        assert seen[place].abs().max() == 0
        torch.testing.assert_close(seen["logits"], changed)
        torch.testing.assert_close(model(tokens), changed)  # the first listener is still there
    assert (model(tokens) - changed).abs().max() > 1e-3, "and now it is gone"


def test_unknown_places_name_the_nearest(model: GPT) -> None:
    with pytest.raises(UsageError) as caught:
        trace(model, torch.zeros(1, 2, dtype=torch.long), ["layers.0.patern"])
    assert caught.value.hint == "layers.0.pattern"


@pytest.fixture
def translator() -> Transformer:
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=7, context_length=16, d_model=8, n_heads=2, d_ff=12, n_layers=2, dropout=0.3
    )
    return Transformer(config).double()


def test_a_decoders_look_at_its_source_is_seen(translator: Transformer) -> None:
    """(B, H, T, S): every target's place divides its attention among the tokens of its own source."""
    source = torch.tensor([[1, 2, 3, 0], [4, 0, PADDING, PADDING]])
    target = torch.tensor([[0, 5, 6], [0, 2, PADDING]])
    seen = trace(
        translator, (source, target), ["decoder.*.cross.*", "decoder.1.resid_*", "encoded", "logits"]
    )
    assert translator.training
    translator.eval()
    torch.testing.assert_close(seen["logits"], translator(source, target))
    pattern = seen["decoder.1.cross.pattern"]
    assert pattern.shape == (2, 2, 3, 4)
    torch.testing.assert_close(pattern.sum(-1), torch.ones(2, 2, 3, dtype=torch.float64))
    assert not pattern[1, :, :, 2:].any()
    torch.testing.assert_close(pattern @ seen["decoder.1.cross.v"], seen["decoder.1.cross.z"])
    cross = translator.decoder[1].cross_attention
    k, v = cross.remember(seen["encoded"])
    torch.testing.assert_close(seen["decoder.1.cross.k"], k)
    torch.testing.assert_close(seen["decoder.1.cross.v"], v)
    q = cross.queries(seen["decoder.1.resid_mid"]).view(2, 3, 2, 4).transpose(1, 2)
    torch.testing.assert_close((q @ k.mT / 2)[0], seen["decoder.1.cross.attn_scores"][0])


def test_everything_in_an_encoder_decoder_has_a_name(translator: Transformer) -> None:
    tokens = torch.tensor([[1, 2, 0]])
    assert set(trace(translator, (tokens, tokens))) == set(names(translator))
    with pytest.raises(UsageError) as caught:
        trace(translator, (tokens, tokens), ["decoder.0.cros.pattern"])
    assert caught.value.hint == "decoder.0.cross.pattern"


def test_teacher_forced_it_is_what_was_seen_while_writing(translator: Transformer) -> None:
    source, target = torch.tensor([[1, 2, 3, 0]]), torch.tensor([[0, 5, 6, 1]])
    (whole,) = trace(translator, (source, target), ["decoder.1.cross.pattern"]).values()
    translator.eval()
    cache, seen = translator.start(source, 1, 4), []
    with listening(translator, {"decoder.1.cross.pattern": lambda value: (seen.append(value), value)[1]}):
        for t in range(4):
            translator.step(target[:, t : t + 1], cache)
    torch.testing.assert_close(torch.cat(seen, dim=2), whole)
