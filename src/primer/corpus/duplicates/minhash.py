"""MinHash: a few numbers of which two texts share about as many as their sets of word 5-grams have in common.

A text is the set of its shingles, hashes of 5 successive words. A random permutation of all hashes has the same
smallest element in two sets with probability J, the share of their union that both have (Jaccard). A signature holds
the smallest under each of 14 × 8 permutations; two texts are taken for duplicates if all 8 of some bucket agree, which
happens with probability 1 − (1 − J^8)^14: 0.924 at J = 0.8, one half at J = 0.685.

Broder, "On the resemblance and containment of documents" (1997); in buckets: Leskovec, Rajaraman and Ullman, "Mining
of Massive Datasets", §3.4. Signatures are bit for bit those of datatrove's `pipeline/dedup/minhash.py` with xxhash and
64 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from primer.errors import UsageError, missing_extra

MERSENNE_61 = (1 << 61) - 1
"""A prime. Signatures are smaller; a, b of the permutations too."""
Minima = Callable[[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]], NDArray[np.uint64]]
ABSENT = np.uint64((1 << 64) - 1)
"""The minimum of no numbers: what the signature of a text without shingles is made of."""


@dataclass(frozen=True)
class MinHash:
    """A scheme of signatures. Only those of equal schemes can be compared. Raises UsageError for a size below 1."""

    n_grams: int = 5
    """Words in a shingle."""
    buckets: int = 14
    rows: int = 8
    """Numbers in a bucket, which must all agree."""
    seed: int = 1
    """Of the permutations, below 2^32."""

    def __post_init__(self) -> None:
        if min(self.n_grams, self.buckets, self.rows) < 1 or not 0 <= self.seed < 1 << 32:
            raise UsageError(
                "not a scheme of signatures: a size below 1, or a seed beyond 32 bits",
                str(self),
                "n_grams=5, buckets=14, rows=8, seed=1",
            )

    @property
    def scheme(self) -> str:
        """What signatures must have in common to be compared: for the heads of files."""
        return (
            f"minhash xxh64 n_grams={self.n_grams} buckets={self.buckets} rows={self.rows} seed={self.seed}"
        )

    def parameters(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """a and b of the permutations h → ((a h + b) mod 2^64) mod (2^61 − 1), `buckets` × `rows` of each."""
        return _parameters(self.buckets * self.rows, self.seed)

    def shingles(self, words: Sequence[str]) -> NDArray[np.uint64]:
        """xxh64 of each `n_grams` successive words, joined by spaces, in order. Too few words have none.

        Words are those of a simplified text (`simplify`). Raises SurroundingsError without xxhash.
        """
        try:
            from xxhash import xxh64_digest
        except ImportError as error:
            raise missing_extra("xxhash", "corpus") from error
        ends = range(self.n_grams, len(words) + 1)
        digests = [
            xxh64_digest(" ".join(words[end - self.n_grams : end]).encode("utf-8", "surrogatepass"))
            for end in ends
        ]
        return np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64)

    def signature(
        self, shingles: NDArray[np.uint64], *, by: Literal["numba", "numpy"] = "numba"
    ) -> NDArray[np.uint64]:
        """(buckets, rows): the smallest shingle under each permutation; `ABSENT` everywhere where there is no shingle.

        by: numba's is about ten times as fast. Raises SurroundingsError where it is not installed.
        """
        a, b = self.parameters()
        minima = minima_in_numpy if by == "numpy" else _minima_in_numba()
        return minima(shingles, a, b).reshape(self.buckets, self.rows)

    def signatures(self, documents: Iterable[Sequence[str]]) -> NDArray[np.uint64]:
        """(N, buckets, rows) for the words of N documents."""
        found = [self.signature(self.shingles(words)) for words in documents]
        return np.stack(found) if found else np.empty((0, self.buckets, self.rows), dtype=np.uint64)

    def detection(self, jaccard: float) -> float:
        """The probability that two texts which share so much agree in some bucket."""
        return 1 - (1 - jaccard**self.rows) ** self.buckets


def _minima_in_numba() -> Minima:
    try:
        from primer.corpus.duplicates.compiled import minima
    except ImportError as error:
        raise missing_extra("numba", "corpus") from error
    return minima


@cache
def _parameters(count: int, seed: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Of numpy's legacy generator, whose numbers are promised never to change."""
    chance = np.random.RandomState(seed)
    a = chance.randint(1, MERSENNE_61, dtype=np.uint64, size=count)
    b = chance.randint(0, MERSENNE_61, dtype=np.uint64, size=count)
    a.flags.writeable = b.flags.writeable = False
    return a, b


def minima_in_numpy(
    shingles: NDArray[np.uint64], a: NDArray[np.uint64], b: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """min over h of ((a h + b) mod 2^64) mod (2^61 − 1), for each a and b: the definition, in one matrix."""
    permuted = (shingles[:, None] * a + b) % np.uint64(MERSENNE_61)
    return permuted.min(axis=0, initial=ABSENT)
