import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer import tokens
from primer.errors import DataError
from primer.tokens import ByteTokenizer, CharTokenizer, UnknownCharacterError
from primer.tokens.char import alphabet

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(texts)
def test_the_vocabulary_and_the_ids_are_those_of_the_lecture(text):
    letters = sorted(set(text))
    place = {letter: number for number, letter in enumerate(letters)}
    tokenizer = CharTokenizer.train([text])
    assert tokenizer.characters == "".join(letters)
    assert tokenizer.encode(text).tolist() == [place[letter] for letter in text]


@given(texts)
@pytest.mark.parametrize("kind", ["char", "byte"])
def test_text_comes_back_from_its_ids(kind, text):
    tokenizer = CharTokenizer.train([text]) if kind == "char" else ByteTokenizer()
    ids = tokenizer.encode(text)
    assert ids.dtype == tokenizer.dtype
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids.tolist()) == text
    assert b"".join(tokenizer.token_bytes(i) for i in ids) == text.encode()


@given(texts)
def test_byte_lengths_are_those_of_utf_8(text):
    tokenizer = CharTokenizer.train([text])
    assert tokenizer.byte_lengths.tolist() == [len(letter.encode()) for letter in tokenizer.characters]
    assert tokenizer.byte_lengths[tokenizer.encode(text)].sum() == len(text.encode())
    assert ByteTokenizer().byte_lengths[ByteTokenizer().encode(text)].sum() == len(text.encode())


@given(texts)
def test_a_tokenizer_comes_back_from_its_json(text):
    for tokenizer in (CharTokenizer.train([text]), ByteTokenizer()):
        again = tokens.from_json(tokenizer.to_json())
        assert again.to_json() == tokenizer.to_json()
        assert again.fingerprint == tokenizer.fingerprint
        assert again.encode(text).tolist() == tokenizer.encode(text).tolist()
        assert tokenizer.to_json().isascii()  # it survives every locale


@given(st.lists(texts))
def test_pieces_teach_the_same_alphabet_as_the_whole(pieces):
    assert alphabet(pieces) == set("".join(pieces))


@given(texts, st.characters(exclude_categories=["Cs"]))
def test_an_unknown_character_is_named_with_its_place(text, stranger):
    tokenizer = CharTokenizer.train([text.replace(stranger, "") + ("b" if stranger == "a" else "a")])
    broken = text.replace(stranger, "") + stranger + text
    with pytest.raises(UnknownCharacterError) as caught:
        tokenizer.encode(broken)
    assert caught.value.position == broken.index(stranger)
    assert repr(stranger) in caught.value.cause
    assert f"U+{ord(stranger):04X}" in caught.value.cause
    assert caught.value.hint == "--data.unknown=skip"
    assert caught.value.exit_code == 4


@given(texts, texts)
def test_skipping_drops_exactly_what_is_unknown(known, text):
    tokenizer = CharTokenizer("".join(sorted(set(known))), unknown="skip")
    kept = [letter for letter in text if letter in known]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == "".join(kept)
    assert len(text) - len(ids) == sum(letter not in known for letter in text)


def test_the_habit_with_strangers_is_no_part_of_the_vocabulary():
    assert CharTokenizer("ab", "skip").fingerprint == CharTokenizer("ab", "error").fingerprint
    assert CharTokenizer("ab").fingerprint != CharTokenizer("ba").fingerprint


@pytest.mark.parametrize(
    ("size", "dtype"), [(1, "uint8"), (256, "uint8"), (257, "uint16"), (65536, "uint16"), (65537, "uint32")]
)
def test_ids_take_the_smallest_type_that_holds_the_vocabulary(size, dtype):
    points = [p for p in range(0x20000) if not 0xD800 <= p < 0xE000][:size]
    tokenizer = CharTokenizer("".join(map(chr, points)))
    everything = tokenizer.decode(range(size))
    ids = tokenizer.encode(everything)
    assert ids.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(ids, np.arange(size))
    with pytest.raises(UnknownCharacterError):
        tokenizer.encode(chr(0x10FFFF))


def test_a_long_text_is_encoded_as_a_whole_across_blocks():
    text = "abcdé" * 50_000 + "\N{PILE OF POO}"
    tokenizer = CharTokenizer.train([text])
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode("").tolist() == []


@pytest.mark.parametrize("characters", ["", "aa", "a\ud800", "\udfff"])
def test_what_is_no_vocabulary_is_refused(characters):
    with pytest.raises(DataError):
        CharTokenizer(characters)


def test_half_a_surrogate_pair_is_unknown_to_both():
    for tokenizer in (CharTokenizer("ab"), ByteTokenizer()):
        with pytest.raises(UnknownCharacterError, match=r"U\+D800") as caught:
            tokenizer.encode("ab\ud800")
        assert caught.value.position == 2


@pytest.mark.parametrize("tokenizer", [CharTokenizer("abc"), ByteTokenizer()])
@pytest.mark.parametrize("wrong", [-1, 256, 2**40])
def test_an_id_outside_the_vocabulary_is_refused(tokenizer, wrong):
    with pytest.raises(DataError, match=str(wrong)):
        tokenizer.decode([0, wrong])
    with pytest.raises(DataError, match=str(wrong)):
        tokenizer.token_bytes(wrong)


def test_bytes_that_are_no_text_are_shown_as_such():
    assert ByteTokenizer().decode([0x61, 0xFF, 0x62]) == "a\N{REPLACEMENT CHARACTER}b"


@given(st.data())
def test_every_flipped_bit_in_a_tokenizer_is_refused_and_its_file_named(data):
    whole = CharTokenizer("\n abcé").to_json().encode()
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    broken = bytearray(whole)
    broken[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DataError) as caught:
        tokens.from_json(broken.decode("latin-1"), where="run/tokenizer.json")
    assert caught.value.where == "run/tokenizer.json"


def test_a_tokenizer_from_the_future_is_named():
    from primer.assets import seal

    for fields in (
        {"kind": "char", "version": 2, "characters": "ab"},
        {"kind": "morse", "version": 1},
        {"kind": 3},
    ):
        with pytest.raises(DataError, match=repr(fields["kind"])):
            tokens.from_json(seal(fields))
    with pytest.raises(DataError):
        tokens.from_json(seal({"kind": "char", "version": 1, "characters": "aa"}))


@pytest.mark.skipif("PRIMER_DATA" not in os.environ, reason="PRIMER_DATA names no folder of real data")
def test_shakespeare_has_the_lectures_sixty_five_characters():
    text = Path(os.environ["PRIMER_DATA"], "shakespeare/input.txt").read_text(encoding="utf-8")
    tokenizer = CharTokenizer.train([text])
    assert tokenizer.vocab_size == 65
    assert tokenizer.encode("hii there").tolist() == [
        46,
        47,
        47,
        1,
        58,
        46,
        43,
        56,
        43,
    ]  # as the lecture prints
