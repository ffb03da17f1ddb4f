"""A mask is what a chance says: tested as coins are, by counting."""

import math

import pytest
import torch

from primer.kernels.random import ROW, keep_mask


@pytest.mark.parametrize("dropout", [0.0, 0.001, 0.1, 0.2, 0.5, 0.9, 0.999])
def test_as_many_stay_as_the_chance_says(dropout: float) -> None:
    torch.manual_seed(0)
    count = 400_000
    kept = keep_mask((count,), dropout, like=torch.empty(0)).sum().item()
    # Coins, and for each row of elements another one, that rounds the threshold of the row.
    rounding = (ROW / 256) ** 2 * (count / ROW) * (dropout * 256 % 1) * (1 - dropout * 256 % 1)
    spread = math.sqrt(count * dropout * (1 - dropout) + rounding)
    assert abs(kept - count * (1 - dropout)) <= 4 * spread


def test_a_chance_between_two_bytes_is_met_on_the_average() -> None:
    """0.1 is 25.6 of 256: 25 and 26 would be told from it by so many elements."""
    torch.manual_seed(2)
    count = 20_000_000
    dropped = count - keep_mask((count,), 0.1, like=torch.empty(0)).sum(dtype=torch.float64).item()
    assert abs(dropped / count - 0.1) < 0.0004 < 0.1 - 25 / 256


def test_neighbours_do_not_know_of_each_other() -> None:
    """Eight elements share one random word: every pattern of eight must be as frequent as chance makes it."""
    torch.manual_seed(1)
    dropout, groups = 0.3, 200_000
    mask = keep_mask((groups, 8), dropout, like=torch.empty(0)).long()
    seen = torch.bincount(mask @ 2 ** torch.arange(8), minlength=256)
    for pattern in range(256):
        ones = pattern.bit_count()
        expected = groups * (1 - dropout) ** ones * dropout ** (8 - ones)
        assert abs(seen[pattern].item() - expected) < 5 * math.sqrt(expected), f"{pattern:08b}"
    later = (mask[1:, 0] * mask[:-1, 7]).double().mean().item()
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
