import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bpe_setup import PROSE, bytes_of, judge
from primer.errors import DataError
from primer.tokens import BPETokenizer
from primer.tokens.pairs import encode
from primer.tokens.vocabulary import pairs_of


@st.composite
def merge_lists(draw):
    """Lists of merges that nobody learned: any two tokens, in any order."""
    merges = []
    for new in range(256, 256 + draw(st.integers(1, 9))):
        ids = st.sampled_from([97, 98, 99, *range(256, new)])
        merges.append((draw(ids), draw(ids)))
    return merges


@settings(max_examples=400)
@given(merge_lists(), st.text("abc", max_size=40))
@example([(97, 98), (98, 99), (97, 257)], "abc")  # the third can never happen: ab comes first
@example([(97, 97), (97, 256)], "aaa")  # nor can a + aa: aa + a comes first
@example([(97, 97), (256, 97), (256, 256)], "aaaaaaa")
def test_a_vocabulary_is_accepted_where_all_ways_to_encode_agree(merges, text):
    known = bytes_of(merges)
    ranks = {pair: 256 + n for n, pair in enumerate(merges)}
    unreachable = [n for n in range(256, len(known)) if encode(known[n], ranks) != [n]]
    if unreachable or len(set(known)) < len(known):
        with pytest.raises(DataError) as caught:
            BPETokenizer(merges, pattern="gpt2")
        assert (
            "are the same bytes" in caught.value.cause or f"token {unreachable[0]} can" in caught.value.cause
        )
        return
    tokenizer = BPETokenizer(merges, pattern="gpt2", implementation="readable")
    mine = tokenizer.encode(text).tolist()
    assert mine == judge(tokenizer).encode_ordinary(text)
    letters = {token.decode("latin-1"): n for n, token in enumerate(known)}
    pairs = [(known[left].decode("latin-1"), known[right].decode("latin-1")) for left, right in merges]
    assert mine == [token.id for token in tokenizers.models.BPE(letters, pairs).tokenize(text)]


def test_the_merges_are_found_again_from_the_bytes():
    tokenizer = BPETokenizer.train([PROSE], 420)
    assert tuple(pairs_of(tokenizer.tokens)) == tokenizer.merges
    with pytest.raises(DataError, match="no merge of two"):
        pairs_of([*tokenizer.tokens[:256], b"ab", b"zzz"])
