"""From pairs to clusters, of which the first document stays.

datatrove's `MinhashDedupCluster` unites by size, so which document stays depends on the order of pairs, and with it on
how work was shared out (its issue 106). Here the smaller number always becomes the root: a cluster is called by its
first document in the canonical order, whatever the order of pairs. The clusters are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from primer.corpus.duplicates.arrays import ArrayFile, open_arrays, write_arrays
from primer.corpus.duplicates.buckets import KIND as PAIRS
from primer.corpus.duplicates.signatures import Group, open_group
from primer.errors import DataError, missing_extra

KIND = "clusters of documents"


def clusters(n: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) labels out of pairs (M, 2) of numbers below n: of each document, the smallest number of its cluster.

    >>> clusters(5, np.array([[3, 4], [1, 3]])).tolist()
    [0, 1, 2, 1, 1]
    """
    return _united(n, [pairs])


def representatives(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n,) which documents stay: the first of each cluster."""
    return labels == np.arange(len(labels))


def sizes(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) how many documents each one's cluster has; 1 for a document that is like no other."""
    return np.bincount(labels, minlength=len(labels))[labels]


@dataclass(frozen=True)
class Membership:
    """The clusters of one unit's documents, in their order."""

    start: int
    """The number of the first one among all documents of the group."""
    labels: NDArray[np.int64]
    """The first document of each one's cluster, which may be of another unit."""
    sizes: NDArray[np.int64]
    """Documents in each one's cluster, of all units."""

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Which documents stay."""
        return self.labels == self.start + np.arange(len(self.labels))


def write_clusters(paths: Sequence[Path], files: Sequence[Path], pair_files: Sequence[Path]) -> None:
    """Job 3, once: for each file of signatures the `Membership` of its documents, at the path in the same place.

    Takes the pairs of all buckets, in any order. 24 bytes are held for each document, beside one bucket's pairs.
    Raises DataError where a bucket is missing or there twice, or pairs are of other signatures.
    """
    group = open_group(files)
    found = _all_buckets(group, pair_files)
    labels = _united(group.starts[-1], (file.read(0) for file in found))
    counts = sizes(labels)
    for path, start, end in zip(paths, group.starts[:-1], group.starts[1:], strict=True):
        write_arrays(path, KIND, {"start": start, "group": group.key}, [labels[start:end], counts[start:end]])


def read_clusters(path: Path) -> Membership:
    """What `write_clusters` wrote there. Raises DataError where it is damaged or something else."""
    file = open_arrays(path, KIND)
    return Membership(file.fields["start"], file.read(0), file.read(1))


def _all_buckets(group: Group, paths: Iterable[Path]) -> list[ArrayFile]:
    found: dict[int, ArrayFile] = {}
    for path in paths:
        file = open_arrays(path, PAIRS)
        bucket = file.fields["bucket"]
        if file.fields["group"] != group.key:
            raise DataError("these pairs were found in other signatures", str(path), "find them again")
        if bucket in found:
            raise DataError(f"the pairs of bucket {bucket} are there twice", str(path), "one file a bucket")
        found[bucket] = file
    missing = sorted(set(range(group.buckets)) - set(found))
    if missing:
        raise DataError(f"the pairs of bucket {missing[0]} are missing", hint="find them first")
    return list(found.values())


def _united(n: int, many: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Labels of n documents, all pairs taken together."""
    try:
        from primer.corpus.duplicates.compiled import flatten, unite
    except ImportError as error:
        raise missing_extra("numba", "corpus") from error
    parents = np.arange(n)
    for pairs in many:
        assert (
            not len(pairs) or 0 <= pairs.min() <= pairs.max() < n
        )  # compiled code would write beyond the end
        unite(parents, np.ascontiguousarray(pairs))
    flatten(parents)
    return parents
