"""How far a figure can be trusted that was measured on a few questions, or in a few runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Z = 1.959963984540054
"""Of the normal distribution, 95 % lie within ± z standard deviations."""


@dataclass(frozen=True)
class Estimate:
    """What was measured on some questions or runs, and between which values it lies for all such, to 95 %."""

    value: float
    low: float
    high: float


def wilson(k: int, n: int, z: float = Z) -> Estimate:
    """k / n with Wilson's interval (1927), which unlike k/n ± z·σ never leaves [0, 1] and is right for small n, too.

        (p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n),  p = k/n

    It takes the questions for a sample of all questions of their kind; another training of the same model varies
    besides.
    """
    p = k / n
    centre = p + z * z / (2 * n)
    width = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low, high = (centre - width) / scale, (centre + width) / scale
    return Estimate(p, max(0.0, min(low, p)), min(1.0, max(high, p)))  # p is between them but for rounding


def mean(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """The mean of a few measurements with Student's interval (1908): m ± t·s/√n, with s² = Σ(x − m)²/(n − 1).

    Of differences between pairs of runs it is the paired t-test's: what both runs of a pair have in common, such as the
    order of their batches, is not taken for an effect, nor does it hide one. It takes the measurements for independent
    and normal. Two at least: one alone does not say how far they scatter.
    """
    n = len(values)
    assert n > 1, "one measurement has no interval"
    m = math.fsum(values) / n
    s = math.sqrt(math.fsum((x - m) ** 2 for x in values) / (n - 1))
    width = student_t(n - 1, confidence) * s / math.sqrt(n)
    return Estimate(m, m - width, m + width)


def student_t(freedom: int, confidence: float = 0.95) -> float:
    """The t of Student's distribution with so many degrees of freedom: with this confidence, |T| is not above it.

    >>> round(student_t(2), 4)
    4.3027
    """
    low, high = 0.0, 1.0
    while within_t(high, freedom) < confidence:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:  # until no number lies between the two
        low, high = (middle, high) if within_t(middle, freedom) < confidence else (low, middle)
    return high


def within_t(t: float, freedom: int) -> float:
    """P(|T| ≤ t) of Student's distribution, t ≥ 0, in closed form (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4).

    θ = atan(t/√ν);  ν odd:  2/π · (θ + sin θ · (cos θ + ⅔ cos³θ + … + (2·4…(ν−3))/(3·5…(ν−2)) · cos^(ν−2) θ))
                     ν even: sin θ · (1 + ½ cos²θ + … + (1·3…(ν−3))/(2·4…(ν−2)) · cos^(ν−2) θ)
    """
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term, total = math.cos(angle) if odd else 1.0, 0.0
    for k in range(odd + 1, freedom, 2):  # the factor of the next term is k/(k + 1) · cos²θ
        total += term
        term *= k / (k + 1) * math.cos(angle) ** 2
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
