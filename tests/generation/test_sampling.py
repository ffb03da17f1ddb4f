"""Filters against their definitions, written as slow loops; draws against the distribution they come from."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from primer.errors import DataError, UsageError
from primer.generation.sampling import Sampling, choose, distribution

# In eighths: two logits are equal or clearly different, however a filter rounds.
LOGITS = st.lists(st.integers(-64, 64).map(lambda n: n / 8), min_size=1, max_size=12, unique=True)


def slowly(logits: list[float], sampling: Sampling, previous: set[int]) -> list[float]:
    """Every filter by its definition, on Python floats."""
    penalty = sampling.repetition_penalty
    values = [
        (x / penalty if x > 0 else x * penalty) if token in previous else x for token, x in enumerate(logits)
    ]
    values = [x / sampling.temperature for x in values]
    alive = set(range(len(values)))

    def probabilities() -> dict[int, float]:
        top = max(values[i] for i in alive)
        weights = {i: math.exp(values[i] - top) for i in alive}
        return {i: w / sum(weights.values()) for i, w in weights.items()}

    if sampling.top_k:
        kth = sorted((values[i] for i in alive), reverse=True)[: sampling.top_k][-1]
        alive = {i for i in alive if values[i] >= kth}
    if sampling.top_p < 1:
        p, total, kept = probabilities(), 0.0, set()
        for i in sorted(alive, key=lambda i: -p[i]):
            kept.add(i)
            total += p[i]
            if total >= sampling.top_p:
                break
        alive = kept
    if sampling.min_p:
        p = probabilities()
        alive = {i for i in alive if p[i] >= sampling.min_p * max(p.values())}
    p = probabilities()
    return [p.get(i, 0.0) for i in range(len(values))]


@settings(deadline=None, max_examples=150)
@given(
    logits=LOGITS,
    temperature=st.sampled_from([0.3, 1.0, 2.0]),
    top_k=st.integers(0, 14),
    top_p=st.sampled_from([0.05, 0.37, 0.81, 1.0]),
    min_p=st.sampled_from([0.0, 0.013, 0.41, 1.0]),
    penalty=st.sampled_from([1.0, math.sqrt(3), 1 / math.sqrt(2)]),
    previous=st.sets(st.integers(0, 11), max_size=4),
)
def test_every_filter_is_its_definition(logits, temperature, top_k, top_p, min_p, penalty, previous):
    sampling = Sampling(penalty, temperature, top_k, top_p, min_p)
    previous = {i for i in previous if i < len(logits)} or {0}
    ours = distribution(
        torch.tensor([logits], dtype=torch.float64), sampling, torch.tensor([sorted(previous)])
    )
    assert ours[0].tolist() == pytest.approx(slowly(logits, sampling, previous), abs=1e-9)


@pytest.mark.parametrize(("p", "kept"), [(0.01, 1), (0.49, 1), (0.51, 2), (0.79, 2), (0.81, 3), (0.96, 4)])
def test_top_p_keeps_just_enough(p, kept):
    probabilities = torch.tensor([[0.15, 0.5, 0.05, 0.3]])
    assert distribution(probabilities.log(), Sampling(top_p=p)).count_nonzero() == kept


def test_greedy_is_penalised_too():
    logits = torch.tensor([[2.0, 1.5]])
    sampling = Sampling(temperature=0.0, repetition_penalty=2.0)
    assert choose(logits, sampling, previous=torch.tensor([[0]])).item() == 1


def test_rows_are_independent():
    logits = torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
    previous = torch.arange(15).view(5, 3) % 9
    sampling = Sampling(temperature=0.7, top_k=6, top_p=0.9, min_p=0.05, repetition_penalty=1.3)
    together = distribution(logits, sampling, previous)
    for row in range(5):
        alone = distribution(logits[row : row + 1], sampling, previous[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone)


def test_a_repeated_token_is_penalised_once():
    sampling = Sampling(repetition_penalty=2.0)
    logits = torch.tensor([[2.0, -1.0, 0.5]])
    once = distribution(logits, sampling, torch.tensor([[0, 1]]))
    thrice = distribution(logits, sampling, torch.tensor([[0, 1, 0, 0, 1]]))
    torch.testing.assert_close(once, thrice, rtol=0, atol=0)
    torch.testing.assert_close(once, torch.tensor([[1.0, -2.0, 0.5]]).softmax(-1))


def test_greedy_is_the_largest_and_draws_nothing():
    logits = torch.randn(4, 7, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    before = generator.get_state()
    assert torch.equal(choose(logits, Sampling(temperature=0.0), generator), logits.argmax(-1))
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("temperature", [1e-300, 1e-42, 1e-6])
def test_tiny_temperatures_are_greedy_not_nan(temperature):
    logits = torch.tensor([[3e4, 2e4, -1.0, 0.0]])
    assert choose(logits, Sampling(temperature=temperature)).item() == 0


def test_draws_follow_the_distribution():
    """20,000 draws: each count within five standard deviations of its expectation."""
    logits = torch.randn(1, 6, generator=torch.Generator().manual_seed(3))
    sampling = Sampling(temperature=1.5, top_k=5)
    n = 20_000
    drawn = choose(logits.expand(n, -1), sampling, torch.Generator().manual_seed(4))
    p = distribution(logits, sampling)[0]
    deviation = (torch.bincount(drawn, minlength=6) - n * p).abs()
    assert (deviation <= 5 * (n * p * (1 - p)).sqrt()).all()


def test_same_seed_same_draws():
    logits = torch.zeros(50, 100)
    first, second, other = (choose(logits, Sampling(), torch.Generator().manual_seed(s)) for s in (5, 5, 6))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_bfloat16_logits_are_drawn_from_in_float32():
    logits = torch.randn(1, 30, generator=torch.Generator().manual_seed(6)).bfloat16()
    torch.testing.assert_close(distribution(logits, Sampling()), logits.float().softmax(-1), rtol=0, atol=0)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_are_an_error(poison, temperature):
    logits = torch.zeros(2, 5)
    logits[1, 3] = poison
    with pytest.raises(DataError, match="not finite"):
        choose(logits, Sampling(temperature=temperature))


def test_minus_infinity_means_never_but_not_for_all():
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf]])
    assert choose(logits, Sampling()).item() == 1
    with pytest.raises(DataError):
        choose(torch.full((1, 3), -torch.inf), Sampling())


@pytest.mark.parametrize(
    "impossible",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"min_p": -0.1},
        {"min_p": float("nan")},
        {"repetition_penalty": 0.0},
    ],
)
def test_impossible_values_are_usage_errors(impossible):
    with pytest.raises(UsageError, match=next(iter(impossible))):
        Sampling(**impossible)
