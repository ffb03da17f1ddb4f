"""Writing a shard directory: under a temporary name, which becomes its own when it is whole.

What a killed process or Ctrl-C leaves of long work is taken up by the next one that does the same (`data/journal.py`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt

from primer.assets import BLOCK, log, of_other_machines, reading, sweep, sync, temporary_name, writing
from primer.data.journal import JOURNAL, Journal, abandoned
from primer.data.manifest import (
    COUNTED,
    HEADER,
    MANIFEST,
    SPLITS,
    Counts,
    Manifest,
    Shard,
    Split,
    damaged,
    header,
    shard_name,
)
from primer.data.shards import TOKENIZER, ShardDirectory, open_shard
from primer.errors import DataError, UsageError
from primer.tokens.tokenizer import Ids, Tokenizer

SHARD_TOKENS = 1 << 28
"""Ids in one file, at most."""


class ShardWriter:
    """Writes a shard directory, which appears at `path` when the `with` block ends well, and otherwise never.

    With `resume`, what a killed process or Ctrl-C left of the same work (the same `key`, divided into jobs in the same
    way, which `resume` says) is taken up where it was last noted: the first `jobs` jobs are done.

    with ShardWriter(path, tokenizer) as writer:
        writer.write("train", tokenizer.encode(text))
    """

    def __init__(
        self,
        path: Path | str,
        tokenizer: Tokenizer,
        *,
        source: Mapping[str, str] | None = None,
        key: str = "",
        shard_tokens: int = SHARD_TOKENS,
        resume: str = "",
    ) -> None:
        self.path = Path(path)
        self.counts: dict[Split, Counts] = {split: dict.fromkeys(COUNTED, 0) for split in SPLITS}
        self._tokenizer = tokenizer
        self._source = dict(source or {})
        self._key = key
        self._shard_tokens = shard_tokens
        self._shards: dict[Split, list[Shard]] = {split: [] for split in SPLITS}
        self._open: _OpenShard | None = None
        self._work = f"{key}, {resume}" if resume else ""
        self.jobs = 0
        """With `resume`: jobs that an earlier process has done, as far as `note` was told of them."""
        self._temporary = temporary_name(self.path)

    def __enter__(self) -> Self:
        if self.path.exists():
            raise UsageError("something is here already", where=str(self.path), hint="another folder")
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            same, others = abandoned(self.path, self._work)
            if not (self._work and self._adopt(same)):
                self._temporary.mkdir()
            for folder in others:  # hours of work may be in it
                log.warning(
                    "%s is unfinished, of another text or made otherwise: delete it if it is useless", folder
                )
            for folder in of_other_machines(self.path) if self._work else ():
                log.warning(
                    "%s is another machine's, at work or not: if it is not, rename it to %s, and what was done is kept",
                    folder,
                    temporary_name(self.path, owned=False).name,
                )
            sweep(self.path, spare=others)
        return self

    def _adopt(self, same: Sequence[tuple[Path, Journal]]) -> bool:
        """Go on with what a dead process of the same work has left, if it is whole up to where its journal ends."""
        for folder, journal in same:
            try:
                folder.rename(self._temporary)  # only one process can
            except OSError:
                continue
            try:
                self._open = _taken_up(self._temporary, journal, self._tokenizer)
            except DataError as error:
                log.warning("%s; starting again", error)
                shutil.rmtree(self._temporary)
                continue
            self.counts, self._shards, self.jobs = journal.counts, journal.shards, journal.jobs
            return True
        return False

    def beside(self, name: str, lines: Iterable[str]) -> None:
        """Write a text file beside the shards, as its lines come; the manifest keeps its SHA-256 under its name."""
        digest = hashlib.sha256()
        with writing(self.path), (self._temporary / name).open("xb") as file:
            for line in lines:
                digest.update(line.encode())
                file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        self._source[name] = digest.hexdigest()

    def note(self, jobs: int) -> None:
        """Everything up to here is done: a process that comes after this one was killed goes on with the next job."""
        with writing(self.path):
            open_ = self._open
            if open_ is not None:
                open_.file.flush()
                os.fsync(open_.file.fileno())
            grown = (open_.split, Shard(open_.count, open_.digest.hexdigest())) if open_ else None
            Journal(self._work, jobs, self.counts, self._shards, grown).write(self._temporary)
        self.jobs = jobs

    def write(
        self,
        split: Split,
        ids: Ids,
        *,
        characters: int | None = None,
        size: int | None = None,
        skipped: int = 0,
    ) -> None:
        """Append ids to a split, which is not left for the other and taken up again.

        `characters` and `size` (UTF-8 bytes) default to what the ids stand for. Raises DataError for an id that
        the tokenizer does not have: no overflow wraps around.
        """
        vocab_size = self._tokenizer.vocab_size
        if ids.size and not (ids.min() >= 0 and ids.max() < vocab_size):
            raise DataError(f"an id is outside the vocabulary of {vocab_size}", where=str(self.path))
        if size is None:
            size = int(self._tokenizer.byte_lengths[ids].sum())
        if characters is None:
            characters = int(self._characters[ids].sum())
        for name, value in zip(COUNTED, (ids.size, characters, size, skipped), strict=True):
            self.counts[split][name] += int(value)
        ids = ids.astype(self._tokenizer.dtype.newbyteorder("<"), copy=False)
        with writing(self.path):
            while ids.size:
                shard = self._shard_with_room(split)
                room = self._shard_tokens - shard.count
                shard.append(ids[:room])
                ids = ids[room:]

    @cached_property
    def _characters(self) -> npt.NDArray[np.int64]:
        """(V,) characters that begin in each token's bytes; none in a special token, which stands for no text."""
        bytes_of = (self._tokenizer.token_bytes(token) for token in range(self._tokenizer.vocab_size))
        return np.array([sum((byte & 0xC0) != 0x80 for byte in content) for content in bytes_of], np.int64)

    def _shard_with_room(self, split: Split) -> _OpenShard:
        if self._open and self._open.split == split and self._open.count < self._shard_tokens:
            return self._open
        self._close_shard()
        done = self._shards[split]
        if done and done[-1].count < self._shard_tokens:
            raise UsageError("each split is written in one go")
        self._open = _OpenShard(self._temporary, split, len(done))
        return self._open

    def _close_shard(self) -> None:
        if self._open is not None:
            self._shards[self._open.split].append(self._open.finish(self._tokenizer))
            self._open = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        committed = False
        try:
            if kind is None:
                with writing(self.path):
                    self._commit()
                committed = True
        finally:
            if self._open is not None:
                with suppress(OSError):  # a full disk says so again
                    self._open.file.close()
            useless = committed or (kind is not None and issubclass(kind, DataError))
            if self.jobs and not useless:
                with suppress(OSError):
                    self._temporary.rename(temporary_name(self.path, owned=False))
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _commit(self) -> None:
        self._close_shard()
        fingerprint = self._tokenizer.fingerprint
        manifest = Manifest(self._key, self._source, fingerprint, self.counts, self._shards)
        for name, content in ((TOKENIZER, self._tokenizer.to_json()), (MANIFEST, manifest.to_json())):
            with (self._temporary / name).open("xb") as file:
                file.write(content.encode())
                file.flush()
                os.fsync(file.fileno())
        sync(self._temporary)
        try:
            self._temporary.rename(self.path)
        except OSError:
            if not self.path.is_dir():  # else another process was faster: its shards stay, ours go
                raise
        else:
            (self.path / JOURNAL).unlink(missing_ok=True)  # not before: until then one can go on from it
        sync(self.path.parent)


