"""Documents on their way into tokens: cut where no token is cut, and encoded by several threads, in their order.

Before every document stands its tokenizer's end-of-text token, as in the published FineWeb token sets; a long document
may be cut into stretches, of which only the first one begins so.

Threads are enough: the engine (tiktoken) lets go of the interpreter while it works, so they encode as fast as as many
processes would, without handing texts and ids from one to another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import TypeGuard, TypeVar

import numpy as np

from primer.corpus import Document
from primer.data.manifest import Split
from primer.errors import DataError
from primer.tokens import BPETokenizer, UnknownCharacterError
from primer.tokens.blocks import rejoined
from primer.tokens.tokenizer import END_OF_TEXT, Ids, Tokenizer

JOB = 1 << 20
"""Characters that are encoded at once, at least."""

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Stretch:
    """A piece of one document, cut where no token is cut."""

    text: str
    id: str
    """The document's address."""
    split: Split
    begins: bool
    """Whether the document (or its part in this split) begins here."""


@dataclass(frozen=True)
class Encoded:
    """The ids of some stretches of one split."""

    split: Split
    ids: Ids
    characters: int
    size: int
    """Bytes of UTF-8."""


def has_documents(tokenizer: Tokenizer) -> TypeGuard[BPETokenizer]:
    """Whether a tokenizer can mark where documents begin."""
    return isinstance(tokenizer, BPETokenizer) and END_OF_TEXT in tokenizer.special_tokens


def stretches(documents: Iterable[Document], train: int) -> Iterator[Stretch]:
    """The first `train` characters for training, the rest for validation."""
    number = position = 0

    def which(document: Document) -> int:
        nonlocal number
        number += document.part == 0
        return number

    def halves(parts: Iterable[Document]) -> Iterator[tuple[Split, str]]:
        nonlocal position
        for part in parts:
            cut = min(max(train - position, 0), len(part.text))
            position += len(part.text)
            if cut:
                yield "train", part.text[:cut]
            if cut < len(part.text):
                yield "validation", part.text[cut:]

    for _, parts in groupby(documents, which):
        first = next(parts)
        together = halves(part for group in ((first,), parts) for part in group)
        for split, pieces in groupby(together, key=lambda half: half[0]):
            begins = True
            for text in rejoined(piece for _, piece in pieces):
                yield Stretch(text, first.id, split, begins)
                begins = False


def jobs(found: Iterable[Stretch]) -> Iterator[list[Stretch]]:
    """Stretches of one split, a megabyte of them together."""
    job: list[Stretch] = []
    held = 0
    for stretch in found:
        if job and (held >= JOB or stretch.split != job[0].split):
            yield job
            job, held = [], 0
        job.append(stretch)
        held += len(stretch.text)
    if job:
        yield job


def encode(job: list[Stretch], tokenizer: BPETokenizer) -> Encoded:
    """The ids of a job. A special token that a text spells is ordinary characters: no text forges a border."""
    parts: list[Ids] = []
    for begins, group in groupby(job, key=lambda stretch: stretch.begins):
        together = list(group)
        try:
            if begins:
                parts.append(tokenizer.encode_documents([stretch.text for stretch in together]))
            else:
                parts += [tokenizer.encode(stretch.text, special="text") for stretch in together]
        except UnknownCharacterError as error:
            first = next(stretch for stretch in together if error.character in stretch.text)
            raise DataError(error.cause, first.id, "a text without it") from error
    return Encoded(
        split=job[0].split,
        ids=np.concatenate(parts),
        characters=sum(len(stretch.text) for stretch in job),
        size=sum(
            len(stretch.text) if stretch.text.isascii() else len(stretch.text.encode()) for stretch in job
        ),
    )


def in_order(work: Callable[[A], B], given: Iterable[A], threads: int) -> Iterator[B]:
    """`work` of each, by several threads, in the order in which they were given; only a few are under way at once."""
    under_way: deque[Future[B]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for each in given:
                under_way.append(pool.submit(work, each))
                if len(under_way) > 2 * threads:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()
