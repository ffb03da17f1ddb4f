"""The pair directory: sentences of two languages as ids, which cannot be damaged or mixed up unnoticed.

manifest.json             everything below with its SHA-256, sealed with its own; what was left out, and why
tokenizer.json            of both languages together
train.source.ids          ids of all sentences, one after the other, each with its end-of-text token
train.source.ends         where each ends (int64)
train.target.ids …        and the same for validation, and for test where there is one
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from primer import tokens
from primer.assets import reading, seal, sha256_of, sha256_of_lines, unseal
from primer.data.manifest import MANIFEST, damaged, read_small
from primer.data.pairs import Pairs, Sentences
from primer.data.shards import TOKENIZER
from primer.errors import DataError
from primer.tokens.tokenizer import Ids, Tokenizer, fingerprint_of

KIND = "primer pairs"
VERSION = 1
SIDES = ("source", "target")
ENDS = np.dtype("<i8")


@dataclass(frozen=True)
class PairDirectory:
    """Pairs of sentences, each split read when it is asked for."""

    path: Path
    tokenizer: Tokenizer
    counts: dict[str, dict[str, int]]
    """By split: pairs, source and target tokens."""
    rejected: dict[str, str]
    """By split: how many pairs were left out, why, and one of each sort."""
    source: dict[str, str]
    """name, licence, address and fingerprint of the text."""
    key: str
    """All that decides the ids, as a hash."""
    fingerprint: str
    """SHA-256 over the tokenizer and all ids."""

    @classmethod
    def open(cls, path: Path | str) -> PairDirectory:
        """Raises DataError for whatever is not exactly as it was written."""
        path = Path(path)
        fields = _manifest(path)
        for name, fact in fields["files"].items():
            file = path / name
            if not file.is_file():
                raise damaged(file, "is missing")
            if file.stat().st_size != fact["bytes"] or sha256_of(file) != fact["sha256"]:
                raise damaged(file, "changed after the manifest was written: its SHA-256 differs")
        text = read_small(path / TOKENIZER)
        if fingerprint_of(text) != fields["tokenizer"]:
            raise damaged(path / TOKENIZER, "is not the tokenizer that made these ids")
        hashes = [fact["sha256"] for _, fact in sorted(fields["files"].items())]
        return cls(
            path,
            tokens.from_json(text, where=str(path / TOKENIZER)),
            fields["counts"],
            fields["rejected"],
            fields["source"],
            fields["key"],
            sha256_of_lines([fields["tokenizer"], *hashes]),
        )

    def pairs(self, split: str) -> Pairs:
        """The pairs of a split, memory-mapped. DataError where the text has no such split."""
        if split not in self.counts:
            raise DataError(f"this text has no {split} part", self.source["address"], "another split")
        return Pairs(*(self._sentences(f"{split}.{side}") for side in SIDES))

    def _sentences(self, name: str) -> Sentences:
        ids = _mapped(self.path / f"{name}.ids", self.tokenizer.dtype.newbyteorder("<"))
        ends = _mapped(self.path / f"{name}.ends", ENDS)
        if len(ends) and (int(ends[-1]) != len(ids) or (np.diff(ends, prepend=0) < 1).any()):
            raise damaged(self.path / f"{name}.ends", "does not fit the ids")
        if len(ids) and int(ids.max()) >= self.tokenizer.vocab_size:
            raise damaged(self.path / f"{name}.ids", "holds an id outside the vocabulary")
        return Sentences(ids, ends)


class SentenceWriter:
    """Appends sentences to two files, and knows their SHA-256 by the end."""

    def __init__(self, folder: Path, name: str, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype.newbyteorder("<")
        self.written = 0
        self._files: dict[str, BinaryIO] = {}
        self._hashes = {f"{name}.{kind}": hashlib.sha256() for kind in ("ids", "ends")}
        for file in self._hashes:
            self._files[file] = (folder / file).open("xb")

    def write(self, ids: Ids) -> None:
        """One more sentence."""
        self.written += len(ids)
        contents = ids.astype(self.dtype).tobytes(), np.array([self.written], ENDS).tobytes()
        for name, content in zip(self._hashes, contents, strict=True):
            self._files[name].write(content)
            self._hashes[name].update(content)

    def close(self) -> dict[str, dict[str, Any]]:
        """What the manifest says of both files."""
        facts = {}
        for name, file in self._files.items():
            facts[name] = {"bytes": file.tell(), "sha256": self._hashes[name].hexdigest()}
            file.close()
        return facts


def write_manifest(folder: Path, fields: Mapping[str, Any]) -> None:
    """Seal a directory whose other files are there."""
    (folder / MANIFEST).write_text(seal({"kind": KIND, "version": VERSION, **fields}), encoding="utf-8")


def _manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    if not file.is_file():
        raise DataError(f"this is no pair directory: it has no {MANIFEST}", str(path), "another folder")
    fields = unseal(read_small(file), str(file))
    kind, version = fields.get("kind"), fields.get("version")
    if (kind, version) != (KIND, VERSION):
        raise DataError(
            f"{kind!r}, version {version!r}, cannot be read here", str(file), "upgrade gpt-primer"
        )
    return fields


def _mapped(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    with reading(path) as file:
        if not path.stat().st_size:  # which cannot be mapped
            return np.empty(0, dtype)
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=dtype)
