"""A file of several arrays, each of which is read, and found whole, without the others.

One line of sealed JSON (what the arrays are, their types, shapes and checksums), then their bytes, one after another.
So a job reads its bucket out of every file of signatures, and no more.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primer.assets import reading, replacing, seal, unseal
from primer.errors import DataError

LONGEST_HEAD = 1 << 20
"""Bytes; a bound on what is read of a file that is something else."""


@dataclass(frozen=True)
class ArrayFile:
    """The head of such a file."""

    path: Path
    fields: dict[str, Any]
    """What its writer said of it."""
    arrays: tuple[dict[str, Any], ...]
    start: int
    """The byte where the first array begins."""
    key: str
    """The SHA-256 of the head, and so of everything in the file."""

    def read(self, index: int) -> NDArray[Any]:
        """One of the arrays. Raises DataError where its bytes are not those that were written."""
        spec = self.arrays[index]
        with reading(self.path) as file:
            file.seek(self.start + sum(map(_size, self.arrays[:index])))
            found = np.fromfile(file, dtype=spec["dtype"], count=math.prod(spec["shape"]))
        if _sha256(found) != spec["sha256"]:
            raise DataError("this file is damaged: a checksum does not fit", str(self.path), "make it again")
        return found.reshape(spec["shape"])


def write_arrays(path: Path, kind: str, fields: dict[str, Any], arrays: Sequence[NDArray[Any]]) -> None:
    """Write a file of this kind that is whole or absent. `fields` must be JSON."""
    specs = [{"dtype": _little(a).str, "shape": list(a.shape), "sha256": _sha256(a)} for a in arrays]
    with replacing(path, durable=False) as file:
        file.write(seal({"kind": kind, "fields": fields, "arrays": specs}).encode() + b"\n")
        for array in arrays:
            file.write(_bytes(array))


def open_arrays(path: Path, kind: str) -> ArrayFile:
    """The head of a file of this kind. Raises DataError for any other, and for a damaged head."""
    with reading(path) as file:
        line = file.readline(LONGEST_HEAD)
    head = unseal(line.removesuffix(b"\n").decode("utf-8", "replace"), where=str(path))
    if head.get("kind") != kind:
        raise DataError(f"this holds {head.get('kind')}, not {kind}", str(path), "another file")
    return ArrayFile(path, head["fields"], tuple(head["arrays"]), len(line), hashlib.sha256(line).hexdigest())


def _size(spec: dict[str, Any]) -> int:
    return math.prod(spec["shape"]) * np.dtype(spec["dtype"]).itemsize


def _little(array: NDArray[Any]) -> np.dtype[Any]:
    return array.dtype.newbyteorder("<")


def _bytes(array: NDArray[Any]) -> memoryview:
    """An array's bytes, little end first, without a copy where they lie so already."""
    return np.ascontiguousarray(array, dtype=_little(array)).reshape(-1).view(np.uint8).data


def _sha256(array: NDArray[Any]) -> str:
    return hashlib.sha256(_bytes(array)).hexdigest()
