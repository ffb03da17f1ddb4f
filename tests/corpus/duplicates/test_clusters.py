import random
import struct
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primer.corpus.duplicates import exact
from primer.corpus.duplicates.buckets import pairs, write_pairs
from primer.corpus.duplicates.clusters import clusters, read_clusters, representatives, sizes, write_clusters
from primer.corpus.duplicates.minhash import MinHash
from primer.corpus.duplicates.signatures import write_signatures
from primer.corpus.duplicates.simplify import simplify
from primer.errors import DataError

MINHASH = MinHash()
N = 30
PAIRS = st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, N - 1)), max_size=40)


def naive(n, links):
    """Components by walking, each called by its smallest number."""
    neighbours = [{i} for i in range(n)]
    for one, other in links:
        neighbours[one].add(other)
        neighbours[other].add(one)
    labels = [-1] * n
    for start in range(n):
        todo = [start] if labels[start] < 0 else []
        while todo:
            if labels[here := todo.pop()] < 0:
                labels[here] = start
                todo += neighbours[here]
    return labels


def as_array(links):
    return np.array(links, dtype=np.int64).reshape(-1, 2)


@settings(max_examples=60)
@given(PAIRS, st.randoms(use_true_random=False))
def test_labels_are_the_components_whatever_the_order_of_pairs(links, chance):
    expected = naive(N, links)
    assert clusters(N, as_array(links)).tolist() == expected
    shuffled = [chance.choice([(a, b), (b, a)]) for a, b in chance.sample(links, len(links))]
    assert clusters(N, as_array(shuffled)).tolist() == expected


def test_a_long_chain_is_one_cluster():
    n = 10_000
    links = np.stack([np.arange(n - 1), np.arange(1, n)], axis=1)
    for order in (links, links[::-1], np.random.default_rng(1).permutation(links)):
        assert not clusters(n, order).any()


def test_the_first_stays_and_each_knows_how_many_there_are():
    labels = clusters(6, as_array([(4, 5), (1, 4)]))
    assert labels.tolist() == [0, 1, 2, 3, 1, 1]
    assert representatives(labels).tolist() == [True, True, True, True, False, False]
    assert sizes(labels).tolist() == [1, 3, 1, 1, 3, 3]
    assert clusters(0, as_array([])).tolist() == []


@pytest.fixture
def corpus():
    """Four files of 12 texts of 200 words; a third of them are earlier ones with up to three words changed."""
    chance = random.Random(5)
    vocabulary = ["".join(chance.choices("abcdefghij", k=6)) for _ in range(3000)]
    texts = []
    for _ in range(48):
        words = chance.choices(vocabulary, k=200)
        if texts and chance.random() < 1 / 3:
            words = chance.choice(texts).split()
            for _ in range(chance.randrange(4)):
                words[chance.randrange(200)] = chance.choice(vocabulary)
        texts.append(" ".join(words))
    texts[7] = texts[30] = "all too short"
    return [texts[start : start + 12] for start in range(0, 48, 12)]


def jobs(tmp_path, corpus, signatures_of, scheme, n_buckets):
    """The three jobs, out of order where that must not matter."""
    files = [tmp_path / f"{unit}.signatures" for unit in range(len(corpus))]
    targets = [file.with_suffix(".clusters") for file in files]
    for file, texts in reversed(list(zip(files, corpus, strict=True))):
        write_signatures(file, signatures_of(texts), scheme)
    found = [tmp_path / f"{bucket}.pairs" for bucket in range(n_buckets)]
    for bucket, path in enumerate(found):
        write_pairs(path, files, bucket)
    write_clusters(targets, files, found[::-1])
    return files, found, targets


def of_words(texts):
    return MINHASH.signatures(simplify(text).split() for text in texts)


def test_the_three_jobs_find_what_datatroves_four_steps_find(tmp_path, corpus, datatrove_step):
    *_, targets = jobs(tmp_path, corpus, of_words, MINHASH.scheme, MINHASH.buckets)
    theirs, kept = of_datatrove(tmp_path / "datatrove", corpus, datatrove_step(str.split))
    members = [read_clusters(target) for target in targets]
    labels = np.concatenate([m.labels for m in members])

    assert as_sets(labels.tolist()) == as_sets(theirs)
    assert [m.start for m in members] == [0, 12, 24, 36]
    assert sum(int(m.kept.sum()) for m in members) == kept
    assert 30 < kept < 40, "some were planted, and not all are"
    assert np.concatenate([m.sizes for m in members]).max() > 2
    assert labels.tolist() == clusters(48, pairs(of_words(chain.from_iterable(corpus)))).tolist()


