"""How fast a million documents are deduplicated: `python benchmarks/minhash.py [--documents 1000000] [--save]`.

Signatures of 14 × 8 random numbers in ten files, a fifth of them in planted clusters of 2 to 6, scattered over all
files; each member agrees with the one before it in one bucket, drawn anew for each. In a process of its own, from files
to files: the pairs of every bucket, then the clusters. Every planted cluster must be found, and nothing else.
Then the microseconds that one document of 2,000 shingles takes.
Goals: ≤ 60 s on one core and ≤ 2 GB for a million; ≤ 150 µs for a signature.
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primer.corpus.duplicates.buckets import write_pairs
from primer.corpus.duplicates.clusters import read_clusters, write_clusters
from primer.corpus.duplicates.minhash import MERSENNE_61, MinHash
from primer.corpus.duplicates.signatures import write_signatures

FILES = 10
SHARE = 0.2
SCHEME = MinHash()
MEASURED = ("src/primer/corpus/duplicates", "src/primer/assets.py", "benchmarks/minhash.py")


def planted(documents: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Signatures, and of each document the first of its cluster."""
    chance = np.random.default_rng(6)
    shape = (documents, SCHEME.buckets, SCHEME.rows)
    signatures = chance.integers(0, MERSENNE_61, size=shape, dtype=np.uint64)
    labels = np.arange(documents)
    members = chance.permutation(documents)[: int(documents * SHARE)]
    while len(members) >= 2:
        cluster, members = np.split(members, [chance.integers(2, 7)])
        for before, after in pairwise(cluster):
            bucket = chance.integers(SCHEME.buckets)
            signatures[after, bucket] = signatures[before, bucket]
        labels[cluster] = cluster.min()
    return signatures, labels


def deduplicated(folder: Path, files: list[Path], queue: Any) -> None:
    """Jobs 2 and 3, one after another: seconds of each, and the peak memory of this process."""
    before = peak()
    pairs = [folder / f"{bucket:02}.pairs" for bucket in range(SCHEME.buckets)]
    started = time.perf_counter()
    for bucket, path in enumerate(pairs):
        write_pairs(path, files, bucket)
    paired = time.perf_counter()
    write_clusters([file.with_suffix(".clusters") for file in files], files, pairs)
    ended = time.perf_counter()
    queue.put(
        {
            "pairs_seconds": round(paired - started, 2),
            "clusters_seconds": round(ended - paired, 2),
            "seconds": round(ended - started, 2),
            "peak_mb": round(peak() / 1e6),
            "interpreter_mb": round(before / 1e6),
        }
    )


def peak() -> int:
    """Bytes at the highest, of this program alone (`ru_maxrss` remembers the one that started it)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def whole_chain(documents: int, folder: Path) -> dict[str, Any]:
    """Write, deduplicate in another process, compare."""
    signatures, labels = planted(documents)
    files = [folder / f"{number}.signatures" for number in range(FILES)]
    started = time.perf_counter()
    for file, part in zip(files, np.array_split(signatures, FILES), strict=True):
        write_signatures(file, part, SCHEME.scheme)
    writing = time.perf_counter() - started
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=deduplicated, args=(folder, files, queue))
    process.start()
    figures: dict[str, Any] = queue.get(timeout=600)
    process.join()
    found = np.concatenate([read_clusters(file.with_suffix(".clusters")).labels for file in files])
    assert (found == labels).all(), "other clusters than were planted"
    return {
        "documents": documents,
        "megabytes_of_signatures": round(signatures.nbytes / 1e6),
        "planted_clusters": int((np.bincount(labels) > 1).sum()),
        "planted_duplicates": int((labels != np.arange(documents)).sum()),
        "found": "all, and nothing else",
        "writing_seconds": round(writing, 2),
        **figures,
    }


def microseconds(run: Callable[[], object], rounds: int = 200) -> float:
    """The median of many rounds, after one that does not count."""
    seconds = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return round(statistics.median(seconds[1:]) * 1e6, 1)


def one_document() -> dict[str, float]:
    """2,000 shingles of words of 2 to 9 letters."""
    chance = np.random.default_rng(6)
    words = ["x" * length for length in chance.integers(2, 10, size=2004)]
    shingles = SCHEME.shingles(words)
    assert (SCHEME.signature(shingles) == SCHEME.signature(shingles, by="numpy")).all(), "other minima"
    return {
        "shingles": microseconds(lambda: SCHEME.shingles(words)),
        "signature_numba": microseconds(lambda: SCHEME.signature(shingles)),
        "signature_numpy": microseconds(lambda: SCHEME.signature(shingles, by="numpy"), rounds=30),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=1_000_000, help="how many (default 1000000)")
    parser.add_argument(
        "--save", action="store_true", help="keep the figures in benchmarks/results/minhash.json"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        figures = whole_chain(options.documents, Path(name))
    figures["microseconds_of_2000_shingles"] = one_document()

    from rich.console import Console

    from receipt import write  # which imports torch; the other process must not

    Console().print(figures)
    if options.save:
        print(write("minhash", figures, measured=MEASURED).name)


if __name__ == "__main__":
    main()
