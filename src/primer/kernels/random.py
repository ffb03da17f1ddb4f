"""Cheap random choices. On a CPU `bernoulli_` takes about 20 ns an element, which is a sixth of a training step."""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8, UInt32, UInt64
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
    seed: int,
    heads: int,
    T: int,
    S: int,
    dropout: float,
    *,
    queries: range | None = None,
    keys: range | None = None,
    device: torch.device | None = None,
) -> Bool[Tensor, "N rows columns"]:
    """Which of the weights of attention stay: a function of the seed and of where a weight is, so never stored.

    Counter-based: head n's query t has the row number r = n·T + t and the key r' = mix(seed + mix(r)); word number i is
    mix(r' + i·golden), and the byte of word ⌊s/4⌋ with the number s mod 4 decides key s. It stays if the byte is at
    least the threshold 256·dropout, which is rounded up or down at random, row by row (by word −1), so that in the mean
    the chance is met. Every implementation draws these bits; this one is to be read, and to judge them by.
    queries, keys: only a tile of the T × S.
    """
    queries, keys = range(T) if queries is None else queries, range(S) if keys is None else keys
    t = torch.arange(queries.start, queries.stop, device=device)
    row = mixed(seed + mixed(torch.arange(heads, device=device)[:, None] * T + t))[..., None]  # (N, rows, 1)
    threshold = int(dropout * 256) + raised(mixed(row - GOLDEN), dropout).long()
    words = mixed(row + torch.arange(keys.start // 4, -(-keys.stop // 4), device=device) * GOLDEN)
    drawn = words[..., None] >> torch.arange(0, 32, 8, device=device) & 255  # (N, rows, words, 4)
    first = keys.start % 4
    return drawn.flatten(-2)[..., first : first + len(keys)] >= threshold


def raised(word: Int[Tensor, "..."], dropout: float) -> Bool[Tensor, "..."]:
    """Whether a row's threshold is rounded up: where a random word is below what 256·dropout has behind its point."""
    return word < dropout * 256 % 1 * 2**32


def mixed(x: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """A hash of 32 bits (`lowbias32`): every bit of the result depends on every bit of x. The numbers are int64 ≥ 0."""
    x = x & 0xFFFFFFFF
    x = (x ^ x >> 16) * FIRST_FACTOR & 0xFFFFFFFF
    x = (x ^ x >> 15) * SECOND_FACTOR & 0xFFFFFFFF
    return x ^ x >> 16


class KeptTiles:
    """`kept_at` for a CPU, a tile at a time: the same bits, from words of 32 bits, in memory that is used again.

    numpy's unsigned words wrap where the definition says `& 0xFFFFFFFF`. Four keys are the four bytes of a word as they
    lie in the memory of a little-endian machine.
    """

    def __init__(self, seed: int, heads: int, T: int, dropout: float) -> None:
        row = np.arange(heads * T, dtype=np.uint32)
        spare = np.empty_like(row)
        mix_in_place(row, spare)
        row += np.uint32(seed & 0xFFFFFFFF)
        mix_in_place(row, spare)
        self.rows = torch.from_numpy(row.view(np.int32)).view(heads, T)
        more = raised(
            torch.from_numpy(mix_in_place(row - np.uint32(GOLDEN), spare).astype(np.int64)), dropout
        )
        # 0 to 256 is one threshold too many for a byte: "at least 1 to 256" is "more than 0 to 255".
        least = int(dropout * 256)
        self.stays = torch.gt if least else torch.ge
        self.thresholds = (more.to(torch.uint8) + (least - 1 if least else 0)).view(heads, T)

    def write(
        self,
        out: Float[Tensor, "N R K"],
        rows: Int[Tensor, "N R"],
        thresholds: UInt8[Tensor, "N R"],
        first: int,
        words: "Words",
    ) -> Float[Tensor, "N R K"]:
        """1 where a weight stays, else 0, for K keys from `first` on; `rows` and `thresholds` are parts of these."""
        K = out.shape[2]
        begin, end = first // 4, (first + K + 3) // 4
        drawn, spare, summed, eight_bits = words.views(*rows.shape, end - begin)
        numbers = np.arange(begin, end, dtype=np.uint32) * np.uint32(GOLDEN)
        torch.add(
            rows[..., None], torch.from_numpy(numbers.view(np.int32)), out=summed
        )  # faster than numpy's
        mix_in_place(drawn, spare)
        return self.stays(eight_bits[..., first % 4 : first % 4 + K], thresholds[..., None], out=out)


class Words:
    """Memory for the words of a tile, and as much to compute with. Views of a shape are made once."""

    def __init__(self) -> None:
        self.memory = [np.empty(0, dtype=np.uint32) for _ in range(2)]
        self.known: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray, Tensor, Tensor]] = {}

    def views(self, *shape: int) -> tuple[np.ndarray, np.ndarray, Tensor, Tensor]:
        """Both, in this shape, and the first of them as tensors: of signed words and of bytes."""
        if shape not in self.known:
            size = math.prod(shape)
            if len(self.memory[0]) < size:
                self.memory, self.known = [np.empty(2 * size, dtype=np.uint32) for _ in range(2)], {}
            drawn, spare = (each[:size].reshape(shape) for each in self.memory)
            summed = torch.from_numpy(drawn.view(np.int32))
            self.known[shape] = drawn, spare, summed, summed.view(torch.uint8)
        return self.known[shape]


def mix_in_place(x: UInt32[np.ndarray, "..."], spare: UInt32[np.ndarray, "..."]) -> UInt32[np.ndarray, "..."]:
    """`mixed`, written over x; `spare` is as large as x."""
    for shift, factor in ((16, FIRST_FACTOR), (15, SECOND_FACTOR), (16, None)):
        x ^= np.right_shift(x, np.uint32(shift), out=spare)
        if factor is not None:
            x *= np.uint32(factor)
    return x
