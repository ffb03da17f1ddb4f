"""Windows of tokens in a seeded order: batch n depends on the seed and on n, not on what happened before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int
from torch import Tensor

from primer.assets import log
from primer.data.beginnings import aligned, document_starts
from primer.errors import DataError, UsageError

Order = Literal["epochs", "random", "documents"]


@runtime_checkable
class TokenSequence(Protocol):
    """What batches are cut from: an array, or `ShardDirectory.tokens(split)`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice, /) -> npt.NDArray[Any]: ...


@dataclass(frozen=True)
class Piece:
    """A part of a batch that is computed at once."""

    inputs: tuple[Tensor, ...]
    """What the model reads, as it takes it."""
    targets: Int[Tensor, "B T"]
    share: float
    """Of the batch's targets. Where a batch is shared by several processes their shares may differ; the mean over the
    processes of share × loss is the mean over all targets."""
    starts: Int[Tensor, " B"] | None = None
    """Where in the text each row was cut, for what was counted there."""


@runtime_checkable
class Learnable(Protocol):
    """A batch as training sees it."""

    def tokens(self, processes: int) -> int:
        """Targets, of all processes together."""

    def pieces(self, places: int, device: torch.device, processes: int) -> list[Piece]:
        """This process's part on a device, in pieces of about so many places at most."""


