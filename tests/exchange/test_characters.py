"""Character and byte tokenizers in Hugging Face's files: the `tokenizers` library and transformers judge the ids."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer
from transformers.models.gpt2.tokenization_gpt2 import GPT2Tokenizer

from primer.exchange.characters import from_tokenizer_json, tokenizer_json
from primer.exchange.tokenizer_files import read_tokenizer, write_tokenizer
from primer.tokens.char import ByteTokenizer, CharTokenizer

CI = settings(settings.get_profile("ci"), max_examples=200)
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
CHARACTERS = "\n\r\t \x00'\"\\aé\u0301\u2028\ufeff🦊"


def library(tokenizer: CharTokenizer | ByteTokenizer) -> Tokenizer:
    return Tokenizer.from_str(json.dumps(tokenizer_json(tokenizer)))


@CI
@given(text=TEXTS)
def test_characters_have_the_same_ids_and_texts_there(text: str) -> None:
    ours = CharTokenizer.train([text])
    other = library(ours)
    ids = ours.encode(text).tolist()
    assert other.encode(text).ids == ids
    assert other.decode(ids) == text
    assert other.get_vocab_size() == ours.vocab_size


@CI
@given(text=TEXTS)
def test_bytes_have_the_same_ids_and_texts_there(text: str) -> None:
    ours, other = ByteTokenizer(), library(ByteTokenizer())
    assert other.encode(text).ids == ours.encode(text).tolist() == list(text.encode())
    assert other.decode(ours.encode(text).tolist()) == text


def test_a_character_that_was_never_seen_is_an_error_there_as_well() -> None:
    other = library(CharTokenizer("ab"))
    with pytest.raises(Exception, match="UNK"):
        other.encode("abc")


@pytest.mark.parametrize("tokenizer", [CharTokenizer(CHARACTERS), ByteTokenizer()], ids=["char", "byte"])
def test_transformers_reads_the_files_and_we_read_what_it_writes(
    tokenizer: CharTokenizer | ByteTokenizer, tmp_path: Path
) -> None:
    (tmp_path / "ours").mkdir()
    write_tokenizer(tokenizer, tmp_path / "ours", 64)
    (tmp_path / "ours" / "config.json").write_text('{"model_type": "gpt2"}')
    other = AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert not isinstance(other, GPT2Tokenizer)
    ids = tokenizer.encode(CHARACTERS).tolist()
    assert other(CHARACTERS)["input_ids"] == ids
    assert other.decode(ids) == CHARACTERS
    assert (other.model_max_length, len(other)) == (64, tokenizer.vocab_size)
    other.save_pretrained(tmp_path / "theirs")
    for folder in ("ours", "theirs"):
        assert read_tokenizer(tmp_path / folder).fingerprint == tokenizer.fingerprint


def test_what_the_library_makes_itself_is_recognised() -> None:
    made = Tokenizer(models.WordLevel({c: n for n, c in enumerate("ba c")}, unk_token=""))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    made.decoder = decoders.Fuse()
    found = from_tokenizer_json(json.loads(made.to_str()))
    assert isinstance(found, CharTokenizer)
    assert found.characters == "ba c"


def changed(path: str, value: Any) -> dict[str, Any]:
    """The values for "abc" with one of them changed, at a dotted path."""
    values = tokenizer_json(CharTokenizer("abc"))
    *tables, leaf = path.split(".")
    place = values
    for table in tables:
        place = place[table]
    place[leaf] = value
    return values


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"model": 3},
        {"model": {"vocab": ["a"]}},
        changed("model.vocab", {"a": 0, "b": 2, "c": 3}),
        changed("model.vocab", {"a": 0, "bc": 1}),
        changed("model.vocab", {"a": 0, "b": 0}),
        changed("model.vocab", {"a": "0"}),
        changed("model.vocab", {"a": [0]}),
        changed("model.vocab", {}),
        changed("model.unk_token", "a"),
        changed("model.type", "BPE"),
        changed("normalizer", {"type": "Lowercase"}),
        changed("pre_tokenizer", None),
        changed("added_tokens", [{"id": 3, "content": "<x>"}]),
    ],
)
def test_what_would_give_other_ids_is_none_of_these(values: dict[str, Any]) -> None:
    assert from_tokenizer_json(values) is None
