import itertools
import json
import logging
import random
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bpe_setup import PIECES, PROSE, small, small_judge, texts
from primer import tokens
from primer.assets import seal
from primer.errors import DataError, SurroundingsError, UsageError
from primer.tokens import BPETokenizer, SpecialTokenError, UnknownCharacterError, bpe
from primer.tokens import blocks as blocks_module
from primer.tokens.blocks import blocks
from primer.tokens.patterns import PATTERNS


@given(texts(), st.sampled_from(list(PATTERNS)))
def test_fast_encoding_is_that_of_tiktoken_with_the_published_pattern(text, pattern):
    tokenizer = small(pattern)
    assert tokenizer.encode(text).tolist() == small_judge(pattern).encode_ordinary(text)


@given(texts(newest=False), st.sampled_from(list(PATTERNS)))
def test_readable_encoding_is_that_of_tiktoken(text, pattern):
    ids = small(pattern, "readable").encode(text)
    assert ids.tolist() == small_judge(pattern).encode_ordinary(text)
    assert ids.dtype == small(pattern, "readable").dtype == np.uint16


@pytest.mark.parametrize("way", ["fast", "readable"])
@pytest.mark.parametrize("unit", ["a", " ", "\n", "=", "0", "acgtca", "한", "🏳️‍🌈"])
def test_a_stretch_without_end_is_encoded_and_comes_back(way, unit):
    text = "before " + unit * (300_000 // len(unit)) + " after"
    tokenizer = small("gpt2", way)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    cut = [small_judge("gpt2").encode_ordinary(text[a:b]) for a, b in blocks(text, 0, len(text))]
    assert ids.tolist() == list(itertools.chain.from_iterable(cut))


@pytest.mark.parametrize("unit", [" ", "\n", "a"])
@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_two_million_of_one_character_are_no_reason_to_stop(pattern, unit):
    """tiktoken alone gives up on a million spaces, which are too many for its pattern's stack."""
    text = unit * 2_000_000
    (ids,) = small(pattern).encode_batch([text])
    assert small(pattern).decode(ids) == text


@pytest.mark.parametrize("way", ["fast", "readable"])
def test_half_a_surrogate_pair_is_unknown_and_its_place_is_named(way):
    tokenizer = small("gpt4", way)
    text = "low lower <|endoftext|>" * 10_000
    with pytest.raises(UnknownCharacterError, match=r"U\+D800") as caught:
        tokenizer.encode(text + "ab\ud800\ud801", special="allow")
    assert caught.value.position == len(text) + 2


@given(st.binary(max_size=300))
@example(b"\xff" * 3000)
@example("low lower \N{SNOWMAN} newest".encode() + b"\xe2\x98" + b"the" + b"\xed\xa0\x80")
def test_any_bytes_come_back(data):
    fast, readable = small("gpt2"), small("gpt2", "readable")
    ids = fast.encode_bytes(data)
    assert fast.decode_bytes(ids) == data
    assert ids.tolist() == readable.encode_bytes(data).tolist()
    assert ids.dtype == fast.dtype
    assert fast.byte_lengths[ids].sum() == len(data)


@given(texts(newest=False))
def test_bytes_that_are_text_are_encoded_as_the_text(text):
    tokenizer = small("gpt4")
    assert tokenizer.encode_bytes(text.encode()).tolist() == tokenizer.encode(text, special="text").tolist()


def test_bytes_that_are_no_text_are_merged_too():
    tokenizer = BPETokenizer([(0xFF, 0xFE)], pattern="gpt2")
    assert tokenizer.encode_bytes(b"a\xff\xfe\xfeb").tolist() == [97, 256, 0xFE, 98]
    assert tokenizer.decode([256]) == "\N{REPLACEMENT CHARACTER}" * 2


@given(texts())
def test_text_comes_back_from_its_ids(text):
    tokenizer = small("gpt4")
    ids = tokenizer.encode(text, special="text")
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids.tolist()) == text
    assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()
    assert tokenizer.byte_lengths[ids].sum() == len(text.encode())


