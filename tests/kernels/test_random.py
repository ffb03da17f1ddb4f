"""A mask is what a chance says: tested as coins are, by counting."""

import math

import pytest
import torch

from primer.kernels.random import keep_mask


@pytest.mark.parametrize("dropout", [0.0, 0.001, 0.1, 0.2, 0.5, 0.9, 0.999])
def test_as_many_stay_as_the_chance_says(dropout: float) -> None:
    torch.manual_seed(0)
    count = 400_000
    kept = keep_mask((count,), dropout, like=torch.empty(0)).sum().item()
    spread = math.sqrt(count * dropout * (1 - dropout))
    assert abs(kept - count * (1 - dropout)) <= 5 * spread + count / 2**16


def test_neighbours_do_not_know_of_each_other() -> None:
    """Four elements share one random word: every pattern of four must be as frequent as chance makes it."""
    torch.manual_seed(1)
    dropout, groups = 0.3, 200_000
    mask = keep_mask((groups, 4), dropout, like=torch.empty(0)).long()
    seen = torch.bincount(mask @ torch.tensor([8, 4, 2, 1]), minlength=16)
    for pattern in range(16):
        ones = pattern.bit_count()
        expected = groups * (1 - dropout) ** ones * dropout ** (4 - ones)
        assert abs(seen[pattern].item() - expected) < 5 * math.sqrt(expected), f"{pattern:04b}"
    later = (mask[1:, 0] * mask[:-1, 3]).double().mean().item()
    assert later == pytest.approx((1 - dropout) ** 2, abs=5 * 0.5 / math.sqrt(groups))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (4,), (5,), (2, 3, 7), (0, 5)])
def test_any_shape_and_dtype(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    mask = keep_mask(shape, 0.5, like=torch.empty(0, dtype=dtype))
    assert mask.shape == shape
    assert mask.dtype == dtype
    assert bool(((mask == 0) | (mask == 1)).all())


def test_it_draws_from_torchs_generator_and_from_nothing_else() -> None:
    def draw() -> torch.Tensor:
        return keep_mask((1000,), 0.4, like=torch.empty(0))

    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, second = draw(), draw()
    torch.set_rng_state(state)
    assert torch.equal(draw(), first)
    assert torch.equal(draw(), second)
    assert not torch.equal(first, second)
