import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primer.corpus.duplicates.minhash import ABSENT, MERSENNE_61, MinHash, minima_in_numpy
from primer.corpus.duplicates.simplify import simplify
from primer.errors import UsageError

MINHASH = MinHash()


def of_datatrove(step, text):
    """Its signature, or ours for "none" where it makes none."""
    shingles = step.get_shingles(text)
    return (
        np.array(step.get_signature(shingles), dtype=np.uint64) if shingles.size else np.full((14, 8), ABSENT)
    )


def test_the_permutations_are_datatroves(datatrove_step):
    for ours, theirs in zip(MINHASH.parameters(), datatrove_step().parameters, strict=True):
        assert ours.tolist() == theirs[0].tolist()


def test_signatures_of_real_pages_are_datatroves_bit_for_bit(pages, datatrove_step):
    """Words are split by spaCy, as there."""
    step = datatrove_step()
    pages = [page[:3000] for page in pages[::6]]
    words = [step.word_tokenizer.word_tokenize(simplify(page)) for page in pages]
    expected = np.stack([of_datatrove(step, page) for page in pages])
    assert MINHASH.signatures(words).tolist() == expected.tolist()
    assert len(np.unique(expected)) > len(pages)


def test_signatures_of_any_text_are_datatroves_bit_for_bit(datatrove_step):
    step = datatrove_step(str.split)

    @settings(max_examples=100)
    @given(
        st.lists(st.text(st.characters(exclude_categories=("Cs", "Cn")), min_size=1, max_size=5), max_size=20)
    )
    def check(words):
        text = " ".join(words)
        ours = MINHASH.signatures([simplify(text).split()])[0]
        assert ours.tolist() == of_datatrove(step, text).tolist()

    check()


def test_shingles_are_those_of_xxhash():
    from xxhash import xxh64_intdigest

    words = ["the", "cat", "sät", "on", "the", "mat"]
    expected = [
        xxh64_intdigest("the cat sät on the".encode()),
        xxh64_intdigest("cat sät on the mat".encode()),
    ]
    assert MINHASH.shingles(words).tolist() == expected
    assert MinHash(n_grams=1).shingles(["a"]).tolist() == [xxh64_intdigest(b"a")]
    assert len(MINHASH.shingles(["\ud800"] * 5)) == 1  # which stands for nothing, but occurs in JSON


@pytest.mark.parametrize("by", ["numba", "numpy"])
def test_a_text_of_four_words_has_no_signature(by):
    shingles = MINHASH.shingles(["a"] * 4)
    assert len(shingles) == 0
    assert (MINHASH.signature(shingles, by=by) == ABSENT).all()
    assert (MINHASH.signature(MINHASH.shingles(["a"] * 5), by=by) < MERSENNE_61).all()


@settings(max_examples=60)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=40), st.integers(0, 2**32 - 1))
def test_the_compiled_minima_are_those_of_the_definition(shingles, seed):
    scheme = MinHash(buckets=3, rows=2, seed=seed)
    array = np.array(shingles, dtype=np.uint64)
    a, b = (each.tolist() for each in scheme.parameters())
    by_hand = [
        min(((h * x + y) % 2**64 % MERSENNE_61 for h in shingles), default=int(ABSENT))
        for x, y in zip(a, b, strict=True)
    ]
    assert scheme.signature(array, by="numpy").ravel().tolist() == by_hand
    assert scheme.signature(array, by="numba").ravel().tolist() == by_hand


@pytest.mark.parametrize("multiple", range(8))
@pytest.mark.parametrize("beside", [-1, 0, 1])
def test_the_compiled_remainder_at_multiples_of_the_modulus(multiple, beside):
    from primer.corpus.duplicates.compiled import minima

    h = np.array([(multiple * MERSENNE_61 + beside) % 2**64], dtype=np.uint64)
    one, zero = np.array([1], dtype=np.uint64), np.array([0], dtype=np.uint64)
    assert minima(h, one, zero) == minima_in_numpy(h, one, zero) == int(h[0]) % MERSENNE_61


def test_two_texts_are_found_as_often_as_their_jaccard_says():
    """Sets that share 80 of their 100 elements. A probability of 0.924 in 3,000 trials errs by 0.005 (1 σ)."""
    chance = np.random.default_rng(7)
    trials, found, rows = 3000, 0, 0
    for _ in range(trials):
        union = chance.integers(0, 2**64, size=100, dtype=np.uint64)
        agree = MINHASH.signature(union[:90]) == MINHASH.signature(union[10:])
        found += agree.all(axis=1).any()
        rows += agree.mean()
    assert MINHASH.detection(0.8) == pytest.approx(0.924, abs=5e-4)
    assert found / trials == pytest.approx(MINHASH.detection(0.8), abs=0.015)
    assert rows / trials == pytest.approx(0.8, abs=0.005)


def test_schemes_say_what_they_are():
    assert MINHASH.scheme != MinHash(seed=2).scheme
    assert MINHASH.parameters()[0].tolist() != MinHash(seed=2).parameters()[0].tolist()
    for wrong in ({"n_grams": 0}, {"buckets": 0}, {"rows": 0}, {"seed": -1}, {"seed": 1 << 32}):
        with pytest.raises(UsageError, match="scheme"):
            MinHash(**wrong)
