"""Text that streams: never half a character, never part of a stop string, whatever the tokens are."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from primer.errors import DataError, UsageError
from primer.generation.text import Writer, stream, streams
from primer.models.config import GPTConfig
from primer.models.gpt import GPT
from primer.tokens.char import ByteTokenizer, CharTokenizer


def spoken(pieces: list[bytes], stop: list[str]) -> list[str]:
    """What a writer says to each of these tokens, and at the end."""
    writer = Writer(pieces.__getitem__, stop)
    return [*(writer.push(token) for token in range(len(pieces))), writer.finish()]


def until_stop(text: str, stop: list[str]) -> str:
    """By definition: the first prefix that ends in a stop string, without the longest one that it ends
    in.
    """
    for end in range(len(text) + 1):
        if ends := [s for s in stop if text[:end].endswith(s)]:
            return text[: end - max(map(len, ends))]
    return text


@settings(deadline=None)
@given(
    text=st.text(alphabet="ab\nαß€😀", max_size=30),
    cuts=st.lists(st.integers(0, 120), max_size=30),
    stop=st.lists(st.text(alphabet="ab\nα€", min_size=1, max_size=5), max_size=4),
)
def test_what_is_written_does_not_depend_on_the_cuts(text, cuts, stop):
    raw = text.encode()
    edges = sorted({0, len(raw), *(c for c in cuts if c < len(raw))})
    pieces = [raw[a:b] for a, b in itertools.pairwise(edges)]
    expected = until_stop(text, stop)
    written = spoken(pieces, stop)
    assert "".join(written) == expected
    for n in range(len(written)):  # nothing is ever taken back, and no half character is shown
        assert expected.startswith("".join(written[:n]))
        assert "�" not in "".join(written[:n])


def test_text_is_held_only_while_it_could_become_a_stop_string():
    assert spoken([b"a", b"x", b"EN", b"X", b"E", b"ND", b"y"], ["END"]) == [
        "a",
        "x",
        "",
        "ENX",
        "",
        "",
        "",
        "",
    ]
    assert spoken([b"a", b"EN"], ["END"]) == ["a", "", "EN"]


def test_of_stop_strings_that_are_complete_at_once_the_longest_counts():
    assert "".join(spoken([b"x", b"a", b"b"], ["b", "ab"])) == "x"
    assert "".join(spoken([b"xab"], ["ab", "b"])) == "x"


def test_half_a_character_waits_and_a_broken_one_is_replaced():
    euro = "€".encode()
    assert spoken([euro[:1], euro[1:2], euro[2:]], []) == ["", "", "€", ""]
    assert spoken([euro[:2], b"a"], []) == ["", "�a", ""]
    assert spoken([b"a", euro[:2]], []) == ["a", "", "�"]


def test_an_empty_stop_string_is_refused():
    with pytest.raises(UsageError):
        spoken([b"a"], [""])


TEXT = "to be, or not to be: ß€\n"
CHARS = CharTokenizer.train([TEXT])


def model_for(vocab_size: int) -> GPT:
    torch.manual_seed(0)
    return GPT(
        GPTConfig(vocab_size=vocab_size, context_length=16, d_model=16, n_layers=1, n_heads=2, init_std=0.4)
    )


def test_streaming_is_the_same_text_as_decoding_at_once():
    from primer.generation.decode import generate

    model = model_for(CHARS.vocab_size)
    prompt = torch.from_numpy(CHARS.encode("to be").astype("int64"))[None]
    ids = generate(model, prompt, max_tokens=60, generator=torch.Generator().manual_seed(3))
    expected = CHARS.decode([int(i) for i in ids])
    assert "".join(stream(model, CHARS, "to be", max_tokens=60, seed=3)) == expected
    assert "".join(stream(model, CHARS, "to be", max_tokens=60, seed=4)) != expected


def test_stop_strings_end_the_stream():
    model = model_for(CHARS.vocab_size)
    free = "".join(stream(model, CHARS, "to", max_tokens=80, seed=1))
    stop = free[40:42]
    stopped = "".join(stream(model, CHARS, "to", max_tokens=80, seed=1, stop=[stop]))
    assert stopped == free[: free.index(stop)]


def test_several_samples_in_one_batch_stop_each_by_itself():
    model = model_for(CHARS.vocab_size)

    def texts(**options: object) -> list[str]:
        rows = list(streams(model, CHARS, "to", samples=3, max_tokens=80, seed=2, **options))
        return ["".join(pieces) for pieces in zip(*rows, strict=True)]

    free = texts()
    assert len(set(free)) == 3
    stop = free[1][:3]
    assert texts(stop=[stop]) == [until_stop(text, [stop]) for text in free]


def test_bytes_never_show_half_a_character():
    tokenizer = ByteTokenizer()
    pieces = list(stream(model_for(256), tokenizer, "é", max_tokens=200, seed=5))
    assert "".join(pieces) == "".join(pieces).encode().decode()
    assert len(pieces) < 200


def test_bad_prompts():
    model = model_for(CHARS.vocab_size)
    with pytest.raises(UsageError, match="no tokens"):
        list(stream(model, CHARS, "", max_tokens=1))
    with pytest.raises(DataError, match="Ω"):
        list(stream(model, CHARS, "Ω", max_tokens=1))
    with pytest.raises(UsageError):
        list(streams(model, CHARS, "to", samples=0, max_tokens=1))
