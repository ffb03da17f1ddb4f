"""Pairs of sentences as ids: batches of about as many tokens each, of pairs that are about as long.

A sentence is its ids and the end-of-text token. The decoder reads the target one token late, behind the same token:

    source   A B C ■          inputs    ■ X Y Z
                              targets   X Y Z ■
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int
from torch import Tensor

from primer.data.batches import Piece
from primer.errors import DataError, UsageError
from primer.shapes import PADDING

MOST_PADDING = 0.15
"""The share of a batch's places that padding takes at most."""

Places = npt.NDArray[np.int64]
"""Which pairs, by number."""


@dataclass(frozen=True)
class Sentences:
    """Many sentences in one array: number n is `ids[ends[n - 1] : ends[n]]`, its end-of-text token included."""

    ids: npt.NDArray[Any]
    ends: Places

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, number: int) -> npt.NDArray[Any]:
        return self.ids[self.ends[number - 1] if number else 0 : self.ends[number]]

    @cached_property
    def lengths(self) -> Places:
        """Tokens of each sentence."""
        return np.diff(self.ends, prepend=0)


@dataclass(frozen=True)
class Pairs:
    """As many sentences of the source as of the target."""

    source: Sentences
    target: Sentences

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True)
class PairBatch:
    """What the encoder reads, what the decoder reads, and the token that follows at each of its places."""

    source: Int[Tensor, "B S"]
    inputs: Int[Tensor, "B T"]
    targets: Int[Tensor, "B T"]
    whole: int
    """Targets of the batch that these rows are this process's part of."""
    longest: int
    """Tokens of the longest sentence in it, of either side."""

    def tokens(self, processes: int) -> int:
        """Targets, of all processes together."""
        return self.whole

    def pieces(self, places: int, device: torch.device, processes: int) -> list[Piece]:
        """The batch a few rows at a time: as many pieces in every process."""
        rows = max(1, places // self.longest)
        columns = [column.to(device).split(rows) for column in (self.source, self.inputs, self.targets)]
        real = [int((targets != PADDING).sum()) for targets in self.targets.split(rows)]
        return [
            Piece((source, inputs), targets, count * processes / self.whole)
            for source, inputs, targets, count in zip(*columns, real, strict=True)
        ]


def batch_of(pairs: Pairs, numbers: Sequence[int] | Places, rank: int = 0, processes: int = 1) -> PairBatch:
    """These pairs side by side, each padded to the longest; of several processes each gets as many rows.

    Where they do not come out even, a process reads the first pair once more, without a target that would count.
    """
    mine = list(numbers[rank::processes])
    spare = -(-len(numbers) // processes) - len(mine)
    source = padded([pairs.source[n] for n in [*mine, *[numbers[0]] * spare]])
    targets = padded([pairs.target[n] for n in [*mine, *[numbers[0]] * spare]])
    end = int(pairs.target[int(numbers[0])][-1])
    inputs = torch.cat([torch.full_like(targets[:, :1], end), targets[:, :-1]], dim=1)
    inputs = inputs.masked_fill(targets == PADDING, PADDING)
    targets[len(mine) :] = PADDING
    lengths = [side.lengths[list(numbers)] for side in (pairs.source, pairs.target)]
    return PairBatch(source, inputs, targets, int(lengths[1].sum()), int(max(map(np.max, lengths))))


def padded(sentences: Sequence[npt.NDArray[Any]]) -> Int[Tensor, "B S"]:
    """Sentences as rows of one tensor."""
    rows = torch.full((len(sentences), max(map(len, sentences))), PADDING)
    for row, sentence in zip(rows, sentences, strict=True):
        row[: len(sentence)] = torch.from_numpy(sentence.astype(np.int64))
    return rows


def buckets(
    source: Places, target: Places, batch_tokens: int, generator: np.random.Generator
) -> list[Places]:
    """Cut pairs of these lengths into batches: `batch_tokens` places of the source and of the target at most (but one
    pair at least), and no more than `MOST_PADDING` of them padding.

    The pairs are taken in the order of their length, target first; equal ones in a random order. The source's length
    rises with one length of the target and falls with the next, so that there are no jumps.
    """
    turn = np.where(target % 2, source, -source)
    order = np.lexsort((generator.permutation(len(source)), turn, target))
    found: list[Places] = []
    first = longest_source = longest_target = tokens = 0
    for place, (s, t) in enumerate(zip(source[order].tolist(), target[order].tolist(), strict=True)):
        rows = place - first + 1
        wide, high = max(longest_source, s), max(longest_target, t)
        full = rows * max(wide, high) > batch_tokens
        if rows > 1 and (full or tokens + s + t < (1 - MOST_PADDING) * rows * (wide + high)):
            found.append(order[first:place])
            first, wide, high, tokens = place, s, t, 0
        longest_source, longest_target, tokens = wide, high, tokens + s + t
    found.append(order[first:])
    return found


def padding(pairs: Pairs, batches: Sequence[Places]) -> float:
    """The share of all places of these batches that holds no token."""
    real = places = 0
    for lengths in (pairs.source.lengths, pairs.target.lengths):
        for batch in batches:
            real += int(lengths[batch].sum())
            places += len(batch) * int(lengths[batch].max())
    return 1 - real / places


class PairStream:
    """An endless stream of batches of about `batch_tokens` tokens of each side; every pair once an epoch.

    The batches of an epoch depend on the seed and the epoch alone. The global batch is the same whatever the number
    of ranks; rank r takes every `world_size`-th of its pairs, beginning with its r-th. A pair with a sentence of more
    than `longest` tokens is left out (`left_out` says how many are).
    """

    def __init__(
        self,
        pairs: Pairs,
        *,
        batch_tokens: int,
        longest: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_tokens < 1:
            raise UsageError(f"a batch of {batch_tokens} tokens is impossible")
        self.pairs, self.batch_tokens, self.seed = pairs, batch_tokens, seed
        self.rank, self.world_size = rank, world_size
        self.numbers = within(pairs, longest)
        self.left_out = len(pairs) - len(self.numbers)
        if not len(self.numbers):
            raise DataError(
                f"there are no pairs to train on: of {len(pairs):,} none has two sentences of {longest} tokens at most",
                hint="a longer --model.context-length, or another text",
            )
        self.epoch = self.index = 0
        self.before: list[tuple[int, int]] = []
        """Other sizes of a batch that this epoch began with, and how many batches of each were dealt."""
        self._batches: list[Places] | None = None

    def batches(self) -> list[Places]:
        """The batches of this epoch, in the order in which they are dealt."""
        if self._batches is None:
            generator = np.random.default_rng((self.seed, self.epoch))
            left, batches = self.numbers, []
            for batch_tokens, dealt in (*self.before, (self.batch_tokens, 0)):
                source, target = (side.lengths[left] for side in (self.pairs.source, self.pairs.target))
                found = buckets(source, target, batch_tokens, generator) if len(left) else []
                batches = [left[found[n]] for n in generator.permutation(len(found))]
                left = np.concatenate([left[:0], *batches[dealt:]])
            self._batches = batches
        return self._batches

    def next(self) -> PairBatch:
        """The next batch: this rank's pairs of it."""
        if self.index == len(self.batches()):
            self._begin(self.epoch + 1)
        numbers = self.batches()[self.index]
        self.index += 1
        return batch_of(self.pairs, numbers, self.rank, self.world_size)

    def _begin(self, epoch: int) -> None:
        self.epoch, self.index, self.before, self._batches = epoch, 0, [], None

    def state(self) -> dict[str, Any]:
        """Where the stream stands, as JSON holds it."""
        return {
            "seed": self.seed,
            "epoch": self.epoch,
            "index": self.index,
            "batch_tokens": self.batch_tokens,
            "before": self.before,
            "pairs": len(self.numbers),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state` was taken, with any number of ranks. DataError for other data's.

        With another `batch_tokens`, what is left of the epoch is cut anew: every pair still comes once.
        """
        for name, here in (("seed", self.seed), ("pairs", len(self.numbers))):
            if state[name] != here:
                raise DataError(
                    f"this position belongs to other data: its {name} is {state[name]}, here it is {here}",
                    hint="resume with the text and the seed of the run",
                )
        self._begin(state["epoch"])
        self.before, self.index = [(tokens, dealt) for tokens, dealt in state["before"]], state["index"]
        if self.index and state["batch_tokens"] != self.batch_tokens:
            self.before.append((state["batch_tokens"], self.index))
            self.index = 0


def within(pairs: Pairs, longest: int) -> Places:
    """Which pairs have two sentences of so many tokens at most."""
    return np.flatnonzero((pairs.source.lengths <= longest) & (pairs.target.lengths <= longest))


def evaluation_pairs(pairs: Pairs, batch_tokens: int, longest: int) -> Iterator[PairBatch]:
    """All pairs once that are not too long, in batches of pairs that are about as long."""
    numbers = within(pairs, longest)
    lengths = pairs.source.lengths[numbers], pairs.target.lengths[numbers]
    for chosen in buckets(*lengths, batch_tokens, np.random.default_rng(0)) if len(numbers) else []:
        yield batch_of(pairs, numbers[chosen])
