"""The shard directory: tokens ready to train on, which cannot be damaged or mixed up unnoticed.

    manifest.json           everything below with its SHA-256, sealed with its own
    tokenizer.json
    train_00000.bin …       a header, then ids
    validation_00000.bin …

`data/writer.py` writes it.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from bisect import bisect_right
from dataclasses import dataclass
from io import BufferedReader
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from primer import tokens
from primer.assets import (
    BLOCK,
    reading,
    sha256_of_lines,
)
from primer.data.manifest import (
    HEADER,
    MANIFEST,
    SPLITS,
    Counts,
    Manifest,
    Shard,
    Split,
    check_header,
    damaged,
    header,
    read_small,
    shard_name,
)
from primer.errors import DataError
from primer.tokens.tokenizer import Ids, Tokenizer, fingerprint_of

TOKENIZER = "tokenizer.json"


class Tokens:
    """The ids of one split, memory-mapped; several shards read as one.

    A slice is an array, copied only where it crosses from shard to shard. A file that shrinks while it is mapped
    kills its reader (SIGBUS): nobody may write into a shard directory.
    """

    def __init__(self, parts: list[Ids], dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self._parts = parts
        self._ends = list(accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: slice) -> Ids:
        start, stop, step = index.indices(len(self))
        if step != 1:
            raise IndexError("tokens are read in steps of one")
        pieces = []
        while start < stop:
            number = bisect_right(self._ends, start)
            shift = self._ends[number] - len(self._parts[number])
            piece = self._parts[number][start - shift : stop - shift]
            pieces.append(piece)
            start += len(piece)
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate(pieces) if pieces else np.empty(0, self.dtype)


@dataclass(frozen=True)
class ShardDirectory:
    """An opened and verified shard directory."""

    path: Path
    tokenizer: Tokenizer
    counts: dict[Split, Counts]
    """By split: tokens, characters, bytes, skipped. Of files that others made, the last three are unknown: 0."""
    source: dict[str, str]
    """name, licence, address and fingerprint of the text."""
    key: str
    """What it was made from and how: equal keys, equal tokens."""
    fingerprint: str
    """SHA-256 over tokenizer and ids: what a run remembers, so that its data cannot be swapped."""
    _tokens: dict[Split, Tokens]

    def tokens(self, split: Split) -> Tokens:
        """The ids of one split."""
        return self._tokens[split]

    @classmethod
    def open(cls, path: Path | str, verify: bool = True) -> ShardDirectory:
        """Open, check and map. Raises DataError that names the file for whatever is not as it was written.

        `verify=False` leaves out the one slow check (reading every byte, about a second a gigabyte).
        """
        path = Path(path)
        manifest = Manifest.read(path / MANIFEST)
        text = read_small(path / TOKENIZER)
        if fingerprint_of(text) != manifest.tokenizer:
            raise damaged(path / TOKENIZER, "changed after the manifest was written")
        tokenizer = tokens.from_json(text, where=str(path / TOKENIZER))
        _refuse_strangers(path, manifest)
        views: dict[Split, Tokens] = {}
        for split in SPLITS:
            parts = []
            for number, shard in enumerate(manifest.shards[split]):
                head = header(tokenizer, split, number, shard.count)
                parts.append(open_shard(path / shard_name(split, number), shard, head, tokenizer, verify))
            views[split] = Tokens(parts, tokenizer.dtype)
        hashes = [shard.sha256 for split in SPLITS for shard in manifest.shards[split]]
        fingerprint = sha256_of_lines([tokenizer.fingerprint, *hashes])
        return cls(path, tokenizer, manifest.counts, manifest.source, manifest.key, fingerprint, views)


def _refuse_strangers(path: Path, manifest: Manifest) -> None:
    """A shard that is in no list is a copy, or another text's: nobody can tell what was meant."""
    known = {shard_name(split, n) for split in SPLITS for n in range(len(manifest.shards[split]))}
    for file in sorted(path.glob("*.bin")):
        if file.name not in known:
            raise DataError("the manifest knows no such shard", where=str(file), hint="move it elsewhere")


def open_shard(path: Path, shard: Shard, head: bytes, tokenizer: Tokenizer, verify: bool) -> Ids:
    """Map one shard, after its header, its size and (with `verify`) every byte of it proved right."""
    with reading(path) as file:
        check_header(path, file.read(HEADER.size), head)
        expected = HEADER.size + shard.count * tokenizer.dtype.itemsize
        size = os.fstat(file.fileno()).st_size
        if size != expected:
            raise damaged(path, f"holds {size} bytes where its count asks for {expected}")
        if verify:
            _check_ids(path, file, shard, tokenizer)
        view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(view, dtype=tokenizer.dtype.newbyteorder("<"), offset=HEADER.size)


def _check_ids(path: Path, file: BufferedReader, shard: Shard, tokenizer: Tokenizer) -> None:
    digest = hashlib.sha256()
    dtype = tokenizer.dtype.newbyteorder("<")
    buffer = bytearray(BLOCK)
    top = 0
    while count := file.readinto(buffer):
        digest.update(memoryview(buffer)[:count])
        top = max(top, int(np.frombuffer(buffer, dtype, count // dtype.itemsize).max()))
    if digest.hexdigest() != shard.sha256:
        raise damaged(path, "changed after the manifest was written: its SHA-256 differs")
    if top >= tokenizer.vocab_size:
        raise damaged(path, f"holds id {top}, outside the vocabulary of {tokenizer.vocab_size}")
