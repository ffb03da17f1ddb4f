from hashlib import blake2b

from hypothesis import given
from hypothesis import strategies as st

from primer.corpus.duplicates.exact import labels, signatures


def test_a_signature_is_the_hash_of_the_text():
    texts = ["", "naïve", "a\ud800"]
    digests = [blake2b(t.encode("utf-8", "surrogatepass"), digest_size=16).digest() for t in texts]
    assert signatures(texts).shape == (3, 1, 2)
    assert [signature.astype(">u8").tobytes() for signature in signatures(texts)] == digests
    assert signatures([]).shape == (0, 1, 2)


@given(st.lists(st.text(alphabet="ab ", max_size=2)))
def test_each_copy_is_called_by_the_first(texts):
    assert labels(texts).tolist() == [texts.index(text) for text in texts]
