"""Stretches of words by their hash, sorted, so that many are looked up at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

BASE = 0x9E3779B97F4A7C15
INVERSE = pow(BASE, -1, 1 << 64)
BYTE, BIT = np.uint64(3), np.uint64(7)
"""The byte of a bit, as a shift, and its place there, as a mask."""
NAMED = 8
"""Words that stand in more places than this, as a prompt does that all items share, are kept with the first of them."""


@dataclass(frozen=True)
class Grams:
    """Stretches of `size` words: 16 bytes each."""

    size: int
    hashes: NDArray[np.uint64]
    """Ascending."""
    where: NDArray[np.int64]
    """Of each, the byte of the index's words at which it begins."""

    def among(self, words: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of the hashes of a text's words, (place in the text, byte of the index) of each that is here, in order."""
        nothing = np.empty(0, np.int64)
        if not len(self.hashes) or len(words) < self.size:
            return nothing, nothing
        grams = gram_hashes(words, self.size)
        bits, shift = self._filter
        top = grams >> shift
        likely = np.flatnonzero(bits[top >> BYTE] >> (top & BIT).astype(np.uint8) & 1)
        first = np.searchsorted(self.hashes, grams[likely])
        counts = np.searchsorted(self.hashes, grams[likely], side="right") - first
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(likely, counts), self.where[np.repeat(first, counts) + within]

    @cached_property
    def _filter(self) -> tuple[NDArray[np.uint8], np.uint64]:
        """(a bit for each beginning of a hash, set where any begins so; how far to shift): 2 to 4 bytes a stretch.

        At least 15 of 16 hashes that are not here stop at it, and to search for all of them takes five times as long.
        """
        length = (16 * len(self.hashes)).bit_length()
        shift = np.uint64(64 - length)
        begun = np.zeros(1 << length, np.bool_)
        begun[self.hashes >> shift] = True
        return np.packbits(begun, bitorder="little"), shift


@dataclass(frozen=True)
class Words:
    """The words of many items, one item after the other."""

    text: NDArray[np.uint8]
    """In UTF-8: a blank between two words, a line end after each item."""
    starts: NDArray[np.int64]
    """The byte of each word."""
    hashes: NDArray[np.uint64]
    owners: NDArray[np.int64]
    """The item of each word, ascending."""

    @staticmethod
    def of(items: Sequence[tuple[Sequence[str], NDArray[np.uint64]]]) -> Words:
        """Of items that have at least one word each: their words, and the hashes of these."""
        text = np.frombuffer("".join(f"{' '.join(said)}\n" for said, _ in items).encode(), np.uint8)
        ends = np.flatnonzero((text == ord(" ")) | (text == ord("\n")))
        return Words(
            text,
            np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1]),
            np.concatenate([hashes for _, hashes in items]),
            np.repeat(np.arange(len(items)), [len(said) for said, _ in items]),
        )

    def grams(self, size: int) -> Grams:
        """All stretches of `size` words within an item, each in at most `NAMED` places."""
        last = len(self.owners) - size + 1
        inside = np.flatnonzero(self.owners[: max(last, 0)] == self.owners[size - 1 :])
        found = _sorted(self, size, inside)
        place = np.arange(len(found.hashes))
        first = np.searchsorted(found.hashes, found.hashes)
        kept = place - first < NAMED
        return Grams(size, found.hashes[kept], found.where[kept])

    def beginnings(self, size: int, below: int) -> Grams:
        """The first `size` words of the items that have fewer than `below`, and `size` at least."""
        lengths = np.bincount(self.owners)
        first = np.cumsum(lengths) - lengths
        return _sorted(self, size, first[(lengths >= size) & (lengths < below)])


def _sorted(words: Words, size: int, places: NDArray[np.int64]) -> Grams:
    """The stretches that begin at some words, those that are equal in the order of their places."""
    found = gram_hashes(words.hashes, size)[places]
    order = np.argsort(found, kind="stable")
    return Grams(size, found[order], words.starts[places[order]])


def gram_hashes(words: NDArray[np.uint64], size: int) -> NDArray[np.uint64]:
    """Of each `size` successive words w: w[0] + w[1]·B + … + w[size-1]·B^(size-1), modulo 2^64.

    Each is the difference of two prefix sums of w[i]·B^i, times B^-i, so that the size costs nothing.
    """
    count = len(words) - size + 1
    if count < 1:
        return np.empty(0, np.uint64)
    powers = np.cumprod(np.full(len(words), BASE, np.uint64))
    backwards = np.cumprod(np.full(count, INVERSE, np.uint64))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(words * powers)])
    return (sums[size:] - sums[:count]) * backwards
