"""Cheap random choices. On a CPU `bernoulli_` takes about 20 ns an element, which is a sixth of a training step."""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt64
from torch import Tensor

ROW = 256
"""Elements that share a threshold."""


def keep_mask(shape: torch.Size | tuple[int, ...], dropout: float, *, like: Tensor) -> Float[Tensor, "..."]:
    """1 with probability 1 − dropout, else 0, from torch's generator of the CPU.

    One random byte decides an element: below a threshold, 256 · the rarer chance, it is what is rarer, dropped or kept.
    That is rounded down or up at random, for each row of 256 elements anew, so that every chance is met.
    The mask has the dtype of `like`: to multiply by numbers is four times as fast as by booleans.
    """
    count = math.prod(shape)
    rows = max(1, -(-count // ROW))
    mask = torch.empty(rows, ROW, dtype=like.dtype)
    drawn = random_words(rows * ROW // 8).view(torch.uint8).view(rows, ROW)
    rarer = min(dropout, 1 - dropout) * 256  # at most 128: a threshold above 255 is no byte
    threshold = (torch.rand(rows, 1) < rarer % 1).to(torch.uint8) + int(rarer)
    (torch.lt if dropout > 0.5 else torch.ge)(drawn, threshold, out=mask)
    return mask.view(-1)[:count].view(shape)


def random_words(count: int) -> UInt64[Tensor, " count"]:
    """Random 64-bit words: torch's generator gives a seed, SFC64 the rest, in less time than torch's.

    The same seed is the same words in every process. Small Fast Counting is C. Doty-Humphrey's, in PractRand.
    """
    seed = int(torch.randint(2**63 - 1, ()))
    return torch.from_numpy(np.random.SFC64(seed).random_raw(count))


GOLDEN, FIRST_FACTOR, SECOND_FACTOR = 0x9E3779B9, 0x7FEB352D, 0x846CA68B
"""2³²/φ, by which counters go on; the factors of C. Wellons' `lowbias32`, a hash found by search for little bias."""


def kept_at(
    seed: int, heads: int, T: int, S: int, dropout: float, *, device: torch.device | None = None
) -> Bool[Tensor, "N T S"]:
    """Which of the weights of attention stay: a function of the seed and of where a weight is, so never stored.

    Counter-based: head n's query t has the row number r = n·T + t and the key r' = mix(seed + mix(r)); word number i is
    mix(r' + i·golden), and the byte of word ⌊s/4⌋ with the number s mod 4 decides key s. It stays if the byte is at
    least the threshold 256·dropout, which is rounded up or down at random, row by row (by word −1), so that in the mean
    the chance is met. Every implementation draws these bits; this one is to be read, and to judge them by.
    """
    row = mixed(seed + mixed(torch.arange(heads * T, device=device)))[:, None]  # (N·T, 1)
    threshold = int(dropout * 256) + (mixed(row - GOLDEN) < dropout * 256 % 1 * 2**32).long()
    words = mixed(row + torch.arange(-(-S // 4), device=device) * GOLDEN)  # (N·T, S / 4)
    drawn = words[..., None] >> torch.arange(0, 32, 8, device=device) & 255
    return (drawn.flatten(-2)[:, :S] >= threshold).view(heads, T, S)


def mixed(x: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """A hash of 32 bits (`lowbias32`): every bit of the result depends on every bit of x. The numbers are int64 ≥ 0."""
    x = x & 0xFFFFFFFF
    x = (x ^ x >> 16) * FIRST_FACTOR & 0xFFFFFFFF
    x = (x ^ x >> 15) * SECOND_FACTOR & 0xFFFFFFFF
    return x ^ x >> 16