@runtime_checkable
class Stream(Protocol):
    """Where batches come from: one after the other, for ever, and from wherever one was."""

    def next(self) -> Learnable: ...

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Batch:
    """What the model reads, the token that follows at every place, and where in the text each row was cut."""

    inputs: Int[Tensor, "B T"]
    targets: Int[Tensor, "B T"]
    starts: Int[Tensor, " B"]

    def tokens(self, processes: int) -> int:
        """Targets, of all processes together: each has as many."""
        return self.targets.numel() * processes

    def pieces(self, places: int, device: torch.device, processes: int) -> list[Piece]:
        """The batch a few rows at a time."""
        rows = max(1, places // self.inputs.shape[1])
        # All of it at once: a GPU stops for every transfer, and ids are few bytes.
        columns = [column.to(device).split(rows) for column in (self.inputs, self.targets, self.starts)]
        return [
            Piece((inputs,), targets, len(inputs) / len(self.inputs), starts)
            for inputs, targets, starts in zip(*columns, strict=True)
        ]


class BatchStream:
    """An endless stream of batches of (this rank's share of) `batch_size` windows of `context_length` tokens.

    order="epochs": each epoch draws an offset below T, cuts the text from there into windows without overlap
    and shuffles them; a window comes again only after all others have come. Windows that do not fill the last
    batch of an epoch open the next one's first, so none is lost.
    order="random": windows start anywhere, with replacement, as in the lecture.
    order="documents": as epochs, but every window begins at a document: at the id `begin`, which stands before each.
    Once around the text from a document that the epoch draws, the next window begins at the first document that is
    not among the inputs of the last. What lies between is left out, in other epochs too, for the most part: from
    wherever one begins, after a few windows the same documents are met.

    The global batch is the same whatever the number of ranks; rank r takes its r-th equal slice.
    """

    def __init__(
        self,
        tokens: TokenSequence,
        *,
        batch_size: int,
        context_length: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        order: Order = "epochs",
        begin: int | None = None,
    ) -> None:
        if not 0 <= rank < world_size:
            raise UsageError(f"rank {rank} is outside a world of {world_size}")
        self.tokens = tokens
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.order = order
        self.epoch = 0
        self.index = 0
        """Windows of this epoch that were dealt (epochs, documents), or batches so far (random)."""
        self._documents = _documents(tokens, begin) if order == "documents" else np.empty(0, np.int64)
        self._said = False
        self._set_shape(batch_size, context_length)

    def _set_shape(self, batch_size: int, context_length: int) -> None:
        if batch_size < 1 or context_length < 1:
            raise UsageError(f"a batch of {batch_size} × {context_length} tokens is impossible")
        if batch_size % self.world_size:
            raise UsageError(
                f"train.batch_size={batch_size} does not divide among {self.world_size} processes",
                hint=f"--train.batch-size={-(-batch_size // self.world_size) * self.world_size}",
            )
        if len(self.tokens) < context_length + 1:
            raise DataError(
                f"the text holds {len(self.tokens)} tokens, and one window needs {context_length + 1}",
                hint="a shorter context, or a longer text",
            )
        if self.order == "documents" and self._documents[0] >= len(self.tokens) - context_length:
            raise DataError(
                f"no document is followed by as many tokens as one window needs, {context_length + 1}",
                hint="a shorter context, or --data.order=epochs",
            )
        self.batch_size = batch_size
        self.context_length = context_length
        self._starts_of: tuple[int, npt.NDArray[np.int64]] | None = None

    def reach(self) -> float:
        """The share of the tokens that an epoch's windows hold at most: every document opens one, or none."""
        if self.order != "documents":
            return 1.0
        return min(1.0, len(self._documents) * self.context_length / len(self.tokens))

    def next(self) -> Batch:
        """The next batch, (batch_size / world_size, context_length) each."""
        starts = self._next_random() if self.order == "random" else self._next_of_epoch()
        share = self.batch_size // self.world_size
        return _cut(self.tokens, starts[self.rank * share :][:share], self.context_length)

    def _next_random(self) -> npt.NDArray[np.int64]:
        generator = np.random.default_rng((self.seed, self.index))
        self.index += 1
        return generator.integers(len(self.tokens) - self.context_length, size=self.batch_size)

    def _next_of_epoch(self) -> npt.NDArray[np.int64]:
        dealt: list[npt.NDArray[np.int64]] = []
        missing = self.batch_size
        while missing:
            starts = self._epoch_starts()[self.index : self.index + missing]
            if not len(starts):
                self.epoch, self.index = self.epoch + 1, 0
                continue
            dealt.append(starts)
            self.index += len(starts)
            missing -= len(starts)
        return np.concatenate(dealt)

    def _epoch_starts(self) -> npt.NDArray[np.int64]:
        """Where the windows of this epoch start, in the order in which they are dealt."""
        if self._starts_of is None or self._starts_of[0] != self.epoch:
            generator = np.random.default_rng((self.seed, self.epoch))
            last = len(self.tokens) - self.context_length  # a window that starts here has no last target
            if self.order == "documents":
                starts = self._aligned_starts(last, generator)
            else:
                offset = int(generator.integers(min(self.context_length, last)))
                starts = np.arange(offset, last, self.context_length)
            generator.shuffle(starts)
            self._starts_of = (self.epoch, starts)
        return self._starts_of[1]

    def _aligned_starts(self, last: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
        """Where the windows of this epoch start that begin at documents."""
        documents = self._documents[: np.searchsorted(self._documents, last)]
        first = int(generator.integers(len(documents)))
        starts = aligned(documents, self.context_length, len(self.tokens), first)
        if not self._said and self.rank == 0:
            left_out = 1 - len(starts) * self.context_length / len(self.tokens)
            log.warning(
                "windows begin at documents: an epoch leaves out %.1f %% of the tokens", 100 * left_out
            )
            self._said = True
        return starts

    def reshape(self, batch_size: int, context_length: int) -> None:
        """Go on with another shape; another context length starts a fresh pass over the text."""
        if (batch_size, context_length) == (self.batch_size, self.context_length):
            return
        fresh = context_length != self.context_length and self.order != "random" and self.index > 0
        self._set_shape(batch_size, context_length)
        if fresh:
            self.epoch, self.index = self.epoch + 1, 0

    def state(self) -> dict[str, Any]:
        """Where the stream stands, as JSON holds it."""
        return {
            "order": self.order,
            "seed": self.seed,
            "epoch": self.epoch,
            "index": self.index,
            "batch_size": self.batch_size,
            "context_length": self.context_length,
            "tokens": len(self.tokens),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state` was taken, with any number of ranks. DataError for other data's."""
        for name, here in (("order", self.order), ("seed", self.seed), ("tokens", len(self.tokens))):
            if state[name] != here:
                raise DataError(
                    f"this position belongs to other data: its {name} is {state[name]}, here it is {here}",
                    hint="resume with the text and the seed of the run",
                )
        self._set_shape(state["batch_size"], state["context_length"])
        self.epoch, self.index = state["epoch"], state["index"]


def evaluation_windows(tokens: TokenSequence, *, batch_size: int, context_length: int) -> Iterator[Batch]:
    """The whole of `tokens` in windows without overlap: every token but the first is a target exactly once.

    The last batch may hold fewer windows; what is left after the last whole one comes as a batch of its own.
    """
    if len(tokens) < 2:
        raise DataError(f"nothing to evaluate: the text holds {len(tokens)} tokens", hint="a longer text")
    whole, rest = divmod(len(tokens) - 1, context_length)
    for first in range(0, whole, batch_size):
        windows = np.arange(first, min(first + batch_size, whole), dtype=np.int64)
        yield _cut(tokens, windows * context_length, context_length)
    if rest:
        yield _cut(tokens, np.array([whole * context_length]), rest)


def _documents(tokens: TokenSequence, begin: int | None) -> npt.NDArray[np.int64]:
    """Where documents begin, or DataError for a text in which none does."""
    if begin is None:
        raise UsageError(
            "windows cannot begin at documents: the tokenizer has no token that stands before one",
            where="data.order=documents",
            hint="--data.order=epochs",
        )
    found = document_starts(tokens, begin)
    if not len(found):
        raise DataError(
            f"windows cannot begin at documents: the text does not hold the token before one, {begin}",
            where="data.order=documents",
            hint="--data.order=epochs",
        )
    return found


def _cut(tokens: TokenSequence, starts: npt.NDArray[np.int64], length: int) -> Batch:
    windows = np.empty((len(starts), length + 1), dtype=np.int64)
    for row, start in zip(windows, starts.tolist(), strict=True):
        row[:] = tokens[start : start + length + 1]
    both = torch.from_numpy(windows)
    return Batch(both[:, :-1].contiguous(), both[:, 1:].contiguous(), torch.from_numpy(starts))
