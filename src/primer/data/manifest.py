"""What a shard directory says about itself: one sealed JSON file, and a header at the start of every shard."""

from __future__ import annotations

import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from primer.assets import reading, seal, unseal
from primer.errors import DataError
from primer.tokens.tokenizer import Tokenizer

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")

MANIFEST = "manifest.json"
KIND = "primer shards"
VERSION = 1
MAGIC = b"primer\x1as"  # 0x1a ends a text: nobody takes this for one
HEADER = struct.Struct("<8sII12sIIQ32s52x")
FIELDS = ("magic", "version", "id width", "split", "number", "vocabulary size", "count", "vocabulary")
"""What the header's 128 bytes hold, little-endian; the vocabulary by the SHA-256 of its tokenizer."""

COUNTED = ("tokens", "characters", "bytes", "skipped")
Counts = dict[str, int]
"""tokens, characters, bytes (of UTF-8) and skipped characters of one split."""


@dataclass(frozen=True)
class Shard:
    """One file of ids: how many, and the SHA-256 of the ids (the header can be told from the rest)."""

    count: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Everything about the directory that is not ids."""

    key: str
    source: dict[str, str]
    tokenizer: str
    """Fingerprint of the tokenizer."""
    counts: dict[Split, Counts]
    shards: dict[Split, list[Shard]]

    def to_json(self) -> str:
        """Canonical, with a checksum of its own."""
        return seal({"kind": KIND, "version": VERSION, **asdict(self)})

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Raises DataError for whatever `to_json` did not write."""
        if not path.exists():
            raise DataError(
                f"this is no shard directory: it has no {MANIFEST}",
                str(path.parent),
                "another folder, or primer prepare",
            )
        fields = unseal(read_small(path), str(path))
        kind, version = fields.pop("kind", None), fields.pop("version", None)
        if kind != KIND or version != VERSION:
            what = f"{kind!r}, version {version!r}, cannot be read here"
            raise DataError(what, where=str(path), hint="upgrade gpt-primer")
        try:
            counts, shards = fields["counts"], fields["shards"]
            manifest = cls(
                key=str(fields["key"]),
                source={str(name): str(value) for name, value in fields["source"].items()},
                tokenizer=str(fields["tokenizer"]),
                counts={split: {name: int(counts[split][name]) for name in COUNTED} for split in SPLITS},
                shards={
                    split: [Shard(int(shard["count"]), str(shard["sha256"])) for shard in shards[split]]
                    for split in SPLITS
                },
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise damaged(path, "is not laid out as a manifest") from error
        for split in SPLITS:
            held = [shard.count for shard in manifest.shards[split]]
            if any(not 0 <= count < 2**56 for count in held) or sum(held) != manifest.counts[split]["tokens"]:
                raise damaged(path, f"has shards of {split} that do not add up to its count")
        return manifest


def shard_name(split: Split, number: int) -> str:
    """train_00000.bin …"""
    return f"{split}_{number:05d}.bin"


def header(tokenizer: Tokenizer, split: Split, number: int, count: int) -> bytes:
    """The 128 bytes that stand before the ids of one shard."""
    vocabulary = bytes.fromhex(tokenizer.fingerprint)
    width = tokenizer.dtype.itemsize
    return HEADER.pack(MAGIC, VERSION, width, split.encode(), number, tokenizer.vocab_size, count, vocabulary)


def check_header(path: Path, found: bytes, expected: bytes) -> None:
    """Raises DataError that says which field differs: each is another story of what happened to the file."""
    if len(found) < HEADER.size:
        raise damaged(path, f"is cut off: its {len(found)} bytes are less than a header")
    for field, is_, should in zip(FIELDS, HEADER.unpack(found), HEADER.unpack(expected), strict=True):
        if is_ == should:
            continue
        if field == "magic":
            raise damaged(path, "is no shard: it begins otherwise")
        if field == "vocabulary":
            raise damaged(path, "does not belong here: its ids are another tokenizer's")
        raise damaged(path, f"does not belong here: its {field} is {_shown(is_)}, not {_shown(should)}")
    if found != expected:
        raise damaged(path, "has a damaged header")


def _shown(value: bytes | int) -> str:
    return value.rstrip(b"\0").decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def read_small(path: Path) -> str:
    """The text of a file that is never large."""
    with reading(path) as file:
        try:
            return file.read(1 << 26).decode()
        except UnicodeDecodeError as error:
            raise damaged(path, "is no UTF-8") from error


def damaged(path: Path, what: str) -> DataError:
    """The one way to say that a file of a shard directory is not as it was written."""
    return DataError(f"{path.name} {what}", str(path), f"delete {path.parent} and prepare the text again")
