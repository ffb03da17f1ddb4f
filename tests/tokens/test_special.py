import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpe_setup import PIECES, PROSE, judge, small, small_judge
from primer.errors import UsageError
from primer.tokens import BPETokenizer, SpecialTokenError


def special_one(way="fast"):
    names = ("<|endoftext|>", "<|end|>", "<|end|><|of|>", "the")
    return BPETokenizer.train([PROSE], 420, special_tokens=names, implementation=way)


@pytest.mark.parametrize("way", ["fast", "readable"])
def test_a_special_token_in_a_text_is_refused_and_named(way):
    with pytest.raises(SpecialTokenError, match=r"'<\|end\|>' at position 6") as caught:
        special_one(way).encode("lower <|end|> than <|endoftext|>")
    assert (caught.value.token, caught.value.position, caught.value.exit_code) == ("<|end|>", 6, 4)
    assert "allow" in caught.value.hint


@pytest.mark.parametrize("way", ["fast", "readable"])
def test_a_special_token_is_taken_for_itself_where_that_is_allowed(way):
    tokenizer = special_one(way)
    assert dict(tokenizer.special_tokens) == {
        "<|endoftext|>": 416, "<|end|>": 417, "<|end|><|of|>": 418, "the": 419,
    }  # fmt: skip
    text = "low<|end|><|endoftext|><|end|><|of|>wide <|end|"
    ids = tokenizer.encode(text, special="allow").tolist()
    low, wide = (tokenizer.encode(word).tolist() for word in ("low", "wide <|end|"))
    assert ids == [*low, 417, 416, 418, *wide]  # the longest of those that begin at one place
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("way", ["fast", "readable"])
def test_a_special_token_can_be_text(way):
    tokenizer = special_one(way)
    text = "see <|endoftext|> there"
    ids = tokenizer.encode(text, special="text")
    assert ids.max() < 416
    assert ids.tolist() == judge(tokenizer).encode_ordinary(text)
    assert tokenizer.decode(ids) == text


@given(st.lists(st.sampled_from(["<|endoftext|>", "<|", "endoftext", "|>", *PIECES])).map("".join))
def test_tiktoken_finds_the_same_special_tokens(text):
    for tokenizer in (small("gpt4"), small("gpt4", "readable")):
        ids = tokenizer.encode(text, special="allow").tolist()
        assert ids == small_judge("gpt4").encode(text, allowed_special="all")
        assert tokenizer.decode(ids) == small_judge("gpt4").decode(ids) == text


def test_a_special_token_stands_for_no_text():
    tokenizer = small("gpt4")
    end = tokenizer.special_tokens["<|endoftext|>"]
    assert tokenizer.byte_lengths[end] == 0
    assert tokenizer.token_bytes(end) == b""
    assert len(tokenizer.byte_lengths) == tokenizer.vocab_size == end + 1
    assert tokenizer.decode([end, 97]) == "<|endoftext|>a"


def test_many_special_tokens_do_not_make_a_long_text_slow():
    """Each is looked for once, not once more after every token that is found (which would take hours here)."""
    names = [f"<|{number}|>" for number in range(500)]
    tokenizer = BPETokenizer([], special_tokens={name: 256 + n for n, name in enumerate(names)})
    text = "<|3|>a" * 50_000
    assert tokenizer.encode(text, special="allow").tolist() == [259, 97] * 50_000


def test_a_way_that_is_none_is_refused():
    with pytest.raises(UsageError, match="'ignore'"):
        small("gpt2").encode("a", special="ignore")
    with pytest.raises(UsageError, match="'quick'"):
        BPETokenizer([], implementation="quick")
