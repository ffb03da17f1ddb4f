"""Exact copies: a 128-bit hash of a text, as a signature of one bucket with two rows.

So they are found, clustered and written by what does so for MinHash. Two different texts of n are taken for copies with
probability below n² / 2^129, 1.5e-17 for 1e11 texts; nobody can make such a pair, as BLAKE2b is cryptographic.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from primer.corpus.duplicates.buckets import pairs
from primer.corpus.duplicates.clusters import clusters

SCHEME = "blake2b-16 of UTF-8"


def signatures(texts: Iterable[str]) -> NDArray[np.uint64]:
    """(N, 1, 2): BLAKE2b of 16 bytes of each text in UTF-8."""
    digests = [blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts]
    return np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64).reshape(-1, 1, 2)


def labels(texts: Iterable[str]) -> NDArray[np.int64]:
    """(N,) of each text, the number of the first one that is equal to it."""
    found = signatures(texts)
    return clusters(len(found), pairs(found))