@given(st.lists(texts(), max_size=6), st.integers(0, 3))
@pytest.mark.parametrize("way", ["fast", "readable"])
def test_a_batch_is_its_texts(way, batch, threads):
    tokenizer = small("gpt4", way)
    together = tokenizer.encode_batch(batch, threads=threads, special="text")
    alone = [tokenizer.encode(text, special="text") for text in batch]
    assert [ids.tolist() for ids in together] == [ids.tolist() for ids in alone]
    assert all(ids.dtype == tokenizer.dtype for ids in together)


@pytest.mark.parametrize("way", ["readable", "fast"])
@given(batch=st.lists(texts(), max_size=5), spelled=st.booleans(), long=st.booleans())
@settings(deadline=None, max_examples=40)
def test_documents_are_their_texts_behind_a_mark(way, batch, spelled, long):
    """Also where one spells the mark, is empty, or is longer than what is encoded at once."""
    tokenizer = small(way=way)
    batch = [
        *batch,
        *(["a <|endoftext|> b", "<|endoftext|>"] if spelled else []),
        *(["word " * 14000] if long else []),
    ]
    mark = tokenizer.special_tokens["<|endoftext|>"]
    expected = [token for text in batch for token in (mark, *tokenizer.encode(text, special="text").tolist())]
    found = tokenizer.encode_documents(batch)
    assert found.tolist() == expected
    assert found.dtype == tokenizer.dtype


def test_a_large_batch_is_its_texts(monkeypatch):
    chance = random.Random(1)
    batch = [" ".join(chance.choices(PIECES, k=chance.choice([0, 1, 50, 5000]))) for _ in range(60)]
    monkeypatch.setattr(blocks_module, "BLOCK", 1000)
    tokenizer = small("gpt2")
    for ids, text in zip(tokenizer.encode_batch(batch, special="text"), batch, strict=True):
        assert ids.tolist() == tokenizer.encode(text, special="text").tolist()
    with pytest.raises(SpecialTokenError):
        tokenizer.encode_batch([*batch, "<|endoftext|>"])


@pytest.mark.parametrize("wrong", [-1, 520, 2**40])
def test_an_id_outside_the_vocabulary_is_refused(wrong):
    for read in (small("gpt2").decode, small("gpt2").decode_bytes):
        with pytest.raises(DataError, match=str(wrong)):
            read([0, wrong])
    with pytest.raises(DataError, match=str(wrong)):
        small("gpt2").token_bytes(wrong)


def test_a_tokenizer_comes_back_from_its_json():
    for tokenizer in (small("gpt2"), small("gpt4"), BPETokenizer([(1, 2)], order=bytes(range(255, -1, -1)))):
        again = tokens.from_json(tokenizer.to_json())
        assert again.to_json() == tokenizer.to_json()
        assert again.fingerprint == tokenizer.fingerprint
        assert again.merges == tokenizer.merges
        assert (again.pattern, again.order) == (tokenizer.pattern, tokenizer.order)
        assert list(again.special_tokens.items()) == list(tokenizer.special_tokens.items())
        assert again.encode(PROSE[:200], "text").tolist() == tokenizer.encode(PROSE[:200], "text").tolist()
        assert tokenizer.to_json().isascii()


def test_what_differs_has_another_fingerprint():
    one = BPETokenizer([(97, 98), (99, 100)])
    others = [
        BPETokenizer([(99, 100), (97, 98)]),
        BPETokenizer([(97, 98), (99, 100)], pattern="gpt2"),
        BPETokenizer([(97, 98), (99, 100)], special_tokens={"<a>": 258}),
        BPETokenizer([(97, 98), (99, 100)], order=bytes(range(255, -1, -1))),
    ]
    assert len({each.fingerprint for each in (one, *others)}) == 5
    assert BPETokenizer([(97, 98), (99, 100)], implementation="readable").fingerprint == one.fingerprint


