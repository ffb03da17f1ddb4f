import math

import torch

from primer.floats.formats import FORMATS
from primer.lens.exponents import HELD, Batch, Exponents, Part, exponents
from primer.models.config import GPTConfig
from primer.models.gpt import GPT


def test_exponents_are_counted_one_by_one() -> None:
    found = Exponents()
    found.add(torch.tensor([1.0, 1.99, -2.0, 0.49, 0.0, -0.0, 2.0**-140, torch.inf, torch.nan]))
    assert found.counts == {0: 2, 1: 1, -2: 1, -140: 1}
    assert (found.zeros, found.strange, found.total) == (2, 2, 5)
    assert found.share(0, 2) == 3 / 5


def test_log_normal_gradients_vanish_in_fp16_and_are_saved_by_a_scale() -> None:
    """31 % of numbers whose logarithm is normal about 10^-7 lie below half of fp16's smallest; times 2^12, 0.1 %."""
    generator = torch.Generator().manual_seed(0)
    x = torch.exp(torch.randn(200_000, generator=generator) * 2 + math.log(8e-8))
    found, scaled = Exponents(), Exponents()
    found.add(x)
    scaled.add(x * 2**12)
    flushed = (x < 2.0**-25).float().mean().item()
    assert abs(found.share(-200, -25) - flushed) < 1e-6
    assert 0.28 < flushed < 0.34
    assert scaled.share(-200, -25) < 0.002


def test_what_a_format_loses_is_counted_number_by_number() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(5000, generator=generator) * torch.exp(9 * torch.randn(5000, generator=generator))
    edges = [
        s * n
        for form in HELD.values()
        for n in (float(form.largest), float(form.smallest) / 2)
        for s in (1, -1)
    ]
    edges = torch.tensor([e for e in edges if 0 < abs(e) < torch.inf])
    beyond = torch.nextafter(edges, edges * 2)
    x = torch.cat([x, edges, beyond, torch.tensor([7.9, 500.0, 0.0, torch.inf, torch.nan])])
    found = Exponents()
    for part in x.split(1000):
        found.add(part)
    sizes = x[torch.isfinite(x) & (x != 0)].abs().double()
    for name, form in HELD.items():
        assert found.above.get(name, 0) == int((sizes > float(form.largest)).sum()), name
        assert found.below.get(name, 0) == int((sizes <= float(form.smallest) / 2).sum()), name
    assert "fp32" not in HELD
    assert float(FORMATS["bf16"].smallest) / 2 == 2.0**-134, "which fp32 can say"


def test_gradients_are_those_of_a_whole_batch_however_little_is_read() -> None:
    """Of 2 rows of a batch of 8: activations have the gradients that they have in the batch of 8, to the last bit."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=11, context_length=8, d_model=16, n_layers=1, n_heads=2))
    tokens = torch.randint(11, (8, 8))
    whole = exponents(model, [Batch([Part((rows,), rows, 0.25) for rows in tokens.split(2)])])
    part = exponents(model, [Batch([Part((rows,), rows)], 0.25) for rows in tokens.split(2)])
    assert whole["gradients of activations"].counts == part["gradients of activations"].counts
    alone = exponents(model, [Batch([Part((tokens,), tokens)], 3.0)])["gradients of weights"]
    plain = exponents(model, [Batch([Part((tokens,), tokens)])])["gradients of weights"]
    assert alone.total == plain.total, "of weights, the gradients of the mean over what is there"
    middle = [sum(e * n for e, n in each.counts.items()) / each.total for each in (alone, plain)]
    assert abs(middle[0] - middle[1]) < 0.01

    rest = [Batch([Part((tokens,), tokens)]), Batch([Part((tokens[:1, :3],), tokens[:1, :3])], 3 / 64)]
    both = exponents(model, rest)
    assert both["gradients of weights"].counts == plain.counts
    assert both["activations"].total > whole["activations"].total


def test_a_models_numbers_are_those_that_it_computes() -> None:
    torch.manual_seed(0)
    model = GPT(
        GPTConfig(
            vocab_size=11, context_length=8, d_model=16, n_layers=1, n_heads=2, feed_forward_dropout=0.5
        )
    )
    tokens = torch.arange(8)[None] % 11
    found = exponents(model, [Batch([Part((tokens,), tokens)])])
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert found["weights"].total + found["weights"].zeros == weights.numel()
    assert found["weights"].zeros == int((weights == 0).sum())

    model.eval()  # nothing is dropped while one looks
    model(tokens, targets=tokens).backward()
    wanted = Exponents()
    for p in model.parameters():
        wanted.add(p.grad)
    assert found["gradients of weights"].counts == wanted.counts
    assert found["activations"].total > 8 * 16 * 8
    assert found["gradients of activations"].total > 8 * 16 * 4


def test_nothing_is_left_behind() -> None:
    model = GPT(GPTConfig(vocab_size=11, context_length=8, d_model=16, n_layers=1, n_heads=2)).train()
    tokens = torch.arange(8)[None] % 11
    exponents(model, [Batch([Part((tokens,), tokens)])])
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert not any(getattr(module, "listener", None) for module in model.modules())
