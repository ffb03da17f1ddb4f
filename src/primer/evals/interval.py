"""How far a figure can be trusted that was measured on a few questions."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z = 1.959963984540054
"""Of the normal distribution, 95 % lie within ± z standard deviations."""


@dataclass(frozen=True)
class Estimate:
    """What was measured on some questions, and between which values it lies for all such, with 95 % confidence."""

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
