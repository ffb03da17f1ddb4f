"""The shard directory: tokens ready to train on, which cannot be damaged or mixed up unnoticed.

    manifest.json           everything below with its SHA-256, sealed with its own
    tokenizer.json
    train_00000.bin …       a header of 128 bytes, then ids
    validation_00000.bin …

The directory is written under a temporary name and renamed when it is whole.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import secrets
import shutil
import struct
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BufferedReader, BufferedWriter
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from primer import tokens
from primer.assets import BLOCK, reading, seal, sha256_of_lines, sync_folder, unseal, writing
from primer.errors import DataError, UsageError
from primer.tokens.tokenizer import Ids, Tokenizer

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")

VERSION = 1
MAGIC = b"primer\x1as"  # 0x1a ends a text: nobody takes this for one
HEADER = struct.Struct("<8sII12sIIQ32s52x")
"""magic, version, bytes an id, split, number of the shard, vocabulary size, count, tokenizer's SHA-256."""
SHARD_TOKENS = 1 << 28
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"

Counts = dict[str, int]
"""tokens, characters, bytes (of UTF-8) and skipped characters of one split."""


class Tokens:
    """The ids of one split, memory-mapped; several shards read as one. Slices are arrays, copied only
    where they cross from shard to shard.

    A file that shrinks while it is mapped kills its reader (SIGBUS): nobody may write into a shard directory.
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
    counts: dict[str, Counts]
    """By split: tokens, characters, bytes, skipped."""
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
        manifest = _read_manifest(path / MANIFEST)
        text = _read_small(path / TOKENIZER)
        if hashlib.sha256(text.encode()).hexdigest() != manifest["tokenizer"]:
            raise _damaged(path / TOKENIZER, "changed after the manifest was written")
        tokenizer = tokens.from_json(text, where=str(path / TOKENIZER))
        shards: dict[Split, list[dict[str, Any]]] = manifest["shards"]
        _refuse_strangers(path, shards)
        views: dict[Split, Tokens] = {}
        for split in SPLITS:
            parts = [
                _open_shard(path / shard_name(split, number), split, number, entry, tokenizer, verify)
                for number, entry in enumerate(shards[split])
            ]
            views[split] = Tokens(parts, tokenizer.dtype)
            if len(views[split]) != manifest["counts"][split]["tokens"]:
                raise _damaged(path / MANIFEST, f"the shards of {split} do not add up to its count")
        hashes = [entry["sha256"] for split in SPLITS for entry in shards[split]]
        return cls(
            path=path,
            tokenizer=tokenizer,
            counts=manifest["counts"],
            source=manifest["source"],
            key=manifest["key"],
            fingerprint=sha256_of_lines([tokenizer.fingerprint, *hashes]),
            _tokens=views,
        )


class ShardWriter:
    """Writes a shard directory, which appears at `path` when the `with` block ends well, and otherwise never.

    >>> with ShardWriter(path, tokenizer) as writer:                        # doctest: +SKIP
    ...     writer.write("train", tokenizer.encode(text))
    """

    def __init__(
        self,
        path: Path | str,
        tokenizer: Tokenizer,
        *,
        source: Mapping[str, str] | None = None,
        key: str = "",
        shard_tokens: int = SHARD_TOKENS,
    ) -> None:
        self.path = Path(path)
        self.counts: dict[str, Counts] = {
            split: {"tokens": 0, "characters": 0, "bytes": 0, "skipped": 0} for split in SPLITS
        }
        self._tokenizer = tokenizer
        self._source = dict(source or {})
        self._key = key
        self._shard_tokens = shard_tokens
        self._entries: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
        self._file: BufferedWriter | None = None
        self._open_split: Split = "train"
        self._temporary = self.path.with_name(f"{self.path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")

    def __enter__(self) -> Self:
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            sweep(self.path)
            self._temporary.mkdir()
        return self

    def write(
        self,
        split: Split,
        ids: Ids,
        *,
        characters: int | None = None,
        size: int | None = None,
        skipped: int = 0,
    ) -> None:
        """Append ids to a split (first all of train, then all of validation).

        `characters` and `size` (UTF-8 bytes) default to what the ids stand for.
        """
        if ids.size and not (ids.min() >= 0 and ids.max() < self._tokenizer.vocab_size):
            raise DataError(
                f"an id outside the vocabulary of {self._tokenizer.vocab_size}", where=str(self.path)
            )
        if size is None:
            size = int(self._tokenizer.byte_lengths[ids].sum())
        if characters is None:
            characters = len(self._tokenizer.decode(ids))
        for name, value in (
            ("tokens", ids.size),
            ("characters", characters),
            ("bytes", size),
            ("skipped", skipped),
        ):
            self.counts[split][name] += int(value)
        ids = ids.astype(self._tokenizer.dtype.newbyteorder("<"), copy=False)
        with writing(self.path):
            while ids.size:
                room = self._room(split)
                self._append(ids[:room])
                ids = ids[room:]

    def _room(self, split: Split) -> int:
        """How many ids still fit into the open shard of `split`, after opening one if need be."""
        entries = self._entries[split]
        if self._file is None or self._open_split != split or entries[-1]["count"] == self._shard_tokens:
            if split == "train" and self._open_split == "validation":
                raise UsageError("train is written before validation")
            self._close_shard()
            self._open_split = split
            self._file = (self._temporary / shard_name(split, len(entries))).open("xb")
            self._file.write(bytes(HEADER.size))
            entries.append({"count": 0})
            self._digest = hashlib.sha256()
        return self._shard_tokens - entries[-1]["count"]

    def _append(self, ids: Ids) -> None:
        assert self._file is not None
        data = np.ascontiguousarray(ids).data
        self._file.write(data)
        self._digest.update(data)
        self._entries[self._open_split][-1]["count"] += len(ids)

    def _close_shard(self) -> None:
        """Put the header, which knows the count only now, before the ids; force all of it to the disk."""
        if self._file is None:
            return
        entries = self._entries[self._open_split]
        header = _header(self._tokenizer, self._open_split, len(entries) - 1, entries[-1]["count"])
        self._file.seek(0)
        self._file.write(header)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        entries[-1]["sha256"] = self._digest.hexdigest()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                with writing(self.path):
                    self._commit()
        finally:
            if self._file is not None:
                self._file.close()
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _commit(self) -> None:
        self._close_shard()
        text = self._tokenizer.to_json()
        manifest = {
            "version": VERSION,
            "key": self._key,
            "source": self._source,
            "tokenizer": hashlib.sha256(text.encode()).hexdigest(),
            "counts": self.counts,
            "shards": self._entries,
        }
        for name, content in ((TOKENIZER, text), (MANIFEST, seal(manifest))):
            with (self._temporary / name).open("xb") as file:
                file.write(content.encode())
                file.flush()
                os.fsync(file.fileno())
        sync_folder(self._temporary)
        self._temporary.rename(self.path)
        sync_folder(self.path.parent)


def write_shards(
    path: Path | str, splits: Mapping[Split, Iterable[Ids]], tokenizer: Tokenizer, **options: Any
) -> ShardDirectory:
    """Write arrays of ids as a shard directory and open it; `options` as for ShardWriter."""
    with ShardWriter(path, tokenizer, **options) as writer:
        for split in SPLITS:
            for ids in splits.get(split, ()):
                writer.write(split, ids)
    return ShardDirectory.open(path)


def shard_name(split: str, number: int) -> str:
    """train_00000.bin …"""
    return f"{split}_{number:05d}.bin"


def sweep(path: Path) -> None:
    """Remove what processes that died while they wrote `path` have left beside it."""
    for stale in path.parent.glob(f"{path.name}.tmp-*"):
        owner = re.fullmatch(r".*\.tmp-(\d+)-[0-9a-f]+", stale.name)
        if owner and not _alive(int(owner[1])):
            shutil.rmtree(stale, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it lives, and belongs to someone else
        return True
    return True


def _header(tokenizer: Tokenizer, split: str, number: int, count: int) -> bytes:
    vocabulary = bytes.fromhex(tokenizer.fingerprint)
    width = tokenizer.dtype.itemsize
    return HEADER.pack(MAGIC, VERSION, width, split.encode(), number, tokenizer.vocab_size, count, vocabulary)


def _open_shard(
    path: Path, split: Split, number: int, entry: dict[str, Any], tokenizer: Tokenizer, verify: bool
) -> Ids:
    """Map one shard, after its header, its size and (with `verify`) every byte of it proved right."""
    with reading(path) as file:
        _check_header(path, file.read(HEADER.size), _header(tokenizer, split, number, entry["count"]))
        width = tokenizer.dtype.itemsize
        expected = HEADER.size + entry["count"] * width
        size = os.fstat(file.fileno()).st_size
        if size != expected:
            raise _damaged(path, f"holds {size} bytes where its count asks for {expected}")
        if verify:
            _check_ids(path, file, entry["sha256"], tokenizer)
        view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(view, dtype=tokenizer.dtype.newbyteorder("<"), offset=HEADER.size)


def _check_header(path: Path, found: bytes, expected: bytes) -> None:
    """Say which field differs: each is another story of what happened to the file."""
    if len(found) < HEADER.size:
        raise _damaged(path, f"is cut off: {len(found)} bytes are less than a header")
    fields = ("magic", "version", "id width", "split", "number", "vocabulary size", "count", "vocabulary")
    for name, is_, should in zip(fields, HEADER.unpack(found), HEADER.unpack(expected), strict=True):
        if name == "magic" and is_ != should:
            raise _damaged(path, "is no shard: it begins otherwise")
        if is_ != should:
            what = "another tokenizer's" if name == "vocabulary" else f"{_shown(is_)}, not {_shown(should)}"
            raise _damaged(path, f"does not belong here: its {name} is {what}")
    if found != expected:
        raise _damaged(path, "has a damaged header")


def _shown(value: bytes | int) -> str:
    return repr(value.rstrip(b"\0").decode("ascii", "replace")) if isinstance(value, bytes) else str(value)


def _check_ids(path: Path, file: BufferedReader, sha256: str, tokenizer: Tokenizer) -> None:
    digest = hashlib.sha256()
    top = 0
    buffer = bytearray(BLOCK)
    while count := file.readinto(buffer):
        digest.update(memoryview(buffer)[:count])
        top = max(top, int(np.frombuffer(buffer, tokenizer.dtype, count // tokenizer.dtype.itemsize).max()))
    if digest.hexdigest() != sha256:
        raise _damaged(path, "changed after the manifest was written: its SHA-256 differs")
    if top >= tokenizer.vocab_size:
        raise _damaged(path, f"holds id {top}, outside the vocabulary of {tokenizer.vocab_size}")


def _read_small(path: Path) -> str:
    with reading(path) as file:
        try:
            return file.read(1 << 26).decode()
        except UnicodeDecodeError as error:
            raise _damaged(path, "is no UTF-8") from error


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise DataError("this is no shard directory: it has no manifest.json", where=str(path.parent))
    manifest = unseal(_read_small(path), str(path))
    if manifest.get("version") != VERSION:
        raise DataError(
            f"format version {manifest.get('version')!r} is unknown",
            where=str(path),
            hint="upgrade gpt-primer",
        )
    return manifest


def _refuse_strangers(path: Path, shards: dict[Split, list[dict[str, Any]]]) -> None:
    known = {shard_name(split, number) for split in SPLITS for number in range(len(shards[split]))}
    for file in sorted(path.glob("*.bin")):
        if file.name not in known:
            raise DataError(
                "a shard that the manifest does not know", where=str(file), hint="move it elsewhere"
            )


def _damaged(path: Path, what: str) -> DataError:
    return DataError(
        f"{path.name} {what}", where=str(path), hint=f"delete {path.parent} and prepare the text again"
    )
