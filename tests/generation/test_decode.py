"""Decoding against recomputing every window from the start."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from primer.errors import DataError, UsageError
from primer.generation.decode import generate
from primer.generation.sampling import Sampling
from primer.models.config import GPTConfig, NGramConfig
from primer.models.gpt import GPT

OPTIONS = {
    "plain": {},
    "rotary, grouped": {"positions": "rotary", "n_kv_heads": 1, "norm_type": "rmsnorm", "qk_norm": True},
    "sinusoidal, post": {"positions": "sinusoidal", "norm": "post"},
    "n-grams": {"positions": "none", "ngram": NGramConfig(orders=(2, 3), rows=64), "activation": "swiglu"},
    "counted": {"positions": "rotary", "ngram": NGramConfig(counted=3), "embedding_norm": True},
}


def small(seed: int = 0, **options: object) -> GPT:
    """A model with weights large enough that what it writes depends on what it reads."""
    torch.manual_seed(seed)
    sizes = {
        "vocab_size": 11,
        "context_length": 8,
        "d_model": 16,
        "n_layers": 2,
        "n_heads": 2,
        "init_std": 0.5,
    }
    model = GPT(GPTConfig(**(sizes | options))).double()
    if model.counts is not None:
        model.counts.fit(torch.randint(11, (500,)))
    return model


class Recorder:
    """Keeps the logits that a model's decoding chose from."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from primer.generation import decode

        self.logits: list[Tensor] = []
        choose = decode.choose

        def spy(logits: Tensor, *rest: object, **named: object) -> Tensor:
            self.logits.append(logits)
            return choose(logits, *rest, **named)

        monkeypatch.setattr(decode, "choose", spy)


def run(model: GPT, prompt: Tensor, n: int, **options: object) -> Tensor:
    options = {"generator": torch.Generator().manual_seed(7)} | options
    return torch.stack(list(generate(model, prompt, max_tokens=n, **options)), dim=1)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_cached_and_uncached_give_the_same_logits_beyond_the_context_too(options, monkeypatch):
    model = small(**options)
    prompt = torch.tensor([[1, 2, 3], [4, 5, 6]])
    recorder = Recorder(monkeypatch)
    sampling = Sampling(temperature=0.8, repetition_penalty=1.2)
    cached = run(model, prompt, 30, sampling=sampling)
    with_cache, recorder.logits = recorder.logits, []
    assert torch.equal(cached, run(model, prompt, 30, sampling=sampling, use_cache=False))
    torch.testing.assert_close(torch.stack(with_cache), torch.stack(recorder.logits), rtol=0, atol=1e-12)


def test_the_window_grows_to_the_context_and_restarts_from_its_last_half(monkeypatch):
    """Greedy decoding by the rule, each window from its start: of 3 … 8 tokens, then 4 … 8 again and again."""
    model = small()
    tokens = torch.tensor([[1, 2, 3]])
    sampling = Sampling(temperature=0.0, repetition_penalty=1.5)  # counts what is in the window
    written = run(model, tokens, 20, sampling=sampling)
    lengths = [3, 4, 5, 6, 7, 8] + [4, 5, 6, 7, 8] * 3
    for n, length in enumerate(lengths[:20]):
        with torch.no_grad():
            logits = model.eval()(tokens[:, -length:])[:, -1]
        for token in set(tokens[0, -length:].tolist()):
            logits[0, token] *= 1.5 if logits[0, token] < 0 else 1 / 1.5
        expected = logits.argmax(-1)
        assert torch.equal(written[:, n], expected), f"token {n}"
        tokens = torch.cat([tokens, expected[:, None]], dim=1)


def test_of_a_long_prompt_the_end_is_read():
    model = small()
    long = torch.arange(40)[None] % 11
    assert torch.equal(run(model, long, 12), run(model, long[:, -8:], 12))


def test_a_context_of_one():
    model = small(context_length=1)
    assert run(model, torch.tensor([[3, 4]]), 5).shape == (1, 5)


def test_rows_of_a_batch_do_not_meet():
    model = small()
    prompts = torch.tensor([[1, 2, 3], [9, 8, 7], [0, 0, 0]])
    together = run(model, prompts, 14, sampling=Sampling(temperature=0.0))
    for row in range(3):
        alone = run(model, prompts[row : row + 1], 14, sampling=Sampling(temperature=0.0))
        assert torch.equal(together[row : row + 1], alone)


def test_dropout_is_off_and_every_module_gets_its_mode_back():
    model = small(pattern_dropout=0.5, feed_forward_dropout=0.5, embedding_dropout=0.5)
    prompt = torch.tensor([[1, 2, 3]])
    expected = run(model.eval(), prompt, 10)
    model.train()
    model.layers[1].eval()  # someone froze a part
    modes = [module.training for module in model.modules()]
    assert torch.equal(run(model, prompt, 10), expected)
    assert [module.training for module in model.modules()] == modes
    unfinished = generate(model, prompt, max_tokens=10)
    next(unfinished)
    unfinished.close()
    assert [module.training for module in model.modules()] == modes


def test_modes_come_back_after_an_error():
    model = small().train()
    with torch.no_grad():
        model.head.weight.fill_(float("nan"))
    with pytest.raises(DataError, match="not finite"):
        run(model, torch.tensor([[1]]), 3)
    assert all(module.training for module in model.modules())


def test_gradients_are_off_inside_and_untouched_outside():
    model = small()
    for ids in generate(model, torch.tensor([[1]]), max_tokens=3):
        assert torch.is_grad_enabled()
        assert not ids.requires_grad
    assert all(p.grad is None for p in model.parameters())


def test_stop_ends_rows_and_then_the_iterator():
    model = small()
    prompt = torch.tensor([[1, 2], [5, 6], [7, 3]])
    free = run(model, prompt, 40)
    stop = 4
    assert (free == stop).any(dim=1).all(), "the seed must let every row draw the stop id"
    first = [row.index(stop) for row in free.tolist()]
    stopped = run(model, prompt, 40, stop=[stop])
    # A row that has ended changes no other row's draws.
    assert stopped.shape[1] == max(first) + 1
    for row, end in enumerate(first):
        assert torch.equal(stopped[row, : end + 1], free[row, : end + 1])
        assert (stopped[row, end:] == stop).all()


@pytest.mark.parametrize(
    "prompt", [torch.zeros(1, 0, dtype=torch.long), torch.tensor([[11]]), torch.tensor([[-1]])]
)
def test_impossible_prompts_are_usage_errors(prompt):
    with pytest.raises(UsageError):
        run(small(), prompt, 1)
