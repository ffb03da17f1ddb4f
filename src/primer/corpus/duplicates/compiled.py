"""The two loops that numpy cannot do without a large matrix, or at all, compiled by numba (extra [corpus])."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

MERSENNE_61 = np.uint64((1 << 61) - 1)
BITS = np.uint64(61)
HIGHEST = np.uint64((1 << 64) - 1)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled when it is first called, and kept on disk where there is a place for it."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither this folder nor the user's cache can be written
        return njit(nogil=True)(function)


@compiled
def minima(shingles: NDArray[np.uint64], a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """`minhash.minima_in_numpy`, one permutation at a time and without a division.

    v mod (2^61 − 1) is r = (v mod 2^61) + (v >> 61), or r less the modulus where that is no smaller. As the other of
    the two then wraps to something huge, both may take part in the minimum, and the loop has no branch.
    """
    smallest = np.empty(len(a), dtype=np.uint64)
    for j in range(len(a)):
        least = HIGHEST
        for i in range(len(shingles)):
            v = shingles[i] * a[j] + b[j]
            r = (v & MERSENNE_61) + (v >> BITS)
            least = min(least, min(r, r - MERSENNE_61))
        smallest[j] = least
    return smallest


@compiled
def unite(parents: NDArray[np.int64], pairs: NDArray[np.int64]) -> None:
    """Join the trees of each pair, the larger root below the smaller; on the way up, paths are halved."""
    for k in range(len(pairs)):
        one, other = pairs[k, 0], pairs[k, 1]
        while parents[one] != one:
            parents[one] = parents[parents[one]]
            one = parents[one]
        while parents[other] != other:
            parents[other] = parents[parents[other]]
            other = parents[other]
        parents[max(one, other)] = min(one, other)


@compiled
def flatten(parents: NDArray[np.int64]) -> None:
    """Lead each number straight to its root. No parent is larger than its child, so one pass upwards will do."""
    for i in range(len(parents)):
        parents[i] = parents[parents[i]]
