from collections import Counter

import pytest
import rustbpe
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken import _educational

from bpe_setup import bytes_of, texts
from primer.errors import DataError, UsageError
from primer.tokens import BPETokenizer, UnknownCharacterError
from primer.tokens.gpt2 import spelling
from primer.tokens.pairs import commonest, count_chunks, count_pairs, encode, merge, train, train_chunks
from primer.tokens.patterns import PATTERNS, splitter

both_patterns = pytest.mark.parametrize("pattern", list(PATTERNS))


def test_the_commonest_pair_and_of_equal_ones_the_smaller():
    assert count_pairs(b"abab") == Counter({(97, 98): 2, (98, 97): 1})
    assert commonest({(3, 1): 2, (1, 9): 2, (1, 2): 2, (0, 0): 1}) == (1, 2)


def test_merging_goes_from_the_left():
    assert merge([1, 1, 1, 1, 1], (1, 1), 7) == [7, 7, 1]
    assert merge([1, 2, 1, 2, 3, 1], (1, 2), 7) == [7, 7, 3, 1]
    assert merge([], (1, 2), 7) == []


def test_gages_example():
    """aaabdaaabac → XdXac with X = ZYb… : Z = aa, Y = ab (Gage 1994, as Wikipedia's article on BPE retells it)."""
    merges = train(b"aaabdaaabac", 3)
    assert merges[0] == (97, 97)
    assert encode(b"aaabdaaabac", {pair: 256 + n for n, pair in enumerate(merges)}) == [258, 100, 258, 97, 99]


@given(st.lists(st.integers(0, 3), max_size=60).map(bytes), st.integers(0, 30))
def test_learning_from_one_chunk_is_learning_from_a_list(data, count):
    assert train_chunks({data: 1}, count) == train(data, count)


@given(st.text("abc ", min_size=1, max_size=200), st.integers(0, 40))
def test_tiktokens_own_readable_encoder_agrees(text, count):
    merges = train(text.encode(), count)
    ranks = {token: place for place, token in enumerate(bytes_of(merges))}
    mine = encode(text.encode(), {pair: 256 + n for n, pair in enumerate(merges)})
    assert mine == _educational.bpe_encode(ranks, text.encode(), visualise=None)


def hf_tokens(found, size, pattern):
    """The bytes of the tokens that the `tokenizers` library learns, in its order."""
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(PATTERNS[pattern]), "isolated")
    whole = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    learner = tokenizers.Tokenizer(tokenizers.models.BPE())
    learner.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([split, whole])
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(found, trainer)
    byte = {character: byte for byte, character in spelling().items()}
    vocabulary = sorted(learner.get_vocab().items(), key=lambda item: item[1])
    return [bytes(byte[character] for character in token) for token, _ in vocabulary]


few_letters = st.lists(st.text("ab c1'\n", max_size=30), min_size=1, max_size=12)


@settings(max_examples=60)
@given(st.one_of(few_letters, st.lists(texts(newest=False), min_size=1, max_size=4)), st.integers(0, 60))
@both_patterns
def test_the_readable_learner_and_both_libraries_learn_the_same_in_the_same_order(pattern, found, count):
    counts = count_chunks(found, splitter(pattern))
    mine = bytes_of(train_chunks(counts, count))
    theirs = rustbpe.Tokenizer()
    theirs.train_from_iterator(iter(found), 256 + count, pattern=PATTERNS[pattern])
    assert [bytes(token) for token, _ in theirs.get_mergeable_ranks()] == mine
    # tokenizers numbers the bytes in the order of their spellings, which decides among equals.
    order = bytes(sorted(spelling(), key=lambda byte: spelling()[byte]))
    table = bytes(order.index(byte) for byte in range(256))
    merges = train_chunks({chunk.translate(table): number for chunk, number in counts.items()}, count)
    assert hf_tokens(found, 256 + count, pattern) == [token.translate(order) for token in bytes_of(merges)]


@both_patterns
def test_both_engines_learn_the_same_from_a_real_text(pattern, real_data):
    text = (real_data / "shakespeare/input.txt").read_text(encoding="utf-8")
    fast, readable = (
        BPETokenizer.train([text], 2000, pattern=pattern, implementation=way) for way in ("fast", "readable")
    )
    assert fast.merges == readable.merges
    assert fast.to_json() == readable.to_json()
    assert [*map(bytes, hf_tokens([text], 1500, pattern)[256:270])]  # it learns at all
    assert fast.vocab_size == 2000


@pytest.mark.parametrize("unit", ["a", " ", "\n", "=", "0", " \n", "acgtca"])
@both_patterns
def test_a_stretch_without_end_teaches_both_the_same(pattern, unit):
    """rustbpe alone panics on a million spaces, which are too many for its pattern's stack."""
    text = "before " + unit * (200_000 // len(unit)) + " after the fact"
    fast, readable = (
        BPETokenizer.train([text], 263, pattern=pattern, implementation=way) for way in ("fast", "readable")
    )
    assert fast.merges == readable.merges
    assert any(token in unit * 2 for token in (token.decode() for token in fast.tokens[256:]))
    longer = BPETokenizer.train(
        [unit * (2_000_000 // len(unit))], 258, pattern=pattern, implementation="fast"
    )
    assert longer.tokens[256].decode() in unit * 2


def test_what_cannot_be_learned_is_said():
    with pytest.raises(UsageError, match="256 bytes and 1 special"):
        BPETokenizer.train(["abc"], 256)
    with pytest.raises(DataError, match="vocabulary of 259, and 300 was asked") as caught:
        BPETokenizer.train(["abc"], 300, pattern="gpt2")
    assert "259" in caught.value.hint
    with pytest.raises(UsageError, match="unknown pattern"):
        BPETokenizer.train(["abc"], 300, pattern="gpt9")
    with pytest.raises(UsageError, match="twice"):
        BPETokenizer.train(["abc"], 300, special_tokens=("<a>", "<a>"))


@pytest.mark.parametrize("implementation", ["fast", "readable"])
def test_what_goes_wrong_in_a_text_reaches_the_one_who_learns(implementation):
    def broken():
        yield "fine"
        raise DataError("byte 0xff is no text")

    with pytest.raises(DataError, match="0xff"):
        BPETokenizer.train(broken(), 300, implementation=implementation)
    with pytest.raises(UnknownCharacterError) as caught:
        BPETokenizer.train(["abc", "ab\udc80c"], 300, implementation=implementation)
    assert caught.value.position == 2


def test_nothing_to_learn_is_a_vocabulary_of_bytes():
    tokenizer = BPETokenizer.train([], 256, special_tokens=())
    assert tokenizer.merges == ()
    assert tokenizer.encode("é").tolist() == [0xC3, 0xA9]
