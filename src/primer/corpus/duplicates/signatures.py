"""The signatures of many documents on disk: a file for each unit of input, and all of them as one group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from primer.assets import sha256_of_lines
from primer.corpus.duplicates.arrays import ArrayFile, open_arrays, write_arrays
from primer.errors import DataError, UsageError

KIND = "signatures of documents"


def write_signatures(path: Path, signatures: NDArray[np.uint64], scheme: str) -> None:
    """Job 1, for each unit of input: a file of its documents' signatures (N, buckets, rows), bucket after bucket.

    scheme: how they were made (`MinHash.scheme`, `exact.SCHEME`); files that differ in it are never compared.
    """
    buckets = [signatures[:, bucket] for bucket in range(signatures.shape[1])]
    write_arrays(path, KIND, {"scheme": scheme, "documents": len(signatures)}, buckets)


@dataclass(frozen=True)
class Group:
    """Files of one scheme, whose documents are numbered through in the order of the files."""

    files: tuple[ArrayFile, ...]

    @property
    def starts(self) -> tuple[int, ...]:
        """The number of each file's first document, and after the last file how many documents there are."""
        return tuple(accumulate((file.fields["documents"] for file in self.files), initial=0))

    @property
    def buckets(self) -> int:
        """How many buckets a signature has."""
        return len(self.files[0].arrays)

    @property
    def key(self) -> str:
        """The SHA-256 of what is in all files, in this order: what is made out of them says so."""
        return sha256_of_lines(file.key for file in self.files)

    def read(self, bucket: int) -> Iterator[tuple[int, NDArray[np.uint64]]]:
        """Of each file: the number of its first document, and one bucket (N, rows) of all of its documents."""
        if not 0 <= bucket < self.buckets:
            raise UsageError(f"there is no bucket {bucket}", hint=f"0 to {self.buckets - 1}")
        for start, file in zip(self.starts, self.files, strict=False):
            yield start, file.read(bucket)


def open_group(paths: Sequence[Path]) -> Group:
    """The files of signatures at `paths`. Raises DataError for one of another scheme, UsageError for no path."""
    if not paths:
        raise UsageError(
            "no file of signatures is given", hint="the files of all units of input, in their order"
        )
    files = tuple(open_arrays(path, KIND) for path in paths)
    for file in files:
        if file.fields["scheme"] != files[0].fields["scheme"]:
            raise DataError(
                f"signatures of another scheme: {file.fields['scheme']}, not {files[0].fields['scheme']}",
                where=str(file.path),
                hint="make all of them in the same way",
            )
    return Group(files)
