"""Cheap random choices. On a CPU `bernoulli_` takes about 20 ns an element, which is a sixth of a training step."""

import math

import numpy as np
import torch
from jaxtyping import Float, UInt64
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
