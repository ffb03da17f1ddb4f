"""Which documents agree in a bucket: pairs, found in memory or, one bucket at a time, out of many files.

Documents that agree form a chain in their order, each linked to the next: m − 1 pairs for m documents, out of which a
union-find makes what all m (m − 1) / 2 would (as in datatrove's `MinhashDedupBuckets`). They agree if all bits of the
bucket do. A bucket without a minimum (`ABSENT` in all rows) agrees with nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from primer.corpus.duplicates.arrays import write_arrays
from primer.corpus.duplicates.minhash import ABSENT
from primer.corpus.duplicates.signatures import Group, open_group

KIND = "pairs of a bucket"


def pairs(signatures: NDArray[np.uint64]) -> NDArray[np.int64]:
    """(M, 2) numbers of documents out of signatures (N, buckets, rows): bucket by bucket, the smaller number first."""
    chains = [np.empty((0, 2), dtype=np.int64)]
    for bucket in range(signatures.shape[1]):
        documents = np.flatnonzero(_present(signatures[:, bucket]))
        chains.append(_chains(signatures[documents, bucket], documents))
    return np.concatenate(chains)


def bucket_pairs(files: Sequence[Path], bucket: int) -> NDArray[np.int64]:
    """(M, 2) numbers of documents that agree in one bucket, numbered through all files of signatures.

    Holds 16 bytes for each document, beside the bucket of one file and of those documents that agree with another.
    Raises DataError for files that are damaged or of several schemes, UsageError where there is no such bucket.
    """
    return _pairs_of(open_group(files), bucket)


def write_pairs(path: Path, files: Sequence[Path], bucket: int) -> None:
    """Job 2, for each bucket: a file of its `bucket_pairs`."""
    group = open_group(files)
    write_arrays(path, KIND, {"bucket": bucket, "group": group.key}, [_pairs_of(group, bucket)])


def _pairs_of(group: Group, bucket: int) -> NDArray[np.int64]:
    """Each file is read twice: first for fingerprints, then for the signatures of those that are not alone with theirs.

    Equal fingerprints only single out candidates, of which `_chains` compares every bit.
    """
    fingerprints = np.empty(group.starts[-1], dtype=np.uint64)
    for start, signatures in group.read(bucket):
        fingerprints[start : start + len(signatures)] = signatures @ _multipliers(signatures.shape[1])
    repeated = _repeated(fingerprints)
    found, numbers = [], []
    for start, signatures in group.read(bucket):
        candidate = _among(repeated, fingerprints[start : start + len(signatures)])
        rows = np.flatnonzero(candidate & _present(signatures))
        found.append(signatures[rows])
        numbers.append(start + rows)
    return _chains(np.concatenate(found), np.concatenate(numbers))


def _chains(signatures: NDArray[np.uint64], documents: NDArray[np.int64]) -> NDArray[np.int64]:
    """Links between successive documents with equal signatures (K, rows). `documents` must ascend."""
    order = np.lexsort(signatures.T)  # which is stable
    signatures, documents = signatures[order], documents[order]
    same = (signatures[1:] == signatures[:-1]).all(axis=1)
    return np.stack([documents[:-1][same], documents[1:][same]], axis=1)


def _present(signatures: NDArray[np.uint64]) -> NDArray[np.bool_]:
    return (signatures != ABSENT).any(axis=1)


@cache
def _multipliers(rows: int) -> NDArray[np.uint64]:
    """Of a multilinear hash mod 2^64: two different buckets have one fingerprint with probability about 2^−64."""
    return np.random.RandomState(0).randint(0, 1 << 64, dtype=np.uint64, size=rows) | np.uint64(1)


def _repeated(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """What occurs more than once, ascending."""
    numbers = np.sort(numbers)
    return np.unique(numbers[1:][numbers[1:] == numbers[:-1]])


def _among(ascending: NDArray[np.uint64], numbers: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which numbers occur in a sorted list. (np.isin would sort all of them again.)"""
    if not len(ascending):
        return np.zeros(len(numbers), dtype=np.bool_)
    places = np.searchsorted(ascending, numbers)
    return ascending[np.minimum(places, len(ascending) - 1)] == numbers
