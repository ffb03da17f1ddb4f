from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primer.corpus.duplicates import buckets
from primer.corpus.duplicates.buckets import bucket_pairs, pairs
from primer.corpus.duplicates.minhash import ABSENT
from primer.corpus.duplicates.signatures import open_group, write_signatures
from primer.errors import DataError, UsageError


def naive(signatures):
    """Links by a table of everything that was seen, with Python's own numbers."""
    links = []
    for bucket in range(signatures.shape[1]):
        seen = defaultdict(list)
        for document, signature in enumerate(signatures[:, bucket].tolist()):
            if signature != [int(ABSENT)] * len(signature):
                seen[tuple(signature)].append(document)
        links += [(bucket, *pair) for chain in seen.values() for pair in pairwise(chain)]
    return sorted(links)


def colliding(documents, seed):
    """Signatures (documents, 4, 3) of few numbers, which often agree; some with none."""
    chance = np.random.default_rng(seed)
    signatures = chance.integers(0, 3, size=(documents, 4, 3), dtype=np.uint64)
    signatures[chance.random(documents) < 0.1] = ABSENT
    return signatures


@settings(max_examples=50)
@given(st.integers(0, 60), st.integers(0, 1000))
def test_pairs_are_the_chains_of_equal_buckets(documents, seed):
    signatures = colliding(documents, seed)
    alone = [pairs(signatures[:, b : b + 1]).tolist() for b in range(4)]
    assert pairs(signatures).tolist() == [pair for links in alone for pair in links]
    assert sorted((b, *pair) for b, links in enumerate(alone) for pair in links) == naive(signatures)


@pytest.fixture
def files(tmp_path):
    """One set of 200 documents in five files, of which one is empty, and one has no signature at all."""
    signatures = colliding(200, seed=3)
    signatures[150:160] = ABSENT
    paths = [tmp_path / f"{number}.signatures" for number in range(5)]
    for path, part in zip(paths, np.split(signatures, [90, 90, 150, 160]), strict=True):
        write_signatures(path, part, "test")
    return paths, signatures


@pytest.mark.parametrize("collide", [False, True])
def test_files_have_the_pairs_of_all_documents_together(files, monkeypatch, collide):
    """Even if every fingerprint were the same."""
    if collide:
        monkeypatch.setattr(buckets, "_multipliers", lambda rows: np.zeros(rows, dtype=np.uint64))
    paths, signatures = files
    for bucket in range(4):
        found = bucket_pairs(paths, bucket)
        assert found.tolist() == pairs(signatures[:, bucket : bucket + 1]).tolist()
        assert len(found)


def test_one_bit_makes_a_difference(tmp_path):
    same = np.arange(8, dtype=np.uint64).reshape(1, 1, 8)
    for row in range(8):
        for bit in (0, 60):
            other = same.copy()
            other[0, 0, row] ^= np.uint64(1 << bit)
            both = np.concatenate([same, other])
            assert not len(pairs(both))
            write_signatures(tmp_path / "s", both, "test")
            assert not len(bucket_pairs([tmp_path / "s"], 0))


def test_a_bucket_is_read_without_the_others(files):
    paths, signatures = files
    data = bytearray(paths[0].read_bytes())
    data[-1] ^= 1  # of the last bucket
    paths[0].write_bytes(data)
    assert bucket_pairs(paths, 0).tolist() == pairs(signatures[:, :1]).tolist()
    with pytest.raises(DataError, match="checksum"):
        bucket_pairs(paths, 3)


def test_what_cannot_be_compared_is_refused(files, tmp_path):
    paths, signatures = files
    write_signatures(tmp_path / "other", signatures, "another")
    with pytest.raises(DataError, match="another, not test"):
        open_group([*paths, tmp_path / "other"])
    with pytest.raises(UsageError, match="no file"):
        open_group([])
    for bucket in (-1, 4):
        with pytest.raises(UsageError, match="no bucket"):
            bucket_pairs(paths, bucket)
