"""Text that streams: never half a character, never part of a stop string, whatever the tokens are."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merging import MergingTokenizer
from primer.errors import DataError, UsageError
from primer.generation.decode import generate
from primer.generation.sampling import Sampling
from primer.generation.text import Writer, stream, streams
from primer.models.config import GPTConfig
from primer.models.gpt import GPT
from primer.tokens.char import ByteTokenizer, CharTokenizer
from primer.tokens.tokenizer import END_OF_TEXT


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


WORDS = MergingTokenizer()
END = WORDS.special_tokens[END_OF_TEXT]


def leaning(token: int, by: float, vocab_size: int = WORDS.vocab_size) -> GPT:
    """A model that likes one token much better, or much less, than the others."""
    model = model_for(vocab_size)
    model.head = torch.nn.Linear(16, vocab_size)
    with torch.no_grad():
        model.head.weight.normal_(0, 0.4)
        model.head.bias.zero_()
        model.head.bias[token] = by
    return model


def test_a_text_ends_at_the_end_of_text_token_each_sample_by_itself():
    model = leaning(END, 3.5)
    prompt = torch.from_numpy(WORDS.encode("two times").astype("int64")).expand(4, -1)
    ids = torch.stack(
        list(generate(model, prompt, max_tokens=60, generator=torch.Generator().manual_seed(2))), dim=1
    ).tolist()
    assert sorted(row.index(END) for row in ids)[0] < sorted(row.index(END) for row in ids)[-1]
    options = {"samples": 4, "max_tokens": 60, "seed": 2}
    rows = list(streams(model, WORDS, "two times", **options))
    texts = ["".join(pieces) for pieces in zip(*rows, strict=True)]
    assert texts == [WORDS.decode(row[: row.index(END)]) for row in ids]
    assert len(rows) == max(row.index(END) for row in ids) + 1, "nothing is written when all have ended"
    rows = list(streams(model, WORDS, "two times", stop_at_end=False, **options))
    going_on = ["".join(pieces) for pieces in zip(*rows, strict=True)]
    assert going_on == [WORDS.decode([token for token in row if token != END]) for row in ids]
    assert not any("<|" in text for text in texts + going_on)


def test_what_waits_is_written_when_the_text_ends():
    """Half a stop string and half a character, before the end-of-text token."""
    tokens = iter([*WORDS.encode("aE").tolist(), 0xE2, END, 97])
    model = model_for(WORDS.vocab_size)

    def next_token(logits, *rest, **named):
        return torch.tensor([next(tokens)])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("primer.generation.decode.choose", next_token)
        pieces = list(stream(model, WORDS, "two", max_tokens=9, stop=["END"]))
    assert "".join(pieces) == "aE\ufffd"
    assert next(tokens) == 97, "and then no more is asked for"


def test_an_empty_prompt_begins_with_the_end_of_text_token():
    model = leaning(0, 0.0)
    allowed = WORDS.encode(END_OF_TEXT, "allow")
    assert allowed.tolist() == [END]
    prompt = torch.tensor([[END]])
    ids = generate(model, prompt, max_tokens=30, generator=torch.Generator().manual_seed(3))
    expected = WORDS.decode(itertools.takewhile(lambda i: i != END, (int(i) for i in ids)))
    assert "".join(stream(model, WORDS, "", max_tokens=30, seed=3)) == expected


def test_a_person_cannot_spell_a_special_token():
    with pytest.raises(DataError, match="special token"):
        list(stream(model_for(WORDS.vocab_size), WORDS, f"a{END_OF_TEXT}b", max_tokens=1))


@pytest.mark.parametrize("temperature", [0.0, 1.3])
def test_ids_of_a_padded_vocabulary_are_never_drawn_and_change_no_draw(temperature):
    """As if the model had no padding, seed for seed, though it thinks that padding is what comes next."""
    padded, plain = leaning(3, 1.0, 320), leaning(3, 1.0)
    with torch.no_grad():
        padded.head.bias[WORDS.vocab_size :] = 50.0
        for name, rows in (("token_embedding", 16), ("head", 16)):
            own = getattr(padded, name).weight
            own[: WORDS.vocab_size] = getattr(plain, name).weight
            assert own.shape[1] == rows
        own_layers = dict(padded.named_parameters())
        for name, value in plain.named_parameters():
            if own_layers[name].shape == value.shape:
                own_layers[name].copy_(value)
    sampling = Sampling(temperature=temperature, top_p=0.95, repetition_penalty=1.1)
    wanted = {"max_tokens": 200, "sampling": sampling, "seed": 5, "stop_at_end": False}
    assert "".join(stream(padded, WORDS, "two", **wanted)) == "".join(stream(plain, WORDS, "two", **wanted))
    prompt = torch.tensor([[WORDS.vocab_size]])
    with pytest.raises(UsageError, match=r"the prompt has id 272 at position 0, .* ends at 271"):
        next(generate(padded, prompt, max_tokens=1, vocabulary=WORDS.vocab_size))
