"""Wilson's interval by its definition: the shares that k of n is not too far from."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer.evals.interval import Z, wilson


def test_z_is_that_of_95_percent() -> None:
    assert math.erf(Z / math.sqrt(2)) == pytest.approx(0.95, abs=1e-15)


@given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_at_its_ends_the_share_is_z_deviations_away(kn: tuple[int, int]) -> None:
    """|p − q| = z·√(q(1 − q)/n) at both ends q, which is where the score test stops rejecting."""
    k, n = kn
    found = wilson(k, n)
    assert 0 <= found.low <= found.value == k / n <= found.high <= 1
    for q, at_edge in ((found.low, k == 0), (found.high, k == n)):
        if at_edge:
            assert q == pytest.approx(found.value, abs=1e-12)
        else:
            assert abs(found.value - q) == pytest.approx(Z * math.sqrt(q * (1 - q) / n), rel=1e-6)


def test_a_published_example() -> None:
    """Newcombe 1998, table I: 81 of 263."""
    found = wilson(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