def of_datatrove(folder, corpus, signatures):
    """Its cluster of every document (those of no cluster have one of their own), and how many it keeps."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup.minhash import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter

    units = [[Document(text, f"{u} {i}") for i, text in enumerate(texts)] for u, texts in enumerate(corpus)]
    for rank, unit in enumerate(units):
        signatures.run(iter(unit), rank, len(units))
    pairs_of = MinhashDedupBuckets(
        str(folder / "signatures"), str(folder / "pairs"), config=signatures.config
    )
    for rank in range(14):
        pairs_of.run(rank=rank, world_size=14)
    MinhashDedupCluster(
        str(folder / "pairs"), str(folder / "clusters"), config=signatures.config, save_cluster_id=True
    ).run()
    kept = sum(
        len(list(MinhashDedupFilter(str(folder / "clusters")).run(iter(unit), rank)))
        for rank, unit in enumerate(units)
    )
    labels: list[object] = [f"{u} {i}" for u, unit in enumerate(units) for i in range(len(unit))]
    for unit in range(len(units)):
        data = (folder / "clusters" / f"{unit:06d}.clusters").read_bytes()
        for document, cluster in struct.iter_unpack("<2I", data):
            labels[12 * unit + document] = cluster
    return labels, kept


def as_sets(labels):
    return {frozenset(i for i, label in enumerate(labels) if label == each) for each in labels}


def test_datatrove_keeps_another_document_since_it_unites_by_size(tmp_path):
    """Documents 1 and 2 agree in the first bucket, 0 and 1 in the second: 0 joins the larger set, whose root is 1."""
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupCluster

    links = [(1, 2), (0, 1)]

    def removed(order):
        folder = tmp_path / str(order[0])
        folder.mkdir()
        for bucket, (a, b) in enumerate(order):
            (folder / f"{bucket:05d}_00.dups").write_bytes(struct.pack("<4I", 0, a, 0, b))
        MinhashDedupCluster(str(folder), str(folder / "out"), config=MinhashConfig(num_buckets=2)).run()
        data = (folder / "out" / "000000.remove").read_bytes()
        return [number for (number,) in struct.iter_unpack("<I", data)]

    assert removed(links) == [0, 2], "by size: 1 stays"
    assert removed(links[::-1]) == [1, 2], "and another one for another order of pairs"
    for order in (links, links[::-1]):
        assert np.flatnonzero(~representatives(clusters(3, as_array(order)))).tolist() == [1, 2]


def test_exact_copies_go_through_the_same_jobs(tmp_path):
    corpus = [["a", "b", "a"], [], ["c", "b", ""], ["", "d", "a"]]
    *_, targets = jobs(tmp_path, corpus, exact.signatures, exact.SCHEME, 1)
    members = [read_clusters(target) for target in targets]
    assert [m.labels.tolist() for m in members] == [[0, 1, 0], [], [3, 1, 5], [5, 7, 0]]
    assert [m.sizes.tolist() for m in members] == [[3, 2, 3], [], [1, 2, 2], [2, 1, 3]]
    assert [m.kept.tolist() for m in members] == [
        [True, True, False],
        [],
        [True, False, True],
        [False, True, False],
    ]


def test_incomplete_and_foreign_pairs_are_refused(tmp_path, corpus):
    files, found, targets = jobs(tmp_path, corpus, of_words, MINHASH.scheme, MINHASH.buckets)
    before = [target.read_bytes() for target in targets]
    with pytest.raises(DataError, match="bucket 3 are missing"):
        write_clusters(targets, files, found[:3] + found[4:])
    with pytest.raises(DataError, match="bucket 2 are there twice"):
        write_clusters(targets, files, [*found, found[2]])
    with pytest.raises(DataError, match="other signatures"):
        write_clusters(targets, files[::-1], found)
    with pytest.raises(DataError, match="not pairs"):
        write_clusters(targets, files, files)
    assert [target.read_bytes() for target in targets] == before
    write_clusters(targets, files, found)
    assert [target.read_bytes() for target in targets] == before, "done again, it is the same"