GOOD = {
    "kind": "bpe",
    "version": 1,
    "pattern": "gpt2",
    "bytes": bytes(range(256)).hex(),
    "merges": [[97, 98], [256, 99]],
    "special_tokens": {"<|endoftext|>": 258},
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pattern": "gpt5"}, "no pattern 'gpt5'"),
        ({"pattern": ["gpt2"]}, "no pattern"),
        ({"bytes": bytes(range(255)).hex()}, "512 hexadecimal digits"),
        ({"bytes": bytes([0, *range(255)]).hex()}, "each of them once"),
        ({"bytes": 3}, "512 hexadecimal"),
        ({"merges": [[97, 98], [257, 99]]}, "merge 1 makes the token 257 of 257 and 99"),
        ({"merges": [[97, -1]]}, "not both are there yet"),
        ({"merges": [[97, 98], [97, 98]]}, "the same bytes, b'ab'"),
        ({"merges": [[97, 98], [98, 99], [256, 99], [97, 257]]}, "the same bytes, b'abc'"),
        ({"merges": [[97, 98], [98, 99], [97, 257]]}, "token 258 can never occur"),
        ({"merges": [[97, 98, 99]]}, "must be pairs"),
        ({"merges": [[97, True]]}, "must be pairs"),
        ({"merges": [[97.0, 98]]}, "must be pairs"),
        ({"merges": "ab"}, "must be pairs"),
        ({"merges": [[97, 97], *([number, number] for number in range(256, 300))]}, "tokens too large"),
        ({"special_tokens": {"<a>": 257}}, "must be 258 to 258"),
        ({"special_tokens": {"<a>": 259}}, "must be 258 to 258"),
        ({"special_tokens": {"<a>": 258, "<b>": 258}}, "must be 258 to 259"),
        ({"special_tokens": {"": 258}}, "needs a name"),
        ({"special_tokens": {"\ud800": 258}}, "half a surrogate pair"),
        ({"special_tokens": {"<a>": "258"}}, "names with ids"),
        ({"special_tokens": ["<a>"]}, "names with ids"),
        ({"version": 2}, "version 2"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_vocabulary_is_refused_and_named(changes, said):
    assert tokens.from_json(seal(GOOD)).vocab_size == 259
    with pytest.raises(DataError, match=said) as caught:
        tokens.from_json(seal({**GOOD, **changes}), where="run/tokenizer.json")
    assert caught.value.where == "run/tokenizer.json"


def test_a_file_without_a_part_is_refused():
    for key in ("pattern", "bytes", "merges", "special_tokens"):
        with pytest.raises(DataError):
            tokens.from_json(seal({name: value for name, value in GOOD.items() if name != key}))


def test_a_tokenizer_is_opened_from_its_file(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(small("gpt4").to_json(), encoding="utf-8")
    assert tokens.open_tokenizer(file).fingerprint == small("gpt4").fingerprint
    with pytest.raises(UsageError) as caught:
        tokens.open_tokenizer("gtp2")
    assert all(name in caught.value.hint for name in ("byte", "gpt2", "primer tokenizer train"))
    file.write_text(json.dumps(GOOD), encoding="utf-8")
    with pytest.raises(DataError, match="checksum"):
        tokens.open_tokenizer(file)


@pytest.fixture
def bare(monkeypatch):
    """As if neither library were installed."""
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    monkeypatch.setitem(sys.modules, "rustbpe", None)
    bpe._say_once.cache_clear()


def test_without_the_libraries_everything_works_the_same(bare, caplog):
    mine = BPETokenizer.train([PROSE], 520, pattern="gpt2")
    assert mine.merges == small("gpt2").merges
    assert mine.encode(PROSE).tolist() == small("gpt2").encode(PROSE).tolist()
    assert mine.encode_batch([PROSE])[0].tolist() == mine.encode(PROSE).tolist()
    assert not caplog.records  # nothing large


def test_with_much_to_do_it_is_said_once_that_this_is_the_slow_way(bare, caplog, monkeypatch):
    monkeypatch.setattr(bpe, "LARGE", 10)
    monkeypatch.setattr(bpe, "MANY", 10)
    for _ in range(2):
        BPETokenizer.train([PROSE], 300).encode("lower and lower")
    with caplog.at_level(logging.WARNING, logger="primer"):
        said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "rustbpe" in said[0]
    assert "tiktoken" in said[1]
    caplog.clear()
    BPETokenizer.train([PROSE], 300, implementation="readable").encode("lower and lower")
    assert not caplog.records  # whoever chose it knows


def test_who_asks_for_the_libraries_is_told_that_they_are_missing(bare):
    with pytest.raises(SurroundingsError, match="tiktoken is not installed") as caught:
        BPETokenizer([], implementation="fast").encode("a")
    assert "gpt-primer[fast]" in caught.value.hint
    with pytest.raises(SurroundingsError, match="rustbpe is not installed"):
        BPETokenizer.train([PROSE], 300, implementation="fast")