def _taken_up(folder: Path, journal: Journal, tokenizer: Tokenizer) -> _OpenShard | None:
    """Check each shard of an unfinished directory; cut off what came after the journal. DataError for a damaged one."""
    known = {JOURNAL}
    for split in SPLITS:
        for number, shard in enumerate(journal.shards[split]):
            path = folder / shard_name(split, number)
            head = header(tokenizer, split, number, shard.count)
            open_shard(path, shard, head, tokenizer, verify=True)
            known.add(path.name)
    grown = None
    if journal.unfinished is not None:
        split, shard = journal.unfinished
        grown = _OpenShard(folder, split, len(journal.shards[split]), taken_up=(shard, tokenizer))
        known.add(shard_name(split, grown.number))
    for file in folder.iterdir():
        if file.name not in known:
            file.unlink()
    return grown


class _OpenShard:
    """A shard while it grows: its header is written last, because only then its count is known."""

    def __init__(
        self, folder: Path, split: Split, number: int, taken_up: tuple[Shard, Tokenizer] | None = None
    ) -> None:
        self.split = split
        self.number = number
        self.count = 0
        self.digest = hashlib.sha256()
        path = folder / shard_name(split, number)
        if taken_up:
            self.file = self._taken_up(path, *taken_up)
        else:
            self.file = path.open("xb")
            self.file.write(bytes(HEADER.size))

    def _taken_up(self, path: Path, shard: Shard, tokenizer: Tokenizer) -> BinaryIO:
        """A shard that another process began, up to `shard.count` ids, whose hash must be the journal's."""
        end = HEADER.size + shard.count * tokenizer.dtype.itemsize
        with reading(path) as file:
            file.seek(HEADER.size)
            while block := file.read(min(BLOCK, max(end - file.tell(), 0))):
                self.digest.update(block)
            if file.tell() != end or self.digest.hexdigest() != shard.sha256:
                raise damaged(path, "is not what the journal says")
        self.count = shard.count
        grown = path.open("r+b")
        grown.truncate(end)
        grown.seek(end)
        return grown

    def append(self, ids: Ids) -> None:
        data = np.ascontiguousarray(ids).data
        self.file.write(data)
        self.digest.update(data)
        self.count += len(ids)

    def finish(self, tokenizer: Tokenizer) -> Shard:
        self.file.seek(0)
        self.file.write(header(tokenizer, self.split, self.number, self.count))
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        return Shard(self.count, self.digest.hexdigest())


def write_shards(
    path: Path | str, splits: Mapping[Split, Iterable[Ids]], tokenizer: Tokenizer, **options: Any
) -> ShardDirectory:
    """Write arrays of ids as a shard directory and open it; `options` as for ShardWriter."""
    with ShardWriter(path, tokenizer, **options) as writer:
        for split in SPLITS:
            for ids in splits.get(split, ()):
                writer.write(split, ids)
    return ShardDirectory.open(path)
