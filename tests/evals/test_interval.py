"""Wilson's interval by its definition: the shares that k of n is not too far from. Student's by tables and his data."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer.evals.interval import Z, mean, student_t, wilson


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


@pytest.mark.parametrize(
    ("freedom", "confidence", "published"),
    [
        (1, 0.95, 12.706),
        (2, 0.95, 4.303),
        (3, 0.95, 3.182),
        (4, 0.95, 2.776),
        (5, 0.95, 2.571),
        (9, 0.95, 2.262),
        (10, 0.99, 3.169),
        (7, 0.90, 1.895),
        (30, 0.95, 2.042),
        (120, 0.95, 1.980),
    ],
)
def test_t_is_that_of_the_tables(freedom: int, confidence: float, published: float) -> None:
    """Fisher & Yates 1963, table III, as every textbook prints it."""
    assert round(student_t(freedom, confidence), 3) == published


@given(st.integers(1, 200), st.floats(0.5, 0.999))
def test_t_leaves_out_what_it_should(freedom: int, confidence: float) -> None:
    """The density, integrated by Simpson's rule: another way to the same share."""
    t = student_t(freedom, confidence)
    scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2

    def density(angle: float) -> float:  # with t = √ν · tan θ, so that the tail of ν = 1 has an end
        x = math.sqrt(freedom) * math.tan(angle)
        return math.exp(scale - (freedom + 1) / 2 * math.log1p(x * x / freedom)) * (
            math.sqrt(freedom) + x * x / math.sqrt(freedom)
        )

    steps, edge = 400, math.atan(t / math.sqrt(freedom))
    values = [density(edge * k / steps) for k in range(steps + 1)]
    inner = 4 * sum(values[1:-1:2]) + 2 * sum(values[2:-1:2])
    inside = 2 * edge / steps / 3 * (values[0] + inner + values[-1])
    assert inside == pytest.approx(confidence, abs=1e-6)


def test_with_many_degrees_of_freedom_it_is_the_normal_distributions() -> None:
    assert student_t(100_001) == pytest.approx(Z, rel=1e-4)


def test_the_interval_of_a_mean_by_hand() -> None:
    """Student 1908, §IX: hours of sleep that one drug gave ten patients more than another. As the paired t-test of
    every textbook since: mean 1.58, s = 1.23, so 0.70 to 2.46.
    """
    found = mean([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])
    assert found.value == pytest.approx(1.58)
    assert (round(found.low, 4), round(found.high, 4)) == (0.7001, 2.4599)


def test_what_all_pairs_share_does_not_widen_it() -> None:
    """A constant moves the interval and nothing else; equal differences leave it without a width."""
    one, other = mean([0.1, 0.4, 0.2]), mean([5.1, 5.4, 5.2])
    assert other.high - other.low == pytest.approx(one.high - one.low)
    alike = mean([0.25, 0.25])
    assert (alike.low, alike.value, alike.high) == (0.25, 0.25, 0.25)
